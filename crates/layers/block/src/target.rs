//! What is measured: a file, filled by the suite or only read, a block device, or the character device of an NVMe namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use strata_guard::{Permit, guard};
use strata_measure::storage::WrittenState;
use strata_units::{ByteOffset, Bytes};

use crate::file::fill;
use crate::written::{sample, state, whole};

/// Why a target cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
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
    /// It is neither a regular file nor a drive.
    #[error("{path} is {found}, neither a regular file nor a drive; name a file, such as {file}, or a drive, such as /dev/nvme0n1", path = path.display(), file = example(path).display())]
    NotATarget {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is too short.
    #[error("{path} holds {found}{behind}, and {wanted} are asked for; give a smaller --size or --bs, or another --target", path = path.display(), behind = behind(*from))]
    TooShort {
        /// The path.
        path: PathBuf,
        /// Where the region begins.
        from: ByteOffset,
        /// How much there is from there on.
        found: Bytes,
        /// What is asked for.
        wanted: Bytes,
    },
    /// Its region does not begin at a block.
    #[error("an --offset of {from} is no multiple of the block of {block}; give one that is", from = Bytes(from.0))]
    Unaligned {
        /// The offset.
        from: ByteOffset,
        /// The largest block that is asked for.
        block: Bytes,
    },
    /// Its blocks are larger than the ones that are asked for.
    #[error("{path} has blocks of {logical}, and a --bs of {block} is no multiple of that; give one that is", path = path.display())]
    SmallBlock {
        /// The path.
        path: PathBuf,
        /// Its logical block.
        logical: Bytes,
        /// The smallest block that is asked for.
        block: Bytes,
    },
    /// A write to a drive that was not told apart from all others.
    #[error("writing to {path} destroys what it holds, and is only done when --destroy names it by its serial number; `strata topology` shows that", path = path.display())]
    NotNamed {
        /// The drive.
        path: PathBuf,
    },
    /// The write guard refuses.
    #[error("{path} is left alone: {why}", path = path.display())]
    Guarded {
        /// The drive.
        path: PathBuf,
        /// Every reason, and what to do.
        why: String,
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
    /// A ledger reaches beyond its end.
    #[error("{path} holds {found}, and the ledger goes to {wanted}: it is of another target; give the one that was written", path = path.display())]
    OfAnother {
        /// The path.
        path: PathBuf,
        /// Its size.
        found: Bytes,
        /// Where the ledger's last block ends.
        wanted: Bytes,
    },
    /// The user stopped the reading.
    #[error("interrupted while reading {path}; nothing was changed", path = path.display())]
    Stopped {
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

/// A file that could be named in the place of what is none.
fn example(path: &Path) -> PathBuf {
    let folder = if path.is_dir() {
        path
    } else {
        Path::new("/data")
    };
    folder.join("strata.dat")
}

fn behind(from: ByteOffset) -> String {
    match from.0 {
        0 => String::new(),
        at => format!(" behind --offset {}", Bytes(at)),
    }
}

/// What kind of thing a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A block device.
    Device,
    /// The character device of an NVMe namespace (`/dev/ng0n1`), which takes commands and nothing else.
    Namespace,
}

/// What is wanted of a target.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The size of a file that is made, or the part that is used of what exists; all of it when none.
    pub size: Option<Bytes>,
    /// Where the region that is used begins.
    pub from: ByteOffset,
    /// The size of the operations; the largest, where there are several.
    pub block: Bytes,
    /// The smallest, where there are several; 0 where none goes past the page cache.
    pub smallest: Bytes,
    /// Whether any of them writes.
    pub writes: bool,
    /// What the user typed to tell the drive, whose data is lost, from all others.
    pub destroy: Option<&'a str>,
    /// What this process has prepared before: a drive that one of these may write is held by it, and is not asked for again.
    pub held: &'a [Prepared],
    /// Seed of what a file is filled with.
    pub seed: u64,
}

impl Wanted<'_> {
    /// Reads of `block` bytes, anywhere on it.
    pub fn reads(block: Bytes) -> Wanted<'static> {
        Wanted {
            size: None,
            from: ByteOffset(0),
            block,
            smallest: block,
            writes: false,
            destroy: None,
            held: &[],
            seed: 0,
        }
    }

    /// The whole blocks of `all` bytes.
    fn blocks_of(&self, all: Bytes) -> Bytes {
        Bytes(all.0 / self.block.0.max(1) * self.block.0)
    }
}

