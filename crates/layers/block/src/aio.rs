//! `libaio`: the kernel's older asynchronous interface, by its system calls (io_setup(2), io_submit(2), io_getevents(2))
//! and not by the library of that name, which only wraps them.
//!
//! Completions that are there already are taken from the ring that the kernel shares (the context is its address), without
//! a system call, as the library and fio's `userspace_reap` do; only when there are none does the kernel put us to sleep.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use strata_measure::{
    Buffers, Clock, Engine, FailCode, Fatal, Limits, Op, OpKind, Outcome, Refusal, Refused, Slot,
    Stuck, Tick, Wait,
};
use strata_record::Completes;
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::engine::{SHORT, code_of, explain};

/// The longest sleep in the kernel before the loop looks at its clock.
const SLEEP: Nanos = Nanos::from_millis(100);

/// `struct iocb` of linux/aio_abi.h, on a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// `struct aio_ring` of the kernel's fs/aio.c: what stands before the events in the shared ring.
#[repr(C)]
struct Ring {
    id: u32,
    entries: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compatible: u32,
    incompatible: u32,
    header_bytes: u32,
}

const _: () =
    assert!(size_of::<Iocb>() == 64 && size_of::<Event>() == 32 && size_of::<Ring>() == 32);

const READ: u16 = 0;
const WRITE: u16 = 1;
const MAGIC: u32 = 0xa10a_10a1;

/// An AIO context; destroyed when dropped, which waits for what is in flight.
struct Context(libc::c_ulong);

impl Context {
    fn new(depth: u32) -> Result<Context, String> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: `id` is zero, as the call wants it, and valid to write a context to.
        if unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut id) } == 0 {
            return Ok(Context(id));
        }
        let error = io::Error::last_os_error();
        let next = match error.raw_os_error() {
            Some(libc::EAGAIN) => {
                "fs.aio-max-nr is used up; `sysctl fs.aio-max-nr=1048576`, or another --engine"
            }
            Some(libc::ENOSYS) => {
                "this kernel has none, or a seccomp filter hides it; use another --engine"
            }
            _ => "use another --engine",
        };
        Err(format!(
            "cannot make an AIO context of {depth} entries: {error}; {next}"
        ))
    }

    /// The shared ring, where it is one that is understood.
    fn ring(&self) -> Option<NonNull<Ring>> {
        let ring = NonNull::new(self.0 as *mut Ring)?;
        // SAFETY: the context is the address of a ring that the kernel has mapped readable and writable until io_destroy
        // (fs/aio.c, `aio_setup_ring`); these three words do not change.
        let (magic, incompatible, header) = unsafe {
            let at = ring.as_ptr();
            (
                (&raw const (*at).magic).read_volatile(),
                (&raw const (*at).incompatible).read_volatile(),
                (&raw const (*at).header_bytes).read_volatile(),
            )
        };
        (magic == MAGIC && incompatible == 0 && header as usize == size_of::<Ring>())
            .then_some(ring)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context was made by io_setup and is destroyed once. An error would say that it is none, and changes
        // nothing.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

/// Whether this kernel lets this process make a context.
pub(crate) fn available() -> Result<(), String> {
    Context::new(1).map(drop)
}

/// The context, the file and the buffers of one thread.
pub(crate) struct Aio {
    /// Dropped by hand, as the buffers are: destroying it would wait for what never comes back.
    context: ManuallyDrop<Context>,
    ring: Option<NonNull<Ring>>,
    file: File,
    buffers: ManuallyDrop<Buffers>,
    align: Bytes,
    completes: Completes,
    blocks: Box<[Iocb]>,
    pending: Vec<*mut Iocb>,
    events: Box<[Event]>,
    held: Vec<Option<(Slot, Bytes)>>,
    in_flight: usize,
}

impl Aio {
    pub(crate) fn new(
        file: File,
        buffers: Buffers,
        depth: QueueDepth,
        align: Bytes,
        completes: Completes,
    ) -> Result<Aio, String> {
        let context = Context::new(u32::from(depth.get()))?;
        let depth = usize::from(depth.get());
        Ok(Aio {
            ring: context.ring(),
            context: ManuallyDrop::new(context),
            file,
            buffers: ManuallyDrop::new(buffers),
            align,
            completes,
            blocks: vec![Iocb::default(); depth].into_boxed_slice(),
            pending: Vec::with_capacity(depth),
            events: vec![Event::default(); depth].into_boxed_slice(),
            held: (0..depth).map(|_| None).collect(),
            in_flight: 0,
        })
    }

    /// Copies what has completed from the shared ring into `events`; how many.
    #[inline]
    fn take_shared(&mut self) -> usize {
        let Some(ring) = self.ring else { return 0 };
        let at = ring.as_ptr();
        // SAFETY: the ring is mapped as long as the context lives (`Context::ring`), head and tail are aligned words that
        // the kernel changes atomically; no reference to the rest of the ring is formed.
        let (head, tail, entries) = unsafe {
            (
                &(*at).head,
                &(*at).tail,
                (&raw const (*at).entries).read_volatile(),
            )
        };
        // Acquire: pairs with the kernel's smp_wmb before it moves the tail behind a written event (`aio_complete`).
        let end = tail.load(Ordering::Acquire);
        let mut next = head.load(Ordering::Relaxed);
        let mut n = 0;
        while next != end && next < entries && n < self.events.len() {
            // SAFETY: `next` is below the ring's number of entries, which follow its header; the kernel writes an event
            // before it moves the tail past it, and not again before the head has passed it.
            self.events[n] =
                unsafe { at.add(1).cast::<Event>().add(next as usize).read_volatile() };
            n += 1;
            next = if next + 1 == entries { 0 } else { next + 1 };
        }
        if n > 0 {
            // Release: the events have been read before the kernel may write over them.
            head.store(next, Ordering::Release);
        }
        n
    }

    /// Asks the kernel for what has completed, and sleeps until a completion or the end of `at_most`, which may be nothing;
    /// how many.
    fn take_by_call(&mut self, at_most: Nanos) -> Result<usize, Fatal> {
        const SECOND: u64 = 1_000_000_000;
        let mut time = libc::timespec {
            tv_sec: (at_most.0 / SECOND) as libc::time_t,
            tv_nsec: (at_most.0 % SECOND) as libc::c_long,
        };
        // SAFETY: `events` has room for as many as are asked for, and `time` is a valid timespec.
        let n = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context.0,
                libc::c_long::from(at_most > Nanos(0)),
                self.events.len() as libc::c_long,
                self.events.as_mut_ptr(),
                &raw mut time,
            )
        };
        match usize::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::Interrupted => Ok(0),
                    _ => Err(Fatal(format!("io_getevents failed: {error}; see dmesg"))),
                }
            }
        }
    }

    #[inline]
    fn take(&mut self, wait: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let n = match (self.take_shared(), wait) {
            (0, Wait::Block { at_most }) => self.take_by_call(at_most)?,
            // A ring that cannot be read is asked for.
            (0, Wait::Spin) if self.ring.is_none() => self.take_by_call(Nanos(0))?,
            (n, _) => n,
        };
        for event in &self.events[..n] {
            let index = usize::try_from(event.data).unwrap_or(usize::MAX);
            let Some((slot, len)) = self.held.get_mut(index).and_then(Option::take) else {
                return Err(Fatal(
                    "the kernel completed an operation that was not in flight".to_owned(),
                ));
            };
            let outcome = match event.result {
                moved if u64::try_from(moved) == Ok(len.0) => Outcome::Done(len),
                failed if failed < 0 => {
                    let code = i32::try_from(-failed).unwrap_or(libc::EIO);
                    Outcome::Failed(code_of(&io::Error::from_raw_os_error(code)))
                }
                _ => Outcome::Failed(SHORT),
            };
            self.in_flight -= 1;
            done(slot, outcome);
        }
        Ok(n)
    }
}

