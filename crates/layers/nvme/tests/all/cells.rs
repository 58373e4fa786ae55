//! Cells on namespaces of an emulated controller, and what holds of every trial.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_nvme::{Controller, NvmeJob, NvmeTarget, TargetError, Wanted, Whose};
use strata_nvme_spec::NamespaceId;
use strata_record::{
    Cell, Completes, Layer, Op, Placement, Reality, Role, Target, TargetKind, Workload,
};
use strata_topology::{Allowed, Root, Topology};
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos, QueueDepth};

pub(crate) static GO: AtomicBool = AtomicBool::new(false);

/// A deadline of commands that no test meets.
pub(crate) const NEVER: Nanos = Nanos::from_millis(60_000);

/// So many CPUs of this process; none when it has fewer.
pub(crate) fn cpus(n: usize) -> Option<Vec<CpuId>> {
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    let allowed = Allowed::read(&root, &topology);
    let cpus: Vec<CpuId> = allowed.cpus.iter().take(n).collect();
    (cpus.len() == n).then_some(cpus)
}

/// What tests want of a namespace: some MiB of it, that may be filled and written.
pub(crate) fn wanted(namespace: u32, block: Bytes) -> Wanted<'static> {
    Wanted {
        namespace: NamespaceId(namespace),
        size: None,
        from: ByteOffset(0),
        block,
        smallest: block,
        writes: true,
        whose: Whose::Ours,
        seed: 1,
    }
}

pub(crate) fn prepare(
    controller: &Arc<Controller>,
    wanted: &Wanted<'_>,
) -> Result<NvmeTarget, TargetError> {
    NvmeTarget::prepare(controller, "a test's namespace", wanted, &GO)
}

/// The first MiB of namespace 1, filled.
pub(crate) fn target(controller: &Arc<Controller>, block: Bytes) -> NvmeTarget {
    let size = Some(Bytes::MIB.max(block * 4));
    let wanted = Wanted {
        size,
        ..wanted(1, block)
    };
    prepare(controller, &wanted).expect("a target")
}

/// A cell on one CPU; its window is a count of operations.
pub(crate) fn cell(op: Op, block: Bytes, depth: u64, target: &NvmeTarget) -> Cell {
    Cell {
        layer: Layer::Nvme,
        engine: "native".to_owned(),
        reality: Reality::Emulated,
        target: Target {
            kind: TargetKind::Drive,
            identity: "a test's namespace".to_owned(),
            region_from_bytes: target.from,
            region_bytes: Some(target.region),
            node: None,
        },
        via: "emulated#1".to_owned(),
        workload: Workload {
            depth: QueueDepth::new(depth).expect("a depth"),
            duration_ns: None,
            ops: Some(1000),
            ..Workload::plain(op, block)
        },
        timeout_ns: None,
        sockets: None,
        verbs: None,
        binding: None,
        placement: Placement {
            cpus: cpus(1).expect("a CPU to run on").into(),
            poll_cpus: CpuList::default(),
            peer_cpus: CpuList::default(),
            mem_node: None,
        },
    }
}

/// Gives the cell a window by time.
pub(crate) fn timed(mut cell: Cell, window: Nanos) -> Cell {
    (cell.workload.ops, cell.workload.duration_ns) = (None, Some(window));
    cell
}

pub(crate) fn ops(mut cell: Cell, ops: u64) -> Cell {
    cell.workload.ops = Some(ops);
    cell
}

pub(crate) fn verified(mut cell: Cell) -> Cell {
    cell.workload.verify = true;
    cell
}

pub(crate) fn job(cell: &Cell, target: &NvmeTarget, deadline: Nanos) -> NvmeJob {
    NvmeJob::new(cell.clone(), target.clone(), deadline).expect("a cell that can be")
}

pub(crate) fn once(job: &mut NvmeJob) -> Result<TrialResult, JobError> {
    job.run(&Trial {
        seed: 3,
        interrupted: &GO,
    })
}

pub(crate) fn run(
    cell: &Cell,
    target: &NvmeTarget,
    deadline: Nanos,
) -> Result<TrialResult, JobError> {
    once(&mut job(cell, target, deadline))
}

/// Runs it, with how long that took.
pub(crate) fn clocked(
    cell: &Cell,
    target: &NvmeTarget,
    deadline: Nanos,
) -> (Result<TrialResult, JobError>, Duration) {
    let begin = Instant::now();
    let result = run(cell, target, deadline);
    (result, begin.elapsed())
}

/// Runs it, and checks what holds of every trial that went well.
#[track_caller]
pub(crate) fn measured(cell: &Cell, target: &NvmeTarget) -> TrialResult {
    let label = cell.label();
    let result = run(cell, target, NEVER).unwrap_or_else(|e| panic!("{label}: {e}"));
    assert_eq!(result.failed, None, "{label}");
    let (m, w) = (&result.measured, &cell.workload);
    assert_eq!(
        (m.errors, m.lost, m.completes),
        (0, 0, Completes::Device),
        "{label}"
    );
    kept(&result, &label);
    if let Some(ops) = w.ops {
        assert_eq!(m.ops, ops * u64::from(w.threads), "{label}");
    }
    match target.moves {
        true => {
            let bytes = m.bytes_per_s.expect("bytes were moved") * m.window_s;
            close(bytes, (m.ops * w.block_bytes.0) as f64, &label);
        }
        false => assert_eq!(m.bytes_per_s, None, "{label}"),
    }
    let asked: Vec<CpuId> = cell.placement.cpus.iter().collect();
    let threads = result.proof.threads.iter();
    let of_ours: Vec<CpuId> = threads
        .filter(|thread| thread.role == Role::Measure)
        .flat_map(|thread| thread.seen.iter().collect::<Vec<_>>())
        .collect();
    assert_eq!(of_ours, asked, "{label}: where it ran");
    result
}

/// What holds of what was measured, also when the trial failed then.
#[track_caller]
pub(crate) fn kept(result: &TrialResult, label: &str) {
    let m = &result.measured;
    assert!(m.ops > 0 && m.window_s > 0.0, "{label}: {m:?}");
    close(m.ops_per_s * m.window_s, m.ops as f64, label);
    let latency = m.latency_ns.as_ref().expect("operations have latencies");
    assert_eq!(latency.count, m.ops, "{label}: each good one is timed");
    assert!(0.0 < latency.min && latency.min <= latency.max, "{label}");
    let polling = m.polling.expect("a poller");
    assert!(polling.empty < polling.polls, "{label}: {polling:?}");
    assert!(
        polling.completions_per_poll.is_some_and(|n| n > 0.0),
        "{label}: {polling:?}"
    );
    assert!(m.series.ops.iter().sum::<u64>() <= m.ops, "{label}");
}

#[track_caller]
pub(crate) fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= expected.abs() * 1e-9,
        "{what}: {found}, expected {expected}"
    );
}
