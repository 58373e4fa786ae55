//! Quantities and identities as types, parsed and printed one way everywhere.
//!
//! No bare `u64` crosses a crate's border: what is a time, a size, a place or a processor says so by its type. Each
//! type serialises as a plain number in its base unit (the unit stands in the key), is parsed from what users of fio and
//! perftest type (`4k`, `4KiB`, `10s`, `0-3,8`), and prints so that parsing gives it back.

#![forbid(unsafe_code)]

mod identity;
mod list;
mod quantity;
pub mod show;

pub use identity::{CpuId, Iova, NodeId, PciAddress};
pub use list::{CpuList, IdList, NodeList};
pub use quantity::{ByteOffset, Bytes, Nanos, QueueDepth};

/// Why a text is no quantity or identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: {why}")]
pub struct ParseError {
    what: &'static str,
    text: String,
    why: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, why: impl Into<String>) -> Self {
        Self {
            what,
            text: text.to_owned(),
            why: why.into(),
        }
    }
}
