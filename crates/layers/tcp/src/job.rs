//! One cell of the tcp layer, ready to be run again and again.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::{
    Crew, CrewError, CrewRun, Fatal, Job, JobError, Member, Nominal, Stream, Trial, TrialResult,
    doubts, hold_against, host_doubts,
};
use strata_peer::{
    Local, Other, PeerError, Reach, Say, Seen, Task, answer, beside, clock, overlap, secret,
    unasked,
};
use strata_record::{
    Ceiling, Cell, Cost, Direction, Flow, Harness, Measured, Proof, Role, Series, Stationarity,
    Warning, WarningCode,
};
use strata_topology::WatchList;
use strata_units::{CpuId, Nanos};

use crate::account::Ledger;
use crate::connections::Connections;
use crate::info::proofs;
use crate::message::{LAYER, Listening, Received, Report, TcpTask};
use crate::options::Side;
use crate::shape::{Lane, Shape};
use crate::wire::{connect, lacking, make_room};

/// How long the other side may take to listen: its program may come from a cold disk.
const LISTENS: Nanos = Nanos(15_000_000_000);

/// A cell between this process and another side.
pub struct TcpJob<R: Reach = Local> {
    cell: Cell,
    shape: Shape,
    cpus: Vec<CpuId>,
    reach: R,
    watch: Option<WatchList>,
    nominal: Nominal,
}

impl TcpJob {
    /// A job for `cell` between this process and one that it starts for each trial: `program` with `arguments` is what does a
    /// task of whoever started it by [`crate::serve_task`]. The cell's `via` says over which loopback address, `127.0.0.1` or `::1`.
    ///
    /// # Errors
    /// In words, what of the cell cannot be: its operation, engine, depth, window, sizes, connections or CPUs.
    pub fn new(cell: Cell, program: PathBuf, arguments: Vec<String>) -> Result<TcpJob, String> {
        let ipv6 = cell.via.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6());
        TcpJob::reaching(
            cell,
            Local {
                program,
                arguments,
                ipv6,
            },
        )
    }
}

impl<R: Reach> TcpJob<R> {
    /// A job for `cell` between this process and whoever `reach` comes to.
    ///
    /// # Errors
    /// As [`TcpJob::new`].
    pub fn reaching(cell: Cell, reach: R) -> Result<TcpJob<R>, String> {
        let shape = Shape::new(&cell.workload, &cell.engine, cell.sockets.as_ref())?;
        let cpus: Vec<CpuId> = cell.placement.cpus.iter().collect();
        for (what, n) in [
            ("--cpus", cpus.len()),
            ("--peer-cpus", cell.placement.peer_cpus.len()),
        ] {
            if n != usize::from(cell.workload.threads) {
                return Err(format!(
                    "{} threads need as many CPUs on each side, and {what} has {n}; change --threads or {what}",
                    cell.workload.threads
                ));
            }
        }
        Ok(TcpJob {
            cell,
            shape,
            cpus,
            reach,
            watch: None,
            nominal: Nominal::default(),
        })
    }

    /// The same with the host watched during each trial, from the side that measures.
    #[must_use]
    pub fn watching(self, list: WatchList) -> TcpJob<R> {
        TcpJob {
            watch: Some(list),
            ..self
        }
    }

    /// The same with the figure held against what the interface lets through.
    #[must_use]
    pub fn bounded(self, nominal: Nominal) -> TcpJob<R> {
        TcpJob { nominal, ..self }
    }
}

/// One trial on this side.
struct Measuring<'a> {
    cell: &'a Cell,
    shape: &'a Shape,
    cpus: &'a [CpuId],
    to: SocketAddr,
    token: u64,
    ledger: Ledger,
    interrupted: &'a AtomicBool,
    watch: Option<&'a WatchList>,
    seed: u64,
    same_host: bool,
}

