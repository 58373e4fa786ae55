//! Following PRP entries to the data.

use super::{ENTRY, Pointers};
use crate::{PageSize, Status};
use strata_units::{Bytes, Iova};

/// What is wrong with a command's PRP entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrpFault {
    /// An entry has an offset that it must not have.
    #[error(
        "a PRP entry is {found}, and must be a multiple of {expected}; the host's PRP list is wrong"
    )]
    Offset {
        /// The entry.
        found: Iova,
        /// What it must be a multiple of.
        expected: Bytes,
    },
    /// A list cannot be read.
    #[error(
        "the entry of a PRP list at {at} cannot be read; the host points to what it has not mapped"
    )]
    Unreadable {
        /// Where the entry is.
        at: Iova,
    },
}

impl PrpFault {
    /// What a controller answers (Base 4.3.1; Base 9.3 on memory errors).
    pub fn status(self) -> Status {
        match self {
            PrpFault::Offset { .. } => Status::PRP_OFFSET_INVALID.do_not_retry(),
            PrpFault::Unreadable { .. } => Status::DATA_TRANSFER_ERROR.do_not_retry(),
        }
    }
}

/// Where the next piece is found.
#[derive(Debug, Clone, Copy)]
enum Next {
    First(Pointers),
    /// The command's second entry is a page.
    Second(Iova),
    /// The command's second entry is a list.
    List(Iova),
    /// An entry of the list.
    Entry(Iova),
}

/// The pieces of a command's data: each an address and a length within one memory page, which the caller still has to find
/// in what the host mapped. Ends after the last or after a fault; made by [`walk`].
#[derive(Debug)]
pub struct Walk<R> {
    page: PageSize,
    left: u64,
    next: Next,
    read: R,
}

/// The pieces of `len` bytes that `data` points to, by memory pages of size `page` (CC.MPS). `read` gives the 8 bytes at an
/// address as a little-endian number; `None` where the host mapped nothing.
///
/// Whatever the host wrote, the walk ends: each page of a list yields data, so that a list in a circle yields `len` bytes too.
#[inline]
pub fn walk<R: FnMut(Iova) -> Option<u64>>(
    page: PageSize,
    data: Pointers,
    len: Bytes,
    read: R,
) -> Walk<R> {
    Walk {
        page,
        left: len.0,
        next: Next::First(data),
        read,
    }
}

impl<R: FnMut(Iova) -> Option<u64>> Walk<R> {
    #[inline]
    fn aligned(found: Iova, expected: u64) -> Result<Iova, PrpFault> {
        if found.0.is_multiple_of(expected) {
            Ok(found)
        } else {
            Err(PrpFault::Offset {
                found,
                expected: Bytes(expected),
            })
        }
    }

    /// The entry at `at`, which must be a page's start.
    #[inline]
    fn entry(&mut self, at: Iova) -> Result<Iova, PrpFault> {
        let entry = (self.read)(at).ok_or(PrpFault::Unreadable { at })?;
        Self::aligned(Iova(entry), self.page.bytes().0)
    }

    #[inline]
    fn piece(&mut self) -> Result<(Iova, Bytes), PrpFault> {
        let size = self.page.bytes().0;
        let (start, room) = match self.next {
            Next::First(data) => {
                let start = Self::aligned(data.prp1, 4)?;
                let room = size - start.0 % size;
                let beyond = self.left.saturating_sub(room);
                self.next = if beyond > size {
                    Next::List(data.prp2)
                } else {
                    Next::Second(data.prp2)
                };
                (start, room)
            }
            Next::Second(start) => (Self::aligned(start, size)?, size),
            Next::List(at) => self.listed(Self::aligned(at, ENTRY)?)?,
            Next::Entry(at) => self.listed(at)?,
        };
        let len = self.left.min(room);
        self.left -= len;
        Ok((start, Bytes(len)))
    }

    /// The page whose entry is at `at`, or behind the address of the list's next page that is there.
    #[inline]
    fn listed(&mut self, at: Iova) -> Result<(Iova, u64), PrpFault> {
        let size = self.page.bytes().0;
        let last = (at.0 % size) == size - ENTRY;
        let at = if last && self.left > size {
            self.entry(at)?
        } else {
            at
        };
        let start = self.entry(at)?;
        self.next = Next::Entry(Iova(at.0.wrapping_add(ENTRY)));
        Ok((start, size))
    }
}

impl<R: FnMut(Iova) -> Option<u64>> Iterator for Walk<R> {
    type Item = Result<(Iova, Bytes), PrpFault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let piece = self.piece();
        if piece.is_err() {
            self.left = 0;
        }
        Some(piece)
    }
}
