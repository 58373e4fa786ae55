//! `strata topology`: the machine as the suite sees it.

use anyhow::Result;
use serde::Serialize;
use strata_topology::{
    Allowed, BitRate, Disk, Interface, Node, NvmeController, PcieLink, RdmaDevice, Root, Topology,
};
use strata_units::{Bytes, PciAddress, show};

use crate::cli::TopologyArgs;
use crate::{End, output};

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    topology: &'a Topology,
    allowed: &'a Allowed,
}

pub(crate) fn run(args: &TopologyArgs) -> Result<End> {
    let root = Root::new(&args.root);
    let topology = Topology::read(&root)?;
    let allowed = Allowed::read(&root, &topology);
    if args.json {
        output::json(&Document {
            schema: strata_record::SCHEMA,
            topology: &topology,
            allowed: &allowed,
        })?;
    } else {
        output::text(&shown(&topology, &allowed))?;
    }
    Ok(End::Done)
}

/// A dash for what is not known.
fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| v.to_string())
}

fn shown(topology: &Topology, allowed: &Allowed) -> String {
    let mut parts = vec![cpus(topology, allowed)];
    parts.push(section(
        "Nodes",
        &[
            "node",
            "CPUs",
            "memory",
            "free",
            "hugepages (free of all)",
            "distances",
        ],
        topology.nodes.iter().map(node),
    ));
    let drives = topology.nvme.iter().map(|c| drive(topology, c));
    parts.push(section(
        "NVMe controllers",
        &[
            "name",
            "PCI",
            "node",
            "link (best)",
            "driver",
            "model",
            "serial",
            "namespaces",
        ],
        drives,
    ));
    parts.push(section(
        "Block devices",
        &["name", "size", "block", "on", "node", "reality", "model"],
        topology.disks.iter().map(disk),
    ));
    let interfaces = topology.interfaces.iter().map(|i| interface(topology, i));
    parts.push(section(
        "Network interfaces",
        &[
            "name",
            "PCI",
            "node",
            "link (best)",
            "driver",
            "speed",
            "MTU",
            "state",
            "reality",
        ],
        interfaces,
    ));
    let rdma = topology.rdma.iter().map(|d| adapter(topology, d));
    parts.push(section(
        "RDMA devices",
        &[
            "name",
            "PCI",
            "node",
            "link (best)",
            "ports",
            "firmware",
            "reality",
        ],
        rdma,
    ));
    let notes: Vec<String> = topology
        .notes
        .iter()
        .chain(&allowed.notes)
        .map(|n| format!("  - {}: {}\n", n.path, n.why))
        .collect();
    if !notes.is_empty() {
        parts.push(format!("Not read, or not understood:\n{}", notes.concat()));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn cpus(topology: &Topology, allowed: &Allowed) -> String {
    let guest = match &topology.guest.hypervisor {
        Some(name) => format!("a guest of {name}"),
        None if topology.guest.is_guest == Some(true) => "a guest".to_owned(),
        None => "not known to be a guest".to_owned(),
    };
    let mut text = format!(
        "CPUs {} online, {} cores, {guest}\nThis process may use CPUs {} and nodes {}\n",
        topology.online(),
        topology.cores(),
        allowed.cpus,
        allowed.nodes
    );
    let isolated = topology.isolated();
    if !isolated.is_empty() {
        text.push_str(&format!("Isolated: CPUs {isolated}\n"));
    }
    text
}

/// A heading with a table, or nothing where there are no rows.
fn section<const N: usize>(
    title: &str,
    head: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = output::table(head);
    for row in rows {
        table.add_row(row);
    }
    if table.is_empty() {
        String::new()
    } else {
        format!("{title}\n{table}\n")
    }
}

fn bytes(amount: Option<Bytes>) -> String {
    or_dash(amount.map(|b| show::amount(b.0 as f64)))
}

fn node(node: &Node) -> [String; 6] {
    let huge: Vec<String> = node
        .hugepages
        .iter()
        .map(|h| format!("{} of {} × {}", or_dash(h.free), h.total, h.page_bytes))
        .collect();
    let distances: Vec<String> = node
        .distances
        .iter()
        .map(|d| format!("{}:{}", d.to, d.distance))
        .collect();
    let cpus = if node.is_memory_only() {
        "none".to_owned()
    } else {
        node.cpus.to_string()
    };
    [
        node.id.to_string(),
        cpus,
        bytes(node.memory_total),
        bytes(node.memory_free),
        huge.join("\n"),
        distances.join(" "),
    ]
}

/// The link now, and at best where that is better.
fn link(topology: &Topology, pci: Option<PciAddress>) -> String {
    let Some(function) = pci.and_then(|pci| topology.function(pci)) else {
        return "–".to_owned();
    };
    let text = |link: &PcieLink| {
        format!(
            "{} Gb/s ×{}",
            show::digits(link.lane.0 as f64 / 1e9),
            link.width
        )
    };
    match (&function.link, &function.link_best) {
        (Some(now), Some(best)) if now != best => format!("{} ({})", text(now), text(best)),
        (Some(now), _) => text(now),
        (None, best) => best
            .as_ref()
            .map_or_else(|| "–".to_owned(), |b| format!("– ({})", text(b))),
    }
}

fn drive(topology: &Topology, c: &NvmeController) -> [String; 8] {
    [
        or_dash(c.name.as_ref()),
        or_dash(c.pci),
        or_dash(c.node),
        link(topology, c.pci),
        or_dash(c.driver.as_ref()),
        or_dash(c.model.as_ref()),
        or_dash(c.serial.as_ref()),
        c.namespaces.join(" "),
    ]
}

fn disk(disk: &Disk) -> [String; 7] {
    let on = disk
        .pci
        .map(|p| p.to_string())
        .or_else(|| disk.virtio.clone())
        .or_else(|| {
            let made_of = disk.made_of.join(" ");
            (!made_of.is_empty()).then_some(made_of)
        });
    [
        disk.name.clone(),
        bytes(disk.size),
        or_dash(disk.logical_block),
        or_dash(on),
        or_dash(disk.node),
        or_dash(disk.judgement.reality),
        or_dash(disk.model.as_ref()),
    ]
}

fn speed(rate: Option<BitRate>) -> String {
    or_dash(rate.map(|r| show::link_rate(r.0 as f64 / 8.0)))
}

fn interface(topology: &Topology, i: &Interface) -> [String; 9] {
    [
        i.name.clone(),
        or_dash(i.pci),
        or_dash(i.node),
        link(topology, i.pci),
        or_dash(i.driver.as_ref()),
        speed(i.speed),
        or_dash(i.mtu.map(|m| m.0)),
        or_dash(i.operstate.as_ref()),
        or_dash(i.judgement.reality),
    ]
}

fn adapter(topology: &Topology, d: &RdmaDevice) -> [String; 7] {
    let ports: Vec<String> = d
        .ports
        .iter()
        .map(|p| {
            format!(
                "{}: {} {} {}",
                p.number,
                or_dash(p.state.as_ref()),
                speed(p.rate),
                or_dash(p.link_layer.as_ref())
            )
        })
        .collect();
    [
        d.name.clone(),
        or_dash(d.pci),
        or_dash(d.node),
        link(topology, d.pci),
        ports.join("\n"),
        or_dash(d.firmware.as_ref()),
        or_dash(d.judgement.reality),
    ]
}
