//! What of the host a figure may hang on, for `run.json`.

use std::collections::{BTreeMap, BTreeSet};

use strata_record::{Adapter, CpuModel, Drive, Environment, NodeMemory};
use strata_units::{Bytes, CpuId, CpuList};

use crate::guest::cpu_flags;
use crate::limits;
use crate::root::{Reader, Root};
use crate::topology::{ReadError, Topology};

/// Settings below `/proc/sys` that matter to storage and networks.
const SYSCTLS: [&str; 21] = [
    "fs.aio-max-nr",
    "kernel.io_uring_disabled",
    "kernel.numa_balancing",
    "kernel.perf_event_paranoid",
    "kernel.sched_rt_runtime_us",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "vm.dirty_background_ratio",
    "vm.dirty_ratio",
    "vm.max_map_count",
    "vm.nr_hugepages",
    "vm.swappiness",
];

/// CPU flags that tell whether the time stamp counter can be a clock, and what the CPU can do for us.
const FLAGS: [&str; 9] = [
    "avx2",
    "avx512f",
    "constant_tsc",
    "hypervisor",
    "nonstop_tsc",
    "rdtscp",
    "tsc_known_freq",
    "tsc_reliable",
    "waitpkg",
];

const CPU: &str = "sys/devices/system/cpu";
const THP: &str = "sys/kernel/mm/transparent_hugepage";

/// Reads the host under `root` from sysfs and procfs (sysfs(5), proc(5)) and os-release(5). What it does not tell is
/// `None` or empty; what could not be read or understood stands in the notes.
///
/// # Errors
/// As [`Topology::read`].
pub fn read_environment(root: &Root) -> Result<Environment, ReadError> {
    let reader = Reader::new(root);
    let topology = Topology::read_with(&reader)?;
    let (memlock_bytes, memlock_unlimited) = memlock(&reader);
    let word = |path: &str| reader.word(path);
    Ok(Environment {
        hostname: word("proc/sys/kernel/hostname"),
        boot_id: word("proc/sys/kernel/random/boot_id"),
        kernel_release: word("proc/sys/kernel/osrelease"),
        kernel_version: word("proc/sys/kernel/version").or_else(|| word("proc/version")),
        command_line: word("proc/cmdline"),
        distribution: distribution(&reader),
        cpu: cpu_model(&reader, &topology),
        vulnerabilities: vulnerabilities(&reader),
        governors: by_cpu(&reader, &topology, "scaling_governor"),
        frequency_drivers: by_cpu(&reader, &topology, "scaling_driver"),
        turbo: turbo(&reader),
        smt: word(&format!("{CPU}/smt/control")),
        isolated: topology.isolated(),
        clock_source: word("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        memory_total_bytes: memory_total(&reader),
        nodes: nodes(&topology),
        thp: chosen(&reader, &format!("{THP}/enabled")),
        thp_defrag: chosen(&reader, &format!("{THP}/defrag")),
        memlock_bytes,
        memlock_unlimited,
        limits: Some(limits::read_with(&reader)),
        sockets: topology.sockets(),
        sysctls: sysctls(&reader),
        drives: drives(&reader, &topology),
        adapters: adapters(&topology),
        guest: topology.guest,
        notes: reader.into_notes(),
    })
}

fn distribution(reader: &Reader) -> Option<String> {
    let text = ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .find_map(|path| reader.word(path))?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']).to_owned())
}

fn cpu_model(reader: &Reader, topology: &Topology) -> CpuModel {
    let text = reader.text("proc/cpuinfo").unwrap_or_default();
    let field = |names: &[&str]| {
        let line = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            names.contains(&name.trim()).then(|| value.trim())
        })?;
        (!line.is_empty()).then(|| line.to_owned())
    };
    let flags = cpu_flags(reader).unwrap_or_default();
    let packages: BTreeSet<u32> = topology
        .cpus
        .iter()
        .filter(|cpu| cpu.online)
        .filter_map(|cpu| cpu.package)
        .collect();
    CpuModel {
        vendor: field(&["vendor_id", "CPU implementer"]),
        model: field(&["model name", "CPU part"]),
        microcode: field(&["microcode"]),
        flags: FLAGS
            .iter()
            .filter(|flag| flags.iter().any(|has| has == *flag))
            .map(|flag| (*flag).to_owned())
            .collect(),
        online: topology.online(),
        cores: topology.cores(),
        packages: packages.len(),
    }
}