/// A target that is ready to be measured.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Where the region that is used begins.
    pub from: ByteOffset,
    /// How much of it is used: whole blocks.
    pub region: Bytes,
    /// Its whole size.
    pub size: Bytes,
    /// Whether the page cache is passed by.
    pub direct: bool,
    /// What is known of its blocks.
    pub state: WrittenState,
    /// Whether it was made by this call.
    pub made: bool,
    /// What could not be asked before it is written to, and why.
    pub unasked: Vec<String>,
    /// What tells it from anything else that may come to lie at its path.
    identity: Identity,
    /// What lets it be written, if it is a drive.
    permit: Option<Arc<Permit>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// Device and inode.
    File(u64, u64),
    /// Device number.
    Device(u64),
}

impl Identity {
    fn of(meta: &fs::Metadata) -> Identity {
        if meta.is_file() {
            Identity::File(meta.dev(), meta.ino())
        } else {
            Identity::Device(meta.rdev())
        }
    }
}

impl Prepared {
    /// The same target for operations of `block` bytes: its region in whole blocks.
    #[must_use]
    pub fn for_blocks(&self, block: Bytes) -> Prepared {
        Prepared {
            region: Bytes(self.region.0 / block.0.max(1) * block.0),
            ..self.clone()
        }
    }

    /// Opens it, or the block device beside it, to be read through the page cache.
    pub(crate) fn open_plain(&self) -> io::Result<File> {
        match self.identity {
            Identity::Device(number) if self.kind == Kind::Namespace => {
                File::open(block_device_of(number)?)
            }
            _ => {
                let file = File::open(&self.path)?;
                if Identity::of(&file.metadata()?) != self.identity {
                    return Err(io::Error::other("something else lies there now"));
                }
                Ok(file)
            }
        }
    }

    /// The part of it that begins `skip` bytes into its region and is `length` bytes long, or what is left.
    #[must_use]
    pub fn part(&self, skip: Bytes, length: Bytes) -> Prepared {
        Prepared {
            from: ByteOffset(self.from.0 + skip.0),
            region: length.min(Bytes(self.region.0.saturating_sub(skip.0))),
            ..self.clone()
        }
    }

    /// Opens it for measuring, if it is still the one that was looked at.
    pub(crate) fn open(&self, write: bool) -> io::Result<File> {
        // A drive is written with a permit only.
        let permit = match (&self.permit, self.kind) {
            _ if !write => None,
            (_, Kind::File) => None,
            (None, _) => return Err(io::Error::other("it may only be read")),
            (Some(permit), Kind::Device) => return permit.open(),
            (Some(permit), Kind::Namespace) => Some(permit),
        };
        let file = match self.kind {
            Kind::File | Kind::Device => open(&self.path, write)?.0,
            // Commands that write are taken from one who has opened it for that (drivers/nvme/host/ioctl.c); the permit's own
            // file is the block device, which takes none.
            Kind::Namespace => OpenOptions::new()
                .read(true)
                .write(write)
                .open(&self.path)?,
        };
        let meta = file.metadata()?;
        if Identity::of(&meta) != self.identity {
            return Err(io::Error::other("something else lies there now"));
        }
        if let Some(permit) = permit
            && !is_of(permit, fs::metadata(block_device_of(meta.rdev())?)?.rdev())
        {
            return Err(io::Error::other("it is another namespace's now"));
        }
        Ok(file)
    }
}

pub(crate) fn system<'a>(
    what: &'static str,
    path: &'a Path,
    next: &'static str,
) -> impl Fn(io::Error) -> TargetError + 'a {
    move |source| TargetError::System {
        what,
        path: path.to_owned(),
        source,
        next,
    }
}

/// linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

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
        // A file system in memory takes the flag since Linux 6.6, and is its own page cache.
        Ok(file) => fstatfs(&file).map_err(Into::into).map(|found| {
            let kind = found.filesystem_type();
            (file, ![TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind))
        }),
        // open(2): the file system does not support O_DIRECT.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => with(0).map(|file| (file, false)),
        Err(e) => Err(e),
    }
}

