//! A plan, jobs whose answers are prepared, and an observer that writes down what it is told.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_record::{
    Built, Ceiling, CeilingKind, Cell, ClockProof, ClockSource, Completes, Cost, CpuModel,
    Environment, Guest, Harness, Layer, Measured, Op, Placement, Plan, Proof, Reality, Record, Run,
    SCHEMA, Series, Target, TargetKind, Workload,
};
use strata_runner::{AsItIs, Ended, Observer, Progress, Store, StoreError, execute};
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos};

fn cell(block: u64) -> Cell {
    Cell {
        layer: Layer::Block,
        engine: "psync".to_owned(),
        reality: Reality::Memory,
        target: Target {
            kind: TargetKind::File,
            identity: "tmpfs".to_owned(),
            region_from_bytes: ByteOffset(0),
            region_bytes: Some(Bytes::MIB),
            node: None,
        },
        via: "/dev/shm/x".to_owned(),
        workload: Workload {
            duration_ns: Some(Nanos::from_millis(100)),
            ramp_ns: Nanos::from_millis(10),
            ..Workload::plain(Op::RandRead, Bytes(block))
        },
        timeout_ns: None,
        sockets: None,
        verbs: None,
        binding: None,
        placement: Placement {
            cpus: vec![CpuId(0)].into(),
            poll_cpus: CpuList::default(),
            peer_cpus: CpuList::default(),
            mem_node: None,
        },
    }
}

/// A run of so many cells, which differ in their block size.
pub(crate) fn run(cells: u64, rounds: u32, seed: u64) -> Run {
    let environment: Environment = serde_json::from_value(serde_json::json!({
        "guest": Guest::default(), "cpu": CpuModel::default(), "isolated": CpuList::default(),
        "vulnerabilities": {}, "governors": {}, "frequency_drivers": {}, "sysctls": {},
        "nodes": [], "drives": [], "adapters": [], "notes": [],
    }))
    .expect("an environment that tells nothing");
    Run {
        schema: SCHEMA,
        id: format!("20260102T030405Z-{seed:08x}"),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        command: vec!["strata".to_owned()],
        own_files: Vec::new(),
        peers: Vec::new(),
        sweeps: Vec::new(),
        preconditioning: Vec::new(),
        built: Built {
            version: "0.1.0".to_owned(),
            commit: None,
            profile: "debug".to_owned(),
        },
        plan: Plan {
            name: "test".to_owned(),
            cells: (1..=cells).map(|n| cell(512 * n)).collect(),
            rounds,
            seed,
        },
        environment,
    }
}

/// A trial that went well.
pub(crate) fn well() -> TrialResult {
    TrialResult {
        measured: Measured {
            ops: 1000,
            window_s: 0.1,
            ops_per_s: 10_000.0,
            bytes_per_s: None,
            errors: 0,
            lost: 0,
            completes: Completes::Device,
            latency_ns: None,
            series: Series {
                interval_s: 0.01,
                ops: vec![100; 10],
            },
            stationarity: None,
            mean_depth: None,
            open: None,
            flows: Vec::new(),
            polling: None,
        },
        cost: Cost {
            cpu_ns_per_op: 800.0,
            system_share: None,
            peer_cpu_ns_per_op: None,
            instructions_per_op: None,
        },
        proof: Proof {
            threads: Vec::new(),
            pages: Vec::new(),
            clock: ClockProof {
                source: ClockSource::Tsc,
                hertz: 2e9,
                error_ppm: 1.0,
                read_ns: 10.0,
            },
            host: None,
            peer_host: None,
            connections: Vec::new(),
            queue_pairs: Vec::new(),
            contradictions: Vec::new(),
            missing: Vec::new(),
        },
        bounds: vec![Ceiling {
            ops_per_s: Some(1e8),
            bytes_per_s: None,
            bound_by: "the core".to_owned(),
            kind: CeilingKind::Measured,
            share: Some(1e-4),
        }],
        harness: Harness {
            ns_per_op: 10.0,
            ops: 1_000_000,
        },
        warnings: Vec::new(),
        failed: None,
    }
}

/// A trial whose thread was not where it had been sent.
pub(crate) fn strayed() -> TrialResult {
    let mut result = well();
    result.proof.contradictions = vec!["a measuring thread was seen on CPU 9".to_owned()];
    result
}

/// A trial that broke off.
pub(crate) fn broken() -> TrialResult {
    TrialResult {
        failed: Some("3 operations failed".to_owned()),
        ..well()
    }
}

/// One call of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Which of all, from 0.
    pub(crate) number: usize,
    /// The plan's cell.
    pub(crate) cell: usize,
    /// The seed that it was given.
    pub(crate) seed: u64,
}

type Answer = dyn Fn(Call, &Trial<'_>) -> Result<TrialResult, JobError>;

struct Prepared {
    cell: usize,
    calls: Rc<RefCell<Vec<Call>>>,
    answer: Rc<Answer>,
}

impl Job for Prepared {
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError> {
        let call = Call {
            number: self.calls.borrow().len(),
            cell: self.cell,
            seed: trial.seed,
        };
        self.calls.borrow_mut().push(call);
        (self.answer)(call, trial)
    }
}

/// What an observer was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// At the begin of each trial: its number, how many there are to be, its round.
    pub(crate) begun: Vec<(usize, usize, u32)>,
    /// The cells of the ended ones.
    pub(crate) ended: Vec<String>,
}

impl Observer for Told {
    fn begins(&mut self, at: Progress<'_>) {
        self.begun.push((at.trial, at.trials, at.round));
    }
    fn ended(&mut self, record: &Record) {
        self.ended.push(record.cell.clone());
    }
}

/// What came of an execution.
pub(crate) struct Executed {
    pub(crate) ended: Result<Ended, StoreError>,
    pub(crate) records: Vec<Record>,
    pub(crate) calls: Vec<Call>,
    pub(crate) told: Told,
}

/// Goes on with `run` behind `records`, each trial answered by `answer`.
pub(crate) fn go_on(
    run: &Run,
    mut records: Vec<Record>,
    store: Option<&mut Store>,
    answer: impl Fn(Call, &Trial<'_>) -> Result<TrialResult, JobError> + 'static,
) -> Executed {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let answer: Rc<Answer> = Rc::new(answer);
    let mut jobs: Vec<Box<dyn Job>> = (0..run.plan.cells.len())
        .map(|cell| {
            Box::new(Prepared {
                cell,
                calls: Rc::clone(&calls),
                answer: Rc::clone(&answer),
            }) as Box<dyn Job>
        })
        .collect();
    let mut told = Told::default();
    let never = AtomicBool::new(false);
    let ended = execute(
        run,
        &mut jobs,
        &mut AsItIs,
        &mut records,
        store,
        &never,
        &mut told,
    );
    let calls = calls.borrow().clone();
    Executed {
        ended,
        records,
        calls,
        told,
    }
}

/// All of a run, without a folder.
pub(crate) fn whole(
    run: &Run,
    answer: impl Fn(Call, &Trial<'_>) -> Result<TrialResult, JobError> + 'static,
) -> Executed {
    let executed = go_on(run, Vec::new(), None, answer);
    assert!(
        matches!(executed.ended, Ok(Ended::Done)),
        "{:?}",
        executed.ended
    );
    executed
}

/// Number of a record's cell in the plan.
pub(crate) fn place(run: &Run, record: &Record) -> usize {
    run.plan
        .cells
        .iter()
        .position(|cell| cell.key() == record.cell)
        .expect("a cell of the plan")
}
