//! A record and a run in which nothing is null or empty, so that every field of the schema is met.

use std::collections::BTreeMap;

use strata_record::{
    Adapter, Arrivals, Binding, Bound, Built, Ceiling, CeilingKind, Cell, CgroupThrottling,
    ClockProof, ClockSource, Completes, Connect, ConnectionsProof, Cost, CpuFrequency,
    CpuInterrupts, CpuModel, CpuProof, CpuSoftirqs, CpuThrottling, CpuTimes, DeviceProof,
    Direction, Drive, DriveProof, Driver, Environment, Flow, FrequencySource, FunctionProof, Guest,
    Harness, HostProof, Hugepages, HugetlbBound, InterfaceLayout, InterfaceProof, Latency, Layer,
    Limits, LinkProof, LinkState, Measured, NodeMemory, Note, Op, Open, PagesProof, Percentiles,
    Placement, Plan, Polling, Preconditioning, Proof, QueuePairsProof, Quota, Rail, Rate, RdmaEnd,
    RdmaPortProof, Reality, Record, Role, Run, Series, Slurm, Socket, Sockets, Spread,
    Stationarity, Status, StreamCandidate, StreamSweep, Target, TargetKind, TcpProof, ThreadProof,
    TimedBy, Transport, VectorCount, VectorProof, Verbs, Warning, WarningCode, Workload,
    ZeroCopyProof,
};
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos, NodeId, PciAddress, QueueDepth};

/// The run that [`record`] and [`run`] are of.
pub(crate) const RUN: &str = "20260102T030405Z-full";

fn cell() -> Cell {
    Cell {
        layer: Layer::Block,
        engine: "io_uring".to_owned(),
        reality: Reality::Hardware,
        target: Target {
            kind: TargetKind::File,
            identity: "xfs on nvme0n1p2, serial S\u{2192}1".to_owned(),
            region_from_bytes: ByteOffset(4096),
            region_bytes: Some(Bytes::GIB),
            node: Some(NodeId(0)),
        },
        via: "/var/tmp/strata.data".to_owned(),
        workload: Workload {
            op: Op::RandRw { read_percent: 70 },
            block_bytes: Bytes(4096),
            reply_bytes: Some(Bytes(64)),
            depth: QueueDepth::new(32).expect("a depth"),
            threads: 2,
            streams: 4,
            direction: Some(Direction::Both),
            random_map: true,
            rate: Some(Rate {
                ops_per_s: 10_000,
                arrivals: Arrivals::Poisson,
            }),
            duration_ns: Some(Nanos::SECOND),
            ops: Some(1_000_000),
            ramp_ns: Nanos::from_millis(100),
            timed_by: TimedBy::Batch,
            verify: true,
        },
        timeout_ns: Some(Nanos(5_000_000_000)),
        sockets: Some(Sockets {
            nodelay: false,
            send_buffer_bytes: Some(Bytes::MIB),
            receive_buffer_bytes: Some(Bytes::MIB),
            congestion: Some("cubic".to_owned()),
            busy_poll_ns: Some(Nanos(50_000)),
            interface: Some("eth0".to_owned()),
        }),
        verbs: Some(Verbs {
            transport: Transport::Uc,
            connect: Connect::Cm,
            mtu_bytes: Some(Bytes(1024)),
            reads: Some(4),
            ..Verbs::over(vec![Rail {
                ours: end("mlx5_0"),
                theirs: end("mlx5_1"),
            }])
        }),
        binding: Some(Binding {
            function: "0000:81:00.0".parse().expect("an address"),
            driver: Driver::Nvme,
        }),
        placement: Placement {
            cpus: vec![CpuId(2), CpuId(3)].into(),
            poll_cpus: vec![CpuId(4)].into(),
            peer_cpus: vec![CpuId(1)].into(),
            mem_node: Some(NodeId(0)),
        },
    }
}

