//! `strata rdma list`: devices and ports as they are told, and each thing that may be wrong with its remedy.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{done, fails, not_understood, scratch, strata};

/// A tree of files, for as long as the test.
struct Tree(TempDir);

impl Tree {
    /// `path = text`.
    fn put(&self, line: &str) {
        let (path, text) = line.split_once(" = ").expect("path = text");
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::write(path, format!("{}\n", text.replace("\\n", "\n"))).expect("a file");
    }

    fn link(&self, path: &str, to: &str) {
        let (path, to) = (self.0.path().join(path), self.0.path().join(to));
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::create_dir_all(&to).expect("a folder");
        symlink(to, path).expect("a link");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.path().join(path)).expect("a file to remove");
    }

    fn list(&self, more: &[&str]) -> String {
        list(self.0.path(), more)
    }

    /// What is wrong: on what, what, and the remedy.
    fn findings(&self) -> Vec<(String, String, String)> {
        let document: Value = serde_json::from_str(&self.list(&["--json"])).expect("one document");
        let found = document["findings"].as_array().expect("findings");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        found
            .iter()
            .map(|one| (text(&one["on"]), text(&one["what"]), text(&one["remedy"])))
            .collect()
    }
}

fn list(root: &Path, more: &[&str]) -> String {
    let mut command = strata(["rdma", "list"]);
    command.args(more);
    if root != Path::new("/") {
        command.arg("--root").arg(root);
    }
    done(command).out
}

const IB: &str = "sys/class/infiniband/mlx5_0/ports/1";
const ROCE: &str = "sys/class/infiniband/mlx5_1/ports/1";

/// A machine without devices.
fn bare() -> Tree {
    let tree = Tree(scratch());
    tree.put("sys/devices/system/cpu/cpu0/online = 1");
    tree.put("proc/cpuinfo = flags : fpu");
    tree
}

/// A machine with an InfiniBand port and one of RoCE, at which nothing is wrong.
fn machine() -> Tree {
    let tree = bare();
    for (n, device, interface) in [(0, "mlx5_0", "ib0"), (1, "mlx5_1", "ens1")] {
        let bridge = format!("sys/devices/pci0000:4{n}/0000:4{n}:01.0");
        let own = format!("{bridge}/0000:4{n}:02.0");
        for (path, class) in [(&bridge, "0x060400"), (&own, "0x020700")] {
            tree.put(&format!("{path}/class = {class}"));
            let (_, address) = path.rsplit_once('/').expect("a path");
            tree.link(&format!("sys/bus/pci/devices/{address}"), path);
        }
        tree.put(&format!("{own}/numa_node = {n}"));
        for which in ["current", "max"] {
            tree.put(&format!("{own}/{which}_link_speed = 16.0 GT/s PCIe"));
            tree.put(&format!("{own}/{which}_link_width = 16"));
        }
        let [adapter, network] = [
            format!("{own}/infiniband/{device}"),
            format!("{own}/net/{interface}"),
        ];
        tree.link(&format!("sys/class/infiniband/{device}"), &adapter);
        tree.link(&format!("sys/class/net/{interface}"), &network);
        for folder in [&adapter, &network] {
            tree.link(&format!("{folder}/device"), &own);
        }
        tree.link(&format!("{own}/driver"), "sys/bus/pci/drivers/mlx5_core");
        for line in [
            "node_type = 1: CA",
            "hca_type = MT4123",
            "fw_ver = 20.39.1002",
            "board_id = MT_0000000224",
            "node_guid = b8ce:f603:0000:0001",
            "ports/1/state = 4: ACTIVE",
            "ports/1/phys_state = 5: LinkUp",
            "ports/1/pkeys/0 = 0xffff",
        ] {
            tree.put(&format!("{adapter}/{line}"));
        }
        tree.put(&format!("{network}/operstate = up"));
    }
    for line in [
        "rate = 56 Gb/sec (4X FDR)",
        "link_layer = InfiniBand",
        "lid = 0x12a",
        "sm_lid = 0x1",
        "lid_mask_count = 0",
        "gids/0 = fe80:0000:0000:0000:b8ce:f603:0000:0001",
        "gids/1 = fe80:0000:0000:0000:0000:0000:0000:0000",
        "gid_attrs/types/0 = IB/RoCE v1",
    ] {
        tree.put(&format!("{IB}/{line}"));
    }
    for line in [
        "rate = 100 Gb/sec (4X EDR)",
        "link_layer = Ethernet",
        "lid = 0x0",
        "gids/0 = fe80:0000:0000:0000:bace:f6ff:fe00:0001",
        "gids/1 = fe80:0000:0000:0000:bace:f6ff:fe00:0001",
        "gids/2 = 0000:0000:0000:0000:0000:0000:0000:0000",
        "gids/3 = 0000:0000:0000:0000:0000:ffff:c000:0201",
        "gid_attrs/types/0 = IB/RoCE v1",
        "gid_attrs/types/1 = RoCE v2",
        "gid_attrs/types/3 = RoCE v2",
        "gid_attrs/ndevs/0 = ens1",
        "gid_attrs/ndevs/1 = ens1",
        "gid_attrs/ndevs/3 = ens1",
    ] {
        tree.put(&format!("{ROCE}/{line}"));
    }
    tree.put("sys/class/net/ib0/mtu = 2044");
    tree.put("sys/class/net/ens1/mtu = 9000");
    tree
}

