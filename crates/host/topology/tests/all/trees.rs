//! What is read of recorded trees of our own.

use crate::support::{Tree, cpus};
use strata_record::{Environment, Reality};
use strata_topology::{
    Allowed, BitRate, FileDevice, Judgement, ReadError, Root, Topology, Watched, read_environment,
};
use strata_units::{Bytes, CpuId, NodeId, NodeList, PciAddress};

fn pci(address: &str) -> Option<PciAddress> {
    Some(address.parse().expect("a PCI address"))
}

fn reality(judgement: &Judgement) -> Option<Reality> {
    assert!(!judgement.reality_why.is_empty(), "a judgement says why");
    judgement.reality
}

#[track_caller]
fn disk_reality(topology: &Topology, name: &str) -> Option<Reality> {
    reality(&topology.disk(name).expect("a disk").judgement)
}

#[track_caller]
fn interface_reality(topology: &Topology, name: &str) -> Option<Reality> {
    let interface = topology.interfaces.iter().find(|i| i.name == name);
    reality(&interface.expect("an interface").judgement)
}

#[test]
fn laptop() {
    let tree = Tree::unpack("laptop");
    let topology = tree.topology();
    assert_eq!(topology.notes, []);
    let [node] = &topology.nodes[..] else {
        panic!("one node")
    };
    assert_eq!(node.cpus, cpus("0-7"));
    assert_eq!(node.memory_total, Some(Bytes(16_384_000 * 1024)));
    assert_eq!(node.memory_free, Some(Bytes(8_192_000 * 1024)));
    let pools: Vec<_> = node
        .hugepages
        .iter()
        .map(|p| (p.page_bytes, p.total, p.free))
        .collect();
    assert_eq!(
        pools,
        [(Bytes::MIB * 2, 16, Some(12)), (Bytes::GIB, 0, Some(0))]
    );
    assert_eq!((topology.cpus.len(), topology.cores()), (8, 4));
    for cpu in &topology.cpus {
        let core = cpu.id.0 % 4;
        assert_eq!(cpu.siblings, cpus(&format!("{core},{}", core + 4)));
        assert_eq!((cpu.package, cpu.core), (Some(0), Some(core)));
        assert_eq!(cpu.node, Some(NodeId(0)));
        assert!(cpu.online && !cpu.isolated && !cpu.nohz_full);
    }

    let [drive] = &topology.nvme[..] else {
        panic!("one drive")
    };
    assert_eq!(drive.name.as_deref(), Some("nvme0"));
    assert_eq!(
        (drive.pci, drive.node),
        (pci("0000:02:00.0"), Some(NodeId(0)))
    );
    assert_eq!(drive.driver.as_deref(), Some("nvme"));
    assert_eq!(drive.model.as_deref(), Some("SAMSUNG MZVL2512HCJQ-00B00"));
    assert_eq!(drive.serial.as_deref(), Some("S675NX0T000001"));
    assert_eq!(drive.firmware.as_deref(), Some("GXA7801Q"));
    assert_eq!(drive.namespaces, ["nvme0n1"]);
    let function = topology
        .function(drive.pci.expect("an address"))
        .expect("a function");
    assert_eq!(function.parent, pci("0000:00:06.0"));
    assert_eq!(
        function.link.map(|l| (l.lane, l.width)),
        Some((BitRate(8_000_000_000), 4))
    );
    assert_eq!(
        function.link_best.map(|l| l.to_string()).as_deref(),
        Some("16 GT/s x4")
    );

    let names: Vec<_> = topology.disks.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["dm-0", "loop0", "nvme0n1", "zram0"]);
    let disk = topology.disk("nvme0n1").expect("a disk");
    assert_eq!(disk.size, Some(Bytes(1_000_215_216 * 512)));
    assert_eq!(disk.logical_block, Some(Bytes(512)));
    assert_eq!(disk.rotational, Some(false));
    assert_eq!((disk.pci, disk.node), (drive.pci, drive.node));
    assert_eq!(disk.serial, drive.serial);
    let parts: Vec<_> = disk
        .partitions
        .iter()
        .map(|p| (p.name.as_str(), p.number.as_deref(), p.size))
        .collect();
    assert_eq!(
        parts,
        [
            ("nvme0n1p1", Some("259:1"), Some(Bytes(1_000_000 * 512))),
            ("nvme0n1p2", Some("259:2"), Some(Bytes(2_000_000 * 512))),
        ]
    );
    assert_eq!(disk_reality(&topology, "nvme0n1"), Some(Reality::Hardware));
    assert_eq!(disk_reality(&topology, "dm-0"), Some(Reality::Hardware));
    assert_eq!(disk_reality(&topology, "loop0"), Some(Reality::Software));
    assert_eq!(disk_reality(&topology, "zram0"), Some(Reality::Memory));

    let names: Vec<_> = topology
        .interfaces
        .iter()
        .map(|i| i.name.as_str())
        .collect();
    assert_eq!(names, ["eno1", "eno1.7", "lo"]);
    let wired = &topology.interfaces[0];
    assert_eq!(
        (wired.pci, wired.node),
        (pci("0000:00:1f.6"), Some(NodeId(0)))
    );
    assert_eq!(wired.driver.as_deref(), Some("e1000e"));
    assert_eq!(wired.speed, Some(BitRate(1_000_000_000)));
    assert_eq!(wired.mtu, Some(Bytes(1500)));
    assert_eq!(
        interface_reality(&topology, "eno1"),
        Some(Reality::Hardware)
    );
    assert_eq!(
        interface_reality(&topology, "eno1.7"),
        Some(Reality::Hardware)
    );
    assert_eq!(interface_reality(&topology, "lo"), Some(Reality::Software));
    // What a wire carries: of the port and of a VLAN on it, not of what has the speed of one port or is made of software.
    tree.put("sys/devices/virtual/net/eno1.7/speed = 1000");
    tree.put("sys/devices/virtual/net/lo/speed = 10000");
    let rate = |name: &str| {
        let topology = tree.topology();
        let interface = topology.interfaces.iter().find(|i| i.name == name);
        interface.expect("an interface").line_rate()
    };
    let gigabit = Some(BitRate(1_000_000_000));
    assert_eq!(
        (rate("eno1"), rate("eno1.7"), rate("lo")),
        (gigabit, gigabit, None)
    );
    tree.put("sys/devices/virtual/net/eno1.7/uevent = DEVTYPE=bridge");
    assert_eq!(rate("eno1.7"), None);
}

