//! Which trials count: METHOD 7, whose rules never look at the response.

use std::collections::{BTreeMap, BTreeSet};

use strata_record::{Ceiling, CeilingKind, Cell, Record, Status};

/// Above this part of a nominal bound a figure is refused whatever was on its way when the window opened.
const REFUSED: f64 = 1.01;

/// What became of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It counts.
    Counted,
    /// It does not, and why.
    LeftOut(String),
    /// A failed trial voided its round, which was made again: the later attempt counts.
    Repeated,
}

/// One trial of a cell, and whether it counts.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// The record.
    pub record: &'a Record,
    /// Whether it counts.
    pub fate: Fate,
}

impl Trial<'_> {
    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.fate == Fate::Counted
    }
}

/// Sorts records to the cells of a plan: each cell with its trials in the order of round and attempt, and how many records
/// are of no cell of the plan. Cells of one key are one cell.
pub(crate) fn sorted<'a>(
    cells: &'a [Cell],
    records: &'a [Record],
) -> (Vec<(&'a Cell, Vec<Trial<'a>>)>, usize) {
    let mut order: Vec<(&Cell, Vec<&Record>)> = Vec::new();
    let mut by_key = BTreeMap::new();
    for cell in cells {
        by_key.entry(cell.key()).or_insert_with(|| {
            order.push((cell, Vec::new()));
            order.len() - 1
        });
    }
    let mut foreign = 0;
    for record in records {
        match by_key.get(&record.what.key()) {
            Some(at) => order[*at].1.push(record),
            None => foreign += 1,
        }
    }
    let sorted = order
        .into_iter()
        .map(|(cell, records)| (cell, fates(records)))
        .collect();
    (sorted, foreign)
}

/// The rounds in which a trial failed, repeated since or not.
pub(crate) fn failed_rounds<'t>(trials: impl IntoIterator<Item = &'t Trial<'t>>) -> BTreeSet<u32> {
    trials
        .into_iter()
        .filter(|t| t.record.status == Status::Failed)
        .map(|t| t.record.round)
        .collect()
}

/// The trials that count.
pub(crate) fn counted<'t, 'a>(trials: &'t [Trial<'a>]) -> impl Iterator<Item = &'a Record> + 't {
    trials.iter().filter(|t| t.counts()).map(|t| t.record)
}

fn fates(mut records: Vec<&Record>) -> Vec<Trial<'_>> {
    records.sort_by_key(|r| (r.round, r.attempt, r.trial));
    let superseded = |at: usize| {
        records
            .get(at + 1)
            .is_some_and(|next| next.round == records[at].round)
    };
    records
        .iter()
        .enumerate()
        .map(|(at, record)| Trial {
            record,
            fate: match left_out(record) {
                Some(why) => Fate::LeftOut(why),
                None if superseded(at) => Fate::Repeated,
                None => Fate::Counted,
            },
        })
        .collect()
}

/// Why a trial does not count by itself.
fn left_out(record: &Record) -> Option<String> {
    if let Some(why) = record.excluded() {
        return Some(match record.status {
            Status::Ok => why,
            Status::Skipped => format!("skipped: {why}"),
            Status::Failed => format!("failed: {why}"),
        });
    }
    if record.result.is_none() {
        return Some("it holds no figure".to_owned());
    }
    let nominal = bounds(record)
        .iter()
        .filter(|b| b.kind == CeilingKind::Nominal);
    // Records made here were refused when they were made, with the clock's error allowed for; others may not have been.
    let above = |bound: &&Ceiling| part(bound, record).is_some_and(|share| share > REFUSED);
    let bound = nominal.into_iter().find(above)?;
    let share = part(bound, record)?;
    Some(format!(
        "refused as wrong: {:.0} % of {}, which physics does not allow",
        share * 100.0,
        bound.bound_by
    ))
}

/// All bounds of a record; records of the first kind have one.
pub(crate) fn bounds(record: &Record) -> &[Ceiling] {
    if record.bounds.is_empty() {
        record.ceiling.as_slice()
    } else {
        &record.bounds
    }
}

/// The part of a bound that a trial reached, from the figures themselves.
pub(crate) fn part(bound: &Ceiling, record: &Record) -> Option<f64> {
    bound.share_of(record.result.as_ref()?)
}
