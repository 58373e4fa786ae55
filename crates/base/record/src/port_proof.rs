//! What RDMA ports and the wire under them counted in a trial, and what the drivers' own counters mean.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::Bytes;

use crate::InterfaceProof;

/// What a port of an RDMA device counted in the span, for whomever
/// (`Documentation/ABI/stable/sysfs-class-infiniband` of the kernel). What the driver does not count is null or absent; what
/// it counts and cannot be told (a counter at its maximum, where it stays, or one that was reset meanwhile) is so too, and
/// the proof's `missing` names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaPortProof {
    /// The device (`mlx5_0`).
    pub device: String,
    /// Number of the port, from 1.
    pub port: u32,
    /// Bytes sent: `port_xmit_data`, which counts words of 4 octets and is multiplied here; where there is none, `tx_bytes`
    /// of the hw_counters (efa, bnxt_re).
    pub sent_bytes: Option<Bytes>,
    /// Bytes received: `port_rcv_data`, likewise, or `rx_bytes`.
    pub received_bytes: Option<Bytes>,
    /// Packets sent: `port_xmit_packets`, or of the hw_counters `tx_pkts` (efa, bnxt_re) or `sent_pkts` (rxe).
    pub sent_packets: Option<u64>,
    /// Packets received: `port_rcv_packets`, or of the hw_counters `rx_pkts` (efa, bnxt_re) or `rcvd_pkts` (rxe).
    pub received_packets: Option<u64>,
    /// Ticks, whose length no driver tells, in which the port had something to send and could not: `port_xmit_wait`.
    pub xmit_wait_ticks: Option<u64>,
    /// Times that this side sent again or had to: `packet_seq_err`, `implied_nak_seq_err`, `local_ack_timeout_err` and
    /// `roce_adp_retrans` (mlx5), `seq_err_naks_rcvd` and `to_retransmits` (bnxt_re), `Nak Sequence Error`,
    /// `Nak Sequence Error Implied`, `RTO`, `RetransSegs` and `tcpRetransSegs` (irdma), `sq_num_oos` and `sq_num_to` (mlx4),
    /// `retrans_pkts` (efa), `completer_retry_err` (rxe).
    pub retransmissions: Option<u64>,
    /// Packets that came to this side out of sequence: `out_of_sequence` (mlx5), `oos_drop_count` (bnxt_re),
    /// `Rcvd Out of order packets` (irdma), `rq_num_oos` (mlx4), `out_of_seq_request` (rxe).
    pub out_of_sequence: Option<u64>,
    /// Requests that found no receive posted, as the sender, the receiver or, where both are here, both of them counted:
    /// `rnr_nak_retry_err` and `out_of_buffer` (mlx5), `rnr_naks_rcvd` and `rx_out_of_buffer` (bnxt_re), `RNR received` and
    /// `RNR sent` (irdma), `sq_num_rnr` and `rq_num_rnr` (mlx4), `rcvd_rnr_err` and `send_rnr_err` (rxe).
    pub receiver_not_ready: Option<u64>,
    /// Congestion notifications sent, for packets that came marked: `np_cnp_sent` (mlx5, bnxt_re), `np_cnp_pkts` and
    /// `tx_cnp_pkts` (bnxt_re), `cnpSent` (irdma).
    pub cnps_sent: Option<u64>,
    /// Congestion notifications received and obeyed, by sending slower: `rp_cnp_handled` (mlx5, bnxt_re), `rx_cnp_pkts`
    /// (bnxt_re), `cnpHandled` (irdma).
    pub cnps_handled: Option<u64>,
    /// Packets that came marked with ECN by a switch: `np_ecn_marked_roce_packets` (mlx5, bnxt_re), `rx_ecn_marked_pkts`
    /// (bnxt_re), `RxECNMrkd` (irdma).
    pub ecn_marked: Option<u64>,
    /// Packets dropped at this port: `port_xmit_discards`, and of the hw_counters `rx_roce_discards` and `tx_roce_discards`
    /// (bnxt_re), `ip4InDiscards` and `ip6InDiscards` (irdma), `rx_drops` (efa).
    pub discards: Option<u64>,
    /// Errors, each by the kernel's name: `symbol_error`, `link_error_recovery`, `link_downed`, `port_rcv_errors`,
    /// `port_rcv_remote_physical_errors`, `port_rcv_switch_relay_errors`, `port_rcv_constraint_errors`,
    /// `port_xmit_discards`, `port_xmit_constraint_errors`, `local_link_integrity_errors`,
    /// `excessive_buffer_overrun_errors` and `VL15_dropped`; all that the port counts, those that did not change too.
    pub errors: BTreeMap<String, u64>,
    /// All of the driver's own counters (`hw_counters`) that changed, by the driver's names. Those that the driver keeps for
    /// the whole device stand here too.
    pub hw_counters: BTreeMap<String, u64>,
}

