//! A storage node of our own making: VMD, switch, degraded link, multipath, SR-IOV, stacks, divided sockets, limits.

use crate::support::{Tree, cpus, lines, recording};
use strata_record::Reality;
use strata_topology::{
    Allowed, NoCeiling, NvmeGeneric, PcieEdge, Recording, Root, Topology, ceiling, file_ceiling,
    file_device, read_environment, read_limits,
};
use strata_units::{Bytes, CpuId, Nanos, NodeId, NodeList, PciAddress};

fn at(address: &str) -> PciAddress {
    address.parse().expect("a PCI address")
}

fn all(addresses: &[&str]) -> Vec<PciAddress> {
    addresses.iter().map(|address| at(address)).collect()
}

fn node() -> Topology {
    Topology::read(&Root::recorded(recording("storage-node"))).expect("a topology")
}

/// The node's tree with further lines.
fn with(more: &[&str]) -> Root {
    let mut tree = recording("storage-node");
    for line in more {
        tree.put(line).expect("a line");
    }
    Root::recorded(tree)
}

/// Rates are products of decimals: equal to a byte a second.
#[track_caller]
fn assert_rate(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1.0, "{found} is not {expected}");
}

#[test]
fn memory_and_folder_are_read_alike() {
    for name in [
        "storage-node",
        "laptop",
        "two-sockets",
        "cpuset",
        "offline",
        "adapters",
    ] {
        let tree = Tree::unpack(name);
        let root = Root::recorded(recording(name));
        let here = Topology::read(&root).expect("a topology");
        let there = tree.topology();
        assert_eq!(here.notes, [], "{name}");
        assert_eq!(
            Topology {
                root: there.root.clone(),
                ..here.clone()
            },
            there,
            "{name}"
        );
        assert_eq!(
            Allowed::read(&root, &here),
            Allowed::read(&tree.root(), &there)
        );
        assert_eq!(read_limits(&root), read_limits(&tree.root()));
        assert_eq!(
            read_environment(&root).ok(),
            read_environment(&tree.root()).ok()
        );
    }
}

#[test]
fn links_out_of_a_tree_in_memory_are_not_followed() {
    let root = with(&[
        "sys/devices/pci0000:50/0000:50:01.0/0000:51:00.0/numa_node -> ../../../../../../etc/passwd",
    ]);
    let topology = Topology::read(&root).expect("a topology");
    assert_eq!(topology.notes.len(), 1, "{:?}", topology.notes);
    assert!(topology.notes[0].why.contains("leads out"));
}

#[test]
fn domains_are_listed_with_their_vmd() {
    let topology = node();
    let found: Vec<_> = topology
        .vmd
        .iter()
        .map(|vmd| {
            (
                vmd.address,
                vmd.driver.as_deref(),
                vmd.domain.as_deref(),
                vmd.functions.clone(),
            )
        })
        .collect();
    let behind = all(&[
        "10000:00:02.0",
        "10000:00:03.0",
        "10000:01:00.0",
        "10000:02:00.0",
    ]);
    assert_eq!(
        found,
        [
            (at("0000:30:00.5"), Some("vmd"), Some("10000"), behind),
            (at("0000:70:00.5"), Some("vfio-pci"), None, vec![]),
        ]
    );
    let path: Vec<_> = topology
        .path_to_root(at("10000:01:00.0"))
        .iter()
        .map(|function| (function.address, function.class_name()))
        .collect();
    assert_eq!(
        path,
        [
            (at("10000:01:00.0"), Some("NVMe controller")),
            (at("10000:00:02.0"), Some("PCI bridge")),
            (at("0000:30:00.5"), Some("RAID controller")),
        ]
    );
    // The VMD is integrated: the drive's own link is the only one.
    let edges = topology.links_above(at("10000:01:00.0"));
    assert_eq!(
        edges.iter().map(|edge| edge.port).collect::<Vec<_>>(),
        [at("10000:00:02.0")]
    );
    let found = ceiling(&topology, &all(&["10000:01:00.0", "10000:02:00.0"])).expect("a ceiling");
    let gen4x4 = 16e9 * 4.0 * 128.0 / 130.0 / 8.0;
    assert_rate(found.bytes_per_s, 2.0 * gen4x4);
    // The ports could do 32 GT/s, the drives cannot.
    assert_rate(found.at_best_bytes_per_s, found.bytes_per_s);
}

