//! What to doubt of a trial by what the host did meanwhile. The rules never look at the figure: what was moved is held
//! against the device's counters, not against another trial.

use std::collections::BTreeSet;

use strata_record::{
    CpuProof, DeviceProof, FrequencySource, HostProof, LinkState, Proof, Role, Warning, WarningCode,
};
use strata_units::{Bytes, Nanos, NodeId, show};

use crate::port_doubts::port_doubts;

/// A frequency that changed by more than this part of it is no longer the same.
const FREQUENCY: f64 = 0.1;
/// More of a measuring CPU taken by the hypervisor is worth a word.
const STEAL: f64 = 0.01;
/// More of a measuring CPU taken by other threads is worth a word.
const FOREIGN: f64 = 0.05;
/// Times are counted in steps of 10 ms: less than three of them is nothing.
const STEPS: Nanos = Nanos::from_millis(30);
/// A device that counted less than this part of the bytes did not move them all.
const DEVICE_LEAST: f64 = 0.9;
/// A device that counted more than this multiple of what the trial's rate makes over the span moved something else too.
const DEVICE_MOST: f64 = 1.5;
/// Below this, what else a device moved is housekeeping.
const DEVICE_MORE: f64 = (4 << 20) as f64;
/// More of a device's interrupts on other nodes is worth a word.
const REMOTE: f64 = 0.1;

/// What the operations of the window ought to have left in the counters of the device under them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceWork {
    /// Bytes moved by the operations of the window.
    pub bytes: Bytes,
    /// Length of the window in seconds.
    pub window_s: f64,
    /// Whether operations read.
    pub reads: bool,
    /// Whether operations wrote.
    pub writes: bool,
}

/// The doubts, of each kind and layer one; none where the host was not watched. `work` is given where the operations go past the page
/// cache to the first of the proof's devices.
pub fn host_doubts(proof: &Proof, work: Option<&DeviceWork>) -> Vec<Warning> {
    let Some(host) = &proof.host else {
        return Vec::new();
    };
    let quota = host.cgroup.filter(|c| c.periods > 0).map(|c| {
        format!(
            "a CPU quota held threads back for {}; raise cpu.max of the cgroup",
            c.held_ns
        )
    });
    let foreign = |cpu: &CpuProof| proof.foreign_share(cpu).filter(|share| *share > FOREIGN);
    [
        (WarningCode::Throttled, throttled(host)),
        (WarningCode::Hot, hot(host)),
        (WarningCode::CpuQuota, quota),
        (WarningCode::Frequency, frequency(host)),
        (WarningCode::Governor, governor(host)),
        (WarningCode::Steal, worst(host, |cpu| steal(host, cpu)).map(|(cpu, share)| {
            format!("the hypervisor took {:.0} % of CPU {cpu} for others; measure on a host that is not shared", share * 100.0)
        })),
        (WarningCode::ForeignLoad, worst(host, foreign).map(|(cpu, share)| {
            format!("threads other than the trial's (the kernel's are among them) took {:.0} % of CPU {cpu}; give other --cpus, or stop what else runs", share * 100.0)
        })),
        (WarningCode::DeviceCounters, work.and_then(|work| device(host, work))),
        (WarningCode::Link, link(host)),
        (WarningCode::RemoteInterrupts, remote(host)),
        (WarningCode::Retransmissions, retransmitted(host)),
    ]
    .into_iter()
    .filter_map(|(code, text)| Some(Warning { code, text: text? }))
    .chain(port_doubts(proof))
    .collect()
}

fn throttled(host: &HostProof) -> Option<String> {
    let why = host.throttled()?;
    Some(format!("{why}; look at cooling and power limits"))
}

fn hot(host: &HostProof) -> Option<String> {
    let (drive, warning) = host.drives.iter().find_map(|d| {
        let warning = d.warning_celsius?;
        (d.before_celsius.max(d.after_celsius) >= warning).then_some((d, warning))
    })?;
    Some(format!(
        "{} went from {:.0} to {:.0} °C, and warns from {warning:.0} °C on; cool it",
        drive.name, drive.before_celsius, drive.after_celsius
    ))
}

/// The CPUs whose frequency is told by cpufreq: that of `/proc/cpuinfo` is a constant, or an idle core's.
fn frequency(host: &HostProof) -> Option<String> {
    host.cpus
        .iter()
        .filter(|cpu| cpu.role == Role::Measure)
        .find_map(|cpu| {
            let f = cpu.frequency.as_ref()?;
            let (before, after) = (f.before_hz as f64, f.after_hz as f64);
            let moved = (after - before).abs() > FREQUENCY * before;
            (f.source == FrequencySource::Cpufreq && moved).then(|| {
                format!(
                    "CPU {} ran at {} GHz before and {} GHz after; set the governor to performance",
                    cpu.cpu,
                    show::digits(before / 1e9),
                    show::digits(after / 1e9)
                )
            })
        })
}