/// A trial that has everything a trial can have.
pub(crate) fn record() -> Record {
    Record {
        trial: 3,
        round: 1,
        attempt: 1,
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        started_s: 12.25,
        switch_s: Some(1.5),
        seed: u64::MAX,
        status: Status::Ok,
        reason: Some("a reason".to_owned()),
        result: Some(measured()),
        cost: Some(Cost {
            cpu_ns_per_op: 812.0,
            system_share: Some(0.75),
            peer_cpu_ns_per_op: Some(77.5),
            instructions_per_op: Some(2345.0),
        }),
        proof: Some(proof()),
        ceiling: Some(Ceiling {
            ops_per_s: Some(1e6),
            bytes_per_s: Some(4.096e9),
            bound_by: "the measuring core".to_owned(),
            kind: CeilingKind::Measured,
            share: Some(0.123_456_7),
        }),
        bounds: vec![Ceiling {
            ops_per_s: Some(2e6),
            bytes_per_s: Some(7.877e9),
            bound_by: "link of 0000:81:00.0 (16 GT/s x4)".to_owned(),
            kind: CeilingKind::Nominal,
            share: Some(0.01),
        }],
        harness: Some(Harness {
            ns_per_op: 10.1,
            ops: 1_500_000,
        }),
        warnings: vec![Warning {
            code: WarningCode::NotStationary,
            text: "the rate moved".to_owned(),
        }],
        ..Record::new(RUN, cell())
    }
}

fn measured() -> Measured {
    Measured {
        ops: 123_457,
        window_s: 1.000_000_321,
        ops_per_s: 123_456.960_371,
        bytes_per_s: Some(505_679_709.7),
        errors: 0,
        lost: 0,
        completes: Completes::Device,
        latency_ns: Some(Latency {
            min: 81_023.0,
            mean: 259_187.4,
            percentiles: Percentiles {
                p50: Some(241_663.0),
                p90: Some(331_775.0),
                p99: Some(561_151.0),
                p999: Some(1_204_223.0),
                p9999: Some(2_097_151.0),
            },
            max: 2_400_255.0,
            count: 123_457,
            batch_error_ns: Some(900.0),
            histogram: "HISTFAAAAB94nJNpmSzMwMDAxAABzFCaEUoz2X+AsgAALEECFA==".to_owned(),
        }),
        series: Series {
            interval_s: 0.5,
            ops: vec![61_728, 61_729],
        },
        stationarity: Some(Stationarity {
            slope: -0.001,
            excursion: 0.02,
            stationary: true,
        }),
        mean_depth: Some(31.98),
        open: Some(Open {
            offered_ops_per_s: 10_000.0,
            unstarted: 3,
            mean_wait_ns: Some(1_500.0),
        }),
        flows: vec![Flow {
            direction: Direction::Receive,
            ops: 61_728,
            bytes_per_s: 252_839_854.8,
            window_s: 1.000_000_321,
            overlap: 0.999_6,
        }],
        polling: Some(Polling {
            polls: 250_000,
            empty: 200_000,
            completions_per_poll: Some(2.5),
        }),
    }
}

fn proof() -> Proof {
    Proof {
        threads: vec![ThreadProof {
            role: Role::Measure,
            asked: vec![CpuId(2)].into(),
            mask: vec![CpuId(2)].into(),
            seen: vec![CpuId(2)].into(),
            samples: 22,
            migrations: Some(0),
            voluntary_switches: 12,
            involuntary_switches: 3,
            user_ns: Nanos::from_millis(200),
            system_ns: Nanos::from_millis(700),
        }],
        pages: vec![PagesProof {
            node: Some(NodeId(0)),
            pages: 32,
            page_bytes: Bytes(4096),
        }],
        clock: ClockProof {
            source: ClockSource::Tsc,
            hertz: 2_399_999_017.3,
            error_ppm: 1.5,
            read_ns: 14.0,
        },
        host: Some(host()),
        peer_host: Some(host()),
        connections: vec![connections()],
        queue_pairs: vec![queue_pairs()],
        contradictions: vec!["seen on CPU 4".to_owned()],
        missing: vec!["migrations: not told".to_owned()],
    }
}

fn queue_pairs() -> QueuePairsProof {
    QueuePairsProof {
        role: Role::Peer,
        end: end("mlx5_1"),
        node: Some(NodeId(1)),
        count: 4,
        link_layer: "Ethernet".to_owned(),
        gid: Some("::ffff:192.0.2.1".to_owned()),
        pkey: 0xffff,
        mtu_bytes: Bytes(4096),
        inline_bytes: Bytes(220),
        reads: 16,
        ops: 1000,
        bytes: Bytes::MIB,
        received: 0,
        memory_bytes: Bytes::MIB,
        seen_by: Some("memory".to_owned()),
    }
}

