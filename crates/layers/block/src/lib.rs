//! The kernel's storage path, measured on a file.
//!
//! Two engines: `psync`, a system call an operation, and `io_uring`, a ring shared with the kernel. Both go through the
//! file system and the block layer to the drive, past the page cache (O_DIRECT) wherever the file system lets them. The
//! file is filled before it is read, and only a file that the suite itself wrote is ever written to.

#![deny(unsafe_code)]

mod engine;
mod file;
mod job;
mod psync;
#[allow(unsafe_code, reason = "system calls on raw buffers")]
mod sys;
#[allow(unsafe_code, reason = "pushes raw buffers into the kernel's ring")]
mod uring;

pub use engine::{BlockEngine, UnknownEngine};
pub use file::{FileError, Prepared, WrittenState, inspect, prepare};
pub use job::BlockJob;