fn governor(host: &HostProof) -> Option<String> {
    host.cpus
        .iter()
        .filter(|cpu| cpu.role == Role::Measure)
        .find_map(|cpu| {
            let governor = cpu.frequency.as_ref()?.governor.as_deref()?;
            (governor != "performance").then(|| {
                format!(
                    "the governor of CPU {} is {governor}: its frequency follows the load; `cpupower frequency-set -g performance`",
                    cpu.cpu
                )
            })
        })
}

fn steal(host: &HostProof, cpu: &CpuProof) -> Option<f64> {
    let stolen = cpu.times?.steal_ns;
    let share = stolen.as_secs_f64() / host.span_s;
    (stolen >= STEPS && share > STEAL).then_some(share)
}

/// The CPU with the greatest share, and that share.
fn worst(
    host: &HostProof,
    share: impl Fn(&CpuProof) -> Option<f64>,
) -> Option<(strata_units::CpuId, f64)> {
    let shares = host.cpus.iter().filter_map(|c| Some((c.cpu, share(c)?)));
    shares.max_by(|a, b| a.1.total_cmp(&b.1))
}

fn device(host: &HostProof, work: &DeviceWork) -> Option<String> {
    let device: &DeviceProof = host.devices.first()?;
    let part = |counts: bool, bytes: Bytes| if counts { bytes.0 as f64 } else { 0.0 };
    let found = part(work.reads, device.read_bytes) + part(work.writes, device.write_bytes);
    let moved = work.bytes.0 as f64;
    let name = &device.name;
    if found < DEVICE_LEAST * moved {
        return Some(format!(
            "{name} counted {} of the {} that the operations moved: the page cache or a layer below answered",
            show::amount(found),
            show::amount(moved)
        ));
    }
    // By its rate the trial moved so much in the ramp and the drain too.
    let ours = moved * (host.span_s / work.window_s).max(1.0);
    (work.window_s > 0.0 && found > DEVICE_MOST * ours && found - ours > DEVICE_MORE).then(|| {
        format!(
            "{name} moved {} where the operations moved about {}: something else used it, or a layer in between moves more",
            show::amount(found),
            show::amount(ours)
        )
    })
}

fn link(host: &HostProof) -> Option<String> {
    let words = |link: LinkState| {
        let rate = link.lane_bits_per_s as f64 / 1e9;
        format!("{rate} GT/s x{}", link.width)
    };
    host.links.iter().find_map(|link| {
        let function = link.function;
        if link.before != link.after {
            return Some(format!(
                "the link of {function} was {} before and is {} now: it was trained anew in mid-trial; look at its errors (AER) and seating",
                words(link.before),
                words(link.after)
            ));
        }
        let below = link.after.lane_bits_per_s < link.best.lane_bits_per_s
            || link.after.width < link.best.width;
        below.then(|| {
            format!(
                "the link of {function} is at {} and could be at {}; look at its slot and seating",
                words(link.after),
                words(link.best)
            )
        })
    })
}

/// Of the interrupts of the watched devices those on nodes where no thread of the trial was.
fn remote(host: &HostProof) -> Option<String> {
    let ours: BTreeSet<NodeId> = host.cpus.iter().filter_map(|c| c.node).collect();
    let known = host
        .fired
        .iter()
        .flat_map(|v| v.counts.iter())
        .filter_map(|c| Some((c.node?, c.count)));
    let (mut all, mut away, mut nodes) = (0, 0, BTreeSet::new());
    for (node, count) in known {
        all += count;
        if !ours.contains(&node) {
            away += count;
            nodes.insert(node);
        }
    }
    let nodes: strata_units::NodeList = nodes.into_iter().collect();
    (!ours.is_empty() && away as f64 > REMOTE * all as f64).then(|| {
        format!(
            "{away} of {all} interrupts of the device came to node {nodes}, where no thread of the trial was; set smp_affinity, or give --cpus there"
        )
    })
}

