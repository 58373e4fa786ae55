//! Node-bound, locked, huge regions of memory for I/O.
//!
//! A [`Region`] is what a layer's buffers are cut from: zeroed pages that are there before the clock starts (no fault
//! falls into a measured window), on the node that the placement names (`mbind(2)`, strict, before the first touch), of
//! 2 MiB where asked and free, and locked so that none is swapped or given back. A shared one ([`Region::shared`]) can be
//! mapped by another process too, where that plays the device; a lent one ([`Region::lent`]) is of an allocator that has its own
//! way with devices. Where the pages really lie is asked of
//! the kernel afterwards ([`Region::pages_by_node`]), never believed. What was only preferred and could not be had
//! stands in [`Region::notes`]; what was required and could not be had is an error with its next step. Memory that is
//! another's, and that this one may take away while it is mapped, is watched by [`sigbus`].

#![deny(unsafe_code)]

mod error;
mod host;
#[allow(unsafe_code)]
mod mapping;
mod region;
#[allow(
    unsafe_code,
    reason = "a signal handler, and what it maps in the place of what is gone"
)]
pub mod sigbus;

pub use error::MemoryError;
pub use host::{may_lock_any, memlock_limit, memory_available};
pub use mapping::Lent;
pub use region::{Huge, Lock, Region, Want};
