//! Runs with given figures, for the tests of analysis and of report: every number follows from the arguments.

// Each test binary that includes this uses another part of it.
#![allow(dead_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use strata_record::{
    Binding, Built, Ceiling, CeilingKind, Cell, ClockProof, ClockSource, Completes, Cost,
    CpuFrequency, CpuInterrupts, CpuProof, CpuTimes, DeviceProof, DriveProof, Driver,
    FrequencySource, FunctionProof, Harness, HostProof, Latency, Layer, Measured, Op, PagesProof,
    Percentiles, Placement, Plan, Proof, Rail, RdmaEnd, Reality, Record, Role, Run, Series,
    Stationarity, Status, Target, TargetKind, TcpProof, ThreadProof, VectorCount, VectorProof,
    Verbs, Workload,
};
use strata_stats::Rng;
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos, NodeId, QueueDepth};

/// A cell of kernel storage on a file of a virtual drive.
pub(crate) fn block(engine: &str, op: Op, depth: u64) -> Cell {
    Cell {
        layer: Layer::Block,
        engine: engine.to_owned(),
        reality: Reality::Virtual,
        target: Target {
            kind: TargetKind::File,
            identity: "ext4 on vda1, serial Z123, 1GiB".to_owned(),
            region_from_bytes: ByteOffset(0),
            region_bytes: Some(Bytes::GIB),
            node: Some(NodeId(0)),
        },
        via: "/var/tmp/strata.data".to_owned(),
        workload: Workload {
            depth: QueueDepth::new(depth).expect("a depth"),
            ramp_ns: Nanos::from_millis(100),
            ..Workload::plain(op, Bytes(4096))
        },
        timeout_ns: None,
        sockets: None,
        verbs: None,
        binding: None,
        placement: Placement {
            cpus: vec![CpuId(1)].into(),
            poll_cpus: CpuList::default(),
            peer_cpus: Vec::new().into(),
            mem_node: Some(NodeId(0)),
        },
    }
}

/// A cell of kernel storage on a drive that is put on that driver for it.
fn on_drive(engine: &str, depth: u64, driver: Driver) -> Cell {
    let mut cell = block(engine, Op::RandRead, depth);
    cell.target.kind = TargetKind::Drive;
    cell.target.identity = "1GiB drive QEMU NVMe Ctrl NVME0".to_owned();
    cell.via = "/dev/nvme0n1".to_owned();
    cell.binding = Some(Binding {
        function: "0000:11:00.0".parse().expect("an address"),
        driver,
    });
    cell
}

/// The same through the kernel.
pub(crate) fn kernel(engine: &str, depth: u64) -> Cell {
    on_drive(engine, depth, Driver::Nvme)
}

/// The same past the kernel.
pub(crate) fn native(depth: u64) -> Cell {
    let mut cell = on_drive("native", depth, Driver::VfioPci);
    cell.layer = Layer::Nvme;
    cell.via = "vfio:0000:11:00.0#1".to_owned();
    cell
}

/// A cell of sockets over loopback.
pub(crate) fn tcp(op: Op) -> Cell {
    let mut cell = block("tcp", op, 1);
    cell.layer = Layer::Tcp;
    cell.reality = Reality::Software;
    cell.target = Target {
        kind: TargetKind::Wire,
        identity: "lo ↔ lo".to_owned(),
        region_from_bytes: ByteOffset(0),
        region_bytes: None,
        node: None,
    };
    cell.via = "127.0.0.1".to_owned();
    cell.placement.peer_cpus = vec![CpuId(0)].into();
    cell
}

/// A cell of verbs over one rail of that wire.
pub(crate) fn rdma(op: Op) -> Cell {
    let mut cell = tcp(op);
    (cell.layer, cell.engine) = (Layer::Rdma, "verbs".to_owned());
    cell.via = "rxe0/1 ↔ rxe0/1".to_owned();
    let end = RdmaEnd {
        device: "rxe0".to_owned(),
        port: 1,
        gid_index: Some(1),
    };
    cell.verbs = Some(Verbs {
        inline_bytes: Verbs::inlined(op),
        ..Verbs::over(vec![Rail {
            ours: end.clone(),
            theirs: end,
        }])
    });
    cell
}

