//! One cell of the block layer, ready to be run again and again.

use std::fs::File;
use std::path::PathBuf;

use strata_measure::storage::{StorageCell, StorageTarget};
use strata_measure::{
    Buffers, CrewRun, Fatal, Job, JobError, Member, Nominal, Trial, TrialResult, hold_against,
    host_doubts, payload,
};
use strata_record::{Cell, Completes, Warning, WarningCode};
use strata_topology::WatchList;
use strata_units::{Bytes, CpuId};

use crate::aio::Aio;
use crate::commands::{Commands, Plain, Registered};
use crate::engine::BlockEngine;
use crate::nvme::{Namespace, Passthrough};
use crate::psync::Psync;
use crate::target::{Kind, Prepared};
use crate::uring::{Setup, Uring};

/// The largest block: read(2) and write(2) move less than 2 GiB at once.
const MOST: Bytes = Bytes::GIB;

/// A cell on a prepared target.
pub struct BlockJob {
    engine: BlockEngine,
    storage: StorageCell,
    file: Prepared,
    watch: Option<WatchList>,
    /// Where the kernel's polling threads run, one for each measuring thread; none without `+sqpoll`.
    sq_cpus: Vec<CpuId>,
    nominal: Nominal,
}

impl BlockJob {
    /// A job for `cell` on `file`.
    ///
    /// # Errors
    /// In words, what of the cell cannot be: its engine, depth, window, block size or CPUs.
    pub fn new(cell: Cell, file: Prepared) -> Result<BlockJob, String> {
        let engine: BlockEngine = cell
            .engine
            .parse()
            .map_err(|e: crate::UnknownEngine| e.to_string())?;
        let storage = StorageCell::new(
            cell,
            &StorageTarget {
                kind: "file",
                name: &file.path.display().to_string(),
                from: file.from,
                region: file.region,
                state: file.state,
            },
        )?;
        let w = &storage.cell().workload;
        if w.depth.get() > engine.most_depth() {
            return Err(format!(
                "{engine} has one operation in flight, not {}; give --depth 1, more --threads, or --engine io_uring",
                w.depth
            ));
        }
        if w.block_bytes > MOST {
            return Err(format!(
                "a block of {} is more than one system call moves; give a --bs of at most {MOST}",
                w.block_bytes
            ));
        }
        let sq_cpus = if engine.sq_polled() {
            sq_cpus(engine, storage.cell(), storage.cpus())?
        } else {
            Vec::new()
        };
        Ok(BlockJob {
            engine,
            storage,
            file,
            watch: None,
            sq_cpus,
            nominal: Nominal::default(),
        })
    }

    /// Verified writes are kept in a ledger at `path`, a new one each trial.
    #[must_use]
    pub fn with_ledger(self, path: PathBuf) -> BlockJob {
        BlockJob {
            storage: self.storage.with_ledger(path),
            ..self
        }
    }

    /// The same with the host watched during each trial: what lies under the file comes first on the list.
    #[must_use]
    pub fn watching(self, list: WatchList) -> BlockJob {
        BlockJob {
            watch: Some(list),
            ..self
        }
    }

    /// The same with the figure held against what lies between the target and the CPU.
    #[must_use]
    pub fn bounded(self, nominal: Nominal) -> BlockJob {
        BlockJob { nominal, ..self }
    }

    /// One thread's engine with its operations.
    fn member<E>(&self, thread: usize, seed: u64, engine: E) -> Result<Member<E>, Fatal> {
        Ok(Member {
            engine,
            stream: self.storage.stream(thread, seed)?,
        })
    }

    /// One thread's ring with its operations.
    fn on_ring<C: Commands>(
        &self,
        thread: usize,
        seed: u64,
        commands: C,
        file: File,
        buffers: Buffers,
        setup: Setup,
    ) -> Result<Member<Uring<C>>, Fatal> {
        let sq_cpu = self.sq_cpus.get(thread).copied();
        let engine = Uring::new(commands, file, buffers, setup, sq_cpu).map_err(Fatal)?;
        self.member(thread, seed, engine)
    }

    fn buffers(&self, seed: u64) -> Result<Buffers, Fatal> {
        let w = &self.storage.cell().workload;
        let buffers = Buffers::new(w.depth, w.block_bytes, self.storage.want())
            .map_err(|e| Fatal(e.to_string()))?;
        self.storage.fill(&buffers, seed);
        Ok(buffers)
    }

