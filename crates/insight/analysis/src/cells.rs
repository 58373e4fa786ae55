//! One cell over its rounds: its line in the summary, and what a report shows beside it.

use std::collections::BTreeMap;

use strata_record::{Ceiling, CeilingKind, Cell, Completes, Estimate, Record, Status, SummaryLine};
use strata_stats::median_interval;

use crate::distribution::{HistogramError, Point, distribution};
use crate::proof::ProofDigest;
use crate::trials::{bounds, counted, part};
use crate::{Fate, Response, Trial};

/// The bound of a cell, over its rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct CeilingDigest {
    /// The bound's name.
    pub bound_by: String,
    /// Where it comes from.
    pub kind: CeilingKind,
    /// Median of the bound, in operations a second.
    pub ops_per_s: Option<f64>,
    /// Median of the bound, in bytes a second.
    pub bytes_per_s: Option<f64>,
    /// The cell's part of it, from 0 to 1; above 1 the bound was measured too low.
    pub share: Option<Estimate>,
    /// Whether the cell stands at it: the lower limit of its share is at least 0.95 (METHOD 10).
    pub reached: bool,
}

/// The distribution of one trial's latencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Position of the trial in the cell's trials.
    pub trial: usize,
    /// Its points in ascending order.
    pub points: Vec<Point>,
}

/// What stands beside a cell's line in the summary.
#[derive(Debug, Clone)]
pub struct CellDetail<'a> {
    /// Identity of the cell.
    pub key: String,
    /// A short name that no other cell of the run has.
    pub label: String,
    /// The cell.
    pub cell: &'a Cell,
    /// Every trial in the order of round and attempt, with what became of it.
    pub trials: Vec<Trial<'a>>,
    /// Position of the trial in the middle of those that count, by operations a second; the lower one of two.
    pub middle: Option<usize>,
    /// When an operation counts as complete; none when nothing was measured.
    pub completes: Option<Completes>,
    /// The distributions of latency, of every trial that has one.
    pub curves: Vec<Curve>,
    /// Trials whose histogram cannot be read: round and reason.
    pub unreadable: Vec<(u32, HistogramError)>,
    /// What the proofs of the trials say together; none when nothing ran.
    pub proof: Option<ProofDigest>,
    /// The bound; none when no trial that counts has one.
    pub ceiling: Option<CeilingDigest>,
}

/// A lower limit from this part of the ceiling on stands at it (METHOD 10).
const AT_CEILING: f64 = 0.95;

impl<'a> CellDetail<'a> {
    pub(crate) fn of(cell: &'a Cell, label: String, trials: Vec<Trial<'a>>) -> Self {
        let mut curves = Vec::new();
        let mut unreadable = Vec::new();
        for (at, trial) in trials.iter().enumerate() {
            let latency = trial
                .record
                .result
                .as_ref()
                .and_then(|r| r.latency_ns.as_ref());
            let Some(latency) = latency else { continue };
            match distribution(&latency.histogram, latency.count) {
                Ok(points) => curves.push(Curve { trial: at, points }),
                Err(why) => unreadable.push((trial.record.round, why)),
            }
        }
        let mut by_rate: Vec<(usize, f64)> = trials
            .iter()
            .enumerate()
            .filter(|(_, t)| t.counts())
            .filter_map(|(at, t)| Some((at, Response::OpsPerS.of(t.record)?)))
            .collect();
        by_rate.sort_by(|a, b| a.1.total_cmp(&b.1));
        let middle = by_rate
            .get(by_rate.len().saturating_sub(1) / 2)
            .map(|(at, _)| *at);
        Self {
            key: cell.key(),
            label,
            cell,
            middle,
            completes: trials
                .iter()
                .find_map(|t| t.record.result.as_ref())
                .map(|r| r.completes),
            curves,
            unreadable,
            proof: ProofDigest::of(&trials),
            ceiling: ceiling(&trials),
            trials,
        }
    }

    /// The records that count, in the order of rounds.
    pub fn counted(&self) -> impl Iterator<Item = &'a Record> + '_ {
        counted(&self.trials)
    }