#[test]
fn virtual_functions_know_their_physical_one() {
    let topology = node();
    let physical = topology.function(at("0000:91:00.0")).expect("a function");
    let virtuals = physical.virtual_functions.as_ref().expect("SR-IOV");
    assert_eq!((virtuals.most, virtuals.enabled), (8, Some(2)));
    assert_eq!(virtuals.functions, all(&["0000:91:00.1", "0000:91:00.2"]));
    for function in &virtuals.functions {
        let function = topology.function(*function).expect("a function");
        assert_eq!(function.physical_function, Some(physical.address));
        assert_eq!((function.link, &function.virtual_functions), (None, &None));
    }
    let interface = &topology.interfaces[0];
    assert_eq!(interface.judgement.reality, Some(Reality::Hardware));
    assert!(
        interface
            .judgement
            .reality_why
            .starts_with("virtual PCI function 0000:91:00.1")
    );
    // A virtual function goes through the device's link.
    let both = ceiling(&topology, &all(&["0000:91:00.1", "0000:91:00.0"])).expect("a ceiling");
    let one = ceiling(&topology, &all(&["0000:91:00.0"])).expect("a ceiling");
    assert_eq!(both, one);
    assert_eq!(both.to_string(), "link of 0000:91:00.0 (16 GT/s x16)");

    // Handed to a guest it has no physical function in sight.
    let guest = with(&[
        "proc/cpuinfo = flags\\t\\t: fpu tsc hypervisor",
        "sys/devices/pci0000:90/0000:90:01.0/0000:91:00.1/driver -> ../../../../bus/pci/drivers/iavf",
    ]);
    let topology = Topology::read(&guest).expect("a topology");
    let judged = &topology.interfaces[0].judgement;
    assert_eq!(judged.reality, Some(Reality::Passthrough));
    assert!(
        judged.reality_why.starts_with("virtual PCI function"),
        "{judged:?}"
    );
    let refused = ceiling(&topology, &all(&["0000:91:00.0"])).expect_err("a guest");
    assert_eq!(refused, NoCeiling::Guest(at("0000:91:00.0")));
}

#[test]
fn two_drives_are_bound_by_the_uplink_of_their_switch() {
    let topology = node();
    let gen4x4 = 16e9 * 4.0 * 128.0 / 130.0 / 8.0;
    let one = ceiling(&topology, &all(&["0000:43:00.0"])).expect("a ceiling");
    assert_rate(one.bytes_per_s, gen4x4);
    assert_eq!(one.to_string(), "link of 0000:43:00.0 (16 GT/s x4)");
    let two = ceiling(&topology, &all(&["0000:44:00.0", "0000:43:00.0"])).expect("a ceiling");
    assert_rate(two.bytes_per_s, gen4x4);
    assert_rate(two.at_best_bytes_per_s, 2.0 * gen4x4);
    assert_eq!(
        two.to_string(),
        "uplink of switch 0000:41:00.0 (16 GT/s x4, trained below its best 16 GT/s x8)"
    );
    // The switch's own function has no link of its own, but the uplink.
    let own = ceiling(&topology, &all(&["0000:42:1f.0"])).expect("a ceiling");
    assert_eq!(own.bound_by, two.bound_by);
    let with_another = all(&["0000:43:00.0", "0000:44:00.0", "0000:51:00.0"]);
    let three = ceiling(&topology, &with_another).expect("a ceiling");
    assert_rate(three.bytes_per_s, gen4x4 * 1.5);
    assert_eq!(three.bound_by.len(), 2);
}

#[test]
fn a_degraded_link_is_told_against_what_both_ends_can() {
    let topology = node();
    let slow = ceiling(&topology, &all(&["0000:51:00.0"])).expect("a ceiling");
    let rate = |lane: f64| lane * 4.0 * 128.0 / 130.0 / 8.0;
    assert_rate(slow.bytes_per_s, rate(8e9));
    // The best of the slot, not that of the drive.
    assert_rate(slow.at_best_bytes_per_s, rate(16e9));
    assert_eq!(
        slow.to_string(),
        "link of 0000:51:00.0 (8 GT/s x4, trained below its best 16 GT/s x4)"
    );
    let edges = topology.links_above(at("0000:81:00.0"));
    assert_eq!(
        edges.iter().filter_map(PcieEdge::could_be).count(),
        0,
        "no best is told"
    );
}

