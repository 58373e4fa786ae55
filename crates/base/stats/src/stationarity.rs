//! Stationary within a trial: whether the window measured one behaviour, or the change from one to another.

use crate::StatsError;
use crate::input::{above_zero, at_least, bounded, finite, median};

/// Sub-windows that a trial's series is cut into, of equal length but for one point; as many as values where there are
/// fewer of them.
pub const SUB_WINDOWS: usize = 16;

/// Fewer values than this are no series.
pub const FEWEST_SUB_WINDOWS: usize = 8;

/// Excursions up to this are not noticed, whatever the noise: SNIA PTS takes the same 20 % about its average.
pub const EXCURSION_LIMIT: f64 = 0.20;

/// Slopes up to this, from the first sub-window to the last, are not noticed: SNIA PTS takes the same 10 %.
pub const SLOPE_LIMIT: f64 = 0.10;

/// Standard deviations of noise that an excursion or slope must exceed to be noticed.
pub const NOISE_FACTOR: f64 = 5.0;

/// What became of a response in the course of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stationarity {
    /// Relative change from the first sub-window to the last by Theil and Sen's line; −0.5 is a loss of half.
    pub slope: f64,
    /// Greatest distance of a sub-window's mean from the median of them all, relative to that median.
    pub excursion: f64,
    /// Neither is both larger than its limit and larger than noise explains. Not SNIA's *steady state*.
    pub stationary: bool,
}

/// Judges the series of one trial, one value an equal span of time (operations, bytes or mean latency; 0 is a stall).
///
/// A change is noticed only when it matters *and* stands out: above its limit and above [`NOISE_FACTOR`] times its
/// standard error. The noise of a sub-window's mean is the median absolute deviation of the steps from one sub-window to
/// the next, divided by 0.6745·√2: a throttled drive or a full cache is one large step among many, and a steady loss is
/// the same in all, so neither hides itself in the noise that it is judged by.
///
/// In simulation at most 2 % of level series are noticed, however noisy (7 % where there are only eight values), and half the speed from
/// the middle on is found in 99 % of series whose sub-windows vary by 9 %.
///
/// # Errors
/// Fewer values than [`FEWEST_SUB_WINDOWS`], one that is negative or not finite, half of the sub-windows idle, or
/// sizes so far apart that their ratio overflows.
pub fn stationarity(series: &[f64]) -> Result<Stationarity, StatsError> {
    const WHAT: &str = "series of a trial";
    at_least(WHAT, series.len(), FEWEST_SUB_WINDOWS)?;
    finite(WHAT, series)?;
    if let Some(negative) = series.iter().find(|v| **v < 0.0) {
        return Err(StatsError::OutOfDomain {
            what: "value in the series of a trial",
            found: *negative,
            expected: "0 or more",
        });
    }
    let windows = series.len().min(SUB_WINDOWS);
    let edge = |window: usize| window * series.len() / windows;
    let means: Vec<f64> = (0..windows)
        .map(|w| &series[edge(w)..edge(w + 1)])
        .map(|part| part.iter().sum::<f64>() / part.len() as f64)
        .collect();
    let centre = median(means.clone());
    above_zero("median sub-window of a trial", centre)?;
    let relative: Vec<f64> = means.iter().map(|m| m / centre).collect();

    let excursion = relative
        .iter()
        .fold(0.0_f64, |worst, m| worst.max((m - 1.0).abs()));
    bounded(WHAT, excursion)?;
    let spans = (windows - 1) as f64;
    let slope = bounded(WHAT, theil_sen(&relative) * spans)?;
    let noise = step_noise(&relative);
    // Standard error of a least-squares line's rise over equally spaced points; Theil and Sen's is within a few percent.
    let count = windows as f64;
    let slope_error = noise * spans / (count * (count * count - 1.0) / 12.0).sqrt();
    Ok(Stationarity {
        slope,
        excursion,
        stationary: excursion <= EXCURSION_LIMIT.max(NOISE_FACTOR * noise)
            && slope.abs() <= SLOPE_LIMIT.max(NOISE_FACTOR * slope_error),
    })
}

/// Median slope over all pairs of points, a step apart each (Sen, 1968).
fn theil_sen(values: &[f64]) -> f64 {
    let slopes = (0..values.len())
        .flat_map(|i| (i + 1..values.len()).map(move |j| (i, j)))
        .map(|(i, j)| (values[j] - values[i]) / (j - i) as f64)
        .collect();
    median(slopes)
}

/// Standard deviation of a value about its neighbours, from the steps between them; a trend common to all steps and a few
/// large ones do not count.
fn step_noise(values: &[f64]) -> f64 {
    /// Third quartile of the standard normal: the median absolute deviation of unit noise.
    const QUARTILE: f64 = 0.674_489_750_196_081_7;
    let steps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).collect();
    let typical = median(steps.clone());
    let deviation = median(steps.iter().map(|s| (s - typical).abs()).collect());
    deviation / (QUARTILE * std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn noisy(points: usize, sd: f64, shape: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut rng = Rng::new(11);
        (0..points)
            .map(|i| 1e5 * shape(i as f64 / points as f64) * (1.0 + sd * rng.normal()).max(0.0))
            .collect()
    }

    #[test]
    fn a_level_series_is_stationary() {
        let flat = stationarity(&[7.0; 40]).unwrap();
        assert_eq!((flat.slope, flat.excursion), (0.0, 0.0));
        assert!(flat.stationary);
        assert!(stationarity(&noisy(80, 0.2, |_| 1.0)).unwrap().stationary);
    }

    #[test]
    fn throttling_and_a_full_cache_are_noticed() {
        for at in [0.15, 0.3, 0.5, 0.7, 0.85] {
            let shape = move |t: f64| if t < at { 1.0 } else { 0.5 };
            let found = stationarity(&noisy(80, 0.05, shape)).unwrap();
            assert!(!found.stationary, "halved at {at}: {found:?}");
        }
        let halved = stationarity(&noisy(80, 0.0, |t| if t < 0.5 { 1.0 } else { 0.5 })).unwrap();
        assert!((halved.excursion - 1.0 / 3.0).abs() < 1e-12);
        assert!(halved.slope < -0.5);
    }

    #[test]
    fn a_slow_loss_and_a_stall_are_noticed() {
        let loss = stationarity(&noisy(80, 0.02, |t| 1.0 - 0.3 * t)).unwrap();
        assert!(!loss.stationary && loss.slope < -0.2, "{loss:?}");
        let mut stalled = vec![100.0; 80];
        stalled[30..40].fill(0.0);
        let stall = stationarity(&stalled).unwrap();
        assert!(!stall.stationary);
        assert_eq!(stall.excursion, 1.0);
    }

    #[test]
    fn odd_lengths_use_every_point() {
        let mut series = vec![1.0; 83];
        series[82] = 1000.0;
        assert!(stationarity(&series).unwrap().excursion > 50.0);
        assert!(stationarity(&[1.0; 8]).unwrap().stationary);
    }

    #[test]
    fn foreign_numbers_are_refused() {
        assert!(matches!(
            stationarity(&[1.0; 7]),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            stationarity(&[0.0; 16]),
            Err(StatsError::OutOfDomain { .. })
        ));
        let mut series = [1.0; 16];
        series[3] = -1.0;
        assert!(matches!(
            stationarity(&series),
            Err(StatsError::OutOfDomain { .. })
        ));
        series[3] = f64::NAN;
        assert!(matches!(
            stationarity(&series),
            Err(StatsError::NotFinite { index: 3, .. })
        ));
    }
}
