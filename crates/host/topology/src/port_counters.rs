//! What the ports of RDMA devices count.

use std::collections::BTreeMap;

use strata_record::{PortEvent, RdmaPortProof};
use strata_units::{Bytes, Nanos};

use crate::root::Reader;

/// Data is counted in words of 4 octets.
const WORD: u64 = 4;

/// More files in a folder of counters are not looked at.
const MOST: usize = 512;

/// Counters of the port's performance management (InfiniBand Architecture Specification 1.3 §16.1.3), as the kernel names
/// them, and the greatest number that each can hold, where it stays (`drivers/infiniband/core/sysfs.c`). Data and packets
/// have 64 bits on ports that count so much, 32 on others.
const STANDARD: [(&str, u32); 17] = [
    ("port_xmit_data", 32),
    ("port_rcv_data", 32),
    ("port_xmit_packets", 32),
    ("port_rcv_packets", 32),
    ("port_xmit_wait", 32),
    ("symbol_error", 16),
    ("link_error_recovery", 8),
    ("link_downed", 8),
    ("port_rcv_errors", 16),
    ("port_rcv_remote_physical_errors", 16),
    ("port_rcv_switch_relay_errors", 16),
    ("port_rcv_constraint_errors", 8),
    ("port_xmit_discards", 16),
    ("port_xmit_constraint_errors", 8),
    ("local_link_integrity_errors", 4),
    ("excessive_buffer_overrun_errors", 4),
    ("VL15_dropped", 16),
];

/// How many of [`STANDARD`] are no errors.
const NO_ERRORS: usize = 5;

/// Counters of a port, read at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PortCounts {
    standard: BTreeMap<&'static str, u64>,
    /// The driver's own: the port's, and those that it keeps for the whole device.
    own: BTreeMap<String, u64>,
    /// For how long the driver's own are kept before they are read anew.
    lifespan: Option<Nanos>,
}

impl PortCounts {
    /// Those of a port; `None` when it counts nothing or is not there.
    pub(crate) fn read(reader: &Reader, device: &str, port: u32) -> Option<PortCounts> {
        let device = format!("sys/class/infiniband/{device}");
        let port = format!("{device}/ports/{port}");
        let standard = STANDARD.iter().filter_map(|(name, _)| {
            let path = format!("{port}/counters/{name}");
            Some((*name, number(reader, &path)?))
        });
        let mut counts = PortCounts {
            standard: standard.collect(),
            ..PortCounts::default()
        };
        for folder in [&device, &port].map(|above| format!("{above}/hw_counters")) {
            for name in reader.names(&folder).into_iter().take(MOST) {
                let found = number(reader, &format!("{folder}/{name}"));
                match (found, name.as_str()) {
                    (Some(millis), "lifespan") => {
                        counts.lifespan = Some(Nanos::from_millis(1) * millis);
                    }
                    (Some(count), _) if !is_gauge(&name) => {
                        counts.own.insert(name, count);
                    }
                    _ => {}
                }
            }
        }
        (!counts.standard.is_empty() || !counts.own.is_empty()).then_some(counts)
    }

