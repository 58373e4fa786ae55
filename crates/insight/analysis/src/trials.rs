//! Which trials count: METHOD 7, whose rules never look at the response.

use std::collections::{BTreeMap, BTreeSet};

use strata_record::{CeilingKind, Cell, Record, Status};

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
    let ceiling = record.ceiling.as_ref()?;
    let share = ceiling_share(record)?;
    (ceiling.kind == CeilingKind::Nominal && share > 1.0).then(|| {
        format!(
            "refused as wrong: {:.0} % of {}, which physics does not allow",
            share * 100.0,
            ceiling.bound_by
        )
    })
}

/// The part of its bound that a trial reached, from the figures themselves; none where it has no bound.
pub(crate) fn ceiling_share(record: &Record) -> Option<f64> {
    let ceiling = record.ceiling.as_ref()?;
    let result = record.result.as_ref()?;
    let part =
        |figure: Option<f64>, bound: Option<f64>| Some(figure? / bound.filter(|b| *b > 0.0)?);
    let shares = [
        part(Some(result.ops_per_s), ceiling.ops_per_s),
        part(result.bytes_per_s, ceiling.bytes_per_s),
    ];
    shares.into_iter().flatten().reduce(f64::max)
}