fn end(device: &str) -> RdmaEnd {
    RdmaEnd {
        device: device.to_owned(),
        port: 1,
        gid_index: Some(3),
    }
}

fn connections() -> ConnectionsProof {
    let spread = Spread::of([16_384, 2_626_560]);
    ConnectionsProof {
        role: Role::Measure,
        direction: Some(Direction::Send),
        count: 2,
        family: "ipv4".to_owned(),
        congestion: vec!["cubic".to_owned()],
        nodelay: true,
        send_buffer_bytes: spread,
        receive_buffer_bytes: spread,
        busy_poll_us: Spread::of([0]),
        mss_bytes: Spread::of([32_768]),
        rtt_us: Spread::of([21, 35]),
        rttvar_us: Spread::of([4]),
        min_rtt_us: Spread::of([9]),
        send_window_segments: Spread::of([10, 12]),
        reordering_segments: Spread::of([3]),
        pacing_bytes_per_s: spread,
        sent_segments: Some(100_000),
        retransmitted_segments: Some(1),
        retransmitted_bytes: Some(32_768),
        lost_segments: Some(0),
        delivered_segments: Some(100_000),
        busy_us: spread,
        rwnd_limited_us: Spread::of([0]),
        sndbuf_limited_us: Spread::of([0]),
        zerocopy: Some(ZeroCopyProof {
            sends: 10,
            completions: 10,
            copied: 10,
            no_room: 1,
        }),
        interface: Some(InterfaceLayout {
            name: "eth0".to_owned(),
            driver: Some("virtio_net".to_owned()),
            receive_queues: vec![vec![CpuId(1)].into(), CpuList::default()],
            send_queues: 2,
            mtu_bytes: Some(Bytes(1500)),
        }),
    }
}

fn counts<const N: usize>(named: [(&str, u64); N]) -> BTreeMap<String, u64> {
    named.map(|(name, n)| (name.to_owned(), n)).into()
}

