//! The file that is measured: filled by the suite, or one that is only read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::payload;
use strata_stats::Rng;
use strata_units::{ByteOffset, Bytes};

/// How much is generated and written at a time.
const CHUNK: Bytes = Bytes::MIB;

/// How many places of a file that is only read are looked at, to tell whether it was written, and by whom.
const SAMPLES: u64 = 256;

/// Why a file cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot {what} {path}: {source}; {next}", path = path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        next: &'static str,
    },
    /// It is no regular file.
    #[error("{path} is {found}, not a regular file; name a file, such as {path}/strata.dat", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is too short.
    #[error("{path} holds {found}, and {wanted} are asked for; give a smaller --size or --bs, or another --target", path = path.display())]
    TooShort {
        /// The path.
        path: PathBuf,
        /// Its length.
        found: Bytes,
        /// What is asked for.
        wanted: Bytes,
    },
    /// There is no room for it.
    #[error("the file system of {path} has {free} free, and {wanted} are needed; give a smaller --size or another --target", path = path.display())]
    NoRoom {
        /// The path.
        path: PathBuf,
        /// Free bytes.
        free: Bytes,
        /// Bytes needed.
        wanted: Bytes,
    },
    /// It is somebody's.
    #[error("{path} was not written by strata, and is not written to: sector {sector} does not carry its number; name a file that does not exist yet, and it is made", path = path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// The first sector without its number.
        sector: u64,
    },
    /// Another process fills it.
    #[error("another strata is filling {path}; wait for it, or name another --target", path = path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The user stopped the filling.
    #[error("interrupted while filling {path}; what was written of it is removed", path = path.display())]
    Interrupted {
        /// The path.
        path: PathBuf,
    },
}

/// What is known of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenState {
    /// The suite wrote each of them.
    Ours,
    /// Somebody wrote them.
    Written,
    /// Some were never written: reading those measures no medium.
    Unwritten,
}

/// A file that is ready to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Where it is.
    pub path: PathBuf,
    /// How much of it is used: whole blocks.
    pub region: Bytes,
    /// Whether the page cache is passed by.
    pub direct: bool,
    /// What is known of its blocks.
    pub state: WrittenState,
    /// Whether it was made by this call.
    pub made: bool,
    /// What tells it from any other file that may come to lie at its path: device and inode.
    file: (u64, u64),
}

impl Prepared {
    /// The same file for operations of `block` bytes: its region in whole blocks.
    #[must_use]
    pub fn for_blocks(&self, block: Bytes) -> Prepared {
        Prepared {
            region: Bytes(self.region.0 / block.0.max(1) * block.0),
            ..self.clone()
        }
    }

    /// Opens it for measuring, if it is still the one that was looked at.
    pub(crate) fn open(&self, write: bool) -> io::Result<File> {
        let (file, _) = open(&self.path, write)?;
        if identity(&file.metadata()?) != self.file {
            return Err(io::Error::other("another file lies there now"));
        }
        Ok(file)
    }
}

fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn system<'a>(
    what: &'static str,
    path: &'a Path,
    next: &'static str,
) -> impl Fn(io::Error) -> FileError + 'a {
    move |source| FileError::System {
        what,
        path: path.to_owned(),
        source,
        next,
    }
}

/// Opens for measuring: past the page cache where the file system can; says whether it could.
fn open(path: &Path, write: bool) -> io::Result<(File, bool)> {
    let with = |flags: i32| {
        OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(flags)
            .open(path)
    };
    match with(libc::O_DIRECT) {
        Ok(file) => Ok((file, true)),
        // open(2): the file system does not support O_DIRECT.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => with(0).map(|file| (file, false)),
        Err(e) => Err(e),
    }
}

/// Makes `path` ready for operations of `block` bytes: an absent file is made of `size` and filled, an existing one is
/// looked at and left as it is.
///
/// `writes` says whether the workload changes it; only the suite's own file may be.
///
/// # Errors
/// [`FileError`]; a filling that did not come to its end leaves nothing behind.
pub fn prepare(
    path: &Path,
    size: Option<Bytes>,
    block: Bytes,
    writes: bool,
    seed: u64,
    interrupted: &AtomicBool,
) -> Result<Prepared, FileError> {
    let made = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let size = size.unwrap_or(Bytes::GIB);
            let whole = Bytes(size.0 / block.0.max(1) * block.0);
            if whole.0 == 0 {
                return Err(FileError::TooShort {
                    path: path.to_owned(),
                    found: size,
                    wanted: block,
                });
            }
            fill(path, size, seed, interrupted)?;
            true
        }
        Err(e) => return Err(system("look at", path, "name a file that you may read")(e)),
        Ok(_) => false,
    };
    let found = inspect(path, size, block, writes)?;
    Ok(Prepared { made, ..found })
}

