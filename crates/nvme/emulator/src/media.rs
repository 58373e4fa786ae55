//! Where a namespace's blocks are kept.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::mm::{Advice, madvise};
use strata_memory::sigbus::{Of, Watched};
use strata_memory::{Huge, Lock, Region, Want};
use strata_units::Bytes;

use crate::config::Memory;
use crate::error::EmulatorError;
use crate::piece::Piece;

const PAGE: u64 = 4096;

/// Deallocation of less is done by writing zeroes, which costs less than a system call and the page fault after it.
const WORTH_A_CALL: u64 = 64 << 10;

/// The bytes of a namespace.
#[derive(Debug)]
pub(crate) struct Media {
    start: NonNull<u8>,
    len: Bytes,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// Not at all.
    Not,
    Ordinary {
        _map: MmapRaw,
    },
    Huge {
        _region: Region,
    },
    File {
        // Dropped first.
        watched: Watched,
        map: MmapRaw,
        file: File,
        path: PathBuf,
    },
}

impl Media {
    /// No memory: of a controller that moves no data.
    pub(crate) fn none() -> Media {
        Media {
            start: NonNull::dangling(),
            len: Bytes(0),
            kept: Kept::Not,
        }
    }

    /// Memory of `len` bytes for namespace `nsid`.
    pub(crate) fn new(nsid: u32, memory: &Memory, len: Bytes) -> Result<Media, EmulatorError> {
        match memory {
            Memory::Ordinary => Media::ordinary(nsid, len),
            Memory::Huge => {
                let want = Want {
                    bytes: len,
                    node: None,
                    huge: Huge::Require,
                    lock: Lock::Never,
                };
                let region = Region::new(&want);
                let region = region.map_err(|why| EmulatorError::Huge { nsid, why })?;
                Ok(Media {
                    start: region.as_ptr(),
                    len,
                    kept: Kept::Huge { _region: region },
                })
            }
            Memory::File(path) => Media::file(nsid, path, len),
        }
    }

    fn ordinary(nsid: u32, size: Bytes) -> Result<Media, EmulatorError> {
        let refused = |why| EmulatorError::Memory { nsid, size, why };
        let mut options = MmapOptions::new();
        options.len(size.as_usize()).no_reserve_swap();
        let map = MmapRaw::from(options.map_anon().map_err(refused)?);
        let start = NonNull::new(map.as_mut_ptr());
        Ok(Media {
            start: start.ok_or_else(|| refused(io::ErrorKind::InvalidData.into()))?,
            len: size,
            kept: Kept::Ordinary { _map: map },
        })
    }

