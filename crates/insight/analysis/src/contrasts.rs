//! Ratios of cells within rounds, and what may be said of them: METHOD 4, 6, 7, 10, 11 and 12.

use std::collections::BTreeSet;

use strata_record::{Cell, Contrast, Placement, Record};
use strata_stats as stats;
use strata_stats::{DEFAULT_DELTA, Interval, Paired, ROUNDS_FOR_CLAIM, StatsError};
use strata_units::QueueDepth;

use crate::Response;
use crate::cells::CellDetail;
use crate::heat::unlike;
use crate::pairs::{Factor, Pair, pairs};
use crate::trials::{Trial, counted, failed_rounds};
use crate::words::{Compared, percent, ratio_with};

/// What stands beside a contrast, in the order of the summary's contrasts.
#[derive(Debug, Clone, PartialEq)]
pub struct ContrastDetail {
    /// The response compared.
    pub response: Response,
    /// What differs.
    pub factor: Factor,
    /// What both cells share: `randread 4KiB qd1`.
    pub shared: String,
    /// The verdict in words, without the remarks that follow it in the contrast's own.
    pub claim: String,
    /// Positions of the two cells in the summary's lines: below the line, above it.
    pub cells: (usize, usize),
    /// Lag-1 autocorrelation of the rounds' differences; null below three rounds.
    pub lag1: Option<f64>,
    /// Whether neighbouring rounds were averaged in pairs for it.
    pub paired: bool,
    /// The interval of the ratio that holds together with those of its whole family; null where rounds are fewer than
    /// six or differ within the family.
    pub simultaneous: Option<(f64, f64)>,
}

/// The effects on one response: what is corrected together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The response.
    pub response: Response,
    /// How many effects.
    pub size: usize,
}

/// What comparing finds.
#[derive(Debug, Default)]
pub(crate) struct Compare {
    /// Pairs of cells that may be compared, whether or not both have figures.
    pub(crate) pairs: usize,
    pub(crate) contrasts: Vec<Contrast>,
    pub(crate) details: Vec<ContrastDetail>,
    pub(crate) families: Vec<Family>,
    pub(crate) doubts: Vec<String>,
}

/// More rounds than this part of them lost, and nothing can be told.
const MOST_LOST: f64 = 0.2;

/// A pair with the differences of its rounds, before judgement.
struct Effect {
    pair: Pair,
    response: Response,
    /// Rounds that hold both cells.
    rounds: usize,
    /// Rounds lost to failure or exclusion of either cell, and rounds begun.
    lost: (usize, usize),
    paired: Paired,
    estimate: Option<stats::Contrast>,
    /// The same ratio with every trial in that has a figure; none when that is no other.
    with_left_out: Option<stats::Contrast>,
}

