//! Physical Region Pages: how a command points to its data, page by page (Base 4.3.1).
//!
//! PRP 1 points anywhere dword aligned in a page; each further entry is a whole page. Two pages fit a command; of more, the
//! second entry is the address of a list (qword aligned), whose last entry in a page, where more than one page of data is
//! left, is the address of the list's next page (page aligned). [`Span`] lays this out for a driver, [`walk`] follows it for
//! a controller.

mod span;
mod walk;

pub use span::{PrpError, Span, contiguous};
pub use walk::{PrpFault, Walk, walk};

use crate::Iova;

/// Bytes of an entry of a PRP list.
pub const ENTRY: u64 = 8;

/// The data pointer of a command: its two PRP entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pointers {
    /// PRP entry 1: the first byte.
    pub prp1: Iova,
    /// PRP entry 2: nothing, the second page, or the list.
    pub prp2: Iova,
}
