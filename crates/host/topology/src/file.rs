//! On what device a file lies, and how real that is.

use std::collections::BTreeSet;
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
use crate::multipath::NvmeGeneric;
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
    /// The PCI function that all this stands on, where it is one alone.
    pub pci: Option<PciAddress>,
    /// The node of that function, or of all of them.
    pub node: Option<NodeId>,
    /// Every PCI function that it stands on, ascending; of a multipath head those of all live paths.
    pub functions: Vec<PciAddress>,
    /// Why the function and its node are not known though there are some.
    pub placement_unknown: Option<String>,
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
    if found.file_type().is_char_device() {
        let number = number(found.rdev());
        let mut generic = topology.nvme_generic.iter();
        if let Some(generic) = generic.find(|g| g.number.as_deref() == Some(number.as_str())) {
            return Ok(FileDevice::on(path, None).with_generic(topology, generic, depth));
        }
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
            functions: Vec::new(),
            placement_unknown: None,
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
        self.with_disk(topology, disk, device, depth)
    }

    /// A namespace's character device leads where its block device does; it may have none.
    fn with_generic(self, topology: &Topology, generic: &NvmeGeneric, depth: u32) -> FileDevice {
        if let Some(disk) = topology.disk(&generic.disk) {
            return self.with_disk(topology, disk, &generic.name, depth);
        }
        let function = generic.pci.and_then(|pci| topology.function(pci));
        let owner = generic.pci.and_then(|pci| {
            let mut owners = topology.nvme.iter();
            owners.find(|owner| owner.pci == Some(pci))
        });
        FileDevice {
            device: Some(generic.name.clone()),
            pci: generic.pci,
            node: function.and_then(|function| function.node),
            functions: generic.pci.into_iter().collect(),
            model: owner.and_then(|owner| owner.model.clone()),
            serial: owner.and_then(|owner| owner.serial.clone()),
            judgement: reality::of_generic(topology, generic),
            ..self
        }
    }

    fn with_disk(self, topology: &Topology, disk: &Disk, device: &str, depth: u32) -> FileDevice {
        let bottom = topology.disks_below(&disk.name);
        let functions = topology.functions_below(&disk.name);
        let unknown = bottom
            .iter()
            .find_map(|below| below.placement_unknown.clone());
        let several = || {
            let count = functions.len();
            (count > 1).then(|| format!("placement unknown: it stands on {count} PCI functions"))
        };
        // Requests to a stack go to all its parts, so a node that all have is its own; those to a multipath head do not.
        let nodes: BTreeSet<Option<NodeId>> = functions
            .iter()
            .map(|address| topology.function(*address)?.node)
            .collect();
        let node = match (unknown.is_none(), nodes.len()) {
            (true, 1) => nodes.first().copied().flatten(),
            _ => None,
        };
        let alone = match bottom[..] {
            [one] => Some(one),
            _ => None,
        };
        FileDevice {
            device: Some(device.to_owned()),
            disk: Some(disk.name.clone()),
            pci: match functions[..] {
                [one] if unknown.is_none() => Some(one),
                _ => None,
            },
            node,
            placement_unknown: unknown.or_else(several),
            functions,
            model: alone.and_then(|below| below.model.clone()),
            serial: alone.and_then(|below| below.serial.clone()),
            logical_block: disk.logical_block,
            judgement: reality::of_disk(topology, disk, depth),
            ..self
        }
    }
}