/// Looks at an existing file without changing it: a sample of its sectors when it is to be read, every one of them when it
/// is to be written.
///
/// # Errors
/// [`FileError`], when it is none, too short, or to be written and not the suite's own.
pub fn inspect(
    path: &Path,
    size: Option<Bytes>,
    block: Bytes,
    writes: bool,
) -> Result<Prepared, FileError> {
    let meta =
        fs::metadata(path).map_err(system("look at", path, "name a file that you may read"))?;
    let kind = meta.file_type();
    if !kind.is_file() {
        let found = match kind {
            _ if kind.is_dir() => "a folder",
            _ if kind.is_block_device() => "a block device",
            _ if kind.is_char_device() => "a character device",
            _ => "a pipe or socket",
        };
        return Err(FileError::NotAFile {
            path: path.to_owned(),
            found,
        });
    }
    let next = if writes {
        "name a file that you may read and write"
    } else {
        "name a file that you may read"
    };
    let plain = OpenOptions::new()
        .read(true)
        .open(path)
        .map_err(system("open", path, next))?;
    let (_, direct) = open(path, writes).map_err(system("open", path, next))?;
    let found = Bytes(meta.len());
    let wanted = size.unwrap_or(found);
    let region = Bytes(wanted.0 / block.0.max(1) * block.0);
    if wanted.0 > found.0 || region.0 == 0 {
        return Err(FileError::TooShort {
            path: path.to_owned(),
            found,
            wanted: wanted.max(block),
        });
    }
    let looked = if writes {
        whole(&plain, region)
    } else {
        sample(&plain, region)
    };
    let seen = looked.map_err(system("read", path, next))?;
    if writes && let Some(sector) = seen.foreign() {
        return Err(FileError::NotOurs {
            path: path.to_owned(),
            sector,
        });
    }
    let state = if seen.mostly_zeros() || has_hole(&plain, region) {
        WrittenState::Unwritten
    } else if seen.foreign().is_none() {
        WrittenState::Ours
    } else {
        WrittenState::Written
    };
    Ok(Prepared {
        path: path.to_owned(),
        region,
        direct,
        state,
        made: false,
        file: identity(&meta),
    })
}

/// What a file's sectors show.
#[derive(Default)]
struct Seen {
    sectors: u64,
    zeros: u64,
    /// The first that does not carry its number.
    foreign: Option<u64>,
}

impl Seen {
    fn look(&mut self, sector: &[u8], at: u64) {
        self.sectors += 1;
        if payload::stamp_of(sector, at).is_err() {
            self.foreign = self.foreign.or(Some(at));
            self.zeros += u64::from(sector.iter().all(|b| *b == 0));
        }
    }

    /// The first sector that is not ours; a region without a whole sector shows nothing of ours.
    fn foreign(&self) -> Option<u64> {
        self.foreign.or((self.sectors == 0).then_some(0))
    }

    /// A tenth are zeros: more than the data of people and programs has, and a file that was never written has.
    fn mostly_zeros(&self) -> bool {
        self.sectors > 0 && self.zeros * 10 >= self.sectors
    }
}

/// Looks at every sector of the region.
fn whole(file: &File, region: Bytes) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut chunk = vec![0u8; CHUNK.as_usize()];
    let mut at = 0;
    while at < region.0 {
        let len = (region.0 - at).min(CHUNK.0) as usize;
        file.read_exact_at(&mut chunk[..len], at)?;
        for (n, sector) in (at / payload::SECTOR.0..).zip(chunk[..len].chunks_exact(512)) {
            seen.look(sector, n);
        }
        at += len as u64;
    }
    crate::sys::drop_cached(file);
    Ok(seen)
}

