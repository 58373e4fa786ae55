//! The client's memory, by the addresses that it chose.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use strata_units::{Bytes, Iova};
use strata_vfio_user::{Dma, Mapping, Refusal};

use crate::piece::Piece;
use crate::sigbus::Watched;

/// A mapping of the client's memory, unmapped when the last queue that lies in it is gone.
#[derive(Debug)]
pub(crate) struct Shared {
    // Dropped first: what is unmapped is not watched any more.
    watched: Watched,
    mapping: Mapping,
}

#[derive(Debug)]
struct Span {
    start: u64,
    end: u64,
    base: NonNull<u8>,
    read: bool,
    write: bool,
    memory: Rc<Shared>,
}

impl Span {
    #[inline(always)]
    fn holds(&self, at: u64, len: u64) -> bool {
        at >= self.start && at < self.end && len <= self.end - at
    }
}

/// What a queue lies in: its first byte, and what keeps it mapped.
pub(crate) struct Place {
    pub(crate) start: NonNull<u8>,
    pub(crate) memory: Rc<Shared>,
}

/// All memory that the client mapped with a descriptor, in the order of its addresses.
#[derive(Debug, Default)]
pub(crate) struct Space {
    spans: Vec<Span>,
    last: Cell<usize>,
}

impl Space {
    /// Adds memory; the server has seen to it that it overlaps with none. What has no descriptor can be named and not be
    /// reached.
    pub(crate) fn add(&mut self, dma: &Dma) -> Result<(), Refusal> {
        let Some((file, _)) = &dma.file else {
            return Ok(());
        };
        let page = rustix::fs::fstat(file)
            .ok()
            .and_then(|stat| u64::try_from(stat.st_blksize).ok())
            .map_or(Bytes(4096), Bytes);
        let mapping = dma.map().map_err(|_| Refusal::Invalid)?;
        let base = NonNull::new(mapping.as_ptr()).ok_or(Refusal::Failed)?;
        let watched = Watched::new(base, mapping.len(), page).ok_or(Refusal::NoRoom)?;
        let start = dma.iova.0;
        let at = self.spans.partition_point(|span| span.start < start);
        let span = Span {
            start,
            end: start + dma.len.0,
            base,
            read: dma.read,
            write: dma.write,
            memory: Rc::new(Shared { watched, mapping }),
        };
        self.spans.insert(at, span);
        Ok(())
    }

    /// Takes away what was added with this address.
    pub(crate) fn remove(&mut self, iova: Iova) {
        self.spans.retain(|span| span.start != iova.0);
    }

    /// Whether a part of any is gone.
    pub(crate) fn is_torn(&self) -> bool {
        self.spans.iter().any(|span| span.memory.watched.is_torn())
    }

    #[inline]
    fn span(&self, at: u64, len: u64) -> Option<&Span> {
        if let Some(span) = self.spans.get(self.last.get())
            && span.holds(at, len)
        {
            return Some(span);
        }
        let index = self
            .spans
            .partition_point(|span| span.start <= at)
            .checked_sub(1)?;
        let span = self.spans.get(index).filter(|span| span.holds(at, len))?;
        self.last.set(index);
        Some(span)
    }

    /// The bytes from `at`, to be read; none unless all of them lie in one mapping that may be read.
    #[inline]
    pub(crate) fn readable(&self, at: Iova, len: Bytes) -> Option<Piece<'_>> {
        self.span(at.0, len.0)
            .filter(|span| span.read)
            .map(|span| Self::piece(span, at, len))
    }

    /// The bytes from `at`, to be written; none unless all of them lie in one mapping that may be written.
    #[inline]
    pub(crate) fn writable(&self, at: Iova, len: Bytes) -> Option<Piece<'_>> {
        self.span(at.0, len.0)
            .filter(|span| span.write)
            .map(|span| Self::piece(span, at, len))
    }

    #[inline]
    fn piece(span: &Span, at: Iova, len: Bytes) -> Piece<'_> {
        let offset = (at.0 - span.start) as usize;
        // SAFETY: `span` holds these bytes and is mapped while the table is borrowed; what is written was asked for by
        // `writable`, which only mappings for writing pass.
        unsafe { Piece::new(span.base.add(offset), len.as_usize()) }
    }

    /// An entry of a PRP list.
    #[inline]
    pub(crate) fn entry(&self, at: Iova) -> Option<u64> {
        self.readable(at, Bytes(8))?.load_u64()
    }

    /// Where a queue may lie: memory that may be read, and for completions written, all in one mapping.
    pub(crate) fn place(&self, at: Iova, len: Bytes, write: bool) -> Option<Place> {
        let span = self.span(at.0, len.0)?;
        if !(if write { span.write } else { span.read }) {
            return None;
        }
        let offset = usize::try_from(at.0 - span.start).ok()?;
        let start = NonNull::new(span.memory.mapping.as_ptr().wrapping_add(offset))?;
        let memory = Rc::clone(&span.memory);
        Some(Place { start, memory })
    }
}
