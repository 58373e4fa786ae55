//! From records to what may be said: which trials count, medians with intervals, ratios with verdicts, and doubts.
//!
//! This room reads `run.json` and `trials.jsonl` as data and nothing of the machine it runs on, so that a result of
//! another machine or year is as good as one just made. The rules are METHOD's: a round is the replicate, rules that
//! leave a trial out never look at its figure (but for a bound of physics), ratios stand within one reality and target
//! and between cells that differ in one thing (the layer with its engine, the engine, or the depth), and a verdict is given only where its interval, corrected for its family,
//! bears it. [`analyse`] is the one way in; its [`Analysis::summary`] is what `--json` prints, and the rest is what a
//! report shows beside it.

#![forbid(unsafe_code)]

mod answer;
mod cells;
mod contrasts;
mod distribution;
mod doubts;
mod drift;
mod heat;
mod host;
mod labels;
mod pairs;
mod ports;
mod proof;
mod response;
mod rounds;
mod split;
mod trials;
mod words;

use strata_record::{Cell, Record, Run, Summary};

pub use cells::{CeilingDigest, CellDetail, Curve};
pub use contrasts::{ContrastDetail, Family};
pub use distribution::{HistogramError, Point};
pub use drift::Drift;
pub use host::{CpuDigest, DeviceDigest, FunctionDigest, HostDigest, Range, VectorDigest};
pub use pairs::Factor;
pub use ports::{PortDigest, WireDigest};
pub use proof::{ClockDigest, PagesDigest, ProofDigest, ThreadDigest};
pub use response::Response;
pub use rounds::Rounds;
pub use split::{Level, SplitPlot};
pub use trials::{Fate, Trial};
pub use words::{bandwidth, in_unit, percent, ratio};

/// What analysis makes of a run.
#[derive(Debug, Clone)]
pub struct Analysis<'a> {
    /// The answer in a sentence or two.
    pub answer: String,
    /// A line a cell, ratios, and what to doubt.
    pub summary: Summary,
    /// What stands beside each of the summary's lines, in their order.
    pub cells: Vec<CellDetail<'a>>,
    /// What stands beside each of the summary's contrasts, in their order.
    pub contrasts: Vec<ContrastDetail>,
    /// How many pairs of the plan's cells differ in one thing alone, whether or not a round holds figures of both.
    pub pairs: usize,
    /// The families within which the contrasts are corrected.
    pub families: Vec<Family>,
    /// How the rate moved over the run; none below three whole rounds.
    pub drift: Option<Drift>,
    /// Rounds, counted.
    pub rounds: Rounds,
    /// How drivers were changed in the rounds; none where they were not.
    pub split_plot: Option<SplitPlot>,
}

/// Analyses a run; records of cells that its plan does not hold are counted in a doubt and not looked at.
///
/// Nothing in the records makes it fail: what cannot be computed is absent, and a doubt says why.
pub fn analyse<'a>(run: &'a Run, records: &'a [Record]) -> Analysis<'a> {
    let (sorted, foreign) = trials::sorted(&run.plan.cells, records);
    let plain: Vec<&Cell> = sorted.iter().map(|(cell, _)| *cell).collect();
    let cells: Vec<CellDetail<'_>> = labels::labels(&plain)
        .into_iter()
        .zip(sorted)
        .map(|(label, (cell, trials))| CellDetail::of(cell, label, trials))
        .collect();
    let lines: Vec<_> = cells.iter().map(CellDetail::line).collect();
    let compared = contrasts::compare(&cells, run.plan.seed);
    let drift = drift::drift(&cells);
    let rounds = Rounds::of(run.plan.rounds, &cells);
    let split_plot = SplitPlot::of(&cells);
    let doubts = doubts::Facts {
        run,
        foreign,
        rounds,
        cells: &cells,
        lines: &lines,
        drift,
        compared: compared.doubts,
    }
    .doubts();
    let summary = Summary {
        lines,
        contrasts: compared.contrasts,
        doubts,
    };
    Analysis {
        answer: answer::answer(&summary, &cells, &compared.details),
        summary,
        cells,
        contrasts: compared.details,
        pairs: compared.pairs,
        families: compared.families,
        drift,
        rounds,
        split_plot,
    }
}
