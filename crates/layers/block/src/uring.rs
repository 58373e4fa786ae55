//! `io_uring`: a pair of rings shared with the kernel, one system call to submit and wait for completions, or none.
//!
//! A batch goes into the kernel in parts of four. The device begins with the first part while the others are being
//! submitted; a whole batch in one call keeps it waiting, after which all complete together and it idles while the next is
//! made. On a virtual disk at depth 32 parts of two, four and eight were as fast as each other, and a tenth to a quarter
//! faster than whole batches.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue};
use strata_measure::{
    Buffers, Clock, Engine, FailCode, Fatal, Limits, Load, Op, Outcome, Refusal, Refused, Scratch,
    Slot, Step, Stream, Stuck, Tick, Wait, Window, drive,
};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Completes, TimedBy};
use strata_units::{Bytes, CpuId, Nanos, QueueDepth};

use crate::commands::{Commands, Nothing, Plain};
use crate::engine::{Issue, RingMode, SHORT};
use crate::ring::make;

/// The longest sleep in the kernel before the loop looks at its clock.
const SLEEP: Nanos = Nanos::from_millis(100);

/// How many entries one system call submits while there are more.
const PART: u32 = 4;

/// What all threads of a cell have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) mode: RingMode,
    pub(crate) depth: QueueDepth,
    pub(crate) align: Bytes,
    pub(crate) completes: Completes,
}

/// The ring, the file and the buffers of one thread.
pub(crate) struct Uring<C: Commands> {
    ring: IoUring<C::Entry, C::Done>,
    commands: C,
    /// Kept open as long as operations on it may be in flight; none where they have no file.
    file: Option<File>,
    /// Dropped by hand: what never came back keeps its memory.
    buffers: ManuallyDrop<Buffers>,
    setup: Setup,
    held: Box<[Option<(Slot, Bytes)>]>,
    in_flight: usize,
    unsent: u32,
}

impl<C: Commands> Uring<C> {
    /// An engine on `file`, whose kernel's polling thread runs on `sq_cpu`, if its mode has one.
    ///
    /// # Errors
    /// In words, with the next step, when the kernel gives no such ring or does not take file and buffers.
    pub(crate) fn new(
        commands: C,
        file: File,
        buffers: Buffers,
        setup: Setup,
        sq_cpu: Option<CpuId>,
    ) -> Result<Uring<C>, String> {
        let engine = Uring::on(commands, Some(file), buffers, setup, sq_cpu)?;
        if setup.mode.registered {
            engine.register()?;
        }
        Ok(engine)
    }

    fn on(
        commands: C,
        file: Option<File>,
        buffers: Buffers,
        setup: Setup,
        sq_cpu: Option<CpuId>,
    ) -> Result<Uring<C>, String> {
        let depth = setup.depth.get();
        Ok(Uring {
            ring: make(u32::from(depth).next_power_of_two(), setup.mode, sq_cpu)?,
            commands,
            file,
            buffers: ManuallyDrop::new(buffers),
            setup,
            held: (0..depth).map(|_| None).collect(),
            in_flight: 0,
            unsent: 0,
        })
    }

    /// Registers the file as the first and each slot's buffer by the slot's number.
    fn register(&self) -> Result<(), String> {
        let submitter = self.ring.submitter();
        if let Some(file) = &self.file {
            submitter
                .register_files(&[file.as_raw_fd()])
                .map_err(|e| format!("cannot register the file with io_uring: {e}; raise `ulimit -n`, or leave out +registered"))?;
        }
        let mut all = Vec::with_capacity(self.held.len());
        let mut bytes = Bytes(0);
        self.buffers.each(|buffer| {
            bytes = bytes + Bytes(buffer.len() as u64);
            all.push(libc::iovec {
                iov_base: buffer.as_ptr().cast(),
                iov_len: buffer.len(),
            });
        });
        // SAFETY: each is memory of `self.buffers`, which outlives the ring's use of it: the kernel pins the pages.
        unsafe { submitter.register_buffers(&all) }.map_err(|error| {
            let next = match error.raw_os_error() {
                Some(libc::ENOMEM | libc::EPERM) => format!(
                    "RLIMIT_MEMLOCK is {}; raise it with `ulimit -l unlimited` or LimitMEMLOCK=infinity, lower --depth or --bs, or leave out +registered",
                    crate::sys::locked_limit()
                ),
                Some(libc::EFAULT | libc::EOPNOTSUPP) => {
                    "the memory cannot be pinned; leave out +registered".to_owned()
                }
                _ => "a buffer is at most 1 GiB; give a smaller --bs, or leave out +registered"
                    .to_owned(),
            };
            format!(
                "cannot register {} buffers of {bytes} together with io_uring: {error}; {next}",
                all.len()
            )
        })
    }

