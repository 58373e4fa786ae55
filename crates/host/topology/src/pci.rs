//! PCI functions: identity, node, driver, link, and the bridge above.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{NodeId, PciAddress};

use crate::Root;
use crate::interrupts::{Vector, Vectors};
use crate::root::Reader;

pub(crate) const FOLDER: &str = "sys/bus/pci/devices";

/// Device numbers of Intel's VMDs.
const VMDS: [u16; 10] = [
    0x201d, 0x28c0, 0x467f, 0x4c3d, 0x7d0b, 0x9a0b, 0xa77f, 0xad0b, 0xb06f, 0xb60b,
];

/// Bits a second.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct BitRate(pub u64);

impl BitRate {
    /// From Gb/s as a decimal text (`2.5`).
    pub(crate) fn from_gigabits(text: &str) -> Option<BitRate> {
        let gigabits: f64 = text.parse().ok()?;
        // Above this a text is no link's rate.
        (gigabits > 0.0 && gigabits < 1e6).then(|| BitRate((gigabits * 1e9).round() as u64))
    }
}

/// A PCI Express link: signalling rate of a lane and number of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieLink {
    /// Raw bits a second of one lane, before encoding (16 GT/s is 16 000 000 000).
    #[serde(rename = "lane_bits_per_s")]
    pub lane: BitRate,
    /// Lanes.
    pub width: u8,
}

impl PcieLink {
    /// Bytes a second in each direction after line encoding: 8b/10b at 2.5 and 5 GT/s (PCI Express Base 5.0 §4.2.1),
    /// 128b/130b from 8 to 32 GT/s (§4.2.2); from 64 GT/s on 236 of a FLIT's 256 bytes are packets (Base 6.0 §4.2.3).
    /// Headers of packets come off that as well.
    pub fn bytes_per_s(self) -> f64 {
        let encoding = if self.lane <= BitRate(5_000_000_000) {
            8.0 / 10.0
        } else if self.lane <= BitRate(32_000_000_000) {
            128.0 / 130.0
        } else {
            236.0 / 256.0
        };
        self.lane.0 as f64 * f64::from(self.width) * encoding / 8.0
    }
}

impl fmt::Display for PcieLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GT/s x{}", self.lane.0 as f64 / 1e9, self.width)
    }
}

/// A PCI function (`Documentation/ABI/testing/sysfs-bus-pci` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PciFunction {
    /// Its address.
    pub address: PciAddress,
    /// The function above it in the tree: root port or switch port; `None` on a root bus.
    pub parent: Option<PciAddress>,
    /// Vendor number.
    pub vendor: Option<u16>,
    /// Device number.
    pub device: Option<u16>,
    /// Subsystem's vendor number.
    pub subsystem_vendor: Option<u16>,
    /// Class code: base class, subclass, programming interface (0x010802 is NVMe).
    pub class: Option<u32>,
    /// Its node; `None` when firmware tells none (`numa_node` −1).
    pub node: Option<NodeId>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// The physical function that it is a virtual function of.
    pub physical_function: Option<PciAddress>,
    /// What it can be divided into (SR-IOV); `None` when it cannot.
    pub virtual_functions: Option<VirtualFunctions>,
    /// The kernel's power state of it (`D0`, `D3cold`): the link of one that sleeps tells nothing.
    pub power_state: Option<String>,
    /// Its interrupts and where they go, by their numbers.
    pub vectors: Vec<Vector>,
    /// The link as trained now.
    pub link: Option<PcieLink>,
    /// The best link that the function can train.
    pub link_best: Option<PcieLink>,
}

/// The virtual functions of a physical one (`Documentation/PCI/pci-iov-howto.rst` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualFunctions {
    /// How many there can be.
    pub most: u32,
    /// How many are switched on; `None` when untold.
    pub enabled: Option<u32>,
    /// Those in the tree, by their numbers (`virtfn0` first).
    pub functions: Vec<PciAddress>,
}

impl PciFunction {
    /// The function at an address, as it is now and without its interrupts: far less is read than for a whole
    /// [`Topology`](crate::Topology).
    pub fn at(root: &Root, address: PciAddress) -> Option<PciFunction> {
        let reader = Reader::new(root);
        let folder = folder_of(address);
        reader.real(&folder)?;
        Some(one(&reader, address, &folder))
    }

    /// All functions, ascending.
    pub fn all(root: &Root) -> Vec<PciFunction> {
        read(&Reader::new(root))
    }

