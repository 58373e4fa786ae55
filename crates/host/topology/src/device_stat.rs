//! What block devices and network interfaces count.

use std::collections::BTreeMap;
use std::io;

use strata_record::{DeviceProof, InterfaceProof, TcpProof, WireSign};
use strata_units::{Bytes, Nanos};

use crate::ethtool;
use crate::interrupts::since as turned;
use crate::root::{Reader, numbered};

/// Sectors of `stat` are of 512 bytes whatever the device's are.
const SECTOR: u64 = 512;

/// A device's counters since it was there (`Documentation/block/stat.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceStat([u64; 11]);

impl DeviceStat {
    /// Those of a disk; `None` when it has none or does not keep them.
    pub(crate) fn read(reader: &Reader, disk: &str) -> Option<DeviceStat> {
        let folder = format!("sys/block/{disk}");
        if reader.flag(&format!("{folder}/queue/iostats")) == Some(false) {
            return None;
        }
        let own = Self::of(reader, &folder)?;
        if own != DeviceStat::default() {
            return Some(own);
        }
        // Before Linux 6.4 a multipath head counts nothing and its paths do.
        Some(paths(reader, disk).fold(own, |mut sum, path| {
            for (total, n) in sum.0.iter_mut().zip(path.0) {
                *total = total.saturating_add(n);
            }
            sum
        }))
    }

    fn of(reader: &Reader, folder: &str) -> Option<DeviceStat> {
        let text = reader.text(&format!("{folder}/stat"))?;
        let mut counts = [0; 11];
        let mut fields = text.split_whitespace();
        for count in &mut counts {
            *count = fields.next()?.parse().ok()?;
        }
        Some(DeviceStat(counts))
    }

    /// What was counted since `earlier` within `span`.
    pub(crate) fn since(self, earlier: DeviceStat, name: &str, span: Nanos) -> DeviceProof {
        let grown = |at: usize| {
            let (now, then): (Option<&u64>, _) = (self.0.get(at), earlier.0.get(at));
            now.zip(then).map_or(0, |(n, t)| n.saturating_sub(*t))
        };
        // Milliseconds are 32 bits wide there, and turn over (part_stat_show).
        let millis = |at: usize| {
            let (now, then) = (self.0.get(at), earlier.0.get(at));
            let grown = now.zip(then).map_or(0, |(n, t)| turned(*n, *t));
            Nanos::from_millis(1) * grown
        };
        let bytes = |at| Bytes(grown(at).saturating_mul(SECTOR));
        let (reads, writes) = (grown(0), grown(4));
        let (read_bytes, write_bytes) = (bytes(2), bytes(6));
        let queue = millis(10);
        DeviceProof {
            name: name.to_owned(),
            reads,
            read_bytes,
            read_merges: grown(1),
            writes,
            write_bytes,
            write_merges: grown(5),
            busy_ns: millis(9),
            queue_ns: queue,
            mean_depth: if span.0 > 0 {
                queue.as_secs_f64() / span.as_secs_f64()
            } else {
                0.0
            },
            mean_bytes: (reads + writes > 0)
                .then(|| (read_bytes + write_bytes).0 as f64 / (reads + writes) as f64),
        }
    }
}

/// Counters of a multipath head's paths: `nvme0c1n2` of `nvme0n2`.
fn paths(reader: &Reader, head: &str) -> impl Iterator<Item = DeviceStat> {
    let parts = head
        .strip_prefix("nvme")
        .and_then(|rest| rest.split_once('n'));
    let names = parts.map_or_else(Vec::new, |(subsystem, space)| {
        let path = |name: &String| {
            let rest = name.strip_prefix("nvme")?.strip_prefix(subsystem)?;
            let (path, of) = rest.strip_prefix('c')?.split_once('n')?;
            (of == space).then(|| numbered(path, ""))?
        };
        let mut names = reader.names("sys/block");
        names.retain(|name| path(name).is_some());
        names
    });
    let stats: Vec<DeviceStat> = names
        .iter()
        .filter_map(|name| DeviceStat::of(reader, &format!("sys/block/{name}")))
        .collect();
    stats.into_iter()
}

/// An interface's counters since it was there (`Documentation/ABI/testing/sysfs-class-net-statistics`), and those of its
/// driver's own statistics that are signs of the wire. The driver is asked on the live machine only.
pub(crate) fn interface(reader: &Reader, name: &str) -> Option<InterfaceProof> {
    let folder = format!("sys/class/net/{name}");
    let count = |file: &str| -> Option<u64> {
        let path = format!("{folder}/statistics/{file}");
        reader.value(&path, "a count")
    };
    let both = |what: &str| {
        let sum = |way: &str| count(&format!("{way}_{what}")).unwrap_or(0);
        sum("rx").saturating_add(sum("tx"))
    };
    let mut proof = InterfaceProof {
        name: name.to_owned(),
        rx_bytes: Bytes(count("rx_bytes")?),
        tx_bytes: Bytes(count("tx_bytes")?),
        rx_packets: count("rx_packets")?,
        tx_packets: count("tx_packets")?,
        dropped: both("dropped"),
        errors: both("errors"),
        link_downs: reader.value(&format!("{folder}/carrier_down_count"), "a count"),
        ..InterfaceProof::default()
    };
    if reader.root().is_live() {
        let refused = |error: io::Error| reader.note(&folder, format!("its driver: {error}"));
        let told = ethtool::statistics(name).map_err(refused);
        proof.statistics = signs(told.unwrap_or_default());
        let fec = ethtool::fec(name).map_err(refused);
        proof.fec = fec.ok().flatten().map(str::to_owned);
    }
    Some(proof)
}

