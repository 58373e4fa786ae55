//! What the host did while a trial ran, told by its own counters before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use strata_record::{
    CgroupThrottling, CpuInterrupts, CpuProof, CpuSoftirqs, CpuThrottling, CpuTimes, DriveProof,
    FrequencySource, HostProof, InterfaceProof, LinkProof, LinkState, Reality, Role, TcpProof,
    VectorCount, VectorProof,
};
use strata_units::{CpuId, CpuList, Nanos, NodeId, PciAddress};

use crate::block::Disk;
use crate::counts::{CountRow, CountTable};
use crate::device_stat::{self, DeviceStat};
use crate::environment;
use crate::file::FileDevice;
use crate::pci::{self, PcieLink};
use crate::root::{Reader, Root, numbered};
use crate::thermal::{self, Temperature};
use crate::topology::Topology;
use crate::{cpu_time, frequency};

/// Devices made of more than this many others are told of in part.
const MOST_DISKS: usize = 64;

/// What is watched during a trial: nothing else is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchList {
    /// CPUs of the measuring threads.
    pub cpus: CpuList,
    /// CPUs of the other side's threads, where it is on this host.
    pub peer_cpus: CpuList,
    /// Disks whose counters are read (`dm-0`, `nvme0n1`): that on which the target lies, then what it is made of.
    pub disks: Vec<String>,
    /// Drives whose temperature is read (`nvme0`, `sda`).
    pub drives: Vec<String>,
    /// PCI functions whose links and interrupts are read.
    pub functions: Vec<PciAddress>,
    /// Virtio devices (`virtio1`), whose interrupts are known by this name where they hang from no PCI function.
    pub virtio: Vec<String>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
}

impl WatchList {
    /// What lies under a file or a block device: its disk, what that is made of, and their drives and functions.
    pub fn of_file(topology: &Topology, file: &FileDevice, cpus: CpuList) -> WatchList {
        let mut list = WatchList {
            cpus,
            ..WatchList::default()
        };
        let first = file.disk.as_deref().and_then(|name| topology.disk(name));
        let mut below: Vec<&Disk> = first.into_iter().collect();
        let mut at = 0;
        while let Some(disk) = below.get(at).copied() {
            at += 1;
            list.add_disk(topology, disk);
            for part in &disk.made_of {
                if let Some(next) = topology.disk_holding(part)
                    && below.len() < MOST_DISKS
                    && !below.iter().any(|known| known.name == next.name)
                {
                    below.push(next);
                }
            }
        }
        list
    }

    fn add_disk(&mut self, topology: &Topology, disk: &Disk) {
        self.disks.push(disk.name.clone());
        self.virtio.extend(disk.virtio.clone());
        let controllers: Vec<_> = topology
            .nvme
            .iter()
            .filter(|c| c.namespaces.contains(&disk.name))
            .collect();
        let functions = controllers.iter().filter_map(|c| c.pci).chain(disk.pci);
        for function in functions {
            if !self.functions.contains(&function) {
                self.functions.push(function);
            }
        }
        // What software or a hypervisor made has no temperature.
        let made = matches!(
            disk.judgement.reality,
            Some(Reality::Virtual | Reality::Software | Reality::Memory)
        );
        if !made && disk.made_of.is_empty() {
            let named: Vec<String> = controllers.iter().filter_map(|c| c.name.clone()).collect();
            let names = if named.is_empty() {
                vec![disk.name.clone()]
            } else {
                named
            };
            for name in names {
                if !self.drives.contains(&name) {
                    self.drives.push(name);
                }
            }
        }
    }

    /// Network interfaces with their functions; those that a bond or bridge stands on as well.
    pub fn of_interface(
        topology: &Topology,
        name: &str,
        cpus: CpuList,
        peer_cpus: CpuList,
    ) -> WatchList {
        let mut list = WatchList {
            cpus,
            peer_cpus,
            interfaces: vec![name.to_owned()],
            ..WatchList::default()
        };
        let mut at = 0;
        while let Some(name) = list.interfaces.get(at).cloned() {
            at += 1;
            let Some(interface) = topology.interfaces.iter().find(|i| i.name == name) else {
                continue;
            };
            list.functions.extend(interface.pci);
            list.virtio.extend(interface.virtio.clone());
            for lower in &interface.lower {
                if !list.interfaces.contains(lower) {
                    list.interfaces.push(lower.clone());
                }
            }
        }
        list
    }

