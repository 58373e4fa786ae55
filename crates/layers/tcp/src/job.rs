//! One cell of the tcp layer, ready to be run again and again.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::two_sides::{self, Report};
use strata_measure::{
    Crew, CrewError, CrewRun, Fatal, Job, JobError, Member, Nominal, Stream, Trial, TrialResult,
    hold_against, host_doubts,
};
use strata_peer::{
    Local, Other, PeerError, Reach, Say, Seen, Task, answer, beside, clock, overlap, secret,
    unasked,
};
use strata_record::{Cell, Direction, Role};
use strata_topology::WatchList;
use strata_units::{CpuId, Nanos};

use crate::account::Ledger;
use crate::connections::Connections;
use crate::info::proofs;
use crate::message::{LAYER, Listening, TcpTask};
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
        let cpus = two_sides::cpus(&cell)?;
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
            (Some(Direction::Send), Some(theirs)) => {
                two_sides::there(run, report.cpu_ns_per_op, theirs)
            }
            (Some(Direction::Both), Some(theirs)) => {
                let overlap = self.overlap(&run, &report, seen)?;
                two_sides::both(run, report.cpu_ns_per_op, theirs, overlap)
            }
        };
        let proof = &mut result.proof;
        proof.connections = proofs(&self.ledger.accounts(), &mut proof.missing);
        two_sides::join(&mut result, report.proof, report.failed);
        // On another machine the same numbers are other CPUs.
        if self.same_host {
            let shared = two_sides::shared_cpus(&self.cell.placement);
            result.warnings.extend(shared);
        }
        Ok(result)
    }

    /// How far the windows of both directions lay in one another.
    fn overlap(&self, run: &CrewRun, report: &Report, seen: Option<Seen>) -> Result<f64, JobError> {
        let (Some(seen), Some(we), Some(they)) = (seen, self.ledger.begins.span(), report.began)
        else {
            return Err(JobError::Failed(
                "a side did not say when it began; its trial broke off".to_owned(),
            ));
        };
        Ok(overlap(seen, we, they, run.tally.window()))
    }
}

/// What a conversation that broke off is to a job.
fn broken(why: PeerError) -> JobError {
    match why {
        PeerError::Unwanted => JobError::Interrupted,
        why => JobError::Failed(why.to_string()),
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
