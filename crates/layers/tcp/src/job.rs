//! One cell of the tcp layer, ready to be run again and again.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use strata_measure::{
    Crew, CrewError, CrewRun, Fatal, Job, JobError, Load, Member, Stream, Trial, TrialResult,
    Window, doubts, host_doubts,
};
use strata_peer::{Child, PeerError};
use strata_record::{Cell, Cost, Op, Role, Warning, WarningCode};
use strata_topology::WatchList;
use strata_units::{CpuId, Nanos};

use crate::client::connect;
use crate::engine::{Requester, Sender};
use crate::message::{Answer, Report, Task};

/// How long the other side may take beyond what it was asked for.
const SLACK: Nanos = Nanos(15_000_000_000);

/// A cell between this process and one that it starts for each trial.
pub struct TcpJob {
    cell: Cell,
    load: Load,
    cpus: Vec<CpuId>,
    program: PathBuf,
    arguments: Vec<String>,
    watch: Option<WatchList>,
}

impl TcpJob {
    /// A job for `cell`; `program` with `arguments` is what calls [`crate::serve`].
    ///
    /// # Errors
    /// In words, what of the cell cannot be: its operation, depth, window, size or CPUs.
    pub fn new(cell: Cell, program: PathBuf, arguments: Vec<String>) -> Result<TcpJob, String> {
        let w = &cell.workload;
        match w.op {
            Op::Stream if w.depth.get() > 1 => {
                return Err(format!(
                    "a stream has no depth, {} was given; leave --depth out, or give --op reqrep",
                    w.depth
                ));
            }
            Op::Stream | Op::ReqRep => {}
            other => {
                return Err(format!(
                    "`{other}` is no operation of the tcp layer; expected stream or reqrep"
                ));
            }
        }
        if w.block_bytes.0 == 0 || w.block_bytes.0 > MOST {
            return Err(format!(
                "a message of {} is none; give a --bs from 1 to 16MiB",
                w.block_bytes
            ));
        }
        let cpus: Vec<CpuId> = cell.placement.cpus.iter().collect();
        for (what, n) in [
            ("--cpus", cpus.len()),
            ("--peer-cpus", cell.placement.peer_cpus.len()),
        ] {
            if n != usize::from(w.threads) {
                return Err(format!(
                    "{} threads need as many CPUs on each side, and {what} has {n}; change --threads or {what}",
                    w.threads
                ));
            }
        }
        let load = Load::of(w).map_err(|e| e.to_string())?;
        Ok(TcpJob {
            cell,
            load,
            cpus,
            program,
            arguments,
            watch: None,
        })
    }

    /// The same with the host watched during each trial, from the side that measures.
    #[must_use]
    pub fn watching(self, list: WatchList) -> TcpJob {
        TcpJob {
            watch: Some(list),
            ..self
        }
    }

    fn start(&self, token: u64, interrupted: &AtomicBool) -> Result<(Child, u16), JobError> {
        let failed = |e: PeerError| JobError::Failed(format!("{}: {e}", self.program.display()));
        let mut child =
            Child::start(Command::new(&self.program).args(&self.arguments)).map_err(failed)?;
        let task = Task {
            workload: self.cell.workload.clone(),
            cpus: self.cell.placement.peer_cpus.clone(),
            token,
        };
        child.send(&task).map_err(failed)?;
        match answer(&mut child, SLACK, &[interrupted])? {
            Answer::Listening(port) => Ok((child, port)),
            Answer::Done(_) => Err(JobError::Failed(
                "the other side was done before it began".to_owned(),
            )),
            Answer::Failed(why) => Err(JobError::Failed(why)),
        }
    }

    /// The longest that the other side may take from the first connection on. By count nobody knows, and a receiver that was
    /// stopped shall not be waited for until somebody looks.
    fn deadline(&self) -> Nanos {
        match self.load.window {
            Window::Time(span) => self.load.ramp + span + SLACK,
            Window::Ops(_) => Nanos::SECOND * 3600,
        }
    }