#[test]
fn what_has_no_link_has_no_ceiling() {
    let topology = node();
    let error = |devices: &[&str]| ceiling(&topology, &all(devices)).expect_err("no ceiling");
    assert_eq!(error(&[]), NoCeiling::Nothing);
    assert_eq!(
        error(&["0000:ff:00.0"]),
        NoCeiling::Absent(at("0000:ff:00.0"))
    );
    assert_eq!(
        error(&["0000:43:00.0", "0000:70:00.5"]),
        NoCeiling::NoLink(at("0000:70:00.5"))
    );
}

#[test]
fn links_that_are_nowhere_but_on_paper_bind_nothing() {
    // The switch's first port becomes one of those that Intel's integrated network controllers hang from.
    let port = "sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0/0000:42:00.0";
    let root = with(&[
        &format!("{port}/vendor = 0x8086"),
        &format!("{port}/device = 0x37c5"),
    ]);
    let topology = Topology::read(&root).expect("a topology");
    let found = ceiling(&topology, &all(&["0000:43:00.0"])).expect("the uplink's");
    assert!(found.to_string().starts_with("uplink of switch"), "{found}");
    assert_eq!(topology.links_above(at("0000:43:00.0")).len(), 1);
    assert_eq!(topology.links_above(at("0000:44:00.0")).len(), 2);
}

#[test]
fn encodings_by_speed() {
    let topology = node();
    let mut link = topology
        .function(at("0000:43:00.0"))
        .and_then(|f| f.link)
        .expect("a link");
    // GT/s, and GB/s of sixteen lanes after encoding.
    for (lane, expected) in [
        (2.5, 4.0),
        (5.0, 8.0),
        (8.0, 15.754),
        (16.0, 31.508),
        (32.0, 63.015),
        (64.0, 118.0),
    ] {
        link.lane.0 = (lane * 1e9) as u64;
        link.width = 16;
        let found = link.bytes_per_s() / 1e9;
        assert!((found - expected).abs() < 0.001, "{lane} GT/s: {found}");
    }
}

#[test]
fn a_head_of_several_live_paths_has_no_place() {
    let topology = node();
    let [system] = &topology.nvme_subsystems[..] else {
        panic!("one subsystem")
    };
    assert_eq!(system.name, "nvme-subsys5");
    assert_eq!(system.nqn.as_deref(), Some("nqn.2026-01.example:drive"));
    assert_eq!(system.policy.as_deref(), Some("numa"));
    assert_eq!(system.controllers, ["nvme5", "nvme6", "nvme7"]);
    assert_eq!(system.heads, ["nvme5n1"]);

    let head = topology.disk("nvme5n1").expect("the head");
    let paths: Vec<_> = head
        .paths
        .iter()
        .map(|path| {
            (
                path.name.as_str(),
                path.controller.as_str(),
                path.pci,
                path.node.map(|node| node.0),
                path.ana_state.as_deref(),
                path.live,
            )
        })
        .collect();
    let (one, two) = (at("0000:81:00.0"), at("0000:82:00.0"));
    assert_eq!(
        paths,
        [
            (
                "nvme5c5n1",
                "nvme5",
                Some(one),
                Some(2),
                Some("optimized"),
                true
            ),
            (
                "nvme5c6n1",
                "nvme6",
                Some(two),
                Some(3),
                Some("non-optimized"),
                true
            ),
            ("nvme5c7n1", "nvme7", None, None, Some("optimized"), false),
        ]
    );
    assert_eq!((head.pci, head.node), (None, None));
    assert_eq!(
        head.placement_unknown.as_deref(),
        Some("placement unknown: 2 live paths")
    );
    assert_eq!(head.functions, [one, two]);
    assert!(topology.disks.iter().all(|disk| !disk.name.contains("c5")));

    // The second controller goes: the head is where the first one is.
    let dead = "sys/devices/pci0000:80/0000:80:02.0/0000:82:00.0/nvme/nvme6/state = dead";
    let topology = Topology::read(&with(&[dead])).expect("a topology");
    let head = topology.disk("nvme5n1").expect("the head");
    assert_eq!((head.pci, head.node), (Some(one), Some(NodeId(2))));
    assert_eq!(head.placement_unknown, None);
    assert_eq!(head.functions, [one]);

    // Both are out of reach.
    let lost = "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0/nvme/nvme5/nvme5c5n1/ana_state = inaccessible";
    let topology = Topology::read(&with(&[dead, lost])).expect("a topology");
    let head = topology.disk("nvme5n1").expect("the head");
    assert_eq!((head.pci, head.functions.len()), (None, 0));
    assert_eq!(
        head.placement_unknown.as_deref(),
        Some("placement unknown: no live path")
    );
}

