//! Drift over a run: METHOD 6.

use std::collections::BTreeMap;

use strata_stats::trend;

use crate::Response;
use crate::cells::CellDetail;
use crate::words::percent;

/// How the rounds' mean rate moved from the first round to the last, by least squares on logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Relative change over the run: 0.02 is a rise of 2 %.
    pub change: f64,
    /// Its 95 % interval; none below six rounds.
    pub interval: Option<(f64, f64)>,
    /// Seconds from the first round to the last.
    pub span_s: f64,
    /// Rounds that it is taken over: those that hold every cell that was measured.
    pub rounds: usize,
}

/// The drift of a run; none below three whole rounds.
pub(crate) fn drift(cells: &[CellDetail<'_>]) -> Option<Drift> {
    let measured: Vec<&CellDetail<'_>> = cells.iter().filter(|c| c.middle.is_some()).collect();
    // Start and logarithm of each counted trial, by round.
    let mut rounds: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for cell in &measured {
        for record in cell.counted() {
            let rate = Response::OpsPerS.of(record).filter(|r| *r > 0.0)?;
            rounds
                .entry(record.round)
                .or_default()
                .push((record.started_s, rate.ln()));
        }
    }
    let (times, means): (Vec<f64>, Vec<f64>) = rounds
        .values()
        .filter(|trials| trials.len() == measured.len())
        .map(|trials| {
            let n = trials.len() as f64;
            let mean = |part: fn(&(f64, f64)) -> f64| trials.iter().map(part).sum::<f64>() / n;
            (mean(|t| t.0), mean(|t| t.1))
        })
        .unzip();
    let line = trend(&times, &means).ok()?;
    let span_s = times.iter().copied().fold(f64::MIN, f64::max)
        - times.iter().copied().fold(f64::MAX, f64::min);
    let over = |slope: f64| (slope * span_s).exp_m1();
    Some(Drift {
        change: over(line.slope),
        interval: line.interval.map(|i| (over(i.low), over(i.high))),
        span_s,
        rounds: times.len(),
    })
}

impl Drift {
    /// Whether the interval rules out that nothing moved.
    pub fn moved(&self) -> bool {
        self.interval
            .is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }

    /// In words: `round means moved by 2.1 % [0.3, 4.0] in 150 s over 8 rounds`.
    pub fn words(&self) -> String {
        let interval = self.interval.map_or_else(
            || "no interval".to_owned(),
            |(low, high)| format!("[{}, {}]", percent(low), percent(high)),
        );
        format!(
            "round means moved by {} % {interval} in {:.0} s over {} rounds",
            percent(self.change),
            self.span_s,
            self.rounds
        )
    }
}