#[test]
fn environment_of_the_laptop() {
    let tree = Tree::unpack("laptop");
    let host = read_environment(&tree.root()).expect("an environment");
    assert_eq!(host.notes, []);
    assert_eq!(host.hostname.as_deref(), Some("laptop"));
    assert_eq!(host.kernel_release.as_deref(), Some("6.1.0-18-amd64"));
    assert_eq!(
        host.command_line.as_deref(),
        Some("BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 quiet")
    );
    assert_eq!(
        host.distribution.as_deref(),
        Some("Debian GNU/Linux 12 (bookworm)")
    );
    assert_eq!(host.guest.is_guest, Some(false));
    assert_eq!(host.cpu.vendor.as_deref(), Some("GenuineIntel"));
    assert_eq!(host.cpu.model.as_deref(), Some("Eleventh Generation Core"));
    assert_eq!(host.cpu.microcode.as_deref(), Some("0xa6"));
    assert_eq!(
        host.cpu.flags,
        ["avx2", "constant_tsc", "nonstop_tsc", "rdtscp"]
    );
    assert_eq!((host.cpu.cores, host.cpu.packages), (4, 1));
    assert_eq!((host.sockets.len(), host.sockets[0].divided), (1, false));
    assert_eq!(
        host.vulnerabilities["spectre_v2"],
        "Mitigation: Enhanced IBRS"
    );
    assert_eq!(host.governors["powersave"], cpus("0-7"));
    assert_eq!(host.frequency_drivers["intel_pstate"], cpus("0-7"));
    assert_eq!((host.turbo, host.smt.as_deref()), (Some(true), Some("on")));
    assert_eq!(host.clock_source.as_deref(), Some("tsc"));
    assert_eq!(host.memory_total_bytes, Some(Bytes(16_384_000 * 1024)));
    assert_eq!(
        (host.thp.as_deref(), host.thp_defrag.as_deref()),
        (Some("madvise"), Some("madvise"))
    );
    assert_eq!(
        (host.memlock_bytes, host.memlock_unlimited),
        (Some(Bytes(65536)), Some(false))
    );
    assert_eq!(host.sysctls["net.ipv4.tcp_rmem"], "4096 131072 6291456");
    assert_eq!(host.sysctls.len(), 2, "absent settings are not there");
    let drives: Vec<_> = host
        .drives
        .iter()
        .map(|d| (d.name.as_deref(), d.firmware.as_deref()))
        .collect();
    assert_eq!(drives, [(Some("nvme0"), Some("GXA7801Q"))]);
    let adapters: Vec<_> = host
        .adapters
        .iter()
        .map(|a| (a.name.as_str(), a.driver.as_deref()))
        .collect();
    assert_eq!(adapters, [("eno1", Some("e1000e"))]);
}