#[test]
fn paths_of_one_reality_and_of_two() {
    let topology = node();
    let judged = |topology: &Topology| {
        let head = topology.disk("nvme5n1").expect("the head");
        head.judgement.reality
    };
    assert_eq!(judged(&topology), None, "one of three paths is a fabric's");
    let alone = "sys/devices/virtual/nvme-fabrics/ctl/nvme7/transport = pcie";
    let local = Topology::read(&with(&[alone])).expect("a topology");
    assert_eq!(judged(&local), None, "its third path has no function");
    let tree: String = lines("storage-node")
        .into_iter()
        .filter(|line| !line.contains("nvme7"))
        .map(|line| line + "\n")
        .collect();
    let root = Root::recorded(Recording::parse(&tree).expect("a tree"));
    let local = Topology::read(&root).expect("a topology");
    assert_eq!(judged(&local), Some(Reality::Hardware));
}

#[test]
fn character_devices_and_what_a_drive_tells() {
    let topology = node();
    let generic: Vec<_> = topology
        .nvme_generic
        .iter()
        .map(|g| (g.name.as_str(), g.number.as_deref(), g.disk.as_str(), g.pci))
        .collect();
    assert_eq!(
        generic,
        [
            ("ng4n1", Some("240:4"), "nvme4n1", Some(at("0000:51:00.0"))),
            ("ng5n1", Some("240:5"), "nvme5n1", None),
        ]
    );
    assert_eq!(topology.nvme_poll_queues, Some(4));
    let disk = topology.disk("nvme4n1").expect("a disk");
    let space = disk.namespace.as_ref().expect("a namespace");
    assert_eq!((space.nsid, space.used), (1, Some(Bytes(250 * 4096))));
    assert_eq!(space.metadata, Some(Bytes(8)));
    assert_eq!(space.eui.as_deref(), Some("00 25 38 51 11 11 11 11"));
    let queue = &disk.queue;
    assert_eq!(queue.physical_block, Some(Bytes(16384)));
    assert_eq!(queue.max_hardware_request, Some(Bytes::KIB * 256));
    assert_eq!(
        (queue.io_poll, queue.hardware_queues),
        (Some(true), Some(16))
    );
    assert_eq!(queue.scheduler.as_deref(), Some("none"));
    assert_eq!(queue.write_cache.as_deref(), Some("write back"));
    let slow = topology
        .nvme
        .iter()
        .find(|c| c.pci == disk.pci)
        .expect("its controller");
    assert_eq!(slow.queues, Some(17));
}

