//! How drivers were changed in the rounds: METHOD 2.

use strata_record::Binding;

use crate::cells::CellDetail;
use crate::host::Range;

/// One driver of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The drive and its driver.
    pub binding: Binding,
    /// Cells that were measured under it.
    pub cells: usize,
}

/// Rounds in which drives changed their driver: the cells of one driver stand together.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitPlot {
    /// The drivers of each drive, those of one drive together.
    pub levels: Vec<Level>,
    /// Cells that were measured under none of them.
    pub free: usize,
    /// How often a driver was changed.
    pub changes: usize,
    /// What a change took, in seconds; none when there was none.
    pub change_s: Option<Range>,
}

impl SplitPlot {
    /// Of a run's cells; none when none of them has a binding.
    pub(crate) fn of(cells: &[CellDetail<'_>]) -> Option<SplitPlot> {
        let mut levels: Vec<Level> = Vec::new();
        for binding in cells.iter().filter_map(|c| c.cell.binding) {
            match levels.iter_mut().find(|l| l.binding == binding) {
                Some(level) => level.cells += 1,
                None => levels.push(Level { binding, cells: 1 }),
            }
        }
        if levels.is_empty() {
            return None;
        }
        levels.sort_by_key(|l| l.binding);
        let trials = cells.iter().flat_map(|c| &c.trials);
        let changes: Vec<f64> = trials.filter_map(|t| t.record.switch_s).collect();
        Some(SplitPlot {
            free: cells.iter().filter(|c| c.cell.binding.is_none()).count(),
            levels,
            changes: changes.len(),
            change_s: Range::of(changes),
        })
    }
}