fn host() -> HostProof {
    let link = LinkState {
        lane_bits_per_s: 16_000_000_000,
        width: 4,
    };
    HostProof {
        span_s: 1.125,
        cpus: vec![CpuProof {
            cpu: CpuId(2),
            role: Role::Measure,
            node: Some(NodeId(0)),
            interrupts: Some(CpuInterrupts {
                total: 123_999,
                device: 123_457,
                timer: 500,
                reschedule: 30,
                call: 7,
                tlb: 5,
            }),
            softirqs: Some(CpuSoftirqs {
                timer: 500,
                net_rx: 3,
                net_tx: 1,
                block: 123_457,
                sched: 250,
            }),
            times: Some(CpuTimes {
                user_ns: Nanos::from_millis(200),
                system_ns: Nanos::from_millis(710),
                interrupt_ns: Nanos::from_millis(20),
                idle_ns: Nanos::from_millis(180),
                steal_ns: Nanos::from_millis(10),
            }),
            frequency: Some(CpuFrequency {
                source: FrequencySource::Cpufreq,
                before_hz: 3_400_000_000,
                after_hz: 3_500_123_000,
                min_hz: Some(800_000_000),
                max_hz: Some(3_700_000_000),
                base_hz: Some(2_400_000_000),
                governor: Some("performance".to_owned()),
                driver: Some("intel_pstate".to_owned()),
                energy_preference: Some("performance".to_owned()),
            }),
            throttled: Some(CpuThrottling {
                core: 0,
                package: 1,
            }),
        }],
        turbo: Some(true),
        cgroup: Some(CgroupThrottling {
            periods: 2,
            held_ns: Nanos::from_millis(12),
        }),
        vectors: Some(33),
        fired: vec![VectorProof {
            irq: 77,
            name: "nvme0q3".to_owned(),
            counts: vec![VectorCount {
                cpu: CpuId(2),
                node: Some(NodeId(0)),
                count: 123_457,
            }],
        }],
        devices: vec![DeviceProof {
            name: "nvme0n1".to_owned(),
            reads: 100_000,
            read_bytes: Bytes(409_600_000),
            read_merges: 1,
            writes: 23_457,
            write_bytes: Bytes(96_079_872),
            write_merges: 2,
            busy_ns: Nanos::from_millis(1_100),
            queue_ns: Nanos::from_millis(33_000),
            mean_depth: 29.33,
            mean_bytes: Some(4096.0),
        }],
        drives: vec![DriveProof {
            name: "nvme0".to_owned(),
            before_celsius: 38.85,
            after_celsius: 41.85,
            warning_celsius: Some(69.85),
            critical_celsius: Some(74.85),
            alarm: Some(false),
        }],
        functions: vec![FunctionProof {
            function: "0000:81:00.0".parse().expect("an address"),
            before: Some("nvme".to_owned()),
            after: Some("nvme".to_owned()),
            version: Some("1.0".to_owned()),
            source_version: Some("92F8D6A0C8F2B1E4D3A5C6B".to_owned()),
        }],
        links: vec![LinkProof {
            function: "0000:81:00.0".parse().expect("an address"),
            port: Some("0000:80:01.0".parse().expect("an address")),
            before: link,
            after: link,
            best: link,
        }],
        interfaces: vec![InterfaceProof {
            name: "eth0".to_owned(),
            rx_bytes: Bytes(1_000_000),
            tx_bytes: Bytes(2_000_000),
            rx_packets: 1_000,
            tx_packets: 2_000,
            dropped: 1,
            errors: 2,
            link_downs: Some(1),
            statistics: counts([("rx_prio3_pause", 12), ("rx_discards_phy", 3)]),
            fec: Some("rs".to_owned()),
        }],
        ports: vec![RdmaPortProof {
            device: "mlx5_0".to_owned(),
            port: 1,
            sent_bytes: Some(Bytes::GIB),
            received_bytes: Some(Bytes::MIB),
            sent_packets: Some(262_144),
            received_packets: Some(16_384),
            xmit_wait_ticks: Some(512),
            retransmissions: Some(5),
            out_of_sequence: Some(6),
            receiver_not_ready: Some(7),
            cnps_sent: Some(8),
            cnps_handled: Some(9),
            ecn_marked: Some(10),
            discards: Some(0),
            errors: counts([("symbol_error", 1), ("port_xmit_discards", 0)]),
            hw_counters: counts([("packet_seq_err", 5), ("rx_write_requests", 1_000)]),
        }],
        tcp: Some(TcpProof {
            sent_segments: 3_000,
            retransmitted: 4,
            errors: 1,
            lost_retransmits: 2,
            timeouts: 3,
            listen_overflows: 5,
            backlog_drops: 6,
        }),
    }
}

