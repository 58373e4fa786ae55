//! A single cell: its median over rounds, with an interval that assumes no distribution.

use crate::StatsError;
use crate::input::{at_least, bounded, finite, median_of_sorted};
use crate::interval::{CONFIDENCE, Interval, ROUNDS_FOR_INTERVAL};

/// Median of one response over rounds, in the response's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MedianEstimate {
    /// The middle value, or the mean of the middle two.
    pub median: f64,
    /// Its interval; `None` below six rounds.
    pub interval: Option<MedianInterval>,
}

/// The order-statistic interval and the confidence that its discrete steps really give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MedianInterval {
    /// From the r-th least to the r-th greatest value.
    pub interval: Interval,
    /// Its coverage for any continuous distribution, at least [`CONFIDENCE`].
    pub confidence: f64,
}

/// Median and the narrowest symmetric pair of order statistics that covers it with at least 95 %: six rounds give least
/// to greatest, 96.9 % (David and Nagaraja, *Order Statistics*, 3rd ed., §7.1).
///
/// # Errors
/// No values, one that is not finite, or a middle pair whose mean overflows.
pub fn median_interval(values: &[f64]) -> Result<MedianEstimate, StatsError> {
    const WHAT: &str = "values of a median";
    at_least(WHAT, values.len(), 1)?;
    finite(WHAT, values)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let interval = (sorted.len() >= ROUNDS_FOR_INTERVAL).then(|| {
        let (cut, confidence) = cut_off(sorted.len());
        MedianInterval {
            interval: Interval {
                low: sorted[cut],
                high: sorted[sorted.len() - 1 - cut],
            },
            confidence,
        }
    });
    Ok(MedianEstimate {
        median: bounded(WHAT, median_of_sorted(&sorted))?,
        interval,
    })
}

/// How many values lie outside of each limit, and the coverage 1 − 2·P(Bin(n, ½) ≤ that number).
fn cut_off(rounds: usize) -> (usize, f64) {
    let n = rounds as f64;
    // In logarithms, because 2⁻ⁿ is 0 from 1075 rounds on.
    let mut log_term = -n * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    let mut cut = 0;
    loop {
        let outside = cut as f64;
        log_term += ((n - outside) / (outside + 1.0)).ln();
        let next = tail + log_term.exp();
        if 1.0 - 2.0 * next < CONFIDENCE {
            return (cut, 1.0 - 2.0 * tail);
        }
        tail = next;
        cut += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_offs_are_those_of_the_sign_test() {
        // Two-sided 0.05 critical values of the sign test, and coverages from sums of binomial coefficients.
        for (rounds, cut, confidence) in [
            (6, 0, 1.0 - 2.0 / 64.0),
            (8, 0, 1.0 - 2.0 / 256.0),
            (9, 1, 1.0 - 20.0 / 512.0),
            (10, 1, 1.0 - 22.0 / 1024.0),
            (12, 2, 1.0 - 2.0 * 79.0 / 4096.0),
            (20, 5, 1.0 - 2.0 * 21_700.0 / 1_048_576.0),
        ] {
            let (found, coverage) = cut_off(rounds);
            assert_eq!(found, cut, "{rounds} rounds");
            assert!(
                (coverage - confidence).abs() < 1e-12,
                "{rounds}: {coverage}"
            );
        }
        assert_eq!(cut_off(25).0, 7);
        assert_eq!(cut_off(100).0, 39);
    }

    #[test]
    fn many_rounds_do_not_underflow() {
        // n/2 − 0.98·√n, the normal approximation.
        let (cut, confidence) = cut_off(10_000);
        assert!((4_899..=4_903).contains(&cut), "{cut}");
        assert!((CONFIDENCE..CONFIDENCE + 0.002).contains(&confidence));
    }

    #[test]
    fn six_rounds_reach_from_least_to_greatest() {
        let found = median_interval(&[5.0, 1.0, 4.0, 2.0, 9.0, 3.0]).unwrap();
        assert_eq!(found.median, 3.5);
        let interval = found.interval.unwrap();
        assert_eq!((interval.interval.low, interval.interval.high), (1.0, 9.0));
        assert_eq!(interval.confidence, 0.968_75);
        assert_eq!(median_interval(&[5.0, 1.0, 4.0]).unwrap().median, 4.0);
        assert_eq!(median_interval(&[1.0; 5]).unwrap().interval, None);
    }

    #[test]
    fn foreign_numbers_are_refused() {
        assert!(matches!(
            median_interval(&[]),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            median_interval(&[1.0, f64::NEG_INFINITY]),
            Err(StatsError::NotFinite { index: 1, .. })
        ));
    }
}
