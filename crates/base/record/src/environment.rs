//! The machine that a run was made on: what of it a figure may hang on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, CpuList, NodeId, NodeList, PciAddress};

use crate::Limits;

/// The host as it was when the run began. What the host does not tell is null or empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Name of the host.
    pub hostname: Option<String>,
    /// Identity of this boot (random(4)).
    pub boot_id: Option<String>,
    /// Kernel release (`6.1.0-18-amd64`).
    pub kernel_release: Option<String>,
    /// Kernel version: build number and date.
    pub kernel_version: Option<String>,
    /// Kernel command line.
    pub command_line: Option<String>,
    /// Distribution (`PRETTY_NAME` of os-release(5)).
    pub distribution: Option<String>,
    /// Whether the host is a guest, and of what.
    pub guest: Guest,
    /// The CPU.
    pub cpu: CpuModel,
    /// State of each CPU vulnerability and its mitigation, by name.
    pub vulnerabilities: BTreeMap<String, String>,
    /// Governors of cpufreq, each with its CPUs.
    pub governors: BTreeMap<String, CpuList>,
    /// Drivers of cpufreq, each with its CPUs.
    pub frequency_drivers: BTreeMap<String, CpuList>,
    /// Whether turbo (boost) is on.
    pub turbo: Option<bool>,
    /// Simultaneous multithreading (`on`, `off`, `notsupported`, `notimplemented`).
    pub smt: Option<String>,
    /// CPUs kept out of ordinary scheduling.
    pub isolated: CpuList,
    /// Clock source of the kernel.
    pub clock_source: Option<String>,
    /// Memory in all.
    pub memory_total_bytes: Option<Bytes>,
    /// Memory and huge pages by node.
    pub nodes: Vec<NodeMemory>,
    /// Transparent huge pages (`always`, `madvise`, `never`).
    pub thp: Option<String>,
    /// When they are defragmented.
    pub thp_defrag: Option<String>,
    /// Soft limit of locked memory; null is no limit, or untold (`memlock_unlimited` says which).
    pub memlock_bytes: Option<Bytes>,
    /// Whether locked memory has no limit; null is untold.
    pub memlock_unlimited: Option<bool>,
    /// What control groups and the batch system let the run have; null in runs older than that.
    #[serde(default)]
    pub limits: Option<Limits>,
    /// Sockets and their nodes; none where the host does not tell packages.
    #[serde(default)]
    pub sockets: Vec<Socket>,
    /// Kernel settings by their sysctl names; those that this kernel lacks are not there.
    pub sysctls: BTreeMap<String, String>,
    /// Drives and other NVMe controllers.
    pub drives: Vec<Drive>,
    /// Network interfaces with a device, and RDMA devices.
    pub adapters: Vec<Adapter>,
    /// What could not be read or understood.
    pub notes: Vec<Note>,
}

/// Model of the CPUs, as the first one tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CpuModel {
    /// Vendor (`GenuineIntel`; on Arm the implementer's code).
    pub vendor: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// Microcode revision.
    pub microcode: Option<String>,
    /// Flags that matter to a measurement, of those that it has.
    pub flags: Vec<String>,
    /// CPUs online.
    pub online: CpuList,
    /// Physical cores with a CPU online.
    pub cores: usize,
    /// Packages with a CPU online.
    pub packages: usize,
}

/// A package: what is plugged into one socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Socket {
    /// Its number (`physical_package_id`).
    pub package: u32,
    /// Its CPUs that are online.
    pub cpus: CpuList,
    /// The nodes of these CPUs.
    pub nodes: NodeList,
    /// Whether it is divided into several nodes: Intel's sub-NUMA clusters, AMD's nodes per socket.
    pub divided: bool,
}

/// Memory of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeMemory {
    /// The node.
    pub node: NodeId,
    /// Memory in all.
    pub memory_total_bytes: Option<Bytes>,
    /// Memory free.
    pub memory_free_bytes: Option<Bytes>,
    /// Pools of huge pages.
    pub hugepages: Vec<Hugepages>,
}

/// A drive: an NVMe controller, or a disk of another kind that is not made of other disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drive {
    /// Name (`nvme0`, `sda`); null when no kernel driver names it.
    pub name: Option<String>,
    /// PCI function.
    pub pci: Option<PciAddress>,
    /// Node of the function.
    pub node: Option<NodeId>,
    /// Driver of the function.
    pub driver: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// A network interface or an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adapter {
    /// Name (`eth0`, `mlx5_0`).
    pub name: String,
    /// PCI function.
    pub pci: Option<PciAddress>,
    /// Node of the function.
    pub node: Option<NodeId>,
    /// Driver.
    pub driver: Option<String>,
    /// Model, where the driver tells one.
    pub model: Option<String>,
    /// Firmware version, where the driver tells one.
    pub firmware: Option<String>,
    /// Lasting identity: node GUID, or link-layer address.
    pub identity: Option<String>,
}

/// Whether the machine is a guest, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Guest {
    /// Whether it is a guest; `None` when nothing tells.
    pub is_guest: Option<bool>,
    /// The hypervisor's name, where firmware or `/sys/hypervisor` tells it.
    pub hypervisor: Option<String>,
    /// By what it was told.
    pub told_by: String,
}

/// A pool of huge pages of one size on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hugepages {
    /// Size of a page.
    pub page_bytes: Bytes,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody holds.
    pub free: Option<u64>,
}

/// One thing that could not be read or understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// Path below the root.
    pub path: String,
    /// What was wrong with it.
    pub why: String,
}
