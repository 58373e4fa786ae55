//! How real a device is: detected, never declared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::Reality;
use strata_units::PciAddress;

use crate::block::Disk;
use crate::file;
use crate::multipath::NvmeGeneric;
use crate::net::Interface;
use crate::rdma::RdmaDevice;
use crate::root::numbered;
use crate::topology::Topology;

/// A reality and how it was told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The reality; `None` when it cannot be known.
    pub reality: Option<Reality>,
    /// What told it, or why nothing does.
    pub reality_why: String,
}

impl Judgement {
    pub(crate) fn is(reality: Reality, why: impl Into<String>) -> Judgement {
        Judgement {
            reality: Some(reality),
            reality_why: why.into(),
        }
    }

    pub(crate) fn unknown(why: impl Into<String>) -> Judgement {
        Judgement {
            reality: None,
            reality_why: why.into(),
        }
    }
}

/// How deep devices may be stacked before a tree is held to be circular.
pub(crate) const DEEPEST: u32 = 8;

/// PCI vendors whose functions only hypervisors make (the PCI ID repository's names).
const HYPERVISORS: [(u16, &str); 9] = [
    (0x1af4, "Red Hat (virtio)"),
    (0x1b36, "Red Hat (QEMU)"),
    (0x15ad, "VMware"),
    (0x1414, "Microsoft"),
    (0x1ae0, "Google"),
    (0x1d0f, "Amazon"),
    (0x80ee, "VirtualBox"),
    (0x1ab8, "Parallels"),
    (0x5853, "Xen"),
];

/// Beginnings of the vendor or model of drives that only hypervisors make.
const HYPERVISOR_DRIVES: [&str; 14] = [
    "QEMU",
    "VBOX",
    "ORCL-VBOX",
    "VMware",
    "Virtual Disk",
    "Virtual disk",
    "Msft",
    "MSFT NVMe",
    "Microsoft NVMe",
    "Amazon Elastic Block Store",
    "Amazon EC2",
    "Google",
    "nvme_card",
    "Parallels",
];

/// A hypervisor's bus on a device's path.
fn hypervisor_bus(path: &str) -> Option<&'static str> {
    path.split('/').find_map(|part| match part {
        _ if numbered(part, "virtio").is_some() => Some("a virtio device"),
        _ if part.starts_with("vbd-") || part.starts_with("vif-") => Some("a Xen device"),
        _ if part.starts_with("VMBUS") || part.starts_with("vmbus") => Some("a Hyper-V device"),
        _ => None,
    })
}

/// Drivers that hold nothing but virtual functions.
fn is_driver_of_virtual(driver: &str) -> bool {
    matches!(driver, "iavf" | "igbvf" | "ixgbevf" | "cxgb4vf")
}

impl Topology {
    /// How real an NVMe function is, by the rules of disks; `model` is what it calls itself, where somebody asked it.
    pub fn judge_nvme(&self, address: PciAddress, model: Option<&str>) -> Judgement {
        let named = model.and_then(|text| by_name(&address.to_string(), &[text]));
        named.unwrap_or_else(|| function(self, address))
    }
}

/// A drive that names a hypervisor as its maker.
fn by_name(drive: &str, names: &[&str]) -> Option<Judgement> {
    let mut told = names.iter().filter(|text| {
        HYPERVISOR_DRIVES
            .iter()
            .any(|start| text.starts_with(start))
    });
    let text = told.next()?;
    Some(Judgement::is(
        Reality::Virtual,
        format!("{drive} calls itself {text:?}"),
    ))
}

