//! x
#![deny(unsafe_code)]
mod signatures;
pub use signatures::{Ends, FIRST, Kind, LAST, Signature, signatures};
