//! The threads of a trial: pinned, proved, started and stopped together.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use strata_record::{
    Ceiling, CeilingKind, Cost, Harness, Measured, PagesProof, Proof, Role, ThreadProof, Warning,
    WarningCode,
};
use strata_topology::{
    HostWatch, OtherThread, Root, ThreadWatch, WatchList, Watched, pin_current_thread,
    process_time, thread_times,
};
use strata_units::{CpuId, CpuList, Nanos, NodeId};

use crate::{
    Clock, Edge, Engine, FailCode, Fatal, Gate, Limits, Load, NullEngine, Scratch, Step, Stream,
    Tally, TrialResult, Window, contradictions, drive, thread_proof,
};

/// What one thread of a crew drives: built on the thread, after it is pinned.
pub struct Member<E> {
    /// The engine.
    pub engine: E,
    /// Its operations.
    pub stream: Stream,
}

/// How a crew is to work.
#[derive(Debug, Clone, Copy)]
pub struct Crew<'a> {
    /// One CPU a thread.
    pub cpus: &'a [CpuId],
    /// The side that they are.
    pub role: Role,
    /// The load of each.
    pub load: Load,
    /// The node that their buffers are bound to.
    pub mem_node: Option<NodeId>,
    /// Set when the user wants to stop.
    pub interrupted: &'a AtomicBool,
    /// Set when the window is over by somebody else's word, as a sender's is by its receiver's.
    pub enough: Option<&'a AtomicBool>,
    /// A process whose first thread works for the figure too, and is watched as the threads are: an emulated controller.
    pub other: Option<u32>,
    /// What of the host is watched meanwhile; none where somebody else on this host watches it.
    pub watch: Option<&'a WatchList>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct CrewRun {
    /// The counts of all threads together.
    pub tally: Tally,
    /// What the engine is.
    pub limits: Limits,
    /// Its failures in words.
    pub failures: Vec<String>,
    /// CPU time of the threads within the window: outside the kernel and in it.
    pub cpu_time: (Nanos, Nanos),
    /// CPU time within the window of threads that the kernel runs on the process's behalf (io_uring's workers).
    pub workers: Nanos,
    /// Where they were.
    pub proof: Proof,
    /// Where the other process's thread was, and its CPU time within the window; none where there was none to watch.
    pub other: Option<(Watched, Nanos)>,
    /// What measuring costs a thread.
    pub harness: Harness,
    /// What their memory was wished to be and is not.
    pub memory_notes: Vec<String>,
}

/// Why a crew did not measure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrewError {
    /// A thread could not be set up; the others were sent home.
    #[error("{0}")]
    SetUp(String),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// What one thread brings home.
struct Brought {
    tally: Tally,
    limits: Limits,
    failures: Vec<String>,
    cpu_time: (Nanos, Nanos),
    process_time: Nanos,
    thread: ThreadProof,
    missing: Vec<String>,
    pages: Vec<PagesProof>,
    other: Option<(Watched, Nanos)>,
    harness: Harness,
    notes: Vec<String>,
}

/// What a thread drops when it has come so far; one that gives up or panics drops both.
struct Turns {
    ready: mpsc::Sender<Infallible>,
    closed: mpsc::Sender<Infallible>,
}

/// Waits until all threads have dropped their turn.
fn all_past(turn: &mpsc::Receiver<Infallible>) {
    // Nothing can be sent: what comes is the end.
    let _ = turn.recv();
}

/// Sends all threads home from the gate, and keeps the first reason. Dropped by a panic it does so too.
struct Home<'a> {
    gate: &'a Gate,
    why: &'a Mutex<Option<String>>,
    /// Whoever waits elsewhere looks at this.
    enough: Option<&'a AtomicBool>,
}

impl Home<'_> {
    fn send(&self, why: &str) {
        // The reason first: whom the gate lets go has only heard of it.
        let mut kept = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| why.to_owned());
        drop(kept);
        if let Some(enough) = self.enough {
            enough.store(true, Ordering::Relaxed);
        }
        self.gate.abort(why);
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.send("a measuring thread panicked; this is a bug of strata");
        }
    }
}

