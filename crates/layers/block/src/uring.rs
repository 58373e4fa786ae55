//! `io_uring`, plain: a ring shared with the kernel, one system call to submit a batch and wait for completions.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use strata_measure::{
    Buffers, Clock, Engine, FailCode, Fatal, Limits, Op, OpKind, Outcome, Refusal, Refused, Slot,
    Stuck, Tick, Wait,
};
use strata_record::Completes;
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::engine::{SHORT, code_of, explain};

/// The longest sleep in the kernel before the loop looks at its clock.
const SLEEP: Nanos = Nanos::from_millis(100);

/// Whether this kernel lets this process make a ring.
pub(crate) fn available() -> Result<(), String> {
    make(1).map(drop)
}

/// A ring of `depth` entries, with one task that submits and completes where the kernel knows how (6.1 and later).
fn make(depth: u32) -> Result<IoUring, String> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(depth)
        .or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => IoUring::new(depth),
            _ => Err(error),
        })
        .map_err(|error| {
            let next = match error.raw_os_error() {
                Some(libc::EPERM) => {
                    "kernel.io_uring_disabled or a seccomp filter forbids it; `sysctl kernel.io_uring_disabled=0`, or --engine psync"
                }
                Some(libc::ENOSYS) => "this kernel has none (5.11 or later is needed), or a seccomp filter hides it; use --engine psync",
                Some(libc::ENOMEM) => "too little locked memory; raise it with `ulimit -l unlimited` or lower --depth",
                _ => "use --engine psync",
            };
            format!("cannot make an io_uring of {depth} entries: {error}; {next}")
        })
}

/// The ring, the file and the buffers of one thread.
pub(crate) struct Uring {
    ring: IoUring,
    file: File,
    /// Dropped by hand: what never came back keeps its memory.
    buffers: ManuallyDrop<Buffers>,
    align: Bytes,
    completes: Completes,
    held: Vec<Option<(Slot, Bytes)>>,
    in_flight: usize,
    unsent: usize,
    sleep: Timespec,
}

impl Uring {
    pub(crate) fn new(
        file: File,
        buffers: Buffers,
        depth: QueueDepth,
        align: Bytes,
        completes: Completes,
    ) -> Result<Uring, String> {
        Ok(Uring {
            ring: make(u32::from(depth.get()).next_power_of_two())?,
            file,
            buffers: ManuallyDrop::new(buffers),
            align,
            completes,
            held: (0..depth.get()).map(|_| None).collect(),
            in_flight: 0,
            unsent: 0,
            sleep: Timespec::new().nsec(SLEEP.0 as u32),
        })
    }

    /// Submits what is unsent and sleeps until one completion or the end of `sleep`. It always asks for completions: with
    /// deferred task work none is posted otherwise.
    fn enter(&mut self) -> Result<(), Fatal> {
        let args = SubmitArgs::new().timespec(&self.sleep);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(taken) => {
                self.unsent = self.unsent.saturating_sub(taken);
                Ok(())
            }
            // The time was over (what was unsent went in before the sleep), a signal came, or the kernel wants its
            // completions taken first: in each case the loop comes back.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(Fatal(format!("io_uring_enter failed: {e}; see dmesg"))),
        }
    }

    /// Takes what has completed.
    #[inline]
    fn take(&mut self, mut done: impl FnMut(Slot, Outcome)) -> usize {
        let mut n = 0;
        for entry in self.ring.completion() {
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some((slot, len)) = self.held.get_mut(index).and_then(Option::take) else {
                continue;
            };
            let outcome = match entry.result() {
                moved if i64::from(moved) == len.0 as i64 => Outcome::Done(len),
                failed if failed < 0 => {
                    Outcome::Failed(code_of(&io::Error::from_raw_os_error(-failed)))
                }
                _ => Outcome::Failed(SHORT),
            };
            n += 1;
            done(slot, outcome);
        }
        self.in_flight -= n;
        n
    }
}

impl Engine for Uring {
    fn limits(&self) -> Limits {
        Limits {
            depth: u16::try_from(self.held.len()).unwrap_or(u16::MAX),
            align: self.align,
            completes: self.completes,
            has_latency: true,
            wait: Wait::Block { at_most: SLEEP },
        }
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        let buffer = self.buffers.of(&slot);
        let Ok(len) = u32::try_from(op.len.0) else {
            let why = Refusal::Fatal(Fatal(format!(
                "io_uring takes at most 4 GiB an operation, not {}",
                op.len
            )));
            return Err(Refused { slot, op, why });
        };
        let index = slot.index();
        let fd = Fd(self.file.as_raw_fd());
        let entry = if op.kind == OpKind::Write {
            opcode::Write::new(fd, buffer.as_ptr(), len)
                .offset(op.at.0)
                .build()
        } else {
            opcode::Read::new(fd, buffer.as_ptr(), len)
                .offset(op.at.0)
                .build()
        }
        .user_data(index as u64);
        // SAFETY: the file stays open and the buffer mapped until the operation has come back: the slot is held in
        // `held` until then, and `drop` leaks the buffers when any is still held. Operations are no longer than their
        // buffers, since both have the size of the workload's block (checked when the job is made).
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            return Err(Refused {
                slot,
                op,
                why: Refusal::Full,
            });
        }
        self.held[index] = Some((slot, op.len));
        self.in_flight += 1;
        self.unsent += 1;
        Ok(())
    }

    /// Nothing: `reap` submits and waits in one system call.
    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    #[inline]
    fn reap(&mut self, _: Wait, done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        if self.unsent > 0 || self.ring.completion().is_empty() {
            self.enter()?;
        }
        Ok(self.take(done))
    }

    fn quiesce(&mut self, by: Tick) -> Result<(), Stuck> {
        let clock = Clock::get();
        if self.in_flight > 0 {
            // Since 6.0; where it is not known, waiting is all that can be done.
            let _ = self
                .ring
                .submitter()
                .register_sync_cancel(Some(Timespec::new().sec(1)), CancelBuilder::any());
        }
        while self.in_flight > 0 && clock.now() < by {
            if let Err(fatal) = self.enter() {
                return Err(Stuck {
                    operations: self.in_flight,
                    why: fatal.0,
                });
            }
            self.take(|_, _| {});
        }
        if self.in_flight > 0 {
            return Err(Stuck {
                operations: self.in_flight,
                why: "they were cancelled and waited for".to_owned(),
            });
        }
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.buffers)
    }

    fn explain(&self, code: FailCode) -> String {
        explain(code)
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: `buffers` is not used again: this is `drop`, and it runs once.
            unsafe { ManuallyDrop::drop(&mut self.buffers) }
        }
    }
}