/// Makes `path` ready: an absent file is made and filled, what exists is looked at and left as it is.
///
/// # Errors
/// [`TargetError`]; a filling that did not come to its end leaves nothing behind.
pub fn prepare(
    path: &Path,
    wanted: &Wanted<'_>,
    interrupted: &AtomicBool,
) -> Result<Prepared, TargetError> {
    let made = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // The name of a drive that is gone, or a slip in it: a file there would fill the machine's memory.
            if path.starts_with("/dev") && !path.starts_with("/dev/shm") {
                return Err(TargetError::NotATarget {
                    path: path.to_owned(),
                    found: "no name of anything",
                });
            }
            // Before it is filled for minutes.
            aligned(wanted)?;
            let size = wanted.size.unwrap_or(Bytes::GIB);
            if wanted.blocks_of(size).0 == 0 {
                return Err(TargetError::TooShort {
                    path: path.to_owned(),
                    from: ByteOffset(0),
                    found: size,
                    wanted: wanted.block,
                });
            }
            // The region is of the size that was asked for, wherever it begins.
            let all = Bytes(size.0.saturating_add(wanted.from.0));
            fill(path, all, wanted.seed, interrupted)?;
            true
        }
        Err(e) => return Err(system("look at", path, "name a file that you may read")(e)),
        Ok(_) => false,
    };
    let found = inspect(path, wanted)?;
    Ok(Prepared { made, ..found })
}

/// Looks at what exists without changing it: a sample of its sectors when it is to be read; when it is to be written, every
/// sector of a file, and what the write guard asks of a drive.
///
/// # Errors
/// [`TargetError`], when it is none, too short, or to be written and may not be.
pub fn inspect(path: &Path, wanted: &Wanted<'_>) -> Result<Prepared, TargetError> {
    let meta =
        fs::metadata(path).map_err(system("look at", path, "name a file that you may read"))?;
    let kind = kind(path, &meta)?;
    aligned(wanted)?;
    // Only commands go to a namespace's own device; its bytes are looked at through the block device beside it.
    let bytes = match kind {
        Kind::File | Kind::Device => path.to_owned(),
        Kind::Namespace => block_device_of(meta.rdev()).map_err(system(
            "find the block device of",
            path,
            "name a namespace that has one (nvme_core's multipath shows none for some)",
        ))?,
    };
    let next = if wanted.writes {
        "name a file or drive that you may read and write"
    } else {
        "name a file or drive that you may read"
    };
    let mut plain = OpenOptions::new()
        .read(true)
        .open(&bytes)
        .map_err(system("open", &bytes, next))?;
    let size = plain.seek(SeekFrom::End(0)).map(Bytes).map_err(system(
        "find the size of",
        &bytes,
        next,
    ))?;
    let rest = Bytes(size.0.saturating_sub(wanted.from.0));
    let asked = wanted.size.unwrap_or(rest);
    let region = wanted.blocks_of(asked);
    if asked.0 > rest.0 || region.0 == 0 {
        return Err(TargetError::TooShort {
            path: path.to_owned(),
            from: wanted.from,
            found: rest,
            wanted: asked.max(wanted.block),
        });
    }
    let mut unasked = Vec::new();
    let mut permit = None;
    if kind != Kind::File {
        let logical = crate::sys::logical_block(&plain).map_err(system("ask", &bytes, next))?;
        if wanted.smallest > Bytes(0) && !wanted.smallest.is_multiple_of(logical) {
            return Err(TargetError::SmallBlock {
                path: path.to_owned(),
                logical,
                block: wanted.smallest,
            });
        }
        if wanted.writes {
            let number = plain.metadata().map_err(system("look at", &bytes, next))?;
            let given = permitted(path, &bytes, number.rdev(), wanted)?;
            unasked = given.unasked().iter().map(ToString::to_string).collect();
            permit = Some(given);
        }
    }
    let looked = if wanted.writes && kind == Kind::File {
        whole(&plain, wanted.from, region)
    } else {
        sample(&plain, wanted.from, region)
    };
    let health = "look at its health and error log (nvme smart-log, smartctl), or name another";
    let seen = looked.map_err(system("read", &bytes, health))?;
    unasked.extend(seen.unreadable());
    if kind == Kind::File
        && wanted.writes
        && let Some(sector) = seen.foreign()
    {
        return Err(TargetError::NotOurs {
            path: path.to_owned(),
            sector,
        });
    }
    let direct = match kind {
        Kind::File => {
            let opened = open(path, wanted.writes);
            opened.map_err(system("open", path, next))?.1
        }
        Kind::Device | Kind::Namespace => true,
    };
    Ok(Prepared {
        path: path.to_owned(),
        kind,
        from: wanted.from,
        region,
        size,
        direct,
        state: state(&seen, &plain, wanted.from, region),
        made: false,
        unasked,
        identity: Identity::of(&meta),
        permit,
    })
}

