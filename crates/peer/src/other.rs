//! The other side, whatever stands between.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::{Child, Parent, PeerError, Session};

/// The other side of a trial: a job speaks to it, and a server answers it, in the same words wherever it is. Dropping it ends
/// a child and a session.
pub enum Other {
    /// A process that this one started.
    Child(Child),
    /// The process that started this one.
    Parent(Parent),
    /// A process on another host, or on this one over loopback.
    Session(Session),
}

impl Other {
    /// Sends one message.
    ///
    /// # Errors
    /// Those of [`Child::send`] and [`Session::send`].
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        match self {
            Other::Child(child) => child.send(message),
            Other::Parent(parent) => parent.send(message),
            Other::Session(session) => session.send(message),
        }
    }

    /// Waits for one message, at most so long for it to begin.
    ///
    /// # Errors
    /// [`PeerError::Silent`] when none comes in time, and it may be waited for again; others say why none will ever come.
    pub fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        match self {
            Other::Child(child) => child.receive_within(span),
            Other::Parent(parent) => parent.receive_within(span),
            Other::Session(session) => session.receive_within(span),
        }
    }

    /// True from the moment on that there is no other side any more, for those who measure and do not listen.
    pub fn lost(&self) -> Arc<AtomicBool> {
        match self {
            Other::Child(child) => child.lost(),
            Other::Parent(parent) => parent.lost(),
            Other::Session(session) => session.lost(),
        }
    }
}

impl From<Child> for Other {
    fn from(child: Child) -> Self {
        Other::Child(child)
    }
}

impl From<Parent> for Other {
    fn from(parent: Parent) -> Self {
        Other::Parent(parent)
    }
}

impl From<Session> for Other {
    fn from(session: Session) -> Self {
        Other::Session(session)
    }
}
