//! What the PCI Express tree lets through: the min-cut between devices and the CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::PciAddress;

use crate::file::FileDevice;
use crate::pci::PcieLink;
use crate::topology::Topology;
use crate::tree::PcieEdge;

/// The most that devices together can move through the links above them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PcieCeiling {
    /// Bytes a second in each direction, after line encoding ([`PcieLink::bytes_per_s`]). Links are full duplex: what is
    /// read and what is written have this bound each.
    pub bytes_per_s: f64,
    /// The same, were every link trained as well as both its ends can.
    pub at_best_bytes_per_s: f64,
    /// The links of the cut: those that bind, together.
    pub bound_by: Vec<PcieEdge>,
}

/// Why there is no bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCeiling {
    /// No device was given.
    #[error("no PCI Express ceiling: no device was named; name at least one")]
    Nothing,
    /// Not in the tree.
    #[error(
        "no PCI Express ceiling: {0} is not in the PCI tree; choose a function that `strata topology` lists"
    )]
    Absent(PciAddress),
    /// Integrated into the CPU or chipset, or virtual.
    #[error(
        "no PCI Express ceiling: nothing tells of a link above {0}, which is integrated, virtual or asleep; use a measured bound"
    )]
    NoLink(PciAddress),
    /// What a guest is told of links is its hypervisor's invention.
    #[error(
        "no PCI Express ceiling for {0}: this machine is a guest, and a guest's links are what its hypervisor tells; use a measured bound"
    )]
    Guest(PciAddress),
    /// A loop device.
    #[error(
        "no PCI Express ceiling: below {0} is a file, which the page cache may answer for; use a measured bound"
    )]
    Cached(String),
    /// Memory, or behind a network.
    #[error(
        "no PCI Express ceiling: {0} hangs from no PCI function, so that nothing is known of the way to it; use a measured bound"
    )]
    OffBus(String),
}

/// The ceiling of one or several devices that work at once.
///
/// # Errors
/// A device is absent or no known link stands between it and the CPU, so that nothing bounds the whole.
pub fn ceiling(topology: &Topology, devices: &[PciAddress]) -> Result<PcieCeiling, NoCeiling> {
    let devices: BTreeSet<PciAddress> = devices.iter().copied().collect();
    let first = *devices.first().ok_or(NoCeiling::Nothing)?;
    let mut tree = Tree::default();
    for device in devices {
        if topology.function(device).is_none() {
            return Err(NoCeiling::Absent(device));
        }
        let edges = topology.links_above(device);
        if edges.iter().all(|edge| edge.link.is_none()) {
            return Err(NoCeiling::NoLink(device));
        }
        tree.add(edges);
    }
    if topology.guest.is_guest == Some(true) {
        return Err(NoCeiling::Guest(first));
    }
    let cut = tree.cut(|edge| edge.link);
    Ok(PcieCeiling {
        bytes_per_s: cut.bytes_per_s,
        at_best_bytes_per_s: tree.cut(|edge| edge.best.or(edge.link)).bytes_per_s,
        bound_by: cut.edges.into_iter().cloned().collect(),
    })
}

/// The ceiling of what lies under a file or drive whose operations go past the page cache.
///
/// # Errors
/// As [`ceiling`]; and nothing bounds the whole where a part of it hangs from no PCI function, or a loop device's file is
/// answered from memory.
pub fn file_ceiling(topology: &Topology, file: &FileDevice) -> Result<PcieCeiling, NoCeiling> {
    let disks = file.disk.as_deref().map(|name| topology.disks_of(name));
    for disk in disks.iter().flatten() {
        if disk.backing_file.is_some() {
            return Err(NoCeiling::Cached(disk.name.clone()));
        }
        if topology.is_bottom(disk) && topology.functions_below(&disk.name).is_empty() {
            return Err(NoCeiling::OffBus(disk.name.clone()));
        }
    }
    ceiling(topology, &file.functions)
}

/// The links above some devices, by the ports that they hang from.
#[derive(Default)]
struct Tree {
    edges: BTreeMap<PciAddress, PcieEdge>,
    /// The link above a link.
    above: BTreeMap<PciAddress, PciAddress>,
    /// Links right above a device.
    lowest: BTreeSet<PciAddress>,
}

/// Some links and what they let through together.
struct Cut<'t> {
    bytes_per_s: f64,
    edges: Vec<&'t PcieEdge>,
}

impl Tree {
    /// Adds the links of a device, the lowest first.
    fn add(&mut self, edges: Vec<PcieEdge>) {
        self.lowest.extend(edges.first().map(|edge| edge.port));
        for pair in edges.windows(2) {
            self.above.insert(pair[0].port, pair[1].port);
        }
        self.edges
            .extend(edges.into_iter().map(|edge| (edge.port, edge)));
    }

    fn cut(&self, link: impl Fn(&PcieEdge) -> Option<PcieLink>) -> Cut<'_> {
        let tops = self
            .edges
            .keys()
            .filter(|port| !self.above.contains_key(port));
        together(tops.map(|port| self.below(*port, &link)))
    }

    /// The cut of what a link leads: the link itself, or those below it when they let through no more.
    fn below(&self, port: PciAddress, link: &impl Fn(&PcieEdge) -> Option<PcieLink>) -> Cut<'_> {
        let edge = self.edges.get(&port);
        let own = Cut {
            bytes_per_s: edge
                .and_then(link)
                .map_or(f64::INFINITY, PcieLink::bytes_per_s),
            edges: edge.into_iter().collect(),
        };
        if self.lowest.contains(&port) {
            return own;
        }
        let under = self.above.iter().filter(|(_, above)| **above == port);
        let under = together(under.map(|(lower, _)| self.below(*lower, link)));
        if under.bytes_per_s <= own.bytes_per_s {
            under
        } else {
            own
        }
    }
}

fn together<'t>(cuts: impl Iterator<Item = Cut<'t>>) -> Cut<'t> {
    let none = Cut {
        bytes_per_s: 0.0,
        edges: Vec::new(),
    };
    cuts.fold(none, |mut sum, cut| {
        sum.bytes_per_s += cut.bytes_per_s;
        sum.edges.extend(cut.edges);
        sum
    })
}

/// The binding links, a comma between.
impl fmt::Display for PcieCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.bound_by.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}
