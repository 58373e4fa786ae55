//! The emulated NVMe controller, so that polled NVMe can be measured, and a driver tried, where no drive is to spare.
//!
//! [`model`] says when each command completes and what goes wrong with it.

#![forbid(unsafe_code)]

pub mod model;
