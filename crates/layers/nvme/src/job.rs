//! One cell of the nvme layer, ready to be run again and again.

use std::path::PathBuf;

use strata_measure::storage::{StorageCell, StorageTarget};
use strata_measure::{
    Buffers, CrewRun, Engine, Fatal, Job, JobError, Member, Nominal, Trial, TrialResult,
    contradictions, hold_against, host_doubts, thread_proof,
};
use strata_record::{Cell, Role, Warning, WarningCode};
use strata_topology::{WatchList, Watched};
use strata_units::{CpuList, Nanos};

use crate::requests::fits;
use crate::{NvmeEngine, NvmeTarget};

/// A cell on a namespace.
pub struct NvmeJob {
    storage: StorageCell,
    target: NvmeTarget,
    deadline: Nanos,
    watch: Option<WatchList>,
    nominal: Nominal,
    /// The process that is the controller, and where its thread is to be.
    emulator: Option<(u32, CpuList)>,
}

impl NvmeJob {
    /// A job for `cell` on `target`; a command that takes longer than `deadline` is aborted.
    ///
    /// # Errors
    /// In words, what of the cell cannot be: its engine, depth, window, block size or CPUs.
    pub fn new(cell: Cell, target: NvmeTarget, deadline: Nanos) -> Result<NvmeJob, String> {
        let NvmeEngine::Native = cell.engine.parse()?;
        let block = target.namespace.block;
        let w = &cell.workload;
        if !w.block_bytes.is_multiple_of(block) {
            return Err(format!(
                "{} has blocks of {block}, and a --bs of {} is no multiple of that; give one that is",
                target.name, w.block_bytes
            ));
        }
        if w.op.writes() && !target.writable {
            return Err(format!(
                "{} may only be read; this is a bug of strata",
                target.name
            ));
        }
        if w.verify && !target.moves {
            return Err(format!(
                "{} moves no data, so there is nothing to --verify; leave out --no-data",
                target.name
            ));
        }
        let granted = target.controller.identity().queue_pairs;
        if u32::from(w.threads) > granted {
            return Err(format!(
                "{} threads need a queue pair each, and {} has {granted}; give fewer --threads",
                w.threads,
                target.controller.name()
            ));
        }
        let shape = target.shape(w.depth, w.block_bytes, None, deadline);
        fits(&target.controller, &target.namespace, &shape).map_err(|e| e.to_string())?;
        let storage = StorageCell::new(
            cell,
            &StorageTarget {
                kind: "namespace",
                name: &target.name,
                from: target.from,
                region: target.region,
                state: target.state,
            },
        )?;
        Ok(NvmeJob {
            storage,
            target,
            deadline,
            watch: None,
            nominal: Nominal::default(),
            emulator: None,
        })
    }

    /// Verified writes are kept in a ledger at `path`, a new one each trial.
    #[must_use]
    pub fn with_ledger(self, path: PathBuf) -> NvmeJob {
        NvmeJob {
            storage: self.storage.with_ledger(path),
            ..self
        }
    }

    /// The same with the host watched during each trial.
    #[must_use]
    pub fn watching(self, list: WatchList) -> NvmeJob {
        NvmeJob {
            watch: Some(list),
            ..self
        }
    }

    /// The same with the process that is the controller watched, whose first thread is to be on `cpus`.
    #[must_use]
    pub fn with_emulator(self, process: u32, cpus: CpuList) -> NvmeJob {
        NvmeJob {
            emulator: Some((process, cpus)),
            ..self
        }
    }

    /// The same with the figure held against what lies between the drive and the CPU.
    #[must_use]
    pub fn bounded(self, nominal: Nominal) -> NvmeJob {
        NvmeJob { nominal, ..self }
    }

    fn member(&self, thread: usize, seed: u64) -> Result<Member<impl Engine + use<>>, Fatal> {
        let cell = self.storage.cell();
        let w = &cell.workload;
        let buffers = Buffers::shared(w.depth, w.block_bytes, self.storage.want())
            .map_err(|e| Fatal(e.to_string()))?;
        self.storage.fill(&buffers, seed);
        let node = cell.placement.mem_node;
        let whole = w.verify || w.op.writes();
        let target = &self.target;
        let engine = target.engine(buffers, w.depth, node, self.deadline, whole);
        Ok(Member {
            engine: engine.map_err(|e| Fatal(e.to_string()))?,
            stream: self.storage.stream(thread, seed)?,
        })
    }

    fn shared_cpus(&self) -> Option<Warning> {
        let (_, theirs) = self.emulator.as_ref()?;
        let both = self.storage.cell().placement.cpus.and(theirs);
        (!both.is_empty()).then(|| Warning {
            code: WarningCode::SharedCpu,
            text: format!("a thread of ours and the emulated controller both poll on CPU {both}, in turns of the scheduler's: give other --cpus or --peer-cpus, or fewer --threads"),
        })
    }

    fn run_crew(&self, trial: &Trial<'_>) -> Result<CrewRun, JobError> {
        // A trial before may have left it broken.
        let controller = &self.target.controller;
        if controller.health().is_err() {
            let reset = controller.reset();
            reset.map_err(|e| JobError::Failed(e.to_string()))?;
            let failed = |e: &dyn std::fmt::Display| JobError::Failed(e.to_string());
            let now = controller.namespace(self.target.namespace.id);
            if now.map_err(|e| failed(&e))? != self.target.namespace {
                return Err(failed(&format_args!(
                    "{} is not what it was before the controller's reset; begin a new run",
                    self.target.name
                )));
            }
        }
        let mut crew = self.storage.crew(trial, self.watch.as_ref());
        // Who gives up first is the driver, by its deadline.
        let patience = self.deadline + self.deadline;
        crew.load.patience = crew.load.patience.max(patience);
        crew.other = self.emulator.as_ref().map(|(process, _)| *process);
        Ok(crew.run(|thread| self.member(thread, trial.seed))?)
    }
}

impl Job for NvmeJob {
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError> {
        self.storage.begin_ledger()?;
        let run = self.run_crew(trial)?;
        let other = run.other.clone();
        let unwritten = self.storage.unwritten(
            "the namespace has blocks of zeros, which were never written or were deallocated: reading those measures no medium; write it first",
        );
        let mut result = run.into_result(unwritten.into_iter().chain(self.shared_cpus()).collect());
        if let Some((_, asked)) = &self.emulator {
            match other {
                Some((found, spent)) => prove_emulator(&mut result, asked, found, spent),
                None => result
                    .proof
                    .missing
                    .push("where the emulated controller ran: its process has ended".to_owned()),
            }
        }
        let work = self.storage.device_work(&result.measured);
        let doubts = host_doubts(&result.proof, self.target.moves.then_some(&work));
        result.warnings.extend(doubts);
        hold_against(&mut result, &self.nominal, &self.storage.cell().workload);
        Ok(result)
    }
}

/// The controller's thread is of the figure as the measuring threads are.
fn prove_emulator(result: &mut TrialResult, asked: &CpuList, found: Watched, spent: Nanos) {
    let (proof, missing) = thread_proof(Role::Peer, asked.clone(), found);
    let thread = std::slice::from_ref(&proof);
    result
        .proof
        .contradictions
        .extend(contradictions(thread, &[], None));
    result.proof.missing.extend(missing);
    result.proof.threads.push(proof);
    result.cost.peer_cpu_ns_per_op =
        (result.measured.ops > 0).then(|| spent.0 as f64 / result.measured.ops as f64);
}
