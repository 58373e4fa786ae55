//! A part of a BAR, mapped: registers and doorbells as memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use strata_memory::sigbus::{self, Of, Watched};
use strata_units::Bytes;

use crate::Doorbells;

/// The doorbells that a mapping is of, which begins with the first of them.
pub(super) fn doorbells(map: Arc<Map>) -> Doorbells {
    let (at, len) = (map.start.cast(), map.len());
    // SAFETY: the mapping is there, writable, so long and without references for as long as `map` lives, also when its device is
    // gone; it begins at a page, so that it is aligned.
    unsafe { Doorbells::new(at, len, Box::new(map)) }
}

/// Pages of a BAR are mapped whole.
const PAGE: Bytes = Bytes(4096);

/// A mapped part of a BAR; unmapped when dropped. Of a device that is gone it reads as ones, and takes writes that go nowhere.
#[derive(Debug)]
pub(super) struct Map {
    start: NonNull<u8>,
    len: usize,
    /// None only while it is dropped.
    watched: Option<Watched>,
}

// SAFETY: the mapping is of the process, not of a thread, and is reached by single volatile accesses only.
unsafe impl Send for Map {}
// SAFETY: as above: each access is one of the bus, which has its own order.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes of a device's file from `offset` on, both multiples of the page.
    pub(super) fn new(device: &File, offset: u64, len: Bytes) -> io::Result<Map> {
        sigbus::install()?;
        let bytes = usize::try_from(len.0).map_err(io::Error::other)?;
        let offset = offset.try_into().map_err(io::Error::other)?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let file = device.as_raw_fd();
        // SAFETY: no address is given, so that no mapping of anyone is replaced.
        let found =
            unsafe { libc::mmap(ptr::null_mut(), bytes, both, libc::MAP_SHARED, file, offset) };
        let start = match NonNull::new(found.cast::<u8>()) {
            Some(start) if found != libc::MAP_FAILED => start,
            _ => return Err(io::Error::last_os_error()),
        };
        let mut map = Map {
            start,
            len: bytes,
            watched: None,
        };
        // Where the kernel takes the device away, an access raises SIGBUS.
        map.watched = Watched::new(Of::Registers, start, len, PAGE);
        match map.watched {
            Some(_) => Ok(map),
            None => Err(io::Error::other(
                "too many registers are mapped by this process; open fewer controllers",
            )),
        }
    }

    pub(super) fn len(&self) -> Bytes {
        Bytes(self.len as u64)
    }

    /// Whether the device went away under it.
    pub(super) fn is_gone(&self) -> bool {
        self.watched.as_ref().is_none_or(Watched::is_torn)
    }

    /// Lets go of the device: the mapping is there as before, and no longer of its file.
    pub(super) fn let_go(&self) {
        // Refused only where not even one mapping can take the place of another; it then goes with the process.
        let _ = self.watched.as_ref().map(Watched::tear);
    }

    /// Where `T` lies at an offset.
    fn place<T>(&self, at: u64) -> NonNull<T> {
        let inside = usize::try_from(at).ok().filter(|at| {
            at.is_multiple_of(size_of::<T>())
                && at
                    .checked_add(size_of::<T>())
                    .is_some_and(|end| end <= self.len)
        });
        let Some(at) = inside else {
            panic!("{at:#x} is no register of {} bytes", self.len);
        };
        // SAFETY: it lies inside of the mapping.
        unsafe { self.start.byte_add(at) }.cast()
    }

    /// One access of 4 bytes; ones when the device is gone.
    ///
    /// # Panics
    /// Outside of the mapping, or unaligned.
    pub(super) fn read32(&self, at: u64) -> u32 {
        // SAFETY: mapped and aligned; a register changes by itself, so the access is volatile.
        let found = u32::from_le(unsafe { self.place::<u32>(at).read_volatile() });
        if self.is_gone() { u32::MAX } else { found }
    }

    /// One access of 8 bytes, as [`Map::read32`].
    pub(super) fn read64(&self, at: u64) -> u64 {
        // SAFETY: as in `read32`.
        let found = u64::from_le(unsafe { self.place::<u64>(at).read_volatile() });
        if self.is_gone() { u64::MAX } else { found }
    }

    /// One access of 4 bytes.
    ///
    /// # Panics
    /// As [`Map::read32`].
    pub(super) fn write32(&self, at: u64, value: u32) {
        // SAFETY: mapped for writing, and aligned.
        unsafe { self.place::<u32>(at).write_volatile(value.to_le()) }
    }

    /// One access of 8 bytes, as [`Map::write32`].
    pub(super) fn write64(&self, at: u64, value: u64) {
        // SAFETY: mapped for writing, and aligned.
        unsafe { self.place::<u64>(at).write_volatile(value.to_le()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // What is unmapped is not watched any more.
        self.watched = None;
        // SAFETY: the range is this mapping, and its owner is gone. A failure would leak it, and there is nobody left to tell.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in the place of a device's.
    fn file(len: u64) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(len).expect("its length");
        file
    }

    #[test]
    fn registers_are_single_little_endian_accesses() {
        let device = file(8192);
        let map = Map::new(&device, 4096, PAGE).expect("mapped");
        map.write64(8, 0x0102_0304_0506_0708);
        assert_eq!((map.read32(8), map.read32(12)), (0x0506_0708, 0x0102_0304));
        map.write32(12, 0);
        assert_eq!(map.read64(8), 0x0506_0708);
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&device, &mut bytes, 4096 + 8).expect("read");
        assert_eq!(bytes, [8, 7, 6, 5, 0, 0, 0, 0]);
    }

    #[test]
    fn a_device_that_went_away_reads_as_ones_from_then_on() {
        let device = file(8192);
        let map = Map::new(&device, 0, Bytes(8192)).expect("mapped");
        map.write32(0x1c, 1);
        assert!(!map.is_gone());
        device.set_len(0).expect("taken away");
        // A doorbell is what finds it first.
        map.write32(0x1000, 5);
        assert!(map.is_gone());
        assert_eq!(map.read32(0x1000), u32::MAX, "not what was written");
        assert_eq!((map.read32(0x1c), map.read64(0)), (u32::MAX, u64::MAX));
        map.write64(0, 1);
    }

    #[test]
    fn one_that_is_let_go_writes_nothing_to_the_device() {
        let device = file(4096);
        let map = Map::new(&device, 0, PAGE).expect("mapped");
        map.let_go();
        map.write32(0, 7);
        assert!(map.is_gone() && map.read32(0) == u32::MAX);
        let mut bytes = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&device, &mut bytes, 0).expect("read");
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    #[should_panic(expected = "no register")]
    fn nothing_is_read_beyond_the_end() {
        let map = Map::new(&file(4096), 0, PAGE).expect("mapped");
        map.read64(4092);
    }
}