/// A run of these cells, made by a release build.
pub(crate) fn run(cells: Vec<Cell>, rounds: u32) -> Run {
    Run {
        schema: 1,
        id: "20260102T030405Z-synthetic".to_owned(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        command: vec!["strata".to_owned(), "run".to_owned(), "quick".to_owned()],
        own_files: Vec::new(),
        peers: Vec::new(),
        sweeps: Vec::new(),
        preconditioning: Vec::new(),
        built: Built {
            version: "0.1.0".to_owned(),
            commit: Some("0123456789ab".to_owned()),
            profile: "release".to_owned(),
        },
        plan: Plan {
            name: "quick".to_owned(),
            cells,
            rounds,
            seed: 7,
        },
        environment: serde_json::from_value(environment()).expect("an environment"),
    }
}

fn environment() -> serde_json::Value {
    serde_json::json!({
        "hostname": "node1",
        "boot_id": null,
        "kernel_release": "6.1.0-18-amd64",
        "kernel_version": null,
        "command_line": "quiet mitigations=auto",
        "distribution": "Debian GNU/Linux 12 (bookworm)",
        "guest": {"is_guest": true, "hypervisor": "KVM", "told_by": "DMI"},
        "cpu": {
            "vendor": "Example", "model": "Example 7000", "microcode": "0x1", "flags": ["avx2", "constant_tsc"],
            "online": [0, 1, 2, 3], "cores": 2, "packages": 1
        },
        "vulnerabilities": {"spectre_v2": "Mitigation: IBRS"},
        "governors": {},
        "frequency_drivers": {},
        "turbo": null,
        "smt": "on",
        "isolated": [],
        "clock_source": "tsc",
        "memory_total_bytes": 16_777_216_000_u64,
        "nodes": [{
            "node": 0, "memory_total_bytes": 16_777_216_000_u64, "memory_free_bytes": 8_388_608_000_u64,
            "hugepages": [{"page_bytes": 2_097_152, "total": 4, "free": 4}]
        }],
        "thp": "madvise",
        "thp_defrag": null,
        "memlock_bytes": 8_388_608,
        "memlock_unlimited": false,
        "sysctls": {"net.core.rmem_max": "212992"},
        "drives": [
            {"name": "vda", "pci": null, "node": 0, "driver": "virtio_blk", "model": "Virtual disk", "firmware": null,
             "serial": "Z123"},
            {"name": "vdb", "pci": null, "node": null, "driver": null, "model": null, "firmware": null, "serial": null}
        ],
        "adapters": [],
        "notes": []
    })
}

/// A trial that went well at `rate` operations a second, all its other figures in keeping with that.
pub(crate) fn trial(run: &Run, cell: &Cell, round: u32, rate: f64) -> Record {
    let window_s = 1.0;
    let ops = (rate * window_s).round();
    let rate = ops / window_s;
    let streams = cell.workload.op == Op::Stream;
    let mut record = Record::new(&run.id, cell.clone());
    record.round = round;
    record.started_at = format!("2026-01-02T03:{:02}:05Z", 4 + round % 50);
    record.started_s = f64::from(round) * 10.0;
    record.seed = u64::from(round) + 1;
    record.status = Status::Ok;
    record.result = Some(Measured {
        ops: ops as u64,
        window_s,
        ops_per_s: rate,
        bytes_per_s: Some(rate * cell.workload.block_bytes.0 as f64),
        errors: 0,
        lost: 0,
        completes: match cell.workload.op {
            Op::Stream => Completes::Received,
            Op::Write if cell.verbs.is_some() => Completes::RemoteAcked,
            Op::ReqRep | Op::WritePingPong | Op::SendPingPong => Completes::RoundTrip,
            _ => Completes::Device,
        },
        latency_ns: (!streams).then(|| {
            latency(
                f64::from(cell.workload.depth.get()) * 1e9 / rate,
                ops as u64,
            )
        }),
        series: series(ops, window_s, record.seed),
        stationarity: Some(Stationarity {
            slope: 0.001,
            excursion: 0.01,
            stationary: true,
        }),
        mean_depth: (!streams).then(|| f64::from(cell.workload.depth.get())),
        open: None,
        flows: Vec::new(),
        polling: None,
    });
    record.cost = Some(Cost {
        cpu_ns_per_op: 0.2e9 / rate,
        system_share: Some(0.8),
        peer_cpu_ns_per_op: (cell.layer == Layer::Tcp).then_some(0.25e9 / rate),
        instructions_per_op: None,
    });
    record.proof = Some(proof(cell));
    record.ceiling = Some(Ceiling {
        ops_per_s: Some(rate * 2.0),
        bytes_per_s: None,
        bound_by: "the core, by the null engine".to_owned(),
        kind: CeilingKind::Measured,
        share: Some(0.5),
    });
    record.harness = Some(Harness {
        ns_per_op: 24.0,
        ops: 1_000_000,
    });
    record
}

/// Every cell in every round, at `rate(cell, round)`, numbered in the order of time.
pub(crate) fn records(run: &Run, rate: impl Fn(usize, u32) -> f64) -> Vec<Record> {
    let mut records = Vec::new();
    for round in 0..run.plan.rounds {
        for (at, cell) in run.plan.cells.iter().enumerate() {
            let mut record = trial(run, cell, round, rate(at, round));
            record.trial = u32::try_from(records.len()).expect("few trials");
            record.started_s += at as f64 * 1.2;
            records.push(record);
        }
    }
    records
}

/// A factor about 1 with this relative spread, the same for the same cell and round.
pub(crate) fn noise(spread: f64, cell: usize, round: u32) -> f64 {
    let mut rng = Rng::new(1 + u64::from(round) * 1000 + cell as u64);
    (spread * rng.normal()).exp()
}

/// Fails unless each record is valid by the committed schema's source.
pub(crate) fn assert_valid(records: &[Record]) {
    let (_, text) = strata_record::schemas()
        .into_iter()
        .find(|(name, _)| *name == "record.schema.json")
        .expect("a schema of records");
    let schema = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    for record in records {
        let value = serde_json::to_value(record).expect("a record is JSON");
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "record {}", record.trial);
    }
}

