//! `strata topology`: the machine as the suite sees it.

mod limits;
mod pci;

use anyhow::Result;
use serde::Serialize;
use strata_record::{Limits, Socket};
use strata_topology::{
    Allowed, BitRate, Disk, Interface, Node, NvmeController, NvmePath, PcieLink, RdmaDevice, Root,
    Topology, read_limits,
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
    limits: &'a Limits,
    sockets: &'a [Socket],
    ceilings: &'a [pci::DeviceCeiling],
}

/// All that is shown.
struct Found {
    topology: Topology,
    allowed: Allowed,
    limits: Limits,
    sockets: Vec<Socket>,
    ceilings: Vec<pci::DeviceCeiling>,
}

pub(crate) fn run(args: &TopologyArgs) -> Result<End> {
    let root = Root::new(&args.root);
    let topology = Topology::read(&root)?;
    let found = Found {
        allowed: Allowed::read(&root, &topology),
        limits: read_limits(&root),
        sockets: topology.sockets(),
        ceilings: pci::ceilings(&topology),
        topology,
    };
    if args.json {
        output::json(&Document {
            schema: strata_record::SCHEMA,
            topology: &found.topology,
            allowed: &found.allowed,
            limits: &found.limits,
            sockets: &found.sockets,
            ceilings: &found.ceilings,
        })?;
    } else {
        output::text(&shown(&found))?;
    }
    Ok(End::Done)
}

/// A dash for what is not known.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| v.to_string())
}

fn shown(found: &Found) -> String {
    let topology = &found.topology;
    let mut parts = vec![cpus(topology, &found.allowed)];
    parts.push(limits::shown(&found.limits));
    parts.push(section(
        "Sockets",
        &["socket", "CPUs", "nodes"],
        found.sockets.iter().map(socket),
    ));
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
    parts.push(pci::tree(topology));
    parts.push(pci::bounds(&found.ceilings));
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
    let paths = topology
        .disks
        .iter()
        .flat_map(|disk| disk.paths.iter().map(move |path| (disk, path)));
    parts.push(section(
        "NVMe multipath",
        &[
            "head",
            "policy",
            "path",
            "controller",
            "PCI",
            "node",
            "ANA",
            "state",
        ],
        paths.map(|(disk, p)| path(topology, disk, p)),
    ));
    parts.push(section(
        "Block devices",
        &["name", "size", "block", "on", "node", "reality", "model"],
        topology.disks.iter().map(disk),
    ));
    parts.push(section(
        "Interrupts",
        &["device", "PCI", "vectors", "on CPUs"],
        topology
            .pci
            .iter()
            .filter_map(|f| pci::vectors(topology, f)),
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
        .chain(&found.allowed.notes)
        .chain(&found.limits.notes)
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

/// `16 GT/s ×4`
fn lanes(link: &PcieLink) -> String {
    let rate = show::digits(link.lane.0 as f64 / 1e9);
    format!("{rate} GT/s ×{}", link.width)
}

/// The link now, and at best where that is better.
pub(crate) fn link(topology: &Topology, pci: Option<PciAddress>) -> String {
    let Some(function) = pci.and_then(|pci| topology.function(pci)) else {
        return "–".to_owned();
    };
    match (&function.link, &function.link_best) {
        (Some(now), Some(best)) if now != best => {
            format!("{} ({})", lanes(now), lanes(best))
        }
        (Some(now), _) => lanes(now),
        (None, best) => best
            .as_ref()
            .map_or_else(|| "–".to_owned(), |b| format!("– ({})", lanes(b))),
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

/// A path of a multipath head.
fn path(topology: &Topology, head: &Disk, path: &NvmePath) -> [String; 8] {
    let mut systems = topology.nvme_subsystems.iter();
    let system = systems.find(|system| system.heads.contains(&head.name));
    let state = if path.live { "live" } else { "not live" };
    [
        head.name.clone(),
        or_dash(system.and_then(|system| system.policy.as_ref())),
        path.name.clone(),
        path.controller.clone(),
        or_dash(path.pci),
        or_dash(path.node),
        or_dash(path.ana_state.as_ref()),
        match &path.controller_state {
            Some(told) if told != "live" => format!("{state} ({told})"),
            _ => state.to_owned(),
        },
    ]
}

fn socket(socket: &Socket) -> [String; 3] {
    let nodes = if socket.divided {
        format!(
            "{} (one socket in {} nodes)",
            socket.nodes,
            socket.nodes.len()
        )
    } else {
        socket.nodes.to_string()
    };
    [socket.package.to_string(), socket.cpus.to_string(), nodes]
}

fn disk(disk: &Disk) -> [String; 7] {
    let on = disk
        .pci
        .map(|p| p.to_string())
        .or_else(|| disk.virtio.clone())
        .or_else(|| disk.placement_unknown.clone())
        .or_else(|| {
            let parts: Vec<&str> = disk
                .made_of
                .iter()
                .chain(&disk.backed_by)
                .map(String::as_str)
                .collect();
            let functions: Vec<String> = disk.functions.iter().map(ToString::to_string).collect();
            match (parts.is_empty(), functions.is_empty()) {
                (true, _) => None,
                (false, true) => Some(parts.join(" ")),
                (false, false) => Some(format!("{}\n({})", parts.join(" "), functions.join(" "))),
            }
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
            let usual = p.usual_gid(None);
            let more = p.interfaces.first().cloned().into_iter();
            let more = more.chain(usual.map(|gid| format!("GID {} {}", gid.index, gid.gid)));
            let parts: Vec<String> = [
                or_dash(p.state.as_ref()),
                speed(p.rate),
                or_dash(p.link_layer.as_ref()),
            ]
            .into_iter()
            .chain(more)
            .collect();
            format!("{}: {}", p.number, parts.join(" "))
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
