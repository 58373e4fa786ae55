//! The rounds themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use strata_measure::{Job, JobError, Trial};
use strata_record::{Ceiling, Cell, Record, Run, Status};

use crate::switch::{Bench, prove};
use crate::{Store, StoreError, Switch, Turn, turns};

/// Where a run stands, for whoever watches it.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The trial that begins, from 0.
    pub trial: usize,
    /// How many there are to be, as known now.
    pub trials: usize,
    /// Its round, from 0.
    pub round: u32,
    /// Its cell.
    pub cell: &'a Cell,
}

/// Is told what happens, between trials only.
pub trait Observer {
    /// A trial begins.
    fn begins(&mut self, at: Progress<'_>);
    /// A trial has ended, and its record is on the disk.
    fn ended(&mut self, record: &Record);
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All rounds are made.
    Done,
    /// The user stopped it; what was measured is kept.
    Interrupted,
}

/// Makes every trial of the plan that `records` does not hold yet, and adds its record to them. `jobs` are those of the
/// plan's cells without a binding, in its order; those of the others are made by `switch` when their level begins, and gone
/// before the next one does. Without a store nothing is kept on the disk.
///
/// A level that cannot be entered fails its cells of this round, which is void then; the next round tries again.
///
/// # Errors
/// [`StoreError`] when a record cannot be written; those before are.
pub fn execute(
    run: &Run,
    jobs: &mut [Box<dyn Job>],
    switch: &mut dyn Switch,
    records: &mut Vec<Record>,
    mut store: Option<&mut Store>,
    interrupted: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Ended, StoreError> {
    let plan = &run.plan;
    let mut bench = Bench::new(&plan.cells, jobs, switch);
    let before = records.len();
    let mut attempts: Vec<Attempt> = parts(&plan.cells)
        .flat_map(|writes| (0..plan.rounds).map(move |round| Attempt::first(writes, round)))
        .map(|first| first.uncut(&plan.cells, &records[..before]))
        .collect();
    let mut at = 0;
    loop {
        // A part's repeats come at its own end: none of reads behind a write.
        if at > 0
            && attempts
                .get(at)
                .is_none_or(|next| next.writes != attempts[at - 1].writes)
        {
            let again = repeats(records, &attempts, attempts[at - 1].writes);
            let again = again
                .into_iter()
                .map(|repeat| repeat.uncut(&plan.cells, &records[..before]));
            attempts.splice(at..at, again.collect::<Vec<_>>());
        }
        if at == attempts.len() {
            return Ok(Ended::Done);
        }
        let Attempt {
            writes,
            round,
            attempt,
            ..
        } = attempts[at];
        at += 1;
        for turn in turns(plan, round, attempt) {
            let cell = &plan.cells[turn.cell];
            if cell.workload.op.writes() != writes {
                continue;
            }
            let key = cell.key();
            let made = |r: &Record| r.round == round && r.attempt == attempt && r.cell == key;
            if records.iter().any(made) {
                continue;
            }
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ended::Interrupted);
            }
            let switch_s = bench.reach(turn.cell, at, interrupted);
            // It may have taken a while.
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ended::Interrupted);
            }
            let trials = attempts.iter().map(|a| a.cells(&plan.cells)).sum();
            observer.begins(Progress {
                trial: records.len(),
                trials,
                round,
                cell,
            });
            let mut record = begun(run, cell, turn, records.len());
            record.switch_s = switch_s;
            let trial = Trial {
                seed: turn.seed,
                interrupted,
            };
            match bench.job(turn.cell) {
                Ok(job) => {
                    if let Some(via) = job.via() {
                        record.what.via = via.to_owned();
                    }
                    if !fill(&mut record, job, &trial) {
                        return Ok(Ended::Interrupted);
                    }
                }
                Err(why) => record.reason = Some(why),
            }
            if let Some(store) = store.as_deref_mut() {
                store.append(&record)?;
            }
            observer.ended(&record);
            records.push(record);
        }
    }
}

/// A round of the cells that write, or of those that do not. Cells that write have rounds of their own, behind all others,
/// so that no read meets what a write has left in a drive (METHOD 3).
#[derive(Debug, Clone, Copy)]
struct Attempt {
    writes: bool,
    round: u32,
    attempt: u32,
    /// Whether it is made since the one before it was void.
    repeat: bool,
}

impl Attempt {
    fn first(writes: bool, round: u32) -> Attempt {
        Attempt {
            writes,
            round,
            attempt: 0,
            repeat: false,
        }
    }