#[test]
fn devices_and_ports_are_listed_and_nothing_is_wrong() {
    let text = machine().list(&[]);
    assert_eq!(
        text,
        "\
mlx5_0: MT4123, driver mlx5_core, firmware 20.39.1002, board MT_0000000224, GUID b8ce:f603:0000:0001, PCI 0000:40:02.0, node 0, link 16.0 GT/s ×16, hardware
  port 1: ACTIVE, LinkUp, InfiniBand, 56.0 Gb/s (4X FDR), 54.5 Gb/s of data
    LID 0x12a, subnet manager at LID 0x1
    interface ib0: up, MTU 2044
    GID *  0  fe80::b8ce:f603:0:1
    P_Keys 0xffff

mlx5_1: MT4123, driver mlx5_core, firmware 20.39.1002, board MT_0000000224, GUID b8ce:f603:0000:0001, PCI 0000:41:02.0, node 1, link 16.0 GT/s ×16, hardware
  port 1: ACTIVE, LinkUp, Ethernet, 100 Gb/s (4X EDR)
    interface ens1: up, MTU 9000, 192.0.2.1
    GID    0  fe80::bace:f6ff:fe00:1  RoCE v1, ens1
    GID    1  fe80::bace:f6ff:fe00:1  RoCE v2, ens1
    GID *  3  ::ffff:192.0.2.1  RoCE v2, ens1
    P_Keys 0xffff

Nothing was found wrong.
"
    );
}

#[test]
fn the_document_has_what_the_listing_has() {
    let document = machine().list(&["--json"]);
    let document: Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["findings"], json!([]));
    let [ib, roce] = [0, 1].map(|n| &document["devices"][n]);
    assert_eq!(
        (&ib["name"], &ib["kind"], &ib["pci"], &ib["reality"]),
        (
            &json!("mlx5_0"),
            &json!("CA"),
            &json!("0000:40:02.0"),
            &json!("hardware")
        )
    );
    assert_eq!(ib["link"], ib["link_best"]);
    assert_eq!(ib["link"]["width"], 16);
    let port = &ib["ports"][0];
    assert_eq!(port["rate_bits_per_s"], 56_000_000_000_u64);
    assert_eq!(port["data_rate_bits_per_s"], 54_545_454_545_u64);
    assert_eq!((&port["lid"], &port["sm_lid"]), (&json!(0x12a), &json!(1)));
    assert_eq!(port["p_keys"], json!([{"index": 0, "key": 65535}]));
    assert_eq!(port["networks"][0]["addresses"], Value::Null);
    let port = &roce["ports"][0];
    assert_eq!(port["usual_gid"], 3);
    assert_eq!(
        port["gids"][2],
        json!({"index": 3, "gid": "::ffff:192.0.2.1", "kind": "RoCE v2", "interface": "ens1"})
    );
    assert_eq!(
        port["networks"],
        json!([{
            "name": "ens1", "operstate": "up", "mtu_bytes": 9000, "addresses": ["192.0.2.1"]
        }])
    );
}

