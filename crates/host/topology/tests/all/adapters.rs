//! RDMA devices: their ports' addresses, partitions, interfaces and rates, and the GID that the network would choose.

use std::net::IpAddr;

use proptest::prelude::*;
use strata_topology::{BitRate, Gid, GidKind, PKey, RdmaDevice, RdmaPort, Root, Topology};

use crate::support::recording;

fn adapters() -> Topology {
    let topology = Topology::read(&Root::recorded(recording("adapters"))).expect("a topology");
    assert_eq!(topology.notes, []);
    topology
}

fn device<'t>(topology: &'t Topology, name: &str) -> &'t RdmaDevice {
    let mut devices = topology.rdma.iter();
    devices.find(|device| device.name == name).expect(name)
}

fn port(name: &str) -> RdmaPort {
    device(&adapters(), name).ports[0].clone()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn what_a_device_is_and_how_it_is_reached() {
    let topology = adapters();
    let told = |name: &str| {
        let device = device(&topology, name);
        (device.kind.clone(), device.verbs.clone())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(told("mlx5_0"), (some("CA"), some("uverbs0")));
    assert_eq!(told("mlx5_1"), (some("CA"), some("uverbs1")));
    assert_eq!(told("siw0"), (some("RNIC"), None));
}

#[test]
fn a_port_of_infiniband_has_lids_and_partitions() {
    let one = port("mlx5_0");
    assert_eq!(
        (one.lid, one.sm_lid, one.lid_mask_count),
        (Some(0), Some(0), Some(0))
    );
    let keys: Vec<_> = one
        .p_keys
        .iter()
        .map(|key| {
            (
                key.index,
                key.to_string(),
                key.is_limited(),
                key.partition(),
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            (0, "0x7fff".to_owned(), true, 0x7fff),
            (1, "0x8001".to_owned(), false, 1),
            (2, "0x0001".to_owned(), true, 1),
        ]
    );
    let [gid] = &one.gids[..] else {
        panic!("{:?}", one.gids)
    };
    assert_eq!((gid.index, gid.interface.as_ref()), (0, None));
    assert_eq!(gid.gid.to_string(), "fe80::b8ce:f603:11:1");
    assert_eq!(gid.kind, Some(GidKind::IbOrRoceV1));
    assert_eq!(one.interfaces, ["ib0"]);

    let topology = adapters();
    let second = &device(&topology, "mlx4_0").ports[1];
    assert_eq!((second.lid, second.sm_lid), (Some(0x12a), None));
    assert_eq!(second.lid_mask_count, Some(1));
}

#[test]
fn gids_of_roce_have_kinds_and_interfaces() {
    use GidKind::{IbOrRoceV1, RoceV2};
    let one = port("mlx5_1");
    let found: Vec<_> = one
        .gids
        .iter()
        .map(|g| (g.index, g.gid.to_string(), g.kind, g.interface.as_deref()))
        .collect();
    let line =
        |index, gid: &str, kind, interface| (index, gid.to_owned(), Some(kind), Some(interface));
    assert_eq!(
        found,
        [
            line(0, "fe80::bace:f6ff:fe12:1", IbOrRoceV1, "ens2"),
            line(1, "fe80::bace:f6ff:fe12:1", RoceV2, "ens2"),
            line(2, "2001:db8::12", RoceV2, "ens2"),
            line(4, "::ffff:198.51.100.1", RoceV2, "ens2.100"),
            line(5, "::ffff:192.0.2.18", IbOrRoceV1, "ens2"),
            line(6, "::ffff:192.0.2.18", RoceV2, "ens2"),
        ]
    );
    let json = serde_json::to_value(&one.gids[5]).expect("JSON");
    let expected = serde_json::json!({
        "index": 6, "gid": "::ffff:192.0.2.18", "kind": "RoCE v2", "interface": "ens2"
    });
    assert_eq!(json, expected);
}

#[test]
fn interfaces_of_a_port_its_own_first() {
    let topology = adapters();
    let of = |name: &str, port: usize| device(&topology, name).ports[port].interfaces.clone();
    // That of a virtual function's stands on the same function, and has no GID here.
    assert_eq!(of("mlx5_1", 0), ["ens2", "ens2.100"]);
    assert_eq!(of("mlx5_bond_0", 0), ["bond0"]);
    assert_eq!(of("mlx4_0", 0), ["ens7"]);
    assert_eq!(of("mlx4_0", 1), ["ib2", "ib2.8001"]);
    assert_eq!(of("rxe0", 0), ["ens2.100"]);
    assert_eq!(of("siw0", 0), [""; 0]);
}

#[test]
fn a_bond_that_one_device_has_for_its_own_is_a_lag() {
    let topology = adapters();
    let lag = |name: &str| &device(&topology, name).ports[0].lag;
    assert_eq!(*lag("mlx5_bond_0"), ["ens3", "ens4"]);
    for other in ["mlx5_1", "mlx5_5", "mlx5_6", "rxe0"] {
        assert_eq!(*lag(other), [""; 0], "{other}");
    }
}

/// The GID's place, when the control channel uses `address`.
fn chosen(port: &RdmaPort, address: Option<&str>) -> Option<u32> {
    port.usual_gid(address.map(ip)).map(|gid| gid.index)
}

#[test]
fn the_usual_gid_is_the_one_that_packets_get_furthest_with() {
    let mut one = port("mlx5_1");
    // Each is taken away once it was chosen.
    let mut order = Vec::new();
    while let Some(gid) = chosen(&one, None) {
        order.push(gid);
        one.gids.retain(|other| other.index != gid);
    }
    assert_eq!(order, [6, 4, 2, 1, 5, 0]);

    assert_eq!(chosen(&port("mlx5_0"), None), Some(0));
    assert_eq!(chosen(&port("mlx5_bond_0"), None), Some(1));
    assert_eq!(chosen(&port("rxe0"), None), Some(0));
    // A kernel that tells no kinds.
    assert_eq!(chosen(&port("mlx5_5"), None), Some(0));
}

#[test]
fn the_gid_of_a_known_address_wins() {
    let one = port("mlx5_1");
    for (address, index) in [
        ("198.51.100.1", 4),
        ("::ffff:198.51.100.1", 4),
        ("192.0.2.18", 6),
        ("2001:db8::12", 2),
        ("fe80::bace:f6ff:fe12:1", 1),
        // It is another port's.
        ("192.0.2.19", 6),
    ] {
        assert_eq!(chosen(&one, Some(address)), Some(index), "{address}");
    }
    let mut first = one.clone();
    first.gids.retain(|gid| gid.index == 5 || gid.index == 1);
    assert_eq!(chosen(&first, None), Some(1));
    assert_eq!(
        chosen(&first, Some("192.0.2.18")),
        Some(5),
        "v1, but its own"
    );
    // An address of IPoIB is in no table.
    assert_eq!(chosen(&port("mlx5_0"), Some("192.0.2.1")), Some(0));
    let mut without = port("mlx5_0");
    without.gids[0].index = 3;
    assert_eq!(chosen(&without, None), None, "the first is empty");
}

#[test]
fn data_is_what_encoding_leaves() {
    let mut one = port("mlx5_0");
    // Gb/s as told, and of data.
    for (told, name, data) in [
        (2.5, "1X SDR", Some(2.0)),
        (10.0, "4X SDR", Some(8.0)),
        (20.0, "4X DDR", Some(16.0)),
        (40.0, "4X QDR", Some(32.0)),
        (40.0, "4X FDR10", Some(40.0)),
        (56.0, "4X FDR", Some(54.545_454_545)),
        (100.0, "4X EDR", Some(100.0)),
        (200.0, "4X HDR", Some(200.0)),
        (400.0, "4X NDR", Some(400.0)),
        (800.0, "4X XDR", Some(800.0)),
    ] {
        let bits = |gigabits: f64| BitRate((gigabits * 1e9).round() as u64);
        one.rate = Some(bits(told));
        one.width_speed = Some(name.to_owned());
        assert_eq!(one.data_rate(), data.map(bits), "{name}");
    }
    one.rate = None;
    assert_eq!(one.data_rate(), None);
    // Ethernet has the names, and none of the encodings.
    let ethernet = port("mlx5_1");
    assert_eq!(ethernet.width_speed.as_deref(), Some("4X QDR"));
    assert_eq!(ethernet.data_rate(), Some(BitRate(40_000_000_000)));
    assert_eq!(port("rxe0").data_rate(), None, "a speed that nobody knows");
}

#[test]
fn tables_that_are_garbage_are_noted() {
    let mut tree = recording("adapters");
    let folder = "sys/devices/virtual/infiniband/rxe0/ports/1";
    for line in [
        "gids/1 = fe80::1::2",
        "gid_attrs/types/0 = RoCE v3",
        "pkeys/0 = 0x1ffff",
        "lid = none",
        "rate = fast",
    ] {
        tree.put(&format!("{folder}/{line}")).expect("a line");
    }
    let topology = Topology::read(&Root::recorded(tree)).expect("a topology");
    let [port] = &device(&topology, "rxe0").ports[..] else {
        panic!("one port")
    };
    assert_eq!((port.gids.len(), port.gids[0].kind), (1, None));
    assert_eq!((port.p_keys.len(), port.lid, port.rate), (0, None, None));
    let mut noted: Vec<&str> = topology
        .notes
        .iter()
        .filter_map(|note| note.path.strip_prefix("sys/class/infiniband/rxe0/ports/1/"))
        .collect();
    noted.sort_unstable();
    assert_eq!(
        noted,
        ["gid_attrs/types/0", "gids/1", "lid", "pkeys/0", "rate"]
    );
}

fn gid() -> impl Strategy<Value = Gid> {
    let addresses = [
        "fe80::1",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "::ffff:169.254.0.1",
    ];
    let kinds = [None, Some(GidKind::IbOrRoceV1), Some(GidKind::RoceV2)];
    let interfaces = [None, Some("own"), Some("vlan")];
    (
        0u32..16,
        proptest::sample::select(addresses.to_vec()),
        proptest::sample::select(kinds.to_vec()),
        proptest::sample::select(interfaces.to_vec()),
    )
        .prop_map(|(index, address, kind, interface)| Gid {
            index,
            gid: address.parse().expect("an address"),
            kind,
            interface: interface.map(str::to_owned),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a table holds, of Ethernet one is chosen, of the best kind and reach that it has.
    #[test]
    fn a_choice_is_never_worse_than_another(gids in proptest::collection::vec(gid(), 1..12)) {
        let one = RdmaPort {
            gids: gids.clone(),
            interfaces: vec!["own".to_owned()],
            p_keys: vec![PKey { index: 0, key: 0xffff }],
            ..port("mlx5_1")
        };
        let found = one.usual_gid(None).expect("a GID");
        let v2 = |gid: &Gid| gid.kind == Some(GidKind::RoceV2);
        prop_assert!(v2(found) || !gids.iter().any(v2));
        let alike: Vec<&Gid> = gids.iter().filter(|gid| v2(gid) == v2(found)).collect();
        if found.is_link_local() {
            prop_assert!(alike.iter().all(|gid| gid.is_link_local()));
        }
        if alike.iter().any(|gid| gid.holds(ip("192.0.2.1"))) {
            prop_assert!(found.holds(ip("192.0.2.1")));
        }
        let same: Vec<&&Gid> = alike.iter().filter(|gid| gid.gid == found.gid).collect();
        if same.iter().any(|gid| gid.interface.as_deref() == Some("own")) {
            prop_assert_eq!(found.interface.as_deref(), Some("own"));
        }
        let address = IpAddr::from(gids[0].gid);
        prop_assert!(one.usual_gid(Some(address)).is_some_and(|gid| gid.holds(address)));
    }
}