#[test]
fn two_sockets() {
    let topology = Tree::unpack("two-sockets").topology();
    assert_eq!(topology.notes, []);
    assert_eq!(
        (topology.cpus.len(), topology.cores(), topology.nodes.len()),
        (32, 16, 2)
    );
    assert_eq!(
        topology.node(NodeId(1)).map(|n| n.cpus.clone()),
        Some(cpus("8-15,24-31"))
    );
    assert_eq!(
        topology
            .node(NodeId(0))
            .and_then(|n| n.distance_to(NodeId(1))),
        Some(21)
    );
    assert_eq!(topology.node_of(CpuId(25)), Some(NodeId(1)));
    assert_eq!(
        topology.cpu(CpuId(25)).map(|c| c.siblings.clone()),
        Some(cpus("9,25"))
    );
    assert_eq!(topology.common_node(&cpus("8,24")), Some(NodeId(1)));
    assert_eq!(topology.common_node(&cpus("7,8")), None);

    let drives: Vec<_> = topology
        .nvme
        .iter()
        .map(|c| {
            (
                c.name.as_deref(),
                c.pci.map(|a| a.to_string()),
                c.node.map(|n| n.0),
                c.namespaces.join(","),
            )
        })
        .collect();
    let named = |n: u32, node| {
        (
            Some(format!("nvme{n}")),
            Some(format!("0000:{n}:00.0")),
            Some(node),
            format!("nvme{n}n1"),
        )
    };
    let expected: Vec<_> = (21..25)
        .map(|n| named(n, 0))
        .chain((81..84).map(|n| named(n, 1)))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, pci, node, spaces)| (name.as_deref(), pci.clone(), *node, spaces.clone()))
        .chain([(
            None,
            Some("0000:84:00.0".to_owned()),
            Some(1),
            String::new(),
        )])
        .collect();
    assert_eq!(drives, expected);
    assert_eq!(topology.nvme[7].driver.as_deref(), Some("vfio-pci"));
    let bound = topology.function(topology.nvme[7].pci.expect("an address"));
    assert_eq!(bound.and_then(|f| f.iommu_group), Some(42));
    // One without a block device is judged by the same rules, and by what it calls itself, once somebody asked it.
    for (model, expected) in [
        (None, Reality::Hardware),
        (Some("A drive"), Reality::Hardware),
        (Some("Amazon EC2 NVMe Instance Storage"), Reality::Virtual),
    ] {
        let judged = topology.judge_nvme(pci("0000:84:00.0").expect("an address"), model);
        assert_eq!(judged.reality, Some(expected), "{}", judged.reality_why);
    }

    assert_eq!(topology.disks.len(), 7, "the hidden path is no disk");
    let head = topology.disk("nvme21n1").expect("the multipath head");
    assert_eq!(
        (head.pci, head.node),
        (pci("0000:21:00.0"), Some(NodeId(0)))
    );
    assert_eq!(disk_reality(&topology, "nvme21n1"), Some(Reality::Hardware));
    assert_eq!(
        topology.disk("nvme83n1").and_then(|d| d.logical_block),
        Some(Bytes(4096))
    );

    let hcas: Vec<_> = topology
        .rdma
        .iter()
        .map(|d| {
            (
                d.name.as_str(),
                d.node,
                d.driver.as_deref(),
                reality(&d.judgement),
            )
        })
        .collect();
    assert_eq!(
        hcas,
        [
            (
                "mlx5_0",
                Some(NodeId(0)),
                Some("mlx5_core"),
                Some(Reality::Hardware)
            ),
            (
                "mlx5_1",
                Some(NodeId(1)),
                Some("mlx5_core"),
                Some(Reality::Hardware)
            ),
            ("rxe0", Some(NodeId(1)), None, Some(Reality::Software)),
        ]
    );
    let [port] = &topology.rdma[0].ports[..] else {
        panic!("one port")
    };
    assert_eq!((port.number, port.state.as_deref()), (1, Some("ACTIVE")));
    assert_eq!(
        (port.rate, port.link_layer.as_deref()),
        (Some(BitRate(200_000_000_000)), Some("InfiniBand"))
    );
    assert_eq!(topology.rdma[1].ports[0].rate, Some(BitRate(2_500_000_000)));
    assert_eq!(topology.rdma[0].interfaces, ["ib0"]);
    assert_eq!(
        topology
            .interfaces
            .iter()
            .find(|i| i.name == "ens1")
            .map(|i| (i.node, i.speed)),
        Some((Some(NodeId(1)), None))
    );
}