impl Crew<'_> {
    /// Runs one trial: each thread pins itself, finds the harness's cost on its core, builds its engine by `build` (given
    /// the thread's number), waits at the gate for the others, drives, and brings its proof.
    ///
    /// # Errors
    /// [`CrewError`] when it did not come to a measurement; what broke off in mid-trial stands in the tally.
    pub fn run<E, B>(&self, build: B) -> Result<CrewRun, CrewError>
    where
        E: Engine,
        B: Fn(usize) -> Result<Member<E>, Fatal> + Sync,
    {
        let clock = Clock::get();
        let clock_proof = clock.proof();
        // One more than there are threads: the host is looked at when all are ready, and then the gate opens.
        let gate = Gate::new(self.cpus.len() + 1, clock);
        let why = Mutex::new(None);
        let live = Root::live();
        let (is_ready, all_ready) = mpsc::channel();
        let (is_closed, all_closed) = mpsc::channel();
        let (all, host): (Vec<Brought>, _) = thread::scope(|scope| {
            let threads: Vec<_> = self
                .cpus
                .iter()
                .enumerate()
                .map(|(n, cpu)| {
                    let (gate, home, build) = (
                        &gate,
                        Home {
                            gate: &gate,
                            why: &why,
                            enough: self.enough,
                        },
                        &build,
                    );
                    let turns = Turns {
                        ready: is_ready.clone(),
                        closed: is_closed.clone(),
                    };
                    thread::Builder::new().spawn_scoped(scope, move || {
                        let worked = self.work(*cpu, n, || build(n), gate, clock, turns);
                        worked.map_err(|fatal| home.send(&fatal.0)).ok()
                    })
                })
                .collect();
            let home = Home {
                gate: &gate,
                why: &why,
                enough: self.enough,
            };
            // Before any is waited for, so that none waits at the gate for one that never began.
            for thread in &threads {
                if let Err(e) = thread {
                    home.send(&format!(
                        "cannot start a measuring thread: {e}; look at `ulimit -u` and the cgroup's pids.max"
                    ));
                }
            }
            drop((is_ready, is_closed));
            all_past(&all_ready);
            let watch = self.watch.map(|list| HostWatch::start(&live, list));
            // Aborted when a thread gave up, whose reason is kept.
            let opened = gate.let_go();
            all_past(&all_closed);
            let host = watch.filter(|_| opened).map(HostWatch::finish);
            let all = threads
                .into_iter()
                .flatten()
                .filter_map(|thread| thread.join().unwrap_or(None))
                .collect();
            (all, host)
        });
        if let Some(why) = why.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(CrewError::SetUp(why));
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(CrewError::Interrupted);
        }
        let mut all = all.into_iter();
        let Some(first) = all.next() else {
            return Err(CrewError::SetUp(
                "no CPU was given to measure on".to_owned(),
            ));
        };
        let mut run = CrewRun {
            tally: first.tally,
            limits: first.limits,
            failures: first.failures,
            cpu_time: first.cpu_time,
            workers: Nanos(0),
            proof: Proof {
                threads: vec![first.thread],
                pages: first.pages,
                clock: clock_proof,
                host: None,
                peer_host: None,
                connections: Vec::new(),
                queue_pairs: Vec::new(),
                contradictions: Vec::new(),
                missing: first.missing,
            },
            other: first.other,
            harness: first.harness,
            memory_notes: first.notes,
        };
        for one in all {
            run.tally.merge(one.tally);
            run.failures.extend(one.failures);
            run.cpu_time.0 = run.cpu_time.0 + one.cpu_time.0;
            run.cpu_time.1 = run.cpu_time.1 + one.cpu_time.1;
            run.proof.threads.push(one.thread);
            run.proof.pages.extend(one.pages);
            run.proof.missing.extend(one.missing);
            run.harness.ns_per_op = run.harness.ns_per_op.max(one.harness.ns_per_op);
            run.memory_notes.extend(one.notes);
        }
        // What the process used in the window beyond its measuring threads, it used in threads of the kernel's on its behalf.
        let ours = run.cpu_time.0 + run.cpu_time.1;
        run.workers = first.process_time - ours;
        run.proof.pages = together(run.proof.pages);
        if let Some((host, missing)) = host {
            run.proof.host = Some(host);
            run.proof.missing.extend(missing);
        }
        for list in [
            &mut run.failures,
            &mut run.proof.missing,
            &mut run.memory_notes,
        ] {
            list.sort();
            list.dedup();
        }
        run.proof.contradictions =
            contradictions(&run.proof.threads, &run.proof.pages, self.mem_node);
        Ok(run)
    }

    /// One thread's whole trial.
    fn work<E: Engine>(
        &self,
        cpu: CpuId,
        number: usize,
        build: impl FnOnce() -> Result<Member<E>, Fatal>,
        gate: &Gate,
        clock: Clock,
        turns: Turns,
    ) -> Result<Brought, Fatal> {
        let asked: CpuList = [cpu].into_iter().collect();
        pin_current_thread(&asked).map_err(|e| Fatal(e.to_string()))?;
        let Member {
            mut engine,
            mut stream,
        } = build()?;
        let limits = engine.limits();
        if self.load.depth.get() > limits.depth {
            return Err(Fatal(format!(
                "depth {} is more than the engine's {}; give --depth {} or another --engine",
                self.load.depth, limits.depth, limits.depth
            )));
        }
        let load = self.load.of_thread(number, self.cpus.len());
        let harness = harness_cost(&load, &stream, clock);
        let scratch = Scratch::new(&load, &mut stream);
        let mut watch = ThreadWatch::start();
        engine.ready()?;
        drop(turns.ready);
        let start = gate.arrive().map_err(|e| Fatal(e.to_string()))?;

        let mut opened = None;
        let mut closed = None;
        let process = self.other.filter(|_| number == 0);
        let mut other = process.and_then(OtherThread::start).map(Beside::new);
        let tally = drive(
            &mut engine,
            &mut stream,
            &load,
            clock,
            scratch,
            start,
            &mut |edge| {
                watch.sample();
                if let Some(other) = &mut other {
                    other.look(edge);
                }
                match edge {
                    // The first thread looks at the process too.
                    Edge::Open => opened = Some((thread_times(), (number == 0).then(process_time))),
                    Edge::Close => {
                        closed = Some((thread_times(), (number == 0).then(process_time)))
                    }
                    Edge::Interval => {}
                }
                if self.interrupted.load(Ordering::Relaxed)
                    || self.enough.is_some_and(|e| e.load(Ordering::Relaxed))
                {
                    Step::Stop
                } else {
                    Step::Go
                }
            },
        );
        let (cpu_time, process_time) = match (opened, closed) {
            (Some((before, all_before)), Some((after, all_after))) => (
                (after.0 - before.0, after.1 - before.1),
                all_after.unwrap_or_default() - all_before.unwrap_or_default(),
            ),
            // There was no window.
            _ => ((Nanos(0), Nanos(0)), Nanos(0)),
        };
        let watched = watch.finish();
        drop(turns.closed);
        let (thread, unknown) = thread_proof(self.role, asked, watched);
        let mut missing: Vec<String> = unknown.into_iter().collect();
        let pages = engine.pages().unwrap_or_else(|why| {
            missing.push(why);
            Vec::new()
        });
        let failures = tally
            .failures()
            .map(|(code, n)| format!("{n} × {}", explain(&engine, code)))
            .collect();
        Ok(Brought {
            tally,
            limits,
            failures,
            cpu_time,
            process_time,
            thread,
            missing,
            pages,
            other: other.and_then(Beside::finish),
            harness,
            notes: engine.notes(),
        })
    }
}

