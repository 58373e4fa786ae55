//! The PCI tree with its links, what they bound, and where interrupts go.

use std::collections::BTreeSet;

use serde::Serialize;
use strata_topology::{PciFunction, PcieCeiling, Topology, ceiling};
use strata_units::{CpuList, PciAddress, show};

use super::{lanes, or_dash, section};

/// What bounds a device, or all drives together.
#[derive(Serialize)]
pub(super) struct DeviceCeiling {
    /// The device's name in words; several drives have one line together.
    what: String,
    functions: Vec<PciAddress>,
    ceiling: Option<PcieCeiling>,
    /// The links that bind, or why nothing is known to.
    why: String,
}

/// Of each drive and adapter, and of all drives together.
pub(super) fn ceilings(topology: &Topology) -> Vec<DeviceCeiling> {
    let one = |function: &PciFunction| {
        let what = names(topology, function.address).join(" ");
        bound(topology, what, vec![function.address])
    };
    let mut found: Vec<DeviceCeiling> = topology
        .pci
        .iter()
        .filter(|function| is_shown(topology, function) && !function.is_bridge())
        .filter(|function| !function.is_vmd())
        .map(one)
        .collect();
    let drives = topology.pci.iter().filter(|function| function.is_nvme());
    let drives: Vec<PciAddress> = drives.map(|function| function.address).collect();
    if drives.len() > 1 {
        let what = format!("all {} NVMe drives together", drives.len());
        found.push(bound(topology, what, drives));
    }
    found
}

fn bound(topology: &Topology, what: String, functions: Vec<PciAddress>) -> DeviceCeiling {
    let found = ceiling(topology, &functions);
    DeviceCeiling {
        what,
        functions,
        why: match &found {
            Ok(ceiling) => ceiling.to_string(),
            Err(error) => error.to_string(),
        },
        ceiling: found.ok(),
    }
}

/// The ceilings that are known.
pub(super) fn bounds(ceilings: &[DeviceCeiling]) -> String {
    let known = ceilings.iter().filter_map(|one| {
        let ceiling = one.ceiling.as_ref()?;
        let best = ceiling.at_best_bytes_per_s;
        Some([
            one.what.clone(),
            show::bandwidth(ceiling.bytes_per_s),
            if best > ceiling.bytes_per_s {
                show::bandwidth(best)
            } else {
                "–".to_owned()
            },
            one.why
                .replace(", link of", "\nlink of")
                .replace(", uplink", "\nuplink"),
        ])
    });
    section(
        "PCI Express ceilings, each direction, after line encoding",
        &["device", "ceiling", "at best", "bound by"],
        known,
    )
}

/// The names of what hangs from a function, else its class.
fn names(topology: &Topology, address: PciAddress) -> Vec<String> {
    let nvme = topology.nvme.iter().filter(|c| c.pci == Some(address));
    let interfaces = topology
        .interfaces
        .iter()
        .filter(|i| i.pci == Some(address));
    let rdma = topology.rdma.iter().filter(|d| d.pci == Some(address));
    let disks = topology
        .disks
        .iter()
        .filter(|disk| disk.pci == Some(address) && !disk.name.starts_with("nvme"));
    let mut names: Vec<String> = nvme
        .filter_map(|c| c.name.clone())
        .chain(disks.map(|disk| disk.name.clone()))
        .chain(rdma.map(|device| device.name.clone()))
        .chain(interfaces.map(|interface| interface.name.clone()))
        .collect();
    if names.is_empty() {
        names.push(address.to_string());
    }
    names
}

/// Storage, networks and VMDs; the rest of a machine's functions stand in the JSON.
fn is_shown(topology: &Topology, function: &PciFunction) -> bool {
    let kind = function.class.map(|class| class >> 16);
    // Old InfiniBand adapters and virtio disks are of other classes.
    let own = Some(function.address);
    let hangs = topology.disks.iter().any(|disk| disk.pci == own)
        || topology.rdma.iter().any(|device| device.pci == own)
        || topology.interfaces.iter().any(|one| one.pci == own);
    matches!(kind, Some(0x01 | 0x02)) || function.is_vmd() || hangs
}

