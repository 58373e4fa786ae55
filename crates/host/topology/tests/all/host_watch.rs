//! The host's counters and state before and after: on made trees whose files change in between, and on this machine.

use std::fs;
use std::time::{Duration, Instant};

use strata_record::{
    CgroupThrottling, CpuInterrupts, CpuSoftirqs, CpuThrottling, CpuTimes, FrequencySource,
    HostProof, LinkState, Role,
};
use strata_topology::{
    Allowed, HostWatch, Root, Topology, WatchList, file_device, pin_current_thread,
};
use strata_units::{Bytes, CpuId, Nanos, NodeId, PciAddress};

use crate::support::{Tree, cpus};

const TABLE: &str = "proc/interrupts = CPU0 CPU1 CPU2 CPU3";

fn tree() -> Tree {
    let tree = Tree::unpack("watched");
    Counts::default().put(&tree);
    tree
}

/// What changes while it is watched.
#[derive(Default)]
struct Counts {
    device: [u64; 4],
    timer: u64,
    block: u64,
    /// Steps of 10 ms.
    user: u64,
    steal: u64,
    reads: u64,
    periods: u64,
    segments: u64,
}

impl Counts {
    fn put(&self, tree: &Tree) {
        let [a, b, c, d] = self.device;
        let (timer, block) = (self.timer, self.block);
        tree.put(&format!(
            "{TABLE}\\n 77: {a} {b} {c} {d} PCI-MSIX-0000:81:00.0 3-edge nvme0q3\\n 78: 5 5 5 5 PCI-MSIX-0000:81:00.0 4-edge nvme0q4\\n 90: 9 9 9 {timer} PCI-MSI-0000:02:00.0 0-edge eth0\\nLOC: 1 1 {timer} 1 Local timer interrupts\\nRES: 2 2 {timer} 2 Rescheduling interrupts\\nERR: 0"
        ));
        tree.put(&format!(
            "proc/softirqs = CPU0 CPU1 CPU2 CPU3\\n TIMER: 0 0 {timer} 0\\n BLOCK: 0 0 {block} 0\\n NET_RX: 4 4 4 4"
        ));
        let (user, steal) = (self.user, self.steal);
        tree.put(&format!(
            "proc/stat = cpu  9 9 9 9 9 9 9 9 0 0\\ncpu2 {user} 1 20 300 4 5 6 {steal} 0 0\\ncpu3 1 1 1 1 1 1 1 1 0 0\\nintr 5"
        ));
        let (reads, sectors) = (self.reads, self.reads * 8);
        tree.put(&format!(
            "sys/block/nvme0n1/stat = {reads} 3 {sectors} 40 7 0 56 9 0 {reads} {reads} 0 0 0 0 0 0"
        ));
        let periods = self.periods;
        tree.put(&format!("sys/fs/cgroup/a/cpu.stat = usage_usec 9\\nnr_periods 100\\nnr_throttled {periods}\\nthrottled_usec {}", periods * 7));
        tree.put(&format!("sys/fs/cgroup/a/b/cpu.stat = usage_usec 9\\nnr_periods 0\\nnr_throttled {periods}\\nthrottled_usec {}", periods * 3));
        let segments = self.segments;
        tree.put(&format!("proc/net/snmp = Ip: Forwarding\\nIp: 1\\nTcp: MaxConn OutSegs RetransSegs InErrs\\nTcp: -1 {} {segments} 2", segments * 100));
        tree.put(&format!("proc/net/netstat = TcpExt: ListenOverflows TCPTimeouts\\nTcpExt: 4 {segments}\\nIpExt: InOctets\\nIpExt: 4"));
        tree.put(&format!(
            "sys/class/net/eth0/statistics/rx_bytes = {}",
            segments * 1500
        ));
    }
}

fn list() -> WatchList {
    WatchList {
        cpus: cpus("2"),
        peer_cpus: cpus("2-3"),
        disks: vec!["nvme0n1".to_owned()],
        drives: vec!["nvme0".to_owned()],
        functions: vec![address("0000:81:00.0")],
        virtio: Vec::new(),
        interfaces: vec!["eth0".to_owned()],
        ports: Vec::new(),
    }
}

fn address(text: &str) -> PciAddress {
    text.parse().expect("an address")
}

fn watched(tree: &Tree, list: &WatchList, between: impl FnOnce(&Tree)) -> (HostProof, Vec<String>) {
    let root = tree.root();
    let watch = HostWatch::start(&root, list);
    between(tree);
    watch.finish()
}

