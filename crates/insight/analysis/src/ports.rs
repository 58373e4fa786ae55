//! What RDMA ports and the drivers of interfaces counted in a cell's trials, taken together.

use std::collections::{BTreeMap, BTreeSet};

use strata_record::{HostProof, InterfaceProof, PortEvent, Proof, RdmaPortProof, Role};

use crate::Range;

/// What a port of an RDMA device counted in a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct PortDigest {
    /// The side that it is on.
    pub role: Role,
    /// The device (`mlx5_0`).
    pub device: String,
    /// Number of the port, from 1.
    pub port: u32,
    /// Bytes sent; none when untold.
    pub sent_bytes: Option<Range>,
    /// Bytes received; none when untold.
    pub received_bytes: Option<Range>,
    /// Events that the port counts.
    pub events: Vec<(PortEvent, Range)>,
    /// Ticks in which it could not send; none when untold.
    pub xmit_wait_ticks: Option<Range>,
    /// Errors that a trial had, by the kernel's names.
    pub errors: Vec<(String, Range)>,
}

/// What a network interface and its driver counted of the wire in a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct WireDigest {
    /// The side that it is on.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Forward error correction in use, each once; empty when untold.
    pub fec: Vec<String>,
    /// Times that the link went down; none when untold.
    pub link_downs: Option<Range>,
    /// Statistics that changed in a trial, by the driver's names.
    pub statistics: Vec<(String, Range)>,
}

/// Ports of both sides, the measuring one's first.
pub(crate) fn ports(proofs: &[&Proof]) -> Vec<PortDigest> {
    let all = by_place(proofs, |host| &host.ports, |p| (p.device.clone(), p.port));
    let digest = |((role, (device, port)), found): (_, Vec<&RdmaPortProof>)| {
        let range = |of: &dyn Fn(&RdmaPortProof) -> Option<u64>| {
            Range::of(found.iter().filter_map(|p| of(p)).map(|n| n as f64))
        };
        let events = PortEvent::ALL.into_iter();
        PortDigest {
            role,
            device,
            port,
            sent_bytes: range(&|p| p.sent_bytes.map(|b| b.0)),
            received_bytes: range(&|p| p.received_bytes.map(|b| b.0)),
            events: events
                .filter_map(|e| Some((e, range(&|p| p.count(e))?)))
                .collect(),
            xmit_wait_ticks: range(&|p| p.xmit_wait_ticks),
            errors: changed(found.iter().map(|p| &p.errors)),
        }
    };
    all.into_iter().map(digest).collect()
}

/// Interfaces of both sides, the measuring one's first: those of which there is anything to tell.
pub(crate) fn wires(proofs: &[&Proof]) -> Vec<WireDigest> {
    let all = by_place(proofs, |host| &host.interfaces, |i| i.name.clone());
    let digest = |((role, name), found): (_, Vec<&InterfaceProof>)| {
        let fec: BTreeSet<&String> = found.iter().filter_map(|i| i.fec.as_ref()).collect();
        let downs = found.iter().filter_map(|i| i.link_downs);
        let wire = WireDigest {
            role,
            name,
            fec: fec.into_iter().cloned().collect(),
            link_downs: Range::of(downs.map(|n| n as f64)),
            statistics: changed(found.iter().map(|i| &i.statistics)),
        };
        let went_down = wire.link_downs.is_some_and(|downs| downs.most > 0.0);
        let tells = went_down || !(wire.fec.is_empty() && wire.statistics.is_empty());
        tells.then_some(wire)
    };
    all.into_iter().filter_map(digest).collect()
}

/// What all trials found at each place of each side.
fn by_place<'p, T, K: Ord>(
    proofs: &[&'p Proof],
    of: impl Fn(&'p HostProof) -> &'p [T],
    key: impl Fn(&T) -> K,
) -> BTreeMap<(Role, K), Vec<&'p T>> {
    let mut found: BTreeMap<(Role, K), Vec<&T>> = BTreeMap::new();
    for proof in proofs {
        let sides = [
            (Role::Measure, proof.host.as_ref()),
            (Role::Peer, proof.peer_host.as_ref()),
        ];
        for (role, host) in sides {
            for one in host.into_iter().flat_map(&of) {
                found.entry((role, key(one))).or_default().push(one);
            }
        }
    }
    found
}

/// Counters that changed in a trial; one that a trial does not have did not change there.
fn changed<'m>(
    trials: impl Iterator<Item = &'m BTreeMap<String, u64>> + Clone,
) -> Vec<(String, Range)> {
    let moved = trials.clone().flatten().filter(|(_, n)| **n > 0);
    let names: BTreeSet<&String> = moved.map(|(name, _)| name).collect();
    let range = |name: &String| {
        let counts = trials
            .clone()
            .map(|trial| trial.get(name).copied().unwrap_or(0));
        Some((name.clone(), Range::of(counts.map(|n| n as f64))?))
    };
    names.into_iter().filter_map(range).collect()
}