/// The functions that matter and those above them, indented by their depth.
pub(super) fn tree(topology: &Topology) -> String {
    let shown = topology
        .pci
        .iter()
        .filter(|function| is_shown(topology, function));
    let kept: BTreeSet<PciAddress> = shown
        .flat_map(|function| topology.path_to_root(function.address))
        .map(|function| function.address)
        .collect();
    let tops = topology.pci.iter().filter(|function| {
        kept.contains(&function.address)
            && function.parent.is_none_or(|parent| !kept.contains(&parent))
    });
    let mut text = String::new();
    for top in tops {
        branch(topology, &kept, top, 1, &mut text);
    }
    if text.is_empty() {
        text
    } else {
        format!("PCI tree of storage and networks\n{text}")
    }
}

fn branch(
    topology: &Topology,
    kept: &BTreeSet<PciAddress>,
    function: &PciFunction,
    depth: usize,
    text: &mut String,
) {
    text.push_str(&line(topology, function, depth));
    for below in topology.functions_under(function.address) {
        if kept.contains(&below.address) {
            branch(topology, kept, below, depth + 1, text);
        }
    }
}

fn line(topology: &Topology, function: &PciFunction, depth: usize) -> String {
    let mut parts = vec![function.class_name().unwrap_or("function").to_owned()];
    let names = names(topology, function.address).join(" ");
    if names != function.address.to_string() {
        parts.push(names);
    }
    if let Some(node) = function.node.filter(|_| !function.is_bridge()) {
        parts.push(format!("node {node}"));
    }
    if function.is_vmd() {
        let mut vmds = topology.vmd.iter();
        let vmd = vmds.find(|vmd| vmd.address == function.address);
        parts.push(match vmd.and_then(|vmd| vmd.domain.as_ref()) {
            Some(domain) => format!("VMD of domain {domain}"),
            None => format!(
                "VMD, its drives hidden (driver {})",
                or_dash(function.driver.as_ref())
            ),
        });
    }
    if let Some(group) = function.iommu_group {
        parts.push(format!("IOMMU group {group}"));
    }
    if let Some(virtuals) = &function.virtual_functions {
        let on = or_dash(virtuals.enabled);
        parts.push(format!("{on} of {} virtual functions", virtuals.most));
    }
    if let Some(physical) = function.physical_function {
        parts.push(format!("virtual function of {physical}"));
    }
    if let Some(state) = function
        .power_state
        .as_ref()
        .filter(|state| state.starts_with("D3"))
    {
        parts.push(format!("asleep ({state})"));
    }
    // The link is told with what is below it; a root port's is that of what it leads to.
    let edges = topology.links_above(function.address);
    let own = edges
        .first()
        .filter(|edge| Some(edge.port) == function.parent);
    if let Some(link) = own.and_then(|edge| edge.link) {
        parts.push(match own.and_then(|edge| edge.could_be()) {
            Some(best) => format!("link {} DEGRADED, could be {}", lanes(&link), lanes(&best)),
            None => format!("link {}", lanes(&link)),
        });
    }
    format!(
        "{}{}  {}\n",
        "  ".repeat(depth),
        function.address,
        parts.join(", ")
    )
}

/// A device's interrupts and where they go; nothing for one without.
pub(super) fn vectors(topology: &Topology, function: &PciFunction) -> Option<[String; 4]> {
    if function.vectors.is_empty() || !is_shown(topology, function) {
        return None;
    }
    let on = function.vectors.iter().filter_map(|vector| {
        let list = vector.effective.as_ref().or(vector.affinity.as_ref())?;
        vector.name.as_ref().map(|_| list.as_slice().to_vec())
    });
    let on: CpuList = on.flatten().collect();
    let named = function.vectors.iter().filter(|v| v.name.is_some());
    let count = function.vectors.len();
    let vectors = match named.count() {
        // A tree recorded without /proc/interrupts tells of none whose it is.
        0 => count.to_string(),
        used => format!("{count} ({used} in use)"),
    };
    Some([
        names(topology, function.address).join(" "),
        function.address.to_string(),
        vectors,
        on.to_string(),
    ])
}
