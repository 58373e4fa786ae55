//! What a ring is asked to do for an operation: the entry that goes into its submission queue, and what its result means.

use std::fs::File;
use std::os::fd::AsRawFd;

use io_uring::types::{Fd, Fixed};
use io_uring::{cqueue, opcode, squeue};
use strata_measure::{FailCode, Op, OpKind, Outcome};
use strata_units::Bytes;

use crate::engine::{SHORT, explain};

/// The index of the one registered file.
pub(crate) const FILE: Fixed = Fixed(0);

/// One kind of entries.
pub(crate) trait Commands {
    /// Of the submission queue.
    type Entry: squeue::EntryMarker;
    /// Of the completion queue.
    type Done: cqueue::EntryMarker;

    /// The entry for `op` on the `len` bytes at `buffer`, which is that of the slot `index`; `index` comes back with the
    /// completion. `len` is the operation's length.
    fn entry(&self, index: u16, op: Op, buffer: *mut u8, len: u32) -> Self::Entry;

    /// What the completion of an operation of `len` bytes says.
    #[inline]
    fn outcome(&self, result: i32, len: Bytes) -> Outcome {
        if i64::from(result) == len.0 as i64 {
            Outcome::Done(len)
        } else if result < 0 {
            Outcome::Failed(FailCode(-result))
        } else {
            Outcome::Failed(SHORT)
        }
    }

    /// A failure in words, with the next step.
    fn explain(&self, code: FailCode) -> String {
        explain(code)
    }
}

/// Reads and writes of a file, each with its descriptor and address.
pub(crate) struct Plain(Fd);

impl Plain {
    /// Of `file`, which stays open as long as they may be in flight.
    pub(crate) fn new(file: &File) -> Plain {
        Plain(Fd(file.as_raw_fd()))
    }
}

impl Commands for Plain {
    type Entry = squeue::Entry;
    type Done = cqueue::Entry;

    #[inline]
    fn entry(&self, index: u16, op: Op, buffer: *mut u8, len: u32) -> squeue::Entry {
        if op.kind == OpKind::Write {
            opcode::Write::new(self.0, buffer, len)
                .offset(op.at.0)
                .build()
        } else {
            opcode::Read::new(self.0, buffer, len)
                .offset(op.at.0)
                .build()
        }
        .user_data(u64::from(index))
    }
}

/// Reads and writes of the registered file, with the registered buffer of the slot's number.
pub(crate) struct Registered;

impl Commands for Registered {
    type Entry = squeue::Entry;
    type Done = cqueue::Entry;

    #[inline]
    fn entry(&self, index: u16, op: Op, buffer: *mut u8, len: u32) -> squeue::Entry {
        if op.kind == OpKind::Write {
            opcode::WriteFixed::new(FILE, buffer, len, index)
                .offset(op.at.0)
                .build()
        } else {
            opcode::ReadFixed::new(FILE, buffer, len, index)
                .offset(op.at.0)
                .build()
        }
        .user_data(u64::from(index))
    }
}

/// Operations that do nothing: what is left is what the ring and its engine cost.
pub(crate) struct Nothing;

impl Commands for Nothing {
    type Entry = squeue::Entry;
    type Done = cqueue::Entry;

    #[inline]
    fn entry(&self, index: u16, _: Op, _: *mut u8, _: u32) -> squeue::Entry {
        opcode::Nop::new().build().user_data(u64::from(index))
    }

    #[inline]
    fn outcome(&self, result: i32, len: Bytes) -> Outcome {
        if result == 0 {
            Outcome::Done(len)
        } else {
            Outcome::Failed(FailCode(-result))
        }
    }
}
