//! The noises of METHOD: normal, heavy-tailed, and trials of which 15 % are slow.

use strata_stats::Rng;

/// A distribution of one round's difference about its true value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    /// Standard normal.
    Normal,
    /// Student's t with three degrees of freedom.
    HeavyTailed,
    /// The difference of two cells, each 30 % slower in 15 % of its trials, 7 % noise otherwise.
    SlowMixture,
}

pub(crate) const ALL: [Noise; 3] = [Noise::Normal, Noise::HeavyTailed, Noise::SlowMixture];

impl Noise {
    /// One difference; all three are symmetric about 0.
    pub(crate) fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Normal => rng.normal(),
            Self::HeavyTailed => {
                let chi_square: f64 = (0..3).map(|_| rng.normal().powi(2)).sum();
                rng.normal() / (chi_square / 3.0).sqrt()
            }
            Self::SlowMixture => {
                let mut cell = || {
                    let slow = if rng.uniform() < 0.15 { 0.3 } else { 0.0 };
                    slow + 0.07 * rng.normal()
                };
                cell() - cell()
            }
        }
    }

    /// `rounds` independent differences.
    pub(crate) fn rounds(self, rounds: usize, rng: &mut Rng) -> Vec<f64> {
        (0..rounds).map(|_| self.draw(rng)).collect()
    }
}

/// `rounds` of a stationary first-order autoregression of unit variance.
pub(crate) fn autoregressive(correlation: f64, rounds: usize, rng: &mut Rng) -> Vec<f64> {
    let innovation = (1.0 - correlation * correlation).sqrt();
    let mut value = rng.normal();
    (0..rounds)
        .map(|_| {
            let now = value;
            value = correlation * value + innovation * rng.normal();
            now
        })
        .collect()
}
