//! Pure numbers: how the figures of rounds become estimates, intervals and verdicts.
//!
//! The round (a randomised block that holds each cell once) is the replicate, so everything here takes one number a
//! round, or one difference of logarithms a round, and nothing here looks inside a trial except [`stationarity()`],
//! which judges the trial's own series. The room does no input or output, knows no unit but the ratio, and is
//! deterministic: whatever is random takes its seed from the caller. A number that is not finite, or not positive
//! where a logarithm is taken, is an error and never a NaN in a report.
//!
//! Estimates: [`Contrast`] (two cells), [`median_interval`] (one cell), [`Pilot`] (Stein's two stages).
//! Claims: [`verdicts`], over [`holm`] and [`Contrast::equivalence_p`]; [`simultaneous`] for the intervals of a family.
//! Doubts: [`trend`], [`Paired`], [`stationarity()`]. Before a run: [`pairs_for_half_width`], [`pairs_for_equivalence`].
#![forbid(unsafe_code)]

mod contrast;
mod distribution;
mod drift;
mod error;
mod family;
mod input;
mod interval;
mod median;
mod power;
mod rng;
mod signed_rank;
mod stationarity;
mod stein;
mod verdict;

pub use contrast::{Contrast, log_ratios};
pub use distribution::{normal_cdf, normal_quantile, t_cdf, t_quantile};
pub use drift::{Paired, Trend, lag1_autocorrelation, trend};
pub use error::StatsError;
pub use family::{FAMILY_FLIPS, HolmTest, Simultaneous, holm, simultaneous};
pub use interval::{CONFIDENCE, Interval, ROUNDS_FOR_CLAIM, ROUNDS_FOR_INTERVAL};
pub use median::{MedianEstimate, MedianInterval, median_interval};
pub use power::{pairs_for_equivalence, pairs_for_half_width};
pub use rng::{Rng, split_mix};
pub use signed_rank::signed_rank_interval;
pub use stationarity::{
    EXCURSION_LIMIT, FEWEST_SUB_WINDOWS, NOISE_FACTOR, SLOPE_LIMIT, SUB_WINDOWS, Stationarity,
    stationarity,
};
pub use stein::{PILOT_ROUNDS, Pilot};
pub use verdict::{ALPHA_EFFECT, ALPHA_EQUIVALENCE, DEFAULT_DELTA, Doubt, Verdict, verdicts};
