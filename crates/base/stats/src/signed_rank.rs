//! Wilcoxon's signed-rank interval: the second opinion that does not lean on normality.

use crate::StatsError;
use crate::distribution::normal_quantile;
use crate::input::{bounded, finite};
use crate::interval::{Interval, ROUNDS_FOR_INTERVAL, UPPER};

/// Up to here the distribution is counted: 2⁵⁰ sign patterns are still exact in an `f64`.
const EXACT_ROUNDS: usize = 50;

/// The 95 % interval of the centre of symmetry, in the unit of `differences`; `None` below six rounds.
///
/// The limits are Walsh averages (d_i + d_j)/2, i ≤ j, cut off equally at both ends by the exact distribution of the
/// signed-rank statistic up to 50 rounds and by its normal approximation with continuity correction above (Hollander,
/// Wolfe and Chicken, *Nonparametric Statistical Methods*, 3rd ed., §3.1 and §3.3). Ties make it conservative. Holds
/// all n(n + 1)/2 averages at once.
///
/// # Errors
/// A difference is not finite, or so large that averages overflow.
pub fn signed_rank_interval(differences: &[f64]) -> Result<Option<Interval>, StatsError> {
    const WHAT: &str = "differences of the signed-rank interval";
    finite(WHAT, differences)?;
    if differences.len() < ROUNDS_FOR_INTERVAL {
        return Ok(None);
    }
    let mut walsh = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (i, a) in differences.iter().enumerate() {
        for b in &differences[i..] {
            walsh.push(bounded(WHAT, (a + b) / 2.0)?);
        }
    }
    let cut = cut_off(differences.len())?;
    let mirrored = walsh.len() - 1 - cut;
    let mut select = |rank| *walsh.select_nth_unstable_by(rank, f64::total_cmp).1;
    Ok(Some(Interval {
        low: select(cut),
        high: select(mirrored),
    }))
}

/// How many Walsh averages lie outside of each limit: the largest c with P(T⁺ ≤ c) ≤ 0.025.
fn cut_off(rounds: usize) -> Result<usize, StatsError> {
    if rounds > EXACT_ROUNDS {
        let n = rounds as f64;
        let mean = n * (n + 1.0) / 4.0;
        let sd = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        return Ok((mean - 0.5 - normal_quantile(UPPER)? * sd) as usize);
    }
    // patterns[t] counts the sets of ranks 1..=n whose sum is t.
    let mut patterns = vec![0.0_f64; rounds * (rounds + 1) / 2 + 1];
    patterns[0] = 1.0;
    for rank in 1..=rounds {
        for sum in (rank..patterns.len()).rev() {
            patterns[sum] += patterns[sum - rank];
        }
    }
    let allowed = (1.0 - UPPER) * 2.0_f64.powi(rounds as i32);
    let mut seen = 0.0;
    let within = patterns
        .iter()
        .take_while(|count| {
            seen += **count;
            seen <= allowed
        })
        .count();
    // From six rounds on the empty set alone, 2⁻ⁿ, is within the tail, so there is one to subtract.
    Ok(within.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_offs_are_the_tabulated_ones() {
        // Critical values of Wilcoxon's T, two-sided 0.05, as tabulated everywhere.
        for (rounds, critical) in [
            (6, 0),
            (7, 2),
            (8, 3),
            (9, 5),
            (10, 8),
            (12, 13),
            (15, 25),
            (20, 52),
            (25, 89),
            (30, 137),
            (50, 434),
        ] {
            assert_eq!(cut_off(rounds).unwrap(), critical, "{rounds} rounds");
        }
    }

    #[test]
    fn the_approximation_carries_on_where_counting_ends() {
        // The exact values of 51 to 53 rounds grow by about 19 a round from 434.
        for (rounds, low, high) in [(51, 450, 456), (52, 469, 477), (53, 488, 498)] {
            let found = cut_off(rounds).unwrap();
            assert!((low..=high).contains(&found), "{rounds} rounds: {found}");
        }
    }

    #[test]
    fn six_rounds_reach_from_least_to_greatest() {
        let interval = signed_rank_interval(&[3.0, -1.0, 2.0, 5.0, 4.0, 0.5])
            .unwrap()
            .unwrap();
        assert_eq!((interval.low, interval.high), (-1.0, 5.0));
        assert_eq!(signed_rank_interval(&[1.0; 5]).unwrap(), None);
    }

    #[test]
    fn foreign_numbers_are_refused() {
        assert!(matches!(
            signed_rank_interval(&[0.0, f64::NAN]),
            Err(StatsError::NotFinite { index: 1, .. })
        ));
        assert!(matches!(
            signed_rank_interval(&[f64::MAX; 6]),
            Err(StatsError::Unbounded { .. })
        ));
    }
}
