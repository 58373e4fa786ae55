//! Trees recorded on real machines, checked against a second, smaller reading of their files.
//!
//! They lie beside the repository (`../shared/data/sysfs`) and are not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_topology::{Allowed, BitRate, Root, Topology, read_environment};
use strata_units::{CpuId, NodeId};
use tempfile::TempDir;

use crate::support;

fn archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data/sysfs");
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.to_string_lossy().ends_with(".tar.bz2"));
    found.sort();
    found
}

/// Unpacks an archive; the root is the folder in it that has `sys`. `None`, with a word, where tar or bzip2 is absent.
fn unpack(archive: &Path, test: &str) -> Option<(TempDir, PathBuf)> {
    let folder = support::folder();
    // Blocks of hot-pluggable memory are most of a tree's entries, and nobody reads them.
    let done = Command::new("tar")
        .args(["--exclude=memory[0-9]*", "-xjf"])
        .arg(archive)
        .arg("-C")
        .arg(folder.path())
        .output();
    match done {
        Ok(output) if output.status.success() => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("bzip2") => {
            println!("SKIP {test}: tar finds no bzip2");
            return None;
        }
        Ok(output) => panic!(
            "{}: {}",
            archive.display(),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            println!("SKIP {test}: no tar: {error}");
            return None;
        }
    }
    let mut level = vec![folder.path().to_owned()];
    while let Some(path) = level.pop() {
        if path.join("sys").is_dir() {
            return Some((folder, path));
        }
        level.extend(folders(&path));
    }
    panic!("{} has no sys", archive.display())
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// The numbers after a prefix among a folder's entries.
fn numbers(folder: &Path, prefix: &str) -> BTreeSet<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()
        })
        .collect()
}

fn list(text: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let ends: Vec<u32> = part
            .split('-')
            .map(|n| n.parse().expect("a number"))
            .collect();
        found.extend(ends[0]..=ends[ends.len() - 1]);
    }
    found
}

/// A mask by its hexadecimal digits, least first.
fn mask(text: &str) -> BTreeSet<u32> {
    let digits = text.chars().rev().filter(char::is_ascii_hexdigit);
    let values = digits.map(|digit| digit.to_digit(16).expect("a digit"));
    (0..)
        .step_by(4)
        .zip(values)
        .flat_map(|(base, value)| {
            (0..4)
                .filter(move |bit| value & (1 << bit) != 0)
                .map(move |bit| base + bit)
        })
        .collect()
}

fn online(cpus: &Path) -> BTreeSet<u32> {
    match read(&cpus.join("online")) {
        Some(text) => list(&text),
        None => numbers(cpus, "cpu")
            .into_iter()
            .filter(|n| read(&cpus.join(format!("cpu{n}/online"))).as_deref() != Some("0"))
            .collect(),
    }
}

/// The node that the device of an entry of `/sys/class/KIND` says it is on.
fn told_node(entry: &Path) -> Option<NodeId> {
    read(&entry.join("device/numa_node"))?
        .parse()
        .ok()
        .map(NodeId)
}

