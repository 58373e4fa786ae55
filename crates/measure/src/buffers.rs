//! The buffers of an engine's slots, in one region; only raw volatile access, since others write to them.

use std::marker::PhantomData;
use std::ptr::NonNull;

use strata_memory::{MemoryError, Region, Want};
use strata_record::PagesProof;
use strata_units::{Bytes, QueueDepth};

use crate::Slot;

/// One buffer a slot, each aligned to a page, in one region of memory.
pub struct Buffers {
    region: Region,
    stride: usize,
    len: Bytes,
    slots: usize,
}

impl Buffers {
    /// `depth` buffers of `len` bytes; `want` says where and how (its size is set here).
    ///
    /// # Errors
    /// Those of [`Region::new`].
    pub fn new(depth: QueueDepth, len: Bytes, want: Want) -> Result<Buffers, MemoryError> {
        Buffers::in_region(depth, len, want, Region::new)
    }

    /// The same in a [shared](Region::shared) region, which a device in another process sees.
    ///
    /// # Errors
    /// Those of [`Region::shared`].
    pub fn shared(depth: QueueDepth, len: Bytes, want: Want) -> Result<Buffers, MemoryError> {
        Buffers::in_region(depth, len, want, Region::shared)
    }

    /// The same in memory that is there already, with room for them at [`Buffers::stride_of`] each.
    ///
    /// # Panics
    /// When there is less room.
    pub fn lent(depth: QueueDepth, len: Bytes, region: Region) -> Buffers {
        let (stride, slots) = (Buffers::stride_of(len), usize::from(depth.get()));
        assert!(
            stride * slots as u64 <= region.len(),
            "{slots} buffers of {stride} in {}",
            region.len()
        );
        Buffers {
            region,
            stride: stride.as_usize(),
            len,
            slots,
        }
    }

    /// From the first byte of a buffer of `len` bytes to the next one's: whole pages. Saturating, as the products of it: a size
    /// that no machine has is refused, not wrapped.
    pub fn stride_of(len: Bytes) -> Bytes {
        Bytes(len.0.checked_next_multiple_of(4096).unwrap_or(u64::MAX))
    }

    fn in_region(
        depth: QueueDepth,
        len: Bytes,
        want: Want,
        region: impl FnOnce(&Want) -> Result<Region, MemoryError>,
    ) -> Result<Buffers, MemoryError> {
        let region = region(&Want {
            bytes: Buffers::stride_of(len) * u64::from(depth.get()),
            ..want
        })?;
        Ok(Buffers::lent(depth, len, region))
    }

    /// The first buffer, for an engine whose memory belongs to no single operation.
    #[inline]
    pub fn first(&self) -> Buffer<'_> {
        self.of(&Slot::new(0))
    }

    /// Each buffer in turn, before anything is in flight.
    pub fn each(&self, mut visit: impl FnMut(Buffer<'_>)) {
        for slot in (0u16..).map(Slot::new).take(self.slots) {
            visit(self.of(&slot));
        }
    }

    /// The buffer of a slot.
    ///
    /// # Panics
    /// When the slot's number is not below the depth; the loop gives out no such slot.
    #[inline]
    pub fn of(&self, slot: &Slot) -> Buffer<'_> {
        assert!(
            slot.index() < self.slots,
            "slot {} of {}",
            slot.index(),
            self.slots
        );
        // SAFETY: index < slots, and the region holds slots × stride bytes, so the sum stays inside it.
        let at = unsafe { self.region.as_ptr().add(slot.index() * self.stride) };
        Buffer {
            at,
            len: self.len.as_usize(),
            of: PhantomData,
        }
    }

    /// The memory that they lie in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The size of each.
    pub fn size(&self) -> Bytes {
        self.len
    }

    /// From one buffer's first byte to the next one's.
    pub fn stride(&self) -> Bytes {
        Bytes(self.stride as u64)
    }

    /// Where their pages are.
    ///
    /// # Errors
    /// In words, why the kernel does not say.
    pub fn pages(&self) -> Result<Vec<PagesProof>, String> {
        let pages = self.region.pages_by_node().map_err(|e| e.to_string())?;
        let page_bytes = self.region.page();
        Ok(pages
            .into_iter()
            .map(|(node, pages)| PagesProof {
                node,
                pages,
                page_bytes,
            })
            .collect())
    }

    /// What the memory was wished to be and is not.
    pub fn notes(&self) -> Vec<String> {
        self.region.notes().to_vec()
    }
}

/// One slot's buffer: a place and a length. It is copied from and to by volatile accesses only, and no reference into it
/// is ever formed, because a device or the kernel may write to it at any time.
#[derive(Debug, Clone, Copy)]
pub struct Buffer<'a> {
    at: NonNull<u8>,
    len: usize,
    of: PhantomData<&'a Region>,
}

impl Buffer<'_> {
    /// A buffer of no bytes, for engines that move none.
    pub fn empty() -> Buffer<'static> {
        Buffer {
            at: NonNull::dangling(),
            len: 0,
            of: PhantomData,
        }
    }

    /// Where it begins.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// How long it is.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The word at byte `offset`, or none when it does not lie inside.
    #[inline]
    pub fn word(&self, offset: usize) -> Option<u64> {
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.len {
            return None;
        }
        // SAFETY: the eight bytes lie inside the region, which lives as long as `self`; buffers begin at a page and the
        // offset is a multiple of 8, so the access is aligned; volatile, since others may write at the same time.
        Some(unsafe { self.at.add(offset).cast::<u64>().read_volatile() })
    }

    /// Sets the word at byte `offset`; one outside of the buffer is left alone.
    #[inline]
    pub fn set_word(&self, offset: usize, value: u64) {
        if offset.is_multiple_of(8) && offset.checked_add(8).is_some_and(|end| end <= self.len) {
            // SAFETY: as in `word`; the memory is writable.
            unsafe { self.at.add(offset).cast::<u64>().write_volatile(value) }
        }
    }

    /// Adds `key` (by exclusive or) to each word of the first `len` bytes. For a buffer of which nothing is in flight: so
    /// the accesses need not be volatile, and take as many words at once as the machine can.
    #[inline]
    pub(crate) fn add_key(&self, key: u64, len: usize) {
        let words = len.min(self.len) / 8;
        let at = self.at.cast::<u64>();
        for n in 0..words {
            // SAFETY: word n lies inside the region, which lives as long as `self`, and is aligned, as in `word`; the
            // caller, the loop, holds the slot and has not posted it, so that nobody else accesses the buffer.
            unsafe { at.add(n).write(at.add(n).read() ^ key) }
        }
    }
}
