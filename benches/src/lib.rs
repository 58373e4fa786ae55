//! What the harness itself costs: the one loop against the engine that does nothing, and against
//! a ring whose operations do nothing.
//!
//! `cargo bench` gives nanoseconds an operation; `scripts/instructions` runs the `instructions` binary under callgrind and
//! gives instructions an operation, which do not depend on how busy the machine is.

#![forbid(unsafe_code)]

pub mod bare;
pub mod emulated;

use strata_measure::{
    self as measure, Buffers, Clock, Engine, FailCode, Fatal, Limits, Load, NullEngine,
    Outcome as Done, Refused, Scratch, Slot, Step, Stream, Stuck, Tally, Tick, Wait, Window, drive,
};
use strata_memory::{Huge, Lock, Want};
use strata_nvme::NvmeTarget;
use strata_record::{Op, TimedBy};
use strata_units::{Bytes, Nanos, QueueDepth};

use emulated::{ALL, BLOCK, Outcome};
use rustix::thread::nanosleep;
use rustix::time::Timespec;

/// How late.
const SLEEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000,
};

/// Exactly `ops` random 4 KiB reads of a 256 MiB target that does nothing, at depth 32, each timed.
pub fn harness(timed_by: TimedBy, ops: u64) -> Tally {
    let depth = QueueDepth::new(32).unwrap_or(QueueDepth::ONE);
    of(&mut NullEngine::new(depth), depth, timed_by, ops)
}

/// Exactly `ops` operations that do nothing through io_uring (IORING_OP_NOP) at `depth`, each timed.
///
/// # Errors
/// In words, when the kernel gives no ring.
pub fn nops(depth: QueueDepth, ops: u64) -> Result<Tally, String> {
    let mut engine = strata_block::nothing(depth)?;
    Ok(of(&mut engine, depth, TimedBy::Operation, ops))
}

/// An engine whose operations are looked for only when they have had time to complete, so that hardly a poll finds nothing.
struct Late<E>(E);

impl<E: Engine> Engine for Late<E> {
    fn limits(&self) -> Limits {
        self.0.limits()
    }

    #[inline(always)]
    fn post(&mut self, slot: Slot, op: measure::Op) -> Result<(), Refused> {
        self.0.post(slot, op)
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        self.0.ring()?;
        // By few instructions, since they are counted with the driver's.
        let _ = nanosleep(&SLEEP);
        Ok(())
    }

    #[inline(always)]
    fn reap(&mut self, wait: Wait, done: impl FnMut(Slot, Done)) -> Result<usize, Fatal> {
        self.0.reap(wait, done)
    }

    fn quiesce(&mut self, by: Tick) -> Result<(), Stuck> {
        self.0.quiesce(by)
    }

    fn buffers(&self) -> Option<&Buffers> {
        self.0.buffers()
    }

    fn explain(&self, code: FailCode) -> String {
        self.0.explain(code)
    }
}

/// Exactly `ops` random 4 KiB reads through our NVMe driver at depth 32, each timed, and looked for late: what is counted of
/// it is the driver's work and hardly its waiting.
///
/// # Errors
/// No queue or memory for it, or it breaks.
pub fn native(target: &NvmeTarget, ops: u64) -> Outcome<Tally> {
    let depth = QueueDepth::new(32)?;
    let want = Want {
        bytes: Bytes(0),
        node: None,
        huge: Huge::Never,
        lock: Lock::Never,
    };
    let buffers = Buffers::shared(depth, BLOCK, want)?;
    let mut engine = Late(target.engine(buffers, depth, None, Nanos::SECOND * 60, false)?);
    let tally = of(&mut engine, depth, TimedBy::Operation, ops);
    match tally.broken() {
        None => Ok(tally),
        Some(why) => Err(why.into()),
    }
}

fn of<E: Engine>(engine: &mut E, depth: QueueDepth, timed_by: TimedBy, ops: u64) -> Tally {
    let load = Load {
        depth,
        offer: None,
        ramp: Nanos(0),
        window: Window::Ops(ops),
        timed_by,
        patience: Load::PATIENCE,
    };
    let mut stream = Stream::new(Op::RandRead, Bytes(4096), ALL.0 / BLOCK.0, 1);
    let clock = Clock::get();
    let scratch = Scratch::new(&load, &mut stream);
    drive(
        engine,
        &mut stream,
        &load,
        clock,
        scratch,
        clock.now(),
        &mut |_| Step::Go,
    )
}
