//! Stein's two stages: how many rounds, decided from the spread of a pilot and never from the effect.

use crate::StatsError;
use crate::contrast::Contrast;
use crate::distribution::t_quantile;
use crate::input::{Moments, above_zero, at_least, bounded, same_length};
use crate::interval::UPPER;

/// Rounds of the pilot.
pub const PILOT_ROUNDS: usize = 8;

const DEGREES: usize = PILOT_ROUNDS - 1;

/// The pilot's spread of one contrast, frozen (Stein, "A two-sample test for a linear hypothesis whose power is
/// independent of the variance", 1945).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pilot {
    sd: f64,
}

impl Pilot {
    /// Freezes the standard deviation of the pilot's eight differences of natural logarithms.
    ///
    /// # Errors
    /// Not exactly eight rounds, or a difference that is not finite.
    pub fn of(differences: &[f64]) -> Result<Self, StatsError> {
        const WHAT: &str = "differences of the pilot";
        same_length(WHAT, differences.len(), PILOT_ROUNDS)?;
        Ok(Self {
            sd: Moments::of(WHAT, differences)?.sd,
        })
    }

    /// The frozen standard deviation, a natural logarithm.
    #[must_use]
    pub fn sd(&self) -> f64 {
        self.sd
    }

    /// max(8, ⌈(t₀.₉₇₅,₇·s/h)²⌉): the rounds, the pilot's among them, after which the interval is at most
    /// `half_width` (a natural logarithm) to each side. A run takes the greatest over its contrasts.
    ///
    /// # Errors
    /// `half_width` is not a finite number above 0, or so small that no count of rounds suffices.
    pub fn rounds(&self, half_width: f64) -> Result<usize, StatsError> {
        above_zero("half width of Stein's plan", half_width)?;
        let rounds = (t_quantile(UPPER, DEGREES)? * self.sd / half_width).powi(2);
        Ok((bounded("rounds of Stein's plan", rounds)?.ceil() as usize).max(PILOT_ROUNDS))
    }

    /// The contrast over all rounds, pilot included, with the pilot's s on its seven degrees of freedom: the interval
    /// is mean ± t₀.₉₇₅,₇·s_pilot/√n. Valid too where a budget left n below the plan, since n never followed the effect.
    ///
    /// # Errors
    /// Fewer rounds than the pilot had, or as [`Contrast::of`].
    pub fn contrast(&self, all_differences: &[f64]) -> Result<Contrast, StatsError> {
        at_least(
            "differences of Stein's second stage",
            all_differences.len(),
            PILOT_ROUNDS,
        )?;
        Contrast::with_spread(all_differences, self.sd, DEGREES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 0, Σd² = 7·0.07²: a spread of exactly 7 %.
    fn pilot_of_seven_percent() -> [f64; PILOT_ROUNDS] {
        let a = 0.07 * (7.0_f64 / 8.0).sqrt();
        [a, -a, a, -a, a, -a, a, -a]
    }

    #[test]
    fn rounds_follow_the_formula() {
        let pilot = Pilot::of(&pilot_of_seven_percent()).unwrap();
        assert!((pilot.sd() - 0.07).abs() < 1e-15);
        // (2.364624·0.07/0.03)² = 30.44, (2.364624·7)² = 273.98.
        assert_eq!(pilot.rounds(0.03).unwrap(), 31);
        assert_eq!(pilot.rounds(0.01).unwrap(), 274);
        assert_eq!(pilot.rounds(1.0).unwrap(), PILOT_ROUNDS);
        assert_eq!(Pilot::of(&[0.2; 8]).unwrap().rounds(1e-9).unwrap(), 8);
    }

    #[test]
    fn the_frozen_spread_makes_the_interval() {
        let pilot = Pilot::of(&pilot_of_seven_percent()).unwrap();
        // A second stage of no spread at all leaves the interval as wide as the pilot says.
        let all: Vec<f64> = pilot_of_seven_percent()
            .into_iter()
            .chain([0.0; 24])
            .collect();
        let contrast = pilot.contrast(&all).unwrap();
        let half = 2.364_624_251 * 0.07 / 32.0_f64.sqrt();
        let interval = contrast.interval().unwrap();
        assert!((interval.high - half).abs() < 1e-9 && (interval.low + half).abs() < 1e-9);
        assert!(half < 0.03);
        assert_eq!(contrast.degrees(), 7);
    }

    #[test]
    fn other_pilots_and_absurd_widths_are_refused() {
        assert!(matches!(
            Pilot::of(&[0.0; 7]),
            Err(StatsError::UnequalLengths {
                found: 7,
                expected: 8,
                ..
            })
        ));
        let pilot = Pilot::of(&pilot_of_seven_percent()).unwrap();
        for width in [0.0, -1.0, f64::NAN] {
            assert!(matches!(
                pilot.rounds(width),
                Err(StatsError::OutOfDomain { .. })
            ));
        }
        assert!(matches!(
            pilot.rounds(1e-300),
            Err(StatsError::Unbounded { .. })
        ));
        assert!(matches!(
            pilot.contrast(&[0.0; 7]),
            Err(StatsError::TooFew { .. })
        ));
    }
}