    fn roles(&self) -> impl Iterator<Item = (CpuId, Role)> + '_ {
        let peer = self.peer_cpus.without(&self.cpus);
        let peer: Vec<CpuId> = peer.iter().collect();
        let measure = self.cpus.iter().map(|cpu| (cpu, Role::Measure));
        measure.chain(peer.into_iter().map(|cpu| (cpu, Role::Peer)))
    }
}

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
    interrupts: Option<CountTable>,
    softirqs: Option<CountTable>,
    times: BTreeMap<CpuId, CpuTimes>,
    devices: Vec<Option<DeviceStat>>,
    interfaces: Vec<Option<InterfaceProof>>,
    tcp: Option<TcpProof>,
}

/// What does not count, or counts slowly.
struct State {
    frequency: BTreeMap<CpuId, (FrequencySource, u64)>,
    throttled: BTreeMap<CpuId, CpuThrottling>,
    quota: Option<CgroupThrottling>,
    links: Vec<Link>,
    /// A drive, and what its sensor says.
    drives: Vec<(String, Option<Temperature>)>,
}

#[derive(Clone, Copy)]
struct Link {
    function: PciAddress,
    port: Option<PciAddress>,
    now: PcieLink,
    best: PcieLink,
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
        let vectors = interrupts
            .as_ref()
            .map(|table| (table, self.vectors(table)));
        let mut missing = Vec::new();
        let cpus = self
            .list
            .roles()
            .map(|(cpu, role)| CpuProof {
                cpu,
                role,
                node: nodes.get(&cpu).copied(),
                interrupts: vectors
                    .as_ref()
                    .filter(|(table, _)| table.has(cpu))
                    .map(|(table, of_device)| on_cpu(table, of_device, cpu)),
                softirqs: softirqs
                    .as_ref()
                    .filter(|table| table.has(cpu))
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
                ))
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
                .and_then(|(_, of_device)| u32::try_from(of_device.len()).ok()),
            fired: vectors
                .as_ref()
                .map_or_else(Vec::new, |(table, of_device)| {
                    of_device
                        .iter()
                        .filter_map(|row| fired(table, row, &nodes))
                        .collect()
                }),
            devices,
            drives: self.drives(&state),
            links: self.links(&state),
            interfaces,
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

    /// The rows of the watched devices' vectors.
    fn vectors<'t>(&self, table: &'t CountTable) -> Vec<&'t CountRow> {
        let numbers: BTreeSet<u32> = self
            .list
            .functions
            .iter()
            .flat_map(|function| vectors_of(&self.reader, *function))
            .collect();
        let by_name = |row: &CountRow| {
            row.handlers().split(", ").any(|handler| {
                let device = handler.split('-').next().unwrap_or(handler);
                self.list.virtio.iter().any(|virtio| virtio == device)
            })
        };
        table
            .rows()
            .filter(|row| {
                row.irq()
                    .is_some_and(|irq| numbers.contains(&irq) || by_name(row))
            })
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

    fn links(&self, after: &State) -> Vec<LinkProof> {
        let state = |link: PcieLink| LinkState {
            lane_bits_per_s: link.lane.0,
            width: link.width,
        };
        self.state
            .links
            .iter()
            .filter_map(|before| {
                let after = after.links.iter().find(|l| l.function == before.function)?;
                Some(LinkProof {
                    function: before.function,
                    port: before.port,
                    before: state(before.now),
                    after: state(after.now),
                    best: state(after.best),
                })
            })
            .collect()
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
        if host.vectors == Some(0) {
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
        if !self.list.interfaces.is_empty() && host.tcp.is_none() {
            missing.push("retransmissions: /proc/net/snmp does not tell".to_owned());
        }
    }
}