#[test]
fn what_changed_is_told_and_what_did_not_is_zero() {
    let tree = tree();
    let (host, missing) = watched(&tree, &list(), |tree| {
        Counts {
            device: [0, 3, 40, 0],
            timer: 25,
            block: 43,
            user: 80,
            steal: 2,
            reads: 1000,
            periods: 3,
            segments: 5,
        }
        .put(tree);
        tree.put("sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq = 2000000");
        tree.put("sys/devices/system/cpu/cpu2/thermal_throttle/core_throttle_count = 9");
        tree.put("sys/class/nvme/nvme0/hwmon4/temp1_input = 71850");
        for end in ["0000:80:01.0", "0000:80:01.0/0000:81:00.0"] {
            tree.put(&format!(
                "sys/devices/pci0000:80/{end}/current_link_width = 2"
            ));
        }
    });
    let [measure, peer] = &host.cpus[..] else {
        panic!("CPU 2 is the measuring side's: {:?}", host.cpus)
    };
    assert_eq!((measure.cpu, measure.role), (CpuId(2), Role::Measure));
    assert_eq!((peer.cpu, peer.role), (CpuId(3), Role::Peer));
    assert_eq!(
        (measure.node, peer.node),
        (Some(NodeId(1)), Some(NodeId(1)))
    );
    let interrupts = CpuInterrupts {
        total: 40 + 25 + 25,
        device: 40,
        timer: 25,
        reschedule: 25,
        call: 0,
        tlb: 0,
    };
    assert_eq!(measure.interrupts, Some(interrupts));
    assert_eq!(
        peer.interrupts,
        Some(CpuInterrupts {
            total: 25,
            ..CpuInterrupts::default()
        }),
        "eth0's function is not watched"
    );
    assert_eq!(
        measure.softirqs,
        Some(CpuSoftirqs {
            timer: 25,
            block: 43,
            ..CpuSoftirqs::default()
        })
    );
    assert_eq!(
        measure.times,
        Some(CpuTimes {
            user_ns: Nanos::from_millis(800),
            steal_ns: Nanos::from_millis(20),
            ..CpuTimes::default()
        })
    );
    let frequency = measure.frequency.as_ref().expect("told");
    assert_eq!(
        (frequency.before_hz, frequency.after_hz, frequency.max_hz),
        (3_000_000_000, 2_000_000_000, Some(3_700_000_000))
    );
    assert_eq!(
        (frequency.governor.as_deref(), frequency.source),
        (Some("schedutil"), FrequencySource::Cpufreq)
    );
    assert_eq!(
        measure.throttled,
        Some(CpuThrottling {
            core: 2,
            package: 0
        })
    );
    let other = peer.frequency.as_ref().expect("by cpuinfo");
    assert_eq!(
        (other.source, other.after_hz, other.governor.as_deref()),
        (FrequencySource::Cpuinfo, 2_399_998_000, None)
    );
    assert_eq!(host.turbo, Some(false));
    assert_eq!(
        host.cgroup,
        Some(CgroupThrottling {
            periods: 6,
            held_ns: Nanos(30_000)
        }),
        "its own group's and that above"
    );
    assert_eq!(host.vectors, Some(2));
    let [vector] = &host.fired[..] else {
        panic!("one of two fired: {:?}", host.fired)
    };
    assert_eq!((vector.irq, vector.name.as_str()), (77, "nvme0q3"));
    let counts: Vec<_> = vector
        .counts
        .iter()
        .map(|c| (c.cpu.0, c.node, c.count))
        .collect();
    assert_eq!(counts, [(1, Some(NodeId(0)), 3), (2, Some(NodeId(1)), 40)]);
    let [device] = &host.devices[..] else {
        panic!("{:?}", host.devices)
    };
    assert_eq!(
        (device.reads, device.read_bytes, device.writes),
        (1000, Bytes(4_096_000), 0)
    );
    assert_eq!(
        (device.queue_ns, device.mean_bytes),
        (Nanos::SECOND, Some(4096.0))
    );
    assert!((device.mean_depth * host.span_s - 1.0).abs() < 1e-9);
    let [drive] = &host.drives[..] else {
        panic!("{:?}", host.drives)
    };
    assert_eq!((drive.before_celsius, drive.after_celsius), (38.85, 71.85));
    assert_eq!(
        (drive.warning_celsius, drive.critical_celsius, drive.alarm),
        (Some(69.85), None, Some(false)),
        "65261.85 °C is no threshold"
    );
    assert_eq!(host.hottest_celsius(), Some(71.85));
    assert!(host.throttled().is_some_and(|why| why.contains("CPU 2")));
    let [link] = &host.links[..] else {
        panic!("{:?}", host.links)
    };
    let state = |lane, width| LinkState {
        lane_bits_per_s: lane,
        width,
    };
    assert_eq!(
        (link.function, link.port),
        (address("0000:81:00.0"), Some(address("0000:80:01.0")))
    );
    assert_eq!(
        (link.before, link.after),
        (state(16_000_000_000, 4), state(16_000_000_000, 2))
    );
    assert_eq!(link.best, state(16_000_000_000, 4), "the port's 16, not 32");
    let [interface] = &host.interfaces[..] else {
        panic!("{:?}", host.interfaces)
    };
    assert_eq!((interface.rx_bytes, interface.rx_packets), (Bytes(7500), 0));
    let tcp = host.tcp.expect("counted");
    assert_eq!(
        (
            tcp.retransmitted,
            tcp.sent_segments,
            tcp.timeouts,
            tcp.errors
        ),
        (5, 500, 5, 0)
    );
    assert_eq!(tcp.lost_retransmits, 0, "this kernel does not count them");
    assert_eq!(
        missing,
        [
            "governor and limits of CPU 3: no cpufreq (a guest has none); its frequency is what /proc/cpuinfo tells",
            "throttling of CPU 3: it does not count that (no thermal_throttle)",
            "throttling and critical warnings of nvme0 by its own count: they take its SMART log, an admin command that is not sent here",
        ]
    );
}

