//! What can go wrong between the two sides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use strata_units::Nanos;

/// What a side says that ends a session since it is done with it.
pub(crate) const DONE: &str = "the other side is done";

/// Why the two sides do not understand each other.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It is gone.
    #[error("the other side ended without a word; look for its last words on its screen")]
    Gone,
    /// It says nothing.
    #[error("the other side said nothing for {0}; its CPUs may be taken by other work")]
    Silent(Nanos),
    /// It shows no sign of life, though a session's keeper has nothing else to do than to give one each second.
    #[error(
        "the other side gave no sign of life for {0}: it was stopped, its host hangs, or the wire is cut; look at its \
         screen and at the link between the two hosts"
    )]
    Stalled(Nanos),
    /// It speaks something else.
    #[error("the other side sent {0}; both must be one version of strata")]
    Garbled(String),
    /// It says why it cannot do a task.
    #[error("the other side: {0}")]
    Failed(String),
    /// The user stopped it, or this side's part has failed.
    #[error("the trial is not wanted any more")]
    Unwanted,
    /// It ended the session on purpose.
    #[error("the session has ended: {0}")]
    Ended(String),
    /// The system refuses.
    #[error("cannot speak to the other side: {0}")]
    System(Arc<io::Error>),
    /// A name that means no address.
    #[error(
        "cannot find the address of {name}: {why}; give --peer as HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT"
    )]
    NoAddress {
        /// The name as given.
        name: String,
        /// Why it means none.
        why: String,
    },
    /// Nobody to connect to.
    #[error(
        "cannot connect to {to}: {why}; is `strata serve` running there, and does its host let this port in?"
    )]
    Unreachable {
        /// Whom.
        to: SocketAddr,
        /// Why not.
        why: Arc<io::Error>,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {at}: {why}; choose another address or port")]
    Unbound {
        /// Where.
        at: SocketAddr,
        /// Why not.
        why: Arc<io::Error>,
    },
    /// Another host, and no key.
    #[error(
        "{0} is not this host's loopback address, and without a key strata speaks over loopback only; give both sides \
         one key with --key-file (make one with: (umask 077; openssl rand -hex 32 > FILE))"
    )]
    NoKey(IpAddr),
    /// It did not answer as one who holds the key.
    #[error(
        "{0} did not answer as a `strata serve` that holds this key; see that strata listens there, and give both \
         sides the same --key-file, or neither one"
    )]
    Stranger(SocketAddr),
    /// It holds the key and speaks another version.
    #[error(
        "the other side speaks version {theirs} of the protocol, this side {ours}; both must be one version of strata"
    )]
    Version {
        /// This side's.
        ours: u32,
        /// The other's.
        theirs: u32,
    },
    /// Somebody else measures there.
    #[error("its cores have been taken by {by} for {since}; try again when that client is done")]
    Taken {
        /// The client that has them.
        by: IpAddr,
        /// For how long.
        since: Nanos,
    },
}

impl PeerError {
    /// What it said has no place in the conversation.
    pub(crate) fn unasked() -> PeerError {
        PeerError::Garbled("what nobody asked for".to_owned())
    }

    /// Whether this is no loss: the other side ended the session since it was done with it.
    pub fn is_done(&self) -> bool {
        matches!(self, PeerError::Ended(why) if why == DONE)
    }
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> Self {
        PeerError::System(Arc::new(error))
    }
}

/// What an error of reading or writing tells about the other side.
pub(crate) fn gone(error: io::Error) -> PeerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => PeerError::Gone,
        _ => error.into(),
    }
}
