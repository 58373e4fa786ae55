//! What to doubt of a trial by what RDMA ports and the drivers of interfaces counted meanwhile, at both ends.

use strata_record::{
    HostProof, InterfaceProof, PortEvent, Proof, RdmaPortProof, Warning, WarningCode, WireSign,
};

/// More counters of one place than this are not named.
const NAMED: usize = 6;

/// Errors of a port that tell nothing of the wire: the first two have doubts of their own, the others count packets of
/// management that found no room, and those that a port sent and then heard itself.
const NO_WIRE: [&str; 4] = [
    "link_downed",
    "port_xmit_discards",
    "VL15_dropped",
    "port_rcv_switch_relay_errors",
];

/// Counters that changed, by name.
type Changed<'p> = Vec<(&'p str, u64)>;

/// The doubts, of each kind one that names all places.
pub(crate) fn port_doubts(proof: &Proof) -> Vec<Warning> {
    let doubts = [
        (
            WarningCode::LinkDown,
            places(proof, link_of_port, link_of_interface),
            Words(
                "the link went down in mid-trial at ",
                "; look at its cable and transceiver, and at the switch's log",
            ),
        ),
        (
            WarningCode::Discards,
            places(
                proof,
                |port| port.changed(PortEvent::Discard).collect(),
                |interface| interface.signs(WireSign::Discard).collect(),
            ),
            Words(
                "packets were dropped for want of room at ",
                "; set PFC or ECN for this traffic on both ends and the switch, or send less at once",
            ),
        ),
        (
            WarningCode::Retransmissions,
            events(proof, &[PortEvent::Retransmission]),
            Words(
                "packets were sent again by ",
                ": they or their answers were lost or late; look for discards and errors at both ends and on the switch, and whether PFC or ECN is set alike on all of them",
            ),
        ),
        (
            WarningCode::OutOfSequence,
            events(proof, &[PortEvent::OutOfSequence]),
            Words(
                "packets came out of sequence to ",
                ": others were lost before them, or overtaken on another path; look for discards at the sender and on the switch, and for links that share the traffic",
            ),
        ),
        (
            WarningCode::ReceiverNotReady,
            events(proof, &[PortEvent::ReceiverNotReady]),
            Words(
                "requests found no receive posted, as told by ",
                ": the receiver is slower than the sender; give the receiving side CPUs of its own near the port, or more --depth",
            ),
        ),
        (
            WarningCode::Paused,
            places(
                proof,
                |_| Vec::new(),
                |interface| interface.signs(WireSign::Pause).collect(),
            ),
            Words(
                "pause frames held the link of ",
                ": for those received (rx) the other end or the switch could not take more, for those sent (tx) this end could not; look there for a narrow PCI Express link, slow memory or another flow",
            ),
        ),
        (
            WarningCode::Congestion,
            places(
                proof,
                |port| {
                    let signs = [
                        PortEvent::EcnMarked,
                        PortEvent::CnpSent,
                        PortEvent::CnpHandled,
                    ];
                    signs.into_iter().flat_map(|e| port.changed(e)).collect()
                },
                |interface| interface.signs(WireSign::Congestion).collect(),
            ),
            Words(
                "congestion slowed senders, as told by ",
                "; look for another flow on the way, and whether the switch marks with ECN too early",
            ),
        ),
        (
            WarningCode::WireErrors,
            places(
                proof,
                |port| {
                    let errors = port.errors.iter().map(|(name, n)| (name.as_str(), *n));
                    errors
                        .filter(|(name, n)| *n > 0 && !NO_WIRE.contains(name))
                        .collect()
                },
                |interface| interface.signs(WireSign::Error).collect(),
            ),
            Words(
                "errors on the wire were counted by ",
                "; clean or change its cable or transceiver",
            ),
        ),
    ];
    doubts
        .into_iter()
        .filter(|(_, places, _)| !places.is_empty())
        .map(|(code, places, Words(before, after))| Warning {
            code,
            text: format!("{before}{}{after}", places.join(" and ")),
        })
        .collect()
}