/// An event that drivers count each under names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortEvent {
    /// [`RdmaPortProof::retransmissions`].
    Retransmission,
    /// [`RdmaPortProof::out_of_sequence`].
    OutOfSequence,
    /// [`RdmaPortProof::receiver_not_ready`].
    ReceiverNotReady,
    /// [`RdmaPortProof::cnps_sent`].
    CnpSent,
    /// [`RdmaPortProof::cnps_handled`].
    CnpHandled,
    /// [`RdmaPortProof::ecn_marked`].
    EcnMarked,
    /// [`RdmaPortProof::discards`].
    Discard,
}

impl PortEvent {
    /// All of them, the gravest first.
    pub const ALL: [PortEvent; 7] = [
        PortEvent::Discard,
        PortEvent::Retransmission,
        PortEvent::OutOfSequence,
        PortEvent::ReceiverNotReady,
        PortEvent::EcnMarked,
        PortEvent::CnpSent,
        PortEvent::CnpHandled,
    ];

    /// The names of the counters that count it and no other event (`drivers/infiniband/hw/*/` of the kernel): those of a port
    /// are added up.
    pub const fn counters(self) -> &'static [&'static str] {
        match self {
            PortEvent::Retransmission => &[
                "packet_seq_err",
                "implied_nak_seq_err",
                "local_ack_timeout_err",
                "roce_adp_retrans",
                "seq_err_naks_rcvd",
                "to_retransmits",
                "Nak Sequence Error",
                "Nak Sequence Error Implied",
                "RTO",
                "RetransSegs",
                "tcpRetransSegs",
                "sq_num_oos",
                "sq_num_to",
                "retrans_pkts",
                "completer_retry_err",
            ],
            PortEvent::OutOfSequence => &[
                "out_of_sequence",
                "oos_drop_count",
                "Rcvd Out of order packets",
                "rq_num_oos",
                "out_of_seq_request",
            ],
            PortEvent::ReceiverNotReady => &[
                "rnr_nak_retry_err",
                "out_of_buffer",
                "rnr_naks_rcvd",
                "rx_out_of_buffer",
                "RNR received",
                "RNR sent",
                "sq_num_rnr",
                "rq_num_rnr",
                "rcvd_rnr_err",
                "send_rnr_err",
            ],
            PortEvent::CnpSent => &["np_cnp_sent", "np_cnp_pkts", "tx_cnp_pkts", "cnpSent"],
            PortEvent::CnpHandled => &["rp_cnp_handled", "rx_cnp_pkts", "cnpHandled"],
            PortEvent::EcnMarked => &[
                "np_ecn_marked_roce_packets",
                "rx_ecn_marked_pkts",
                "RxECNMrkd",
            ],
            PortEvent::Discard => &[
                "port_xmit_discards",
                "rx_roce_discards",
                "tx_roce_discards",
                "ip4InDiscards",
                "ip6InDiscards",
                "rx_drops",
            ],
        }
    }
}