/// Something is done to the tree, and this one finding, on this, comes of it.
#[test]
fn each_thing_that_is_wrong_is_told_once_with_its_remedy() {
    let (one, two) = ("mlx5_0 port 1", "mlx5_1 port 1");
    let ib = |line: &str| format!("{IB}/{line}");
    let roce = |line: &str| format!("{ROCE}/{line}");
    let network = |line: &str| format!("sys/class/net/{line}");
    let function = "sys/bus/pci/devices/0000:41:02.0";
    let cases: Vec<(Vec<String>, &str, &str, &str)> = vec![
        (
            vec![ib("state = 1: DOWN"), ib("phys_state = 2: Polling")],
            one,
            "DOWN (Polling): nobody answers",
            "cable",
        ),
        (
            vec![ib("state = 1: DOWN"), ib("phys_state = 3: Disabled")],
            one,
            "DOWN (Disabled)",
            "ibportstate",
        ),
        (
            vec![roce("state = 1: DOWN"), roce("phys_state = 3: Disabled")],
            two,
            "DOWN (Disabled)",
            "`ip link set ens1 up`",
        ),
        (
            vec![roce("state = 1: DOWN"), network("ens1/operstate = down")],
            two,
            "DOWN (LinkUp)",
            "the other end",
        ),
        (
            vec![ib("state = 2: INIT"), ib("lid = 0x0")],
            one,
            "INIT (LinkUp), LID 0: no subnet manager",
            "opensm",
        ),
        (
            vec![ib("state = 3: ARMED")],
            one,
            "ARMED (LinkUp): the subnet manager",
            "its log",
        ),
        (
            vec![
                roce("gid_attrs/types/1 = IB/RoCE v1"),
                roce("gid_attrs/types/3 = IB/RoCE v1"),
            ],
            two,
            "no GID of RoCE v2",
            "give ens1 an address; if it has one, switch the adapter",
        ),
        (
            vec![network("ens1/operstate = down")],
            two,
            "interface ens1 is down",
            "`ip link set ens1 up`",
        ),
        (
            vec![network("ib0/operstate = lowerlayerdown")],
            one,
            "interface ib0 is lowerlayerdown",
            "`ip link set ib0 up`",
        ),
        (
            vec![roce("gids/3 = 0000:0000:0000:0000:0000:0000:0000:0000")],
            two,
            "ens1 has no IP address",
            "`ip address add … dev ens1`",
        ),
        (
            vec![network("ens1/mtu = 4191")],
            two,
            "the MTU of ens1 is 4191",
            "`ip link set ens1 mtu 4200`",
        ),
        (
            vec![ib("pkeys/0 = 0x7fff")],
            one,
            "limited member of its partition (P_Key 0x7fff at 0)",
            "=full",
        ),
        (
            vec![format!("{function}/current_link_width = 8")],
            "mlx5_1",
            "link of 0000:41:02.0 (16 GT/s x8, trained below its best 16 GT/s x16)",
            "another slot",
        ),
        (
            vec![
                "proc/self/limits = Max locked memory  8388608  8388608  bytes".to_owned(),
                "proc/self/status = CapEff:\t00000000000005fb".to_owned(),
            ],
            "",
            "may lock 8MiB (RLIMIT_MEMLOCK)",
            "`ulimit -l unlimited`",
        ),
    ];
    for (lines, on, what, remedy) in cases {
        let tree = machine();
        lines.iter().for_each(|line| tree.put(line));
        let found = tree.findings();
        let [(place, told, advice)] = &found[..] else {
            panic!("{lines:?}: {found:?}")
        };
        assert_eq!(place, on, "{lines:?}");
        assert!(told.contains(what), "{lines:?}: {told}");
        assert!(advice.contains(remedy), "{lines:?}: {advice}");
        let text = tree.list(&[]);
        let line = match on {
            "" => format!("  - {told}; {advice}\n"),
            _ => format!("  - {on}: {told}; {advice}\n"),
        };
        assert!(text.contains(&format!("\nWrong:\n{line}")), "{text}");
    }
}