#[test]
fn a_polled_trial_shows_no_interrupt() {
    let tree = tree();
    let (host, _) = watched(&tree, &list(), |tree| {
        Counts {
            reads: 1000,
            timer: 4,
            ..Counts::default()
        }
        .put(tree);
    });
    assert_eq!((host.vectors, host.fired.len()), (Some(2), 0));
    assert_eq!(host.devices[0].reads, 1000, "and yet it read");
    assert_eq!(host.throttled(), None);
}

#[test]
fn a_multipath_head_counts_by_its_paths() {
    let tree = tree();
    let row = |n: u64| format!("{n} 0 {} 0 0 0 0 0 0 0 {n} 0 0 0 0 0 0", n * 8);
    tree.put(&format!("sys/block/nvme0n1/stat = {}", row(0)));
    tree.put(&format!("sys/block/nvme0c0n1/stat = {}", row(5)));
    tree.put(&format!("sys/block/nvme0c1n1/stat = {}", row(7)));
    tree.put(&format!("sys/block/nvme0c1n2/stat = {}", row(900)));
    let (host, _) = watched(&tree, &list(), |tree| {
        tree.put(&format!("sys/block/nvme0c1n1/stat = {}", row(107)));
        tree.put(&format!("sys/block/nvme0c1n2/stat = {}", row(999)));
    });
    assert_eq!(host.devices[0].reads, 100);
}

/// A function without interrupts, by its driver: what is said of that.
fn without_vectors(driver: &str) -> (HostProof, bool) {
    let tree = tree();
    let own = "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0";
    fs::remove_dir_all(tree.path().join(own).join("msi_irqs")).expect("it was there");
    fs::create_dir_all(tree.path().join("sys/bus/pci/drivers").join(driver)).expect("a folder");
    tree.put(&format!(
        "{own}/driver -> ../../../../bus/pci/drivers/{driver}"
    ));
    let list = WatchList {
        cpus: cpus("2"),
        functions: vec![address("0000:81:00.0")],
        ..WatchList::default()
    };
    let (host, missing) = watched(&tree, &list, |_| ());
    let said = missing.iter().any(|m| m.contains("has no vector of it"));
    (host, said)
}

#[test]
fn a_polled_function_has_no_interrupts_and_nothing_is_missed() {
    for (driver, missed) in [("vfio-pci", false), ("nvme", true)] {
        let (host, said) = without_vectors(driver);
        assert_eq!((host.vectors, host.fired.len()), (Some(0), 0));
        assert_eq!(said, missed, "{driver}");
        let cpu = host.cpus[0].interrupts.expect("told");
        assert_eq!(cpu.device, 0);
    }
}

#[test]
fn a_host_that_tells_nothing_is_said_to() {
    let tree = Tree::unpack("watched");
    for gone in ["proc", "sys/block", "sys/class", "sys/bus", "sys/devices"] {
        fs::remove_dir_all(tree.path().join(gone)).expect("it was there");
    }
    // As containers mask it.
    tree.put("proc/interrupts =");
    let (host, missing) = watched(&tree, &list(), |_| ());
    assert_eq!(
        (host.cpus.len(), host.devices.len(), host.links.len()),
        (2, 0, 0)
    );
    assert_eq!((host.vectors, host.cgroup, host.tcp), (None, None, None));
    for what in [
        "interrupts of CPU 2,3",
        "other load of CPU 2,3",
        "frequency of CPU 2,3: no cpufreq",
        "what nvme0n1 did",
        "temperature of nvme0: no sensor",
        "PCI Express links",
        "counters of eth0",
        "retransmissions: ",
    ] {
        assert_eq!(
            missing.iter().filter(|m| m.contains(what)).count(),
            1,
            "{what}: {missing:?}"
        );
    }
}

