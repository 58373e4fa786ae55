//! Checks of inputs, and the first two moments, in one place.

use crate::StatsError;

/// Refuses NaN and infinities.
pub(crate) fn finite(what: &'static str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(StatsError::NotFinite {
            what,
            index,
            found: values[index],
        }),
        None => Ok(()),
    }
}

/// Refuses what has no logarithm.
pub(crate) fn positive(what: &'static str, values: &[f64]) -> Result<(), StatsError> {
    finite(what, values)?;
    match values.iter().position(|v| *v <= 0.0) {
        Some(index) => Err(StatsError::NotPositive {
            what,
            index,
            found: values[index],
        }),
        None => Ok(()),
    }
}

/// Refuses fewer than `needed` values.
pub(crate) fn at_least(what: &'static str, found: usize, needed: usize) -> Result<(), StatsError> {
    if found < needed {
        return Err(StatsError::TooFew {
            what,
            found,
            needed,
        });
    }
    Ok(())
}

/// Refuses a second input that does not match the first round by round.
pub(crate) fn same_length(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), StatsError> {
    if found != expected {
        return Err(StatsError::UnequalLengths {
            what,
            found,
            expected,
        });
    }
    Ok(())
}

/// Refuses a parameter that is not a finite number above 0.
pub(crate) fn above_zero(what: &'static str, found: f64) -> Result<(), StatsError> {
    if !(found.is_finite() && found > 0.0) {
        return Err(StatsError::OutOfDomain {
            what,
            found,
            expected: "a finite number above 0",
        });
    }
    Ok(())
}

/// Refuses a probability of 0, of 1 and beyond, where quantiles are infinite.
pub(crate) fn probability(what: &'static str, found: f64) -> Result<(), StatsError> {
    if !(found > 0.0 && found < 1.0) {
        return Err(StatsError::OutOfDomain {
            what,
            found,
            expected: "a probability strictly between 0 and 1",
        });
    }
    Ok(())
}

/// Refuses a result that overflowed.
pub(crate) fn bounded(what: &'static str, value: f64) -> Result<f64, StatsError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(StatsError::Unbounded { what })
    }
}

/// Mean and standard deviation of at least two finite values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    /// With n − 1 in the denominator.
    pub(crate) sd: f64,
}

impl Moments {
    pub(crate) fn of(what: &'static str, values: &[f64]) -> Result<Self, StatsError> {
        at_least(what, values.len(), 2)?;
        finite(what, values)?;
        // The rounding of the mean would give equal values a tiny spread, and a ratio of it to itself looks like data.
        if values.iter().all(|v| *v == values[0]) {
            return Ok(Self {
                mean: values[0],
                sd: 0.0,
            });
        }
        let n = values.len() as f64;
        let mean = bounded(what, values.iter().sum::<f64>() / n)?;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Ok(Self {
            mean,
            sd: bounded(what, (squares / (n - 1.0)).sqrt())?,
        })
    }
}

/// Median of a sorted, non-empty slice; for an even count the mean of the middle two.
pub(crate) fn median_of_sorted(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        sorted[half - 1].midpoint(sorted[half])
    }
}

/// Median of finite values in any order; the slice must not be empty.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&values)
}
