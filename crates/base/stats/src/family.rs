//! Families: the effects on one response in one report, judged together.

use crate::StatsError;
use crate::distribution::t_quantile;
use crate::input::{Moments, at_least, bounded, probability, same_length};
use crate::interval::{CONFIDENCE, Interval, ROUNDS_FOR_INTERVAL, UPPER};
use crate::rng::Rng;

/// One hypothesis of a family after Holm's correction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HolmTest {
    /// The p-value given.
    pub p: f64,
    /// The least level of the whole family at which this hypothesis is rejected, at most 1.
    pub adjusted: f64,
    /// Whether it is rejected at the level asked for.
    pub rejected: bool,
}

/// Holm's step-down correction, in the order given: the chance of rejecting any true hypothesis is at most `alpha`
/// whatever the dependence (Holm, "A simple sequentially rejective multiple test procedure", 1979).
///
/// # Errors
/// A p-value outside of [0, 1], or `alpha` outside of (0, 1).
pub fn holm(p_values: &[f64], alpha: f64) -> Result<Vec<HolmTest>, StatsError> {
    probability("level of Holm's correction", alpha)?;
    for p in p_values {
        if !(0.0..=1.0).contains(p) {
            return Err(StatsError::OutOfDomain {
                what: "p-value of a family",
                found: *p,
                expected: "a probability from 0 to 1",
            });
        }
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut tests: Vec<HolmTest> = p_values
        .iter()
        .map(|p| HolmTest {
            p: *p,
            adjusted: 1.0,
            rejected: false,
        })
        .collect();
    let mut greatest = 0.0_f64;
    for (step, index) in order.into_iter().enumerate() {
        let remaining = (p_values.len() - step) as f64;
        greatest = greatest.max(remaining * p_values[index]).min(1.0);
        tests[index].adjusted = greatest;
        tests[index].rejected = greatest <= alpha;
    }
    Ok(tests)
}

/// Sign flips of whole rounds behind a family's critical value.
pub const FAMILY_FLIPS: usize = 4999;

/// Intervals that hold all at once with 95 %.
#[derive(Debug, Clone, PartialEq)]
pub struct Simultaneous {
    /// What takes the place of t₀.₉₇₅: the 95 % point of max |t| over the flips, and never below t₀.₉₇₅ itself.
    pub critical: f64,
    /// One interval an effect, in the order given, natural logarithms.
    pub intervals: Vec<Interval>,
}

/// Simultaneous intervals mean_i ± c·s_i/√n of a family of effects, each given as one difference of natural logarithms a
/// round, all over the same rounds; `None` below six rounds.
///
/// c is the 4750th of 4999 values of max_i |t_i|, each from the residuals with the signs of whole rounds flipped at
/// random, so that the dependence between effects stays (Westfall and Young, *Resampling-Based Multiple Testing*, 1993;
/// Davidson and Flachaire, "The wild bootstrap, tamed at last", 2008). An effect without spread gets an interval without
/// width.
///
/// # Errors
/// No effects, unequal lengths, a difference that is not finite, or residuals so alike in size that flipping makes t
/// infinite in more than 5 % of cases.
pub fn simultaneous<E: AsRef<[f64]>>(
    effects: &[E],
    seed: u64,
) -> Result<Option<Simultaneous>, StatsError> {
    const WHAT: &str = "effects of a family";
    at_least(WHAT, effects.len(), 1)?;
    let rounds = effects[0].as_ref().len();
    let mut moments = Vec::with_capacity(effects.len());
    let mut residuals = Vec::new();
    for effect in effects {
        let effect = effect.as_ref();
        same_length("rounds of an effect in a family", effect.len(), rounds)?;
        let of_effect = Moments::of(WHAT, effect)?;
        if of_effect.sd > 0.0 {
            // Scaled to Σr² = 1, because t of a flip depends on the mean of its signed residuals only.
            let scale = of_effect.sd * ((rounds - 1) as f64).sqrt();
            residuals.push(
                effect
                    .iter()
                    .map(|d| (d - of_effect.mean) / scale)
                    .collect::<Vec<f64>>(),
            );
        }
        moments.push(of_effect);
    }
    if rounds < ROUNDS_FOR_INTERVAL {
        return Ok(None);
    }
    let single = t_quantile(UPPER, rounds - 1)?;
    let critical = bounded(WHAT, critical_value(&residuals, rounds, seed))?.max(single);
    let intervals = moments
        .iter()
        .map(|m| {
            let half = critical * m.sd / (rounds as f64).sqrt();
            Ok(Interval {
                low: bounded(WHAT, m.mean - half)?,
                high: bounded(WHAT, m.mean + half)?,
            })
        })
        .collect::<Result<_, StatsError>>()?;
    Ok(Some(Simultaneous {
        critical,
        intervals,
    }))
}

/// The 95 % point of max |t|; 0 where no effect has any spread.
fn critical_value(residuals: &[Vec<f64>], rounds: usize, seed: u64) -> f64 {
    let mut rng = Rng::new(seed);
    let mut signs = vec![0.0; rounds];
    let mut greatest: Vec<f64> = (0..FAMILY_FLIPS)
        .map(|_| {
            for chunk in signs.chunks_mut(64) {
                let mut bits = rng.next_u64();
                for sign in chunk {
                    *sign = if bits & 1 == 1 { 1.0 } else { -1.0 };
                    bits >>= 1;
                }
            }
            residuals
                .iter()
                .map(|r| r.iter().zip(&signs).map(|(r, s)| r * s).sum::<f64>())
                .fold(0.0, |worst: f64, sum| worst.max(sum * sum))
        })
        .collect();
    // The observed signs count as one more flip, hence 5000.
    let rank = (CONFIDENCE * (FAMILY_FLIPS + 1) as f64).ceil() as usize;
    // With Σr² = 1: s² = (1 − Σ²/n)/(n − 1), so t² = (n − 1)·(Σ²/n)/(1 − Σ²/n).
    let (_, greatest, _) = greatest.select_nth_unstable_by(rank - 1, f64::total_cmp);
    let explained = (*greatest / rounds as f64).min(1.0);
    ((rounds - 1) as f64 * explained / (1.0 - explained)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_adjusts_as_in_the_textbook() {
        // Ordered 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
        let tests = holm(&[0.01, 0.04, 0.03, 0.005], 0.05).unwrap();
        let adjusted: Vec<f64> = tests.iter().map(|t| t.adjusted).collect();
        for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-15, "{adjusted:?}");
        }
        let rejected: Vec<bool> = tests.iter().map(|t| t.rejected).collect();
        assert_eq!(rejected, [true, false, false, true]);
        assert!(holm(&[], 0.05).unwrap().is_empty());
        assert_eq!(holm(&[0.9, 0.8], 0.05).unwrap()[0].adjusted, 1.0);
    }

    #[test]
    fn holm_refuses_what_is_no_probability() {
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(holm(&[0.5, p], 0.05).is_err());
        }
        for alpha in [0.0, 1.0, f64::NAN] {
            assert!(holm(&[0.5], alpha).is_err());
        }
    }

    fn noise(effects: usize, rounds: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = Rng::new(seed);
        (0..effects)
            .map(|_| (0..rounds).map(|_| rng.normal()).collect())
            .collect()
    }

    #[test]
    fn one_effect_needs_hardly_more_than_t() {
        let family = simultaneous(&noise(1, 24, 3), 4).unwrap().unwrap();
        let t = t_quantile(0.975, 23).unwrap();
        assert!((t..1.08 * t).contains(&family.critical), "{family:?}");
    }

    #[test]
    fn a_repeated_effect_costs_nothing_and_independent_ones_do() {
        let noise = noise(10, 24, 5);
        let one = simultaneous(&noise[..1], 6).unwrap().unwrap();
        let same = simultaneous(&[&noise[0], &noise[0], &noise[0]], 6)
            .unwrap()
            .unwrap();
        assert_eq!(one.critical, same.critical);
        let ten = simultaneous(&noise, 6).unwrap().unwrap();
        // Between Bonferroni's t and the single one.
        let bonferroni = t_quantile(1.0 - 0.0025, 23).unwrap();
        assert!(ten.critical > 1.2 * one.critical && ten.critical < 1.1 * bonferroni);
    }

    #[test]
    fn the_seed_decides_all() {
        let noise = noise(4, 12, 7);
        assert_eq!(simultaneous(&noise, 1), simultaneous(&noise, 1));
        assert_ne!(simultaneous(&noise, 1), simultaneous(&noise, 2));
    }

    #[test]
    fn effects_without_spread_and_few_rounds_are_told_apart() {
        let still = simultaneous(&[[0.25; 8]], 1).unwrap().unwrap();
        assert_eq!(
            still.intervals,
            [Interval {
                low: 0.25,
                high: 0.25
            }]
        );
        assert_eq!(simultaneous(&[[0.1, 0.2, 0.3, 0.1, 0.2]], 1).unwrap(), None);
        assert!(matches!(
            simultaneous::<Vec<f64>>(&[], 1),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            simultaneous(&[vec![1.0; 6], vec![1.0; 7]], 1),
            Err(StatsError::UnequalLengths { .. })
        ));
        assert!(matches!(
            simultaneous(&[[1.0, f64::NAN]], 1),
            Err(StatsError::NotFinite { .. })
        ));
    }

    #[test]
    fn residuals_all_alike_leave_no_critical_value() {
        // ±1 in six rounds: flips align all six with probability 2/64 an effect, and three such effects exceed 5 %.
        let a = [1.0, 1.0, 1.0, -1.0, -1.0, -1.0];
        let b = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0];
        let c = [1.0, 1.0, -1.0, -1.0, -1.0, 1.0];
        assert!(matches!(
            simultaneous(&[a, b, c], 1),
            Err(StatsError::Unbounded { .. })
        ));
    }
}