/// Samples sectors evenly over the region, first and last among them.
fn sample(file: &File, region: Bytes) -> io::Result<Seen> {
    let sectors = region.0 / payload::SECTOR.0;
    let mut sector = [0u8; 512];
    let mut seen = Seen::default();
    let samples = SAMPLES.min(sectors);
    for n in 0..samples {
        let at = if samples > 1 {
            n * (sectors - 1) / (samples - 1)
        } else {
            0
        };
        file.read_exact_at(&mut sector, at * payload::SECTOR.0)?;
        seen.look(&sector, at);
    }
    Ok(seen)
}

/// Whether the region has a hole, or blocks that are allocated and not written (lseek(2), SEEK_HOLE). A file system that
/// does not know says that there is none.
fn has_hole(file: &File, region: Bytes) -> bool {
    crate::sys::first_hole(file, 0).is_some_and(|at| at < region.0)
}

/// Writes a new file of `size`, whole sectors that carry their numbers, first under another name, so that a file of this
/// name is always whole.
fn fill(path: &Path, size: Bytes, seed: u64, interrupted: &AtomicBool) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Some(free) = crate::sys::free_bytes(folder).map_err(system(
        "look at",
        folder,
        "name a file in a folder that exists",
    ))? && free < size
    {
        return Err(FileError::NoRoom {
            path: path.to_owned(),
            free,
            wanted: size,
        });
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let file = claim(&partial)?;
    let written = write_all(&partial, &file, size, seed, interrupted).and_then(|whole| {
        if !whole {
            return Err(FileError::Interrupted {
                path: path.to_owned(),
            });
        }
        crate::sys::name(&partial, path).map_err(system(
            "name",
            path,
            "look at the folder's rights",
        ))?;
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(system("sync", folder, "see dmesg"))
    });
    if written.is_err() {
        // It is ours, half written and of no use; that it cannot be removed changes nothing about the error told.
        let _ = fs::remove_file(&partial);
    }
    written
}

const WRITABLE: &str = "name a file in a folder that you may write to, on a file system with room";

/// Opens the file that is to be filled, empty and kept from others. One may be left there by a filling that was killed;
/// anything else of this name is somebody's.
fn claim(path: &Path) -> Result<File, FileError> {
    let make = system("make", path, WRITABLE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(&make)?;
    let busy = || FileError::Busy {
        path: path.to_owned(),
    };
    // A file system without locks keeps nobody out, and that is no reason not to measure it.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(busy());
    }
    let ours = file.metadata().map_err(&make)?;
    // Whoever had it between our opening and our locking has filled it and given it its name.
    if !fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino()) {
        return Err(busy());
    }
    let mut sector = [0u8; 512];
    if ours.len() > 0
        && (file.read_exact_at(&mut sector, 0).is_err() || payload::stamp_of(&sector, 0).is_err())
    {
        return Err(FileError::NotOurs {
            path: path.to_owned(),
            sector: 0,
        });
    }
    file.set_len(0).map_err(&make)?;
    Ok(file)
}

