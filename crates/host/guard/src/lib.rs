//! What stands between a write and somebody's data.
//!
//! Nothing of a target is written unless this room gave a [`Permit`] for it. [`guard`] opens the block device exclusively,
//! looks for everything that forbids a write — [`uses`]: mounts, partitions, holders, swap, exports, reservations, open
//! descriptors, live paths — reads the target's first and last bytes for [`signatures`], compares the identity that the user
//! typed ([`Identity`]), and gathers all refusals, not only the first. [`inspect`] makes the same checks of a device that is not
//! written but taken from the kernel. A drive without a block device (vfio-pci) has no uses that the kernel knows; its bytes go
//! through the same [`signatures`], its reservations through [`reservations::report`]. What could not be asked is told
//! ([`Unasked`]), never passed over.

#![deny(unsafe_code)]

mod content;
mod device;
mod ends;
mod identity;
mod inspect;
mod ioctl;
mod permit;
mod refusal;
pub mod reservations;
mod signatures;
mod tree;
mod uses;

pub use device::{Device, DeviceError, DeviceNumber};
pub use identity::{Identity, Mismatch, Tell};
pub use inspect::{Inspection, inspect};
pub use permit::{GuardError, Permit, Refused, guard};
pub use refusal::{Exporter, Refusal, Unasked};
pub use signatures::{Ends, FIRST, Kind, LAST, Signature, signatures};
pub use uses::{Uses, uses};