/// `count` operations of this mean or near it: a body about it and a tail that grows with the nines.
fn latency(mean: f64, count: u64) -> Latency {
    const STEP: f64 = 0.02;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
    let (mut recorded, mut nines) = (0, 0.0);
    while recorded < count {
        nines += STEP;
        let upto = ((1.0 - 10f64.powf(-nines)) * count as f64).ceil() as u64;
        let value = mean * (0.86 + 0.12 * f64::powf(nines, 1.7));
        let more = upto.clamp(recorded, count) - recorded;
        histogram
            .record_n(value.max(1.0) as u64, more)
            .expect("within bounds");
        recorded += more;
    }
    let quantile = |q: f64| {
        (count as f64 * (1.0 - q) >= 10.0 - 1e-6).then(|| histogram.value_at_quantile(q) as f64)
    };
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(&histogram, &mut bytes)
        .expect("a histogram can be written");
    Latency {
        min: histogram.min() as f64,
        mean,
        percentiles: Percentiles {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            p9999: quantile(0.9999),
        },
        max: histogram.max() as f64,
        count,
        batch_error_ns: None,
        histogram: STANDARD.encode(bytes),
    }
}

fn series(ops: f64, window_s: f64, seed: u64) -> Series {
    const INTERVALS: usize = 20;
    let mut rng = Rng::new(seed);
    let each = ops / INTERVALS as f64;
    Series {
        interval_s: window_s / INTERVALS as f64,
        ops: (0..INTERVALS)
            .map(|_| (each * (1.0 + 0.03 * rng.normal())).max(0.0) as u64)
            .collect(),
    }
}

