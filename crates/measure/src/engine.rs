//! The seam between the loop and a layer: slots, operations, outcomes, and the `Engine` trait.

use strata_record::{Completes, PagesProof};
use strata_units::{ByteOffset, Bytes, Nanos};

use crate::{Buffer, Buffers, Tick};

/// The right to have one operation in flight, and the name of its buffer. Not `Copy`: `post` consumes it, `reap` hands it
/// back, so an operation can neither be lost nor completed twice without its engine noticing.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u16);

impl Slot {
    pub(crate) fn new(index: u16) -> Slot {
        Slot(index)
    }

    /// Its number, from 0 to depth − 1.
    #[inline(always)]
    pub fn index(&self) -> usize {
        usize::from(self.0)
    }
}

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    /// Target to buffer.
    Read,
    /// Buffer to target.
    Write,
    /// Buffer to the other side.
    Send,
    /// From the other side into the buffer.
    Receive,
    /// A request from the buffer and the reply into it.
    Exchange,
}

/// One operation, of any layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// Where on the target; 0 where the layer has no places.
    pub at: ByteOffset,
    /// How many bytes.
    pub len: Bytes,
}

/// A status that an operation ended with other than success; its engine can [`Engine::explain`] it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailCode(pub i32);

impl FailCode {
    /// A read whose sectors did not carry their numbers; found by the loop, and no status of any system, which are small.
    pub const MISMATCH: FailCode = FailCode(i32::MIN);
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It moved so many bytes.
    Done(Bytes),
    /// It failed.
    Failed(FailCode),
}

/// How `reap` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It looks once and returns.
    Spin,
    /// It may sleep until a completion arrives, a signal does, or so much time has passed.
    Block {
        /// The longest that it may sleep.
        at_most: Nanos,
    },
}

/// What breaks a trial: it cannot go on, and why, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// An operation that was not taken; slot and operation come back.
#[derive(Debug)]
pub struct Refused {
    /// The slot.
    pub slot: Slot,
    /// The operation.
    pub op: Op,
    /// Why.
    pub why: Refusal,
}

/// Why an operation was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// There is no room now; after the next completion there will be.
    Full,
    /// There will never be.
    Fatal(Fatal),
}

/// Operations that could not be brought back: their buffers must never be freed, since they may still be written to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{operations} operations never came back ({why}); their memory is kept until the process ends"
)]
pub struct Stuck {
    /// How many.
    pub operations: usize,
    /// What was tried.
    pub why: String,
}

/// What an engine can do, and what its completions mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most operations in flight; `psync` has 1.
    pub depth: u16,
    /// Offsets and lengths are multiples of this.
    pub align: Bytes,
    /// When an operation counts as complete.
    pub completes: Completes,
    /// Whether each completion comes when its operation ends, so that it has a latency. False for sends that are only
    /// accepted and for work requests without a completion of their own.
    pub has_latency: bool,
    /// How the loop should wait for it.
    pub wait: Wait,
}

/// One way to drive a layer. Built and dropped on the pinned thread that uses it.
///
/// The loop calls `post` for each free slot, `ring` once behind them, then `reap`. On these three nothing may allocate,
/// log, or read the clock.
pub trait Engine {
    /// What it can do.
    fn limits(&self) -> Limits;

    /// Waits until its first operation can begin, last thing before the gate: a receiver whose sender has not begun would
    /// measure the sender's set-up.
    ///
    /// # Errors
    /// [`Fatal`] when it never can.
    fn ready(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    /// Takes an operation into the current batch.
    ///
    /// # Errors
    /// [`Refused`] gives slot and operation back.
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused>;

    /// Sends the batch off: one doorbell, one system call. An engine that sleeps in `reap` may send it there, in the
    /// same call; one without a queue does its operation here.
    ///
    /// # Errors
    /// [`Fatal`] when the engine is of no more use.
    fn ring(&mut self) -> Result<(), Fatal>;

    /// Hands completed operations to `done` and returns how many there were; 0 is no error. Some may be left for the next
    /// call, and each is handed out once.
    ///
    /// # Errors
    /// [`Fatal`] when the engine is of no more use.
    fn reap(&mut self, wait: Wait, done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal>;

    /// Brings back what is still in flight: aborts, resets, waits until `by`.
    ///
    /// # Errors
    /// [`Stuck`] when something never came back. The engine then leaks its buffers when dropped.
    fn quiesce(&mut self, by: Tick) -> Result<(), Stuck>;

    /// The memory that its operations move; none where they move nothing.
    fn buffers(&self) -> Option<&Buffers>;

    /// A code that one of its operations failed with, in words, with the next step.
    fn explain(&self, code: FailCode) -> String;

    /// The buffer of a slot.
    fn buffer(&self, slot: &Slot) -> Buffer<'_> {
        self.buffers().map_or(Buffer::empty(), |all| all.of(slot))
    }

    /// Where the pages of its buffers are; what is in the error could not be found out.
    ///
    /// # Errors
    /// In words, why the kernel does not say.
    fn pages(&self) -> Result<Vec<PagesProof>, String> {
        self.buffers().map_or(Ok(Vec::new()), Buffers::pages)
    }

    /// What its memory was wished to be and is not.
    fn notes(&self) -> Vec<String> {
        self.buffers().map(Buffers::notes).unwrap_or_default()
    }
}