/// Whether it came to the end.
fn write_all(
    path: &Path,
    mut file: &File,
    size: Bytes,
    seed: u64,
    interrupted: &AtomicBool,
) -> Result<bool, FileError> {
    let mut random = Rng::new(seed);
    let epoch = payload::epoch();
    let mut chunk = vec![0u8; CHUNK.as_usize()];
    let mut at = 0;
    while at < size.0 {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let len = (size.0 - at).min(CHUNK.0) as usize;
        payload::fill(&mut chunk[..len], ByteOffset(at), epoch, &mut random);
        file.write_all(&chunk[..len])
            .map_err(system("fill", path, WRITABLE))?;
        at += len as u64;
    }
    file.sync_all().map_err(system("sync", path, WRITABLE))?;
    // What is read past the page cache must not be answered from it, and it shall not crowd out other pages.
    crate::sys::drop_cached(file);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    static GO: AtomicBool = AtomicBool::new(false);

    fn made(folder: &Path, size: Bytes) -> PathBuf {
        let path = folder.join("t.dat");
        prepare(&path, Some(size), Bytes(4096), false, 1, &GO).expect("made");
        path
    }

    #[test]
    fn a_made_file_is_ours_and_may_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = made(folder.path(), Bytes::MIB * 3);
        let again = prepare(&path, None, Bytes(4096), true, 2, &GO).expect("ours");
        assert_eq!(
            (again.region, again.state),
            (Bytes::MIB * 3, WrittenState::Ours)
        );
        let file = fs::read(&path).expect("readable");
        for (n, sector) in file.chunks(512).enumerate() {
            assert!(payload::stamp_of(sector, n as u64).is_ok());
        }
        assert!(!folder.path().join("t.dat.partial").exists());
    }

    #[test]
    fn a_stranger_is_read_and_never_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("letter.txt");
        fs::write(&path, vec![b'x'; 10_000]).expect("written");
        let read = inspect(&path, None, Bytes(4096), false).expect("readable");
        assert_eq!(
            (read.region, read.state),
            (Bytes(8192), WrittenState::Written)
        );
        let refused = prepare(&path, None, Bytes(4096), true, 1, &GO);
        assert!(
            matches!(refused, Err(FileError::NotOurs { sector: 0, .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read(&path).expect("readable"), vec![b'x'; 10_000]);
    }

    #[test]
    fn one_foreign_sector_at_the_end_is_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = made(folder.path(), Bytes::MIB);
        let file = OpenOptions::new().write(true).open(&path).expect("ours");
        file.write_all_at(b"mine", (1 << 20) - 512)
            .expect("written");
        let refused = inspect(&path, None, Bytes(4096), true);
        assert!(
            matches!(refused, Err(FileError::NotOurs { sector: 2047, .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn holes_and_zeros_are_unwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let sparse = folder.path().join("sparse");
        File::create(&sparse)
            .and_then(|f| f.set_len(1 << 20))
            .expect("sparse");
        let zeros = folder.path().join("zeros");
        fs::write(&zeros, vec![0; 1 << 20]).expect("zeros");
        for path in [sparse, zeros] {
            let found = inspect(&path, None, Bytes(4096), false).expect("readable");
            assert_eq!(found.state, WrittenState::Unwritten, "{}", path.display());
            let refused = inspect(&path, None, Bytes(4096), true);
            assert!(
                matches!(refused, Err(FileError::NotOurs { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn what_is_no_file_or_too_short_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = |e: Result<Prepared, FileError>| {
            e.map(|_| String::new()).unwrap_or_else(|e| e.to_string())
        };
        assert!(text(inspect(folder.path(), None, Bytes(512), false)).contains("a folder"));
        assert!(
            text(inspect(Path::new("/dev/null"), None, Bytes(512), false))
                .contains("character device")
        );
        let path = made(folder.path(), Bytes(8192));
        assert!(text(inspect(&path, Some(Bytes(16384)), Bytes(512), false)).contains("holds 8KiB"));
        assert!(text(inspect(&path, None, Bytes(16384), false)).contains("--bs"));
        let nowhere = folder.path().join("no/such/file");
        assert!(
            text(prepare(&nowhere, None, Bytes(512), false, 1, &GO)).contains("folder that exists")
        );
        let huge = folder.path().join("huge");
        let error = text(prepare(
            &huge,
            Some(Bytes::GIB * (1 << 20)),
            Bytes(512),
            false,
            1,
            &GO,
        ));
        assert!(error.contains("free") && !huge.exists(), "{error}");
    }

    #[test]
    fn a_half_filled_file_is_taken_over_only_when_it_is_ours_and_nobody_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, partial) = (
            folder.path().join("t.dat"),
            folder.path().join("t.dat.partial"),
        );
        let make = || prepare(&path, Some(Bytes::MIB), Bytes(4096), false, 1, &GO);
        fs::write(&partial, "my half of a download").expect("written");
        let refused = make();
        assert!(
            matches!(refused, Err(FileError::NotOurs { .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read(&partial).expect("kept"), b"my half of a download");
        fs::remove_file(&partial).expect("removed");

        let other = claim(&partial).expect("nobody has it");
        let refused = make();
        assert!(
            matches!(refused, Err(FileError::Busy { .. })),
            "{refused:?}"
        );
        assert!(partial.exists(), "it is the other's");
        assert!(write_all(&partial, &other, Bytes(8192), 1, &GO).is_ok_and(|whole| whole));
        drop(other);
        let found = make().expect("what a killed filling left");
        assert_eq!(
            (found.region, found.state),
            (Bytes::MIB, WrittenState::Ours)
        );
        assert!(!partial.exists());
    }

    #[test]
    fn an_interrupted_filling_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.dat");
        let stop = AtomicBool::new(true);
        let stopped = prepare(&path, Some(Bytes::MIB), Bytes(4096), false, 1, &stop);
        assert!(
            matches!(stopped, Err(FileError::Interrupted { .. })),
            "{stopped:?}"
        );
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
