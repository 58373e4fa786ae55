//! The counters of RDMA ports before and after, on made trees whose files change in between, and this machine's interfaces.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use strata_record::{HostProof, RdmaPortProof};
use strata_topology::{HostWatch, Root, Topology, WatchList};
use strata_units::{Bytes, PciAddress};

use crate::support::{Tree, cpus};

const IB: &str = "sys/class/infiniband/mlx5_0";
const ROCE: &str = "sys/class/infiniband/mlx5_1";

/// Writes counters of a folder: name and number, or whatever stands there instead.
fn put(tree: &Tree, folder: &str, counters: &[(&str, &str)]) {
    for (name, number) in counters {
        tree.put(&format!("{folder}/{name} = {number}"));
    }
}

fn watched(tree: &Tree, device: &str, between: impl FnOnce(&Tree)) -> (HostProof, Vec<String>) {
    let root = tree.root();
    let list = WatchList::of_port(&tree.topology(), device, 1, cpus("2"), cpus("3"));
    let watch = HostWatch::start(&root, &list);
    between(tree);
    watch.finish()
}

fn only(host: &HostProof) -> &RdmaPortProof {
    let [port] = &host.ports[..] else {
        panic!("one port is watched: {:?}", host.ports)
    };
    port
}

fn of<'m>(missing: &'m [String], what: &str) -> Vec<&'m str> {
    let said = missing.iter().map(String::as_str);
    said.filter(|m| m.contains(what)).collect()
}

#[test]
fn a_ports_data_is_told_in_bytes_and_its_errors_by_name() {
    let tree = Tree::unpack("two-sockets");
    let counters = format!("{IB}/ports/1/counters");
    put(
        &tree,
        &counters,
        &[
            ("port_xmit_data", "1000"),
            ("port_rcv_data", "18446744073709551000"),
            ("port_xmit_packets", "10"),
            ("port_rcv_packets", "20"),
            ("port_xmit_wait", "5"),
            ("symbol_error", "7"),
            ("link_downed", "1"),
            ("port_xmit_discards", "0"),
            ("VL15_dropped", "N/A (no PMA)"),
        ],
    );
    let (host, missing) = watched(&tree, "mlx5_0", |tree| {
        put(
            tree,
            &counters,
            &[
                ("port_xmit_data", "268436456"),
                ("port_rcv_data", "18446744073709551010"),
                ("port_xmit_packets", "262154"),
                ("port_xmit_wait", "77"),
                ("symbol_error", "9"),
                ("port_xmit_discards", "4"),
            ],
        );
    });
    let port = only(&host);
    assert_eq!((port.device.as_str(), port.port), ("mlx5_0", 1));
    assert_eq!(
        (port.sent_bytes, port.received_bytes),
        (Some(Bytes::GIB), Some(Bytes(40))),
        "words of 4 octets"
    );
    assert_eq!(
        (port.sent_packets, port.received_packets),
        (Some(262_144), Some(0))
    );
    assert_eq!(port.xmit_wait_ticks, Some(72));
    let errors: Vec<_> = port.errors.iter().map(|(n, c)| (n.as_str(), *c)).collect();
    assert_eq!(
        errors,
        [
            ("link_downed", 0),
            ("port_xmit_discards", 4),
            ("symbol_error", 2)
        ]
    );
    assert_eq!(port.discards, Some(4));
    assert_eq!(
        (port.retransmissions, port.cnps_sent, port.ecn_marked),
        (None, None, None),
        "without hw_counters nothing tells of them"
    );
    assert_eq!(of(&missing, "mlx5_0"), [""; 0], "{missing:?}");
}

