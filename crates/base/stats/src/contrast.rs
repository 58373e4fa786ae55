//! The contrast of cells within rounds: what every claim is made of.

use crate::StatsError;
use crate::distribution::{t_above, t_quantile};
use crate::input::{Moments, above_zero, positive, same_length};
use crate::interval::{Interval, ROUNDS_FOR_CLAIM, ROUNDS_FOR_INTERVAL, UPPER};
use crate::signed_rank::signed_rank_interval;

const WHAT: &str = "differences of a contrast";

/// e⁷⁰⁰ ≈ 10³⁰⁴ is still a finite ratio, and so is its inverse; no measured one comes near.
const GREATEST_LOG: f64 = 700.0;

/// ln(numerator ÷ denominator) of each round, both in the same order of rounds.
///
/// # Errors
/// Unequal lengths, or a response that is not finite and above 0.
pub fn log_ratios(numerator: &[f64], denominator: &[f64]) -> Result<Vec<f64>, StatsError> {
    same_length(
        "denominators of a contrast",
        denominator.len(),
        numerator.len(),
    )?;
    positive("numerators of a contrast", numerator)?;
    positive("denominators of a contrast", denominator)?;
    Ok(numerator
        .iter()
        .zip(denominator)
        .map(|(a, b)| a.ln() - b.ln())
        .collect())
}

/// One contrast d_b = Σ c_j·ln(response_bj) over rounds b, estimated by its mean and Student's t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    rounds: usize,
    mean: f64,
    sd: f64,
    degrees: usize,
    interval: Option<Interval>,
    signed_rank: Option<Interval>,
}

impl Contrast {
    /// The estimate from one difference of natural logarithms a round, such as [`log_ratios`] gives.
    ///
    /// # Errors
    /// Fewer than two rounds, a difference that is not finite, or limits beyond e^±700.
    pub fn of(differences: &[f64]) -> Result<Self, StatsError> {
        let moments = Moments::of(WHAT, differences)?;
        Self::with_spread(differences, moments.sd, differences.len() - 1)
    }

    /// The same with a standard deviation known from elsewhere on its own degrees of freedom.
    pub(crate) fn with_spread(
        differences: &[f64],
        sd: f64,
        degrees: usize,
    ) -> Result<Self, StatsError> {
        let rounds = differences.len();
        let mut contrast = Self {
            rounds,
            mean: Moments::of(WHAT, differences)?.mean,
            sd,
            degrees,
            interval: None,
            signed_rank: signed_rank_interval(differences)?,
        };
        if rounds >= ROUNDS_FOR_INTERVAL {
            let half = t_quantile(UPPER, degrees)? * contrast.standard_error();
            contrast.interval = Some(Interval {
                low: contrast.mean - half,
                high: contrast.mean + half,
            });
        }
        let reach = contrast.interval.map_or(contrast.mean.abs(), |i| i.reach());
        if reach > GREATEST_LOG {
            return Err(StatsError::Unbounded {
                what: "ratio of a contrast",
            });
        }
        Ok(contrast)
    }

    /// Number of rounds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Mean of the differences, a natural logarithm.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard deviation of one round's difference, a natural logarithm; the pilot's where it is frozen.
    #[must_use]
    pub fn sd(&self) -> f64 {
        self.sd
    }

    /// Degrees of freedom of [`Self::sd`].
    #[must_use]
    pub fn degrees(&self) -> usize {
        self.degrees
    }