/// What looks like one of these, and is none.
#[test]
fn what_is_not_wrong_is_not_told() {
    let ib = |line: &str| format!("{IB}/{line}");
    let roce = |line: &str| format!("{ROCE}/{line}");
    let limits = "proc/self/limits = Max locked memory";
    let function = "sys/bus/pci/devices/0000:41:02.0";
    let cases: Vec<Vec<String>> = vec![
        // A full member of the same partition as well.
        vec![ib("pkeys/0 = 0x7fff"), ib("pkeys/1 = 0xffff")],
        // Enough for 4096 bytes and all headers.
        vec!["sys/class/net/ens1/mtu = 4192".to_owned()],
        // iWARP has no RoCE v2, and segments of TCP.
        vec![
            "sys/class/infiniband/mlx5_1/node_type = 4: RNIC".to_owned(),
            roce("gid_attrs/types/1 = IB/RoCE v1"),
            roce("gid_attrs/types/3 = IB/RoCE v1"),
            "sys/class/net/ens1/mtu = 1500".to_owned(),
        ],
        // A guest's links are inventions.
        vec![
            format!("{function}/current_link_width = 8"),
            "proc/cpuinfo = flags : fpu hypervisor".to_owned(),
        ],
        vec![format!("{limits}  unlimited  unlimited  bytes")],
        vec![format!("{limits}  67108864  67108864  bytes")],
        vec![
            format!("{limits}  65536  65536  bytes"),
            "proc/self/status = CapEff:\t000001ffffffffff".to_owned(),
        ],
    ];
    for lines in cases {
        let tree = machine();
        lines.iter().for_each(|line| tree.put(line));
        assert_eq!(tree.findings(), [], "{lines:?}");
    }
    // A kernel that tells no kinds of GIDs.
    let tree = machine();
    for index in [0, 1, 3] {
        tree.remove(&format!("{ROCE}/gid_attrs/types/{index}"));
    }
    assert_eq!(tree.findings(), []);
}

