//! What the host did while a trial ran: interrupts, frequency, heat, what the device counted, links and the wire.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, CpuId, Nanos, NodeId, PciAddress};

use crate::{Proof, RdmaPortProof, Role};

/// Changes of the host's own counters over a trial, and its state before and after.
///
/// The span begins when all threads are ready and before any starts, and ends when all have closed: it holds the ramp, the
/// window and the drain. What did not happen in the span did not happen in the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostProof {
    /// Length of the span in seconds.
    pub span_s: f64,
    /// The CPUs of the measuring threads, and those of the other side's where it is on this host.
    pub cpus: Vec<CpuProof>,
    /// Whether turbo (boost) was on at the end; null when the host does not say.
    pub turbo: Option<bool>,
    /// Time that the cgroups of this process took from it by their CPU quota; null when they have no such controller.
    pub cgroup: Option<CgroupThrottling>,
    /// Interrupt vectors that belong to the watched devices; null when there are no devices or nothing tells.
    pub vectors: Option<u32>,
    /// Those of them that fired in the span.
    pub fired: Vec<VectorProof>,
    /// Block devices under the target, that on which it lies first, then those that it is made of.
    pub devices: Vec<DeviceProof>,
    /// Temperatures of the drives under the target.
    pub drives: Vec<DriveProof>,
    /// PCI functions of the target, and the drivers that held them.
    #[serde(default)]
    pub functions: Vec<FunctionProof>,
    /// PCI Express links from the devices up to the root ports.
    pub links: Vec<LinkProof>,
    /// Network interfaces that the trial went through.
    pub interfaces: Vec<InterfaceProof>,
    /// Ports of RDMA devices that the trial went through.
    #[serde(default)]
    pub ports: Vec<RdmaPortProof>,
    /// What TCP counted, in the whole network namespace; null when no interface was watched.
    pub tcp: Option<TcpProof>,
}

/// One CPU over the span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuProof {
    /// The CPU.
    pub cpu: CpuId,
    /// Whose threads were to run on it.
    pub role: Role,
    /// Its memory node; null when untold.
    pub node: Option<NodeId>,
    /// Interrupts that it took; null when `/proc/interrupts` tells none.
    pub interrupts: Option<CpuInterrupts>,
    /// Software interrupts that it ran; null when `/proc/softirqs` tells none.
    pub softirqs: Option<CpuSoftirqs>,
    /// What its time went to; null when `/proc/stat` does not say.
    pub times: Option<CpuTimes>,
    /// Its frequency; null when nothing tells.
    pub frequency: Option<CpuFrequency>,
    /// How often heat slowed it; null where the CPU does not count that.
    pub throttled: Option<CpuThrottling>,
}

/// Interrupts that a CPU took in the span (`/proc/interrupts`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuInterrupts {
    /// All of them.
    pub total: u64,
    /// Those of the watched devices.
    pub device: u64,
    /// Local timer.
    pub timer: u64,
    /// Rescheduling: another CPU woke something here.
    pub reschedule: u64,
    /// Function calls from other CPUs.
    pub call: u64,
    /// TLB shootdowns.
    pub tlb: u64,
}

/// Software interrupts that a CPU ran in the span (`/proc/softirqs`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuSoftirqs {
    /// Timers.
    pub timer: u64,
    /// Packets received.
    pub net_rx: u64,
    /// Packets sent.
    pub net_tx: u64,
    /// Completions of block devices.
    pub block: u64,
    /// Balancing of the scheduler.
    pub sched: u64,
}

/// What a CPU's time in the span went to, in the kernel's steps of 10 ms (`/proc/stat`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuTimes {
    /// Threads outside the kernel, nice ones too; those of guests on this host are among them.
    pub user_ns: Nanos,
    /// Threads in the kernel.
    pub system_ns: Nanos,
    /// Interrupts, hardware's and software's.
    pub interrupt_ns: Nanos,
    /// Nothing, or waiting for storage.
    pub idle_ns: Nanos,
    /// Taken by the hypervisor for somebody else.
    pub steal_ns: Nanos,
}