/// `/dev/null` (null(4): 1, 3) stands for the character device, which this machine may not have.
#[test]
fn a_character_device_leads_to_what_its_disk_stands_on() {
    let on = |disk: &str, pci: Option<&str>| {
        let mut topology = node();
        topology.nvme_generic = vec![NvmeGeneric {
            name: "ng9n1".to_owned(),
            number: Some("1:3".to_owned()),
            disk: disk.to_owned(),
            pci: pci.map(at),
        }];
        let found = file_device(&topology, "/dev/null".as_ref()).expect("a device");
        assert_eq!(found.device.as_deref(), Some("ng9n1"));
        found
    };
    let drive = on("nvme4n1", Some("0000:51:00.0"));
    assert_eq!(drive.disk.as_deref(), Some("nvme4n1"));
    assert_eq!(
        (drive.pci, drive.node, drive.placement_unknown),
        (Some(at("0000:51:00.0")), Some(NodeId(1)), None)
    );
    assert_eq!(drive.logical_block, Some(Bytes(4096)));

    let head = on("nvme5n1", None);
    assert_eq!((head.pci, head.node), (None, None));
    assert_eq!(head.functions, all(&["0000:81:00.0", "0000:82:00.0"]));
    assert_eq!(
        head.placement_unknown.as_deref(),
        Some("placement unknown: 2 live paths")
    );

    // Both drives of the mirror are near one node, which is then the mirror's.
    let mirror = on("md0", None);
    assert_eq!((mirror.pci, mirror.node), (None, Some(NodeId(0))));
    assert_eq!(mirror.functions.len(), 2);
    assert!(mirror.placement_unknown.is_some());

    // Of a command set that the kernel makes no block device for.
    let bare = on("nvme4n7", Some("0000:51:00.0"));
    assert_eq!((bare.disk, bare.node), (None, Some(NodeId(1))));
    assert_eq!(bare.functions, all(&["0000:51:00.0"]));
    assert_eq!(bare.judgement.reality, Some(Reality::Hardware));
}

#[test]
fn stacks_are_followed_to_all_functions() {
    let topology = node();
    let below = |name: &str| {
        let disks = topology.disks_below(name);
        disks
            .iter()
            .map(|disk| disk.name.clone())
            .collect::<Vec<_>>()
    };
    let both = all(&["10000:01:00.0", "10000:02:00.0"]);
    for name in ["dm-3", "md0"] {
        assert_eq!(below(name), ["nvme0n1", "nvme1n1"], "{name}");
        assert_eq!(topology.functions_below(name), both, "{name}");
        let disk = topology.disk(name).expect("a disk");
        assert_eq!((&disk.functions, disk.pci), (&both, None));
        assert_eq!(disk.judgement.reality, Some(Reality::Hardware));
    }
    assert_eq!(below("nvme0n1p1"), ["nvme0n1"]);
    assert_eq!(below("nowhere"), [""; 0]);
    let lying = topology.disk("loop1").expect("a disk");
    assert_eq!(lying.backed_by.as_deref(), Some("nvme2n1p1"));
    assert_eq!(lying.functions, all(&["0000:43:00.0"]));
    assert_eq!(lying.judgement.reality, Some(Reality::Hardware));

    let ring = "sys/devices/virtual/block/md0/slaves/dm-3 -> ../../dm-3";
    let ring = Topology::read(&with(&[ring])).expect("a topology");
    assert_eq!(ring.functions_below("dm-3"), both, "a ring ends");
}

#[test]
fn interrupts_of_a_drive_and_where_they_go() {
    let topology = node();
    let drive = topology.function(at("0000:51:00.0")).expect("a function");
    let vectors: Vec<_> = drive
        .vectors
        .iter()
        .map(|v| {
            (
                v.irq,
                v.name.as_deref(),
                v.affinity.clone(),
                v.effective.clone(),
            )
        })
        .collect();
    assert_eq!(
        vectors,
        [
            (101, Some("nvme4q0"), Some(cpus("0-15")), Some(cpus("0"))),
            (102, Some("nvme4q1"), Some(cpus("0-7")), Some(cpus("4"))),
            (103, None, None, None),
        ]
    );
    assert_eq!(drive.power_state.as_deref(), Some("D0"));
}

#[test]
fn divided_sockets_have_several_nodes() {
    let sockets = node().sockets();
    let nodes = |list: &str| list.parse::<NodeList>().expect("nodes");
    let found: Vec<_> = sockets
        .into_iter()
        .map(|s| (s.package, s.nodes, s.cpus, s.divided))
        .collect();
    assert_eq!(
        found,
        [
            (0, nodes("0-1"), cpus("0-7"), true),
            (1, nodes("2-3"), cpus("8-15"), true),
        ]
    );
    let whole = Tree::unpack("two-sockets").topology().sockets();
    assert!(whole.len() == 2 && whole.iter().all(|socket| !socket.divided));
}