/// What a doubt says before and after its places.
struct Words(&'static str, &'static str);

fn link_of_port(port: &RdmaPortProof) -> Changed<'_> {
    let downs = Some(port.link_downs()).filter(|n| *n > 0);
    downs.map(|n| ("link_downed", n)).into_iter().collect()
}

fn link_of_interface(interface: &InterfaceProof) -> Changed<'_> {
    let downs = interface.link_downs.filter(|n| *n > 0);
    downs
        .map(|n| ("carrier_down_count", n))
        .into_iter()
        .collect()
}

fn events(proof: &Proof, events: &[PortEvent]) -> Vec<String> {
    places(
        proof,
        |port| events.iter().flat_map(|e| port.changed(*e)).collect(),
        |_| Vec::new(),
    )
}

/// Ports and interfaces of both ends where something changed, with the counters that did.
fn places<'p>(
    proof: &'p Proof,
    of_port: impl Fn(&'p RdmaPortProof) -> Changed<'p>,
    of_interface: impl Fn(&'p InterfaceProof) -> Changed<'p>,
) -> Vec<String> {
    let of_host = |whose: &str, host: &'p HostProof| -> Vec<String> {
        let ports = host
            .ports
            .iter()
            .map(|p| (format!("{} port {}", p.device, p.port), of_port(p)));
        let interfaces = host
            .interfaces
            .iter()
            .map(|i| (i.name.clone(), of_interface(i)));
        ports
            .chain(interfaces)
            .filter(|(_, changed)| !changed.is_empty())
            .map(|(name, changed)| format!("{whose}{name} ({})", named(&changed)))
            .collect()
    };
    let own = proof.host.iter().flat_map(|host| of_host("", host));
    let other = proof.peer_host.iter();
    let other = other.flat_map(|host| of_host("the other side's ", host));
    own.chain(other).collect()
}