    fn file(nsid: u32, path: &Path, size: Bytes) -> Result<Media, EmulatorError> {
        let failed = |what| {
            move |why: io::Error| EmulatorError::File {
                nsid,
                what,
                path: path.to_owned(),
                why,
            }
        };
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(failed("open"))?;
        // Two controllers on one file would each believe in a write cache of its own.
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|why| failed("lock")(why.into()))?;
        let metadata = file.metadata().map_err(failed("look at"))?;
        let found = Bytes(metadata.len());
        if found != size {
            return Err(EmulatorError::Length {
                nsid,
                path: path.to_owned(),
                found,
                expected: size,
            });
        }
        let map = MmapOptions::new().len(size.as_usize()).map_raw(&file);
        let map = map.map_err(failed("map"))?;
        let refused = failed("map");
        let start = NonNull::new(map.as_mut_ptr());
        let start = start.ok_or_else(|| refused(io::ErrorKind::InvalidData.into()))?;
        let watched = Watched::new(Of::Namespace, start, size, Bytes(metadata.blksize()));
        let watched = watched.ok_or_else(|| refused(io::ErrorKind::QuotaExceeded.into()))?;
        Ok(Media {
            start,
            len: size,
            kept: Kept::File {
                watched,
                map,
                file,
                path: path.to_owned(),
            },
        })
    }

    /// `len` bytes from `at`; none outside.
    #[inline]
    pub(crate) fn piece(&self, at: u64, len: u64) -> Option<Piece<'_>> {
        if at > self.len.0 || len > self.len.0 - at {
            return None;
        }
        // SAFETY: the bytes lie in the memory, which is mapped to be read and written while it is borrowed.
        Some(unsafe { Piece::new(self.start.add(at as usize), len as usize) })
    }

    /// Makes `len` bytes from `at` zeroes; those that may be `given` back are.
    pub(crate) fn zero(&self, at: u64, len: u64, given: bool) -> Option<()> {
        let whole = self.piece(at, len)?;
        let (from, to) = (at.next_multiple_of(PAGE), (at + len) / PAGE * PAGE);
        if !given || to < from.saturating_add(WORTH_A_CALL) || !self.give_back(from, to - from) {
            whole.zero();
            return Some(());
        }
        self.piece(at, from - at)?.zero();
        self.piece(to, at + len - to)?.zero();
        Some(())
    }

    /// Gives whole pages back, which are zeroes afterwards; whether that was done.
    fn give_back(&self, at: u64, len: u64) -> bool {
        match &self.kept {
            Kept::Not | Kept::Huge { .. } => false,
            Kept::Ordinary { .. } => {
                let start = self.start.as_ptr().wrapping_add(at as usize);
                // SAFETY: whole pages of the private mapping, of which there is no reference; they read as zeroes after.
                unsafe { madvise(start.cast(), len as usize, Advice::LinuxDontNeed) }.is_ok()
            }
            Kept::File { file, .. } => {
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, how, at, len).is_ok()
            }
        }
    }

    /// Waits until `len` bytes from `at` are on the medium, where there is one (msync(2)).
    pub(crate) fn sync(&self, at: u64, len: u64) -> io::Result<()> {
        match &self.kept {
            Kept::File { map, .. } => map.flush_range(at as usize, len as usize),
            _ => Ok(()),
        }
    }

    /// Waits until all of it is on the medium.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.sync(0, self.len.0)
    }

    /// Waits until all of it, of namespace `nsid`, is on the medium.
    pub(crate) fn finish(&self, nsid: u32) -> Result<(), EmulatorError> {
        let Kept::File { path, watched, .. } = &self.kept else {
            return Ok(());
        };
        let path = path.clone();
        let synced = self.sync_all();
        if watched.is_torn() {
            return Err(EmulatorError::Torn { nsid, path });
        }
        let what = "flush";
        synced.map_err(|why| EmulatorError::File {
            nsid,
            what,
            path,
            why,
        })
    }

    /// Whether the file was made shorter by somebody else, or had a hole that a full disk had no blocks for.
    pub(crate) fn is_torn(&self) -> bool {
        matches!(&self.kept, Kept::File { watched, .. } if watched.is_torn())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(media: &Media) {
        media
            .piece(0, media.len.0)
            .expect("all")
            .store(&vec![7; media.len.as_usize()]);
    }

    fn read(media: &Media) -> Vec<u8> {
        let mut bytes = vec![1; media.len.as_usize()];
        media.piece(0, media.len.0).expect("all").load(&mut bytes);
        bytes
    }

    #[test]
    fn zeroes_are_where_they_were_asked_for_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks");
        let len = Bytes(512 << 10);
        std::fs::write(&path, vec![0; len.as_usize()]).expect("written");
        let all = [Memory::Ordinary, Memory::File(path)];
        for memory in all {
            let media = Media::new(1, &memory, len).expect("memory");
            for (at, bytes, given) in [
                (512, 512, true),
                (1536, 300 << 10, true),
                (1536, 300 << 10, false),
                (4096, 128 << 10, true),
                (0, 512 << 10, true),
            ] {
                filled(&media);
                media.zero(at, bytes, given).expect("inside");
                let zeroes = |n: usize| (at..at + bytes).contains(&(n as u64));
                let found = read(&media);
                let wrong = (0..found.len()).find(|n| found[*n] != if zeroes(*n) { 0 } else { 7 });
                assert_eq!(wrong, None, "{memory:?} {at} {bytes} {given}");
            }
            assert!(media.zero(len.0 - 512, 1024, true).is_none());
            assert!(media.piece(u64::MAX, 1).is_none() && media.piece(0, len.0 + 1).is_none());
        }
    }

    #[test]
    fn a_sparse_terabyte_takes_no_memory() {
        let media = match Media::new(1, &Memory::Ordinary, Bytes(1 << 40)) {
            Ok(media) => media,
            Err(why) => {
                println!("SKIP a_sparse_terabyte_takes_no_memory: {why}");
                return;
            }
        };
        media
            .piece((1 << 40) - 1, 1)
            .expect("the last byte")
            .store(&[1]);
    }

    #[test]
    fn a_file_must_be_there_and_fit_and_be_ours_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks");
        let of = |len| Media::new(3, &Memory::File(path.clone()), Bytes(len));
        let why = of(4096).expect_err("none is there").to_string();
        assert!(
            why.contains("cannot open") && why.contains("namespace 3"),
            "{why}"
        );
        std::fs::write(&path, [0; 4096]).expect("written");
        let why = of(8192).expect_err("too short").to_string();
        assert!(why.contains("has 4KiB, expected 8KiB"), "{why}");
        let one = of(4096).expect("mapped");
        let why = of(4096).expect_err("two controllers").to_string();
        assert!(why.contains("cannot lock"), "{why}");
        one.piece(8, 2).expect("inside").store(&[5, 6]);
        one.sync_all().expect("synced");
        drop(one);
        assert_eq!(std::fs::read(&path).expect("read")[7..11], [0, 5, 6, 0]);
    }
}
