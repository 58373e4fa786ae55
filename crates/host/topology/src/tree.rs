//! The PCI tree: what lies between a function and the CPU, and which of it are links.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::PciAddress;

use crate::pci::{PciFunction, PcieLink};
use crate::topology::Topology;

/// Intel's integrated network controllers hang from ports of these numbers, whose links are nowhere but on paper and
/// tell 2.5 GT/s.
const PAPER_PORTS: [(u16, u16); 3] = [(0x8086, 0x37c2), (0x8086, 0x37c4), (0x8086, 0x37c5)];

/// A Volume Management Device and what it hides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vmd {
    /// Its own function.
    pub address: PciAddress,
    /// Its driver: `vmd` shows the domain; under `vfio-pci` only SPDK sees the drives.
    pub driver: Option<String>,
    /// The domain behind it (`10000`); `None` when nothing shows it.
    pub domain: Option<String>,
    /// The functions in that domain.
    pub functions: Vec<PciAddress>,
}

/// VMDs in the order of their addresses. Whatever stands below a function but in another domain is behind a VMD.
pub(crate) fn vmds(functions: &[PciFunction]) -> Vec<Vmd> {
    let mut found: BTreeMap<PciAddress, Vmd> = BTreeMap::new();
    let of = |function: &PciFunction| Vmd {
        address: function.address,
        driver: function.driver.clone(),
        domain: None,
        functions: Vec::new(),
    };
    for function in functions.iter().filter(|function| function.is_vmd()) {
        found.insert(function.address, of(function));
    }
    for function in functions {
        let Some(above) = path(functions, function.address)
            .into_iter()
            .find(|above| above.address.domain() != function.address.domain())
        else {
            continue;
        };
        let vmd = found.entry(above.address).or_insert_with(|| of(above));
        vmd.domain = Some(format!("{:04x}", function.address.domain()));
        vmd.functions.push(function.address);
    }
    found.into_values().collect()
}

/// A function and those above it, itself first.
fn path(functions: &[PciFunction], address: PciAddress) -> Vec<&PciFunction> {
    let of = |address: PciAddress| {
        let at = functions.binary_search_by_key(&address, |function| function.address);
        at.ok().map(|at| &functions[at])
    };
    let mut path: Vec<&PciFunction> = Vec::new();
    let mut next = of(address);
    // A scrambled tree may be a ring.
    while let Some(function) = next.filter(|next| path.iter().all(|p| p.address != next.address)) {
        path.push(function);
        next = function.parent.and_then(of);
    }
    path
}

/// A PCI Express link, named after the port above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The root port or switch's downstream port.
    pub(crate) port: PciAddress,
    /// The first function below: of a drive, or the upstream port of a switch.
    pub(crate) below: PciAddress,
    /// Whether that is a switch's.
    pub(crate) is_uplink: bool,
    pub(crate) now: Option<PcieLink>,
    /// What both ends can.
    pub(crate) best: Option<PcieLink>,
}

impl Topology {
    /// A function and those above it up to the root port (below a VMD: up to the VMD), itself first; empty when it is
    /// not in the tree.
    pub fn path_to_root(&self, address: PciAddress) -> Vec<&PciFunction> {
        path(&self.pci, address)
    }

    /// The functions right below one.
    pub fn functions_under(&self, address: PciAddress) -> impl Iterator<Item = &PciFunction> {
        self.pci
            .iter()
            .filter(move |function| function.parent == Some(address))
    }

    /// The links between a function and the CPU, its own first; empty for one that is integrated.
    ///
    /// sysfs does not tell a port's kind, but from a root port down links and the inner buses of switches take turns.
    pub(crate) fn links_above(&self, address: PciAddress) -> Vec<Edge> {
        let path = self.path_to_root(address);
        let within = path
            .iter()
            .take_while(|function| function.address.domain() == address.domain())
            .count();
        path.windows(2)
            .take(within.saturating_sub(1))
            .enumerate()
            .filter(|(at, pair)| {
                let from_root = within - 1 - at;
                from_root % 2 == 1 && !is_on_paper(pair[1])
            })
            .map(|(_, pair)| self.edge(pair[0], pair[1]))
            .collect()
    }

    fn edge(&self, below: &PciFunction, port: &PciFunction) -> Edge {
        // The functions of a device share its link. Virtual functions tell none.
        let first = self.functions_under(port.address).next().unwrap_or(below);
        let told = [below.link, port.link].into_iter().flatten();
        let ends = [below.link_best, port.link_best].into_iter().flatten();
        Edge {
            port: port.address,
            below: first.address,
            is_uplink: first.is_bridge(),
            // Both ends tell of one link; where they differ, the lesser is stale or a bug of firmware.
            now: told.max_by(|a, b| a.bytes_per_s().total_cmp(&b.bytes_per_s())),
            best: ends.reduce(|a, b| PcieLink {
                lane: a.lane.min(b.lane),
                width: a.width.min(b.width),
            }),
        }
    }
}

fn is_on_paper(port: &PciFunction) -> bool {
    let ids = port.vendor.zip(port.device);
    ids.is_some_and(|ids| PAPER_PORTS.contains(&ids))
}