    /// What was counted since `earlier` within `span`; what cannot be told goes to `missing`, a sentence each.
    pub(crate) fn since(
        &self,
        earlier: &PortCounts,
        (device, port): (&str, u32),
        span: Nanos,
        missing: &mut Vec<String>,
    ) -> RdmaPortProof {
        let mut tell = |name: &str, found: Result<u64, String>| {
            found
                .map_err(|why| missing.push(format!("{name} of {device} port {port}: {why}")))
                .ok()
        };
        // None: a counter that is there and cannot be told.
        let mut grown: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for (name, bits) in STANDARD {
            if let (Some(now), Some(then)) = (self.standard.get(name), earlier.standard.get(name)) {
                let most = (1 << bits) - 1;
                grown.insert(name, tell(name, change(*then, *now, most)));
            }
        }
        let standard = grown.clone();
        let own = self.own.iter().filter_map(|(name, now)| {
            let then = earlier.own.get(name)?;
            let found = change(*then, *now, u64::from(u32::MAX));
            Some((name.as_str(), tell(name, found)))
        });
        let own: BTreeMap<&str, Option<u64>> = own.collect();
        for (name, count) in &own {
            grown.entry(name).or_insert(*count);
        }
        if let Some(lifespan) = self.lifespan.filter(|l| !own.is_empty() && span < *l) {
            missing.push(format!(
                "hw_counters of {device} port {port}: the driver keeps what it read for {lifespan}, and the trial took {span}"
            ));
        }
        let first = |names: &[&str]| {
            let found = names.iter().find_map(|name| grown.get(name));
            found.copied().flatten()
        };
        let data = |name: &str, own: &str| {
            let words = standard.get(name).copied().flatten();
            let bytes = words.map(|words| words.saturating_mul(WORD));
            let none = !standard.contains_key(name);
            bytes.or_else(|| first(&[own]).filter(|_| none)).map(Bytes)
        };
        let mut proof = RdmaPortProof {
            device: device.to_owned(),
            port,
            sent_bytes: data("port_xmit_data", "tx_bytes"),
            received_bytes: data("port_rcv_data", "rx_bytes"),
            sent_packets: first(&["port_xmit_packets", "tx_pkts", "sent_pkts"]),
            received_packets: first(&["port_rcv_packets", "rx_pkts", "rcvd_pkts"]),
            xmit_wait_ticks: first(&["port_xmit_wait"]),
            errors: STANDARD[NO_ERRORS..]
                .iter()
                .filter_map(|(name, _)| {
                    let count = standard.get(name).copied().flatten()?;
                    Some(((*name).to_owned(), count))
                })
                .collect(),
            hw_counters: own
                .iter()
                .filter_map(|(name, count)| Some((*name, count.filter(|n| *n > 0)?)))
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            ..RdmaPortProof::default()
        };
        for event in PortEvent::ALL {
            let names = event.counters().iter();
            let told: Vec<Option<u64>> = names.filter_map(|n| grown.get(n).copied()).collect();
            // A sum without a part that cannot be told would be a guess.
            let sum = told.iter().try_fold(0, |sum: u64, count| {
                count.map(|count| sum.saturating_add(count))
            });
            *proof.count_mut(event) = sum.filter(|_| !told.is_empty());
        }
        proof
    }
}

/// A counter; none where the kernel writes that there is none (`N/A (no PMA)`).
fn number(reader: &Reader, path: &str) -> Option<u64> {
    let text = reader.word(path).filter(|text| !text.starts_with("N/A"))?;
    let count = text.parse().ok();
    if count.is_none() {
        reader.note(path, format!("found {text:?}, expected a count"));
    }
    count
}

/// What bnxt_re tells of objects that are there now, among what it counts.
fn is_gauge(name: &str) -> bool {
    name.starts_with("active_") || name.starts_with("watermark_")
}

/// What a counter that stays at `most`, and at the greatest number of 64 bits, grew by; or why that cannot be told.
fn change(then: u64, now: u64, most: u64) -> Result<u64, String> {
    if now == most || now == u64::MAX {
        return Err(format!(
            "it is at {now}, the most that it can hold, and counts no further; clear it (InfiniBand: `perfquery -R`), or load \
             the driver anew"
        ));
    }
    now.checked_sub(then).ok_or_else(|| {
        format!(
            "it went back from {then} to {now}: somebody reset it in mid-trial, or it turned over"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_grow_is_not_guessed() {
        let most = u64::from(u32::MAX);
        assert_eq!(change(5, 5, 255), Ok(0));
        assert_eq!(change(5, 254, 255), Ok(249));
        assert_eq!(change(1, most + 5, most), Ok(most + 4), "64 bits go on");
        for (then, now) in [(250, 255), (255, 255), (1, u64::MAX)] {
            let why = change(then, now, 255).expect_err("it stays there");
            assert!(why.starts_with(&format!("it is at {now}")), "{why}");
        }
        let why = change(7, 6, most).expect_err("backwards");
        assert!(why.contains("from 7 to 6"), "{why}");
    }

    #[test]
    fn errors_are_all_but_data_packets_and_waits() {
        let (others, errors) = STANDARD.split_at(NO_ERRORS);
        assert!(
            others
                .iter()
                .all(|(name, bits)| name.starts_with("port_") && *bits == 32)
        );
        assert!(errors.iter().all(|(_, bits)| *bits < 32));
    }
}
