//! The kernel's storage path, measured on a file or a drive.
//!
//! Four engines: `psync`, a system call an operation; `libaio`, the kernel's older asynchronous interface; `io_uring`, a
//! pair of rings shared with the kernel; and `io_uring_cmd`, NVMe commands through such rings. All but the last go through
//! the file system and the block layer to the drive, past the page cache (O_DIRECT) wherever the file system lets them. The
//! file is filled before it is read. Only a file that the suite itself wrote is ever written to, and only a drive that the
//! user named by its serial number and in which the write guard (`strata-guard`) found nothing to lose.
//!
//! The engines on rings have modifiers, which are part of their names ([`BlockEngine`]): what a name says is what was
//! measured, or there is an error.

#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "hands raw buffers to the kernel, and reads its shared ring"
)]
mod aio;
mod commands;
mod device;
mod engine;
mod file;
mod job;
#[allow(
    unsafe_code,
    reason = "asks a device by ioctl(2), and lays out its commands"
)]
mod nvme;
mod psync;
mod ring;
#[allow(unsafe_code, reason = "system calls on raw buffers")]
mod sys;
mod target;
#[allow(unsafe_code, reason = "pushes raw buffers into the kernel's ring")]
mod uring;
mod verify;
mod written;

pub use strata_measure::storage::{Verified, WrittenState};

pub use engine::{BlockEngine, Issue, RingMode, UnknownEngine};
pub use job::BlockJob;
pub use target::{Kind, Prepared, TargetError, Wanted, inspect, prepare};
pub use uring::nothing;
pub use verify::verify;