#[test]
fn memory_only_node() {
    let topology = Tree::unpack("memory-only").topology();
    assert_eq!(topology.notes, []);
    let only: Vec<_> = topology.nodes.iter().map(|n| n.is_memory_only()).collect();
    assert_eq!(only, [false, false, true]);
    assert_eq!(
        topology
            .node(NodeId(2))
            .and_then(|n| n.distance_to(NodeId(1))),
        Some(14)
    );
}

#[test]
fn devices_without_a_node_in_a_guest() {
    let tree = Tree::unpack("node-unknown");
    let topology = tree.topology();
    assert_eq!(topology.notes, []);
    assert_eq!(topology.guest.is_guest, Some(true));
    assert_eq!(topology.guest.hypervisor.as_deref(), Some("QEMU"));
    assert!(
        topology
            .pci
            .iter()
            .all(|f| f.node.is_none() && f.link.is_none())
    );
    assert!(
        topology
            .nvme
            .iter()
            .all(|c| c.node.is_none() && c.pci.is_some())
    );
    assert_eq!(
        disk_reality(&topology, "nvme1n1"),
        Some(Reality::Passthrough)
    );
    assert_eq!(disk_reality(&topology, "nvme2n1"), Some(Reality::Virtual));
    assert_eq!(disk_reality(&topology, "vda"), Some(Reality::Virtual));
    assert_eq!(disk_reality(&topology, "sda"), Some(Reality::Virtual));
    assert_eq!(interface_reality(&topology, "eth0"), Some(Reality::Virtual));
    let disk = topology.disk("vda").expect("a disk");
    assert_eq!(
        (disk.virtio.as_deref(), disk.serial.as_deref()),
        (Some("virtio0"), Some("disk-a"))
    );

    tree.put("proc/cpuinfo = nothing known");
    tree.put("sys/class/dmi/id/sys_vendor =");
    let topology = tree.topology();
    assert_eq!(
        disk_reality(&topology, "nvme1n1"),
        None,
        "neither hardware nor passthrough is guessed"
    );
    assert_eq!(disk_reality(&topology, "nvme2n1"), Some(Reality::Virtual));
}

#[test]
fn offline_and_isolated_cpus() {
    let tree = Tree::unpack("offline");
    let topology = tree.topology();
    assert_eq!(topology.notes, []);
    assert_eq!(topology.cpus.len(), 8);
    assert_eq!(topology.online(), cpus("0-1,3-4,6-7"));
    assert_eq!(topology.isolated(), cpus("3,7"));
    assert_eq!(topology.cores(), 4);
    let off = topology.cpu(CpuId(2)).expect("an offline CPU");
    assert_eq!((off.online, off.node, off.core), (false, None, None));
    assert_eq!(off.siblings, cpus("2"));
    assert!(topology.cpu(CpuId(7)).is_some_and(|c| c.nohz_full));

    let allowed = Allowed::read(&tree.root(), &topology);
    assert_eq!(
        allowed.cpus,
        cpus("0-1,3-4,6-7"),
        "isolated CPUs are for measuring"
    );
    assert_eq!(allowed.notes.len(), 1);
    tree.put("proc/self/status = Cpus_allowed_list:\\t0-1\\nMems_allowed_list:\\t0");
    let narrowed = Allowed::read(&tree.root(), &topology);
    assert_eq!(
        narrowed.cpus,
        cpus("0-1"),
        "what taskset narrowed is not widened"
    );
}

