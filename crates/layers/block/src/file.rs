//! The file that the suite makes for itself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use strata_measure::{payload, storage};
use strata_units::{ByteOffset, Bytes};

use crate::target::{TargetError, system};

/// Writes a new file of `size`, whole sectors that carry their numbers, first under another name, so that a file of this
/// name is always whole.
pub(crate) fn fill(
    path: &Path,
    size: Bytes,
    seed: u64,
    interrupted: &AtomicBool,
) -> Result<(), TargetError> {
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
        return Err(TargetError::NoRoom {
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
            return Err(TargetError::Interrupted {
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
pub(crate) fn claim(path: &Path) -> Result<File, TargetError> {
    let make = system("make", path, WRITABLE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(&make)?;
    let busy = || TargetError::Busy {
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
        return Err(TargetError::NotOurs {
            path: path.to_owned(),
            sector: 0,
        });
    }
    file.set_len(0).map_err(&make)?;
    Ok(file)
}

/// Whether it came to the end.
pub(crate) fn write_all(
    path: &Path,
    mut file: &File,
    size: Bytes,
    seed: u64,
    interrupted: &AtomicBool,
) -> Result<bool, TargetError> {
    let write = |_, bytes: &[u8]| file.write_all(bytes);
    let whole = storage::fill(write, ByteOffset(0), size, seed, interrupted)
        .map_err(system("fill", path, WRITABLE))?;
    if whole {
        file.sync_all().map_err(system("sync", path, WRITABLE))?;
        // What is read past the page cache must not be answered from it, and it shall not crowd out other pages.
        crate::sys::drop_cached(file);
    }
    Ok(whole)
}