#[test]
fn limits_are_the_tightest_above_the_process() {
    let root = with(&[]);
    let limits = read_limits(&root);
    let job = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_77";
    assert_eq!(
        limits.cgroup.as_deref(),
        Some(format!("{job}/step_0").as_str())
    );
    let memory = limits.memory_max.expect("a limit");
    assert_eq!(
        (memory.bytes, memory.cgroup.as_str()),
        (Bytes::GIB * 8, job)
    );
    assert_eq!(
        limits.memory_high.map(|high| high.bytes),
        Some(Bytes::GIB * 4)
    );
    let huge: Vec<_> = limits
        .hugetlb
        .iter()
        .map(|one| {
            (
                one.page.as_str(),
                one.bound.bytes,
                one.bound.cgroup.as_str(),
            )
        })
        .collect();
    assert_eq!(huge, [("2MB", Bytes::GIB, job)]);
    let quota = limits.cpu_quota.expect("a quota");
    assert_eq!(
        (quota.quota, quota.period),
        (Nanos(250_000_000), Nanos(100_000_000))
    );
    assert_eq!((quota.cpus(), quota.cgroup.as_str()), (2.5, job));
    assert_eq!((limits.slurm, limits.notes.len()), (None, 0));
    let host = read_environment(&root).expect("an environment");
    assert_eq!(host.limits, Some(read_limits(&root)));
    assert_eq!(host.sockets, node().sockets());
    assert!(Allowed::read(&root, &node()).cpus.contains(CpuId(15)));
}

#[test]
fn slurm_tells_its_job() {
    let root = with(&[
        "proc/self/environ = HOME=/root\\0SLURM_JOB_ID=77\\0SLURM_STEP_ID=0\\0SLURM_CPUS_ON_NODE=16\\0SLURM_JOB_CPUS_PER_NODE=16(x2)\\0SLURM_CPU_BIND=quiet,mask_cpu:0x3\\0SLURM_MEM_BIND=\\0",
    ]);
    let slurm = read_limits(&root).slurm.expect("a job");
    assert_eq!(
        (slurm.job.as_str(), slurm.step.as_deref()),
        ("77", Some("0"))
    );
    assert_eq!(slurm.cpus_on_node, Some(16));
    assert_eq!(slurm.cpus_per_node.as_deref(), Some("16(x2)"));
    assert_eq!(slurm.cpu_bind.as_deref(), Some("quiet,mask_cpu:0x3"));
    assert_eq!((slurm.mem_bind, slurm.nodes), (None, None));
}

#[test]
fn limits_of_version_1_are_told_as_unread() {
    let limits = read_limits(&with(&[
        "proc/self/cgroup = 5:memory:/job\\n3:cpuset:/\\n0::/",
        "sys/fs/cgroup/memory.max = lots",
    ]));
    assert_eq!((limits.memory_max, limits.hugetlb.len()), (None, 0));
    let why: Vec<_> = limits.notes.iter().map(|note| note.why.as_str()).collect();
    assert!(
        why[0].contains("expected a number of bytes or max"),
        "{why:?}"
    );
    assert!(
        why[1].contains("version 1 has the controllers memory"),
        "{why:?}"
    );
}

#[test]
fn a_file_is_bound_by_all_that_it_stands_on() {
    let live = Topology::read(&Root::live()).expect("this machine");
    // Only a live file can be asked for its device; a disk of the node is then put in its place.
    let mut file = file_device(&live, "/".as_ref()).expect("a folder");
    let topology = node();
    let mut on = |topology: &Topology, disk: &str| {
        file.disk = Some(disk.to_owned());
        file.functions = topology.functions_below(disk);
        file_ceiling(topology, &file)
    };
    let mirror = on(&topology, "dm-3").expect("a ceiling");
    let drives = all(&["10000:01:00.0", "10000:02:00.0"]);
    assert_eq!(Ok(mirror), ceiling(&topology, &drives));
    assert_eq!(
        on(&topology, "loop1"),
        Err(NoCeiling::Cached("loop1".to_owned())),
        "its file may be in memory"
    );
    // A cache in memory before one of the drives answers without any link.
    let cached = Topology::read(&with(&[
        "sys/devices/virtual/block/ram0/size = 4000",
        "sys/block/ram0 -> ../devices/virtual/block/ram0",
        "sys/devices/virtual/block/dm-3/slaves/ram0 -> ../../ram0",
    ]))
    .expect("a topology");
    assert_eq!(
        on(&cached, "dm-3"),
        Err(NoCeiling::OffBus("ram0".to_owned()))
    );
}
