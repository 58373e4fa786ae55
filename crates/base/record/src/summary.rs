//! What analysis makes of records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Cell, Record};

/// The median of a response over rounds, with its distribution-free interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Median of the rounds.
    pub median: f64,
    /// Lower end of the interval that covers the median with at least 95 %; null below six rounds.
    pub ci95_low: Option<f64>,
    /// Upper end; null below six rounds.
    pub ci95_high: Option<f64>,
}

/// One cell over its rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryLine {
    /// Identity of the cell.
    pub key: String,
    /// The cell.
    pub cell: Cell,
    /// Rounds that count.
    pub rounds: u32,
    /// Trials left out, and why, each reason once with its number.
    pub left_out: Vec<String>,
    /// Operations a second.
    pub ops_per_s: Option<Estimate>,
    /// The same with the trials left out counted in; null when none of these has a figure.
    pub ops_per_s_with_left_out: Option<Estimate>,
    /// Bytes a second.
    pub bytes_per_s: Option<Estimate>,
    /// Mean latency in nanoseconds.
    pub mean_ns: Option<Estimate>,
    /// Median latency in nanoseconds.
    pub p50_ns: Option<Estimate>,
    /// 99th percentile of latency in nanoseconds.
    pub p99_ns: Option<Estimate>,
    /// 99.9th percentile of latency in nanoseconds.
    pub p999_ns: Option<Estimate>,
    /// CPU time an operation in nanoseconds.
    pub cpu_ns_per_op: Option<Estimate>,
    /// What measuring itself costs, in nanoseconds an operation.
    pub harness_ns_per_op: Option<Estimate>,
}

/// What may be said of a contrast.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No difference larger than δ.
    Equivalent,
    /// The second is higher.
    Higher,
    /// The second is lower.
    Lower,
    /// There is a difference, and it is less than δ.
    DiffersByLess,
    /// The rounds do not tell.
    CannotTell,
}

/// A ratio of two cells of one reality and target, over rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contrast {
    /// The cell below the line.
    pub base: String,
    /// The cell above the line.
    pub other: String,
    /// What differs, in words: `io_uring ÷ psync at randread 4KiB qd1`.
    pub name: String,
    /// The response compared, such as `ops_per_s`.
    pub response: String,
    /// Rounds that hold both.
    pub rounds: u32,
    /// Geometric mean of the rounds' ratios, other ÷ base.
    pub ratio: f64,
    /// Lower end of its 95 % interval; null below six rounds.
    pub ci95_low: Option<f64>,
    /// Upper end; null below six rounds.
    pub ci95_high: Option<f64>,
    /// p-value after Holm over the family; null below eight rounds.
    pub p_holm: Option<f64>,
    /// What may be said.
    pub verdict: Verdict,
    /// The verdict in words, with its figures.
    pub words: String,
}

/// What analysis makes of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// A line a cell.
    pub lines: Vec<SummaryLine>,
    /// Ratios within reality and target.
    pub contrasts: Vec<Contrast>,
    /// What to doubt, most serious first.
    pub doubts: Vec<String>,
}

/// What a measuring command prints with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// Version of this schema.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// The run's folder; null when nothing was kept.
    pub run: Option<String>,
    /// Every trial.
    pub records: Vec<Record>,
    /// A line a cell.
    pub summary: Vec<SummaryLine>,
    /// Ratios within reality and target.
    pub contrasts: Vec<Contrast>,
    /// What to doubt.
    pub doubts: Vec<String>,
}
