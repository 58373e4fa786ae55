//! What was written where: for each block the last write that was posted and the last that was acknowledged, in a file
//! that is mapped, so that it outlives the writer, however it dies.
//!
//! A block has one write in flight at most, and belongs to one thread; the block on the target then is of a generation
//! from the acknowledged to the posted one. The file is a page of header, then a little-endian word a block: the posted
//! generation in its upper half, the acknowledged one in its lower half. It outlives a kill, not a power failure: the
//! kernel writes it when it likes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};
use strata_units::{ByteOffset, Bytes};

use crate::payload::{Stamp, Wrong};

const MARK: u64 = u64::from_le_bytes(*b"ledger\x01\n");
const HEADER: u64 = 4096;

/// A file that is no ledger, or cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The system refuses.
    #[error("cannot {what} the ledger {path}: {source}; a run of verified writes keeps it in its folder as ledger.bin", path = path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no ledger ({why}); give the one that a verified write left in its run's folder", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: &'static str,
    },
}

/// What a ledger is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerHead {
    /// The trial's epoch.
    pub epoch: u64,
    /// The size of its blocks.
    pub block: Bytes,
    /// Where the first begins.
    pub from: ByteOffset,
    /// How many there are.
    pub blocks: u64,
}

impl LedgerHead {
    /// The length of all its blocks.
    pub fn length(&self) -> Bytes {
        self.block * self.blocks
    }
}

/// A ledger that is open: for its writer, or for whoever checks later.
#[derive(Debug)]
pub struct Ledger {
    map: MmapRaw,
    head: LedgerHead,
}