#[test]
fn counters_of_each_driver_are_told_by_what_they_mean() {
    let zero = |tree: &Tree, names: &[&str]| {
        for name in names {
            put(
                tree,
                &format!("{ROCE}/ports/1/hw_counters"),
                &[(name, "100")],
            );
        }
    };
    /// What a driver has at 100, what it has afterwards, and what that means.
    type Driver<'t> = (&'t [&'t str], &'t [(&'t str, &'t str)], [Option<u64>; 7]);
    let drivers: [Driver<'_>; 4] = [
        (
            &[
                "packet_seq_err",
                "local_ack_timeout_err",
                "out_of_sequence",
                "rnr_nak_retry_err",
                "out_of_buffer",
                "np_cnp_sent",
                "rp_cnp_handled",
                "np_ecn_marked_roce_packets",
                "rx_write_requests",
            ],
            &[
                ("packet_seq_err", "103"),
                ("local_ack_timeout_err", "101"),
                ("out_of_sequence", "105"),
                ("out_of_buffer", "102"),
                ("np_cnp_sent", "106"),
                ("np_ecn_marked_roce_packets", "109"),
                ("rx_write_requests", "200"),
            ],
            [Some(4), Some(5), Some(2), Some(6), Some(0), Some(9), None],
        ),
        (
            &[
                "sent_pkts",
                "rcvd_pkts",
                "out_of_seq_request",
                "rcvd_rnr_err",
                "send_rnr_err",
                "completer_retry_err",
                "rcvd_seq_err",
            ],
            &[
                ("sent_pkts", "1100"),
                ("out_of_seq_request", "102"),
                ("send_rnr_err", "103"),
                ("completer_retry_err", "104"),
                ("rcvd_seq_err", "103"),
            ],
            // What was retried for a sequence error is counted once.
            [Some(4), Some(2), Some(3), None, None, None, None],
        ),
        (
            &[
                "RNR sent",
                "RxECNMrkd",
                "cnpHandled",
                "RTO",
                "ip4InDiscards",
            ],
            &[
                ("RNR sent", "101"),
                ("cnpHandled", "107"),
                ("ip4InDiscards", "108"),
            ],
            [Some(0), None, Some(1), None, Some(7), Some(0), Some(8)],
        ),
        (
            &["tx_bytes", "rx_bytes", "tx_pkts", "rx_drops"],
            &[("tx_bytes", "8292"), ("tx_pkts", "102")],
            [None, None, None, None, None, None, Some(0)],
        ),
    ];
    for (has, changes, told) in drivers {
        let tree = Tree::unpack("two-sockets");
        zero(&tree, has);
        put(
            &tree,
            &format!("{ROCE}/ports/1/hw_counters"),
            &[("lifespan", "0")],
        );
        let (host, missing) = watched(&tree, "mlx5_1", |tree| {
            put(tree, &format!("{ROCE}/ports/1/hw_counters"), changes);
        });
        let port = only(&host);
        let found = [
            port.retransmissions,
            port.out_of_sequence,
            port.receiver_not_ready,
            port.cnps_sent,
            port.cnps_handled,
            port.ecn_marked,
            port.discards,
        ];
        assert_eq!(found, told, "{has:?}");
        let names: Vec<_> = port.hw_counters.keys().map(String::as_str).collect();
        let mut changed: Vec<_> = changes.iter().map(|(name, _)| *name).collect();
        changed.sort_unstable();
        assert_eq!(names, changed, "those that changed, and no others");
        assert_eq!(of(&missing, "mlx5_1"), [""; 0]);
        if has.contains(&"tx_bytes") {
            assert_eq!(
                (port.sent_bytes, port.received_bytes),
                (Some(Bytes(8192)), Some(Bytes(0)))
            );
        }
        let packets = [("sent_pkts", 1000), ("tx_pkts", 2)];
        let packets = packets.iter().find(|(name, _)| has.contains(name));
        assert_eq!(port.sent_packets, packets.map(|(_, n)| *n));
    }
}