/// The run that [`record`] is a trial of.
pub(crate) fn run() -> Run {
    Run {
        schema: strata_record::SCHEMA,
        id: RUN.to_owned(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        command: vec!["strata".to_owned(), "run".to_owned(), "quick".to_owned()],
        own_files: vec!["/data/run/target.dat".to_owned()],
        peers: vec![environment()],
        sweeps: vec![StreamSweep {
            of: "tcp stream 128KiB".to_owned(),
            candidates: vec![StreamCandidate {
                threads: 2,
                streams: 4,
                bytes_per_s: vec![1e9, 1.1e9],
            }],
            chosen: 0,
            sure: true,
        }],
        preconditioning: vec![Preconditioning {
            via: "/dev/nvme0n1".to_owned(),
            bytes: Bytes::GIB,
            seconds: 12.5,
            workload: Some("randwrite 4KiB qd32".to_owned()),
            rounds_ops_per_s: vec![1e5, 1.1e5],
            steady: true,
        }],
        built: Built {
            version: "0.1.0".to_owned(),
            commit: Some("0123456789ab-dirty".to_owned()),
            profile: "release".to_owned(),
        },
        plan: Plan {
            name: "quick".to_owned(),
            cells: vec![cell()],
            rounds: 8,
            seed: u64::MAX,
        },
        environment: environment(),
    }
}

fn limits() -> Limits {
    let text = |text: &str| Some(text.to_owned());
    let bound = |gib| Bound {
        bytes: Bytes::GIB * gib,
        cgroup: "sys/fs/cgroup/job_77".to_owned(),
    };
    Limits {
        cgroup: text("sys/fs/cgroup/job_77/step_0"),
        memory_max: Some(bound(8)),
        memory_high: Some(bound(4)),
        hugetlb: vec![HugetlbBound {
            page: "2MB".to_owned(),
            bound: bound(1),
        }],
        cpu_quota: Some(Quota {
            quota: Nanos(250_000_000),
            period: Nanos(100_000_000),
            cgroup: "sys/fs/cgroup/job_77".to_owned(),
        }),
        slurm: Some(Slurm {
            job: "77".to_owned(),
            step: text("0"),
            cpus_on_node: Some(16),
            cpus_per_node: text("16(x2)"),
            nodes: text("node-[7-8]"),
            cpu_bind: text("quiet,mask_cpu:0x3"),
            mem_bind: text("local"),
        }),
        notes: vec![Note {
            path: "proc/self/cgroup".to_owned(),
            why: "cgroup version 1 has the controllers memory".to_owned(),
        }],
    }
}

fn environment() -> Environment {
    let text = |text: &str| Some(text.to_owned());
    let by_name = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let pci: Option<PciAddress> = "0000:81:00.0".parse().ok();
    let node = Some(NodeId(1));
    Environment {
        hostname: text("node-7"),
        boot_id: text("6f1e0f0e-0000-4000-8000-000000000001"),
        kernel_release: text("6.1.0-18-amd64"),
        kernel_version: text("#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1"),
        command_line: text("quiet isolcpus=3"),
        distribution: text("Debian GNU/Linux 12 (bookworm)"),
        guest: Guest {
            is_guest: Some(true),
            hypervisor: text("QEMU"),
            told_by: "DMI".to_owned(),
        },
        cpu: CpuModel {
            vendor: text("GenuineIntel"),
            model: text("Example 7000"),
            microcode: text("0xa6"),
            flags: vec!["constant_tsc".to_owned()],
            online: vec![CpuId(0), CpuId(1)].into(),
            cores: 2,
            packages: 1,
        },
        vulnerabilities: by_name("meltdown", "Not affected"),
        governors: BTreeMap::from([("performance".to_owned(), vec![CpuId(0)].into())]),
        frequency_drivers: BTreeMap::from([("acpi-cpufreq".to_owned(), vec![CpuId(0)].into())]),
        turbo: Some(false),
        smt: text("off"),
        isolated: vec![CpuId(3)].into(),
        clock_source: text("tsc"),
        memory_total_bytes: Some(Bytes(16_777_216_000)),
        nodes: vec![NodeMemory {
            node: NodeId(0),
            memory_total_bytes: Some(Bytes(16_777_216_000)),
            memory_free_bytes: Some(Bytes(8_388_608_000)),
            hugepages: vec![Hugepages {
                page_bytes: Bytes(2 << 20),
                total: 16,
                free: Some(12),
            }],
        }],
        thp: text("madvise"),
        thp_defrag: text("madvise"),
        limits: Some(limits()),
        sockets: vec![Socket {
            package: 0,
            cpus: vec![CpuId(0), CpuId(1)].into(),
            nodes: vec![NodeId(0), NodeId(1)].into(),
            divided: true,
        }],
        memlock_bytes: Some(Bytes(65_536)),
        memlock_unlimited: Some(false),
        sysctls: by_name("vm.swappiness", "60"),
        drives: vec![Drive {
            name: text("nvme0"),
            pci,
            node,
            driver: text("nvme"),
            model: text("Example SSD"),
            firmware: text("GXA7801Q"),
            serial: text("S1"),
        }],
        adapters: vec![Adapter {
            name: "mlx5_0".to_owned(),
            pci,
            node,
            driver: text("mlx5_core"),
            model: text("MT4123"),
            firmware: text("20.38.1002"),
            identity: text("0c42:a103:0000:0001"),
        }],
        notes: vec![Note {
            path: "sys/devices/system/cpu/smt/control".to_owned(),
            why: "permission denied".to_owned(),
        }],
    }
}