    fn crew<'a>(
        &'a self,
        load: Load,
        trial: &'a Trial<'_>,
        enough: Option<&'a AtomicBool>,
    ) -> Crew<'a> {
        Crew {
            cpus: &self.cpus,
            role: Role::Measure,
            load,
            mem_node: self.cell.placement.mem_node,
            interrupted: trial.interrupted,
            enough,
            watch: self.watch.as_ref(),
        }
    }

    fn request_and_reply(
        &self,
        mut child: Child,
        (port, token): (u16, u64),
        trial: &Trial<'_>,
    ) -> Result<TrialResult, JobError> {
        let w = &self.cell.workload;
        let run = self.crew(self.load, trial, None).run(|_| {
            let socket = connect(port, token).map_err(no_connection)?;
            let engine =
                Requester::new(socket, w.block_bytes, w.depth, self.cell.placement.mem_node)?;
            Ok(Member {
                engine,
                stream: Stream::new(w.op, w.block_bytes, 1, trial.seed),
            })
        });
        let run = ran(run)?;
        // Its connections are closed now, and so the other side ends by itself.
        let report = finished(&mut child, SLACK, &[trial.interrupted])?;
        let mut result = run.into_result(Vec::new());
        result.cost.peer_cpu_ns_per_op = Some(report.cpu_ns_per_op);
        join(&mut result, report.proof, report.failed);
        Ok(result)
    }

    fn stream(
        &self,
        mut child: Child,
        (port, token): (u16, u64),
        trial: &Trial<'_>,
    ) -> Result<TrialResult, JobError> {
        let w = &self.cell.workload;
        let (enough, given_up) = (AtomicBool::new(false), AtomicBool::new(false));
        // The receiver's window is the trial's, and its patience too; the sender goes on until the receiver has closed. By
        // count it looks every 10 ms whether it has.
        let sending = Load {
            ramp: Nanos(0),
            window: Window::Ops(u64::MAX),
            patience: Nanos(u64::MAX),
            ..self.load
        };
        let (run, report) = thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let stop = [trial.interrupted, &given_up];
                let report = finished(&mut child, self.deadline(), &stop);
                enough.store(true, Ordering::Relaxed);
                report
            });
            let run = self.crew(sending, trial, Some(&enough)).run(|_| {
                let socket = connect(port, token).map_err(no_connection)?;
                let engine = Sender::new(socket, w.block_bytes, self.cell.placement.mem_node)?;
                Ok(Member {
                    engine,
                    stream: Stream::new(w.op, w.block_bytes, 1, trial.seed),
                })
            });
            // Nobody sends: the receiver need not be waited for.
            given_up.store(run.is_err(), Ordering::Relaxed);
            let report = waiting.join().unwrap_or_else(|_| {
                Err(JobError::Failed(
                    "waiting for the receiver panicked; this is a bug of strata".to_owned(),
                ))
            });
            (run, report)
        });
        let (sent, report) = (ran(run)?, report?);
        let Some(received) = report.received else {
            return Err(JobError::Failed(
                "the receiver sent no figure; both sides must be one version of strata".to_owned(),
            ));
        };
        let mut result = TrialResult {
            cost: Cost {
                peer_cpu_ns_per_op: Some(report.cpu_ns_per_op),
                ..sent.cost(None)
            },
            warnings: doubts(&received.measured),
            measured: received.measured,
            harness: received.harness,
            ceiling: received.ceiling,
            failed: sent.failed(),
            proof: sent.proof,
        };
        join(&mut result, report.proof, report.failed);
        Ok(result)
    }

    fn shared_cpus(&self) -> Option<Warning> {
        let p = &self.cell.placement;
        let both = p.cpus.and(&p.peer_cpus);
        (!both.is_empty()).then(|| Warning {
            code: WarningCode::SharedCpu,
            text: format!("both sides run on CPU {both}: this is the time of taking turns; give other --cpus or --peer-cpus"),
        })
    }
}

/// The largest message.
const MOST: u64 = 16 << 20;

fn no_connection(error: std::io::Error) -> Fatal {
    Fatal(format!(
        "cannot connect to the other side on 127.0.0.1: {error}"
    ))
}

fn ran(run: Result<CrewRun, CrewError>) -> Result<CrewRun, JobError> {
    run.map_err(|e| match e {
        CrewError::Interrupted => JobError::Interrupted,
        CrewError::SetUp(why) => JobError::Failed(why),
    })
}

/// Waits for the other side's report.
fn finished(
    child: &mut Child,
    within: Nanos,
    unwanted: &[&AtomicBool],
) -> Result<Report, JobError> {
    match answer(child, within, unwanted)? {
        Answer::Done(report) => Ok(*report),
        Answer::Failed(why) => Err(JobError::Failed(format!("the other side: {why}"))),
        Answer::Listening(_) => Err(JobError::Failed("the other side listened twice".to_owned())),
    }
}

/// Waits for the other side's next word, looking now and then whether anything says that it is no longer wanted.
fn answer(child: &mut Child, within: Nanos, unwanted: &[&AtomicBool]) -> Result<Answer, JobError> {
    const LOOK: Nanos = Nanos::from_millis(200);
    let mut left = within;
    loop {
        match child.receive_within(LOOK.min(left)) {
            Ok(answer) => return Ok(answer),
            Err(_) if unwanted.iter().any(|stop| stop.load(Ordering::Relaxed)) => {
                return Err(JobError::Interrupted);
            }
            Err(PeerError::Silent(_)) if left > LOOK => left = left - LOOK,
            Err(PeerError::Silent(_)) => {
                return Err(JobError::Failed(PeerError::Silent(within).to_string()));
            }
            Err(e) => return Err(JobError::Failed(e.to_string())),
        }
    }
}

/// A number that nobody else knows, for the connections of one trial.
fn secret() -> Result<u64, JobError> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|e| {
            JobError::Failed(format!("cannot read /dev/urandom: {e}; make it readable"))
        })?;
    Ok(u64::from_le_bytes(bytes))
}

/// Adds what the other side found about itself.
fn join(result: &mut TrialResult, theirs: strata_record::Proof, failed: Option<String>) {
    let ours = &mut result.proof;
    ours.threads.extend(theirs.threads);
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

impl Job for TcpJob {
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError> {
        let token = secret()?;
        let (child, port) = self.start(token, trial.interrupted)?;
        let mut result = match self.cell.workload.op {
            Op::Stream => self.stream(child, (port, token), trial)?,
            _ => self.request_and_reply(child, (port, token), trial)?,
        };
        result.warnings.extend(self.shared_cpus());
        // With both sides' threads known: what neither of them took, others did.
        result.warnings.extend(host_doubts(&result.proof, None));
        Ok(result)
    }
}
