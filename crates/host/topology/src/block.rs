//! Block devices: disks and their partitions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{ByteOffset, Bytes, NodeId, PciAddress};

use crate::multipath::{self, NvmeNamespace, NvmePath};
use crate::nvme::NvmeController;
use crate::pci::{PciFunction, function_of};
use crate::queue::BlockQueue;
use crate::reality::Judgement;
use crate::root::{Reader, numbered};

/// sysfs counts sizes in units of 512 bytes whatever the device's block size (`Documentation/ABI/stable/sysfs-block`).
const SECTOR: u64 = 512;

/// A whole block device (`Documentation/ABI/stable/sysfs-block` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Its name (`nvme0n1`, `sda`, `dm-0`).
    pub name: String,
    /// Device number, `major:minor`.
    pub number: Option<String>,
    /// Capacity.
    #[serde(rename = "size_bytes")]
    pub size: Option<Bytes>,
    /// Logical block size: the least that can be addressed.
    #[serde(rename = "logical_block_bytes")]
    pub logical_block: Option<Bytes>,
    /// Whether it turns.
    pub rotational: Option<bool>,
    /// How the block layer is set for it.
    pub queue: BlockQueue,
    /// The PCI function that it hangs from; of a multipath head that of the only live path.
    pub pci: Option<PciAddress>,
    /// The node of that function; `None` when untold.
    pub node: Option<NodeId>,
    /// Why a multipath head's function is not known: several paths are live, or none.
    pub placement_unknown: Option<String>,
    /// Paths of a multipath head.
    pub paths: Vec<NvmePath>,
    /// What the drive tells of it when it is an NVMe namespace.
    pub namespace: Option<NvmeNamespace>,
    /// The virtio device that it is (`virtio1`).
    pub virtio: Option<String>,
    /// The vendor that a SCSI device tells.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide name or other unique identity.
    pub wwid: Option<String>,
    /// Partitions.
    pub partitions: Vec<Partition>,
    /// Block devices that it is made of (device mapper, md).
    pub made_of: Vec<String>,
    /// Block devices made of it.
    pub holders: Vec<String>,
    /// The file behind a loop device, as the kernel names it.
    pub backing_file: Option<String>,
    /// The disk or partition that this file lies on.
    pub backed_by: Option<String>,
    /// Every PCI function that it stands on, whatever is between.
    pub functions: Vec<PciAddress>,
    /// Path of the device below the root.
    pub path: String,
    /// How real it is.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// Its name (`nvme0n1p2`).
    pub name: String,
    /// Device number, `major:minor`.
    pub number: Option<String>,
    /// Where it begins on the disk.
    #[serde(rename = "start_bytes")]
    pub start: Option<ByteOffset>,
    /// How long it is.
    #[serde(rename = "size_bytes")]
    pub size: Option<Bytes>,
}

/// The virtio device on a path (`…/virtio1/block/vda`).
pub(crate) fn virtio_of(path: &str) -> Option<String> {
    path.split('/')
        .find(|part| numbered(part, "virtio").is_some())
        .map(str::to_owned)
}

/// Disks in the order of their names. Their judgements are made later, when all of them are known.
pub(crate) fn read(
    reader: &Reader,
    functions: &[PciFunction],
    controllers: &mut [NvmeController],
) -> Vec<Disk> {
    // `class/block` has partitions too and is newer than `block`.
    let folder = ["sys/block", "sys/class/block"]
        .into_iter()
        .flat_map(|folder| {
            reader
                .names(folder)
                .into_iter()
                .map(move |name| (name, folder))
        });
    let mut places: Vec<(String, &str)> = folder.collect();
    places.sort_unstable();
    places.dedup_by(|one, other| one.0 == other.0);
    let mut disks: Vec<Disk> = places
        .into_iter()
        .filter_map(|(name, folder)| disk(reader, name, folder))
        .collect();
    for disk in &mut disks {
        disk.paths = multipath::paths(reader, controllers, &disk.name);
        if !disk.paths.is_empty() {
            disk.settle();
        } else if let Some(owner) = controllers
            .iter()
            .find(|c| c.namespaces.contains(&disk.name))
        {
            disk.pci = disk.pci.or(owner.pci);
        } else if disk.name.starts_with("nvme") && disk.pci.is_some() {
            let same = controllers
                .iter_mut()
                .find(|c| c.pci == disk.pci && c.name.is_none());
            if let Some(owner) = same {
                owner.namespaces.push(disk.name.clone());
            }
        }
        let function = functions.iter().find(|f| Some(f.address) == disk.pci);
        disk.node = function.and_then(|f| f.node);
    }
    disks
}

