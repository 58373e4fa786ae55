//! What bounds a cell over ports: their data rate, that less headers, and the way from the device to the CPU.

use strata_measure::{Nominal, NominalBound};
use strata_record::{Cell, Reality, Transport, Verbs};
use strata_topology::{Interface, RdmaPort};
use strata_units::Bytes;

use crate::host::Host;

use super::wrong::{HEADERS, MOST};

/// What stands about each packet of RoCE v2 over IPv4: preamble, gap, Ethernet and its check 38, IPv4 20, UDP 8, base
/// transport header 12, invariant check 4 (IEEE 802.3; InfiniBand Architecture Specification, annex A17).
const ROCE_V2_IPV4: u64 = 38 + 20 + 8 + 12 + 4;

/// The same over IPv6.
const ROCE_V2_IPV6: u64 = ROCE_V2_IPV4 + 20;

/// Of RoCE v1: the global route header in IP's and UDP's place.
const ROCE_V1: u64 = 38 + 40 + 12 + 4;

/// Of InfiniBand: local route header 8, base transport header 12, both checks 6.
const INFINIBAND: u64 = 8 + 12 + 4 + 2;

/// Of datagrams, besides: the extended header that names key and source.
const DATAGRAM: u64 = 8;

/// The bounds of a cell.
pub(super) fn of(host: &Host, cell: &Cell, verbs: &Verbs) -> Nominal {
    let mut found = Nominal::default();
    let (mut line, mut data, mut names) = (0.0, 0.0, Vec::new());
    for rail in &verbs.rails {
        let device = host
            .topology
            .rdma
            .iter()
            .find(|d| d.name == rail.ours.device);
        let port = device.and_then(|d| {
            let ports = &d.ports;
            ports.iter().find(|p| p.number == u32::from(rail.ours.port))
        });
        let Some((device, port)) = device.zip(port) else {
            continue;
        };
        if !matches!(
            device.judgement.reality,
            Some(Reality::Hardware | Reality::Passthrough)
        ) {
            found.missing.push(format!(
                "no line rate of {}: it is software or virtual, whose rate is an invention; use a measured bound",
                rail.ours
            ));
            return found;
        }
        let Some(rate) = rate(host, port) else {
            found.missing.push(format!(
                "no line rate of {}: the kernel tells none",
                rail.ours
            ));
            return found;
        };
        if let Some(pci) = device.pci {
            let path = host.function_bounds(pci);
            found.missing.extend(path.missing);
            // Several rails share what several functions bring; each alone bounds one of them only.
            if verbs.rails.len() == 1 {
                found.bounds.extend(path.bounds);
            }
        }
        line += rate / 8.0;
        let mtu = largest(interface(host, port).and_then(|i| i.mtu));
        let mtu = verbs.mtu_bytes.unwrap_or(mtu);
        data += rate / 8.0 * part(cell, verbs, mtu, port, rail.ours.gid_index);
        names.push(rail.ours.to_string());
    }
    let names = names.join(" and ");
    if line > 0.0 {
        found.bounds.push(NominalBound {
            name: format!("data rate of {names} ({} Gb/s)", line * 8.0 / 1e9),
            bytes_per_s: line,
        });
        found.estimates.push(NominalBound {
            name: format!("data rate of {names} less packet headers"),
            bytes_per_s: data,
        });
    }
    found
}

/// The interface of a port of Ethernet.
fn interface<'h>(host: &'h Host, port: &RdmaPort) -> Option<&'h Interface> {
    let own = port.interfaces.first().filter(|_| port.is_ethernet())?;
    let all = &host.topology.interfaces;
    all.iter().find(|i| i.name == *own)
}

/// The payload of a packet where none is asked for: as much as fits the interface's MTU. InfiniBand's is that of its subnet
/// manager, which is not known here, and the largest is no less.
fn largest(mtu: Option<Bytes>) -> Bytes {
    let room = mtu.map_or(MOST, |mtu| Bytes(mtu.0.saturating_sub(HEADERS.0)));
    let sizes = [4096, 2048, 1024, 512].map(Bytes).into_iter();
    sizes
        .filter(|size| *size <= room)
        .max()
        .unwrap_or(Bytes(256))
}

/// Bits of a port's link a second, after its encoding: where it is Ethernet the interface says it best.
fn rate(host: &Host, port: &RdmaPort) -> Option<f64> {
    let rate = interface(host, port).and_then(|i| i.line_rate());
    rate.or_else(|| port.data_rate()).map(|rate| rate.0 as f64)
}

/// The part of the line that a message's own bytes have.
fn part(cell: &Cell, verbs: &Verbs, mtu: Bytes, port: &RdmaPort, gid_index: Option<u8>) -> f64 {
    let gid = gid_index.and_then(|n| port.gids.iter().find(|g| g.index == u32::from(n)));
    let headers = match gid {
        _ if !port.is_ethernet() => INFINIBAND,
        Some(gid) if gid.kind == Some(strata_topology::GidKind::IbOrRoceV1) => ROCE_V1,
        Some(gid) if gid.gid.to_ipv4_mapped().is_some() => ROCE_V2_IPV4,
        _ => ROCE_V2_IPV6,
    };
    let more = if verbs.transport == Transport::Ud {
        DATAGRAM
    } else {
        0
    };
    payload(cell.workload.block_bytes, mtu, headers + more)
}

/// Of messages of so many bytes in packets of so large a payload, the part that is not headers.
fn payload(message: Bytes, mtu: Bytes, headers: u64) -> f64 {
    let packets = message.0.div_ceil(mtu.0.max(1)).max(1);
    message.0 as f64 / (message.0 + packets * headers) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_large_as_the_interface_lets_through() {
        for (mtu, expected) in [
            (Some(1500), 1024),
            (Some(4191), 2048),
            (Some(4192), 4096),
            (Some(9000), 4096),
            (Some(300), 256),
            (None, 4096),
        ] {
            assert_eq!(largest(mtu.map(Bytes)), Bytes(expected), "{mtu:?}");
        }
    }

    #[test]
    fn headers_take_what_they_take() {
        for (mtu, headers, expected) in [
            (4096, ROCE_V2_IPV4, 0.980),
            (1024, ROCE_V2_IPV4, 0.926),
            (4096, INFINIBAND, 0.994),
        ] {
            let found = payload(Bytes::MIB, Bytes(mtu), headers);
            assert!((found - expected).abs() < 0.0005, "{mtu}: {found}");
        }
        // A small message is mostly headers.
        assert!(payload(Bytes(8), Bytes(4096), ROCE_V2_IPV4) < 0.09);
    }
}