/// Where a CPU's frequency was read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FrequencySource {
    /// `scaling_cur_freq` of cpufreq.
    Cpufreq,
    /// `cpu MHz` of `/proc/cpuinfo`, which is a constant on many guests.
    Cpuinfo,
}

/// Frequency of a CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuFrequency {
    /// Where it was read.
    pub source: FrequencySource,
    /// When all threads were ready, in Hz.
    pub before_hz: u64,
    /// When all threads had closed, in Hz.
    pub after_hz: u64,
    /// The least that the governor may choose, in Hz.
    pub min_hz: Option<u64>,
    /// The most that the governor may choose, in Hz.
    pub max_hz: Option<u64>,
    /// The frequency without turbo, in Hz; only some drivers tell it.
    pub base_hz: Option<u64>,
    /// Governor of cpufreq.
    pub governor: Option<String>,
    /// Driver of cpufreq.
    pub driver: Option<String>,
    /// Preference between energy and performance that the CPU itself is given.
    pub energy_preference: Option<String>,
}

/// How often heat or power slowed a CPU in the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuThrottling {
    /// Times that its core was slowed.
    pub core: u64,
    /// Times that its whole package was.
    pub package: u64,
}

/// What CPU quotas took from this process's cgroups in the span: its own and those above it added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupThrottling {
    /// Periods in which a quota was used up.
    pub periods: u64,
    /// Time that threads were held back, of all CPUs together.
    pub held_ns: Nanos,
}

/// An interrupt vector of a watched device that fired in the span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorProof {
    /// Number of the interrupt.
    pub irq: u32,
    /// Its name (`nvme0q3`, `virtio1-req.0`).
    pub name: String,
    /// Where it fired, how often.
    pub counts: Vec<VectorCount>,
}

/// How often a vector fired on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorCount {
    /// The CPU.
    pub cpu: CpuId,
    /// Its memory node; null when untold.
    pub node: Option<NodeId>,
    /// How often.
    pub count: u64,
}

/// What a block device counted in the span (`Documentation/block/stat.rst`), for whomever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceProof {
    /// Its name (`nvme0n1`, `dm-0`).
    pub name: String,
    /// Reads that completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: Bytes,
    /// Reads that were merged into others.
    pub read_merges: u64,
    /// Writes that completed.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: Bytes,
    /// Writes that were merged into others.
    pub write_merges: u64,
    /// Time in which it had anything to do, counted coarsely where requests overlap.
    pub busy_ns: Nanos,
    /// Time of all requests added up.
    pub queue_ns: Nanos,
    /// Mean number of requests in it over the span: `queue_ns` by the span.
    pub mean_depth: f64,
    /// Mean size of a request in bytes; null when it had none.
    pub mean_bytes: Option<f64>,
}

/// Temperature of a drive in degrees Celsius.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DriveProof {
    /// The drive (`nvme0`, `sda`).
    pub name: String,
    /// Before the trial.
    pub before_celsius: f64,
    /// After it.
    pub after_celsius: f64,
    /// From here on it warns; null when it tells no such threshold.
    pub warning_celsius: Option<f64>,
    /// From here on it is in danger; null when it tells no such threshold.
    pub critical_celsius: Option<f64>,
    /// Whether it raised its temperature alarm after the trial; null when it has none.
    pub alarm: Option<bool>,
}

/// Which driver held a PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionProof {
    /// The function.
    pub function: PciAddress,
    /// The driver before the trial; null when there was none.
    pub before: Option<String>,
    /// The driver after it; null when there was none.
    pub after: Option<String>,
    /// Version of the module of the driver after it (`/sys/module/NAME/version`); null when that tells none.
    pub version: Option<String>,
    /// Checksum of the module's source (`srcversion`); null when it tells none, as where it is built in.
    pub source_version: Option<String>,
}

