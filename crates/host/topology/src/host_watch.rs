//! What the host did while a trial ran, told by its own counters before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use strata_record::{
    CgroupThrottling, CpuInterrupts, CpuProof, CpuSoftirqs, CpuThrottling, CpuTimes, DriveProof,
    FrequencySource, FunctionProof, HostProof, InterfaceProof, LinkProof, LinkState, TcpProof,
    VectorCount, VectorProof,
};
use strata_units::{CpuId, CpuList, Nanos, NodeId, PciAddress};

use crate::device_stat::{self, DeviceStat};
use crate::environment;
use crate::interrupts::{self, InterruptTable, Interrupts};
use crate::pci::{self, PcieLink};
use crate::port_counters::PortCounts;
use crate::root::{Reader, Root, numbered};
use crate::thermal::{self, Temperature};
use crate::tree::{self, PcieEdge};
use crate::watch_list::WatchList;
use crate::{cpu_time, frequency, holder};

/// Watches a host from [`HostWatch::start`] to [`HostWatch::finish`].
///
/// Both are to be called outside of the measuring threads: the first when they are ready and before any begins, the second
/// when all have closed, so that the span holds the window. Each takes some milliseconds, and a drive's temperature takes
/// a command to that drive: it is asked for before the counters are read, and after.
pub struct HostWatch<'a> {
    reader: Reader<'a>,
    list: &'a WatchList,
    all: CpuList,
    before: Look,
    state: State,
    begun: Instant,
}

/// Counters, read at once.
struct Look {
    interrupts: Option<InterruptTable>,
    softirqs: Option<InterruptTable>,
    times: BTreeMap<CpuId, CpuTimes>,
    devices: Vec<Option<DeviceStat>>,
    interfaces: Vec<Option<InterfaceProof>>,
    ports: Vec<Option<PortCounts>>,
    tcp: Option<TcpProof>,
}

/// What does not count, or counts slowly.
struct State {
    frequency: BTreeMap<CpuId, (FrequencySource, u64)>,
    throttled: BTreeMap<CpuId, CpuThrottling>,
    quota: Option<CgroupThrottling>,
    /// The driver of each function.
    drivers: Vec<Option<String>>,
    links: Vec<PcieEdge>,
    /// A drive, and what its sensor says.
    drives: Vec<(String, Option<Temperature>)>,
}