fn named(changed: &[(&str, u64)]) -> String {
    let some = changed.iter().take(NAMED);
    let mut words: Vec<String> = some.map(|(name, n)| format!("{name} {n}")).collect();
    if changed.len() > NAMED {
        words.push("…".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_record::{ClockProof, ClockSource};

    /// A trial of a port and its interface that counted much, and nothing to doubt.
    fn sound() -> HostProof {
        let mut port = RdmaPortProof {
            device: "mlx5_0".to_owned(),
            port: 1,
            xmit_wait_ticks: Some(12),
            ..RdmaPortProof::default()
        };
        for event in PortEvent::ALL {
            *port.count_mut(event) = Some(0);
        }
        for name in ["symbol_error", "link_downed", "port_xmit_discards"] {
            port.errors.insert(name.to_owned(), 0);
        }
        port.errors.insert("VL15_dropped".to_owned(), 3);
        port.hw_counters.insert("rx_write_requests".to_owned(), 900);
        let mut interface = InterfaceProof {
            name: "eth2".to_owned(),
            link_downs: Some(0),
            ..InterfaceProof::default()
        };
        let corrected = "rx_corrected_bits_phy".to_owned();
        interface.statistics.insert(corrected, 55);
        HostProof {
            ports: vec![port],
            interfaces: vec![interface],
            ..HostProof::default()
        }
    }

    fn proof(host: Option<HostProof>, peer_host: Option<HostProof>) -> Proof {
        Proof {
            threads: Vec::new(),
            pages: Vec::new(),
            clock: ClockProof {
                source: ClockSource::Tsc,
                hertz: 1e9,
                error_ppm: 1.0,
                read_ns: 10.0,
            },
            host,
            peer_host,
            connections: Vec::new(),
            queue_pairs: Vec::new(),
            contradictions: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn own(host: &mut HostProof, name: &str, n: u64) {
        host.ports[0].hw_counters.insert(name.to_owned(), n);
    }

    fn statistic(host: &mut HostProof, name: &str, n: u64) {
        host.interfaces[0].statistics.insert(name.to_owned(), n);
    }

    #[test]
    fn ports_that_lost_nothing_give_nothing_to_doubt() {
        assert_eq!(port_doubts(&proof(Some(sound()), Some(sound()))), []);
        assert_eq!(port_doubts(&proof(None, None)), []);
    }

    #[test]
    fn each_doubt_names_its_place_and_its_counters() {
        type Harm = fn(&mut HostProof);
        let harms: [(WarningCode, Harm, &str); 11] = [
            (
                WarningCode::LinkDown,
                |h| {
                    h.ports[0].errors.insert("link_downed".to_owned(), 2);
                },
                "at mlx5_0 port 1 (link_downed 2); look at its cable",
            ),
            (
                WarningCode::LinkDown,
                |h| h.interfaces[0].link_downs = Some(1),
                "at eth2 (carrier_down_count 1); look at its cable",
            ),
            (
                WarningCode::Discards,
                |h| {
                    h.ports[0].errors.insert("port_xmit_discards".to_owned(), 4);
                },
                "at mlx5_0 port 1 (port_xmit_discards 4); set PFC",
            ),
            (
                WarningCode::Discards,
                |h| statistic(h, "rx_discards_phy", 9),
                "at eth2 (rx_discards_phy 9); set PFC",
            ),
            (
                WarningCode::Retransmissions,
                |h| {
                    own(h, "packet_seq_err", 12);
                    own(h, "local_ack_timeout_err", 3);
                },
                "again by mlx5_0 port 1 (packet_seq_err 12, local_ack_timeout_err 3): they",
            ),
            (
                WarningCode::OutOfSequence,
                |h| own(h, "out_of_seq_request", 5),
                "to mlx5_0 port 1 (out_of_seq_request 5): others",
            ),
            (
                WarningCode::ReceiverNotReady,
                |h| own(h, "rcvd_rnr_err", 6),
                "by mlx5_0 port 1 (rcvd_rnr_err 6): the receiver",
            ),
            (
                WarningCode::Paused,
                |h| {
                    statistic(h, "rx_prio3_pause", 7);
                    statistic(h, "tx_prio3_pause", 8);
                },
                "of eth2 (rx_prio3_pause 7, tx_prio3_pause 8): for",
            ),
            (
                WarningCode::Congestion,
                |h| {
                    own(h, "np_ecn_marked_roce_packets", 2);
                    own(h, "np_cnp_sent", 1);
                    statistic(h, "rx_ecn_mark", 3);
                },
                "by mlx5_0 port 1 (np_ecn_marked_roce_packets 2, np_cnp_sent 1) and eth2 (rx_ecn_mark 3); look",
            ),
            (
                WarningCode::WireErrors,
                |h| {
                    h.ports[0].errors.insert("symbol_error".to_owned(), 1);
                },
                "by mlx5_0 port 1 (symbol_error 1); clean",
            ),
            (
                WarningCode::WireErrors,
                |h| statistic(h, "rx_pcs_symbol_err_phy", 1),
                "by eth2 (rx_pcs_symbol_err_phy 1); clean",
            ),
        ];
        for (code, harm, said) in harms {
            let mut host = sound();
            harm(&mut host);
            let found = port_doubts(&proof(Some(host.clone()), Some(sound())));
            let codes: Vec<_> = found.iter().map(|w| w.code).collect();
            assert_eq!(codes, [code], "{found:?}");
            assert!(found[0].text.contains(said), "{}", found[0].text);
            assert_eq!(code.excludes(), code == WarningCode::LinkDown);
            // The same, met at the other end.
            let other = port_doubts(&proof(Some(sound()), Some(host)));
            assert!(other[0].text.contains("the other side's "), "{other:?}");
        }
    }

    #[test]
    fn more_counters_than_can_be_read_are_not_all_named() {
        let mut host = sound();
        for priority in 0..8 {
            statistic(&mut host, &format!("rx_prio{priority}_pause"), 1);
        }
        let found = port_doubts(&proof(Some(host), None));
        let text = &found[0].text;
        assert!(text.contains("rx_prio5_pause 1, …)"), "{text}");
        assert!(!text.contains("rx_prio6"), "{text}");
    }
}
