//! A block device, as sysfs knows it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use strata_topology::Root;
use strata_units::Bytes;

use crate::tree::Tree;

/// A device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Of the driver.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
}

impl DeviceNumber {
    pub(crate) fn of(number: u64) -> DeviceNumber {
        DeviceNumber {
            major: libc::major(number),
            minor: libc::minor(number),
        }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceNumber {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').unwrap_or((text, ""));
        Ok(DeviceNumber {
            major: major.parse()?,
            minor: minor.parse()?,
        })
    }
}

/// Why there is no such block device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The node cannot be looked at.
    #[error("cannot look at {}: {source}; name a block device, such as /dev/nvme0n1 (`strata topology` lists them)", path.display())]
    Unreachable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no block device; the guard is for block devices such as /dev/nvme0n1, and for NVMe's /dev/ng0n1", path.display())]
    NotABlockDevice {
        /// The path.
        path: PathBuf,
    },
    /// sysfs does not know it.
    #[error("cannot find block device {name} below {}: {why}; mount sysfs, and give a device that it lists in sys/class/block", root.display())]
    Unknown {
        /// Its name or number.
        name: String,
        /// The root that was looked under.
        root: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
}

/// A disk, partition or stacked device (`Documentation/ABI/stable/sysfs-block`, `testing/sysfs-block-loop`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name (`nvme0n1p2`).
    pub name: String,
    /// Its number.
    pub number: DeviceNumber,
    /// The disk of a partition, and the partition's number on it.
    pub part_of: Option<(String, u32)>,
    /// Length.
    pub size: Bytes,
    /// The least that can be addressed.
    pub logical_block: Bytes,
    /// Whether the kernel refuses writes.
    pub read_only: bool,
    /// Serial number, of the disk.
    pub serial: Option<String>,
    /// World-wide name or other unique identity, of the disk.
    pub wwid: Option<String>,
    /// The file behind a loop device.
    pub backing_file: Option<String>,
    /// Number that no other device has had since the machine started (Linux 5.15).
    pub sequence: Option<u64>,
    root: Root,
}

impl Device {
    /// The device at a path of this machine; `/dev/ngXnY` stands for its namespace's block device.
    ///
    /// # Errors
    /// It is absent, out of reach, no block device, or not in sysfs.
    pub fn at(path: &Path) -> Result<Device, DeviceError> {
        let found = std::fs::metadata(path).map_err(|source| DeviceError::Unreachable {
            path: path.to_owned(),
            source,
        })?;
        let root = Root::live();
        let number = Tree(&root).device_of(&found);
        let number = number.ok_or_else(|| DeviceError::NotABlockDevice {
            path: path.to_owned(),
        })?;
        let real = Tree(&root).real(&format!("sys/dev/block/{number}"));
        let name = real.as_deref().and_then(|real| real.rsplit('/').next());
        let device = Device::named(&root, name.unwrap_or(&number.to_string()))?;
        match device.number == number {
            true => Ok(device),
            false => Err(device.unknown(format!("sysfs gives it the number {}", device.number))),
        }
    }

    /// A device by the kernel's name, under any root.
    ///
    /// # Errors
    /// sysfs below the root does not have it, or not its number and size.
    pub fn named(root: &Root, name: &str) -> Result<Device, DeviceError> {
        let tree = Tree(root);
        let fail = |why: String| DeviceError::Unknown {
            name: name.to_owned(),
            root: root.path().to_owned(),
            why,
        };
        let own = tree
            .real(&format!("sys/class/block/{name}"))
            .filter(|_| !name.is_empty() && !name.contains('/'))
            .ok_or_else(|| fail("sys/class/block does not have it".to_owned()))?;
        let text = |path: String| {
            let read = tree.text(&path);
            read.map_err(|error| fail(format!("{path}: {error}")))
        };
        let number = |path: String| match text(path.clone())? {
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| fail(format!("{path}: found {text:?}, expected a number"))),
            None => Ok(None),
        };
        let need = |what: &str| fail(format!("it has no {what}"));
        let part = number(format!("{own}/partition"))?.and_then(|part| u32::try_from(part).ok());
        let disk = match part {
            Some(_) => own
                .rsplit_once('/')
                .map(|(disk, _)| disk.to_owned())
                .ok_or_else(|| need("disk"))?,
            None => own.clone(),
        };
        let disk_name = disk.rsplit('/').next().unwrap_or(&disk).to_owned();
        let first = |files: &[&str]| -> Result<Option<String>, DeviceError> {
            for file in files {
                if let Some(found) = text(format!("{disk}/{file}"))? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        // Counted in units of 512 bytes whatever the block size.
        let sectors = number(format!("{own}/size"))?.ok_or_else(|| need("size"))?;
        Ok(Device {
            name: name.to_owned(),
            number: text(format!("{own}/dev"))?
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| need("number"))?,
            part_of: part.map(|part| (disk_name, part)),
            size: Bytes(sectors.saturating_mul(512)),
            logical_block: Bytes(
                number(format!("{disk}/queue/logical_block_size"))?.unwrap_or(512),
            ),
            read_only: number(format!("{own}/ro"))? == Some(1)
                || number(format!("{disk}/ro"))? == Some(1),
            serial: first(&["device/serial", "serial"])?,
            wwid: first(&["wwid", "device/wwid", "dm/uuid", "md/uuid"])?,
            backing_file: first(&["loop/backing_file"])?,
            sequence: number(format!("{disk}/diskseq"))?,
            root: root.clone(),
        })
    }

    /// The root that it was read under.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The same device, read again.
    pub(crate) fn again(&self) -> Result<Device, DeviceError> {
        Device::named(&self.root, &self.name)
    }

    /// The name of the disk: its own, or that of the disk that it is a partition of.
    pub fn disk(&self) -> &str {
        self.part_of.as_ref().map_or(&self.name, |(disk, _)| disk)
    }

    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree(&self.root)
    }

    fn unknown(&self, why: String) -> DeviceError {
        DeviceError::Unknown {
            name: self.name.clone(),
            root: self.root.path().to_owned(),
            why,
        }
    }
}