/// A link of PCI Express, by lane rate and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkState {
    /// Raw bits a second of one lane, before encoding (16 GT/s is 16 000 000 000).
    pub lane_bits_per_s: u64,
    /// Lanes.
    pub width: u8,
}

/// A link of PCI Express between a function and the port above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkProof {
    /// The function at its lower end.
    pub function: PciAddress,
    /// The port at its upper end; null when a guest is not shown it.
    pub port: Option<PciAddress>,
    /// As trained before the trial.
    pub before: LinkState,
    /// As trained after it.
    pub after: LinkState,
    /// The best that both ends can.
    pub best: LinkState,
}

/// What a network interface counted in the span, for whomever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceProof {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: Bytes,
    /// Bytes sent.
    pub tx_bytes: Bytes,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped, received and sent ones.
    pub dropped: u64,
    /// Packets with errors, received and sent ones.
    pub errors: u64,
    /// Times that its link went down; null where the kernel does not count that.
    #[serde(default)]
    pub link_downs: Option<u64>,
    /// The driver's own statistics that changed (`ethtool -S`), by its names: of them pause by link and priority, discards,
    /// errors after and corrections by FEC, ECN marks and congestion notifications.
    #[serde(default)]
    pub statistics: BTreeMap<String, u64>,
    /// Forward error correction in use after the trial (`rs`, `baser`, `off`); null where the driver tells none.
    #[serde(default)]
    pub fec: Option<String>,
}

/// What TCP counted in the span, for every connection of the network namespace (RFC 4022; `/proc/net/netstat`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpProof {
    /// Segments sent.
    pub sent_segments: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Segments received in error.
    pub errors: u64,
    /// Segments sent again that were lost again.
    pub lost_retransmits: u64,
    /// Times that a retransmission timer ran out.
    pub timeouts: u64,
    /// Connections refused because a listener's queue was full.
    pub listen_overflows: u64,
    /// Segments dropped because a socket's backlog was full.
    pub backlog_drops: u64,
}

impl HostProof {
    /// The hottest drive after the trial, in degrees Celsius; none where no temperature is known.
    pub fn hottest_celsius(&self) -> Option<f64> {
        self.drives.iter().map(|d| d.after_celsius).reduce(f64::max)
    }

    /// Why heat held the trial back, by counts and thresholds: none when nothing says that it did.
    pub fn throttled(&self) -> Option<String> {
        let slowed: Vec<String> = self
            .cpus
            .iter()
            .filter(|c| c.throttled.is_some_and(|t| t.core + t.package > 0))
            .map(|c| c.cpu.to_string())
            .collect();
        if !slowed.is_empty() {
            return Some(format!("heat or power slowed CPU {}", slowed.join(", ")));
        }
        self.drives
            .iter()
            .find(|d| {
                d.alarm == Some(true) || d.critical_celsius.is_some_and(|c| d.after_celsius >= c)
            })
            .map(|d| format!("{} was critically hot ({:.0} °C)", d.name, d.after_celsius))
    }
}

impl Proof {
    /// The part of a CPU's span that threads other than those proved here took, from 0 to 1; none where the host was not
    /// watched or does not say. The kernel's threads on our behalf count as others. Times are in steps of 10 ms: what is
    /// below three of them is none.
    pub fn foreign_share(&self, cpu: &CpuProof) -> Option<f64> {
        const STEPS: Nanos = Nanos::from_millis(30);
        let host = self.host.as_ref()?;
        let times = cpu.times?;
        let ours = self
            .threads
            .iter()
            .filter(|t| t.asked.contains(cpu.cpu))
            .fold(Nanos(0), |sum, t| sum + t.user_ns + t.system_ns);
        let others = (times.user_ns + times.system_ns) - ours;
        if others < STEPS {
            return Some(0.0);
        }
        (host.span_s > 0.0).then(|| (others.as_secs_f64() / host.span_s).min(1.0))
    }
}
