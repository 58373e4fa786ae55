//! What the hosts of a cell's trials did meanwhile, taken together.

use std::collections::{BTreeMap, BTreeSet};

use strata_record::{CpuProof, FrequencySource, FunctionProof, HostProof, Proof, Role};
use strata_units::{CpuId, CpuList, PciAddress};

use crate::ports::{self, PortDigest, WireDigest};

/// Least and greatest of the trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Least.
    pub least: f64,
    /// Greatest.
    pub most: f64,
}

impl Range {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Range> {
        values.into_iter().fold(None, |so_far, value| {
            let range = so_far.unwrap_or(Range {
                least: value,
                most: value,
            });
            Some(Range {
                least: range.least.min(value),
                most: range.most.max(value),
            })
        })
    }
}

/// One CPU over all trials.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuDigest {
    /// The CPU.
    pub cpu: CpuId,
    /// Whose threads were to run on it.
    pub role: Role,
    /// Interrupts of the target's device in a trial; none when untold.
    pub device: Option<Range>,
    /// Interrupts of the local timer in a trial; none when untold.
    pub timer: Option<Range>,
    /// All other interrupts of a trial; none when untold.
    pub other: Option<Range>,
    /// Frequency in Hz, before and after all trials; none when untold.
    pub hertz: Option<Range>,
    /// Whether a frequency is only what `/proc/cpuinfo` tells.
    pub by_cpuinfo: bool,
    /// Governors of cpufreq, each once.
    pub governors: Vec<String>,
    /// Part of the CPU that the hypervisor took, from 0 to 1; none when untold.
    pub steal: Option<Range>,
    /// Part of the CPU that other threads took, from 0 to 1; none when untold.
    pub foreign: Option<Range>,
}

/// A vector of the device over all trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorDigest {
    /// Its name.
    pub name: String,
    /// Where it fired.
    pub cpus: CpuList,
    /// Most of one trial.
    pub most: u64,
}

/// What a device under the target counted, over all trials.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceDigest {
    /// Its name.
    pub name: String,
    /// Mean requests in it.
    pub depth: Range,
    /// Mean size of a request in bytes; none when it had none.
    pub bytes: Option<Range>,
}

/// Which drivers held a PCI function of the target, over all trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDigest {
    /// The function.
    pub function: PciAddress,
    /// Each driver once, with what its module tells of its version: `nvme (1.0)`; `none` where there was none.
    pub drivers: Vec<String>,
}

/// What the hosts of a cell's trials did meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct HostDigest {
    /// How many trials were watched.
    pub trials: usize,
    /// A line a CPU.
    pub cpus: Vec<CpuDigest>,
    /// Vectors of the device, most of one trial; none when untold.
    pub vectors: Option<u32>,
    /// Those that fired, by name.
    pub fired: Vec<VectorDigest>,
    /// PCI functions of the target and their drivers.
    pub functions: Vec<FunctionDigest>,
    /// Devices under the target, that on which it lies first.
    pub devices: Vec<DeviceDigest>,
    /// The hottest drive in degrees Celsius, before and after all trials; none when untold.
    pub celsius: Option<Range>,
    /// Segments that TCP sent again in a trial; none when no interface was watched.
    pub retransmitted: Option<Range>,
    /// Ports of RDMA devices, of both sides.
    pub ports: Vec<PortDigest>,
    /// Interfaces of both sides whose drivers told anything of the wire.
    pub wires: Vec<WireDigest>,
}

impl HostDigest {
    /// Of the proofs that have a host; none when none has.
    pub(crate) fn of<'p>(proofs: impl Iterator<Item = &'p Proof>) -> Option<Self> {
        let both: Vec<(&Proof, &HostProof)> =
            proofs.filter_map(|p| Some((p, p.host.as_ref()?))).collect();
        let hosts = || both.iter().map(|(_, host)| *host);
        let proofs: Vec<&Proof> = both.iter().map(|(proof, _)| *proof).collect();
        let (_, first) = both.first()?;
        Some(Self {
            trials: both.len(),
            cpus: first.cpus.iter().map(|like| cpu(like, &both)).collect(),
            vectors: hosts().filter_map(|h| h.vectors).max(),
            fired: fired(hosts()),
            functions: functions(hosts()),
            devices: first
                .devices
                .iter()
                .filter_map(|like| device(&like.name, hosts()))
                .collect(),
            celsius: Range::of(
                hosts()
                    .flat_map(|h| &h.drives)
                    .flat_map(|d| [d.before_celsius, d.after_celsius]),
            ),
            retransmitted: Range::of(
                hosts()
                    .filter_map(|h| h.tcp)
                    .map(|t| t.retransmitted as f64),
            ),
            ports: ports::ports(&proofs),
            wires: ports::wires(&proofs),
        })
    }
}

