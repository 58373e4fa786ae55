//! The one loop that measures every layer, and what it needs: clock, histogram, load, gate, the `Engine` trait.
//!
//! The loop owns the clock, the depth, the ramp, the window, the histogram and the stop; an [`Engine`] only takes
//! operations and hands back completions. It is generic over the engine, so that a system call and a doorbell write are
//! timed by the same instructions: that is what makes a ratio between layers fair. A [`Crew`] runs one loop a thread, each
//! pinned to its CPU, between a common start and stop, and brings the proof of where they were and
//! of what the host did meanwhile. A layer wraps its crews in a [`Job`], one dynamic call a trial, whose figure is held
//! against its bounds ([`hold_against`]). Where a trial has two sides, each has a crew, and [`two_sides`] makes one result of
//! what both found.

#![deny(unsafe_code)]

mod bounds;
#[allow(
    unsafe_code,
    reason = "raw volatile access to memory that a device or the kernel writes"
)]
mod buffers;
#[allow(
    unsafe_code,
    reason = "reads the time-stamp counter and the kernel's clock"
)]
mod clock;
mod content;
mod crew;
mod drive;
mod engine;
mod gate;
mod host_doubts;
mod job;
#[allow(unsafe_code, reason = "words of a mapped file")]
mod ledger;
mod load;
mod null;
pub mod payload;
mod proof;
pub mod storage;
mod stream;
mod tally;
mod times;
pub mod two_sides;

pub use bounds::{Nominal, NominalBound, hold_against};
pub use buffers::{Buffer, Buffers};
pub use clock::{Clock, Tick};
pub use crew::{Crew, CrewError, CrewRun, Member, doubts};
pub use drive::{Edge, Scratch, Step, drive};
pub use engine::{
    Engine, FailCode, Fatal, Limits, Op, OpKind, Outcome, Refusal, Refused, Slot, Stuck, Wait,
};
pub use gate::{Aborted, Gate};
pub use host_doubts::{DeviceWork, host_doubts};
pub use job::{Job, JobError, Trial, TrialResult};
pub use ledger::{Ledger, LedgerError, LedgerHead};
pub use load::{Load, LoadError, Offer, Window};
pub use null::NullEngine;
pub use proof::{contradictions, thread_proof};
pub use stream::{Pattern, Stream};
pub use tally::Tally;
