//! How many rounds a run has of each kind.

use std::collections::BTreeSet;

use crate::cells::CellDetail;
use crate::trials::failed_rounds;

/// Rounds of a run, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// Those of the plan.
    pub planned: usize,
    /// Those in which any cell has a trial.
    pub begun: usize,
    /// Those in which every cell has a trial.
    pub whole: usize,
    /// Those in which a trial failed, whether they were made again or not.
    pub voided: usize,
}

impl Rounds {
    pub(crate) fn of(planned: u32, cells: &[CellDetail<'_>]) -> Self {
        let of_cells: Vec<BTreeSet<u32>> = cells
            .iter()
            .map(|c| c.trials.iter().map(|t| t.record.round).collect())
            .collect();
        let begun: BTreeSet<u32> = of_cells.iter().flatten().copied().collect();
        Self {
            planned: planned as usize,
            begun: begun.len(),
            whole: begun
                .iter()
                .filter(|round| of_cells.iter().all(|held| held.contains(round)))
                .count(),
            voided: failed_rounds(cells.iter().flat_map(|c| &c.trials)).len(),
        }
    }
}