#[test]
fn counters_that_stand_still_or_went_back_are_told_and_not_guessed() {
    let tree = Tree::unpack("two-sockets");
    let (own, counters) = (
        format!("{ROCE}/ports/1/hw_counters"),
        format!("{ROCE}/ports/1/counters"),
    );
    put(
        &tree,
        &counters,
        &[
            ("port_xmit_data", "4294967295"),
            ("port_xmit_wait", "4294967290"),
            ("symbol_error", "65535"),
            ("link_downed", "254"),
            ("local_link_integrity_errors", "14"),
            ("port_rcv_errors", "4"),
        ],
    );
    put(
        &tree,
        &own,
        &[
            ("packet_seq_err", "5"),
            ("local_ack_timeout_err", "9"),
            ("out_of_sequence", "4294967295"),
            ("active_qps", "12"),
            ("tx_bytes", "1"),
            ("lifespan", "60000"),
            ("odd", "many"),
        ],
    );
    let (host, missing) = watched(&tree, "mlx5_1", |tree| {
        put(
            tree,
            &counters,
            &[
                ("port_xmit_wait", "4294967295"),
                ("link_downed", "255"),
                ("local_link_integrity_errors", "15"),
                ("port_rcv_errors", "3"),
            ],
        );
        put(
            tree,
            &own,
            &[
                ("packet_seq_err", "8"),
                ("local_ack_timeout_err", "0"),
                ("active_qps", "2"),
                ("tx_bytes", "4001"),
            ],
        );
    });
    let port = only(&host);
    assert!(port.errors.is_empty(), "{:?}", port.errors);
    assert_eq!(
        (port.sent_bytes, port.xmit_wait_ticks, port.out_of_sequence),
        (None, None, None),
        "another counter is not put in the place of one that stands still"
    );
    assert_eq!(
        port.retransmissions, None,
        "3 of them, and an unknown number"
    );
    assert_eq!(port.hw_counters.get("packet_seq_err"), Some(&3));
    for (name, why) in [
        ("port_xmit_data", "it is at 4294967295"),
        ("port_xmit_wait", "it is at 4294967295"),
        ("symbol_error", "it is at 65535"),
        ("link_downed", "it is at 255"),
        ("local_link_integrity_errors", "it is at 15"),
        ("out_of_sequence", "it is at 4294967295"),
        ("port_rcv_errors", "it went back from 4 to 3"),
        ("local_ack_timeout_err", "it went back from 9 to 0"),
        ("hw_counters", "the driver keeps what it read for 1m"),
    ] {
        let said = of(&missing, &format!("{name} of mlx5_1 port 1: {why}"));
        assert_eq!(said.len(), 1, "{name}: {missing:#?}");
    }
    assert_eq!(of(&missing, "odd: found \"many\"").len(), 1);
    assert_eq!(of(&missing, "of mlx5_1 port 1").len(), 9, "{missing:#?}");
}

#[test]
fn counters_of_the_whole_device_are_told_where_the_port_has_none() {
    let tree = Tree::unpack("two-sockets");
    let (of_device, of_port) = (
        format!("{IB}/hw_counters"),
        format!("{IB}/ports/1/hw_counters"),
    );
    put(
        &tree,
        &of_device,
        &[("tcpRetransSegs", "1"), ("rx_drops", "1")],
    );
    put(&tree, &of_port, &[("rx_drops", "50")]);
    let (host, _) = watched(&tree, "mlx5_0", |tree| {
        put(
            tree,
            &of_device,
            &[("tcpRetransSegs", "4"), ("rx_drops", "90")],
        );
        put(tree, &of_port, &[("rx_drops", "52")]);
    });
    let port = only(&host);
    assert_eq!((port.retransmissions, port.discards), (Some(3), Some(2)));
}

#[test]
fn a_port_is_watched_with_its_function_and_its_interfaces() {
    let address = |text: &str| -> PciAddress { text.parse().expect("an address") };
    let tree = Tree::unpack("two-sockets");
    let list = |tree: &Tree, device: &str| {
        WatchList::of_port(&tree.topology(), device, 1, cpus("2"), cpus("3"))
    };
    let ib = list(&tree, "mlx5_0");
    assert_eq!(ib.ports, [("mlx5_0".to_owned(), 1)]);
    assert_eq!((ib.cpus, ib.peer_cpus), (cpus("2"), cpus("3")));
    assert_eq!(ib.functions, [address("0000:41:00.0")]);
    assert_eq!(ib.interfaces, ["ib0"]);

    let soft = list(&tree, "rxe0");
    assert_eq!(soft.interfaces, ["ens1"], "what Soft-RoCE runs over");
    assert_eq!(soft.functions, [address("0000:c1:00.0")]);

    let none = list(&tree, "mlx5_9");
    assert_eq!(none.ports, [("mlx5_9".to_owned(), 1)]);
    assert!(none.functions.is_empty() && none.interfaces.is_empty());

    // Of RoCE LAG the bond's other port carries as much.
    let bond = "sys/devices/virtual/net/bond0";
    tree.put(&format!("{bond}/uevent = DEVTYPE=bond"));
    tree.put(&format!(
        "{bond}/lower_ens1 -> ../../../pci0000:c0/0000:c1:00.0/net/ens1"
    ));
    tree.put(&format!(
        "{bond}/lower_ib0 -> ../../../pci0000:40/0000:41:00.0/net/ib0"
    ));
    tree.put("sys/class/net/bond0 -> ../../devices/virtual/net/bond0");
    let both = list(&tree, "mlx5_1");
    assert_eq!(both.interfaces, ["ens1", "bond0", "ib0"]);
    assert_eq!(
        both.functions,
        [address("0000:c1:00.0"), address("0000:41:00.0")]
    );
}

