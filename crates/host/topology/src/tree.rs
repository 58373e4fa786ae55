//! The PCI tree: what lies between a function and the CPU, and which of it are links.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::PciAddress;

use crate::nvme::NvmeController;
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

/// A PCI Express link of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieEdge {
    /// The root port or switch's downstream port above it.
    pub port: PciAddress,
    /// The first function below it: a device's, or a switch's upstream port.
    pub below: PciAddress,
    /// Whether that is a switch's.
    pub is_uplink: bool,
    /// As trained now; `None` when neither end tells (asleep, virtual).
    pub link: Option<PcieLink>,
    /// The best that both ends can, where told.
    pub best: Option<PcieLink>,
}

impl PcieEdge {
    /// The best that it can, when it is trained below that.
    pub fn could_be(&self) -> Option<PcieLink> {
        let now = self.link?.bytes_per_s();
        self.best.filter(|best| best.bytes_per_s() > now)
    }
}

/// `link of 0000:81:00.0 (8 GT/s x4, trained below its best 16 GT/s x4)`
impl fmt::Display for PcieEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_uplink {
            "uplink of switch"
        } else {
            "link of"
        };
        write!(f, "{what} {}", self.below)?;
        match (self.link, self.could_be()) {
            (None, _) => Ok(()),
            (Some(link), None) => write!(f, " ({link})"),
            (Some(link), Some(best)) => write!(f, " ({link}, trained below its best {best})"),
        }
    }
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

    /// The NVMe controllers that are lost with a function: its own, or all that are behind it (a VMD's).
    pub fn nvme_below(&self, address: PciAddress) -> impl Iterator<Item = &NvmeController> {
        self.nvme.iter().filter(move |controller| {
            let path = controller.pci.map(|pci| self.path_to_root(pci));
            path.is_some_and(|path| path.iter().any(|function| function.address == address))
        })
    }

    /// The links between a function and the CPU, its own first; empty for one that is integrated.
    ///
    /// sysfs does not tell a port's kind, but from a root port down links and the inner buses of switches take turns.
    pub fn links_above(&self, address: PciAddress) -> Vec<PcieEdge> {
        links_above(&self.pci, address)
    }
}

/// [`Topology::links_above`] of functions in ascending order.
pub(crate) fn links_above(functions: &[PciFunction], address: PciAddress) -> Vec<PcieEdge> {
    let path = path(functions, address);
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
        .map(|(_, pair)| edge(functions, pair[0], pair[1]))
        .collect()
}

fn edge(functions: &[PciFunction], below: &PciFunction, port: &PciFunction) -> PcieEdge {
    // The functions of a device share its link. Virtual functions tell none.
    let mut under = functions.iter().filter(|f| f.parent == Some(port.address));
    let first = under.next().unwrap_or(below);
    let told = [first.link, below.link, port.link].into_iter().flatten();
    let ends = [first.link_best.or(below.link_best), port.link_best]
        .into_iter()
        .flatten();
    PcieEdge {
        port: port.address,
        below: first.address,
        is_uplink: first.is_bridge(),
        // Both ends tell of one link; where they differ, the lesser is stale or a bug of firmware.
        link: told.max_by(|a, b| a.bytes_per_s().total_cmp(&b.bytes_per_s())),
        best: ends.reduce(|a, b| PcieLink {
            lane: a.lane.min(b.lane),
            width: a.width.min(b.width),
        }),
    }
}

fn is_on_paper(port: &PciFunction) -> bool {
    let ids = port.vendor.zip(port.device);
    ids.is_some_and(|ids| PAPER_PORTS.contains(&ids))
}