#[test]
fn cpuset_of_three() {
    let tree = Tree::unpack("cpuset");
    let topology = tree.topology();
    let allowed = Allowed::read(&tree.root(), &topology);
    assert_eq!(allowed.cpus, cpus("2,5-6"));
    assert_eq!(allowed.nodes, "0-1".parse::<NodeList>().expect("nodes"));
    assert_eq!(
        allowed.cpuset.as_deref(),
        Some("sys/fs/cgroup/job.slice/step_0")
    );
    assert_eq!(allowed.notes, []);

    tree.put("proc/self/cgroup = 4:cpuset:/batch/7\\n0::/");
    tree.put(
        "proc/self/mountinfo = 33 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
    );
    tree.put("sys/fs/cgroup/cpuset/batch/7/cpuset.cpus = 1,4");
    tree.put("sys/fs/cgroup/cpuset/batch/7/cpuset.mems = 1");
    let old = Allowed::read(&tree.root(), &topology);
    assert_eq!((old.cpus, old.nodes), (cpus("1,4"), vec![NodeId(1)].into()));
}

#[test]
fn no_tree_is_an_error_with_a_next_step() {
    let empty = tempfile::tempdir().expect("a folder");
    let error = Topology::read(&Root::new(empty.path())).expect_err("no CPUs");
    assert!(matches!(error, ReadError::NoCpus(_)));
    assert!(error.to_string().contains("mount sysfs"), "{error}");
    let absent = Topology::read(&Root::new(empty.path().join("absent")));
    assert!(matches!(absent, Err(ReadError::NoRoot(_))));
}

#[test]
fn bad_content_is_noted_and_links_out_of_the_tree_are_not_followed() {
    let tree = Tree::unpack("memory-only");
    tree.put("sys/devices/system/node/node1/distance = 21 ten 14");
    tree.put("sys/devices/system/cpu/cpu1/topology/core_id = first");
    std::fs::remove_file(tree.path().join("sys/devices/system/cpu/online")).expect("a file");
    tree.put("sys/devices/system/cpu/online -> /proc/self/comm");
    let topology = tree.topology();
    let paths: Vec<_> = topology.notes.iter().map(|n| n.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "sys/devices/system/node/node1/distance",
            "sys/devices/system/cpu/online",
            "sys/devices/system/cpu/cpu1/topology/core_id",
        ]
    );
    assert!(topology.nodes[1].distances.is_empty());
    assert_eq!(topology.cpus[1].core, None);
}

#[test]
fn json_gives_back_what_was_read() {
    for name in [
        "laptop",
        "two-sockets",
        "memory-only",
        "node-unknown",
        "offline",
        "cpuset",
        "storage-node",
    ] {
        let tree = Tree::unpack(name);
        let topology = tree.topology();
        let text = serde_json::to_string(&topology).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Topology>(&text).expect("a topology"),
            topology,
            "{name}"
        );
        let host = read_environment(&tree.root()).expect("an environment");
        let text = serde_json::to_string(&host).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Environment>(&text).expect("an environment"),
            host,
            "{name}"
        );
    }
}

#[test]
fn schemas_have_units_in_their_keys() {
    let keys = |schema: schemars::Schema| -> Vec<String> {
        let properties = schema.get("properties").and_then(|p| p.as_object());
        properties.expect("properties").keys().cloned().collect()
    };
    let has = |keys: &[String], wanted: &[&str]| {
        for key in wanted {
            assert!(keys.iter().any(|k| k == key), "{key} is not in {keys:?}");
        }
    };
    let file = keys(schemars::schema_for!(FileDevice));
    has(&file, &["logical_block_bytes", "reality", "reality_why"]);
    let proof = keys(schemars::schema_for!(Watched));
    has(
        &proof,
        &["cpu_time_ns", "user_ns", "system_ns", "migrations"],
    );
    let host = keys(schemars::schema_for!(Environment));
    has(
        &host,
        &[
            "memory_total_bytes",
            "memlock_bytes",
            "sysctls",
            "drives",
            "adapters",
        ],
    );
}
