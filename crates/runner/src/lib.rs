//! Plans become rounds, rounds become trials, and each trial's record is on the disk before the next begins.
//!
//! A round holds every cell once, in an order drawn from the plan's seed; it is the replicate of the statistics. Where
//! drives change their driver the round is a split plot: the cells of one driver stand together, each driver is bound once a
//! round, and the order of the drivers is drawn as that of the cells is ([`Switch`]). A failed trial, or one whose proof
//! contradicts its placement, voids its round, which is repeated once at the end (unless more than a fifth of them are void:
//! then nothing can be told anyway). A run that was stopped, by Ctrl-C or by a loss of power, goes on where it was: the plan
//! and its order are frozen in `run.json`.

#![forbid(unsafe_code)]

mod order;
pub mod plan;
mod run;
mod store;
mod switch;

pub use order::{Turn, estimate, switches, turns};
pub use run::{Ended, Observer, Progress, execute};
pub use store::{Claim, Store, StoreError};
pub use switch::{AsItIs, Switch};