/// The other process's thread, watched as this one is.
struct Beside {
    watch: OtherThread,
    opened: Option<Nanos>,
    spent: Nanos,
}

impl Beside {
    fn new(watch: OtherThread) -> Beside {
        Beside {
            watch,
            opened: None,
            spent: Nanos(0),
        }
    }

    /// Its CPU time is looked at when the window opens and closes, and not between: that takes system calls.
    fn look(&mut self, edge: Edge) {
        match edge {
            Edge::Open => self.opened = self.watch.spent(),
            Edge::Interval => {}
            Edge::Close => {
                let now = self.watch.spent().zip(self.opened);
                self.spent = now.map_or(Nanos(0), |(now, opened)| now - opened);
            }
        }
    }

    fn finish(self) -> Option<(Watched, Nanos)> {
        Some((self.watch.finish()?, self.spent))
    }
}

/// A failure in words; the loop's own codes are no engine's.
fn explain<E: Engine>(engine: &E, code: FailCode) -> String {
    if code == FailCode::MISMATCH {
        "a read that did not hold what was written there".to_owned()
    } else {
        engine.explain(code)
    }
}

/// Parts of one node and page size added up.
fn together(parts: Vec<PagesProof>) -> Vec<PagesProof> {
    let mut sums: Vec<PagesProof> = Vec::new();
    for part in parts {
        match sums
            .iter_mut()
            .find(|s| s.node == part.node && s.page_bytes == part.page_bytes)
        {
            Some(sum) => sum.pages += part.pages,
            None => sums.push(part),
        }
    }
    sums
}

