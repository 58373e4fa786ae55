//! Plans become rounds, rounds become trials, and each trial's record is on the disk before the next begins.
//!
//! A round holds every cell once, in an order drawn from the plan's seed; it is the replicate of the statistics. A failed
//! trial, or one whose proof contradicts its placement, voids its round, which is repeated once at the end (unless more
//! than a fifth of them are void: then nothing can be told anyway). A run that was stopped, by Ctrl-C or by a loss of
//! power, goes on where it was: the plan and its order are frozen in `run.json`.

#![forbid(unsafe_code)]

mod order;
pub mod plan;
mod run;
mod store;

pub use order::{Turn, estimate, turns};
pub use run::{Ended, Observer, Progress, execute};
pub use store::{Claim, Store, StoreError};