#[test]
fn a_port_of_infiniband_without_ipoib_is_told() {
    let tree = machine();
    let device = "sys/bus/pci/devices/0000:40:02.0";
    fs::remove_dir_all(tree.0.path().join(device).join("net")).expect("an interface");
    let found = tree.findings();
    let [(on, what, remedy)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(on, "mlx5_0 port 1");
    assert!(what.contains("no interface of IPoIB"), "{what}");
    assert_eq!(remedy, "`modprobe ib_ipoib`");
}

#[test]
fn a_machine_without_devices_is_told_what_to_do() {
    let text = bare().list(&[]);
    assert!(
        text.starts_with("Wrong:\n  - there is no RDMA device; load the adapter's driver"),
        "{text}"
    );
    assert!(
        text.contains("`rdma link add rxe0 type rxe netdev eth0`"),
        "{text}"
    );
}

#[test]
fn a_bond_tells_the_links_that_carry_it() {
    let tree = machine();
    tree.put("sys/devices/virtual/net/bond0/uevent = DEVTYPE=bond\\nINTERFACE=bond0");
    tree.put("sys/devices/virtual/net/bond0/operstate = up");
    tree.link("sys/class/net/bond0", "sys/devices/virtual/net/bond0");
    // The second port has a function, and no RDMA device of its own.
    let second = "sys/devices/pci0000:41/0000:41:01.0/0000:41:02.1";
    tree.put(&format!("{second}/class = 0x020000"));
    tree.link("sys/bus/pci/devices/0000:41:02.1", second);
    tree.link(&format!("{second}/driver"), "sys/bus/pci/drivers/mlx5_core");
    tree.link("sys/class/net/ens2", &format!("{second}/net/ens2"));
    tree.link(&format!("{second}/net/ens2/device"), second);
    for member in ["ens1", "ens2"] {
        let lower = format!("sys/devices/virtual/net/bond0/lower_{member}");
        tree.link(&lower, &format!("sys/class/net/{member}"));
    }
    let text = tree.list(&[]);
    assert!(text.contains("\n    LAG of ens1 and ens2\n"), "{text}");
}

/// Two nodes of 2013, recorded as they ran.
#[test]
fn real_adapters_are_listed_and_nothing_is_wrong_with_them() {
    const TEST: &str = "real_adapters_are_listed_and_nothing_is_wrong_with_them";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/sysfs");
    for (archive, inside, lines) in [
        (
            "32em64t-2n8c+dax+nvme+mic+dimms",
            "32em64t-2n8c+1mic",
            [
                "mlx4_0: MT4099, driver mlx4_core, firmware 2.11.500, board DEL0A30000019, GUID 0002:c903:00f9:bfa0, PCI 0000:82:00.0, node 1, hardware",
                "  port 1: ACTIVE, LinkUp, InfiniBand, 56.0 Gb/s (4X FDR), 54.5 Gb/s of data",
                "    LID 0x3a4, subnet manager at LID 0x1",
                "    GID *  0  fe80::2:c903:f9:bfa1",
            ],
        ),
        (
            "40intel64-2g2n4c+pcilocality",
            "40intel64-2g2n4c+pci",
            [
                "qib0: InfiniPath_QLE7340, driver ib_qib, board InfiniPath_QLE7340, GUID 0011:7500:0077:cfc8, PCI 0000:43:00.0, node 2, link 8.00 GT/s ×4, hardware",
                "  port 1: ACTIVE, LinkUp, InfiniBand, 40.0 Gb/s (4X QDR), 32.0 Gb/s of data",
                "    LID 0x12a, subnet manager at LID 0x1",
                "    GID *  0  fe80::11:7500:77:cfc8",
            ],
        ),
    ] {
        let file = folder.join(format!("{archive}.tar.bz2"));
        if !file.exists() {
            println!("SKIP {TEST}: no {archive}.tar.bz2 in ../shared/data/sysfs");
            continue;
        }
        let tree = scratch();
        let mut tar = Command::new("tar");
        tar.arg("--exclude=memory[0-9]*").arg("-xjf").arg(&file);
        let ran = tar.arg("-C").arg(tree.path()).output();
        if !ran.is_ok_and(|ran| ran.status.success()) {
            println!("SKIP {TEST}: tar or bzip2 is absent");
            return;
        }
        let text = list(&tree.path().join(inside), &[]);
        let found: Vec<&str> = text.lines().collect();
        for line in lines {
            assert!(found.contains(&line), "{line}\nis not in\n{text}");
        }
        assert_eq!(found.last(), Some(&"Nothing was found wrong."), "{text}");
    }
}

/// Of this machine: with no device of its own there is one finding at least; with one, all of them are listed.
#[test]
fn this_machines_devices_are_those_of_its_topology() {
    let topology = done(strata(["topology", "--json"])).out;
    let topology: Value = serde_json::from_str(&topology).expect("one document");
    let document = list(Path::new("/"), &["--json"]);
    let document: Value = serde_json::from_str(&document).expect("one document");
    let names = |list: &Value| -> Vec<Value> {
        let list = list.as_array().expect("a list");
        list.iter().map(|device| device["name"].clone()).collect()
    };
    let expected = names(&topology["topology"]["rdma"]);
    assert_eq!(names(&document["devices"]), expected);
    let findings = document["findings"].as_array().expect("a list");
    let none = findings
        .iter()
        .any(|one| one["what"] == "there is no RDMA device");
    assert_eq!(none, expected.is_empty(), "{findings:?}");
    for finding in findings {
        let remedy = finding["remedy"].as_str().unwrap_or_default();
        assert!(remedy.len() > 8, "{finding}");
    }
}

#[test]
fn what_is_typed_wrong_is_refused() {
    not_understood(strata(["rdma", "list", "--depth", "1"]), &["--depth"]);
    not_understood(strata(["rdma", "lsit"]), &["lsit", "list"]);
    let folder = scratch();
    let mut command = strata(["rdma", "list", "--root"]);
    command.arg(folder.path().join("nowhere"));
    fails(command, 1, &["nowhere", "give `/` or the folder"]);
}

#[test]
fn its_help_has_examples() {
    let help = done(strata(["rdma", "list", "--help"])).out;
    for words in [
        "Examples:\n  strata rdma list\n",
        "--json",
        "--root",
        "A star marks",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}
