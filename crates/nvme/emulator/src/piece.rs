//! Memory that others may write at any time, touched by raw copies only.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Bytes of the client's memory or of a namespace, for as long as `'a`: never behind a reference, since another process may
/// write them at any time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    start: NonNull<u8>,
    len: usize,
    of: PhantomData<&'a ()>,
}

impl<'a> Piece<'a> {
    /// The `len` bytes from `start` on.
    ///
    /// # Safety
    /// They are mapped for `'a`, to be read, and to be written too unless the piece is only copied from.
    pub(crate) unsafe fn new(start: NonNull<u8>, len: usize) -> Piece<'a> {
        let of = PhantomData;
        Piece { start, len, of }
    }

    /// Copies the bytes that both have. Others may write them meanwhile, in which case what arrives is theirs to explain.
    #[inline]
    pub(crate) fn copy_to(self, to: Piece<'_>) {
        let len = self.len.min(to.len);
        // SAFETY: both are mapped for at least `len` bytes. They are distinct mappings of this process, so that they do not
        // overlap.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), to.start.as_ptr(), len) }
    }

    /// Makes all of it zeroes.
    pub(crate) fn zero(self) {
        // SAFETY: it is mapped for its length.
        unsafe { ptr::write_bytes(self.start.as_ptr(), 0, self.len) }
    }

    /// Inverts its first byte, if it has one.
    pub(crate) fn flip(self) {
        if self.len > 0 {
            let byte = self.start.as_ptr();
            // SAFETY: the first byte is mapped.
            unsafe { byte.write_volatile(!byte.read_volatile()) }
        }
    }

    /// Copies `from` to its start, as much as it holds.
    pub(crate) fn store(self, from: &[u8]) {
        let len = self.len.min(from.len());
        // SAFETY: both have `len` bytes, and our own memory is in no mapping of the client's.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.start.as_ptr(), len) }
    }

    /// Copies its start into `into`, as much as it has.
    pub(crate) fn load(self, into: &mut [u8]) {
        let len = self.len.min(into.len());
        // SAFETY: as in `store`.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), into.as_mut_ptr(), len) }
    }

    /// Its first 8 bytes as a little-endian number; none when it is shorter or not aligned.
    #[inline]
    pub(crate) fn load_u64(self) -> Option<u64> {
        let word = self.start.cast::<u64>();
        if self.len < 8 || !word.is_aligned() {
            return None;
        }
        // SAFETY: the word is mapped and aligned.
        Some(u64::from_le(unsafe { word.read_volatile() }))
    }
}