    /// What its class code says, in words (PCI Code and ID Assignment 1.11 §1); `None` for rarer ones.
    pub fn class_name(&self) -> Option<&'static str> {
        let class = self.class?;
        Some(match (class >> 16, class >> 8 & 0xff) {
            (0x01, 0x00) => "SCSI controller",
            (0x01, 0x01) => "IDE controller",
            (0x01, 0x04) => "RAID controller",
            (0x01, 0x06) => "SATA controller",
            (0x01, 0x07) => "SAS controller",
            (0x01, 0x08) => "NVMe controller",
            (0x01, _) => "storage controller",
            (0x02, 0x00) => "Ethernet controller",
            (0x02, 0x07) => "InfiniBand controller",
            (0x02, _) => "network controller",
            (0x03, _) => "display controller",
            (0x04, _) => "multimedia device",
            (0x05, 0x02) => "CXL memory",
            (0x05, _) => "memory controller",
            (0x06, 0x00) => "host bridge",
            (0x06, 0x01) => "ISA bridge",
            (0x06, 0x04) => "PCI bridge",
            (0x06, _) => "bridge",
            (0x08, _) => "system peripheral",
            (0x0b, _) => "processor",
            (0x0c, 0x03) => "USB controller",
            (0x0c, 0x05) => "SMBus",
            (0x0c, 0x06) => "InfiniBand controller",
            (0x0c, _) => "serial bus controller",
            (0x10, _) => "encryption controller",
            (0x11, _) => "signal processing controller",
            (0x12, _) => "processing accelerator",
            _ => return None,
        })
    }

    /// Whether other functions are below it: a root port, a switch's port or a bridge to PCI.
    pub fn is_bridge(&self) -> bool {
        self.class.is_some_and(|class| class >> 8 == 0x0604)
    }

    /// Whether it is an Intel Volume Management Device, which hides drives in a domain of its own (the kernel's
    /// `drivers/pci/controller/vmd.c`).
    pub fn is_vmd(&self) -> bool {
        self.driver.as_deref() == Some("vmd")
            || (self.vendor == Some(0x8086) && self.device.is_some_and(|id| VMDS.contains(&id)))
    }

    /// Whether it is an NVMe controller by its class (PCI Code and ID Assignment 1.11 §1.2: 01h, 08h, 02h or 03h).
    pub fn is_nvme(&self) -> bool {
        matches!(self.class, Some(0x01_0802 | 0x01_0803))
    }
}

/// The address of the innermost PCI function on a device's path; short forms are no names of folders.
pub(crate) fn function_of(path: &str) -> Option<PciAddress> {
    functions_on(path).next_back()
}

/// The addresses of all PCI functions on a device's path, from the root on.
pub(crate) fn functions_on(path: &str) -> impl DoubleEndedIterator<Item = PciAddress> {
    path.split('/')
        .filter(|part| part.matches(':').count() == 2)
        .filter_map(|part| part.parse().ok())
}

pub(crate) fn read(reader: &Reader) -> Vec<PciFunction> {
    let vectors = Vectors::new(reader);
    let mut functions: Vec<PciFunction> = reader
        .names(FOLDER)
        .iter()
        .filter_map(|name| {
            let folder = format!("{FOLDER}/{name}");
            let Ok(address) = name.parse::<PciAddress>() else {
                reader.note(&folder, "no PCI address");
                return None;
            };
            Some(PciFunction {
                vectors: vectors.of(&folder),
                ..one(reader, address, &folder)
            })
        })
        .collect();
    functions.sort_unstable_by_key(|function| function.address);
    functions
}

/// Functions and all that are above them, as they are now, ascending and without their interrupts.
pub(crate) fn read_above(reader: &Reader, functions: &[PciAddress]) -> Vec<PciFunction> {
    let found: BTreeSet<PciAddress> = functions
        .iter()
        .filter_map(|function| reader.real(&folder_of(*function)))
        .flat_map(|path| functions_on(&path).collect::<Vec<_>>())
        .collect();
    let read = |address: PciAddress| one(reader, address, &folder_of(address));
    found.into_iter().map(read).collect()
}

pub(crate) fn folder_of(function: PciAddress) -> String {
    format!("{FOLDER}/{function}")
}

fn one(reader: &Reader, address: PciAddress, folder: &str) -> PciFunction {
    let id = |file: &str| reader.hex(&format!("{folder}/{file}"));
    PciFunction {
        address,
        parent: reader
            .real(folder)
            .and_then(|path| functions_on(&path).rev().nth(1)),
        vendor: id("vendor"),
        device: id("device"),
        subsystem_vendor: id("subsystem_vendor"),
        class: reader.hex(&format!("{folder}/class")),
        node: node(reader, &format!("{folder}/numa_node")),
        driver: reader.link(&format!("{folder}/driver")),
        iommu_group: reader
            .link(&format!("{folder}/iommu_group"))
            .and_then(|group| group.parse().ok()),
        physical_function: reader
            .link(&format!("{folder}/physfn"))
            .and_then(|function| function.parse().ok()),
        virtual_functions: virtual_functions(reader, folder),
        power_state: reader.word(&format!("{folder}/power_state")),
        vectors: Vec::new(),
        link: link(reader, folder, "current"),
        link_best: link(reader, folder, "max"),
    }
}

fn virtual_functions(reader: &Reader, folder: &str) -> Option<VirtualFunctions> {
    let most = reader
        .value(&format!("{folder}/sriov_totalvfs"), "a number")
        .filter(|most| *most > 0)?;
    Some(VirtualFunctions {
        most,
        enabled: reader.value(&format!("{folder}/sriov_numvfs"), "a number"),
        functions: reader
            .numbered(folder, "virtfn")
            .into_iter()
            .filter_map(|n| reader.link(&format!("{folder}/virtfn{n}"))?.parse().ok())
            .collect(),
    })
}

/// A `numa_node` file: −1 is "firmware tells none".
pub(crate) fn node(reader: &Reader, path: &str) -> Option<NodeId> {
    let number: i64 = reader.value(path, "a node number or -1")?;
    u32::try_from(number).ok().map(NodeId)
}

/// `16.0 GT/s PCIe` (older kernels `8 GT/s`) and `4`; `Unknown` and 0 or 255 lanes where there is no link.
fn link(reader: &Reader, folder: &str, which: &str) -> Option<PcieLink> {
    let speed = reader.word(&format!("{folder}/{which}_link_speed"))?;
    let lane = BitRate::from_gigabits(speed.split_whitespace().next()?)?;
    let width: u8 = reader.value(&format!("{folder}/{which}_link_width"), "a number of lanes")?;
    (1..=32)
        .contains(&width)
        .then_some(PcieLink { lane, width })
}
