//! Power: how many pairs of trials a question costs, told before the run.

use crate::StatsError;
use crate::distribution::normal_quantile;
use crate::input::{above_zero, bounded, probability};
use crate::interval::UPPER;

/// The power that an equivalence plan aims at, where the two cells are truly equal.
const POWER: f64 = 0.8;

/// What Student's t costs beyond the normal quantile at these counts, in pairs.
const STUDENT_ALLOWANCE: f64 = 2.0;

/// Pairs for an interval of about ±`half_width`: (1.96·s/h)² + 2, to the nearest. `sd` is the standard deviation of one
/// round's difference; both are natural logarithms.
///
/// # Errors
/// `sd` or `half_width` is not a finite number above 0, or the count is not finite.
pub fn pairs_for_half_width(sd: f64, half_width: f64) -> Result<usize, StatsError> {
    above_zero("half width of a plan", half_width)?;
    pairs(normal_quantile(UPPER)?, sd, half_width)
}

/// Pairs to show with power 0.8 that two equal cells differ by less than `delta`, two one-sided tests at level `alpha`
/// each: ((z₁₋α + z₀.₉)·s/δ)² + 2, to the nearest (Chow, Shao and Wang, *Sample Size Calculations in Clinical Research*,
/// §3.2). The factor is 2.93 at α = 0.05, and 3.24 at [`crate::ALPHA_EQUIVALENCE`], where [`crate::verdicts`] decide.
///
/// # Errors
/// `sd` or `delta` is not a finite number above 0, `alpha` is outside of (0, 1), or the count is not finite.
pub fn pairs_for_equivalence(sd: f64, delta: f64, alpha: f64) -> Result<usize, StatsError> {
    probability("level of an equivalence plan", alpha)?;
    above_zero("greatest difference that counts as none", delta)?;
    // Both tests must succeed, so each may fail with half of 1 − power.
    let factor = normal_quantile(1.0 - alpha)? + normal_quantile(1.0 - (1.0 - POWER) / 2.0)?;
    pairs(factor, sd, delta)
}

fn pairs(factor: f64, sd: f64, width: f64) -> Result<usize, StatsError> {
    above_zero("standard deviation of a plan", sd)?;
    let pairs = (factor * sd / width).powi(2) + STUDENT_ALLOWANCE;
    Ok(bounded("pairs of a plan", pairs)?.round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::ALPHA_EQUIVALENCE;

    #[test]
    fn seven_percent_costs_what_the_method_says() {
        assert_eq!(pairs_for_half_width(0.07, 0.03).unwrap(), 23);
        assert_eq!(pairs_for_half_width(0.07, 0.01).unwrap(), 190);
        assert_eq!(pairs_for_equivalence(0.07, 0.02, 0.05).unwrap(), 107);
        assert_eq!(
            pairs_for_equivalence(0.07, 0.02, ALPHA_EQUIVALENCE).unwrap(),
            131
        );
    }

    #[test]
    fn absurd_plans_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(pairs_for_half_width(bad, 0.03).is_err());
            assert!(pairs_for_half_width(0.07, bad).is_err());
            assert!(pairs_for_equivalence(bad, 0.02, 0.05).is_err());
            assert!(pairs_for_equivalence(0.07, bad, 0.05).is_err());
            assert!(pairs_for_equivalence(0.07, 0.02, bad).is_err());
        }
        assert!(matches!(
            pairs_for_half_width(1e200, 1e-200),
            Err(StatsError::Unbounded { .. })
        ));
    }
}
