//! `strata rdma list`: devices, ports and their addresses, and what is wrong with them.

use std::fmt::Write;
use std::net::IpAddr;

use anyhow::Result;
use nix::ifaddrs::getifaddrs;
use serde::Serialize;
use strata_record::Reality;
use strata_topology::{
    BitRate, Gid, GidKind, PcieLink, RdmaDevice, RdmaPort, Root, Topology, read_environment,
};
use strata_units::{Bytes, NodeId, PciAddress, show};

use super::wrong::{self, Finding};
use crate::cli::RdmaListArgs;
use crate::topology::link;
use crate::{End, output};

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    devices: &'a [Device<'a>],
    findings: &'a [Finding],
}

/// A device.
#[derive(Serialize)]
struct Device<'a> {
    name: &'a str,
    pci: Option<PciAddress>,
    node: Option<NodeId>,
    link: Option<PcieLink>,
    link_best: Option<PcieLink>,
    driver: Option<&'a str>,
    kind: Option<&'a str>,
    model: Option<&'a str>,
    board: Option<&'a str>,
    firmware: Option<&'a str>,
    guid: Option<&'a str>,
    verbs: Option<&'a str>,
    reality: Option<Reality>,
    ports: Vec<Port<'a>>,
}

/// A port.
#[derive(Serialize)]
struct Port<'a> {
    #[serde(flatten)]
    port: &'a RdmaPort,
    data_rate_bits_per_s: Option<BitRate>,
    /// The place of the GID that the network would choose.
    usual_gid: Option<u32>,
    networks: Vec<Network>,
}

/// An interface of a port.
#[derive(Debug, Serialize)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) operstate: Option<String>,
    #[serde(rename = "mtu_bytes")]
    pub(super) mtu: Option<Bytes>,
    /// Addresses that were given to it; None where nothing tells them.
    pub(super) addresses: Option<Vec<IpAddr>>,
}

pub(super) fn run(args: &RdmaListArgs) -> Result<End> {
    let root = Root::new(&args.root);
    let topology = Topology::read(&root)?;
    let live = root.is_live().then(addresses).flatten();
    let devices: Vec<Device> = topology
        .rdma
        .iter()
        .map(|device| look(&topology, device, live.as_deref()))
        .collect();
    let host = read_environment(&root)?;
    let mut findings = wrong::of_machine(&root, &topology, &host);
    for (device, found) in topology.rdma.iter().zip(&devices) {
        findings.extend(wrong::of_device(&root, &topology, device));
        for port in &found.ports {
            findings.extend(wrong::of_port(device, port.port, &port.networks));
        }
    }
    if args.json {
        output::json(&Document {
            schema: strata_record::SCHEMA,
            devices: &devices,
            findings: &findings,
        })?;
    } else {
        output::text(&shown(&topology, &devices, &findings)?)?;
    }
    Ok(End::Done)
}

/// The addresses of this machine's interfaces; None where they are not told.
fn addresses() -> Option<Vec<(String, IpAddr)>> {
    let all = getifaddrs().ok()?;
    let found = all.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip()));
        Some((one.interface_name, v4.or(v6)?))
    });
    Some(found.collect())
}

fn look<'a>(
    topology: &Topology,
    of: &'a RdmaDevice,
    live: Option<&[(String, IpAddr)]>,
) -> Device<'a> {
    let function = of.pci.and_then(|pci| topology.function(pci));
    let port = |port: &'a RdmaPort| Port {
        port,
        data_rate_bits_per_s: port.data_rate(),
        usual_gid: port.usual_gid(None).map(|gid| gid.index),
        networks: port
            .interfaces
            .iter()
            .map(|name| network(topology, port, name, live))
            .collect(),
    };
    Device {
        name: &of.name,
        pci: of.pci,
        node: of.node,
        link: function.and_then(|f| f.link),
        link_best: function.and_then(|f| f.link_best),
        driver: of.driver.as_deref(),
        kind: of.kind.as_deref(),
        model: of.model.as_deref(),
        board: of.board.as_deref(),
        firmware: of.firmware.as_deref(),
        guid: of.guid.as_deref(),
        verbs: of.verbs.as_deref(),
        reality: of.judgement.reality,
        ports: of.ports.iter().map(port).collect(),
    }
}

