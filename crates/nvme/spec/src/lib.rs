//! The NVMe specification as types: registers, queue entries, commands, data structures, status codes, PRP lists.
//!
//! One room for all who speak NVMe: the driver writes what is declared here, the emulated controller reads it, the kernel's
//! passthrough carries it, health checks explain it. Nothing here touches memory of a device or of another process: wire
//! structures are plain bytes ([`zerocopy`]) that their owner copies in and out, registers are numbers with views, and lists
//! of physical pages are walked through a function that the caller gives.
//!
//! Clauses are those of the NVM Express Base Specification 2.1 ("Base"; 2.2 numbers them alike), the NVM Command Set
//! Specification 1.0 ("NVM") and the NVMe over PCIe Transport Specification 1.0 ("PCIe"). Numbers are meant as the
//! specification means them, and typed so that they cannot be misread: counts that the wire counts from 0 are counts here,
//! temperatures are kelvins, data units are thousands of 512 bytes.

#![forbid(unsafe_code)]

mod bits;
pub mod command;
pub mod emulated;
mod entry;
mod event;
pub mod feature;
pub mod identify;
pub mod log;
mod names;
pub mod prp;
pub mod registers;
mod status;
mod text;

pub use entry::{Cqe, Sqe};
pub use event::{AsyncEvent, EventConfig};
pub use names::{BlockCount, CommandId, Kelvin, Lba, NamespaceId, PageSize, QueueId, QueueSize};
pub use status::Status;
pub use text::{Text, padded};
