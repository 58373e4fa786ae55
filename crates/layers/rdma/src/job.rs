//! One cell of the rdma layer, ready to be run again and again.

use std::sync::atomic::Ordering;

use strata_measure::two_sides::{Received, Report, both, cpus, join, shared_cpus, there};
use strata_measure::{
    CrewError, Job, JobError, Nominal, Trial, TrialResult, doubts, hold_against, host_doubts,
};
use strata_peer::{
    Local, Other, PeerError, Reach, Say, Seen, Task as AnyTask, beside, clock, overlap, secret,
};
use strata_record::{Cell, Direction, Role, WarningCode};
use strata_topology::WatchList;
use strata_units::CpuId;

use crate::account::proofs;
use crate::maker::Faults;
use crate::meeting::{GONE, Meeting, Word};
use crate::message::{LAYER, Task};
use crate::shape::{Counts, Shape, Side};
use crate::side::{
    Found, Ran, Running, and, cost, listen, lost, may_pin, open_all, warnings, with_pages,
};

/// A cell between this process and another side.
pub struct RdmaJob<R: Reach = Local> {
    cell: Cell,
    shape: Shape,
    cpus: Vec<CpuId>,
    reach: R,
    watch: Option<WatchList>,
    nominal: Nominal,
    faults: (Faults, Faults),
}

impl<R: Reach> RdmaJob<R> {
    /// A job for `cell` between this process and whoever `reach` comes to, where [`crate::serve_task`] answers.
    ///
    /// # Errors
    /// In words, what of the cell cannot be: its operation, engine, service, depth, window, sizes, queue pairs or CPUs.
    pub fn reaching(cell: Cell, reach: R) -> Result<RdmaJob<R>, String> {
        let verbs = cell.verbs.as_ref().ok_or(
            "a cell of the rdma layer says how queue pairs are made, and this one does not",
        )?;
        let shape = Shape::new(&cell.workload, &cell.engine, verbs)?;
        let cpus = cpus(&cell)?;
        Ok(RdmaJob {
            cell,
            shape,
            cpus,
            reach,
            watch: None,
            nominal: Nominal::default(),
            faults: <(Faults, Faults)>::default(),
        })
    }

    /// The same with the host watched during each trial, from the side that measures.
    #[must_use]
    pub fn watching(self, list: WatchList) -> RdmaJob<R> {
        RdmaJob {
            watch: Some(list),
            ..self
        }
    }

    /// The same with the figure held against what ports and links let through.
    #[must_use]
    pub fn bounded(self, nominal: Nominal) -> RdmaJob<R> {
        RdmaJob { nominal, ..self }
    }

    /// The same with things done wrong on purpose, here and there.
    #[must_use]
    pub fn wronged(self, ours: Faults, theirs: Faults) -> RdmaJob<R> {
        RdmaJob {
            faults: (ours, theirs),
            ..self
        }
    }
}

impl<R: Reach> Job for RdmaJob<R> {
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError> {
        let failed = |why: String| JobError::Failed(why);
        let verbs = &self.shape.verbs;
        let ends = verbs.rails.iter().map(|rail| &rail.ours);
        let ports = open_all(ends, &self.shape).map_err(failed)?;
        may_pin(&self.shape).map_err(failed)?;
        let (name, same_host) = (self.reach.name(), self.reach.same_host());
        let of_peer = |e: PeerError| match e {
            PeerError::Unwanted => JobError::Interrupted,
            e => JobError::Failed(format!("{name}: {e}")),
        };
        let secret = secret().map_err(|e| failed(e.to_string()))?;
        let mut other = self.reach.reach().map_err(of_peer)?;
        let task = Task {
            workload: self.cell.workload.clone(),
            engine: self.cell.engine.clone(),
            verbs: verbs.clone(),
            cpus: self.cell.placement.peer_cpus.clone(),
            secret,
            faults: self.faults.1,
        };
        let task = AnyTask::new(LAYER, &task).map_err(of_peer)?;
        other.send(&Say::<Word>::Task(task)).map_err(of_peer)?;

        let only_sends = self.shape.only_sends(Side::Measuring);
        let meeting = Meeting::new(self.cpus.len(), only_sends, trial.interrupted);
        let running = Running {
            shape: &self.shape,
            side: Side::Measuring,
            ports: &ports,
            cpus: &self.cpus,
            node: self.cell.placement.mem_node,
            meeting: &meeting,
            interrupted: trial.interrupted,
            watch: self.watch.as_ref(),
            secret,
            faults: self.faults.0,
        };
        let is_both = self.cell.workload.direction == Some(Direction::Both);
        let seen = if is_both {
            Some(clock(&mut other, trial.interrupted).map_err(of_peer)?)
        } else {
            None
        };
        other.send(&Say::Own(Word::Begin)).map_err(of_peer)?;
        let each = |other: &mut _, word: Option<Word>| {
            listen(&ports, &meeting);
            if let Some(word) = word {
                meeting.hear(word).map_err(PeerError::Garbled)?;
            }
            while let Some(word) = meeting.to_say() {
                Other::send(other, &Say::Own(word))?;
            }
            Ok(())
        };
        let (ours, theirs) = converse(&mut other, trial, &meeting, each, || running.run());
        match (ours, theirs) {
            // Who fails first makes the other fail.
            (Err(CrewError::SetUp(ours)), Err(PeerError::Unwanted)) if !ours.contains(GONE) => {
                Err(failed(ours))
            }
            (Err(CrewError::SetUp(ours)), Err(theirs))
                if !trial.interrupted.load(Ordering::Relaxed) =>
            {
                let theirs = theirs.to_string();
                Err(failed(if ours.contains(&theirs) {
                    ours
                } else if ours.contains(GONE) {
                    format!("{name}: {theirs}")
                } else {
                    format!("{name}: {theirs}; and here: {ours}")
                }))
            }
            (Err(CrewError::SetUp(why)), Ok(_)) => Err(failed(why)),
            (Err(_), _) => Err(JobError::Interrupted),
            (Ok(found), theirs) => {
                let (report, lost) = match theirs {
                    Ok(report) => (Some(report), None),
                    Err(PeerError::Unwanted) => return Err(JobError::Interrupted),
                    Err(why) => (None, Some(format!("{name}: {why}"))),
                };
                let mut result = match (result(&running, found, report, seen), &lost) {
                    // Where the other side counts, its loss leaves no figure.
                    (Err(_), Some(why)) => return Err(failed(why.clone())),
                    (result, _) => result?,
                };
                // What was measured until the other side was lost is kept.
                result.failed = and(result.failed.take(), lost);
                if same_host {
                    result.warnings.extend(shared_cpus(&self.cell.placement));
                }
                result.warnings.extend(host_doubts(&result.proof, None));
                hold_against(&mut result, &self.nominal, &self.cell.workload);
                Ok(result)
            }
        }
    }
}