    fn run_crew(&self, trial: &Trial<'_>) -> Result<CrewRun, JobError> {
        let w = &self.storage.cell().workload;
        let crew = self.storage.crew(trial, self.watch.as_ref());
        let opened = || {
            let path = &self.file.path;
            self.file.open(w.op.writes()).map_err(|e| {
                Fatal(format!(
                    "cannot open {}: {e}; it was there before the run: leave it in its place",
                    path.display()
                ))
            })
        };
        // Behind the page cache a write is only promised; a read has been read either way.
        let completes = if self.file.direct || !w.op.writes() {
            Completes::Device
        } else {
            Completes::AcceptedLocally
        };
        let (depth, align, seed) = (w.depth, payload::SECTOR, trial.seed);
        let parts = || Ok::<_, Fatal>((opened()?, self.buffers(seed)?));
        let run = match self.engine {
            BlockEngine::Psync => crew.run(|n| {
                let (file, buffers) = parts()?;
                self.member(n, seed, Psync::new(file, buffers, align, completes))
            }),
            BlockEngine::Libaio => crew.run(|n| {
                let (file, buffers) = parts()?;
                let engine = Aio::new(file, buffers, depth, align, completes).map_err(Fatal)?;
                self.member(n, seed, engine)
            }),
            BlockEngine::IoUring(mode) | BlockEngine::IoUringCmd(mode) => {
                let setup = Setup {
                    mode,
                    depth,
                    align,
                    completes,
                };
                match self.engine {
                    BlockEngine::IoUringCmd(_) => crew.run(|n| {
                        let (file, buffers) = parts()?;
                        let namespace = Namespace::of(&file).map_err(Fatal)?;
                        namespace
                            .takes(w.block_bytes, self.file.region)
                            .map_err(Fatal)?;
                        let commands = Passthrough::new(&file, namespace, mode.registered);
                        self.on_ring(n, seed, commands, file, buffers, setup)
                    }),
                    _ if mode.registered => crew.run(|n| {
                        let (file, buffers) = parts()?;
                        self.on_ring(n, seed, Registered, file, buffers, setup)
                    }),
                    _ => crew.run(|n| {
                        let (file, buffers) = parts()?;
                        let commands = Plain::new(&file);
                        self.on_ring(n, seed, commands, file, buffers, setup)
                    }),
                }
            }
        };
        run.map_err(JobError::from)
    }

    fn warnings(&self) -> Vec<Warning> {
        let unwritten = self.storage.unwritten(match self.file.kind {
            Kind::File => "the file has holes or blocks of zeros: reading those measures no medium; name a file that does not exist yet, and it is made and filled",
            Kind::Device | Kind::Namespace => "the drive has blocks of zeros, which were never written or were deallocated: reading those measures no medium; write it first, as --precondition does (which destroys what it holds)",
        });
        let mut warnings: Vec<Warning> = unwritten.into_iter().collect();
        if !self.file.direct {
            warnings.push(Warning {
                code: WarningCode::Buffered,
                text: "the file system has no O_DIRECT: the page cache is measured, not the drive; name a file on another file system".to_owned(),
            });
        }
        warnings
    }
}

impl Job for BlockJob {
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError> {
        self.engine
            .available_on(&self.file)
            .map_err(JobError::Skipped)?;
        self.storage.begin_ledger()?;
        let run = self.run_crew(trial)?;
        let mut result = run.into_result(self.warnings());
        let work = self.storage.device_work(&result.measured);
        let doubts = host_doubts(&result.proof, self.file.direct.then_some(&work));
        result.warnings.extend(doubts);
        if self.engine.polled() {
            prove_polled(&mut result);
        }
        if self.engine.sq_polled() {
            // Its polling thread is one of the kernel's, and on a CPU that was chosen.
            result
                .warnings
                .retain(|w| w.code != WarningCode::KernelWorkers);
        }
        hold_against(&mut result, &self.nominal, &self.storage.cell().workload);
        Ok(result)
    }

    fn via(&self) -> Option<&str> {
        self.file.path.to_str()
    }
}

/// Polled completions come without interrupts; a kernel whose driver has no poll queues falls back to those in silence. Other
/// work on the drive may raise some.
fn prove_polled(result: &mut TrialResult) {
    let Some(host) = &result.proof.host else {
        result.proof.missing.push(
            "that completions were polled: the drive's interrupts were not watched".to_owned(),
        );
        return;
    };
    let fired: u64 = host
        .fired
        .iter()
        .flat_map(|vector| vector.counts.iter().map(|on| on.count))
        .sum();
    if host.vectors.is_none_or(|n| n == 0) {
        result
            .proof
            .missing
            .push("that completions were polled: the drive's interrupts are not told".to_owned());
    } else if fired > 64 + result.measured.ops / 100 {
        result.proof.contradictions.push(format!(
            "completions were to be polled, and the drive raised {fired} interrupts for {} operations: its driver has no poll queues; load nvme with poll_queues=N",
            result.measured.ops
        ));
    }
}

/// The CPUs of the kernel's polling threads: those of the cell's placement, or else such as the process may use and does not
/// measure on, since a polling thread that shares a CPU with the one that it works for makes both slow.
fn sq_cpus(engine: BlockEngine, cell: &Cell, measuring: &[CpuId]) -> Result<Vec<CpuId>, String> {
    let given: Vec<CpuId> = cell.placement.poll_cpus.iter().collect();
    let cpus = if given.is_empty() {
        crate::sys::process_cpus()
            .into_iter()
            .filter(|cpu| !measuring.contains(cpu))
            .take(measuring.len())
            .collect()
    } else {
        given
    };
    if cpus.len() != measuring.len() || cpus.iter().any(|cpu| measuring.contains(cpu)) {
        return Err(format!(
            "a thread of the kernel's polls for each of {engine}'s, on a CPU of its own: for {} threads there are CPUs {cpus:?} beside {measuring:?}; give fewer --threads, other --cpus, or leave out +sqpoll",
            measuring.len()
        ));
    }
    Ok(cpus)
}
