//! The device's file, which everything that reaches the function shares, and which is let go of when the kernel wants that.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use strata_units::Bytes;

use super::map::Map;
use super::sys;

/// The device of a function, or what is left when it was let go of.
#[derive(Debug)]
pub(super) struct Device(Mutex<Held>);

#[derive(Debug)]
struct Held {
    /// None once it was let go of.
    file: Option<File>,
    /// All that holds the file besides.
    maps: Vec<Weak<Map>>,
}

impl Device {
    pub(super) fn new(file: File) -> Device {
        Device(Mutex::new(Held {
            file: Some(file),
            maps: Vec::new(),
        }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing is left half done by a panic of another thread.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was let go of.
    pub(super) fn is_let_go(&self) -> bool {
        self.held().file.is_none()
    }

    /// Does something with the device; none when it was let go of.
    pub(super) fn with<T>(
        &self,
        what: impl FnOnce(&File) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        self.held().file.as_ref().map(what).transpose()
    }

    /// Reads a region's bytes; of one that was let go of all are ones.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self.with(|file| file.read_exact_at(into, at))? {
            Some(()) => {}
            None => into.fill(0xff),
        }
        Ok(())
    }

    /// Writes a region's bytes; to one that was let go of they go nowhere.
    pub(super) fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_all_at(from, at)).map(drop)
    }

    /// Maps a part of the file; none when it was let go of.
    pub(super) fn map(&self, at: u64, len: Bytes) -> io::Result<Option<Arc<Map>>> {
        let mut held = self.held();
        let Some(file) = &held.file else {
            return Ok(None);
        };
        let map = Arc::new(Map::new(file, at, len)?);
        held.maps.retain(|map| map.strong_count() > 0);
        held.maps.push(Arc::downgrade(&map));
        Ok(Some(map))
    }

    /// Resets the function.
    pub(super) fn reset(&self) -> io::Result<Option<()>> {
        self.with(sys::reset)
    }

    /// Closes the device, whoever uses it: the kernel takes its bus mastering, and resets it where it can.
    pub(super) fn let_go(&self) {
        let mut held = self.held();
        let maps = std::mem::take(&mut held.maps);
        for map in maps.iter().filter_map(Weak::upgrade) {
            map.let_go();
        }
        held.file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_let_go_of_is_held_by_nothing() {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&[7; 4096], 0).expect("written");
        let watch = file.try_clone().expect("another descriptor");
        let device = Device::new(file);
        let map = device.map(0, Bytes(4096)).expect("mapped").expect("held");
        let mut bytes = [0; 4];
        device.read(0, &mut bytes).expect("read");
        assert_eq!((bytes, map.read32(0)), ([7; 4], 0x0707_0707));
        assert!(!device.is_let_go());

        device.let_go();
        assert!(device.is_let_go() && map.is_gone());
        device.read(0, &mut bytes).expect("read as ones");
        device.write(0, &[1; 4]).expect("written nowhere");
        assert_eq!((bytes, map.read32(0)), ([0xff; 4], u32::MAX));
        assert!(device.map(0, Bytes(4096)).expect("no error").is_none());
        assert_eq!(device.reset().expect("no error"), None);
        watch.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(bytes, [7; 4]);
        // A mapping would show among those of the process, with its file's number.
        let inode = std::os::unix::fs::MetadataExt::ino(&watch.metadata().expect("a file"));
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        let of_file = |line: &&str| line.split_whitespace().nth(4) == Some(&inode.to_string());
        assert_eq!(maps.lines().find(of_file), None);
        device.let_go();
    }
}