fn system<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> LedgerError + 'a {
    move |source| LedgerError::System {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Ledger {
    /// Makes the ledger of a trial, empty, in the place of an older one at `path`.
    ///
    /// # Errors
    /// [`LedgerError::System`] when the file cannot be made.
    pub fn create(path: &Path, head: &LedgerHead) -> Result<(), LedgerError> {
        // Another file, so that one who checks the old one keeps it whole.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(system("replace", path)(e));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(system("make", path))?;
        let length = head
            .blocks
            .checked_mul(8)
            .and_then(|n| n.checked_add(HEADER))
            .ok_or_else(|| system("make", path)(io::ErrorKind::FileTooLarge.into()))?;
        room(&file, length).map_err(system("make", path))?;
        let words = [MARK, head.epoch, head.block.0, head.from.0, head.blocks];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).map_err(system("write", path))
    }

    /// Opens a ledger; `write` for its trial.
    ///
    /// # Errors
    /// [`LedgerError`] when it cannot be opened or is none.
    pub fn open(path: &Path, write: bool) -> Result<Ledger, LedgerError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(write)
            .open(path)
            .map_err(system("open", path))?;
        let head = read_head(&mut file, path)?;
        let options = MmapOptions::new();
        let map = if write {
            options.map_raw(&file)
        } else {
            options.map_raw_read_only(&file)
        };
        let map = map.map_err(system("map", path))?;
        Ok(Ledger { map, head })
    }

    /// What it is of.
    pub fn head(&self) -> LedgerHead {
        self.head
    }

    /// The block that begins at `at`; none when it is not of this ledger.
    #[inline]
    fn block(&self, at: ByteOffset) -> Option<u64> {
        let block = at.0.checked_sub(self.head.from.0)? / self.head.block.0;
        (block < self.head.blocks).then_some(block)
    }

    #[inline]
    fn word(&self, block: u64) -> *mut u64 {
        debug_assert!(block < self.head.blocks);
        // SAFETY: the map holds a header and as many words as there are blocks (checked in `open`), and the block is one
        // of them (by `block`).
        unsafe {
            let words = self.map.as_mut_ptr().add(HEADER as usize);
            words.cast::<u64>().add(block as usize)
        }
    }

    /// Posted and acknowledged generations of the block at `at`; none when it is not of this ledger.
    #[inline]
    pub fn entry(&self, at: ByteOffset) -> Option<(u32, u32)> {
        let block = self.block(at)?;
        // SAFETY: the word lies in the map and is aligned; volatile, since another process may map the file too.
        let word = u64::from_le(unsafe { self.word(block).read_volatile() });
        Some(((word >> 32) as u32, word as u32))
    }

    #[inline]
    fn set(&self, at: ByteOffset, posted: u32, acknowledged: u32) {
        if let Some(block) = self.block(at) {
            let word = u64::from(posted) << 32 | u64::from(acknowledged);
            // SAFETY: as in `entry`; only a ledger that was opened to write is set, by its thread alone.
            unsafe { self.word(block).write_volatile(word.to_le()) }
        }
    }

    /// Whether the block at `at` has a write in flight.
    #[inline]
    pub(crate) fn is_open(&self, at: ByteOffset) -> bool {
        self.entry(at).is_some_and(|(posted, done)| posted != done)
    }

    /// A write of `generation` is about to be posted to the block at `at`.
    #[inline]
    pub(crate) fn post(&self, at: ByteOffset, generation: u32) {
        let (_, acknowledged) = self.entry(at).unwrap_or_default();
        self.set(at, generation, acknowledged);
    }

    /// The write that is in flight to the block at `at` was acknowledged.
    #[inline]
    pub(crate) fn acknowledge(&self, at: ByteOffset) {
        let (posted, _) = self.entry(at).unwrap_or_default();
        self.set(at, posted, posted);
    }

    /// Whether a sector of a block may be as it was `found`, when the block's last acknowledged write and its last posted one
    /// are these. Where none was acknowledged, what was there before need not be the suite's.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn allows(
        &self,
        acknowledged: u32,
        posted: u32,
        found: Result<Stamp, Wrong>,
    ) -> Result<(), Wrong> {
        let stamp = match found {
            Ok(stamp) => stamp,
            Err(Wrong::Foreign | Wrong::Corrupt) if acknowledged == 0 => return Ok(()),
            Err(wrong) => return Err(wrong),
        };
        if stamp.epoch != self.head.epoch {
            // Of an earlier trial, or the filling: right until a write of this one was acknowledged.
            return if acknowledged > 0 {
                Err(Wrong::Stale)
            } else {
                Ok(())
            };
        }
        if stamp.generation < u64::from(acknowledged) {
            return Err(Wrong::Stale);
        }
        if stamp.generation > u64::from(posted) {
            return Err(Wrong::Unmade);
        }
        Ok(())
    }
}