/// What clock, stream, histogram and loop cost an operation on this thread, against the engine that does nothing, with
/// the same depth and way of timing: the least of some slices (METHOD 10), since what others take from the core is not
/// the loop's. About 10 ms; on a slow machine fewer slices.
fn harness_cost(load: &Load, stream: &Stream, clock: Clock) -> Harness {
    const SLICES: u64 = 16;
    const OPS: u64 = 20_000;
    const FEWEST: u64 = 2;
    const LONGEST: Nanos = Nanos::from_millis(40);
    let load = Load {
        offer: None,
        ramp: Nanos(0),
        window: Window::Ops(OPS),
        ..*load
    };
    let mut engine = NullEngine::new(load.depth);
    let mut stream = stream.unchecked();
    let begun = Instant::now();
    let mut slices = 0;
    let least = (0..SLICES)
        .take_while(|n| *n < FEWEST || Nanos::from(begun.elapsed()) < LONGEST)
        .map(|_| {
            slices += 1;
            let scratch = Scratch::new(&load, &mut stream);
            let tally = drive(
                &mut engine,
                &mut stream,
                &load,
                clock,
                scratch,
                clock.now(),
                &mut |_| Step::Go,
            );
            tally.window().0 as f64 / tally.ops().max(1) as f64
        })
        .fold(f64::INFINITY, f64::min);
    Harness {
        ns_per_op: least,
        ops: slices * OPS,
    }
}

impl CrewRun {
    /// What an operation cost the CPUs, the kernel's threads on its behalf included; `peer` is the CPU time of the other side.
    pub fn cost(&self, peer: Option<Nanos>) -> Cost {
        let ops = self.tally.ops().max(1) as f64;
        let user = self.cpu_time.0.0 as f64;
        let system = (self.cpu_time.1 + self.workers).0 as f64;
        Cost {
            cpu_ns_per_op: (user + system) / ops,
            system_share: (user + system > 0.0).then(|| system / (user + system)),
            peer_cpu_ns_per_op: peer.map(|span| span.0 as f64 / ops),
            instructions_per_op: None,
        }
    }

    /// The bound that the measuring cores themselves set: the loop against an engine that does nothing.
    pub fn core_ceiling(&self) -> Ceiling {
        let threads = self.proof.threads.len() as f64;
        let ops_per_s = threads * 1e9 / self.harness.ns_per_op;
        let window_s = self.tally.window().as_secs_f64();
        Ceiling {
            ops_per_s: Some(ops_per_s),
            bytes_per_s: None,
            bound_by: "the measuring core: the loop against an engine that does nothing".to_owned(),
            kind: CeilingKind::Measured,
            share: (window_s > 0.0).then(|| self.tally.ops() as f64 / window_s / ops_per_s),
        }
    }

    /// The result of a trial that this crew was all of.
    pub fn into_result(self, mut warnings: Vec<Warning>) -> TrialResult {
        let (cost, core, failed) = (self.cost(None), self.core_ceiling(), self.failed());
        warnings.extend(self.memory_notes.into_iter().map(|text| Warning {
            code: WarningCode::Memory,
            text,
        }));
        let ours = self.cpu_time.0 + self.cpu_time.1;
        // Accounting is not exact to the tick, and a process has a little to do beside measuring.
        if self.workers.0 * 10 > ours.0 {
            warnings.push(Warning {
                code: WarningCode::KernelWorkers,
                text: format!(
                    "{:.0} % of the CPU time went to threads of the kernel's own (io_uring's workers), which run where the kernel likes: the file system or drive does not take the operation without sleeping",
                    self.workers.0 as f64 / (self.workers + ours).0 as f64 * 100.0
                ),
            });
        }
        let measured = self.tally.measured(self.limits.completes);
        warnings.extend(doubts(&measured));
        TrialResult {
            measured,
            cost,
            proof: self.proof,
            bounds: vec![core],
            harness: self.harness,
            warnings,
            failed,
        }
    }

    /// Why the figure is none: operations failed, or the trial broke off.
    pub fn failed(&self) -> Option<String> {
        let mut why: Vec<String> = self.tally.broken().map(str::to_owned).into_iter().collect();
        if self.tally.errors() > 0 {
            why.push(format!(
                "{} operations failed: {}",
                self.tally.errors(),
                self.failures.join("; ")
            ));
        }
        (!why.is_empty()).then(|| why.join("; "))
    }
}

/// What the figure itself gives to doubt.
pub fn doubts(measured: &Measured) -> Vec<Warning> {
    let mut doubts = Vec::new();
    if measured.ops < FEW {
        doubts.push(Warning {
            code: WarningCode::FewOperations,
            text: format!(
                "only {} operations fell into the window; give a longer --duration",
                measured.ops
            ),
        });
    }
    if let Some(moved) = measured.stationarity.filter(|s| !s.stationary) {
        doubts.push(Warning {
            code: WarningCode::NotStationary,
            text: format!(
                "the rate moved within the window: slope {:+.0} %, farthest {:.0} % from the middle; look at its series",
                moved.slope * 100.0,
                moved.excursion * 100.0
            ),
        });
    }
    doubts
}

/// Below so many operations not even a median is sure.
const FEW: u64 = 100;