fn aligned(wanted: &Wanted<'_>) -> Result<(), TargetError> {
    if wanted.from.0.is_multiple_of(wanted.block.0.max(1)) {
        return Ok(());
    }
    Err(TargetError::Unaligned {
        from: wanted.from,
        block: wanted.block,
    })
}

fn kind(path: &Path, meta: &fs::Metadata) -> Result<Kind, TargetError> {
    let kind = meta.file_type();
    let found = match kind {
        _ if kind.is_file() => return Ok(Kind::File),
        _ if kind.is_block_device() => return Ok(Kind::Device),
        _ if kind.is_char_device() && block_device_of(meta.rdev()).is_ok() => {
            return Ok(Kind::Namespace);
        }
        _ if kind.is_dir() => "a folder",
        _ if kind.is_char_device() => "a character device that is no NVMe namespace",
        _ => "a pipe or socket",
    };
    Err(TargetError::NotATarget {
        path: path.to_owned(),
        found,
    })
}

/// The block device of the namespace whose character device has this number: `/dev/nvme0n1` beside `ng0n1`
/// (drivers/nvme/host/core.c names both alike).
fn block_device_of(number: u64) -> io::Result<PathBuf> {
    let (major, minor) = (libc::major(number), libc::minor(number));
    let device = fs::canonicalize(format!("/sys/dev/char/{major}:{minor}"))?;
    let name = device.file_name().and_then(|name| name.to_str());
    let space = name
        .and_then(|name| name.strip_prefix("ng"))
        .ok_or_else(|| io::Error::other("it is no NVMe namespace's"))?;
    let path = PathBuf::from(format!("/dev/nvme{space}"));
    if fs::metadata(&path)?.file_type().is_block_device() {
        Ok(path)
    } else {
        Err(io::Error::other(format!(
            "{} is no block device",
            path.display()
        )))
    }
}

/// Whether a permit is of the block device of that number.
fn is_of(permit: &Permit, number: u64) -> bool {
    let held = permit.device().number;
    (held.major, held.minor) == (libc::major(number), libc::minor(number))
}

