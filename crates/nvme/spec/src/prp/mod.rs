//! Physical Region Pages: how a command points to its data, page by page (Base 4.3.1).
//!
//! PRP 1 points anywhere dword aligned in a page; each further entry is a whole page. Two pages fit a command; of more, the
//! second entry is the address of a list (qword aligned), whose last entry in a page, where more than one page of data is
//! left, is the address of the list's next page (page aligned). [`Span`] lays this out for a driver, [`walk`] follows it for
//! a controller.
//!
//! ```
//! use std::collections::HashMap;
//! use strata_nvme_spec::prp::{contiguous, walk};
//! use strata_nvme_spec::PageSize;
//! use strata_units::{Bytes, Iova};
//!
//! // The driver: 12 KiB from 0x10200 on touch four pages, so that PRP 2 is a list.
//! let mut list = HashMap::new();
//! let data = contiguous(
//!     PageSize::FOUR_KIB,
//!     Iova(0x10200),
//!     Bytes(12 << 10),
//!     |_page| Iova(0x8000),
//!     |_page, entry, value| {
//!         list.insert(0x8000 + 8 * entry, value.0);
//!     },
//! )?;
//! assert_eq!((data.prp1, data.prp2), (Iova(0x10200), Iova(0x8000)));
//!
//! // The controller: the same bytes, piece by piece.
//! let read = |at: Iova| list.get(&at.0).copied();
//! let pieces: Result<Vec<_>, _> = walk(PageSize::FOUR_KIB, data, Bytes(12 << 10), read).collect();
//! let lengths: Vec<u64> = pieces?.iter().map(|(_at, len)| len.0).collect();
//! assert_eq!(lengths, [0xe00, 0x1000, 0x1000, 0x200]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod span;
mod walk;

pub use span::{PrpError, Span, contiguous};
pub use walk::{PrpFault, Walk, walk};

use strata_units::Iova;

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