    /// The same, or the next that no stop has cut within a level. What was measured before a stop and what is measured
    /// behind it stand on two bindings, and may not be set against one another (METHOD 2: each level once a round).
    fn uncut(mut self, cells: &[Cell], before: &[Record]) -> Attempt {
        while self.is_cut(cells, before) {
            self.attempt += 1;
        }
        self
    }

    fn is_cut(&self, cells: &[Cell], before: &[Record]) -> bool {
        let made = |cell: &Cell| {
            let key = cell.key();
            let is_it =
                |r: &Record| (r.round, r.attempt) == (self.round, self.attempt) && r.cell == key;
            before.iter().any(is_it)
        };
        let of_part = || {
            cells
                .iter()
                .filter(|c| c.workload.op.writes() == self.writes)
        };
        of_part().filter(|cell| cell.binding.is_some()).any(|cell| {
            let mut of_level = of_part().filter(|c| c.binding == cell.binding);
            made(cell) && of_level.any(|other| !made(other))
        })
    }

    /// How many of the plan's cells it has.
    fn cells(&self, cells: &[Cell]) -> usize {
        cells
            .iter()
            .filter(|cell| cell.workload.op.writes() == self.writes)
            .count()
    }
}

/// Whether there are cells that only read, and then cells that write, in this order.
fn parts(cells: &[Cell]) -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(|writes| Attempt::first(*writes, 0).cells(cells) > 0)
}

/// The voided rounds of a part that are to be repeated: once each, and none when they are more than a fifth (METHOD 7).
fn repeats(records: &[Record], attempts: &[Attempt], writes: bool) -> Vec<Attempt> {
    let attempts = || attempts.iter().filter(|a| a.writes == writes);
    if attempts().any(|a| a.repeat) {
        return Vec::new();
    }
    let void = |a: &Attempt| {
        records.iter().any(|r| {
            (r.round, r.attempt) == (a.round, a.attempt)
                && r.what.workload.op.writes() == a.writes
                && voids(r)
        })
    };
    let void: Vec<Attempt> = attempts().filter(|a| void(a)).copied().collect();
    if void.len() * 5 > attempts().count() {
        return Vec::new();
    }
    void.into_iter()
        .map(|a| Attempt {
            attempt: a.attempt + 1,
            repeat: true,
            ..a
        })
        .collect()
}

/// Whether a trial voids its round. What the machine cannot run does not, nor what would be the same again.
fn voids(record: &Record) -> bool {
    record.status == Status::Failed
        || record
            .proof
            .as_ref()
            .is_some_and(|p| !p.contradictions.is_empty())
}

/// The record of a trial that begins now: a failed one until it is filled.
fn begun(run: &Run, cell: &Cell, turn: Turn, number: usize) -> Record {
    let now = Timestamp::now();
    let since = run
        .created_at
        .parse::<Timestamp>()
        .map_or(0.0, |begun| now.duration_since(begun).as_secs_f64());
    let mut record = Record::new(&run.id, cell.clone());
    record.trial = u32::try_from(number).unwrap_or(u32::MAX);
    record.round = turn.round;
    record.attempt = turn.attempt;
    record.started_at = now.to_string();
    record.started_s = since;
    record.seed = turn.seed;
    record
}

/// Runs the trial of a record; false when the user stopped it, and the record is to be forgotten.
fn fill(record: &mut Record, job: &mut dyn Job, trial: &Trial<'_>) -> bool {
    let interrupted = || trial.interrupted.load(Ordering::Relaxed);
    match job.run(trial) {
        // What breaks off when the user stops it is no trial.
        Ok(done) if done.failed.is_some() && interrupted() => return false,
        Err(JobError::Failed(_)) if interrupted() => return false,
        Ok(mut done) => {
            if let Some(binding) = record.what.binding {
                prove(binding, &mut done.proof);
            }
            record.status = if done.failed.is_some() {
                Status::Failed
            } else {
                Status::Ok
            };
            record.reason = done.failed;
            record.result = Some(done.measured);
            record.cost = Some(done.cost);
            record.proof = Some(done.proof);
            record.ceiling = Ceiling::lowest(&done.bounds).cloned();
            record.bounds = done.bounds;
            record.harness = Some(done.harness);
            record.warnings = done.warnings;
        }
        Err(JobError::Skipped(why)) => {
            record.status = Status::Skipped;
            record.reason = Some(why);
        }
        Err(JobError::Failed(why)) => record.reason = Some(why),
        Err(JobError::Interrupted) => return false,
    }
    true
}
