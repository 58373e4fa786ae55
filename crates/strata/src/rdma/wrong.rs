//! What is wrong with RDMA devices and with how this process reaches them, each with its remedy.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;
use strata_rdma_sys::{Cm, LoadError, Verbs};
use strata_record::Environment;
use strata_topology::{GidKind, PKey, RdmaDevice, RdmaPort, Root, Topology};
use strata_units::Bytes;

use super::list::Network;

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// The device, or device and port; None of the machine.
    on: Option<String>,
    what: String,
    remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(on) = &self.on {
            write!(f, "{on}: ")?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What is registered is locked in memory; with less than this a run of the usual depths and sizes is refused.
const LOCKED: Bytes = Bytes(64 << 20);

/// What the headers of a packet may take beside its data (`iboe_get_mtu` of the kernel's `include/rdma/ib_addr.h`).
pub(super) const HEADERS: Bytes = Bytes(96);

/// The largest payload of a packet.
pub(super) const MOST: Bytes = Bytes(4096);

/// The same, with headers.
const ROOM: Bytes = Bytes(MOST.0 + HEADERS.0);

/// Where a process opens devices.
const DEVICES: &str = "/dev/infiniband";

/// Findings on one thing.
struct Findings {
    on: Option<String>,
    all: Vec<Finding>,
}

impl Findings {
    fn on(on: Option<String>) -> Findings {
        let all = Vec::new();
        Findings { on, all }
    }

    fn add(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.all.push(Finding {
            on: self.on.clone(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }
}

/// Libraries, limits, and whether there is any device.
pub(super) fn of_machine(root: &Root, topology: &Topology, host: &Environment) -> Vec<Finding> {
    let mut found = Findings::on(None);
    if root.is_live() {
        for missing in [Verbs::load().err(), Cm::load().err()] {
            found.all.extend(missing.map(library));
        }
    }
    if topology.rdma.is_empty() {
        found.add(
            "there is no RDMA device",
            "load the adapter's driver (mlx5_ib, irdma, bnxt_re, …), or make one of software: `modprobe rdma_rxe`, then `rdma link add rxe0 type rxe netdev eth0`",
        );
        return found.all;
    }
    if root.is_live() {
        let connections = Path::new(DEVICES).join("rdma_cm");
        if let Some((what, remedy)) = unopened(&connections, "rdma_ucm") {
            found.add(what, remedy);
        }
    }
    let limit = host.memlock_bytes.filter(|limit| *limit < LOCKED);
    if let Some(limit) = limit.filter(|_| !strata_memory::may_lock_any(root.path())) {
        found.add(
            format!("this process may lock {limit} (RLIMIT_MEMLOCK), and memory is locked where it is registered"),
            "raise it with `ulimit -l unlimited` or LimitMEMLOCK=infinity, or run with CAP_IPC_LOCK",
        );
    }
    found.all
}

fn library(missing: LoadError) -> Finding {
    let (what, remedy) = match missing {
        LoadError::Absent {
            library,
            package,
            elsewhere,
            why,
        } => (
            format!("{library} cannot be loaded ({why})"),
            format!("install rdma-core (Debian: {package}; RHEL: {elsewhere})"),
        ),
        LoadError::Old { library, function } => (
            format!("{library} has no {function}"),
            "update rdma-core to 22 or later".to_owned(),
        ),
    };
    Finding {
        on: None,
        what,
        remedy,
    }
}

/// Why a device file cannot be used, and what to do; nothing where it can.
fn unopened(file: &Path, module: &str) -> Option<(String, String)> {
    let error = File::options().read(true).write(true).open(file).err()?;
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            format!("`modprobe {module}`, or give the container {DEVICES}")
        }
        io::ErrorKind::PermissionDenied => {
            "let this user read and write it (udev rules of rdma-core give it 0666), and the container's device rules allow it".to_owned()
        }
        _ => format!("look for {module} in the kernel's log"),
    };
    Some((format!("cannot open {} ({error})", file.display()), remedy))
}

/// How a device is reached.
pub(super) fn of_device(root: &Root, topology: &Topology, device: &RdmaDevice) -> Vec<Finding> {
    let mut found = Findings::on(Some(device.name.clone()));
    if root.is_live() {
        match &device.verbs {
            None => found.add("it has no device file for verbs", "`modprobe ib_uverbs`"),
            Some(name) => {
                let unopened = unopened(&Path::new(DEVICES).join(name), "ib_uverbs");
                if let Some((what, remedy)) = unopened {
                    found.add(what, remedy);
                }
            }
        }
    }
    // What a guest is told of links is its hypervisor's invention.
    let links = match (device.pci, topology.guest.is_guest) {
        (Some(pci), Some(false) | None) => topology.links_above(pci),
        _ => Vec::new(),
    };
    for edge in links.iter().filter(|edge| edge.could_be().is_some()) {
        found.add(
            edge.to_string(),
            "seat it again, try another slot, or raise the slot's lanes and speed in the firmware's set-up",
        );
    }
    found.all
}

/// A port's link, addresses and interfaces.
pub(super) fn of_port(device: &RdmaDevice, port: &RdmaPort, networks: &[Network]) -> Vec<Finding> {
    let on = format!("{} port {}", device.name, port.number);
    let mut found = Findings::on(Some(on));
    let active = port.state.as_deref() == Some("ACTIVE");
    if port.state.is_some() && !active {
        state(&mut found, port);
    }
    if port.is_ethernet() {
        // The port goes down with its interface, which has been told then.
        if active {
            ethernet(&mut found, device, port, networks);
        }
    } else {
        infiniband(&mut found, port, networks, active);
    }
    found.all
}

/// A port that is not active.
fn state(found: &mut Findings, port: &RdmaPort) {
    let state = port.state.as_deref().unwrap_or_default();
    let physical = port.physical_state.as_deref();
    let what = match physical {
        Some(physical) => format!("{state} ({physical})"),
        None => state.to_owned(),
    };
    let own = port.interfaces.first();
    match (state, physical, own) {
        ("INIT", _, _) if !port.is_ethernet() && port.lid == Some(0) => found.add(
            format!("{what}, LID 0: no subnet manager has found it"),
            "start one (opensm on a node, or the switch's own); `sminfo` tells whether one runs",
        ),
        ("INIT" | "ARMED", _, _) if !port.is_ethernet() => found.add(
            format!("{what}: the subnet manager has not made it active"),
            "look into its log, and at the rest of the fabric by `ibdiagnet`",
        ),
        (_, Some("Disabled"), Some(own)) if port.is_ethernet() => {
            found.add(what, format!("`ip link set {own} up`"));
        }
        (_, Some("Disabled"), _) => found.add(
            what,
            "somebody switched it off: `ibportstate` at its LID, or at the switch's, switches it on",
        ),
        (_, Some("Polling"), _) => found.add(
            format!("{what}: nobody answers at the other end"),
            "look at the cable, its transceivers, and whether the port at the other end is on",
        ),
        _ => found.add(
            what,
            "look at the cable and the other end, and into the kernel's log",
        ),
    }
}

/// An active port of RoCE or iWARP.
fn ethernet(found: &mut Findings, device: &RdmaDevice, port: &RdmaPort, networks: &[Network]) {
    let own = networks
        .first()
        .map_or("its interface", |n| n.name.as_str());
    let is_roce = device.kind.as_deref() != Some("RNIC");
    // Old kernels tell of no kinds.
    let known = port.gids.is_empty() || port.gids.iter().any(|gid| gid.kind.is_some());
    let v2 = |kind: Option<GidKind>| kind == Some(GidKind::RoceV2);
    if is_roce && known && !port.gids.iter().any(|gid| v2(gid.kind)) {
        found.add(
            "no GID of RoCE v2",
            format!("give {own} an address; if it has one, switch the adapter from RoCE v1 to v2 (its driver's or firmware's setting)"),
        );
    }
    down(found, networks);
    unaddressed(found, networks);
    for network in networks.iter().take(1).filter(|_| is_roce) {
        if let Some(mtu) = network.mtu.filter(|mtu| *mtu < ROOM) {
            found.add(
                format!("the MTU of {own} is {}, too little for packets of 4096 bytes and their headers", mtu.0),
                format!("`ip link set {own} mtu 4200` (or 9000), on the switch and the other end too"),
            );
        }
    }
}

/// A port of InfiniBand.
fn infiniband(found: &mut Findings, port: &RdmaPort, networks: &[Network], active: bool) {
    let full = |key: &PKey| {
        let mut others = port.p_keys.iter();
        others.any(|other| !other.is_limited() && other.partition() == key.partition())
    };
    for key in port.p_keys.iter().filter(|k| k.is_limited() && !full(k)) {
        found.add(
            format!("a limited member of its partition (P_Key {key} at {}), which cannot talk with other limited ones", key.index),
            "have the subnet manager make it a full one (`=full` in OpenSM's partitions.conf)",
        );
    }
    if !active {
        return;
    }
    if networks.is_empty() {
        found.add(
            "no interface of IPoIB, which rdma_cm and TCP over this port need",
            "`modprobe ib_ipoib`",
        );
    }
    down(found, networks);
    unaddressed(found, networks);
}

fn down(found: &mut Findings, networks: &[Network]) {
    for network in networks {
        let state = network.operstate.as_deref();
        if let Some(state @ ("down" | "lowerlayerdown")) = state {
            let name = &network.name;
            found.add(
                format!("interface {name} is {state}"),
                format!("`ip link set {name} up`"),
            );
        }
    }
}

/// One address on any of them will do.
fn unaddressed(found: &mut Findings, networks: &[Network]) {
    let none = |network: &Network| network.addresses.as_ref().is_some_and(Vec::is_empty);
    if let Some(own) = networks.first().filter(|_| networks.iter().all(none)) {
        found.add(
            format!("{} has no IP address", own.name),
            format!("give it one (`ip address add … dev {}`)", own.name),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_device_file_that_is_not_there_names_its_module() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("uverbs0");
        let (what, remedy) = unopened(&file, "ib_uverbs").expect("it is not there");
        assert!(what.contains("uverbs0 (No such file"), "{what}");
        assert!(remedy.contains("`modprobe ib_uverbs`"), "{remedy}");
        fs::write(&file, "").expect("a file");
        assert_eq!(unopened(&file, "ib_uverbs"), None);
    }

    #[test]
    fn libraries_tell_what_they_miss() {
        let absent = library(LoadError::Absent {
            library: "libibverbs.so.1",
            package: "libibverbs1",
            elsewhere: "libibverbs",
            why: "no such file".to_owned(),
        });
        assert_eq!(
            absent.to_string(),
            "libibverbs.so.1 cannot be loaded (no such file); install rdma-core (Debian: libibverbs1; RHEL: libibverbs)"
        );
        let old = library(LoadError::Old {
            library: "librdmacm.so.1",
            function: "rdma_establish",
        });
        assert_eq!(
            old.to_string(),
            "librdmacm.so.1 has no rdma_establish; update rdma-core to 22 or later"
        );
    }
}