#[test]
fn what_lies_under_a_file_is_what_is_watched() {
    let tree = tree();
    let topology = tree.topology();
    let live = Topology::read(&Root::live()).expect("this machine");
    // Only a live file can be asked for its device; the disk is then put in its place.
    let mut file = file_device(&live, "/".as_ref()).expect("a folder");
    file.disk = Some("nvme0n1".to_owned());
    file.functions = topology.functions_below("nvme0n1");
    let list = WatchList::of_file(&topology, &file, cpus("1"));
    assert_eq!(
        (list.cpus, list.disks, list.drives, list.functions),
        (
            cpus("1"),
            vec!["nvme0n1".to_owned()],
            vec!["nvme0".to_owned()],
            vec![address("0000:81:00.0")]
        )
    );
    (file.disk, file.functions) = (None, Vec::new());
    let memory = WatchList::of_file(&topology, &file, cpus("1"));
    assert!(memory.disks.is_empty() && memory.functions.is_empty());
}

#[test]
fn this_machine_ticks_while_it_is_watched() {
    let test = "this_machine_ticks_while_it_is_watched";
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    let cpu = Allowed::read(&root, &topology).cpus.first().expect("a CPU");
    let list = WatchList {
        cpus: [cpu].into_iter().collect(),
        interfaces: vec!["lo".to_owned()],
        ..WatchList::default()
    };
    let (host, missing) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let watch = HostWatch::start(&root, &list);
            scope
                .spawn(|| {
                    pin_current_thread(&list.cpus).expect("allowed");
                    let begun = Instant::now();
                    let mut turns = 0u64;
                    while begun.elapsed() < Duration::from_millis(300) {
                        turns = std::hint::black_box(turns + 1);
                    }
                })
                .join()
                .expect("no panic");
            watch.finish()
        });
        watching.join().expect("no panic")
    });
    assert!(host.span_s >= 0.3, "{}", host.span_s);
    let [found] = &host.cpus[..] else {
        panic!("{host:?}")
    };
    match found.interrupts {
        // A busy CPU has a tick, and was woken for the thread.
        Some(interrupts) => assert!(
            interrupts.total > 0 && interrupts.total >= interrupts.timer,
            "{interrupts:?}"
        ),
        None => println!("SKIP {test}: {missing:?}"),
    }
    if let Some(times) = found.times {
        let all = times.user_ns + times.system_ns + times.steal_ns + times.interrupt_ns;
        assert!(all > Nanos::from_millis(100), "spun 300 ms: {times:?}");
    }
    assert!(
        host.interfaces.iter().any(|i| i.name == "lo")
            || missing.iter().any(|m| m.contains("counters of lo")),
        "{missing:?}"
    );
    assert_eq!(host.fired, [], "no device was watched");
}

#[test]
fn the_driver_of_each_function_is_told_before_and_after_with_its_modules_version() {
    const FUNCTION: &str = "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0";
    let tree = tree();
    let held = |tree: &Tree, driver: &str| {
        tree.put(&format!(
            "{FUNCTION}/driver -> ../../../../bus/pci/drivers/{driver}"
        ));
    };
    for (driver, module) in [("nvme", "nvme"), ("vfio-pci", "vfio_pci")] {
        tree.put(&format!(
            "sys/bus/pci/drivers/{driver}/module -> ../../../../module/{module}"
        ));
    }
    tree.put("sys/module/nvme/version = 1.0");
    tree.put("sys/module/nvme/srcversion = 92F8D6A0C8F2B1E4D3A5C6B");
    let found = |host: HostProof| {
        let [only] = &host.functions[..] else {
            panic!("one function is watched: {:?}", host.functions)
        };
        assert_eq!(only.function, address("0000:81:00.0"));
        [
            &only.before,
            &only.after,
            &only.version,
            &only.source_version,
        ]
        .map(|told| told.clone().unwrap_or_default())
    };
    let (host, _) = watched(&tree, &list(), |_| {});
    assert_eq!(found(host), ["", "", "", ""], "nobody holds it");

    held(&tree, "nvme");
    let (host, missing) = watched(&tree, &list(), |_| {});
    let told = ["nvme", "nvme", "1.0", "92F8D6A0C8F2B1E4D3A5C6B"];
    assert_eq!(found(host), told);
    assert!(!missing.iter().any(|m| m.contains("module")), "{missing:?}");

    let (host, _) = watched(&tree, &list(), |tree| {
        fs::remove_file(tree.path().join(FUNCTION).join("driver")).expect("a link");
        held(tree, "vfio-pci");
    });
    assert_eq!(found(host), ["nvme", "vfio-pci", "", ""]);
}