fn retransmitted(host: &HostProof) -> Option<String> {
    let tcp = host.tcp.filter(|t| t.retransmitted > 0)?;
    Some(format!(
        "TCP sent {} of {} segments again (all connections of this network namespace counted)",
        tcp.retransmitted, tcp.sent_segments
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_record::{
        CgroupThrottling, ClockProof, ClockSource, CpuFrequency, CpuThrottling, CpuTimes,
        DriveProof, InterfaceProof, LinkProof, TcpProof, ThreadProof, VectorCount, VectorProof,
    };
    use strata_units::CpuId;

    const GIB: f64 = (1 << 30) as f64;

    /// A trial of which nothing is to be doubted: CPU 3 on node 1, one second, 1 GiB read at a depth.
    fn sound() -> Proof {
        let link = LinkState {
            lane_bits_per_s: 16_000_000_000,
            width: 4,
        };
        let cpu = |cpu, role| CpuProof {
            cpu: CpuId(cpu),
            role,
            node: Some(NodeId(1)),
            interrupts: None,
            softirqs: None,
            times: Some(CpuTimes {
                user_ns: Nanos::from_millis(400),
                system_ns: Nanos::from_millis(520),
                steal_ns: Nanos::from_millis(20),
                ..CpuTimes::default()
            }),
            frequency: Some(CpuFrequency {
                source: FrequencySource::Cpufreq,
                before_hz: 3_000_000_000,
                after_hz: 3_200_000_000,
                min_hz: None,
                max_hz: None,
                base_hz: None,
                governor: Some("performance".to_owned()),
                driver: None,
                energy_preference: None,
            }),
            throttled: Some(CpuThrottling {
                core: 0,
                package: 0,
            }),
        };
        let thread = |cpu, role| ThreadProof {
            role,
            asked: vec![CpuId(cpu)].into(),
            mask: vec![CpuId(cpu)].into(),
            seen: vec![CpuId(cpu)].into(),
            samples: 2,
            migrations: Some(0),
            voluntary_switches: 0,
            involuntary_switches: 0,
            user_ns: Nanos::from_millis(400),
            system_ns: Nanos::from_millis(500),
        };
        Proof {
            threads: vec![thread(3, Role::Measure), thread(4, Role::Peer)],
            pages: Vec::new(),
            clock: ClockProof {
                source: ClockSource::Tsc,
                hertz: 1e9,
                error_ppm: 1.0,
                read_ns: 10.0,
            },
            host: Some(HostProof {
                span_s: 1.0,
                cpus: vec![cpu(3, Role::Measure), cpu(4, Role::Peer)],
                cgroup: Some(CgroupThrottling::default()),
                fired: vec![VectorProof {
                    irq: 7,
                    name: "nvme0q1".to_owned(),
                    counts: vec![
                        VectorCount {
                            cpu: CpuId(3),
                            node: Some(NodeId(1)),
                            count: 1000,
                        },
                        VectorCount {
                            cpu: CpuId(0),
                            node: Some(NodeId(0)),
                            count: 50,
                        },
                    ],
                }],
                devices: vec![DeviceProof {
                    name: "nvme0n1".to_owned(),
                    reads: 1,
                    read_bytes: Bytes(1_200_000_000),
                    read_merges: 0,
                    writes: 1,
                    write_bytes: Bytes(4096),
                    write_merges: 0,
                    busy_ns: Nanos(0),
                    queue_ns: Nanos(0),
                    mean_depth: 0.0,
                    mean_bytes: None,
                }],
                drives: vec![DriveProof {
                    name: "nvme0".to_owned(),
                    before_celsius: 40.0,
                    after_celsius: 60.0,
                    warning_celsius: Some(70.0),
                    critical_celsius: Some(80.0),
                    alarm: Some(false),
                }],
                links: vec![LinkProof {
                    function: "0000:81:00.0".parse().expect("an address"),
                    port: None,
                    before: link,
                    after: link,
                    best: link,
                }],
                tcp: Some(TcpProof {
                    sent_segments: 1000,
                    ..TcpProof::default()
                }),
                ..HostProof::default()
            }),
            peer_host: None,
            connections: Vec::new(),
            queue_pairs: Vec::new(),
            contradictions: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn work() -> DeviceWork {
        DeviceWork {
            bytes: Bytes::GIB,
            window_s: 0.95,
            reads: true,
            writes: false,
        }
    }

    #[test]
    fn a_sound_trial_gives_nothing_to_doubt() {
        assert_eq!(host_doubts(&sound(), Some(&work())), []);
        let mut unwatched = sound();
        unwatched.host = None;
        assert_eq!(host_doubts(&unwatched, Some(&work())), []);
        let mut untold = sound();
        untold.host = Some(HostProof {
            span_s: 1.0,
            ..HostProof::default()
        });
        assert_eq!(host_doubts(&untold, Some(&work())), []);
    }

    #[test]
    fn each_doubt_has_its_cause() {
        type Harm = fn(&mut HostProof);
        let harms: [(WarningCode, Harm, &str); 15] = [
            (
                WarningCode::Throttled,
                |h| {
                    h.cpus[0].throttled = Some(CpuThrottling {
                        core: 0,
                        package: 1,
                    })
                },
                "slowed CPU 3",
            ),
            (
                WarningCode::Throttled,
                |h| h.drives[0].alarm = Some(true),
                "nvme0 was critically hot (60 °C)",
            ),
            (
                WarningCode::Hot,
                |h| h.drives[0].before_celsius = 70.0,
                "warns from 70 °C",
            ),
            (
                WarningCode::CpuQuota,
                |h| {
                    h.cgroup = Some(CgroupThrottling {
                        periods: 1,
                        held_ns: Nanos::from_millis(5),
                    });
                },
                "held threads back for 5ms",
            ),
            (
                WarningCode::Frequency,
                |h| h.cpus[0].frequency.as_mut().expect("told").after_hz = 2_600_000_000,
                "3.00 GHz before and 2.60 GHz after",
            ),
            (
                WarningCode::Governor,
                |h| {
                    h.cpus[0].frequency.as_mut().expect("told").governor =
                        Some("powersave".to_owned());
                },
                "is powersave",
            ),
            (
                WarningCode::Steal,
                |h| h.cpus[1].times.as_mut().expect("told").steal_ns = Nanos::from_millis(40),
                "4 % of CPU 4",
            ),
            (
                WarningCode::ForeignLoad,
                |h| h.cpus[0].times.as_mut().expect("told").user_ns = Nanos::from_millis(450),
                "7 % of CPU 3",
            ),
            (
                WarningCode::DeviceCounters,
                |h| h.devices[0].read_bytes = Bytes(900_000_000),
                "answered",
            ),
            (
                WarningCode::DeviceCounters,
                |h| h.devices[0].read_bytes = Bytes(2_000_000_000),
                "something else used it",
            ),
            (
                WarningCode::Link,
                |h| h.links[0].best.lane_bits_per_s = 32_000_000_000,
                "at 16 GT/s x4 and could be at 32 GT/s x4",
            ),
            (
                WarningCode::Link,
                |h| h.links[0].before.width = 8,
                "trained anew",
            ),
            (
                WarningCode::RemoteInterrupts,
                |h| h.fired[0].counts[1].count = 500,
                "500 of 1500 interrupts of the device came to node 0",
            ),
            (
                WarningCode::Retransmissions,
                |h| h.tcp.as_mut().expect("told").retransmitted = 1,
                "1 of 1000 segments",
            ),
            (
                WarningCode::LinkDown,
                |h| {
                    h.interfaces.push(InterfaceProof {
                        name: "eth2".to_owned(),
                        link_downs: Some(1),
                        ..InterfaceProof::default()
                    });
                },
                "went down in mid-trial at eth2",
            ),
        ];
        for (code, harm, said) in harms {
            let mut proof = sound();
            harm(proof.host.as_mut().expect("watched"));
            let found = host_doubts(&proof, Some(&work()));
            assert_eq!(
                found.iter().map(|w| w.code).collect::<Vec<_>>(),
                [code],
                "{said}: {found:?}"
            );
            assert!(found[0].text.contains(said), "{}", found[0].text);
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_doubted() {
        let mut proof = sound();
        let host = proof.host.as_mut().expect("watched");
        let frequency = host.cpus[0].frequency.as_mut().expect("told");
        // An idle peer's clock, and a number that never changes for any reason of ours.
        (frequency.source, frequency.after_hz) = (FrequencySource::Cpuinfo, 1);
        host.cpus[1].frequency.as_mut().expect("told").after_hz = 1;
        // Two steps of 10 ms of a short span.
        host.span_s = 0.2;
        host.cpus[0].times.as_mut().expect("told").steal_ns = Nanos::from_millis(20);
        assert_eq!(host_doubts(&proof, None), []);
    }

    #[test]
    fn writes_are_held_against_writes() {
        let mut wrote = work();
        (wrote.reads, wrote.writes) = (false, true);
        let found = host_doubts(&sound(), Some(&wrote));
        assert!(
            found[0].text.starts_with("nvme0n1 counted 4.00 KiB"),
            "{found:?}"
        );
        // Mixed: what was read and written together.
        let mut mixed = sound();
        let host = mixed.host.as_mut().expect("watched");
        host.devices[0].read_bytes = Bytes((0.6 * GIB) as u64);
        host.devices[0].write_bytes = Bytes((0.4 * GIB) as u64);
        wrote.reads = true;
        assert_eq!(host_doubts(&mixed, Some(&wrote)), []);
    }
}