impl Disk {
    /// A multipath head is where its only live path is; nobody knows which of several a request takes.
    fn settle(&mut self) {
        let mut live = self.paths.iter().filter(|path| path.live);
        let (first, more) = (live.next(), live.count());
        self.pci = first.filter(|_| more == 0).and_then(|path| path.pci);
        self.placement_unknown = match first {
            None => Some("placement unknown: no live path".to_owned()),
            Some(_) if more > 0 => Some(format!("placement unknown: {} live paths", more + 1)),
            Some(_) => None,
        };
    }
}

fn disk(reader: &Reader, name: String, folder: &str) -> Option<Disk> {
    let at = format!("{folder}/{name}");
    // A path of a multipath namespace (`nvme0c1n1`) is hidden: nothing can be opened there.
    if reader.exists(&format!("{at}/partition"))
        || reader.flag(&format!("{at}/hidden")) == Some(true)
    {
        return None;
    }
    let path = reader.real(&at)?;
    // Partitions of old kernels have no such file; they lie in their disk's folder.
    let (above, _) = path.rsplit_once('/')?;
    if !above.ends_with("/block") && reader.exists(&format!("{above}/size")) {
        return None;
    }
    let word = |file: &str| reader.word(&format!("{at}/{file}"));
    let partitions = reader
        .names(&at)
        .into_iter()
        .filter(|entry| entry.starts_with(&name) && reader.exists(&format!("{at}/{entry}/size")))
        .map(|entry| Partition {
            number: word(&format!("{entry}/dev")),
            start: sectors(reader, &format!("{at}/{entry}/start")).map(ByteOffset),
            size: sectors(reader, &format!("{at}/{entry}/size")).map(Bytes),
            name: entry,
        })
        .collect();
    let logical_block = reader
        .value(
            &format!("{at}/queue/logical_block_size"),
            "a number of bytes",
        )
        .map(Bytes);
    Some(Disk {
        number: word("dev"),
        size: sectors(reader, &format!("{at}/size")).map(Bytes),
        logical_block,
        queue: BlockQueue::read(reader, &at),
        namespace: NvmeNamespace::read(reader, &at, logical_block),
        placement_unknown: None,
        paths: Vec::new(),
        rotational: reader.flag(&format!("{at}/queue/rotational")),
        pci: function_of(&path),
        node: None,
        virtio: virtio_of(&path),
        vendor: word("device/vendor").filter(|vendor| !vendor.starts_with("0x")),
        model: word("device/model"),
        serial: word("device/serial").or_else(|| word("serial")),
        wwid: word("wwid").or_else(|| word("device/wwid")),
        partitions,
        made_of: reader.names(&format!("{at}/slaves")),
        holders: reader.names(&format!("{at}/holders")),
        backing_file: word("loop/backing_file"),
        backed_by: None,
        functions: Vec::new(),
        path,
        judgement: Judgement::default(),
        name,
    })
}

fn sectors(reader: &Reader, path: &str) -> Option<u64> {
    let sectors: u64 = reader.value(path, "a number of sectors")?;
    let bytes = sectors.checked_mul(SECTOR);
    if bytes.is_none() {
        reader.note(
            path,
            format!("{sectors} sectors are more than 64 bits of bytes"),
        );
    }
    bytes
}