/// All contrasts of the cells, a family a response. `seed` draws the sign flips of the simultaneous intervals.
pub(crate) fn compare(cells: &[CellDetail<'_>], seed: u64) -> Compare {
    let plain: Vec<&Cell> = cells.iter().map(|c| c.cell).collect();
    let pairs = pairs(&plain);
    let mut found = Compare {
        pairs: pairs.len(),
        ..Compare::default()
    };
    found.doubts.extend(crossed(&plain, &pairs));
    for pair in &pairs {
        let heated = heated(cells, pair);
        if let Some((round, why)) = heated.first() {
            found.doubts.push(format!(
                "{} of {} to {} left out of the ratio for heat (first round {round}: {why}).",
                match heated.len() {
                    1 => "1 round".to_owned(),
                    n => format!("{n} rounds"),
                },
                cells[pair.other].label,
                cells[pair.base].label
            ));
        }
        // A cell of which nothing counts has a doubt of its own.
        let both_count = [pair.base, pair.other]
            .iter()
            .all(|at| cells[*at].middle.is_some());
        if both_count && rounds_of(cells, pair, Response::OpsPerS, false).is_empty() {
            found.doubts.push(format!(
                "No ratio of {} to {}: no round holds a figure of both that counts.",
                cells[pair.other].label, cells[pair.base].label
            ));
        }
    }
    for response in Response::COMPARED {
        let effects: Vec<Effect> = pairs
            .iter()
            .filter(|p| p.factor.compares(response, &plain[p.base].workload))
            .filter_map(|p| match effect(cells, p, response) {
                Ok(effect) => effect,
                Err(why) => {
                    found.doubts.push(format!(
                        "No ratio of {} to {} in {}: {why}.",
                        cells[p.other].label,
                        cells[p.base].label,
                        response.name()
                    ));
                    None
                }
            })
            .collect();
        if effects.is_empty() {
            continue;
        }
        if let Err(why) = judge(cells, &effects, response, seed, &mut found) {
            found
                .doubts
                .push(format!("No ratios in {}: {why}.", response.name()));
        }
    }
    found
}

/// The two records of each round that holds both cells in one attempt, in the order of time. With `all`, every attempt
/// with two figures counts, whether its trials are left out or unlike by heat or not.
fn rounds_of<'a>(
    cells: &[CellDetail<'a>],
    pair: &Pair,
    response: Response,
    all: bool,
) -> Vec<(&'a Record, &'a Record)> {
    let of = |at: usize| -> Vec<&'a Record> {
        let trials: &[Trial<'a>] = &cells[at].trials;
        trials
            .iter()
            .filter(|t| all || t.counts())
            .map(|t| t.record)
            .filter(|r| response.of(r).is_some())
            .collect()
    };
    let (base, other) = (of(pair.base), of(pair.other));
    let mut both: Vec<(&Record, &Record)> = base
        .into_iter()
        .filter_map(|b| {
            other
                .iter()
                .find(|o| (o.round, o.attempt) == (b.round, b.attempt))
                .filter(|o| all || unlike(b, o).is_none())
                .map(|o| (b, *o))
        })
        .collect();
    let began = |(b, o): &(&Record, &Record)| b.started_s.min(o.started_s);
    both.sort_by(|x, y| began(x).total_cmp(&began(y)));
    both
}

/// Rounds whose two trials count and are unlike by heat, and why.
fn heated(cells: &[CellDetail<'_>], pair: &Pair) -> Vec<(u32, String)> {
    counted(&cells[pair.base].trials)
        .filter_map(|b| {
            let other = counted(&cells[pair.other].trials)
                .find(|o| (o.round, o.attempt) == (b.round, b.attempt))?;
            Some((b.round, unlike(b, other)?))
        })
        .collect()
}

fn differences(rounds: &[(&Record, &Record)], response: Response) -> Result<Vec<f64>, StatsError> {
    // Both sides hold a figure in every round, by `rounds_of`.
    let (base, other): (Vec<f64>, Vec<f64>) = rounds
        .iter()
        .filter_map(|(b, o)| Some((response.of(b)?, response.of(o)?)))
        .unzip();
    stats::log_ratios(&other, &base)
}

fn effect(
    cells: &[CellDetail<'_>],
    pair: &Pair,
    response: Response,
) -> Result<Option<Effect>, StatsError> {
    let rounds = rounds_of(cells, pair, response, false);
    if rounds.is_empty() {
        return Ok(None);
    }
    let paired = Paired::of(&differences(&rounds, response)?)?;
    let estimate = if paired.differences.len() >= 2 {
        Some(stats::Contrast::of(&paired.differences)?)
    } else {
        None
    };
    let every = rounds_of(cells, pair, response, true);
    let with_left_out = if every.len() > rounds.len() {
        // A figure of a trial that failed may have no logarithm; then there is no such estimate.
        differences(&every, response)
            .and_then(|d| stats::Contrast::of(&d))
            .ok()
    } else {
        None
    };
    Ok(Some(Effect {
        pair: *pair,
        response,
        rounds: rounds.len(),
        lost: lost(cells, pair),
        paired,
        estimate,
        with_left_out,
    }))
}

/// Rounds that a failed or excluded trial of either cell took, or heat, and rounds in which both have a trial. A failed third
/// cell takes none: its round was made again, and both figures stand there.
fn lost(cells: &[CellDetail<'_>], pair: &Pair) -> (usize, usize) {
    let (base, other) = (&cells[pair.base], &cells[pair.other]);
    let heated: BTreeSet<u32> = heated(cells, pair).into_iter().map(|(r, _)| r).collect();
    let begun =
        |c: &CellDetail<'_>| -> BTreeSet<u32> { c.trials.iter().map(|t| t.record.round).collect() };
    let kept = |c: &CellDetail<'_>| -> BTreeSet<u32> {
        let failed = failed_rounds(&c.trials);
        counted(&c.trials)
            .map(|r| r.round)
            .filter(|r| !failed.contains(r))
            .collect()
    };
    let begun: BTreeSet<u32> = begun(base).intersection(&begun(other)).copied().collect();
    let (base, other) = (kept(base), kept(other));
    let lost = begun
        .iter()
        .filter(|r| heated.contains(r) || !(base.contains(r) && other.contains(r)))
        .count();
    (lost, begun.len())
}

fn judge(
    cells: &[CellDetail<'_>],
    effects: &[Effect],
    response: Response,
    seed: u64,
    found: &mut Compare,
) -> Result<(), StatsError> {
    let estimates: Vec<stats::Contrast> = effects.iter().filter_map(|e| e.estimate).collect();
    let mut verdicts = stats::verdicts(&estimates, DEFAULT_DELTA)?.into_iter();
    let p_values: Vec<f64> = estimates
        .iter()
        .map(|c| Ok(c.p_value()?.filter(|_| c.may_claim()).unwrap_or(1.0)))
        .collect::<Result<_, StatsError>>()?;
    let mut adjusted = stats::holm(&p_values, stats::ALPHA_EFFECT)?.into_iter();
    let mut together = simultaneous(effects, seed)?.into_iter();
    found.families.push(Family {
        response,
        size: effects.len(),
    });
    for effect in effects {
        let verdict = effect.estimate.and_then(|_| verdicts.next());
        let p_holm = effect
            .estimate
            .and_then(|c| adjusted.next().filter(|_| c.may_claim()));
        let (contrast, shared, claim) = said(cells, effect, verdict, p_holm.map(|h| h.adjusted));
        if effect.paired.paired {
            found.doubts.push(format!(
                "Rounds of {} ({}) are not independent (lag-1 autocorrelation {:.2}): neighbours were averaged in pairs.",
                contrast.name,
                response.name(),
                effect.paired.lag1
            ));
        }
        found.contrasts.push(contrast);
        found.details.push(ContrastDetail {
            response,
            factor: effect.pair.factor,
            shared,
            claim,
            cells: (effect.pair.base, effect.pair.other),
            lag1: (effect.rounds >= 3).then_some(effect.paired.lag1),
            paired: effect.paired.paired,
            simultaneous: together.next().map(|i| (i.low, i.high)),
        });
    }
    Ok(())
}

/// Intervals that hold all at once, one an effect; none where the effects do not stand on equally many rounds.
fn simultaneous(effects: &[Effect], seed: u64) -> Result<Vec<Interval>, StatsError> {
    let rounds: BTreeSet<(usize, usize)> = effects
        .iter()
        .map(|e| (e.rounds, e.paired.differences.len()))
        .collect();
    let lost = effects.iter().any(|e| e.lost.0 > 0);
    if rounds.len() != 1 || lost || effects.iter().any(|e| e.estimate.is_none()) {
        return Ok(Vec::new());
    }
    let differences: Vec<&[f64]> = effects
        .iter()
        .map(|e| e.paired.differences.as_slice())
        .collect();
    Ok(stats::simultaneous(&differences, seed)?
        .map(|s| s.intervals.iter().map(Interval::exp).collect())
        .unwrap_or_default())
}

/// What is to be said of ratios between what hardware does and what software plays: of verbs without an HCA.
fn crossed(cells: &[&Cell], pairs: &[Pair]) -> Option<String> {
    let across = |pair: &&Pair| cells[pair.base].reality != cells[pair.other].reality;
    let pair = pairs.iter().find(across)?;
    let (base, other) = (cells[pair.base], cells[pair.other]);
    Some(format!(
        "{} against {}: on this wire verbs are done by {} (Soft-RoCE or the like), on the kernel's network stack and by its CPUs, so that they bypass nothing and may well lose. The ratio tells of that code, and nothing of what an HCA would bring.",
        other.layer, base.layer, other.reality
    ))
}

/// Names of the two sides, and of what they share: `io_uring`, `psync`, `randread 4KiB qd1`.
fn names(cells: &[CellDetail<'_>], pair: &Pair) -> (String, String, String) {
    let (base, other) = (cells[pair.base].cell, cells[pair.other].cell);
    let w = &base.workload;
    let (shape, spread) = (base.shape(), base.spread());
    let (base_name, other_name, shared) = match pair.factor {
        Factor::Layer if base.workload.op != other.workload.op => {
            let own = |cell: &Cell| {
                let w = &cell.workload;
                let depth = if w.depth == QueueDepth::ONE {
                    String::new()
                } else {
                    format!(" qd{}", w.depth)
                };
                format!("{} {}{depth}{}", cell.means(), w.op, cell.spread())
            };
            let shared = match w.direction {
                Some(direction) => format!("{} {direction}", w.block_bytes),
                None => w.block_bytes.to_string(),
            };
            return (own(base), own(other), shared);
        }
        Factor::Layer => (
            base.means(),
            other.means(),
            format!("{shape} qd{}{spread}", w.depth),
        ),
        Factor::Engine => (
            base.engine.clone(),
            other.engine.clone(),
            format!("{shape} qd{}{spread}", w.depth),
        ),
        Factor::Depth => (
            format!("qd{}", w.depth),
            format!("qd{}", other.workload.depth),
            format!("{} {shape}{spread}", base.engine),
        ),
    };
    // The label of a cell says more than this where several would read alike.
    let more = cells[pair.base]
        .label
        .strip_prefix(&base.label())
        .unwrap_or_default();
    (base_name, other_name, format!("{shared}{more}"))
}

/// The contrast, what its cells share, and its bare claim.
fn said(
    cells: &[CellDetail<'_>],
    effect: &Effect,
    verdict: Option<stats::Verdict>,
    p_holm: Option<f64>,
) -> (Contrast, String, String) {
    let (base_name, other_name, shared) = names(cells, &effect.pair);
    let (base, other) = (&cells[effect.pair.base], &cells[effect.pair.other]);
    let replicates = effect.paired.differences.len();
    let single = effect.paired.differences.first().map_or(1.0, |d| d.exp());
    let ratio = effect.estimate.map_or(single, |c| c.ratio());
    let interval = effect.estimate.and_then(|c| c.ratio_interval());
    let (lost, begun) = effect.lost;
    let too_few = stats::Verdict::CannotTell {
        rules_out: None,
        why: stats::Doubt::TooFewRounds,
    };
    let compared = Compared {
        base: &base_name,
        other: &other_name,
        factor: effect.pair.factor,
        response: effect.response,
        ratio,
        interval,
    };
    let (verdict, mut claim) = if lost as f64 > MOST_LOST * begun as f64 {
        (
            strata_record::Verdict::CannotTell,
            format!(
                "cannot tell: {lost} of {begun} rounds were voided or left out, more than {} %",
                percent(MOST_LOST)
            ),
        )
    } else {
        let verdict = verdict.unwrap_or(too_few);
        (
            plain(verdict),
            compared.words(verdict, replicates, effect.paired.paired),
        )
    };
    if effect.response == Response::OpsPerS {
        claim.push_str(&bound_words(base, other));
    }
    for (name, cell, facing) in [
        (&other_name, other.cell, base.cell),
        (&base_name, base.cell, other.cell),
    ] {
        if cell.placement.poll_cpus != facing.placement.poll_cpus {
            claim.push_str(&polled_words(name, &cell.placement));
        }
    }
    let mut words = claim.clone();
    if let Some(with) = effect.with_left_out {
        words.push_str(&format!(
            "; with the trials left out counted in, {} ÷ {} would be {}",
            other_name,
            base_name,
            ratio_with(with.ratio(), with.ratio_interval())
        ));
    }
    if base.cell.workload.timed_by != other.cell.workload.timed_by {
        words.push_str(&format!(
            "; {other_name} is timed by {}, {base_name} by {}",
            other.cell.workload.timed_by, base.cell.workload.timed_by
        ));
    }
    let contrast = Contrast {
        base: base.key.clone(),
        other: other.key.clone(),
        name: format!("{other_name} ÷ {base_name} at {shared}"),
        response: effect.response.key().to_owned(),
        rounds: effect.rounds as u32,
        ratio,
        ci95_low: interval.map(|i| i.low),
        ci95_high: interval.map(|i| i.high),
        p_holm: p_holm.filter(|_| replicates >= ROUNDS_FOR_CLAIM),
        verdict,
        words,
    };
    (contrast, shared, claim)
}

/// METHOD 10: a ratio with a cell at its ceiling is true of the throughput and a bound for what differs.
fn bound_words(base: &CellDetail<'_>, other: &CellDetail<'_>) -> String {
    let at = |c: &CellDetail<'_>| {
        c.ceiling
            .as_ref()
            .filter(|b| b.reached)
            .map(|b| b.bound_by.clone())
    };
    match (at(base), at(other)) {
        (None, None) => String::new(),
        (None, Some(bound)) => {
            format!("; ≥, because the ceiling ({bound}) and not the change made the ratio")
        }
        (Some(bound), None) => {
            format!("; ≤, because the ceiling ({bound}) and not the change made the ratio")
        }
        (Some(_), Some(_)) => "; both stand at their ceilings, which made the ratio".to_owned(),
    }
}

/// Who had CPUs that the kernel polls on: a ratio to a side without them is not one of like means.
fn polled_words(name: &str, placement: &Placement) -> String {
    let polled = &placement.poll_cpus;
    let more = polled.without(&placement.cpus).len();
    match (polled.is_empty(), more) {
        (true, _) => String::new(),
        (_, 0) => format!("; the kernel polled for {name} on its own CPU ({polled})"),
        (_, 1) => {
            format!("; {name} had one more CPU, on which the kernel polled for it ({polled})")
        }
        (_, n) => {
            format!("; {name} had {n} more CPUs, on which the kernel polled for it ({polled})")
        }
    }
}

fn plain(verdict: stats::Verdict) -> strata_record::Verdict {
    use strata_record::Verdict;
    match verdict {
        stats::Verdict::Equivalent { .. } => Verdict::Equivalent,
        stats::Verdict::Higher => Verdict::Higher,
        stats::Verdict::Lower => Verdict::Lower,
        stats::Verdict::DiffersByLessThan { .. } => Verdict::DiffersByLess,
        stats::Verdict::CannotTell { .. } => Verdict::CannotTell,
    }
}