fn cpu(like: &CpuProof, both: &[(&Proof, &HostProof)]) -> CpuDigest {
    let found: Vec<(&Proof, &HostProof, &CpuProof)> = both
        .iter()
        .filter_map(|(proof, host)| {
            let cpu = host.cpus.iter().find(|c| c.cpu == like.cpu)?;
            Some((*proof, *host, cpu))
        })
        .collect();
    let interrupts = || found.iter().filter_map(|(_, _, c)| c.interrupts);
    let frequencies = || found.iter().filter_map(|(_, _, c)| c.frequency.as_ref());
    let mut governors: Vec<String> = frequencies().filter_map(|f| f.governor.clone()).collect();
    governors.sort();
    governors.dedup();
    CpuDigest {
        cpu: like.cpu,
        role: like.role,
        device: Range::of(interrupts().map(|i| i.device as f64)),
        timer: Range::of(interrupts().map(|i| i.timer as f64)),
        other: Range::of(interrupts().map(|i| {
            let told = i.device.saturating_add(i.timer);
            i.total.saturating_sub(told) as f64
        })),
        hertz: Range::of(frequencies().flat_map(|f| [f.before_hz as f64, f.after_hz as f64])),
        by_cpuinfo: frequencies().any(|f| f.source == FrequencySource::Cpuinfo),
        governors,
        steal: Range::of(found.iter().filter_map(|(_, host, c)| {
            let stolen = c.times?.steal_ns.as_secs_f64();
            (host.span_s > 0.0).then(|| stolen / host.span_s)
        })),
        foreign: Range::of(
            found
                .iter()
                .filter_map(|(proof, _, c)| proof.foreign_share(c)),
        ),
    }
}

fn fired<'h>(hosts: impl Iterator<Item = &'h HostProof>) -> Vec<VectorDigest> {
    let mut found: BTreeMap<&str, (Vec<CpuId>, u64)> = BTreeMap::new();
    for vector in hosts.flat_map(|h| &h.fired) {
        let sum = vector
            .counts
            .iter()
            .fold(0u64, |sum, c| sum.saturating_add(c.count));
        let (cpus, most) = found.entry(&vector.name).or_default();
        cpus.extend(vector.counts.iter().map(|c| c.cpu));
        *most = sum.max(*most);
    }
    found
        .into_iter()
        .map(|(name, (cpus, most))| VectorDigest {
            name: name.to_owned(),
            cpus: cpus.into(),
            most,
        })
        .collect()
}

fn functions<'h>(hosts: impl Iterator<Item = &'h HostProof>) -> Vec<FunctionDigest> {
    let mut found: BTreeMap<PciAddress, BTreeSet<String>> = BTreeMap::new();
    for held in hosts.flat_map(|h| &h.functions) {
        let drivers = found.entry(held.function).or_default();
        drivers.insert(driver(held));
        // The version is that of the later one.
        if held.before != held.after {
            drivers.insert(held.before.clone().unwrap_or_else(|| "none".to_owned()));
        }
    }
    found
        .into_iter()
        .map(|(function, drivers)| FunctionDigest {
            function,
            drivers: drivers.into_iter().collect(),
        })
        .collect()
}

fn driver(held: &FunctionProof) -> String {
    let Some(name) = &held.after else {
        return "none".to_owned();
    };
    let source = held.source_version.as_ref();
    let source = source.map(|checksum| format!("source {checksum}"));
    let told: Vec<String> = held.version.iter().cloned().chain(source).collect();
    match told.is_empty() {
        true => name.clone(),
        false => format!("{name} ({})", told.join(", ")),
    }
}

fn device<'h>(name: &str, hosts: impl Iterator<Item = &'h HostProof>) -> Option<DeviceDigest> {
    let found: Vec<_> = hosts
        .flat_map(|h| &h.devices)
        .filter(|d| d.name == name)
        .collect();
    Some(DeviceDigest {
        name: name.to_owned(),
        depth: Range::of(found.iter().map(|d| d.mean_depth))?,
        bytes: Range::of(found.iter().filter_map(|d| d.mean_bytes)),
    })
}
