//! `strata nvme list`: controllers, who drives them, and who uses them.

use anyhow::Result;
use serde::Serialize;
use strata_guard::{Device, Refusal, uses};
use strata_nvme::{Controller, Options, Vfio, group_holder};
use strata_topology::{NvmeController, PcieLink, Root, Topology};
use strata_units::{Bytes, NodeId, PciAddress, show};

use crate::cli::NvmeListArgs;
use crate::topology::{link, or_dash};
use crate::{End, output};

/// The driver of functions that are driven from user space.
const VFIO: &str = "vfio-pci";

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    controllers: &'a [Found],
}

/// A controller.
#[derive(Debug, Serialize)]
struct Found {
    /// The kernel's name for it, where the kernel drives it.
    name: Option<String>,
    pci: Option<PciAddress>,
    /// Where it is, over a fabric.
    address: Option<String>,
    driver: Option<String>,
    node: Option<NodeId>,
    iommu_group: Option<u32>,
    link: Option<PcieLink>,
    link_best: Option<PcieLink>,
    model: Option<String>,
    serial: Option<String>,
    firmware: Option<String>,
    namespaces: Vec<Space>,
    /// Who uses it or its namespaces.
    uses: Vec<String>,
    /// Why something of it is not known.
    unknown: Vec<String>,
}

/// A namespace.
#[derive(Debug, Serialize)]
struct Space {
    /// The kernel's name for it.
    name: Option<String>,
    nsid: Option<u32>,
    size_bytes: Option<Bytes>,
    block_bytes: Option<Bytes>,
}

pub(super) fn run(args: &NvmeListArgs) -> Result<End> {
    let root = Root::new(&args.root);
    let topology = Topology::read(&root)?;
    let found: Vec<Found> = topology
        .nvme
        .iter()
        .map(|controller| look(&root, &topology, controller, args.open))
        .collect();
    if args.json {
        output::json(&Document {
            schema: strata_record::SCHEMA,
            controllers: &found,
        })?;
    } else {
        output::text(&shown(&topology, &found))?;
    }
    Ok(End::Done)
}

fn look(root: &Root, topology: &Topology, of: &NvmeController, open: bool) -> Found {
    let function = of.pci.and_then(|pci| topology.function(pci));
    let mut found = Found {
        name: of.name.clone(),
        pci: of.pci,
        address: of.address.clone().filter(|_| of.pci.is_none()),
        driver: of.driver.clone(),
        node: of.node,
        iommu_group: function.and_then(|f| f.iommu_group),
        link: function.and_then(|f| f.link),
        link_best: function.and_then(|f| f.link_best),
        model: of.model.clone(),
        serial: of.serial.clone(),
        firmware: of.firmware.clone(),
        namespaces: of.namespaces.iter().map(|n| space(topology, n)).collect(),
        uses: Vec::new(),
        unknown: Vec::new(),
    };
    for name in &of.namespaces {
        found.add_uses(root, name);
    }
    if of.driver.as_deref() == Some(VFIO) {
        found.ask(root, open);
    }
    found
}

fn space(topology: &Topology, name: &str) -> Space {
    let disk = topology.disk(name);
    Space {
        name: Some(name.to_owned()),
        nsid: disk.and_then(|d| Some(d.namespace.as_ref()?.nsid)),
        size_bytes: disk.and_then(|d| d.size),
        block_bytes: disk.and_then(|d| d.logical_block),
    }
}

impl Found {
    /// Who uses a namespace of the kernel's.
    fn add_uses(&mut self, root: &Root, name: &str) {
        match Device::named(root, name) {
            Ok(device) => {
                let found = uses(&device);
                for refusal in &found.refusals {
                    match refusal {
                        Refusal::CannotTell { question, why, .. } => {
                            self.unknown.push(format!("{question} ({name}): {why}"));
                        }
                        other => self.uses.push(used(other)),
                    }
                }
                let unasked = found.unasked.iter().map(ToString::to_string);
                self.unknown.extend(unasked);
            }
            Err(why) => self.unknown.push(why.to_string()),
        }
    }

