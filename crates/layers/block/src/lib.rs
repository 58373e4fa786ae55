//! The kernel's storage path, measured on a file or a drive.
//!
//! Three engines: `psync`, a system call an operation; `libaio`, the kernel's older asynchronous interface; and `io_uring`, a
//! pair of rings shared with the kernel. All go through the
//! file system and the block layer to the drive, past the page cache (O_DIRECT) wherever the file system lets them. The
//! file is filled before it is read. Only a file that the suite itself wrote is ever written to, and only a drive that the
//! user named by its serial number and in which the write guard (`strata-guard`) found nothing to lose.

#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "hands raw buffers to the kernel, and reads its shared ring"
)]
mod aio;
mod engine;
mod file;
mod job;
mod psync;
#[allow(unsafe_code, reason = "system calls on raw buffers")]
mod sys;
mod target;
#[allow(unsafe_code, reason = "pushes raw buffers into the kernel's ring")]
mod uring;
mod verify;
mod written;

pub use engine::{BlockEngine, UnknownEngine};
pub use job::BlockJob;
pub use target::{Kind, Prepared, TargetError, Wanted, inspect, prepare};
pub use verify::{Verified, verify};
pub use written::WrittenState;
