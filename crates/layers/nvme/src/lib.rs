//! NVMe queue pairs polled from user space: our own driver, from the PCI function up to the engine of the one loop.
//!
//! From below: a [`Carrier`] reaches a PCI function, wherever it is; a [`Function`] shares it and hands out memory that the
//! device sees; [`Rings`] are one submission and one completion queue in such memory; a [`Controller`] is brought up, asked,
//! reset, and gives each thread a [`QueuePair`] of its own; an [`NvmeJob`] drives them under the one loop, and a [`Blocking`] one
//! request at a time. [`binding`] takes drives from the kernel, and gives them back.

#![deny(unsafe_code)]

// What the tests here share with those outside names it.
#[cfg(test)]
extern crate self as strata_nvme;

mod admin;
pub mod binding;
mod blocking;
mod bring_up;
mod carrier;
mod controller;
#[allow(unsafe_code, reason = "doorbells are registers mapped into memory")]
mod doorbells;
mod ends;
mod engine;
mod error;
#[allow(
    unsafe_code,
    reason = "memory that a device may still write to is not dropped"
)]
mod function;
mod identity;
mod job;
mod life;
mod logs;
mod namespace;
mod native;
mod options;
mod pci;
mod queue_pair;
mod reality;
mod registers;
mod requests;
#[allow(
    unsafe_code,
    reason = "queues are memory that a device reads and writes"
)]
mod rings;
mod split;
mod target;
#[cfg(test)]
mod tests;
mod vfio;
#[allow(unsafe_code, reason = "hands on the mapped doorbells")]
mod vfio_user;

pub use blocking::{Blocking, LARGEST};
pub use carrier::{Carrier, CarrierError};
pub use controller::Controller;
pub use doorbells::{Bell, Doorbells};
pub use engine::NvmeEngine;
pub use error::NvmeError;
pub use function::{DmaError, Function, Mapped, Memory};
pub use identity::Identity;
pub use job::NvmeJob;
pub use namespace::{Namespace, NamespaceIdentity, Unusable};
pub use options::Options;
pub use queue_pair::{Aborted, QueuePair};
pub use reality::Stands;
pub use rings::{Completion, Layout, Rings, RingsError, Unbound};
pub use target::{NvmeTarget, TargetError, Wanted, Whose};
pub use vfio::{OddAnswer, Vfio, VfioError, group_holder};
pub use vfio_user::VfioUser;