/// A function made by a hypervisor is virtual, any other one as real as the machine allows.
fn function(topology: &Topology, address: PciAddress) -> Judgement {
    let vendors = topology
        .function(address)
        .map_or([None, None], |f| [f.vendor, f.subsystem_vendor]);
    let made = HYPERVISORS
        .iter()
        .find(|(vendor, _)| vendors.contains(&Some(*vendor)));
    if let Some((vendor, name)) = made {
        let why = format!("PCI vendor {vendor:04x} of {address} is {name}");
        return Judgement::is(Reality::Virtual, why);
    }
    let guest = &topology.guest;
    let which = match topology.function(address) {
        Some(f) if f.physical_function.is_some() => "virtual PCI function",
        // In a guest nothing leads to the physical function, which the host keeps.
        Some(f) if f.driver.as_deref().is_some_and(is_driver_of_virtual) => "virtual PCI function",
        _ => "PCI function",
    };
    match guest.is_guest {
        Some(true) => Judgement::is(
            Reality::Passthrough,
            format!("{which} {address} in a guest ({})", guest.told_by),
        ),
        Some(false) => Judgement::is(
            Reality::Hardware,
            format!("{which} {address} ({})", guest.told_by),
        ),
        None => Judgement::unknown(format!(
            "{which} {address}, but whether the machine is a guest is unknown: {}",
            guest.told_by
        )),
    }
}

/// The one reality that all parts have.
fn all(parts: &[(String, Judgement)]) -> Judgement {
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    match parts {
        [(_, first), rest @ ..] if rest.iter().all(|(_, j)| j.reality == first.reality) => {
            Judgement {
                reality: first.reality,
                reality_why: format!("made of {names}: {}", first.reality_why),
            }
        }
        _ => Judgement::unknown(format!("made of {names}, which are not of one reality")),
    }
}

pub(crate) fn of_disk(topology: &Topology, disk: &Disk, depth: u32) -> Judgement {
    let name = disk.name.as_str();
    if depth > DEEPEST {
        return Judgement::unknown(format!("{name} is stacked more than {DEEPEST} deep"));
    }
    if numbered(name, "ram").is_some() || numbered(name, "zram").is_some() {
        return Judgement::is(Reality::Memory, format!("{name} is a RAM disk"));
    }
    if numbered(name, "loop").is_some() {
        return of_loop(topology, disk, depth);
    }
    if numbered(name, "nullb").is_some() || disk.model.as_deref() == Some("scsi_debug") {
        return Judgement::is(Reality::Software, format!("{name} is a test device"));
    }
    if !disk.made_of.is_empty() {
        let parts: Vec<(String, Judgement)> = disk
            .made_of
            .iter()
            .map(|part| {
                let below = topology.disk_holding(part);
                let judged = below.map_or_else(
                    || Judgement::unknown(format!("{part} is not in the tree")),
                    |below| of_disk(topology, below, depth + 1),
                );
                (part.clone(), judged)
            })
            .collect();
        return all(&parts);
    }
    if let Some(bus) = hypervisor_bus(&disk.path) {
        return Judgement::is(Reality::Virtual, format!("{name} is {bus}"));
    }
    let names = [&disk.vendor, &disk.model];
    let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
    if let Some(judged) = by_name(name, &names) {
        return judged;
    }
    if !disk.paths.is_empty() {
        let parts: Vec<(String, Judgement)> = disk
            .paths
            .iter()
            .map(|path| {
                let judged = namespace(topology, name, path.transport.as_deref(), path.pci);
                (path.name.clone(), judged)
            })
            .collect();
        return all(&parts);
    }
    let controller = topology
        .nvme
        .iter()
        .find(|controller| controller.namespaces.iter().any(|space| space == name));
    let transport = controller.and_then(|c| c.transport.as_deref());
    namespace(topology, name, transport, disk.pci)
}

/// A namespace without a block device.
pub(crate) fn of_generic(topology: &Topology, generic: &NvmeGeneric) -> Judgement {
    let mut owners = topology.nvme.iter();
    let owner = owners.find(|owner| owner.namespaces.contains(&generic.disk));
    let transport = owner.and_then(|owner| owner.transport.as_deref());
    namespace(topology, &generic.name, transport, generic.pci)
}