    /// What is not the kernel's: who holds it, and what it is, where that may be asked of it.
    fn ask(&mut self, root: &Root, open: bool) {
        let holder = self.iommu_group.and_then(|group| group_holder(root, group));
        if let Some(holder) = holder {
            self.uses.push(format!("held by {holder}"));
            let why = "serial number, model and namespaces: somebody holds it";
            return self.unknown.push(why.to_owned());
        }
        let (Some(at), true) = (self.pci, open) else {
            let why = "serial number, model and namespaces: it tells them to its driver only; --open asks it";
            return self.unknown.push(why.to_owned());
        };
        if let Err(why) = self.open(at) {
            self.unknown.push(why.to_string());
        }
    }

    /// Brings it up for a moment.
    fn open(&mut self, at: PciAddress) -> Result<()> {
        let controller = Controller::open(Box::new(Vfio::open(at)?), &Options::default())?;
        let identity = controller.identity();
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        self.model = text(&identity.model);
        self.serial = text(&identity.serial);
        self.firmware = text(&identity.firmware);
        for id in controller.namespaces() {
            let found = controller.namespace(id);
            self.namespaces.push(Space {
                name: None,
                nsid: Some(id.0),
                size_bytes: found.as_ref().ok().map(|space| space.size),
                block_bytes: found.as_ref().ok().map(|space| space.block),
            });
            self.unknown.extend(found.err().map(|why| why.to_string()));
        }
        Ok(())
    }
}

/// A use in short: `nvme0n1p2 is mounted at /home`.
fn used(refusal: &Refusal) -> String {
    match refusal {
        Refusal::ReadOnly { device } => format!("{device} is read-only"),
        Refusal::Partitions { names, .. } => format!("partitions {}", names.join(", ")),
        Refusal::Held { on, by, .. } => format!("{on} is part of {by}"),
        Refusal::Mounted { on, point, .. } => format!("{on} is mounted at {point}"),
        Refusal::Swap { on, .. } => format!("swap on {on}"),
        Refusal::Exported { on, by, .. } => format!("{by} exports {on}"),
        Refusal::Open {
            on, pid, command, ..
        } => format!("process {pid} ({command}) has {on} open"),
        Refusal::SeveralPaths { paths, .. } => format!("live paths {}", paths.join(", ")),
        other => other.to_string(),
    }
}

fn shown(topology: &Topology, found: &[Found]) -> String {
    if found.is_empty() {
        return "This machine has no NVMe controller.\n".to_owned();
    }
    let mut table = output::table(&[
        "PCI",
        "driver",
        "node",
        "link (best)",
        "group",
        "model",
        "serial",
        "firmware",
        "namespaces",
        "in use",
    ]);
    for of in found {
        let spaces: Vec<String> = of.namespaces.iter().map(Space::shown).collect();
        let uses = match &of.uses[..] {
            [] => "–".to_owned(),
            uses => uses.join("\n"),
        };
        table.add_row([
            or_dash(of.pci.map(|at| at.to_string()).or(of.address.clone())),
            of.driver.clone().unwrap_or_else(|| "none".to_owned()),
            or_dash(of.node),
            link(topology, of.pci),
            or_dash(of.iommu_group),
            or_dash(of.model.as_ref()),
            or_dash(of.serial.as_ref()),
            or_dash(of.firmware.as_ref()),
            spaces.join("\n"),
            uses,
        ]);
    }
    let mut text = format!("{table}\n");
    let name = |of: &Found| {
        let pci = of.pci.map(|at| at.to_string());
        pci.or_else(|| of.name.clone()).unwrap_or_default()
    };
    let unknown: Vec<String> = found
        .iter()
        .flat_map(|of| of.unknown.iter().map(move |why| (of, why)))
        .map(|(of, why)| format!("  - {}: {why}\n", name(of)))
        .collect();
    if !unknown.is_empty() {
        text.push_str(&format!("\nNot known:\n{}", unknown.concat()));
    }
    text
}

impl Space {
    /// `nvme0n1 (1): 1.8 TiB in 4KiB`
    fn shown(&self) -> String {
        let nsid = or_dash(self.nsid);
        let name = match &self.name {
            Some(name) => format!("{name} ({nsid})"),
            None => format!("({nsid})"),
        };
        let size = self.size_bytes.map(|b| show::amount(b.0 as f64));
        format!("{name}: {} in {}", or_dash(size), or_dash(self.block_bytes))
    }
}
