//! On what device a file lies, and how real that is.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::Reality;
use strata_units::{Bytes, NodeId, PciAddress};

use crate::block::Disk;
use crate::mounts::{self, Mount};
use crate::reality::{self, Judgement};
use crate::root::{Reader, Root};
use crate::topology::Topology;

/// File systems whose data never leaves memory (but for swap).
const IN_MEMORY: [&str; 4] = ["tmpfs", "ramfs", "devtmpfs", "hugetlbfs"];

/// File systems whose data is on another machine.
const REMOTE: [&str; 12] = [
    "nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "beegfs", "gpfs", "afs", "9p", "orangefs",
    "ocfs2",
];

/// What lies under a file, a folder or a block device's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDevice {
    /// The path asked for.
    pub path: PathBuf,
    /// Type of the file system (`ext4`); `None` for a block device itself.
    pub filesystem: Option<String>,
    /// What is mounted (`/dev/nvme0n1p2`, `tmpfs`, `server:/export`).
    pub source: Option<String>,
    /// Where it is mounted.
    pub mount_point: Option<String>,
    /// The block device that holds the file system: a disk or a partition.
    pub device: Option<String>,
    /// The disk of that device.
    pub disk: Option<String>,
    /// The disk's PCI function.
    pub pci: Option<PciAddress>,
    /// The node of that function.
    pub node: Option<NodeId>,
    /// The disk's model.
    pub model: Option<String>,
    /// The disk's serial number.
    pub serial: Option<String>,
    /// The disk's logical block size: what O_DIRECT must be aligned to.
    #[serde(rename = "logical_block_bytes")]
    pub logical_block: Option<Bytes>,
    /// How real it is.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// Why the device below a file could not be looked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell what device {} lies on: {source}; give a file, folder or block device that exists and that you may reach", path.display())]
pub struct FileDeviceError {
    path: PathBuf,
    source: io::Error,
}

/// The device under a file, a folder or a block device's node, on this machine.
///
/// `topology` is that of [`Root::live`]. The mount is found by its number (`mnt_id` of proc_pid_fdinfo(5)), not by the
/// longest path, so that mounts over mounts do not mislead.
///
/// # Errors
/// The path is absent or out of reach. A device that cannot be found is no error: its fields are `None` and
/// [`Judgement::reality_why`] says why.
pub fn file_device(topology: &Topology, path: &Path) -> Result<FileDevice, FileDeviceError> {
    look(topology, path, 0)
}