impl RdmaPortProof {
    /// How often something happened; none where that is not told.
    pub fn count(&self, event: PortEvent) -> Option<u64> {
        match event {
            PortEvent::Retransmission => self.retransmissions,
            PortEvent::OutOfSequence => self.out_of_sequence,
            PortEvent::ReceiverNotReady => self.receiver_not_ready,
            PortEvent::CnpSent => self.cnps_sent,
            PortEvent::CnpHandled => self.cnps_handled,
            PortEvent::EcnMarked => self.ecn_marked,
            PortEvent::Discard => self.discards,
        }
    }

    /// Where [`RdmaPortProof::count`] of an event stands.
    pub fn count_mut(&mut self, event: PortEvent) -> &mut Option<u64> {
        match event {
            PortEvent::Retransmission => &mut self.retransmissions,
            PortEvent::OutOfSequence => &mut self.out_of_sequence,
            PortEvent::ReceiverNotReady => &mut self.receiver_not_ready,
            PortEvent::CnpSent => &mut self.cnps_sent,
            PortEvent::CnpHandled => &mut self.cnps_handled,
            PortEvent::EcnMarked => &mut self.ecn_marked,
            PortEvent::Discard => &mut self.discards,
        }
    }

    /// The counters of an event that changed, and by how much.
    pub fn changed(&self, event: PortEvent) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        event
            .counters()
            .iter()
            .filter_map(|name| Some((*name, self.counter(name)?)))
            .filter(|(_, count)| *count > 0)
    }

    /// Times that the link went down; 0 also where nothing counts that.
    pub fn link_downs(&self) -> u64 {
        self.counter("link_downed").unwrap_or(0)
    }

    fn counter(&self, name: &str) -> Option<u64> {
        let own = || self.hw_counters.get(name);
        self.errors.get(name).or_else(own).copied()
    }
}

/// What a statistic of an interface's driver (`ethtool -S`) is a sign of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireSign {
    /// Frames that stop the sender, of the whole link or of a priority, or time stood still for them.
    Pause,
    /// Packets dropped for want of room.
    Discard,
    /// Errors that error correction (FEC) did not take away.
    Error,
    /// What error correction took away: some of it is as it should be on fast links.
    Corrected,
    /// Packets marked with ECN, and the notifications that follow.
    Congestion,
}

impl WireSign {
    /// By parts of the names that drivers give (mlx5, mlx4, ice, i40e, bnxt_en and others); none for all other statistics.
    pub fn of(statistic: &str) -> Option<WireSign> {
        const PARTS: [(&str, WireSign); 16] = [
            ("pause", WireSign::Pause),
            ("pfc", WireSign::Pause),
            ("xoff", WireSign::Pause),
            ("discard", WireSign::Discard),
            ("out_of_buffer", WireSign::Discard),
            ("ecn_mark", WireSign::Congestion),
            ("cnp", WireSign::Congestion),
            ("uncorrect", WireSign::Error),
            ("corrected", WireSign::Corrected),
            ("fec_corr", WireSign::Corrected),
            ("symbol_err", WireSign::Error),
            ("crc_err", WireSign::Error),
            ("crc_align_err", WireSign::Error),
            ("fcs_err", WireSign::Error),
            ("rx_errors_phy", WireSign::Error),
            ("fec_err", WireSign::Error),
        ];
        let name = statistic.to_ascii_lowercase();
        let found = PARTS.iter().find(|(part, _)| name.contains(part));
        found.map(|(_, sign)| *sign)
    }
}