impl Measuring<'_> {
    fn crew(&self) -> Result<CrewRun, JobError> {
        let (w, p) = (&self.shape.workload, &self.cell.placement);
        let load = self
            .shape
            .load(Side::Measuring)
            .map_err(|e| JobError::Failed(e.to_string()))?;
        let lanes = self.shape.lanes_of(Side::Measuring);
        let crew = Crew {
            cpus: self.cpus,
            role: Role::Measure,
            load,
            mem_node: p.mem_node,
            interrupted: self.interrupted,
            enough: Some(&self.ledger.enough),
            other: None,
            watch: self.watch,
        };
        let run = crew.run(|thread| {
            let mut sockets = Vec::with_capacity(lanes.len());
            for lane in 0..lanes.len() {
                let number = u32::try_from(thread * lanes.len() + lane).unwrap_or(u32::MAX);
                sockets.push(connect(
                    self.to,
                    self.token,
                    number,
                    &self.shape.sockets,
                    self.shape.engine.zerocopy,
                )?);
                if self.interrupted.load(Ordering::Relaxed) {
                    return Err(Fatal("interrupted".to_owned()));
                }
            }
            let engine = Connections::new(
                sockets,
                self.shape,
                Side::Measuring,
                p.mem_node,
                &self.ledger,
                self.interrupted,
            )?;
            let stream = if lanes.contains(&Lane::Receives) {
                Stream::receiving(w.block_bytes)
            } else {
                Stream::new(w.op, w.block_bytes, 1, self.seed)
            };
            Ok(Member { engine, stream })
        });
        run.map_err(|e| match e {
            _ if self.interrupted.load(Ordering::Relaxed) => JobError::Interrupted,
            CrewError::Interrupted => JobError::Interrupted,
            CrewError::SetUp(why) => JobError::Failed(why),
        })
    }

    /// Joins what both sides found.
    fn result(
        &self,
        run: CrewRun,
        mut report: Report,
        seen: Option<Seen>,
    ) -> Result<TrialResult, JobError> {
        let direction = self.shape.direction();
        let mut result = match (direction, report.received.take()) {
            (None | Some(Direction::Receive), _) => {
                let mut result = run.into_result(Vec::new());
                result.cost.peer_cpu_ns_per_op = Some(report.cpu_ns_per_op);
                result
            }
            (Some(_), None) => {
                return Err(JobError::Failed(
                    "the receiver sent no figure; both sides must be one version of strata"
                        .to_owned(),
                ));
            }
            (Some(Direction::Send), Some(theirs)) => TrialResult {
                cost: Cost {
                    peer_cpu_ns_per_op: Some(report.cpu_ns_per_op),
                    ..run.cost(None)
                },
                warnings: doubts(&theirs.measured),
                measured: theirs.measured,
                harness: theirs.harness,
                bounds: vec![theirs.ceiling],
                failed: run.failed(),
                proof: run.proof,
            },
            (Some(Direction::Both), Some(theirs)) => self.both(run, &report, theirs, seen)?,
        };
        let proof = &mut result.proof;
        proof.connections = proofs(&self.ledger.accounts(), &mut proof.missing);
        join(&mut result, report.proof, report.failed);
        result.warnings.extend(self.shared_cpus());
        Ok(result)
    }

    /// Both directions in one figure: what arrived at both ends.
    fn both(
        &self,
        run: CrewRun,
        report: &Report,
        theirs: Received,
        seen: Option<Seen>,
    ) -> Result<TrialResult, JobError> {
        let window = run.tally.window();
        let (Some(seen), Some(we), Some(they)) = (seen, self.ledger.start(), report.began) else {
            return Err(JobError::Failed(
                "a side did not say when it began; its trial broke off".to_owned(),
            ));
        };
        let overlap = overlap(seen, we, they, window);
        let core = run.core_ceiling();
        let ours = run.into_result(Vec::new());
        let flow = |direction, m: &Measured| Flow {
            direction,
            ops: m.ops,
            bytes_per_s: m.bytes_per_s.unwrap_or(0.0),
            window_s: m.window_s,
            overlap,
        };
        let (a, b) = (&ours.measured, &theirs.measured);
        let flows = vec![flow(Direction::Send, b), flow(Direction::Receive, a)];
        let ops_per_s = a.ops_per_s + b.ops_per_s;
        let series = together(&a.series, &b.series);
        let counts: Vec<f64> = series.ops.iter().map(|n| *n as f64).collect();
        let measured = Measured {
            ops: a.ops + b.ops,
            window_s: a.window_s.max(b.window_s),
            ops_per_s,
            bytes_per_s: Some(flows.iter().map(|f| f.bytes_per_s).sum()),
            errors: a.errors + b.errors,
            lost: a.lost + b.lost,
            completes: a.completes,
            latency_ns: None,
            stationarity: strata_stats::stationarity(&counts)
                .ok()
                .map(|s| Stationarity {
                    slope: s.slope,
                    excursion: s.excursion,
                    stationary: s.stationary,
                }),
            series,
            mean_depth: None,
            open: None,
            flows,
            polling: None,
        };
        // Each side's threads worked for the blocks of both.
        let part = |n: u64| n as f64 / measured.ops.max(1) as f64;
        let most = core.ops_per_s.zip(theirs.ceiling.ops_per_s);
        let most = most.map(|(a, b)| a + b);
        Ok(TrialResult {
            cost: Cost {
                cpu_ns_per_op: ours.cost.cpu_ns_per_op * part(a.ops),
                peer_cpu_ns_per_op: Some(report.cpu_ns_per_op * part(b.ops)),
                ..ours.cost
            },
            warnings: doubts(&measured),
            harness: Harness {
                ns_per_op: ours.harness.ns_per_op.max(theirs.harness.ns_per_op),
                ops: ours.harness.ops + theirs.harness.ops,
            },
            bounds: vec![Ceiling {
                ops_per_s: most,
                share: most.map(|most| ops_per_s / most),
                ..core
            }],
            measured,
            proof: ours.proof,
            failed: ours.failed,
        })
    }

    fn shared_cpus(&self) -> Option<Warning> {
        let p = &self.cell.placement;
        let both = p.cpus.and(&p.peer_cpus);
        // On another machine the same numbers are other CPUs.
        (self.same_host && !both.is_empty()).then(|| Warning {
            code: WarningCode::SharedCpu,
            text: format!("both sides run on CPU {both}: this is the time of taking turns; give other --cpus or --peer-cpus"),
        })
    }
}

