//! What the layers that reach a storage target share, whatever reaches it: the kernel by a file, or queue pairs that are
//! polled. Whether its blocks were ever written, how it is filled, how it is checked later, and a cell's operations on it.
//!
//! None of it opens a target: the first three read and write through closures that are told where, and how much by the
//! length of the memory.

mod cell;
mod fill;
mod verify;
mod written;

use strata_units::Bytes;

pub use cell::{StorageCell, StorageTarget};
pub use fill::fill;
pub use verify::{Verified, verify};
pub use written::{Seen, WrittenState};

/// How much is read or written at a time.
const CHUNK: Bytes = Bytes::MIB;
