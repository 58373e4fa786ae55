//! Laying out PRP entries for a buffer.

use super::{ENTRY, Pointers};
use crate::PageSize;
use strata_units::{Bytes, Iova};

/// Why a buffer cannot be pointed to by PRP entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrpError {
    /// No bytes.
    #[error(
        "a transfer of no bytes has nothing to point to; leave out the data pointer of a command without data"
    )]
    Empty,
    /// It starts off a dword.
    #[error(
        "the transfer starts at byte {at:#x}, and PRP entry 1 must be dword aligned; align the buffer to 4 bytes or more"
    )]
    NotDword {
        /// Where it starts: its address, or its offset in the buffer.
        at: u64,
    },
    /// It ends above the last address.
    #[error(
        "{len} from {at:#x} end above the last address of 64 bits; give the buffer's own length"
    )]
    TooLong {
        /// Where it starts: its address, or its offset in the buffer.
        at: u64,
        /// Its length.
        len: Bytes,
    },
    /// A page of the buffer does not start at a page's start.
    #[error(
        "page {index} of the buffer is at {found}, which is no multiple of the memory page of {page}; map the buffer by whole pages"
    )]
    BufferPage {
        /// Which.
        index: u64,
        /// Where it is.
        found: Iova,
        /// The memory page.
        page: PageSize,
    },
    /// The list starts off a qword.
    #[error("the PRP list is at {found}, and must be qword aligned; align it to 8 bytes or more")]
    ListStart {
        /// Where it is.
        found: Iova,
    },
    /// A further page of the list does not start at a page's start.
    #[error(
        "page {index} of the PRP list is at {found}, which is no multiple of the memory page of {page}; map the list by whole pages"
    )]
    ListPage {
        /// Which.
        index: u64,
        /// Where it is.
        found: Iova,
        /// The memory page.
        page: PageSize,
    },
}

/// The bytes of a transfer within a buffer that is known by its memory pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    page: PageSize,
    /// Of the first byte, in the buffer.
    offset: u64,
    len: u64,
}

impl Span {
    /// `len` bytes from `offset` on, in a buffer whose memory pages are of size `page` (CC.MPS).
    ///
    /// # Errors
    /// No bytes, a start that is not dword aligned, an end above 64 bits.
    #[inline]
    pub fn new(page: PageSize, offset: Bytes, len: Bytes) -> Result<Span, PrpError> {
        if len.0 == 0 {
            return Err(PrpError::Empty);
        }
        if !offset.0.is_multiple_of(4) {
            return Err(PrpError::NotDword { at: offset.0 });
        }
        if offset.0.checked_add(len.0 - 1).is_none() {
            return Err(PrpError::TooLong { at: offset.0, len });
        }
        Ok(Span {
            page,
            offset: offset.0,
            len: len.0,
        })
    }

    /// The buffer's page that holds its first byte.
    #[inline]
    fn first(self) -> u64 {
        self.offset >> self.page.shift()
    }

    /// The memory pages that it touches; at least 1.
    #[inline]
    pub fn pages(self) -> u64 {
        let last = (self.offset + (self.len - 1)) >> self.page.shift();
        last - self.first() + 1
    }

    /// The pages of PRP list that it needs, when the list starts `from` bytes into a memory page; 0 for up to two pages.
    pub fn list_pages(self, from: Bytes) -> u64 {
        let entries = self.pages() - 1;
        if entries < 2 {
            return 0;
        }
        let size = self.page.bytes().0;
        let room = (size - from.0 % size) / ENTRY;
        if entries <= room {
            return 1;
        }
        // Each page but the last gives one entry up to the next page's address: L more pages hold L × (n − 1) + 1.
        let beyond = entries - (room - 1);
        1 + (beyond - 1).div_ceil(size / ENTRY - 1)
    }

    /// Points to it: gives what goes into the command, and gives `put` what goes into the list.
    ///
    /// `buffer(n)` is where memory page n of the buffer is, `list(n)` page n of the list: the first may start anywhere qword
    /// aligned and fills its memory page from there. `put(n, entry, value)` stores an entry, counted from where `list(n)`
    /// starts, as 8 bytes of little-endian order. Neither `list` nor `put` is called for up to two pages.
    ///
    /// # Errors
    /// A page of the buffer or of the list is not aligned. Entries may have been put by then.
    #[inline]
    pub fn point(
        self,
        buffer: impl Fn(u64) -> Iova,
        list: impl Fn(u64) -> Iova,
        mut put: impl FnMut(u64, u64, Iova),
    ) -> Result<Pointers, PrpError> {
        let size = self.page.bytes().0;
        let (first, pages) = (self.first(), self.pages());
        let page_at = |index: u64| {
            let found = buffer(index);
            if found.0.is_multiple_of(size) {
                Ok(found)
            } else {
                Err(PrpError::BufferPage {
                    index,
                    found,
                    page: self.page,
                })
            }
        };
        let prp1 = Iova(page_at(first)?.0 | self.offset & (size - 1));
        let prp2 = match pages {
            1 => Iova(0),
            2 => page_at(first + 1)?,
            _ => {
                let start = list(0);
                if !start.0.is_multiple_of(ENTRY) {
                    return Err(PrpError::ListStart { found: start });
                }
                let mut room = (size - start.0 % size) / ENTRY;
                let (mut at, mut entry) = (0, 0);
                for index in 1..pages {
                    if entry == room - 1 && index + 1 < pages {
                        let next = list(at + 1);
                        if !next.0.is_multiple_of(size) {
                            return Err(PrpError::ListPage {
                                index: at + 1,
                                found: next,
                                page: self.page,
                            });
                        }
                        put(at, entry, next);
                        (at, entry, room) = (at + 1, 0, size / ENTRY);
                    }
                    put(at, entry, page_at(first + index)?);
                    entry += 1;
                }
                start
            }
        };
        Ok(Pointers { prp1, prp2 })
    }
}

/// Points to `len` bytes from `start` on that lie one behind the other as the device sees them; else as [`Span::point`].
///
/// # Errors
/// As [`Span::new`] and [`Span::point`].
#[inline]
pub fn contiguous(
    page: PageSize,
    start: Iova,
    len: Bytes,
    list: impl Fn(u64) -> Iova,
    put: impl FnMut(u64, u64, Iova),
) -> Result<Pointers, PrpError> {
    // The "buffer" is all that the device sees, so that its pages are known by their numbers.
    let span = Span::new(page, Bytes(start.0), len)?;
    span.point(|index| Iova(index << page.shift()), list, put)
}
