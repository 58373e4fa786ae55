//! The permit to write, and the one way to it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::content::{content, number};
use crate::device::{Device, DeviceError};
use crate::identity::Identity;
use crate::refusal::{Refusal, Unasked};
use crate::uses::uses;

/// That a block device may be written: nothing forbade it, and it is held exclusively for as long as this lives, so that nobody
/// mounts it or makes something of it meanwhile. There is no other way to one than [`guard`].
#[derive(Debug)]
pub struct Permit {
    file: File,
    device: Device,
    blank: bool,
    unasked: Vec<Unasked>,
}

/// That it may not, and all reasons why.
#[derive(Debug)]
pub struct Refused {
    /// The reasons, one at least.
    pub refusals: Vec<Refusal>,
    /// What could not be asked.
    pub unasked: Vec<Unasked>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.refusals.iter().map(ToString::to_string);
        let lines: Vec<String> = lines
            .chain(self.unasked.iter().map(ToString::to_string))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// Why [`guard`] gives no permit.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// There is no such block device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is, and it may not be written.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Permit {
    /// The device, open for reading and writing past the page cache (O_DIRECT), held exclusively (O_EXCL).
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What it was found to be.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether both ends read as zeros. If not, it holds data that no signature names.
    pub fn is_blank(&self) -> bool {
        self.blank
    }

    /// What could not be asked, to be told before the first write.
    pub fn unasked(&self) -> &[Unasked] {
        &self.unasked
    }

    /// Another open file on the same device, for a measuring thread of its own: through the descriptor held, not by the path.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        match number(&file)? == Some(self.device.number) {
            true => Ok(file),
            false => Err(io::Error::other("another device is there now")),
        }
    }
}

/// All checks of the block device at `path`; a permit if none of them refuses.
///
/// `typed` is what the user typed as its identity ([`Identity`]). The device is opened exclusively before anything is looked
/// at, so that what was found stays true; number, sequence and identity are compared once more at the end.
///
/// # Errors
/// The path is no block device; or every reason found that forbids writing.
pub fn guard(path: &Path, typed: &str) -> Result<Permit, GuardError> {
    let device = Device::at(path)?;
    let mut refusals = Vec::new();
    let held = open(path, &device, &mut refusals)?;
    let (identity, mut unasked) = Identity::of(&device);
    if let Err(mismatch) = identity.typed_matches(typed) {
        refusals.push(Refusal::Identity(mismatch));
    }
    let found = uses(&device);
    refusals.extend(found.refusals);
    unasked.extend(found.unasked);
    // Without the right to hold it, what may be read of it still adds to the reasons.
    let readable = held
        .as_ref()
        .map(File::try_clone)
        .unwrap_or_else(|| File::open(node(path, &device)));
    let blank = content(readable, &device, &mut refusals, &mut unasked);
    match held {
        Some(file) if refusals.is_empty() => Ok(Permit {
            file,
            device,
            blank,
            unasked,
        }),
        _ => Err(Refused { refusals, unasked }.into()),
    }
}

/// The block device's node: the path itself, or that of the namespace when the path is a character device.
fn node(path: &Path, device: &Device) -> std::path::PathBuf {
    let is_block = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    if is_block {
        path.to_owned()
    } else {
        Path::new("/dev").join(&device.name)
    }
}

/// The device, held exclusively; without it there is a refusal among the others.
fn open(
    path: &Path,
    device: &Device,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<File>, DeviceError> {
    let name = device.name.clone();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL | libc::O_DIRECT)
        .open(node(path, device));
    let same = opened.and_then(|file| Ok((number(&file)?, file)));
    let refusal = match same {
        Ok((found, file)) if found == Some(device.number) => return Ok(Some(file)),
        Ok(_) => Refusal::Changed {
            device: name,
            found: "another device is at its path now".to_owned(),
        },
        Err(why) => match why.raw_os_error() {
            Some(libc::EBUSY) => Refusal::InUse { device: name },
            // The flag in sysfs tells it already.
            Some(libc::EROFS | libc::EACCES) if device.read_only => return Ok(None),
            _ => Refusal::CannotOpen {
                device: name,
                why: why.to_string(),
            },
        },
    };
    refusals.push(refusal);
    Ok(None)
}
