//! One cell of the block layer, ready to be run again and again.

use std::fs::File;
use std::path::PathBuf;

use strata_measure::{
    Buffers, Crew, CrewError, CrewRun, DeviceWork, Fatal, Job, JobError, Ledger, LedgerHead, Load,
    Member, Nominal, Stream, Trial, TrialResult, hold_against, host_doubts, payload,
};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Cell, Completes, Role, Warning, WarningCode};
use strata_stats::Rng;
use strata_topology::WatchList;
use strata_units::{ByteOffset, Bytes, CpuId};

use crate::aio::Aio;
use crate::commands::{Commands, Plain, Registered};
use crate::engine::BlockEngine;
use crate::nvme::{Namespace, Passthrough};
use crate::psync::Psync;
use crate::target::{Kind, Prepared};
use crate::uring::{Setup, Uring};
use crate::written::WrittenState;

/// The largest block: read(2) and write(2) move less than 2 GiB at once.
const MOST: Bytes = Bytes::GIB;

/// From here on buffers lie on pages of 2 MiB where such are free: below, one would be mostly empty.
const HUGE: Bytes = Bytes(2 << 20);

/// A cell on a prepared target.
pub struct BlockJob {
    engine: BlockEngine,
    cell: Cell,
    file: Prepared,
    load: Load,
    cpus: Vec<CpuId>,
    ledger: Option<PathBuf>,
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
        let w = &cell.workload;
        if !w.op.is_storage() {
            return Err(format!(
                "`{}` is no operation of the block layer; expected randread, randwrite, randrw:PERCENT, read or write",
                w.op
            ));
        }
        if w.depth.get() > engine.most_depth() {
            return Err(format!(
                "{engine} has one operation in flight, not {}; give --depth 1, more --threads, or --engine io_uring",
                w.depth
            ));
        }
        if !w.block_bytes.is_multiple_of(payload::SECTOR) {
            return Err(format!(
                "a block of {} is no multiple of the sector of {}; give a --bs of 512, 4KiB, …",
                w.block_bytes,
                payload::SECTOR
            ));
        }
        if w.block_bytes > MOST {
            return Err(format!(
                "a block of {} is more than one system call moves; give a --bs of at most {MOST}",
                w.block_bytes
            ));
        }
        if w.block_bytes > file.region {
            return Err(format!(
                "a block of {} does not fit the file's {}; give a smaller --bs",
                w.block_bytes, file.region
            ));
        }
        let cpus: Vec<CpuId> = cell.placement.cpus.iter().collect();
        if cpus.len() != usize::from(w.threads) {
            return Err(format!(
                "{} threads need as many CPUs, and {} are given; change --threads or --cpus",
                w.threads,
                cpus.len()
            ));
        }
        let sq_cpus = if engine.sq_polled() {
            sq_cpus(engine, &cell, &cpus)?
        } else {
            Vec::new()
        };
        if w.verify && w.op.reads() && file.state != WrittenState::Ours {
            return Err(format!(
                "{} was not written by strata, so its reads cannot be checked; leave out --verify",
                file.path.display()
            ));
        }
        let blocks = file.region.0 / w.block_bytes.0;
        if w.verify && w.op.writes() && blocks < u64::from(w.threads) {
            return Err(format!(
                "{} threads of verified writes need a block each, and the region of {} has {blocks} of {}; give fewer --threads, a larger --size or a smaller --bs",
                w.threads, file.region, w.block_bytes
            ));
        }
        let load = Load::of(w).map_err(|e| e.to_string())?;
        Ok(BlockJob {
            engine,
            cell,
            file,
            load,
            cpus,
            ledger: None,
            watch: None,
            sq_cpus,
            nominal: Nominal::default(),
        })
    }

    /// Verified writes are kept in a ledger at `path`, a new one each trial.
    #[must_use]
    pub fn with_ledger(self, path: PathBuf) -> BlockJob {
        let verified = self.cell.workload.verify && self.cell.workload.op.writes();
        BlockJob {
            ledger: verified.then_some(path),
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
            stream: self.stream(thread, seed)?,
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

    /// The operations of one thread: sequential ones begin at its part of the region, and verified writes stay there, so that
    /// each block is of one thread.
    fn stream(&self, thread: usize, seed: u64) -> Result<Stream, Fatal> {
        let w = &self.cell.workload;
        let threads = self.cpus.len();
        let blocks = self.file.region.0 / w.block_bytes.0;
        let own = seed.wrapping_add(thread as u64);
        let from = self.file.from;
        let stream = |blocks, from| {
            Stream::new(w.op, w.block_bytes, blocks, own)
                .from(from)
                .checked(w.verify)
        };
        let Some(path) = &self.ledger else {
            let all = stream(blocks, from).starting_at(thread as f64 / threads as f64);
            return Ok(if w.random_map {
                all.each_once(seed, thread, threads)
            } else {
                all
            });
        };
        let part = blocks / threads as u64;
        let begins = ByteOffset(from.0 + part * thread as u64 * w.block_bytes.0);
        let own_part = stream(part, begins);
        let own_part = if w.random_map {
            own_part.each_once(seed, 0, 1)
        } else {
            own_part
        };
        let ledger = Ledger::open(path, true).map_err(|e| Fatal(e.to_string()))?;
        Ok(own_part.recorded(ledger))
    }

    /// A new ledger for a trial of verified writes.
    fn begin_ledger(&self) -> Result<(), JobError> {
        let Some(path) = &self.ledger else {
            return Ok(());
        };
        let block = self.cell.workload.block_bytes;
        let head = LedgerHead {
            epoch: payload::epoch(),
            block,
            from: self.file.from,
            blocks: self.file.region.0 / block.0,
        };
        Ledger::create(path, &head).map_err(|e| JobError::Failed(e.to_string()))
    }

    fn buffers(&self, seed: u64) -> Result<Buffers, Fatal> {
        let w = &self.cell.workload;
        let want = Want {
            bytes: Bytes(0),
            node: self.cell.placement.mem_node,
            huge: if w.block_bytes * u64::from(w.depth.get()) >= HUGE {
                Huge::Prefer
            } else {
                Huge::Never
            },
            lock: Lock::Prefer,
        };
        let buffers =
            Buffers::new(w.depth, w.block_bytes, want).map_err(|e| Fatal(e.to_string()))?;
        if w.op.writes() {
            let mut random = Rng::new(seed);
            buffers.each(|buffer| payload::fill_body(&buffer, &mut random));
        }
        Ok(buffers)
    }

    fn run_crew(&self, trial: &Trial<'_>) -> Result<CrewRun, JobError> {
        let w = &self.cell.workload;
        let crew = Crew {
            cpus: &self.cpus,
            role: Role::Measure,
            load: self.load,
            mem_node: self.cell.placement.mem_node,
            interrupted: trial.interrupted,
            enough: None,
            watch: self.watch.as_ref(),
        };
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
        run.map_err(|e| match e {
            CrewError::Interrupted => JobError::Interrupted,
            CrewError::SetUp(why) => JobError::Failed(why),
        })
    }

    fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.file.state == WrittenState::Unwritten && self.cell.workload.op.reads() {
            warnings.push(Warning {
                code: WarningCode::Unwritten,
                text: match self.file.kind {
                    Kind::File => "the file has holes or blocks of zeros: reading those measures no medium; name a file that does not exist yet, and it is made and filled".to_owned(),
                    Kind::Device | Kind::Namespace => "the drive has blocks of zeros, which were never written or were deallocated: reading those measures no medium; write it first, as --precondition does (which destroys what it holds)".to_owned(),
                },
            });
        }
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
        self.begin_ledger()?;
        let run = self.run_crew(trial)?;
        let mut result = run.into_result(self.warnings());
        let (m, op) = (&result.measured, self.cell.workload.op);
        let work = DeviceWork {
            bytes: self.cell.workload.block_bytes * m.ops,
            window_s: m.window_s,
            reads: op.reads(),
            writes: op.writes(),
        };
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
        hold_against(&mut result, &self.nominal, &self.cell.workload);
        Ok(result)
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