    /// s/√n, a natural logarithm.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        self.sd / (self.rounds as f64).sqrt()
    }

    /// mean ± t₀.₉₇₅·s/√n, natural logarithms; `None` below six rounds.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// Wilcoxon's signed-rank interval, natural logarithms; `None` below six rounds.
    #[must_use]
    pub fn signed_rank(&self) -> Option<Interval> {
        self.signed_rank
    }

    /// The estimate: exp(mean), a ratio.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.mean.exp()
    }

    /// The 95 % interval of [`Self::ratio`]; `None` below six rounds.
    #[must_use]
    pub fn ratio_interval(&self) -> Option<Interval> {
        self.interval.map(|i| i.exp())
    }

    /// Whether there are rounds enough for a claim: eight.
    #[must_use]
    pub fn may_claim(&self) -> bool {
        self.rounds >= ROUNDS_FOR_CLAIM
    }

    /// Whether the t interval and the signed-rank interval lie differently about 0, so that no claim about a
    /// difference stands on both.
    #[must_use]
    pub fn ranks_disagree(&self) -> bool {
        self.interval.map(|i| i.side()) != self.signed_rank.map(|i| i.side())
    }

    /// Two-sided p-value of the hypothesis that the ratio is 1; `None` below six rounds.
    ///
    /// # Errors
    /// None in practice: the numbers were checked when the contrast was made.
    pub fn p_value(&self) -> Result<Option<f64>, StatsError> {
        if self.interval.is_none() {
            return Ok(None);
        }
        if self.sd == 0.0 {
            return Ok(Some(if self.mean == 0.0 { 1.0 } else { 0.0 }));
        }
        let t = self.mean.abs() / self.standard_error();
        Ok(Some((2.0 * t_above(t, self.degrees)?).min(1.0)))
    }

    /// p-value of the two one-sided tests against a difference of `delta` or more: at most α exactly when the
    /// (1 − 2α) interval lies inside ±ln(1 + `delta`) (Schuirmann, 1987); `None` below six rounds.
    ///
    /// # Errors
    /// `delta`, a relative difference such as 0.03, is not a finite number above 0.
    pub fn equivalence_p(&self, delta: f64) -> Result<Option<f64>, StatsError> {
        above_zero("greatest difference that counts as none", delta)?;
        if self.interval.is_none() {
            return Ok(None);
        }
        let room = delta.ln_1p() - self.mean.abs();
        if self.sd == 0.0 {
            return Ok(Some(if room >= 0.0 { 0.0 } else { 1.0 }));
        }
        Ok(Some(t_above(room / self.standard_error(), self.degrees)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Student's own data (Biometrika 6, 1908): additional hours of sleep, of which every textbook gives
    /// mean 1.58, s 1.2300, t 4.0621, p 0.002833 and the interval 0.7001 to 2.4599.
    const SLEEP: [f64; 10] = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];

    #[test]
    fn students_sleep_data_come_out_as_published() {
        let contrast = Contrast::of(&SLEEP).unwrap();
        let interval = contrast.interval().unwrap();
        assert!((contrast.mean() - 1.58).abs() < 1e-12);
        assert!((contrast.sd() - 1.230_0).abs() < 1e-4);
        assert!((interval.low - 0.700_1).abs() < 1e-4);
        assert!((interval.high - 2.459_9).abs() < 1e-4);
        assert!((contrast.p_value().unwrap().unwrap() - 0.002_833).abs() < 1e-6);
        assert!((contrast.ratio() - 1.58_f64.exp()).abs() < 1e-12);
        assert_eq!(contrast.ratio_interval().unwrap(), interval.exp());
        assert!(!contrast.ranks_disagree());
    }

    #[test]
    fn five_rounds_have_no_interval_and_seven_no_claim() {
        let five = Contrast::of(&SLEEP[..5]).unwrap();
        assert_eq!(five.interval(), None);
        assert_eq!(five.ratio_interval(), None);
        assert_eq!(five.p_value().unwrap(), None);
        assert_eq!(five.equivalence_p(0.03).unwrap(), None);
        assert!(!five.ranks_disagree());
        let seven = Contrast::of(&SLEEP[..7]).unwrap();
        assert!(seven.interval().is_some() && !seven.may_claim());
        assert!(Contrast::of(&SLEEP[..8]).unwrap().may_claim());
    }

    #[test]
    fn one_wild_round_makes_the_intervals_disagree() {
        // The ranks see eleven of twelve rounds above 0; the wild one widens t beyond it.
        let mut differences = [0.05; 12];
        for (round, d) in differences.iter_mut().enumerate() {
            *d += 0.001 * round as f64;
        }
        differences[3] = -1.5;
        let contrast = Contrast::of(&differences).unwrap();
        assert!(contrast.signed_rank().unwrap().low > 0.0);
        assert!(contrast.interval().unwrap().contains(0.0));
        assert!(contrast.ranks_disagree());
    }

    #[test]
    fn equal_rounds_have_no_spread() {
        let same = Contrast::of(&[0.1; 9]).unwrap();
        assert_eq!(
            same.interval(),
            Some(Interval {
                low: 0.1,
                high: 0.1
            })
        );
        assert_eq!(same.p_value().unwrap(), Some(0.0));
        assert_eq!(same.equivalence_p(0.03).unwrap(), Some(1.0));
        assert_eq!(same.equivalence_p(0.2).unwrap(), Some(0.0));
        assert_eq!(
            Contrast::of(&[0.0; 9]).unwrap().p_value().unwrap(),
            Some(1.0)
        );
    }

    #[test]
    fn equivalence_reads_as_its_interval() {
        let contrast = Contrast::of(&SLEEP.map(|d| d / 50.0)).unwrap();
        let reach = contrast.interval().unwrap().reach();
        let just_inside = (reach * 1.000_001).exp_m1();
        let just_outside = (reach * 0.999_999).exp_m1();
        assert!(contrast.equivalence_p(just_inside).unwrap().unwrap() < 0.025);
        assert!(contrast.equivalence_p(just_outside).unwrap().unwrap() > 0.025);
    }

    #[test]
    fn log_ratios_refuse_what_has_no_logarithm() {
        assert_eq!(log_ratios(&[2.0, 8.0], &[2.0, 8.0]).unwrap(), [0.0, 0.0]);
        assert!((log_ratios(&[3.0], &[2.0]).unwrap()[0] - 1.5_f64.ln()).abs() < 1e-15);
        assert!(matches!(
            log_ratios(&[1.0, 0.0], &[1.0, 1.0]),
            Err(StatsError::NotPositive { index: 1, .. })
        ));
        assert!(matches!(
            log_ratios(&[1.0], &[f64::INFINITY]),
            Err(StatsError::NotFinite { .. })
        ));
        assert!(matches!(
            log_ratios(&[1.0], &[]),
            Err(StatsError::UnequalLengths {
                found: 0,
                expected: 1,
                ..
            })
        ));
    }

    #[test]
    fn absurd_differences_are_refused() {
        assert!(matches!(
            Contrast::of(&[1.0]),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            Contrast::of(&[800.0; 6]),
            Err(StatsError::Unbounded { .. })
        ));
        assert!(matches!(
            Contrast::of(&[1e200, -1e200, 1e200]),
            Err(StatsError::Unbounded { .. })
        ));
        let contrast = Contrast::of(&SLEEP).unwrap();
        for delta in [0.0, -0.03, f64::NAN, f64::INFINITY] {
            assert!(contrast.equivalence_p(delta).is_err());
        }
    }
}