    /// Submits up to `send` entries and asks for completions; sleeps until there are `want` or `at_most` is over. With
    /// deferred task work none is posted unless it is asked for.
    fn enter(&mut self, send: u32, want: u32, at_most: Nanos) -> Result<(), Fatal> {
        const SECOND: u64 = 1_000_000_000;
        let flags = EnterFlags::GETEVENTS;
        let time = Timespec::new()
            .sec(at_most.0 / SECOND)
            .nsec((at_most.0 % SECOND) as u32);
        let args = SubmitArgs::new().timespec(&time);
        // SAFETY: the flags go with the argument: with EXT_ARG it is the extended one, which lives for the call, and
        // without there is none. The entries were made in `post`.
        let taken = unsafe {
            let submitter = self.ring.submitter();
            if want > 0 {
                let flags = flags | EnterFlags::EXT_ARG;
                submitter.enter(send, want, flags.bits(), Some(&args))
            } else {
                submitter.enter::<libc::sigset_t>(send, 0, flags.bits(), None)
            }
        };
        match taken {
            // A polling thread takes entries by itself, and the call says what it was told.
            Ok(taken) => {
                self.unsent -= (taken as u32).min(self.unsent);
                Ok(())
            }
            // The time was over, a signal came, or the kernel wants its completions taken first: in each case the loop
            // comes back.
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

    /// Wakes the kernel's polling thread when it has gone to sleep.
    fn wake(&mut self) -> Result<(), Fatal> {
        self.unsent = 0;
        if !self.ring.submission().need_wakeup() {
            return Ok(());
        }
        // SAFETY: there is no argument, and no entries are submitted by this call.
        let woken = unsafe {
            let flags = EnterFlags::SQ_WAKEUP.bits();
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(0, 0, flags, None)
        };
        match woken {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(Fatal(format!(
                "cannot wake io_uring's polling thread: {e}; leave out +sqpoll"
            ))),
        }
    }

    /// Whether completions are there that only a system call brings into the queue.
    #[inline]
    fn has_work(&mut self) -> bool {
        match self.setup.mode.issue {
            Issue::SqPoll => false,
            _ if self.setup.mode.iopoll => true,
            Issue::Deferred => self.ring.submission().taskrun(),
            Issue::TaskRun => false,
        }
    }

    /// Takes what has completed.
    #[inline]
    fn take(&mut self, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let mut n = 0;
        for entry in self.ring.completion() {
            let entry: cqueue::Entry = entry.into();
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some((slot, len)) = self.held.get_mut(index).and_then(Option::take) else {
                self.in_flight -= n;
                return Err(Fatal(
                    "the kernel completed an operation that was not in flight".to_owned(),
                ));
            };
            n += 1;
            done(slot, self.commands.outcome(entry.result(), len));
        }
        self.in_flight -= n;
        Ok(n)
    }
}

impl<C: Commands> Engine for Uring<C> {
    fn limits(&self) -> Limits {
        Limits {
            depth: self.setup.depth.get(),
            align: self.setup.align,
            completes: self.setup.completes,
            has_latency: true,
            // With a polling thread there need be no system call at all; and a wait for polled completions has no end that
            // one could give it, so that one which never came would hang the loop.
            wait: match self.setup.mode.issue {
                Issue::Deferred | Issue::TaskRun if !self.setup.mode.iopoll => {
                    Wait::Block { at_most: SLEEP }
                }
                _ => Wait::Spin,
            },
        }
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        let buffer = self.buffers.of(&slot);
        let fits = u32::try_from(op.len.0).ok();
        let Some(len) = fits.filter(|len| *len as usize <= buffer.len()) else {
            let why = Refusal::Fatal(Fatal(format!(
                "{} do not fit a buffer of {}",
                op.len,
                buffer.len()
            )));
            return Err(Refused { slot, op, why });
        };
        let index = slot.index();
        let entry = self.commands.entry(index as u16, op, buffer.as_ptr(), len);
        // SAFETY: the file stays open and the buffer mapped until the operation has come back: the slot is held in
        // `held` until then, and `drop` leaks the buffers when any is still held. The operation is no longer than its
        // buffer, as was just seen.
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

    /// Submits all but the last part, which goes with `reap`, in the call that waits.
    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        if self.setup.mode.issue == Issue::SqPoll {
            return if self.unsent > 0 { self.wake() } else { Ok(()) };
        }
        while self.unsent > PART {
            let before = self.unsent;
            // SAFETY: as in `enter`; there is no argument.
            let taken = unsafe {
                self.ring
                    .submitter()
                    .enter::<libc::sigset_t>(PART, 0, 0, None)
            };
            match taken {
                Ok(taken) => self.unsent -= (taken as u32).min(before),
                // `reap` comes to the same end, and says whether it is one.
                Err(_) => break,
            }
            if self.unsent == before {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, wait: Wait, done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        if self.in_flight == 0 {
            return Ok(0);
        }
        let empty = self.ring.completion().is_empty();
        match wait {
            Wait::Spin if self.unsent > 0 || (empty && self.has_work()) => {
                self.enter(self.unsent, 0, Nanos(0))?;
            }
            Wait::Block { at_most } if self.unsent > 0 || empty => {
                self.enter(self.unsent, u32::from(empty), at_most)?;
            }
            _ => {}
        }
        self.take(done)
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
        // A wait for a polled completion cannot be given an end.
        let want = u32::from(!self.setup.mode.iopoll);
        while self.in_flight > 0 && clock.now() < by {
            let brought = self
                .enter(self.unsent, want, SLEEP)
                .and_then(|()| self.take(|_, _| {}));
            if let Err(fatal) = brought {
                return Err(Stuck {
                    operations: self.in_flight,
                    why: fatal.0,
                });
            }
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
        self.commands.explain(code)
    }
}

impl<C: Commands> Drop for Uring<C> {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: `buffers` is not used again: this is `drop`, and it runs once.
            unsafe { ManuallyDrop::drop(&mut self.buffers) }
        }
    }
}

/// Plain io_uring with operations that do nothing (IORING_OP_NOP), at `depth`: what engine and ring cost, without a target.
///
/// # Errors
/// In words, with the next step, when the kernel gives no ring or no memory.
pub fn nothing(depth: QueueDepth) -> Result<impl Engine, String> {
    let buffers = small_buffers(depth)?;
    let setup = Setup {
        mode: RingMode::default(),
        depth,
        align: Bytes(1),
        completes: Completes::AcceptedLocally,
    };
    Uring::on(Nothing, None, buffers, setup, None)
}

fn small_buffers(depth: QueueDepth) -> Result<Buffers, String> {
    let want = Want {
        bytes: Bytes(0),
        node: None,
        huge: Huge::Never,
        lock: Lock::Prefer,
    };
    Buffers::new(depth, Bytes(4096), want).map_err(|e| e.to_string())
}

/// Whether a read of the file's first bytes can be polled for: the kernel says so with the first completion only.
///
/// # Errors
/// In words, with the next step.
pub(crate) fn polls(file: File, mode: RingMode) -> Result<(), String> {
    let depth = QueueDepth::ONE;
    // Neither what the file holds nor what is registered matters.
    let setup = Setup {
        mode: RingMode {
            registered: false,
            ..mode
        },
        depth,
        align: Bytes(1),
        completes: Completes::Device,
    };
    let load = Load {
        depth,
        offer: None,
        ramp: Nanos(0),
        window: Window::Ops(1),
        timed_by: TimedBy::Operation,
        patience: Load::PATIENCE,
    };
    let commands = Plain::new(&file);
    let mut engine = Uring::new(commands, file, small_buffers(depth)?, setup, None)?;
    let mut stream = Stream::new(strata_record::Op::Read, Bytes(4096), 1, 0);
    let (clock, scratch) = (Clock::get(), Scratch::new(&load, &mut stream));
    let go = &mut |_| Step::Go;
    let tally = drive(
        &mut engine,
        &mut stream,
        &load,
        clock,
        scratch,
        clock.now(),
        go,
    );
    // That a file is shorter than what is read here says nothing of polling.
    match tally.failures().find(|(code, _)| *code != SHORT) {
        Some((code, _)) => Err(engine.explain(code)),
        None => Ok(()),
    }
}