/// Two series of equal intervals, added up as far as both go.
fn together(a: &Series, b: &Series) -> Series {
    Series {
        interval_s: a.interval_s,
        ops: a.ops.iter().zip(&b.ops).map(|(a, b)| a + b).collect(),
    }
}

/// What a conversation that broke off is to a job.
fn broken(why: PeerError) -> JobError {
    match why {
        PeerError::Unwanted => JobError::Interrupted,
        why => JobError::Failed(why.to_string()),
    }
}

/// Adds what the other side found about itself.
fn join(result: &mut TrialResult, theirs: Proof, failed: Option<String>) {
    let ours = &mut result.proof;
    ours.threads.extend(theirs.threads);
    ours.connections.extend(theirs.connections);
    ours.peer_host = theirs.host;
    ours.contradictions.extend(theirs.contradictions);
    for what in theirs.missing {
        if !ours.missing.contains(&what) {
            ours.missing.push(what);
        }
    }
    if let Some(why) = failed {
        result.failed = Some(match result.failed.take() {
            Some(own) => format!("{own}; the other side: {why}"),
            None => format!("the other side: {why}"),
        });
    }
}

impl<R: Reach> Job for TcpJob<R> {
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError> {
        make_room(self.shape.connections());
        let lacking = lacking(&self.shape.sockets, self.shape.engine.zerocopy);
        if let Some(why) = lacking.map_err(|e| JobError::Failed(e.0))? {
            return Err(JobError::Skipped(why));
        }
        let token = secret().map_err(broken)?;
        let (address, name) = (self.reach.address(), self.reach.name());
        let same_host = self.reach.same_host();
        let failed = |e: PeerError| JobError::Failed(format!("{name}: {e}"));
        let asked = TcpTask {
            workload: self.cell.workload.clone(),
            engine: self.cell.engine.clone(),
            sockets: self.shape.sockets.clone(),
            cpus: self.cell.placement.peer_cpus.clone(),
            token,
            ipv6: address.is_ipv6(),
        };
        let task = Task::new(LAYER, &asked).map_err(broken)?;
        let mut other = self.reach.reach().map_err(failed)?;
        other.send(&Say::<()>::Task(task)).map_err(failed)?;
        let Listening(port) = answer(&mut other, LISTENS, trial.interrupted).map_err(broken)?;
        let seen = match self.shape.direction() {
            Some(Direction::Both) => Some(clock(&mut other, trial.interrupted).map_err(broken)?),
            _ => None,
        };
        let measuring = Measuring {
            cell: &self.cell,
            shape: &self.shape,
            cpus: &self.cpus,
            to: SocketAddr::new(address, port),
            token,
            ledger: Ledger::new(self.shape.senders(Side::Measuring)),
            interrupted: trial.interrupted,
            watch: self.watch.as_ref(),
            seed: trial.seed,
            same_host,
        };
        let enough = &measuring.ledger.enough;
        let (run, report) = beside(
            &mut other,
            trial.interrupted,
            enough,
            unasked::<_, Listening>,
            || measuring.crew(),
        );
        match (run, report.map_err(broken)) {
            // Who fails first makes the other fail.
            (Err(JobError::Failed(ours)), Err(JobError::Failed(theirs))) => {
                Err(JobError::Failed(format!("{theirs}; and here: {ours}")))
            }
            (Err(e), _) | (Ok(_), Err(e)) => Err(e),
            (Ok(run), Ok(report)) => {
                let mut result = measuring.result(run, report, seen)?;
                // With both sides' threads known: what neither of them took, others did.
                result.warnings.extend(host_doubts(&result.proof, None));
                hold_against(&mut result, &self.nominal, &self.cell.workload);
                Ok(result)
            }
        }
    }
}