/// What the write guard says of the drive of that number at `bytes`, which the user names `path`.
fn permitted(
    path: &Path,
    bytes: &Path,
    number: u64,
    wanted: &Wanted<'_>,
) -> Result<Arc<Permit>, TargetError> {
    let Some(typed) = wanted.destroy else {
        return Err(TargetError::NotNamed {
            path: path.to_owned(),
        });
    };
    let guarded = |why: String| TargetError::Guarded {
        path: path.to_owned(),
        // One line, as every error is.
        why: why.lines().collect::<Vec<_>>().join("; "),
    };
    let is_it = |permit: &&Arc<Permit>| is_of(permit, number);
    let mut held = wanted.held.iter().filter_map(|p| p.permit.as_ref());
    if let Some(permit) = held.find(is_it) {
        let (identity, _) = strata_guard::Identity::of(permit.device());
        return match identity.typed_matches(typed) {
            Ok(()) => Ok(Arc::clone(permit)),
            Err(mismatch) => Err(guarded(format!("not writing: {mismatch}"))),
        };
    }
    guard(bytes, typed)
        .map(Arc::new)
        .map_err(|e| guarded(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{claim, write_all};
    use std::os::unix::fs::FileExt;
    use strata_measure::payload;

    static GO: AtomicBool = AtomicBool::new(false);

    fn wanted(size: Option<Bytes>, block: Bytes, writes: bool) -> Wanted<'static> {
        Wanted {
            size,
            writes,
            ..Wanted::reads(block)
        }
    }

    fn ready(
        path: &Path,
        size: Option<Bytes>,
        block: Bytes,
        writes: bool,
        stop: &AtomicBool,
    ) -> Result<Prepared, TargetError> {
        prepare(path, &wanted(size, block, writes), stop)
    }

    fn looked(
        path: &Path,
        size: Option<Bytes>,
        block: Bytes,
        writes: bool,
    ) -> Result<Prepared, TargetError> {
        inspect(path, &wanted(size, block, writes))
    }

    fn made(folder: &Path, size: Bytes) -> PathBuf {
        let path = folder.join("t.dat");
        ready(&path, Some(size), Bytes(4096), false, &GO).expect("made");
        path
    }

    #[test]
    fn a_made_file_is_ours_and_may_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = made(folder.path(), Bytes::MIB * 3);
        let again = ready(&path, None, Bytes(4096), true, &GO).expect("ours");
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
        let read = looked(&path, None, Bytes(4096), false).expect("readable");
        assert_eq!(
            (read.region, read.state),
            (Bytes(8192), WrittenState::Written)
        );
        let refused = ready(&path, None, Bytes(4096), true, &GO);
        assert!(
            matches!(refused, Err(TargetError::NotOurs { sector: 0, .. })),
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
        let refused = looked(&path, None, Bytes(4096), true);
        assert!(
            matches!(refused, Err(TargetError::NotOurs { sector: 2047, .. })),
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
            let found = looked(&path, None, Bytes(4096), false).expect("readable");
            assert_eq!(found.state, WrittenState::Unwritten, "{}", path.display());
            let refused = looked(&path, None, Bytes(4096), true);
            assert!(
                matches!(refused, Err(TargetError::NotOurs { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn what_is_no_file_or_too_short_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = |e: Result<Prepared, TargetError>| {
            e.map(|_| String::new()).unwrap_or_else(|e| e.to_string())
        };
        assert!(text(looked(folder.path(), None, Bytes(512), false)).contains("a folder"));
        assert!(
            text(looked(Path::new("/dev/null"), None, Bytes(512), false))
                .contains("character device")
        );
        let gone = Path::new("/dev/strata-has-no-such-drive");
        let error = text(ready(gone, Some(Bytes(4096)), Bytes(512), false, &GO));
        assert!(error.contains("nor a drive") && !gone.exists(), "{error}");
        let odd = folder.path().join("odd");
        let from = ByteOffset(512);
        let wanted = Wanted {
            from,
            ..Wanted::reads(Bytes(4096))
        };
        let error = text(prepare(&odd, &wanted, &GO));
        assert!(error.contains("--offset") && !odd.exists(), "{error}");
        let path = made(folder.path(), Bytes(8192));
        assert!(text(looked(&path, Some(Bytes(16384)), Bytes(512), false)).contains("holds 8KiB"));
        assert!(text(looked(&path, None, Bytes(16384), false)).contains("--bs"));
        let nowhere = folder.path().join("no/such/file");
        assert!(text(ready(&nowhere, None, Bytes(512), false, &GO)).contains("folder that exists"));
        let huge = folder.path().join("huge");
        let error = text(ready(
            &huge,
            Some(Bytes::GIB * (1 << 20)),
            Bytes(512),
            false,
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
        let make = || ready(&path, Some(Bytes::MIB), Bytes(4096), false, &GO);
        fs::write(&partial, "my half of a download").expect("written");
        let refused = make();
        assert!(
            matches!(refused, Err(TargetError::NotOurs { .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read(&partial).expect("kept"), b"my half of a download");
        fs::remove_file(&partial).expect("removed");

        let other = claim(&partial).expect("nobody has it");
        let refused = make();
        assert!(
            matches!(refused, Err(TargetError::Busy { .. })),
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
        let stopped = ready(&path, Some(Bytes::MIB), Bytes(4096), false, &stop);
        assert!(
            matches!(stopped, Err(TargetError::Interrupted { .. })),
            "{stopped:?}"
        );
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
