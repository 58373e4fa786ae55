//! What Identify answers (Base 5.1.13): data structures of 4096 bytes, to be filled in and read.
//!
//! Fields are those of the wire, in its units; methods say what they mean. A structure of zeroes is made by
//! [`zerocopy::FromZeros::new_zeroed`], one from bytes by [`zerocopy::FromBytes::read_from_bytes`].

mod controller;
mod lists;
mod namespace;

pub use controller::{IdentifyController, oncs};
pub use lists::{ActiveNamespaces, Descriptor, descriptors, write_descriptors};
pub use namespace::{Deallocated, IdentifyNamespace, LbaFormat};