/// Runs this side's threads while somebody listens to the other one.
fn converse<O: Other>(
    other: &mut O,
    trial: &Trial<'_>,
    meeting: &Meeting<'_>,
    mut each: impl FnMut(&mut O, Option<Word>) -> Result<(), PeerError> + Send,
    work: impl FnOnce() -> Result<Found, CrewError>,
) -> (Result<Found, CrewError>, Result<Report, PeerError>) {
    beside(
        other,
        trial.interrupted,
        &meeting.enough,
        |other: &mut O, word| {
            let done = each(other, word);
            if let Err(why) = &done {
                meeting.end(&why.to_string());
            }
            done
        },
        work,
    )
}

/// Joins what both sides found; of a side that was lost there is no report.
fn result(
    running: &Running<'_>,
    found: Found,
    report: Option<Report>,
    seen: Option<Seen>,
) -> Result<TrialResult, JobError> {
    let accounts = found.accounts;
    let began = found.begins.span();
    let no_figure = || {
        JobError::Failed(
            "the side that counts sent no figure; both must be one version of strata".to_owned(),
        )
    };
    let (peer_cpu, theirs, their_proof, their_failure, they_began) = match report {
        Some(r) => (
            r.cpu_ns_per_op,
            r.received,
            Some(r.proof),
            r.failed,
            r.began,
        ),
        None => (0.0, None, None, None, None),
    };
    let counts = running.shape.counts(Side::Measuring);
    let our_lost = lost(&accounts);
    let mut result = match (found.ran, theirs) {
        (Ran::Drove(run), Some(theirs)) if counts.is_some() => {
            let window = run.tally.window();
            let (Some(seen), Some(we), Some(they)) = (seen, began, they_began) else {
                return Err(JobError::Failed(
                    "a side did not say when it began; its trial broke off".to_owned(),
                ));
            };
            let overlap = overlap(seen, we, they, window);
            let mut result = both(*run, peer_cpu, theirs, overlap);
            if counts == Some(Counts::Initiated) {
                // Each side counted what it began, not what came.
                for flow in &mut result.measured.flows {
                    flow.direction = match flow.direction {
                        Direction::Send => Direction::Receive,
                        _ => Direction::Send,
                    };
                }
            }
            result
        }
        (Ran::Drove(run), None) if counts.is_some() => {
            let mut result = run.into_result(Vec::new());
            result.cost.peer_cpu_ns_per_op = their_proof.is_some().then_some(peer_cpu);
            result
        }
        (Ran::Drove(run), Some(theirs)) => there(*run, peer_cpu, theirs),
        (Ran::Attended(attended, proof), Some(theirs)) => {
            let Received {
                measured,
                harness,
                ceiling,
            } = theirs;
            TrialResult {
                cost: cost(&attended, measured.ops, peer_cpu),
                warnings: doubts(&measured),
                measured,
                harness,
                bounds: vec![ceiling],
                failed: None,
                proof: with_pages(*proof, &accounts),
            }
        }
        (_, None) => return Err(no_figure()),
    };
    // There are none: what the process used besides is the thread that listens to the other side.
    result
        .warnings
        .retain(|w| w.code != WarningCode::KernelWorkers);
    result.measured.lost += our_lost;
    result.proof.queue_pairs = proofs(&accounts, running.ports, Role::Measure);
    result.failed = and(result.failed.take(), running.wrong(&accounts));
    if let Some(mut proof) = their_proof {
        let pairs = std::mem::take(&mut proof.queue_pairs);
        result.proof.queue_pairs.extend(pairs);
        join(&mut result, proof, their_failure);
    }
    let gone = result.measured.lost;
    let received = result.proof.queue_pairs.iter().map(|p| p.received).sum();
    result.warnings.extend(warnings(&accounts, gone, received));
    Ok(result)
}