impl Look {
    fn read(reader: &Reader, list: &WatchList) -> Look {
        Look {
            interrupts: CountTable::read_with(reader, "proc/interrupts"),
            softirqs: CountTable::read_with(reader, "proc/softirqs"),
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

fn since(after: Option<&CountTable>, before: Option<&CountTable>) -> Option<CountTable> {
    Some(after?.difference(before?))
}

/// Numbers of a function's interrupts (`Documentation/ABI/testing/sysfs-bus-pci`, `msi_irqs`).
fn vectors_of(reader: &Reader, function: PciAddress) -> Vec<u32> {
    let folder = format!("{}/{function}", pci::FOLDER);
    let vectors = reader.numbered(&format!("{folder}/msi_irqs"), "");
    if !vectors.is_empty() {
        return vectors;
    }
    let one: Option<u32> = reader.value(&format!("{folder}/irq"), "an interrupt");
    one.filter(|irq| *irq > 0).into_iter().collect()
}

fn fired(
    table: &CountTable,
    row: &CountRow,
    nodes: &BTreeMap<CpuId, NodeId>,
) -> Option<VectorProof> {
    let counts: Vec<VectorCount> = table
        .counts(row)
        .map(|(cpu, count)| VectorCount {
            cpu,
            node: nodes.get(&cpu).copied(),
            count,
        })
        .collect();
    (!counts.is_empty()).then_some(VectorProof {
        irq: row.irq()?,
        name: row.handlers().to_owned(),
        counts,
    })
}

/// By what the kernel says of each row, which is the same on all architectures; its letters are not.
fn on_cpu(table: &CountTable, of_device: &[&CountRow], cpu: CpuId) -> CpuInterrupts {
    let sum = |wanted: &dyn Fn(&CountRow) -> bool| {
        table
            .rows()
            .filter(|row| wanted(row))
            .fold(0u64, |sum, row| sum.saturating_add(table.on(row, cpu)))
    };
    let says = |what: &'static str| sum(&|row| row.description.contains(what));
    CpuInterrupts {
        total: sum(&|_| true),
        device: of_device
            .iter()
            .fold(0u64, |sum, row| sum.saturating_add(table.on(row, cpu))),
        timer: says("Local timer interrupts")
            .saturating_add(sum(&|row| row.handlers() == "arch_timer")),
        reschedule: says("Rescheduling interrupts"),
        call: says("Function call interrupts"),
        tlb: says("TLB shootdowns"),
    }
}

fn soft(table: &CountTable, cpu: CpuId) -> CpuSoftirqs {
    let of = |label: &str| {
        let row = table.rows().find(|row| row.label == label);
        row.map_or(0, |row| table.on(row, cpu))
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

/// The links on the way from the functions to their root ports. A link has a function at its lower end and a port at its
/// upper one, and both tell it; inside a switch, between its ports, there is none. So every other function of the way up
/// tells one.
fn links(reader: &Reader, functions: &[PciAddress]) -> Vec<Link> {
    let mut found: Vec<Link> = Vec::new();
    for function in functions {
        let Some(path) = reader.real(&format!("{}/{function}", pci::FOLDER)) else {
            continue;
        };
        let way: Vec<PciAddress> = pci::functions_on(&path).rev().collect();
        for ends in way.chunks(2) {
            let [lower, ..] = ends else { continue };
            let port = ends.get(1).copied();
            let link =
                |of: PciAddress, which| pci::link(reader, &format!("{}/{of}", pci::FOLDER), which);
            let Some((now, own)) = link(*lower, "current").zip(link(*lower, "max")) else {
                continue;
            };
            let best = match port.and_then(|port| link(port, "max")) {
                Some(above) => PcieLink {
                    lane: own.lane.min(above.lane),
                    width: own.width.min(above.width),
                },
                None => own,
            };
            if !found.iter().any(|l| l.function == *lower) {
                found.push(Link {
                    function: *lower,
                    port,
                    now,
                    best,
                });
            }
        }
    }
    found
}