/// Of a driver's statistics those of the wire; of two with the same name, as queues may have, the sum.
fn signs(told: Vec<(String, u64)>) -> BTreeMap<String, u64> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for (name, count) in told {
        if WireSign::of(&name).is_some() {
            let sum = found.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    found
}

/// What an interface counted between two readings; what cannot be told goes to `missing`, a sentence each.
pub(crate) fn interface_since(
    earlier: &InterfaceProof,
    now: &InterfaceProof,
    missing: &mut Vec<String>,
) -> InterfaceProof {
    let bytes = |now: Bytes, then: Bytes| Bytes(now.0.saturating_sub(then.0));
    let mut statistics = BTreeMap::new();
    for (name, count) in &now.statistics {
        let Some(then) = earlier.statistics.get(name) else {
            continue;
        };
        match count.checked_sub(*then) {
            Some(0) => {}
            Some(grown) => {
                statistics.insert(name.clone(), grown);
            }
            None => missing.push(format!(
                "{name} of {}: it went back from {then} to {count}: somebody reset it in mid-trial",
                now.name
            )),
        }
    }
    InterfaceProof {
        name: now.name.clone(),
        rx_bytes: bytes(now.rx_bytes, earlier.rx_bytes),
        tx_bytes: bytes(now.tx_bytes, earlier.tx_bytes),
        rx_packets: now.rx_packets.saturating_sub(earlier.rx_packets),
        tx_packets: now.tx_packets.saturating_sub(earlier.tx_packets),
        dropped: now.dropped.saturating_sub(earlier.dropped),
        errors: now.errors.saturating_sub(earlier.errors),
        link_downs: now
            .link_downs
            .zip(earlier.link_downs)
            .map(|(now, then)| now.saturating_sub(then)),
        statistics,
        fec: now.fec.clone(),
    }
}

/// TCP's counters since the network namespace was made (proc_pid_net(5)).
pub(crate) fn tcp(reader: &Reader) -> Option<TcpProof> {
    let snmp = reader.text("proc/net/snmp")?;
    let tcp = protocol(&snmp, "Tcp:")?;
    let netstat = reader.text("proc/net/netstat").unwrap_or_default();
    let more = protocol(&netstat, "TcpExt:").unwrap_or_default();
    let extra = |name: &str| more.get(name).copied().unwrap_or(0);
    Some(TcpProof {
        sent_segments: *tcp.get("OutSegs")?,
        retransmitted: *tcp.get("RetransSegs")?,
        errors: *tcp.get("InErrs")?,
        lost_retransmits: extra("TCPLostRetransmit"),
        timeouts: extra("TCPTimeouts"),
        listen_overflows: extra("ListenOverflows"),
        backlog_drops: extra("TCPBacklogDrop"),
    })
}

/// A line of names and under it a line of numbers, both begun by the protocol's name. Some numbers are −1.
fn protocol<'t>(text: &'t str, name: &str) -> Option<BTreeMap<&'t str, u64>> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let pairs = names.split_whitespace().zip(numbers.split_whitespace());
    Some(
        pairs
            .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
            .collect(),
    )
}

/// What TCP counted between two readings.
pub(crate) fn tcp_since(earlier: TcpProof, now: TcpProof) -> TcpProof {
    let since = |of: fn(&TcpProof) -> u64| of(&now).saturating_sub(of(&earlier));
    TcpProof {
        sent_segments: since(|t| t.sent_segments),
        retransmitted: since(|t| t.retransmitted),
        errors: since(|t| t.errors),
        lost_retransmits: since(|t| t.lost_retransmits),
        timeouts: since(|t| t.timeouts),
        listen_overflows: since(|t| t.listen_overflows),
        backlog_drops: since(|t| t.backlog_drops),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_that_turn_over_go_on() {
        let mut then = DeviceStat::default();
        then.0[9..].copy_from_slice(&[u64::from(u32::MAX) - 99, u64::from(u32::MAX) - 999]);
        let mut now = DeviceStat::default();
        now.0[9..].copy_from_slice(&[900, 31_000]);
        let found = now.since(then, "nvme0n1", Nanos::SECOND);
        assert_eq!(found.busy_ns, Nanos::SECOND);
        assert_eq!(found.mean_depth, 32.0);
    }

    #[test]
    fn of_a_drivers_statistics_those_of_the_wire_that_changed_are_told() {
        let told = |pause, discards, reset| {
            let all = [
                ("rx_prio3_pause", pause),
                ("rx_prio0_pause", 9),
                ("rx_packets", pause * 100),
                ("rx_discard", discards),
                ("rx_discard", discards),
                ("tx_cnp", reset),
            ];
            InterfaceProof {
                name: "eth2".to_owned(),
                statistics: signs(all.map(|(name, n)| (name.to_owned(), n)).into()),
                ..InterfaceProof::default()
            }
        };
        let mut missing = Vec::new();
        let found = interface_since(&told(5, 1, 4), &told(12, 3, 1), &mut missing);
        let expected = [("rx_discard", 4), ("rx_prio3_pause", 7)];
        let expected = expected.map(|(name, n)| (name.to_owned(), n));
        assert_eq!(found.statistics, expected.into());
        assert_eq!(
            missing,
            ["tx_cnp of eth2: it went back from 4 to 1: somebody reset it in mid-trial"]
        );
    }
}