    /// Why nothing of the cell was measured: the reason of its first trial; none when something was.
    pub fn skipped(&self) -> Option<&'a str> {
        if self.counted().next().is_some() {
            return None;
        }
        self.trials
            .iter()
            .find(|t| t.record.status == Status::Skipped)
            .map(|t| t.record.reason.as_deref().unwrap_or("no reason given"))
    }

    /// The cell's line in the summary.
    pub(crate) fn line(&self) -> SummaryLine {
        let estimate = |response: Response| over_rounds(self.counted(), response);
        let every = over_rounds(self.trials.iter().map(|t| t.record), Response::OpsPerS);
        let rounds = self.counted().count();
        SummaryLine {
            key: self.key.clone(),
            cell: self.cell.clone(),
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            left_out: self.left_out(),
            ops_per_s: estimate(Response::OpsPerS),
            ops_per_s_with_left_out: every.filter(|_| {
                self.trials
                    .iter()
                    .filter(|t| t.record.result.is_some())
                    .count()
                    > rounds
            }),
            bytes_per_s: estimate(Response::BytesPerS),
            mean_ns: estimate(Response::Mean),
            p50_ns: estimate(Response::P50),
            p99_ns: estimate(Response::P99),
            p999_ns: estimate(Response::P999),
            cpu_ns_per_op: estimate(Response::CpuPerOp),
            harness_ns_per_op: estimate(Response::Harness),
        }
    }

    /// Each reason once with its number, as `2 trials: …`, the most frequent first.
    fn left_out(&self) -> Vec<String> {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for trial in &self.trials {
            match &trial.fate {
                Fate::Counted => {}
                Fate::LeftOut(why) => *reasons.entry(why).or_default() += 1,
                Fate::Repeated => {
                    *reasons
                        .entry("another trial of the round failed, and the round was made again")
                        .or_default() += 1;
                }
            }
        }
        let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        reasons
            .into_iter()
            .map(|(why, n)| format!("{n} trial{}: {why}", if n == 1 { "" } else { "s" }))
            .collect()
    }
}

/// The median of a response over records; none unless each of them has it, since those that lack a percentile are not
/// any ones.
fn over_rounds<'r>(
    records: impl Iterator<Item = &'r Record>,
    response: Response,
) -> Option<Estimate> {
    let values: Option<Vec<f64>> = records
        .filter(|r| r.result.is_some())
        .map(|r| response.of(r))
        .collect();
    estimate(&values?)
}

fn estimate(values: &[f64]) -> Option<Estimate> {
    let found = median_interval(values).ok()?;
    let interval = found.interval.map(|i| i.interval);
    Some(Estimate {
        median: found.median,
        ci95_low: interval.map(|i| i.low),
        ci95_high: interval.map(|i| i.high),
    })
}

/// The lowest of the bounds that trials have: that of which their figures are the greatest part in the middle.
fn ceiling(trials: &[Trial<'_>]) -> Option<CeilingDigest> {
    let mut by_name: Vec<(&str, Vec<(&Record, &Ceiling)>)> = Vec::new();
    for record in counted(trials) {
        for bound in bounds(record) {
            match by_name.iter_mut().find(|(name, _)| *name == bound.bound_by) {
                Some((_, found)) => found.push((record, bound)),
                None => by_name.push((&bound.bound_by, vec![(record, bound)])),
            }
        }
    }
    let of = |found: &[(&Record, &Ceiling)]| {
        let shares: Vec<f64> = found.iter().filter_map(|(r, b)| part(b, r)).collect();
        estimate(&shares)
    };
    let median = |values: Vec<f64>| estimate(&values).map(|e| e.median);
    let digests = by_name.iter().filter_map(|(name, found)| {
        let share = of(found);
        Some(CeilingDigest {
            bound_by: (*name).to_owned(),
            kind: found.first()?.1.kind,
            ops_per_s: median(found.iter().filter_map(|(_, b)| b.ops_per_s).collect()),
            bytes_per_s: median(found.iter().filter_map(|(_, b)| b.bytes_per_s).collect()),
            share,
            reached: share
                .and_then(|s| s.ci95_low)
                .is_some_and(|low| low >= AT_CEILING),
        })
    });
    let part_of = |digest: &CeilingDigest| digest.share.map_or(f64::NEG_INFINITY, |s| s.median);
    digests.reduce(|lowest, next| {
        if part_of(&next) > part_of(&lowest) {
            next
        } else {
            lowest
        }
    })
}