fn proof(cell: &Cell) -> Proof {
    let thread = |role, cpus: &strata_units::CpuList| ThreadProof {
        role,
        asked: cpus.clone(),
        mask: cpus.clone(),
        seen: cpus.clone(),
        samples: 100,
        migrations: Some(0),
        voluntary_switches: 12,
        involuntary_switches: 3,
        user_ns: Nanos::from_millis(200),
        system_ns: Nanos::from_millis(700),
    };
    let mut threads = vec![thread(Role::Measure, &cell.placement.cpus)];
    if !cell.placement.peer_cpus.is_empty() {
        threads.push(thread(Role::Peer, &cell.placement.peer_cpus));
    }
    Proof {
        threads,
        pages: vec![PagesProof {
            node: Some(NodeId(0)),
            pages: 32,
            page_bytes: Bytes(4096),
        }],
        clock: ClockProof {
            source: ClockSource::Tsc,
            hertz: 2.4e9,
            error_ppm: 1.5,
            read_ns: 14.0,
        },
        host: Some(host(cell)),
        peer_host: None,
        connections: Vec::new(),
        queue_pairs: Vec::new(),
        contradictions: Vec::new(),
        missing: vec!["interrupts by CPU: not counted by this version".to_owned()],
    }
}

/// A watched host: a guest's CPUs, of which the first took the device's interrupts; of the wire, nothing was sent again.
fn host(cell: &Cell) -> HostProof {
    let on_disk = cell.layer == Layer::Block;
    let side = |cpus: &strata_units::CpuList, role| {
        let of = |cpu| CpuProof {
            cpu,
            role,
            node: Some(NodeId(0)),
            interrupts: Some(CpuInterrupts {
                total: 20_500,
                device: if on_disk { 20_000 } else { 0 },
                timer: 480,
                reschedule: 15,
                call: 3,
                tlb: 2,
            }),
            softirqs: None,
            times: Some(CpuTimes {
                user_ns: Nanos::from_millis(210),
                system_ns: Nanos::from_millis(790),
                steal_ns: Nanos::from_millis(10),
                ..CpuTimes::default()
            }),
            frequency: Some(CpuFrequency {
                source: FrequencySource::Cpuinfo,
                before_hz: 2_400_000_000,
                after_hz: 2_400_000_000,
                min_hz: None,
                max_hz: None,
                base_hz: None,
                governor: None,
                driver: None,
                energy_preference: None,
            }),
            throttled: None,
        };
        cpus.iter().map(of).collect::<Vec<_>>()
    };
    let mut cpus = side(&cell.placement.cpus, Role::Measure);
    cpus.extend(side(&cell.placement.peer_cpus, Role::Peer));
    let name = cell.binding.map(|b| b.driver.to_string());
    let function = cell.binding.map(|b| FunctionProof {
        function: b.function,
        before: name.clone(),
        after: name.clone(),
        version: (b.driver == Driver::Nvme).then(|| "1.0".to_owned()),
        source_version: None,
    });
    let bare = HostProof {
        span_s: 1.1,
        cpus,
        functions: function.into_iter().collect(),
        ..HostProof::default()
    };
    if !on_disk {
        return HostProof {
            tcp: Some(TcpProof {
                sent_segments: 50_000,
                ..TcpProof::default()
            }),
            ..bare
        };
    }
    HostProof {
        vectors: Some(2),
        fired: vec![VectorProof {
            irq: 36,
            name: "virtio1-req.0".to_owned(),
            counts: vec![VectorCount {
                cpu: CpuId(1),
                node: Some(NodeId(0)),
                count: 20_000,
            }],
        }],
        devices: vec![DeviceProof {
            name: "vda".to_owned(),
            reads: 20_000,
            read_bytes: Bytes(81_920_000),
            read_merges: 0,
            writes: 0,
            write_bytes: Bytes(0),
            write_merges: 0,
            busy_ns: Nanos::from_millis(1000),
            queue_ns: Nanos::from_millis(968),
            mean_depth: 0.88,
            mean_bytes: Some(4096.0),
        }],
        drives: vec![DriveProof {
            name: "sda".to_owned(),
            before_celsius: 39.0,
            after_celsius: 41.0,
            warning_celsius: Some(70.0),
            critical_celsius: Some(80.0),
            alarm: None,
        }],
        ..bare
    }
}