fn vulnerabilities(reader: &Reader) -> BTreeMap<String, String> {
    let folder = format!("{CPU}/vulnerabilities");
    reader
        .names(&folder)
        .into_iter()
        .filter_map(|name| {
            let state = reader.word(&format!("{folder}/{name}"))?;
            Some((name, state))
        })
        .collect()
}

fn by_cpu(reader: &Reader, topology: &Topology, file: &str) -> BTreeMap<String, CpuList> {
    let mut found: BTreeMap<String, Vec<CpuId>> = BTreeMap::new();
    for cpu in topology.online().iter() {
        if let Some(value) = reader.word(&format!("{CPU}/cpu{cpu}/cpufreq/{file}")) {
            found.entry(value).or_default().push(cpu);
        }
    }
    found
        .into_iter()
        .map(|(value, cpus)| (value, cpus.into()))
        .collect()
}

pub(crate) fn turbo(reader: &Reader) -> Option<bool> {
    let off = reader.flag(&format!("{CPU}/intel_pstate/no_turbo"));
    off.map(|off| !off)
        .or_else(|| reader.flag(&format!("{CPU}/cpufreq/boost")))
}

/// `MemTotal:       24684096 kB`
fn memory_total(reader: &Reader) -> Option<Bytes> {
    let text = reader.text("proc/meminfo")?;
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

fn nodes(topology: &Topology) -> Vec<NodeMemory> {
    topology
        .nodes
        .iter()
        .map(|node| NodeMemory {
            node: node.id,
            memory_total_bytes: node.memory_total,
            memory_free_bytes: node.memory_free,
            hugepages: node.hugepages.clone(),
        })
        .collect()
}

/// The word in brackets: `always [madvise] never`.
fn chosen(reader: &Reader, path: &str) -> Option<String> {
    let text = reader.word(path)?;
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// `Max locked memory         8388608              8388608              bytes`
fn memlock(reader: &Reader) -> (Option<Bytes>, Option<bool>) {
    let soft = reader.text("proc/self/limits").and_then(|text| {
        let rest = text
            .lines()
            .find_map(|line| line.strip_prefix("Max locked memory"))?;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    match soft.as_deref() {
        None => (None, None),
        Some("unlimited") => (None, Some(true)),
        Some(bytes) => {
            let bytes = bytes.parse().ok().map(Bytes);
            (bytes, bytes.map(|_| false))
        }
    }
}

fn sysctls(reader: &Reader) -> BTreeMap<String, String> {
    SYSCTLS
        .iter()
        .filter_map(|name| {
            let text = reader.text(&format!("proc/sys/{}", name.replace('.', "/")))?;
            let value = text.split_whitespace().collect::<Vec<_>>().join(" ");
            Some(((*name).to_owned(), value))
        })
        .collect()
}

fn drives(reader: &Reader, topology: &Topology) -> Vec<Drive> {
    let controllers = topology.nvme.iter().map(|controller| Drive {
        name: controller.name.clone(),
        pci: controller.pci,
        node: controller.node,
        driver: controller.driver.clone(),
        model: controller.model.clone(),
        firmware: controller.firmware.clone(),
        serial: controller.serial.clone(),
    });
    let disks = topology.disks.iter().filter(|disk| {
        let hangs = disk.pci.is_some() || disk.virtio.is_some();
        let listed = topology
            .nvme
            .iter()
            .any(|controller| controller.namespaces.contains(&disk.name));
        hangs && !listed
    });
    let disks = disks.map(|disk| Drive {
        name: Some(disk.name.clone()),
        pci: disk.pci,
        node: disk.node,
        driver: disk
            .pci
            .and_then(|address| topology.function(address)?.driver.clone()),
        model: disk.model.clone(),
        firmware: reader.word(&format!("{}/device/rev", disk.path)),
        serial: disk.serial.clone(),
    });
    controllers.chain(disks).collect()
}

fn adapters(topology: &Topology) -> Vec<Adapter> {
    let interfaces = topology
        .interfaces
        .iter()
        .filter(|interface| interface.pci.is_some() || interface.driver.is_some())
        .map(|interface| Adapter {
            name: interface.name.clone(),
            pci: interface.pci,
            node: interface.node,
            driver: interface.driver.clone(),
            model: None,
            firmware: None,
            identity: interface.address.clone(),
        });
    let rdma = topology.rdma.iter().map(|device| Adapter {
        name: device.name.clone(),
        pci: device.pci,
        node: device.node,
        driver: device.driver.clone(),
        model: device.model.clone(),
        firmware: device.firmware.clone(),
        identity: device.guid.clone(),
    });
    interfaces.chain(rdma).collect()
}
