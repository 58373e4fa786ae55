//! Files to measure, cells on them, and what must hold of every result.

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use strata_block::{BlockEngine, BlockJob, Prepared, Wanted, prepare};
use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_record::{
    Cell, Completes, Layer, Op, Placement, Reality, Role, Target, TargetKind, Workload,
};
use strata_topology::{Allowed, Root, Topology};
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos, QueueDepth};
use tempfile::TempDir;

pub(crate) const IO_URING: BlockEngine = BlockEngine::IO_URING;

pub(crate) static GO: AtomicBool = AtomicBool::new(false);

/// What this process may use.
pub(crate) fn allowed() -> Allowed {
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    Allowed::read(&root, &topology)
}

/// So many CPUs of this process; none when it has fewer.
pub(crate) fn cpus(n: usize) -> Option<Vec<CpuId>> {
    let cpus: Vec<CpuId> = allowed().cpus.iter().take(n).collect();
    (cpus.len() == n).then_some(cpus)
}

/// A filled file in a folder that is removed at the end.
pub(crate) struct Filled {
    pub(crate) prepared: Prepared,
    _folder: TempDir,
}

impl Deref for Filled {
    type Target = Prepared;

    fn deref(&self) -> &Prepared {
        &self.prepared
    }
}

/// A file of `size` in a new folder below `parent`, ready for `block`.
pub(crate) fn filled(parent: &Path, size: Bytes, block: Bytes) -> Filled {
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    let path = folder.path().join("t.dat");
    let prepared = prepare(
        &path,
        &Wanted {
            size: Some(size),
            writes: true,
            ..Wanted::reads(block)
        },
        &GO,
    )
    .expect("filled");
    Filled {
        prepared,
        _folder: folder,
    }
}

/// Where the build writes, which is a disk on most machines.
pub(crate) fn disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A cell on one CPU; its window is a count of operations.
pub(crate) fn cell(engine: BlockEngine, op: Op, block: Bytes, depth: u64, file: &Prepared) -> Cell {
    Cell {
        layer: Layer::Block,
        engine: engine.to_string(),
        reality: Reality::Memory,
        target: Target {
            kind: TargetKind::File,
            identity: "a test's file".to_owned(),
            region_from_bytes: ByteOffset(0),
            region_bytes: Some(file.region),
            node: None,
        },
        via: file.path.display().to_string(),
        workload: Workload {
            depth: QueueDepth::new(depth).expect("a depth"),
            duration_ns: None,
            ops: Some(1000),
            verify: !op.writes(),
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

/// Whether the engine can be used here; says so by the test's name when it cannot.
pub(crate) fn usable(engine: BlockEngine, test: &str) -> bool {
    match engine.available() {
        Ok(()) => true,
        Err(why) => {
            println!("SKIP {test}: {why}");
            false
        }
    }
}

pub(crate) fn run(cell: Cell, file: &Prepared) -> Result<TrialResult, JobError> {
    let mut job = BlockJob::new(cell, file.clone()).expect("a cell that can be");
    job.run(&Trial {
        seed: 3,
        interrupted: &GO,
    })
}

/// Runs it, and checks what holds of every trial that went well.
#[track_caller]
pub(crate) fn measured(cell: &Cell, file: &Prepared, test: &str) -> TrialResult {
    let label = cell.label();
    let result = run(cell.clone(), file).unwrap_or_else(|e| panic!("{label}: {e}"));
    let (m, w) = (&result.measured, &cell.workload);
    assert_eq!(result.failed, None, "{label}");
    // Where the page cache takes writes, nothing is known of a device.
    let until = match file.direct || !w.op.writes() {
        true => Completes::Device,
        false => Completes::AcceptedLocally,
    };
    assert_eq!((m.errors, m.lost, m.completes), (0, 0, until), "{label}");
    assert!(m.ops > 0 && m.window_s > 0.0, "{label}: {m:?}");
    close(m.ops_per_s * m.window_s, m.ops as f64, &label);
    let bytes = m.bytes_per_s.expect("bytes were moved") * m.window_s;
    close(bytes, (m.ops * w.block_bytes.0) as f64, &label);

    let latency = m.latency_ns.as_ref().expect("operations have latencies");
    assert_eq!(latency.count, m.ops, "{label}: each is timed");
    let histogram = decoded(&latency.histogram);
    assert_eq!(
        histogram.len(),
        m.ops,
        "{label}: and stands in the histogram"
    );
    assert!(
        0.0 < latency.min && latency.min <= latency.mean && latency.mean <= latency.max,
        "{label}: {latency:?}"
    );
    // A slot's operations do not overlap, and only its first of the window may have begun before it.
    let slots = f64::from(w.depth.get()) * f64::from(w.threads);
    let depth = m.mean_depth.expect("Little's law");
    let most = slots * (1.0 + latency.max / (m.window_s * 1e9));
    assert!(
        depth > 0.0 && depth <= most * 1.001,
        "{label}: {depth} of {most}"
    );
    assert!(m.series.ops.iter().sum::<u64>() <= m.ops, "{label}");

    let harness = result.harness;
    assert!(
        harness.ns_per_op > 0.0 && harness.ops > 0,
        "{label}: {harness:?}"
    );
    let share = result.bounds[0].share.expect("a rate");
    let expected = m.ops_per_s * harness.ns_per_op / 1e9 / f64::from(w.threads);
    close(share, expected, &label);

    let proof = &result.proof;
    assert_eq!(proof.contradictions, [""; 0], "{label}");
    let asked: Vec<&CpuList> = proof.threads.iter().map(|t| &t.asked).collect();
    let each: Vec<CpuList> = cell
        .placement
        .cpus
        .iter()
        .map(|cpu| vec![cpu].into())
        .collect();
    assert_eq!(asked, each.iter().collect::<Vec<_>>(), "{label}");
    for thread in &proof.threads {
        assert_eq!(
            (thread.role, &thread.seen, &thread.mask),
            (Role::Measure, &thread.asked, &thread.asked),
            "{label}"
        );
    }
    if proof.pages.is_empty() {
        assert!(!proof.missing.is_empty(), "{label}: untold without a word");
        println!("SKIP {test}: pages' nodes: {}", proof.missing.join("; "));
    } else {
        let found: u64 = proof.pages.iter().map(|p| p.pages * p.page_bytes.0).sum();
        let buffers = w.block_bytes.0.next_multiple_of(4096) * slots as u64;
        assert!(found >= buffers, "{label}: {found} of {buffers}");
    }
    result
}

/// The histogram of a record.
pub(crate) fn decoded(text: &str) -> Histogram<u64> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64");
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .expect("V2-deflate")
}

#[track_caller]
pub(crate) fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= expected.abs() * 1e-9,
        "{what}: {found}, expected {expected}"
    );
}