/// Gives an empty file `length` bytes of zeros that have their place on the disk: a hole in a mapped file would be a
/// SIGBUS when the disk is full (posix_fallocate(3), which writes where the file system cannot reserve).
fn room(file: &File, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: takes a descriptor that is open, and no memory.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn read_head(file: &mut File, path: &Path) -> Result<LedgerHead, LedgerError> {
    let foreign = |why| LedgerError::Foreign {
        path: path.to_owned(),
        why,
    };
    let mut bytes = [0; 40];
    file.read_exact(&mut bytes)
        .map_err(|_| foreign("it is too short"))?;
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut exact = [0; 8];
        exact.copy_from_slice(bytes);
        *word = u64::from_le_bytes(exact);
    }
    let [mark, epoch, block, from, blocks] = words;
    if mark != MARK {
        return Err(foreign("it does not begin with the mark of one"));
    }
    let length = file.metadata().map_err(system("look at", path))?.len();
    let whole = blocks.checked_mul(8).and_then(|n| n.checked_add(HEADER));
    if block == 0 || whole != Some(length) {
        return Err(foreign("its length is not that of its blocks"));
    }
    let end = block.checked_mul(blocks).and_then(|n| n.checked_add(from));
    if end.is_none() || !block.is_multiple_of(512) || !from.is_multiple_of(512) {
        return Err(foreign("its blocks lie on no target"));
    }
    Ok(LedgerHead {
        epoch,
        block: Bytes(block),
        from: ByteOffset(from),
        blocks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: LedgerHead = LedgerHead {
        epoch: 77,
        block: Bytes(4096),
        from: ByteOffset(8192),
        blocks: 3,
    };

    #[test]
    fn what_one_wrote_another_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        Ledger::create(&path, &HEAD).expect("made");
        let writer = Ledger::open(&path, true).expect("opened");
        assert_eq!(writer.head(), HEAD);
        let (first, last) = (ByteOffset(8192), ByteOffset(16384));
        writer.post(first, 5);
        assert!(writer.is_open(first) && !writer.is_open(last));
        writer.acknowledge(first);
        writer.post(last, 6);
        std::mem::forget(writer);
        let reader = Ledger::open(&path, false).expect("opened");
        assert_eq!(reader.entry(first), Some((5, 5)));
        assert_eq!(reader.entry(last), Some((6, 0)));
        assert_eq!(reader.entry(ByteOffset(4096)), None, "before the region");
        assert_eq!(reader.entry(ByteOffset(20480)), None, "behind it");
    }

    #[test]
    fn a_sector_is_of_a_write_between_the_acknowledged_and_the_posted_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        Ledger::create(&path, &HEAD).expect("made");
        let ledger = Ledger::open(&path, false).expect("opened");
        let of = |epoch, generation| Ok(Stamp { epoch, generation });
        for ((acknowledged, posted), stamp, expected) in [
            ((0, 0), of(76, 900), Ok(())),
            ((0, 4), of(76, 900), Ok(())),
            ((3, 4), of(76, 900), Err(Wrong::Stale)),
            ((3, 4), of(77, 2), Err(Wrong::Stale)),
            ((3, 4), of(77, 3), Ok(())),
            ((3, 4), of(77, 4), Ok(())),
            ((3, 4), of(77, 5), Err(Wrong::Unmade)),
            ((0, 0), Err(Wrong::Foreign), Ok(())),
            ((0, 4), Err(Wrong::Corrupt), Ok(())),
            ((0, 4), Err(Wrong::Misplaced(9)), Err(Wrong::Misplaced(9))),
            ((3, 4), Err(Wrong::Foreign), Err(Wrong::Foreign)),
            ((3, 3), Err(Wrong::Corrupt), Err(Wrong::Corrupt)),
        ] {
            let found = ledger.allows(acknowledged, posted, stamp);
            assert_eq!(found, expected, "{acknowledged}..={posted} {stamp:?}");
        }
    }

    #[test]
    fn a_ledger_has_its_place_on_the_disk() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        let blocks = 1 << 17;
        Ledger::create(&path, &LedgerHead { blocks, ..HEAD }).expect("made");
        let there = std::fs::metadata(&path).expect("there");
        assert!(there.blocks() * 512 >= there.len(), "no holes");
        let endless = LedgerHead {
            blocks: 1 << 58,
            ..HEAD
        };
        let refused = Ledger::create(&path, &endless).expect_err("no disk is so large");
        assert!(refused.to_string().contains("make the ledger"), "{refused}");
    }

    #[test]
    fn what_is_no_ledger_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        let absent = Ledger::open(&path, false).map(|_| ());
        assert!(
            matches!(absent, Err(LedgerError::System { .. })),
            "{absent:?}"
        );
        let mut whole = Vec::new();
        Ledger::create(&path, &HEAD).expect("made");
        File::open(&path)
            .expect("there")
            .read_to_end(&mut whole)
            .expect("read");
        let mut other = whole.clone();
        other[0] ^= 1;
        for bytes in [&whole[..39], &whole[..whole.len() - 8], &other[..], &[]] {
            std::fs::write(&path, bytes).expect("written");
            let found = Ledger::open(&path, false).map(|_| ());
            assert!(
                matches!(found, Err(LedgerError::Foreign { .. })),
                "{found:?}"
            );
        }
    }
}