#[test]
fn what_a_port_does_not_count_is_said() {
    let tree = Tree::unpack("two-sockets");
    put(
        &tree,
        "sys/class/net/ens1/statistics",
        &[
            ("rx_bytes", "0"),
            ("tx_bytes", "0"),
            ("rx_packets", "0"),
            ("tx_packets", "0"),
        ],
    );
    tree.put("sys/class/net/ens1/carrier_down_count = 3");
    let (host, missing) = watched(&tree, "mlx5_1", |tree| {
        tree.put("sys/class/net/ens1/carrier_down_count = 5");
    });
    assert_eq!(host.ports, []);
    assert_eq!(of(&missing, "what mlx5_1 port 1 did: ").len(), 1);
    assert_eq!(of(&missing, "marks of ens1: ").len(), 1);
    let [interface] = &host.interfaces[..] else {
        panic!("{:?}", host.interfaces)
    };
    assert_eq!(interface.link_downs, Some(2));

    let list = WatchList::of_port(&tree.topology(), "../../net", 1, cpus("2"), cpus(""));
    let root = tree.root();
    let (host, missing) = HostWatch::start(&root, &list).finish();
    assert_eq!(host.ports, []);
    assert_eq!(of(&missing, "what ../../net port 1 did: ").len(), 1);
}

#[test]
fn this_machines_interfaces_are_watched_with_their_drivers() {
    let test = "this_machines_interfaces_are_watched_with_their_drivers";
    let root = Root::live();
    let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten();
    let interfaces: Vec<String> = interfaces
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    if !interfaces.iter().any(|name| name == "lo") {
        println!("SKIP {test}: no loopback interface in /sys/class/net");
        return;
    }
    let list = WatchList {
        interfaces,
        ..WatchList::default()
    };
    let watch = HostWatch::start(&root, &list);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port of loopback");
    let to = socket.local_addr().expect("an address");
    for _ in 0..10 {
        socket.send_to(&[0; 100], to).expect("sent");
    }
    let (host, missing) = watch.finish();
    let lo = host.interfaces.iter().find(|i| i.name == "lo");
    let lo = lo.expect("it is in /sys/class/net");
    assert!(lo.tx_packets >= 10 && lo.tx_bytes >= Bytes(1000), "{lo:?}");
    assert!(lo.statistics.is_empty() && lo.fec.is_none(), "{lo:?}");
    assert_eq!(of(&missing, "its driver: "), [""; 0], "the kernel answers");
}

#[test]
fn ports_of_this_machine_are_counted_or_said_not_to_be() {
    let test = "ports_of_this_machine_are_counted_or_said_not_to_be";
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    if topology.rdma.is_empty() {
        println!("SKIP {test}: no RDMA device here");
        return;
    }
    for device in &topology.rdma {
        for number in device.ports.iter().map(|p| p.number) {
            let list = WatchList::of_port(&topology, &device.name, number, cpus(""), cpus(""));
            let watch = HostWatch::start(&root, &list);
            // Longer than drivers keep what they read (10 ms).
            std::thread::sleep(Duration::from_millis(50));
            let (host, missing) = watch.finish();
            let name = &device.name;
            let said = of(&missing, &format!("what {name} port {number} did"));
            assert_eq!(host.ports.len() + said.len(), 1, "{missing:?}");
            assert_eq!(of(&missing, "the driver keeps what it read"), [""; 0]);
            if device.over.is_some() && !host.ports.is_empty() {
                let port = only(&host);
                // As `rxe_hw_counters.c` names them, idle or not.
                assert!(
                    port.sent_packets.is_some() && port.retransmissions.is_some(),
                    "Soft-RoCE counts them: {port:?}"
                );
                assert_eq!((port.sent_bytes, port.ecn_marked), (None, None));
            }
        }
    }
}
