//! NVMe queue pairs polled from user space: our own driver, from the PCI function up to the engine of the one loop.
//!
//! From below: a [`Carrier`] reaches a PCI function, wherever it is; a [`Function`] shares it and hands out memory that the
//! device sees; [`Rings`] are one submission and one completion queue in such memory.

#![deny(unsafe_code)]

mod carrier;
#[allow(unsafe_code, reason = "doorbells are registers mapped into memory")]
mod doorbells;
#[allow(
    unsafe_code,
    reason = "memory that a device may still write to is not dropped"
)]
mod function;
#[allow(
    unsafe_code,
    reason = "queues are memory that a device reads and writes"
)]
mod rings;
#[allow(unsafe_code, reason = "hands on the mapped doorbells")]
mod vfio_user;

pub use carrier::{Carrier, CarrierError};
pub use doorbells::{Bell, Doorbells};
pub use function::{DmaError, Function, Mapped, Memory};
pub use rings::{Completion, Layout, Rings, RingsError, Unbound};
pub use vfio_user::VfioUser;