impl Engine for Aio {
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
        if op.len.as_usize() > buffer.len() {
            let why = Refusal::Fatal(Fatal(format!(
                "{} do not fit a buffer of {}",
                op.len,
                buffer.len()
            )));
            return Err(Refused { slot, op, why });
        }
        let index = slot.index();
        self.blocks[index] = Iocb {
            data: index as u64,
            opcode: if op.kind == OpKind::Write {
                WRITE
            } else {
                READ
            },
            fd: self.file.as_raw_fd() as u32,
            buffer: buffer.as_ptr() as u64,
            bytes: op.len.0,
            offset: op.at.0 as i64,
            ..Iocb::default()
        };
        self.pending.push(&raw mut self.blocks[index]);
        self.held[index] = Some((slot, op.len));
        Ok(())
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // SAFETY: each pending pointer is to a block of `self.blocks`, which does not move; the file stays open and the
        // buffers mapped until the operations have come back (`drop` keeps the buffers otherwise), and no operation is
        // longer than its buffer (checked in `post`).
        let sent = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context.0,
                self.pending.len() as libc::c_long,
                self.pending.as_mut_ptr(),
            )
        };
        match usize::try_from(sent) {
            Ok(n) => {
                self.in_flight += n;
                self.pending.drain(..n.min(self.pending.len()));
                Ok(())
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    // No resources now: what is pending goes with the next call.
                    Some(libc::EAGAIN | libc::EINTR) => Ok(()),
                    _ => Err(Fatal(format!(
                        "io_submit failed: {}",
                        explain(code_of(&error))
                    ))),
                }
            }
        }
    }

    #[inline]
    fn reap(&mut self, wait: Wait, done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        if self.in_flight == 0 {
            Ok(0)
        } else {
            self.take(wait, done)
        }
    }

    fn quiesce(&mut self, by: Tick) -> Result<(), Stuck> {
        // Most of the kernel's AIO cannot be cancelled (io_cancel(2)): waiting is all there is.
        let clock = Clock::get();
        while self.in_flight > 0 && clock.now() < by {
            if let Err(fatal) = self.take(Wait::Block { at_most: SLEEP }, |_, _| {}) {
                return Err(Stuck {
                    operations: self.in_flight,
                    why: fatal.0,
                });
            }
        }
        if self.in_flight > 0 {
            return Err(Stuck {
                operations: self.in_flight,
                why: "they were waited for".to_owned(),
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

impl Drop for Aio {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: neither is used again: this is `drop`, and it runs once.
            unsafe {
                ManuallyDrop::drop(&mut self.context);
                ManuallyDrop::drop(&mut self.buffers);
            }
        }
    }
}
