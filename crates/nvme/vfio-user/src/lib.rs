//! The vfio-user protocol, both ends: a PCI function in another process, over a UNIX stream socket.
//!
//! After QEMU's docs/interop/vfio-user, protocol 0.1. Registers are read and written by messages, memory is shared by passing
//! descriptors: the client's for DMA, the server's for parts of a BAR (doorbells). A [`Server`] serves one [`Device`] to one
//! [`Client`] at a time, from `cntrl` in a private folder; it does nothing by itself, so that an emulator can
//! [`Server::poll`] between its own polling. Neither side trusts the other: every length, count and descriptor has its limit,
//! messages are cut by their length so that a refused one leaves the stream in step, each reply is one write (SPDK's client
//! reads it with one), and every question of a client has its deadline.
//!
//! Left out: migration, dirty pages, descriptors for region I/O, the second socket for requests of the server. Memory
//! that a client maps without a descriptor can be named and not reached: its `DMA_READ` and `DMA_WRITE` are refused.

#![deny(unsafe_code)]

mod call;
mod client;
mod device;
mod dma;
mod error;
mod folder;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod link;

#[allow(
    unsafe_code,
    reason = "volatile access to memory that another process writes"
)]
mod mapping;
mod reply;
mod server;
mod session;
mod version;
mod wire;

pub use client::Client;
pub use device::{Area, Device, Dma, Region, Share};
pub use error::{Asked, ClientError, Left, MapError, Refusal, ServerError};
pub use mapping::Mapping;
pub use reply::DeviceInfo;
pub use server::{Polled, Server};

/// Regions of a PCI function by their number (`<linux/vfio.h>`, `VFIO_PCI_*_REGION_INDEX`): 0 to 5 are the BARs.
pub mod region {
    /// The first BAR; an NVMe controller's registers and doorbells.
    pub const BAR0: u32 = 0;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// How many a PCI function has: 6 BARs, expansion ROM, configuration space, VGA.
    pub const COUNT: usize = 9;
}