pub(crate) fn look(
    topology: &Topology,
    path: &Path,
    depth: u32,
) -> Result<FileDevice, FileDeviceError> {
    let fail = |source| FileDeviceError {
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(fail)?;
    if found.file_type().is_block_device() {
        let bare = FileDevice::on(path, None);
        return Ok(bare.with_number(topology, &number(found.rdev()), depth));
    }
    let mount = mount_of(path, &number(found.dev())).map_err(fail)?;
    let on = FileDevice::on(path, mount.as_ref());
    let Some(mount) = mount else {
        return Ok(on.judged(Judgement::unknown(
            "its mount is not in /proc/self/mountinfo",
        )));
    };
    if !found.is_file() && !found.is_dir() {
        return Ok(on.judged(Judgement::unknown(
            "it is neither file, folder nor block device, so its file system does not hold its data",
        )));
    }
    let kind = mount.kind.as_str();
    if IN_MEMORY.contains(&kind) {
        return Ok(on.judged(Judgement::is(
            Reality::Memory,
            format!("its file system is {kind}"),
        )));
    }
    if kind == "overlay" {
        return Ok(overlay(topology, on, &mount, depth));
    }
    if kind == "virtiofs" {
        return Ok(on.judged(Judgement::is(
            Reality::Virtual,
            "its file system is virtiofs, served by the hypervisor",
        )));
    }
    if REMOTE.contains(&kind) || kind.starts_with("fuse") {
        return Ok(on.judged(Judgement::unknown(format!(
            "its file system is {kind}: its device is behind a server"
        ))));
    }
    if libc::major(found.dev()) != 0 {
        return Ok(on.with_number(topology, &number(found.dev()), depth));
    }
    // btrfs and others have device numbers of their own making; the mount's source is a device of theirs.
    match fs::metadata(&mount.source) {
        Ok(source) if source.file_type().is_block_device() => {
            Ok(on.with_number(topology, &number(source.rdev()), depth))
        }
        _ => Ok(on.judged(Judgement::unknown(format!(
            "its file system is {kind} on {:?}, which is no block device",
            mount.source
        )))),
    }
}

/// New files of an overlay lie in its upper folder, which a container cannot see as a rule.
fn overlay(topology: &Topology, on: FileDevice, mount: &Mount, depth: u32) -> FileDevice {
    let below = mount
        .option("upperdir")
        .filter(|_| depth < reality::DEEPEST)
        .and_then(|upper| look(topology, Path::new(upper), depth + 1).ok());
    match below {
        Some(below) => FileDevice {
            path: on.path,
            filesystem: on.filesystem,
            source: on.source,
            mount_point: on.mount_point,
            ..below
        },
        None => on.judged(Judgement::unknown(
            "its file system is an overlay whose upper folder is out of sight; use a volume or a folder that is mounted from the host",
        )),
    }
}

fn mount_of(path: &Path, number: &str) -> io::Result<Option<Mount>> {
    // O_PATH needs no permission to read, and opens no FIFO or device.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    let root = Root::live();
    let reader = Reader::new(&root);
    let info = reader.text(&format!("proc/self/fdinfo/{}", opened.as_raw_fd()));
    let id: Option<u64> = info.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        line.trim().parse().ok()
    });
    let mounts = mounts::read(&reader);
    let by_id = mounts.iter().find(|mount| id.is_some() && mount.id == id);
    let by_number = || {
        mounts
            .iter()
            .rev()
            .find(|mount| mount.number.as_deref() == Some(number))
    };
    Ok(by_id.or_else(by_number).cloned())
}

fn number(number: u64) -> String {
    format!("{}:{}", libc::major(number), libc::minor(number))
}

impl FileDevice {
    fn on(path: &Path, mount: Option<&Mount>) -> FileDevice {
        FileDevice {
            path: path.to_owned(),
            filesystem: mount.map(|m| m.kind.clone()),
            source: mount.map(|m| m.source.clone()),
            mount_point: mount.map(|m| m.point.clone()),
            device: None,
            disk: None,
            pci: None,
            node: None,
            model: None,
            serial: None,
            logical_block: None,
            judgement: Judgement::default(),
        }
    }

    fn judged(self, judgement: Judgement) -> FileDevice {
        FileDevice { judgement, ..self }
    }

    fn with_number(self, topology: &Topology, number: &str, depth: u32) -> FileDevice {
        let Some((disk, device)) = topology.device_numbered(number) else {
            return self.judged(Judgement::unknown(format!(
                "block device {number} is not in /sys/class/block"
            )));
        };
        let judgement = reality::of_disk(topology, disk, depth);
        let below = single_disk_below(topology, disk, 0).unwrap_or(disk);
        FileDevice {
            device: Some(device.to_owned()),
            disk: Some(disk.name.clone()),
            pci: below.pci,
            node: below.node,
            model: below.model.clone(),
            serial: below.serial.clone(),
            logical_block: disk.logical_block,
            judgement,
            ..self
        }
    }
}

/// The one disk that a chain of device-mapper or md devices stands on; `None` when it stands on several.
fn single_disk_below<'t>(topology: &'t Topology, disk: &'t Disk, depth: u32) -> Option<&'t Disk> {
    match &disk.made_of[..] {
        [] => Some(disk),
        [part] if depth < reality::DEEPEST => {
            single_disk_below(topology, topology.disk_holding(part)?, depth + 1)
        }
        _ => None,
    }
}
