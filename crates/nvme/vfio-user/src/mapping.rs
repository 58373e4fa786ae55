//! Memory shared with another process, mapped and touched as raw memory only.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FileType, fstat};
use strata_units::{ByteOffset, Bytes};

use crate::MapError;

/// A part of a shared file, unmapped when dropped.
///
/// The other process may write it at any time, so no reference into it is ever made: it is read and written volatile, by
/// whole naturally aligned words in the little-endian order of PCI, or through [`Mapping::as_ptr`]. It may move to another
/// thread, and belongs to one at a time:
///
/// ```
/// fn moves<T: Send>() {}
/// moves::<strata_vfio_user::Mapping>();
/// ```
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<strata_vfio_user::Mapping>();
/// ```
///
/// A file that its owner makes shorter afterwards kills whoever touches what is gone (SIGBUS); that is the owner's power over
/// everybody who maps its memory, and only the system's seals (memfd_create(2), `F_SEAL_SHRINK`) take it away.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
    writable: bool,
    one_thread: PhantomData<Cell<u8>>,
}

impl Mapping {
    /// Maps `len` bytes from `at` of a file, shared.
    ///
    /// # Errors
    /// [`MapError::Short`] when the file (or memory object) ends before; [`MapError::System`] when `len` is 0 or the system
    /// refuses, as it does a descriptor without the rights.
    pub fn new(
        file: BorrowedFd<'_>,
        at: ByteOffset,
        len: Bytes,
        writable: bool,
    ) -> Result<Mapping, MapError> {
        let system = |why| MapError::System { at, len, why };
        let stat = fstat(file).map_err(|why| system(why.into()))?;
        // Of a device nobody knows the length but its driver, which refuses what is too long.
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let has = u64::try_from(stat.st_size).unwrap_or(0);
            if at.0.checked_add(len.0).is_none_or(|end| end > has) {
                return Err(MapError::Short {
                    at,
                    len,
                    has: Bytes(has),
                });
            }
        }
        if len.0 == 0 || len.0 > isize::MAX.unsigned_abs() as u64 {
            return Err(system(std::io::ErrorKind::InvalidInput.into()));
        }
        let mut options = MmapOptions::new();
        options.offset(at.0).len(len.as_usize());
        let map = if writable {
            options.map_raw(&file)
        } else {
            options.map_raw_read_only(&file)
        };
        Ok(Mapping {
            map: map.map_err(system)?,
            writable,
            one_thread: PhantomData,
        })
    }

    /// The first byte; valid for [`len`](Self::len) bytes until this is dropped, for writing only where it was mapped so.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes mapped; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> Bytes {
        Bytes(self.map.len() as u64)
    }

    /// The word of `T` at `at`; none outside or when it is not aligned.
    fn word<T>(&self, at: ByteOffset) -> Option<*mut T> {
        let at = usize::try_from(at.0).ok()?;
        let inside = at.checked_add(size_of::<T>())? <= self.map.len();
        // The map begins where `at` of the file lies in its page, so that alignment is asked of the address.
        let aligned = (self.as_ptr().addr().wrapping_add(at)).is_multiple_of(align_of::<T>());
        (inside && aligned).then(|| self.as_ptr().wrapping_add(at).cast())
    }

    /// Reads 4 bytes at `at` from the start; none outside, or when they are not aligned.
    pub fn load_u32(&self, at: ByteOffset) -> Option<u32> {
        let word = self.word::<u32>(at)?;
        // SAFETY: the word lies in the map and is aligned (by `word`), and the map lives as long as `self`.
        Some(u32::from_le(unsafe { word.read_volatile() }))
    }

    /// Reads 8 bytes at `at` from the start; none outside, or when they are not aligned.
    pub fn load_u64(&self, at: ByteOffset) -> Option<u64> {
        let word = self.word::<u64>(at)?;
        // SAFETY: as in `load_u32`.
        Some(u64::from_le(unsafe { word.read_volatile() }))
    }

    /// Writes 4 bytes at `at` from the start; none, and nothing written, where [`Mapping::load_u32`] has none or the map may
    /// not be written.
    pub fn store_u32(&self, at: ByteOffset, value: u32) -> Option<()> {
        let word = self.word::<u32>(at).filter(|_| self.writable)?;
        // SAFETY: as in `load_u32`; the pages were mapped to be written.
        unsafe { word.write_volatile(value.to_le()) };
        Some(())
    }

    /// Writes 8 bytes as [`Mapping::store_u32`] writes 4.
    pub fn store_u64(&self, at: ByteOffset, value: u64) -> Option<()> {
        let word = self.word::<u64>(at).filter(|_| self.writable)?;
        // SAFETY: as in `store_u32`.
        unsafe { word.write_volatile(value.to_le()) };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn memory(len: u64) -> OwnedFd {
        let fd = memfd_create("mapping", MemfdFlags::CLOEXEC).expect("a memory object");
        ftruncate(&fd, len).expect("a length");
        fd
    }

    #[test]
    fn two_maps_of_one_file_are_one_memory() {
        let file = memory(8192);
        let map = |at, writable| Mapping::new(file.as_fd(), ByteOffset(at), Bytes(4096), writable);
        let writes = map(4096, true).expect("mapped");
        let reads = map(4096, false).expect("mapped");
        let other = map(0, false).expect("mapped");
        let at = ByteOffset(16);
        assert_eq!(writes.store_u64(at, 0x1122_3344_5566_7788), Some(()));
        assert_eq!(writes.store_u32(ByteOffset(4092), 7), Some(()));
        assert_eq!(reads.load_u64(at), Some(0x1122_3344_5566_7788));
        assert_eq!(reads.load_u32(at), Some(0x5566_7788));
        assert_eq!(reads.load_u32(ByteOffset(4092)), Some(7));
        assert_eq!(other.load_u64(at), Some(0));
        assert_eq!(reads.store_u32(at, 1), None, "mapped to be read");
        for outside in [4093, 4096, u64::MAX, 18] {
            assert_eq!(writes.load_u32(ByteOffset(outside)), None, "{outside}");
            assert_eq!(writes.store_u64(ByteOffset(outside), 1), None, "{outside}");
        }
        assert_eq!(writes.load_u64(ByteOffset(4092)), None, "half inside");
    }

    #[test]
    fn nothing_behind_the_end_is_mapped() {
        let file = memory(8192);
        let map = |at, len| Mapping::new(file.as_fd(), ByteOffset(at), Bytes(len), true);
        assert!(map(0, 8192).is_ok());
        for (at, len) in [(0, 8193), (4096, 8192), (u64::MAX, 4096), (1 << 40, 1)] {
            let found = map(at, len).map(|_| ());
            assert!(matches!(found, Err(MapError::Short { .. })), "{found:?}");
        }
        assert!(matches!(map(0, 0), Err(MapError::System { .. })));
        let (pipe, _other) = std::io::pipe().expect("a pipe");
        let found = Mapping::new(pipe.as_fd(), ByteOffset(0), Bytes(4096), true);
        assert!(matches!(found, Err(MapError::System { .. })));
    }
}