/// Of a recorded tree only GIDs tell addresses, and those of InfiniBand do not.
fn network(
    topology: &Topology,
    port: &RdmaPort,
    name: &str,
    live: Option<&[(String, IpAddr)]>,
) -> Network {
    let mut interfaces = topology.interfaces.iter();
    let interface = interfaces.find(|interface| interface.name == name);
    let given = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let of_gids = || -> Vec<IpAddr> {
        let gids = port.gids.iter().filter(|gid| {
            let of = gid.interface.as_deref();
            of.is_none_or(|of| of == name)
        });
        let mut found: Vec<IpAddr> = gids.map(|gid| gid.gid.to_canonical()).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let addresses = match live {
        Some(all) => {
            let own = all.iter().filter(|(other, _)| other == name);
            Some(own.map(|(_, address)| *address).collect())
        }
        None => port.is_ethernet().then(of_gids),
    };
    Network {
        name: name.to_owned(),
        operstate: interface.and_then(|interface| interface.operstate.clone()),
        mtu: interface.and_then(|interface| interface.mtu),
        addresses: addresses.map(|all: Vec<IpAddr>| all.into_iter().filter(given).collect()),
    }
}

fn shown(
    topology: &Topology,
    devices: &[Device],
    findings: &[Finding],
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for device in devices {
        writeln!(text, "{}", device.shown(topology))?;
        for port in &device.ports {
            port.show(&mut text)?;
        }
        text.push('\n');
    }
    if findings.is_empty() {
        text.push_str("Nothing was found wrong.\n");
    } else {
        text.push_str("Wrong:\n");
        for finding in findings {
            writeln!(text, "  - {finding}")?;
        }
    }
    Ok(text)
}

/// The parts that are known, with commas between.
fn listed<const N: usize>(parts: [Option<String>; N]) -> String {
    let known: Vec<String> = parts.into_iter().flatten().collect();
    known.join(", ")
}

impl Device<'_> {
    /// What it is, and where.
    fn shown(&self, topology: &Topology) -> String {
        let with = |what: &str, text: Option<&str>| text.map(|text| format!("{what} {text}"));
        let parts = listed([
            self.model.map(str::to_owned),
            with("driver", self.driver),
            with("firmware", self.firmware),
            with("board", self.board),
            with("GUID", self.guid),
            self.pci.map(|pci| format!("PCI {pci}")),
            self.node.map(|node| format!("node {node}")),
            self.link
                .or(self.link_best)
                .map(|_| format!("link {}", link(topology, self.pci))),
            self.reality.map(|reality| reality.to_string()),
        ]);
        format!("{}: {parts}", self.name)
    }
}

fn bits(rate: BitRate) -> String {
    show::link_rate(rate.0 as f64 / 8.0)
}

impl Port<'_> {
    fn show(&self, text: &mut String) -> std::fmt::Result {
        let port = self.port;
        let parts = listed([
            port.state.clone(),
            port.physical_state.clone(),
            port.link_layer.clone(),
            self.rate(),
        ]);
        writeln!(text, "  port {}: {parts}", port.number)?;
        if !port.is_ethernet() {
            let lid = |lid: u32| format!("{lid:#x}");
            let parts = listed([
                port.lid.map(|own| format!("LID {}", lid(own))),
                port.lid_mask_count
                    .filter(|count| *count > 0)
                    .map(|count| format!("and those above it by a mask of {count} bits")),
                port.sm_lid
                    .map(|manager| format!("subnet manager at LID {}", lid(manager))),
            ]);
            if !parts.is_empty() {
                writeln!(text, "    {parts}")?;
            }
        }
        for network in &self.networks {
            writeln!(text, "    {}", network.shown())?;
        }
        if !port.lag.is_empty() {
            writeln!(text, "    LAG of {}", port.lag.join(" and "))?;
        }
        for gid in &port.gids {
            writeln!(text, "    {}", self.gid(gid))?;
        }
        let keys: Vec<String> = port
            .p_keys
            .iter()
            .map(|key| match key.is_limited() {
                true => format!("{key} (limited)"),
                false => key.to_string(),
            })
            .collect();
        if !keys.is_empty() {
            writeln!(text, "    P_Keys {}", keys.join(", "))?;
        }
        Ok(())
    }

    /// `56.0 Gb/s (4X FDR), 54.5 Gb/s of data`
    fn rate(&self) -> Option<String> {
        let rate = self.port.rate?;
        let name = self.port.width_speed.as_deref().unwrap_or("–");
        Some(match self.data_rate_bits_per_s {
            None => format!("of no known speed ({name})"),
            Some(data) if data == rate => format!("{} ({name})", bits(rate)),
            Some(data) => format!("{} ({name}), {} of data", bits(rate), bits(data)),
        })
    }

    /// `GID * 3  ::ffff:192.0.2.1  RoCE v2, ens2`
    fn gid(&self, gid: &Gid) -> String {
        let mark = match self.usual_gid == Some(gid.index) {
            true => '*',
            false => ' ',
        };
        let kind = match (gid.kind, self.port.is_ethernet()) {
            (Some(GidKind::RoceV2), _) => Some("RoCE v2"),
            (Some(GidKind::IbOrRoceV1), true) => Some("RoCE v1"),
            (Some(GidKind::IbOrRoceV1), false) | (None, _) => None,
        };
        let parts = listed([kind.map(str::to_owned), gid.interface.clone()]);
        let line = format!("GID {mark}{:>3}  {}  {parts}", gid.index, gid.gid);
        line.trim_end().to_owned()
    }
}

impl Network {
    /// `interface ens2: up, MTU 9000, 192.0.2.1`
    fn shown(&self) -> String {
        let addresses = self.addresses.iter().flatten();
        let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
        let parts = listed([
            self.operstate.clone(),
            self.mtu.map(|mtu| format!("MTU {}", mtu.0)),
            Some(addresses.join(" ")).filter(|text| !text.is_empty()),
        ]);
        let line = format!("interface {}: {parts}", self.name);
        line.trim_end_matches([' ', ':']).to_owned()
    }
}