fn check(name: &str, root: &Path) {
    let topology = Topology::read(&Root::new(root)).expect(name);
    let cpus = root.join("sys/devices/system/cpu");
    let nodes = root.join("sys/devices/system/node");

    let ids: BTreeSet<u32> = topology.cpus.iter().map(|cpu| cpu.id.0).collect();
    assert_eq!(ids, numbers(&cpus, "cpu"), "{name}: CPUs");
    let is_online: BTreeSet<u32> = topology.online().iter().map(|cpu| cpu.0).collect();
    let told: BTreeSet<u32> = online(&cpus).intersection(&ids).copied().collect();
    assert_eq!(is_online, told, "{name}: CPUs online");
    for cpu in &topology.cpus {
        let folder = cpus.join(format!("cpu{}/topology", cpu.id));
        let siblings = ["thread_siblings", "core_cpus"]
            .iter()
            .find_map(|file| read(&folder.join(file)));
        if let Some(text) = siblings {
            let mut told = mask(&text);
            told.insert(cpu.id.0);
            let found: BTreeSet<u32> = cpu.siblings.iter().map(|cpu| cpu.0).collect();
            assert_eq!(found, told, "{name}: siblings of CPU {}", cpu.id);
        }
        let package = read(&folder.join("physical_package_id")).and_then(|text| text.parse().ok());
        assert_eq!(cpu.package, package, "{name}: package of CPU {}", cpu.id);
    }

    let ids: BTreeSet<u32> = topology.nodes.iter().map(|node| node.id.0).collect();
    assert_eq!(ids, numbers(&nodes, "node"), "{name}: nodes");
    let mut holders: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
    for node in &topology.nodes {
        let folder = nodes.join(format!("node{}", node.id));
        let told = match (read(&folder.join("cpulist")), read(&folder.join("cpumap"))) {
            (Some(text), _) => list(&text),
            (None, Some(text)) => mask(&text),
            (None, None) => BTreeSet::new(),
        };
        let found: BTreeSet<u32> = node.cpus.iter().map(|cpu| cpu.0).collect();
        assert_eq!(found, told, "{name}: CPUs of node {}", node.id);
        told.iter()
            .for_each(|cpu| holders.entry(*cpu).or_default().push(node.id));
        let total = read(&folder.join("meminfo")).and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.contains("MemTotal"))?
                .to_owned();
            line.split_whitespace().nth(3)?.parse::<u64>().ok()
        });
        assert_eq!(
            node.memory_total.map(|memory| memory.0 / 1024),
            total,
            "{name}: node {}",
            node.id
        );
        let row = read(&folder.join("distance")).unwrap_or_default();
        let row: Vec<u32> = row
            .split_whitespace()
            .map(|n| n.parse().expect("a number"))
            .collect();
        let found: Vec<u32> = node.distances.iter().map(|d| d.distance).collect();
        assert_eq!(found, row, "{name}: distances of node {}", node.id);
    }
    for (cpu, nodes) in holders {
        let own = numbers(&cpus.join(format!("cpu{cpu}")), "node");
        let told = match (own.len(), &nodes[..]) {
            (1, _) => own.first().copied().map(NodeId),
            (0, [one]) => Some(*one),
            _ => None,
        };
        assert_eq!(
            topology.node_of(CpuId(cpu)),
            told,
            "{name}: node of CPU {cpu}"
        );
    }

    let class = root.join("sys/class");
    let told = |kind: &str| -> BTreeMap<String, Option<NodeId>> {
        folders(&class.join(kind))
            .iter()
            .map(|entry| {
                let name = entry
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                (name, told_node(entry))
            })
            .collect()
    };
    let found = topology
        .nvme
        .iter()
        .filter_map(|c| Some((c.name.clone()?, c.node)));
    assert_eq!(
        found.collect::<BTreeMap<_, _>>(),
        told("nvme"),
        "{name}: NVMe"
    );
    let found = topology.interfaces.iter().map(|i| (i.name.clone(), i.node));
    assert_eq!(
        found.collect::<BTreeMap<_, _>>(),
        told("net"),
        "{name}: interfaces"
    );
    let found = topology.rdma.iter().map(|d| (d.name.clone(), d.node));
    assert_eq!(
        found.collect::<BTreeMap<_, _>>(),
        told("infiniband"),
        "{name}: RDMA devices"
    );
    for function in &topology.pci {
        let file = root.join(format!(
            "sys/bus/pci/devices/{}/numa_node",
            function.address
        ));
        let told = read(&file).and_then(|text| text.parse().ok()).map(NodeId);
        assert_eq!(function.node, told, "{name}: {}", function.address);
    }
    let functions = fs::read_dir(root.join("sys/bus/pci/devices"))
        .into_iter()
        .flatten()
        .count();
    assert_eq!(topology.pci.len(), functions, "{name}: PCI functions");

    let allowed = Allowed::read(&Root::new(root), &topology);
    assert!(!allowed.cpus.is_empty(), "{name}: no CPU allowed");
    let host = read_environment(&Root::new(root)).expect(name);
    let total = read(&root.join("proc/meminfo")).map(|text| {
        let number = text.split_whitespace().nth(1).map(str::to_owned);
        number.and_then(|n| n.parse::<u64>().ok())
    });
    assert_eq!(
        host.memory_total_bytes.map(|memory| memory.0 / 1024),
        total.flatten(),
        "{name}: memory"
    );
    println!(
        "{name}: {} nodes, {} CPUs, {} cores, {} PCI functions, {} NVMe, {} interfaces, {} RDMA, {} disks, {} notes",
        topology.nodes.len(),
        topology.cpus.len(),
        topology.cores(),
        topology.pci.len(),
        topology.nvme.len(),
        topology.interfaces.len(),
        topology.rdma.len(),
        topology.disks.len(),
        topology.notes.len(),
    );
    for note in &topology.notes {
        println!("  {}: {}", note.path, note.why);
    }
}