impl InterfaceProof {
    /// The statistics of one sign that changed, and by how much.
    pub fn signs(&self, sign: WireSign) -> impl Iterator<Item = (&str, u64)> + '_ {
        self.statistics
            .iter()
            .filter(move |(name, _)| WireSign::of(name) == Some(sign))
            .map(|(name, count)| (name.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_docs_of_each_event_name_all_its_counters_and_none_is_of_two() {
        let schema = serde_json::to_value(schemars::schema_for!(RdmaPortProof)).expect("JSON");
        let fields = [
            (PortEvent::Retransmission, "retransmissions"),
            (PortEvent::OutOfSequence, "out_of_sequence"),
            (PortEvent::ReceiverNotReady, "receiver_not_ready"),
            (PortEvent::CnpSent, "cnps_sent"),
            (PortEvent::CnpHandled, "cnps_handled"),
            (PortEvent::EcnMarked, "ecn_marked"),
            (PortEvent::Discard, "discards"),
        ];
        let mut seen = BTreeSet::new();
        for event in PortEvent::ALL {
            let field = fields.iter().find(|(e, _)| *e == event).expect("a field").1;
            let told = schema["properties"][field]["description"]
                .as_str()
                .unwrap_or_else(|| panic!("{field} has no description"));
            let told: BTreeSet<&str> = told.split('`').skip(1).step_by(2).collect();
            let summed: BTreeSet<&str> = event.counters().iter().copied().collect();
            assert_eq!(told, summed, "{field}");
            assert!(event.counters().iter().all(|name| seen.insert(*name)));
        }
    }

    #[test]
    fn counters_that_changed_are_told_by_name() {
        let mut port = RdmaPortProof::default();
        for event in PortEvent::ALL {
            *port.count_mut(event) = Some(3);
            assert_eq!(port.count(event), Some(3), "{event:?}");
        }
        let set = |map: &mut BTreeMap<String, u64>, name: &str, n| map.insert(name.to_owned(), n);
        set(&mut port.errors, "port_xmit_discards", 2);
        set(&mut port.errors, "link_downed", 0);
        set(&mut port.hw_counters, "rx_drops", 1);
        set(&mut port.hw_counters, "rx_write_requests", 9);
        let found: Vec<_> = port.changed(PortEvent::Discard).collect();
        assert_eq!(found, [("port_xmit_discards", 2), ("rx_drops", 1)]);
        assert_eq!(port.changed(PortEvent::EcnMarked).count(), 0);
        assert_eq!(port.link_downs(), 0);
        port.errors.remove("link_downed");
        set(&mut port.hw_counters, "link_downed", 4);
        assert_eq!(port.link_downs(), 4, "Soft-RoCE keeps it among its own");
    }

    #[test]
    fn drivers_names_are_known_by_their_parts() {
        let signs = [
            ("rx_prio3_pause", Some(WireSign::Pause)),
            ("tx_prio0_pause_duration", Some(WireSign::Pause)),
            ("rx_pause_ctrl_phy", Some(WireSign::Pause)),
            ("rx_pfc_ena_frames_pri3", Some(WireSign::Pause)),
            ("rx_priority_3_xoff.nic", Some(WireSign::Pause)),
            ("rx_discards_phy", Some(WireSign::Discard)),
            ("rx_prio3_buf_discard", Some(WireSign::Discard)),
            ("rx0_out_of_buffer", Some(WireSign::Discard)),
            ("rx_corrected_bits_phy", Some(WireSign::Corrected)),
            ("rx_fec_corrected_blocks", Some(WireSign::Corrected)),
            ("rx_fec_uncorrectable_blocks", Some(WireSign::Error)),
            ("rx_pcs_symbol_err_phy", Some(WireSign::Error)),
            ("rx_errors_phy", Some(WireSign::Error)),
            ("rx_ecn_mark", Some(WireSign::Congestion)),
            ("RX_CNP_handled", Some(WireSign::Congestion)),
            ("rx_packets", None),
            ("tx0_xdp_tx_drops", None),
            ("", None),
        ];
        for (name, sign) in signs {
            assert_eq!(WireSign::of(name), sign, "{name}");
        }
    }
}