/// A disk by how it is reached.
fn namespace(
    topology: &Topology,
    name: &str,
    transport: Option<&str>,
    pci: Option<PciAddress>,
) -> Judgement {
    match transport {
        None | Some("pcie") => {}
        Some("loop") => return Judgement::is(Reality::Software, "NVMe over the loop transport"),
        Some(fabric) => {
            return Judgement::unknown(format!(
                "NVMe over {fabric}: the drive is on another machine"
            ));
        }
    }
    match pci {
        Some(address) => function(topology, address),
        None => Judgement::unknown(format!("{name} hangs from no PCI function")),
    }
}

/// As real as the disk that its file lies on. A recorded tree does not have the file, but its mounts.
fn of_loop(topology: &Topology, disk: &Disk, depth: u32) -> Judgement {
    let name = &disk.name;
    let Some(backing) = disk.backing_file.as_deref() else {
        return Judgement::is(Reality::Software, format!("{name} is a loop device"));
    };
    let below = if topology.is_live() {
        let below = file::look(topology, backing.as_ref(), depth + 1).ok();
        below.map(|below| below.judgement)
    } else {
        let below = disk.backed_by.as_deref();
        below
            .and_then(|below| topology.disk_holding(below))
            .map(|below| of_disk(topology, below, depth + 1))
    };
    let below = below.filter(|judged| judged.reality.is_some());
    match below {
        Some(judged) => Judgement {
            reality: judged.reality,
            reality_why: format!("{name} lies on {backing}: {}", judged.reality_why),
        },
        None => Judgement::is(
            Reality::Software,
            format!("{name} is a loop device; the device below {backing} is unknown"),
        ),
    }
}

pub(crate) fn of_interface(topology: &Topology, interface: &Interface, depth: u32) -> Judgement {
    let name = interface.name.as_str();
    if depth > DEEPEST {
        return Judgement::unknown(format!("{name} is stacked more than {DEEPEST} deep"));
    }
    if !interface.lower.is_empty() {
        let parts: Vec<(String, Judgement)> = interface
            .lower
            .iter()
            .map(|lower| {
                let below = topology.interfaces.iter().find(|i| i.name == *lower);
                let judged = below.map_or_else(
                    || Judgement::unknown(format!("{lower} is not in the tree")),
                    |below| of_interface(topology, below, depth + 1),
                );
                (lower.clone(), judged)
            })
            .collect();
        return all(&parts);
    }
    // A VLAN or bond of a kernel before 3.16 has no links to what is below it.
    let stacked = matches!(interface.kind.as_deref(), Some("vlan" | "bond" | "macvlan"));
    if stacked {
        return Judgement::unknown(format!("{name} lies over an interface that is not told"));
    }
    if interface.path.starts_with("sys/devices/virtual/") {
        return Judgement::is(Reality::Software, format!("{name} has no device"));
    }
    if let Some(bus) = hypervisor_bus(&interface.path) {
        return Judgement::is(Reality::Virtual, format!("{name} is {bus}"));
    }
    match interface.pci {
        Some(address) => function(topology, address),
        None => Judgement::unknown(format!("{name} hangs from no PCI function")),
    }
}

pub(crate) fn of_rdma(topology: &Topology, device: &RdmaDevice) -> Judgement {
    let name = device.name.as_str();
    // Soft-RoCE stands below the function of the interface that it runs over, so its path tells nothing.
    let software = device.over.is_some()
        || device.path.starts_with("sys/devices/virtual/")
        || numbered(name, "rxe").is_some()
        || numbered(name, "siw").is_some()
        || device
            .description
            .as_deref()
            .is_some_and(|text| text.starts_with("Software"));
    if software {
        return Judgement::is(
            Reality::Software,
            format!("{name} is Soft-RoCE or soft iWARP"),
        );
    }
    match device.pci {
        Some(address) => function(topology, address),
        None => Judgement::unknown(format!("{name} hangs from no PCI function")),
    }
}