impl<'a> HostWatch<'a> {
    /// Takes the first look at what is on the list.
    pub fn start(root: &'a Root, list: &'a WatchList) -> HostWatch<'a> {
        let reader = Reader::new(root);
        let all: CpuList = list.roles().map(|(cpu, _)| cpu).collect();
        let state = State::read(&reader, list, &all);
        let before = Look::read(&reader, list);
        HostWatch {
            reader,
            list,
            all,
            before,
            state,
            begun: Instant::now(),
        }
    }

    /// Takes the second look: what changed, and what could not be found out, a sentence each.
    pub fn finish(self) -> (HostProof, Vec<String>) {
        let span = Nanos::from(self.begun.elapsed());
        let after = Look::read(&self.reader, self.list);
        let state = State::read(&self.reader, self.list, &self.all);
        let interrupts = since(after.interrupts.as_ref(), self.before.interrupts.as_ref());
        let softirqs = since(after.softirqs.as_ref(), self.before.softirqs.as_ref());
        let nodes = nodes(&self.reader);
        let vectors = after.interrupts.as_ref().map(|table| self.vectors(table));
        // Of these the table of what came has those that came.
        let came = interrupts.as_ref().zip(vectors.as_ref());
        let mut missing = Vec::new();
        let cpus = self
            .list
            .roles()
            .map(|(cpu, role)| CpuProof {
                cpu,
                role,
                node: nodes.get(&cpu).copied(),
                interrupts: came
                    .filter(|(table, _)| table.cpus.contains(&cpu))
                    .map(|(table, of_device)| on_cpu(table, of_device, cpu)),
                softirqs: softirqs
                    .as_ref()
                    .filter(|table| table.cpus.contains(&cpu))
                    .map(|table| soft(table, cpu)),
                times: self
                    .before
                    .times
                    .get(&cpu)
                    .zip(after.times.get(&cpu))
                    .map(|(before, after)| cpu_time::spent(*before, *after)),
                frequency: self.frequency(&state, cpu),
                throttled: self
                    .state
                    .throttled
                    .get(&cpu)
                    .zip(state.throttled.get(&cpu))
                    .map(|(before, after)| CpuThrottling {
                        core: after.core.saturating_sub(before.core),
                        package: after.package.saturating_sub(before.package),
                    }),
            })
            .collect();
        let devices = self
            .list
            .disks
            .iter()
            .zip(self.before.devices.iter().zip(&after.devices))
            .filter_map(|(name, (before, after))| Some((*after)?.since((*before)?, name, span)))
            .collect();
        let interfaces = self
            .before
            .interfaces
            .iter()
            .zip(&after.interfaces)
            .filter_map(|(before, after)| {
                Some(device_stat::interface_since(
                    before.as_ref()?,
                    after.as_ref()?,
                    &mut missing,
                ))
            })
            .collect();
        let ports = self.before.ports.iter().zip(&after.ports);
        let ports = ports.zip(&self.list.ports);
        let ports = ports
            .filter_map(|((before, after), (device, port))| {
                let (before, after) = (before.as_ref()?, after.as_ref()?);
                Some(after.since(before, (device, *port), span, &mut missing))
            })
            .collect();
        let devices_watched = !(self.list.functions.is_empty() && self.list.virtio.is_empty());
        let host = HostProof {
            span_s: span.as_secs_f64(),
            cpus,
            turbo: environment::turbo(&self.reader),
            cgroup: self
                .state
                .quota
                .zip(state.quota)
                .map(|(before, after)| CgroupThrottling {
                    periods: after.periods.saturating_sub(before.periods),
                    held_ns: after.held_ns - before.held_ns,
                }),
            vectors: vectors
                .as_ref()
                .filter(|_| devices_watched)
                .and_then(|of_device| u32::try_from(of_device.len()).ok()),
            fired: came.map_or_else(Vec::new, |(table, of_device)| {
                let fired = of_device
                    .iter()
                    .filter_map(|irq| fired(table, *irq, &nodes));
                fired.collect()
            }),
            devices,
            drives: self.drives(&state),
            functions: self.functions(&state),
            links: self.links(&state),
            interfaces,
            ports,
            tcp: self
                .before
                .tcp
                .zip(after.tcp)
                .map(|(before, after)| device_stat::tcp_since(before, after)),
        };
        self.missing(&host, &mut missing);
        // What the kernel refused stands in the notes: twice, where both looks met it.
        let notes: BTreeSet<String> = self
            .reader
            .into_notes()
            .into_iter()
            .map(|note| format!("/{}: {}", note.path, note.why))
            .collect();
        missing.extend(notes);
        (host, missing)
    }

    /// The numbers of the watched devices' vectors that the table has.
    fn vectors(&self, table: &InterruptTable) -> BTreeSet<u32> {
        let by_function = self.list.functions.iter().flat_map(|function| {
            interrupts::numbers_of(&self.reader, table, &pci::folder_of(*function))
        });
        let is_virtio = |line: &Interrupts| {
            line.owners().any(|owner| {
                let device = owner.split('-').next().unwrap_or(owner);
                self.list.virtio.iter().any(|virtio| virtio == device)
            })
        };
        let lines = table.lines.iter().filter(|(_, line)| is_virtio(line));
        let by_name = lines.filter_map(|(key, _)| numbered(key, ""));
        by_function
            .filter(|irq| table.of(*irq).is_some())
            .chain(by_name)
            .collect()
    }

    fn frequency(&self, after: &State, cpu: CpuId) -> Option<strata_record::CpuFrequency> {
        let (source, before_hz) = self.state.frequency.get(&cpu)?;
        let (_, after_hz) = after.frequency.get(&cpu).filter(|(s, _)| s == source)?;
        Some(frequency::governed(
            &self.reader,
            cpu,
            *source,
            (*before_hz, *after_hz),
        ))
    }

    fn drives(&self, after: &State) -> Vec<DriveProof> {
        let both = self.state.drives.iter().zip(&after.drives);
        both.filter_map(|((name, before), (_, after))| {
            let (before, after) = (before.as_ref()?, after.as_ref()?);
            Some(DriveProof {
                name: name.clone(),
                before_celsius: before.now,
                after_celsius: after.now,
                warning_celsius: after.warning,
                critical_celsius: after.critical,
                alarm: after.alarm,
            })
        })
        .collect()
    }

    fn functions(&self, after: &State) -> Vec<FunctionProof> {
        let both = self.state.drivers.iter().zip(&after.drivers);
        let functions = self.list.functions.iter().zip(both);
        functions
            .map(|(function, (before, after))| {
                holder::proof(&self.reader, *function, before.as_ref(), after.as_ref())
            })
            .collect()
    }

    fn links(&self, after: &State) -> Vec<LinkProof> {
        let state = |link: PcieLink| LinkState {
            lane_bits_per_s: link.lane.0,
            width: link.width,
        };
        let after_of = |port| after.links.iter().find(|link| link.port == port);
        self.state
            .links
            .iter()
            .filter_map(|before| {
                let after = after_of(before.port)?;
                Some(LinkProof {
                    function: before.below,
                    port: Some(before.port),
                    before: state(before.link?),
                    after: state(after.link?),
                    best: state(after.best?),
                })
            })
            .collect()
    }

    /// Whether all that is watched is with vfio-pci: it is polled then, and to have no interrupts is as it should be.
    fn is_polled(&self) -> bool {
        let with_vfio = |function: &PciAddress| {
            let driver = format!("{}/driver", pci::folder_of(*function));
            self.reader.link(&driver).as_deref() == Some("vfio-pci")
        };
        let functions = &self.list.functions;
        self.list.virtio.is_empty() && !functions.is_empty() && functions.iter().all(with_vfio)
    }

    /// What was to be watched and cannot be here, with what would help.
    fn missing(&self, host: &HostProof, missing: &mut Vec<String>) {
        let mut cpus = |none: fn(&CpuProof) -> bool, say: &dyn Fn(&CpuList) -> String| {
            let without: CpuList = host
                .cpus
                .iter()
                .filter(|c| none(c))
                .map(|c| c.cpu)
                .collect();
            if !without.is_empty() {
                missing.push(say(&without));
            }
        };
        cpus(|c| c.interrupts.is_none(), &|list| {
            format!(
                "interrupts of CPU {list}: /proc/interrupts does not tell (containers mask it); run outside"
            )
        });
        cpus(|c| c.times.is_none(), &|list| {
            format!("steal and other load of CPU {list}: /proc/stat does not tell")
        });
        cpus(|c| c.frequency.is_none(), &|list| {
            format!(
                "frequency of CPU {list}: no cpufreq (a guest has none), and /proc/cpuinfo does not tell"
            )
        });
        cpus(
            |c| {
                c.frequency
                    .as_ref()
                    .is_some_and(|f| f.source == FrequencySource::Cpuinfo)
            },
            &|list| {
                format!(
                    "governor and limits of CPU {list}: no cpufreq (a guest has none); its frequency is what /proc/cpuinfo tells"
                )
            },
        );
        cpus(|c| c.throttled.is_none(), &|list| {
            format!("throttling of CPU {list}: it does not count that (no thermal_throttle)")
        });
        for disk in &self.list.disks {
            if !host.devices.iter().any(|d| d.name == *disk) {
                missing.push(format!(
                    "what {disk} did: it keeps no counters; `echo 1 > /sys/block/{disk}/queue/iostats`"
                ));
            }
        }
        for name in &self.list.drives {
            if !host.drives.iter().any(|d| d.name == *name) {
                missing.push(format!(
                    "temperature of {name}: no sensor in hwmon (the kernel's CONFIG_NVME_HWMON, for SATA the module drivetemp)"
                ));
            }
            if numbered(name, "nvme").is_some() {
                missing.push(format!(
                    "throttling and critical warnings of {name} by its own count: they take its SMART log, an admin command that is not sent here"
                ));
            }
        }
        if !self.list.drives.is_empty() && !self.list.functions.is_empty() && host.links.is_empty()
        {
            missing.push("PCI Express links under the target: sysfs tells none".to_owned());
        }
        if host.vectors == Some(0) && !self.is_polled() {
            missing.push(
                "interrupts of the target's device: /proc/interrupts has no vector of it"
                    .to_owned(),
            );
        }
        for name in &self.list.interfaces {
            if !host.interfaces.iter().any(|i| i.name == *name) {
                missing.push(format!("counters of {name}: it is not in /sys/class/net"));
            }
        }
        for (device, port) in &self.list.ports {
            if !host
                .ports
                .iter()
                .any(|p| p.device == *device && p.port == *port)
            {
                missing.push(format!(
                    "what {device} port {port} did: it counts nothing, or is not in /sys/class/infiniband"
                ));
            }
        }
        for counted in self.before.interfaces.iter().flatten() {
            let name = &counted.name;
            let has_driver = || self.reader.exists(&format!("sys/class/net/{name}/device"));
            if !self.list.ports.is_empty() && counted.statistics.is_empty() && has_driver() {
                missing.push(format!(
                    "pause, discards and marks of {name}: its driver's statistics (`ethtool -S {name}`) tell none"
                ));
            }
        }
        if !self.list.interfaces.is_empty() && host.tcp.is_none() {
            missing.push("retransmissions: /proc/net/snmp does not tell".to_owned());
        }
    }
}

