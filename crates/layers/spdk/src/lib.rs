//! NVMe queue pairs through the SPDK of the node, by a plugin that is linked against it (`make spdk-plugin`) and loaded when it
//! is asked for: one program serves nodes with and without SPDK.
//!
//! From below: a [`Plugin`] is found, loaded and held against this version of strata; [`Spdk`] is its environment, started once
//! a process; a [`Controller`] is attached to by a [`Transport`]; [`Memory`] is what its devices see; a [`QueuePair`] takes
//! requests and gives completions, both in batches; an [`SpdkEngine`] is one of these under the one loop. What SPDK and DPDK say when something fails is told with its cause and
//! what to do ([`Trouble`]).

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "objects of a C library")]
mod controller;
#[allow(unsafe_code, reason = "buffers are told to SPDK by their addresses")]
mod engine;
mod environment;
mod error;
#[allow(unsafe_code, reason = "memory of another allocator's")]
mod memory;
#[allow(unsafe_code, reason = "a shared object, and what it exports")]
mod plugin;
#[allow(unsafe_code, reason = "objects of a C library")]
mod queue_pair;
#[allow(unsafe_code, reason = "functions of a C library")]
mod spdk;
mod transport;
mod trouble;

pub use controller::Controller;
pub use engine::{Part, SpdkEngine};
pub use environment::{Environment, Pages};
pub use error::SpdkError;
pub use memory::Memory;
pub use plugin::{NAME, Plugin, PluginError};
pub use queue_pair::{Completion, Doing, Post, QueuePair, Queues};
pub use spdk::Spdk;
pub use transport::{Transport, TransportError};
pub use trouble::Trouble;
