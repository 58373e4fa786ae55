//! The other side, whatever stands between: somebody who takes messages and sends them.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::{Channel, Child, Parent, PeerError, Session};

/// Whoever is at the other end of a control channel: a job speaks to it, and a server answers it, in the same words wherever
/// it is.
pub trait Other: Send {
    /// Sends one message.
    ///
    /// # Errors
    /// [`PeerError`] when nobody takes it.
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError>;

    /// Waits for one message, at most so long for it to begin.
    ///
    /// # Errors
    /// [`PeerError::Silent`] when none begins in time, others when none can come any more.
    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError>;

    /// Why it is lost, where the channel knows before anybody waits for a message.
    fn lost(&self) -> Option<PeerError> {
        None
    }
}

impl<O: Other + ?Sized> Other for &mut O {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        (**self).send(message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        (**self).receive_within(span)
    }

    fn lost(&self) -> Option<PeerError> {
        (**self).lost()
    }
}

impl Other for Child {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Child::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Child::receive_within(self, span)
    }
}

impl Other for Parent {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Parent::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Parent::receive_within(self, span)
    }
}

impl Other for Session {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Session::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Session::receive_within(self, span)
    }

    fn lost(&self) -> Option<PeerError> {
        self.why_lost()
    }
}

impl<R: Read + AsFd + Send, W: Write + Send> Other for Channel<R, W> {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Channel::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Channel::receive_within(self, span)
    }
}