impl Look {
    fn read(reader: &Reader, list: &WatchList) -> Look {
        Look {
            interrupts: InterruptTable::read_with(reader, interrupts::TABLE),
            softirqs: InterruptTable::read_with(reader, interrupts::SOFT_TABLE),
            times: cpu_time::times(reader),
            devices: list
                .disks
                .iter()
                .map(|disk| DeviceStat::read(reader, disk))
                .collect(),
            interfaces: list
                .interfaces
                .iter()
                .map(|name| device_stat::interface(reader, name))
                .collect(),
            ports: list
                .ports
                .iter()
                .map(|(device, port)| PortCounts::read(reader, device, *port))
                .collect(),
            tcp: (!list.interfaces.is_empty())
                .then(|| device_stat::tcp(reader))
                .flatten(),
        }
    }
}

impl State {
    fn read(reader: &Reader, list: &WatchList, all: &CpuList) -> State {
        State {
            // First: a core that has nothing to do soon tells another frequency.
            frequency: frequency::now(reader, all),
            throttled: all
                .iter()
                .filter_map(|cpu| Some((cpu, frequency::throttled(reader, cpu)?)))
                .collect(),
            quota: cpu_time::quota(reader),
            drivers: holder::drivers(reader, &list.functions),
            links: links(reader, &list.functions),
            drives: list
                .drives
                .iter()
                .map(|name| {
                    let found =
                        thermal::sensor(reader, name).and_then(|at| thermal::read(reader, &at));
                    (name.clone(), found)
                })
                .collect(),
        }
    }
}

