//! What can go wrong between the two ends.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use strata_units::{ByteOffset, Bytes, Iova, Nanos};

/// Why a server or a device refuses a request; on the wire an errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request makes no sense, or reaches outside of what there is.
    #[error("invalid request")]
    Invalid,
    /// Not offered here.
    #[error("not supported")]
    Unsupported,
    /// Overlaps with what is mapped.
    #[error("already mapped")]
    Exists,
    /// Never mapped so.
    #[error("not mapped")]
    Absent,
    /// As much is mapped as may be.
    #[error("too many mapped")]
    NoRoom,
    /// Longer than is taken.
    #[error("message too long")]
    TooLong,
    /// Another client has the device.
    #[error("in use by another client")]
    Busy,
    /// The device could not do it.
    #[error("the device failed")]
    Failed,
}

impl Refusal {
    /// Its errno.
    pub(crate) fn errno(self) -> u32 {
        let errno = match self {
            Refusal::Invalid => Errno::INVAL,
            Refusal::Unsupported => Errno::NOTSUP,
            Refusal::Exists => Errno::EXIST,
            Refusal::Absent => Errno::NOENT,
            Refusal::NoRoom => Errno::NOSPC,
            Refusal::TooLong => Errno::MSGSIZE,
            Refusal::Busy => Errno::BUSY,
            Refusal::Failed => Errno::IO,
        };
        errno.raw_os_error().unsigned_abs()
    }
}

/// What a client asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they ask")]
pub enum Asked {
    Version,
    Device,
    Region(u32),
    Interrupts,
    Read {
        region: u32,
        at: ByteOffset,
        len: Bytes,
    },
    Write {
        region: u32,
        at: ByteOffset,
        len: Bytes,
    },
    Map {
        iova: Iova,
        len: Bytes,
    },
    Unmap {
        iova: Iova,
        len: Bytes,
    },
    Vectors {
        first: u32,
        count: u32,
    },
    Reset,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Version => write!(f, "the protocol's version"),
            Asked::Device => write!(f, "what device it is"),
            Asked::Region(index) => write!(f, "what region {index} is"),
            Asked::Interrupts => write!(f, "how many interrupts there are"),
            Asked::Read { region, at, len } => {
                write!(f, "to read {len} at {:#x} of region {region}", at.0)
            }
            Asked::Write { region, at, len } => {
                write!(f, "to write {len} at {:#x} of region {region}", at.0)
            }
            Asked::Map { iova, len } => write!(f, "to map {len} at {iova} for DMA"),
            Asked::Unmap { iova, len } => write!(f, "to unmap {len} at {iova}"),
            Asked::Vectors { first, count } => {
                write!(f, "to set {count} interrupts from number {first}")
            }
            Asked::Reset => write!(f, "to reset the device"),
        }
    }
}

/// Why a client did not get what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves there.
    #[error("cannot connect to {path}: {why}; is a controller served in this folder, by this user?", path = path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        why: Arc<io::Error>,
    },
    /// It answered with an error; the connection goes on.
    #[error("the server at {path} was asked {asked} and refused: {why}", path = path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: Asked,
        /// Its errno in words.
        why: String,
    },
    /// It did not answer in time.
    #[error(
        "the server at {path} was asked {asked} and said nothing for {within}: it hangs, was stopped, or serves somebody \
         else; look at its process and connect anew", path = path.display()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: Asked,
        /// The deadline.
        within: Nanos,
    },
    /// It ended the connection.
    #[error(
        "the server at {path} was asked {asked} and is gone; look for its last words and start it anew", path = path.display()
    )]
    Gone {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: Asked,
    },
    /// It answered something else.
    #[error(
        "the server at {path} was asked {asked} and answered {found}, expected {expected}; it speaks no vfio-user 0.1", path = path.display()
    )]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: Asked,
        /// What came.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
    /// An earlier question has no answer yet, which would be taken for the next one's.
    #[error(
        "the server at {path} is not asked {asked}: the connection failed before; connect anew", path = path.display()
    )]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What would have been asked.
        asked: Asked,
    },
    /// The system refuses.
    #[error("cannot ask the server at {path} {asked}: {why}", path = path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What would have been asked.
        asked: Asked,
        /// What the system said.
        why: Arc<io::Error>,
    },
}

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Others could reach the socket.
    #[error(
        "will not serve in {folder}: {found}, expected a folder of this user with mode 0700; make one with `mkdir -m 700`", folder = folder.display()
    )]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What it is.
        found: String,
    },
    /// Another server, or something that is no socket, is there.
    #[error("cannot serve at {path}: {found}; choose another folder, or end that one", path = path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The system refuses.
    #[error("cannot {what} {path}: {why}", path = path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

/// How a client left a server.
#[derive(Debug)]
pub enum Left {
    /// It closed the connection between two requests.
    Closed,
    /// It was gone in the middle of a message.
    Cut,
    /// It was silent for so long in the middle of a message, or did not take its reply.
    Stuck(Nanos),
    /// It sent a message that is shorter than its header, so that nobody knows where the next one begins.
    Garbled {
        /// The size that the header gave.
        size: u32,
    },
    /// It proposed another major version of the protocol.
    Foreign,
    /// The system ended the connection.
    Broken(io::Error),
    /// It was sent away ([`Server::dismiss`](crate::Server::dismiss)), or the server was stopped.
    Dismissed,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Left::Closed => write!(f, "the client closed the connection"),
            Left::Cut => write!(f, "the client was gone in the middle of a message"),
            Left::Stuck(span) => write!(
                f,
                "the client stopped in the middle of a message for {span}"
            ),
            Left::Garbled { size } => {
                write!(
                    f,
                    "the client sent a message of {size} bytes, expected 16 or more"
                )
            }
            Left::Foreign => write!(
                f,
                "the client speaks another version of vfio-user, expected 0.x"
            ),
            Left::Broken(why) => write!(f, "the connection to the client broke: {why}"),
            Left::Dismissed => write!(f, "the client was sent away"),
        }
    }
}

/// Why shared memory cannot be mapped, or not be reached.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The file ends before; touching what lies behind its end would kill this process (SIGBUS).
    #[error(
        "cannot map {len} at {at:#x} of a shared file: it has {has}; the other side gave a wrong offset or length", at = at.0
    )]
    Short {
        /// From where.
        at: ByteOffset,
        /// How much.
        len: Bytes,
        /// The file's length.
        has: Bytes,
    },
    /// There is no descriptor to map.
    #[error("cannot map {len} at {at:#x}: it was shared without a descriptor; share it with one", at = at.0)]
    Unshared {
        /// From where.
        at: ByteOffset,
        /// How much.
        len: Bytes,
    },
    /// The part is not one that may be mapped.
    #[error("cannot map {len} at {at:#x} of a region: it lies in no area that is shared", at = at.0)]
    Outside {
        /// From where.
        at: ByteOffset,
        /// How much.
        len: Bytes,
    },
    /// The system refuses.
    #[error("cannot map {len} at {at:#x} of a shared file: {why}", at = at.0)]
    System {
        /// From where.
        at: ByteOffset,
        /// How much.
        len: Bytes,
        /// What the system said.
        why: io::Error,
    },
}