#[test]
fn real_trees_are_read_as_they_say() {
    const TEST: &str = "real_trees_are_read_as_they_say";
    let archives = archives();
    if archives.is_empty() {
        println!("SKIP {TEST}: no archives in ../shared/data/sysfs");
    }
    for archive in archives {
        let Some((_folder, root)) = unpack(&archive, TEST) else {
            return;
        };
        let name = archive
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        check(&name, &root);
    }
}

/// What the cpusets in these trees say, read by eye.
#[test]
fn cpusets_of_real_trees() {
    const TEST: &str = "cpusets_of_real_trees";
    let expected = [
        (
            "16amd64-8n2c-cpusets",
            "0-3,5,6,12-15",
            "1-4",
            "dev/cpuset/dummy",
        ),
        (
            "32amd64-4s2n4c-cgroup2",
            "0-5",
            "0-5",
            "cgroup/unified/uid_2008/job_15389/step_0",
        ),
        (
            "40intel64-2g2n4c+pcilocality",
            "0-39",
            "0-3",
            "dev/cpuset/torque/513099.master.cm.cluster",
        ),
        (
            "fakememinitiators-1np2c+1npp+gi",
            "0-7",
            "5-10",
            "sys/fs/cgroup/cpuset",
        ),
    ];
    let archives = archives();
    for (name, cpus, nodes, folder) in expected {
        let file = format!("{name}.tar.bz2");
        let Some(archive) = archives.iter().find(|path| path.ends_with(&file)) else {
            println!("SKIP {TEST}: no {file} in ../shared/data/sysfs");
            continue;
        };
        let Some((_folder, root)) = unpack(archive, TEST) else {
            return;
        };
        let root = Root::new(root);
        let topology = Topology::read(&root).expect(name);
        let allowed = Allowed::read(&root, &topology);
        assert_eq!(allowed.cpus, cpus.parse().expect("a list"), "{name}");
        assert_eq!(allowed.nodes, nodes.parse().expect("a list"), "{name}");
        assert_eq!(allowed.cpuset.as_deref(), Some(folder), "{name}");
    }
}

/// What the ports in these trees say, read by eye.
#[test]
fn ports_of_real_trees() {
    const TEST: &str = "ports_of_real_trees";
    let expected = [
        (
            "32em64t-2n8c+dax+nvme+mic+dimms",
            "mlx4_0",
            (0x3a4, "4X FDR", 54_545_454_545),
            "fe80::2:c903:f9:bfa1",
        ),
        (
            "40intel64-2g2n4c+pcilocality",
            "qib0",
            (0x12a, "4X QDR", 32_000_000_000),
            "fe80::11:7500:77:cfc8",
        ),
    ];
    let archives = archives();
    for (name, device, (lid, speed, data), gid) in expected {
        let file = format!("{name}.tar.bz2");
        let Some(archive) = archives.iter().find(|path| path.ends_with(&file)) else {
            println!("SKIP {TEST}: no {file} in ../shared/data/sysfs");
            continue;
        };
        let Some((_folder, root)) = unpack(archive, TEST) else {
            return;
        };
        let topology = Topology::read(&Root::new(root)).expect(name);
        let mut devices = topology.rdma.iter();
        let found = devices.find(|found| found.name == device).expect(device);
        assert_eq!(found.kind.as_deref(), Some("CA"), "{device}");
        let [port] = &found.ports[..] else {
            panic!("{device} has one port")
        };
        assert_eq!((port.lid, port.sm_lid), (Some(lid), Some(1)), "{device}");
        assert_eq!(port.width_speed.as_deref(), Some(speed), "{device}");
        assert_eq!(port.data_rate(), Some(BitRate(data)), "{device}");
        assert_eq!(port.interfaces, ["ib0"], "{device}");
        // Of 128 and 5 entries the first alone is in use.
        let [one] = &port.gids[..] else {
            panic!("{device}: {:?}", port.gids)
        };
        assert_eq!((one.index, one.gid.to_string()), (0, gid.to_owned()));
        assert_eq!(port.usual_gid(None), Some(one));
        let keys: Vec<_> = port.p_keys.iter().map(|key| (key.index, key.key)).collect();
        assert_eq!(keys, [(0, 0xffff)], "{device}");
    }
}