fn since(
    after: Option<&InterruptTable>,
    before: Option<&InterruptTable>,
) -> Option<InterruptTable> {
    Some(after?.difference(before?))
}

fn fired(table: &InterruptTable, irq: u32, nodes: &BTreeMap<CpuId, NodeId>) -> Option<VectorProof> {
    let line = table.of(irq)?;
    let by_cpu = table.cpus.iter().zip(&line.counts);
    let counts = by_cpu.filter(|(_, count)| **count > 0);
    Some(VectorProof {
        irq,
        name: line.name.clone(),
        counts: counts
            .map(|(cpu, count)| VectorCount {
                cpu: *cpu,
                node: nodes.get(cpu).copied(),
                count: *count,
            })
            .collect(),
    })
}

/// By what the kernel says of each line, which is the same on all architectures; its letters are not.
fn on_cpu(table: &InterruptTable, of_device: &BTreeSet<u32>, cpu: CpuId) -> CpuInterrupts {
    let on = |line: &Interrupts| table.on(line, cpu).unwrap_or_default();
    let sum = |wanted: &dyn Fn(&Interrupts) -> bool| {
        let lines = table.lines.values().filter(|line| wanted(line));
        lines.fold(0u64, |sum, line| sum.saturating_add(on(line)))
    };
    let says = |what: &'static str| sum(&|line| line.name.contains(what));
    let device = of_device.iter().filter_map(|irq| table.of(*irq));
    CpuInterrupts {
        total: sum(&|_| true),
        device: device.fold(0u64, |sum, line| sum.saturating_add(on(line))),
        timer: says("Local timer interrupts")
            .saturating_add(sum(&|line| line.name == "arch_timer")),
        reschedule: says("Rescheduling interrupts"),
        call: says("Function call interrupts"),
        tlb: says("TLB shootdowns"),
    }
}

fn soft(table: &InterruptTable, cpu: CpuId) -> CpuSoftirqs {
    let of = |label: &str| {
        let line = table.lines.get(label);
        line.and_then(|line| table.on(line, cpu))
            .unwrap_or_default()
    };
    CpuSoftirqs {
        timer: of("TIMER"),
        net_rx: of("NET_RX"),
        net_tx: of("NET_TX"),
        block: of("BLOCK"),
        sched: of("SCHED"),
    }
}

fn nodes(reader: &Reader) -> BTreeMap<CpuId, NodeId> {
    const FOLDER: &str = "sys/devices/system/node";
    let mut found = BTreeMap::new();
    for node in reader.numbered(FOLDER, "node") {
        let cpus: Option<CpuList> = reader.list(&format!("{FOLDER}/node{node}/cpulist"));
        let cpus = cpus.unwrap_or_default();
        found.extend(cpus.iter().map(|cpu| (cpu, NodeId(node))));
    }
    found
}

/// The links between the functions and the CPU, each once.
fn links(reader: &Reader, functions: &[PciAddress]) -> Vec<PcieEdge> {
    let above = pci::read_above(reader, functions);
    let mut found: Vec<PcieEdge> = Vec::new();
    for function in functions {
        for edge in tree::links_above(&above, *function) {
            if !found.iter().any(|known| known.port == edge.port) {
                found.push(edge);
            }
        }
    }
    found
}
