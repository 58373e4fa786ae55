//! The emulated NVMe controller, so that polled NVMe can be measured, and a driver tried, where no drive is to spare.
//!
//! [`serve`] is a PCI function with a controller of NVMe 1.4 behind a vfio-user socket, in a process of its own: registers are
//! read and written by messages, doorbells are memory that the client maps, and queues and data lie in memory that the client
//! gives and that is polled and copied from this side. What it is says [`Config`]; how fast it is and what goes wrong with it
//! says [`model`].
//!
//! A client is believed nothing: queues and data must lie in what it mapped, doorbells and commands must make sense, and
//! memory that it takes away while it is used (or makes shorter behind our back) costs it its controller (CSTS.CFS) and
//! nobody else anything.

#![deny(unsafe_code)]

mod admin;
mod clock;
mod config;
mod config_space;
mod controller;
mod device;
#[allow(unsafe_code, reason = "addresses in the client's memory")]
mod dma;
mod engine;
mod error;
mod events;
mod health;
mod io;
mod later;
#[allow(unsafe_code, reason = "addresses in a namespace's memory")]
mod media;
pub mod model;
mod namespace;
#[allow(unsafe_code, reason = "raw copies of memory that others write")]
mod piece;
mod queues;
mod registers;
#[allow(unsafe_code, reason = "volatile access to queues and doorbells")]
mod ring;
mod serve;
mod watch;

pub use config::{Config, Memory, NamespaceConfig, Transfer};
pub use error::{ConfigError, EmulatorError};
pub use serve::{serve, serve_then};
