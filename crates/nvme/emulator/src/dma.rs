//! The client's memory, by the addresses that it chose.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use strata_memory::sigbus::{Of, Watched};
use strata_units::{Bytes, Iova};
use strata_vfio_user::{Dma, Mapping, Refusal};

use crate::piece::Piece;

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
        let watched = Watched::new(Of::Client, base, mapping.len(), page).ok_or(Refusal::NoRoom)?;
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

    /// Gives up memory of which a part is gone, until the client maps it anew; whether there was any.
    pub(crate) fn give_up(&mut self) -> bool {
        let mut any = false;
        for span in &mut self.spans {
            if (span.read || span.write) && span.memory.watched.is_torn() {
                (span.read, span.write) = (false, false);
                any = true;
            }
        }
        any
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

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use strata_units::ByteOffset;

    use super::*;

    fn dma(iova: u64, len: u64, read: bool, write: bool) -> Dma {
        let file = memfd_create("client", MemfdFlags::CLOEXEC).expect("a memory object");
        ftruncate(&file, len).expect("a length");
        Dma {
            iova: Iova(iova),
            len: Bytes(len),
            read,
            write,
            file: Some((file, ByteOffset(0))),
        }
    }

    #[test]
    fn only_what_lies_in_one_mapping_is_found() {
        let mut space = Space::default();
        for it in [
            dma(0x9000, 0x2000, true, true),
            dma(0x1000, 0x2000, true, true),
            // It goes on where the one before ends, in another file.
            dma(0x3000, 0x1000, true, true),
        ] {
            space.add(&it).expect("mapped");
        }
        for (at, len, found) in [
            (0x1000, 0x2000, true),
            (0x1000, 0x2001, false),
            (0x2ff8, 8, true),
            (0x2ffc, 8, false),
            (0x2fff, u64::MAX, false),
            (0x3000, 0x1000, true),
            (0x3000, 0x1001, false),
            (0x0fff, 2, false),
            (0x4000, 1, false),
            (0xaffc, 4, true),
            (0xb000, 1, false),
            (u64::MAX, 1, false),
            (0, u64::MAX, false),
        ] {
            let at = Iova(at);
            assert_eq!(
                space.readable(at, Bytes(len)).is_some(),
                found,
                "{at} {len:#x}"
            );
            assert_eq!(
                space.writable(at, Bytes(len)).is_some(),
                found,
                "{at} {len:#x}"
            );
            assert_eq!(
                space.place(at, Bytes(len), true).is_some(),
                found,
                "{at} {len:#x}"
            );
        }
        space
            .writable(Iova(0x2ff8), Bytes(8))
            .expect("found")
            .store(&[7; 8]);
        assert_eq!(space.entry(Iova(0x2ff8)), Some(0x0707_0707_0707_0707));
        assert_eq!(space.entry(Iova(0x3000)), Some(0));
        space.remove(Iova(0x1000));
        assert_eq!(space.entry(Iova(0x2ff8)), None);
        assert_eq!(space.entry(Iova(0x3000)), Some(0));
    }

    #[test]
    fn memory_is_used_as_it_was_given() {
        let mut space = Space::default();
        space
            .add(&dma(0x1000, 0x1000, true, false))
            .expect("mapped");
        space
            .add(&dma(0x2000, 0x1000, false, true))
            .expect("mapped");
        let mut nameless = dma(0x3000, 0x1000, true, true);
        nameless.file = None;
        space.add(&nameless).expect("named");
        let four = Bytes(4);
        let can = |at| {
            let at = Iova(at);
            let readable = space.readable(at, four).is_some();
            assert_eq!(space.place(at, four, false).is_some(), readable);
            (readable, space.writable(at, four).is_some())
        };
        assert_eq!(can(0x1000), (true, false));
        assert_eq!(can(0x2000), (false, true));
        assert_eq!(can(0x3000), (false, false));
        // A descriptor whose memory ends before.
        let mut short = dma(0x4000, 0x1000, true, true);
        short.len = Bytes(0x2000);
        assert_eq!(space.add(&short), Err(Refusal::Invalid));
    }
}
