//! Laws that hold for any input: no panic, no NaN, and the symmetries of each procedure.

use proptest::prelude::*;
use strata_stats::{
    Contrast, Paired, Pilot, Rng, Verdict, holm, lag1_autocorrelation, log_ratios, median_interval,
    pairs_for_equivalence, pairs_for_half_width, signed_rank_interval, simultaneous, stationarity,
    t_cdf, t_quantile, trend, verdicts,
};

/// Differences as measured ones are: finite, of moderate size, with ties.
fn differences(rounds: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(
        (-2000_i32..2000).prop_map(|d| f64::from(d) / 1000.0),
        rounds,
    )
}

/// Anything at all, NaN and infinities among it.
fn anything() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(
        prop_oneof![any::<f64>(), -1.0..1.0, Just(f64::MAX), Just(0.0)],
        0..30,
    )
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

/// Two-sided p-value of the signed-rank test that the centre is `centre`, by listing all sign patterns.
fn listed_signed_rank_p(differences: &[f64], centre: f64) -> f64 {
    let mut sizes: Vec<(f64, bool)> = differences
        .iter()
        .map(|d| ((d - centre).abs(), *d > centre))
        .collect();
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let observed: usize = (1..=sizes.len()).filter(|rank| sizes[rank - 1].1).sum();
    let (mut below, mut above) = (0_u32, 0_u32);
    for pattern in 0_u32..1 << sizes.len() {
        let sum: usize = (0..sizes.len())
            .filter(|bit| pattern >> bit & 1 == 1)
            .map(|bit| bit + 1)
            .sum();
        below += u32::from(sum <= observed);
        above += u32::from(sum >= observed);
    }
    2.0 * f64::from(below.min(above)) / f64::from(1_u32 << sizes.len())
}

proptest! {
    #[test]
    fn foreign_numbers_give_errors_and_never_nan(
        values in anything(),
        others in anything(),
        parameter in any::<f64>(),
        seed in any::<u64>(),
    ) {
        if let Ok(contrast) = Contrast::of(&values) {
            let numbers = [contrast.mean(), contrast.sd(), contrast.ratio(), contrast.standard_error()];
            prop_assert!(numbers.iter().all(|v| v.is_finite()));
            prop_assert_eq!(contrast.interval().is_some(), values.len() >= 6);
            if let Some(i) = contrast.ratio_interval() {
                prop_assert!(i.low.is_finite() && i.high.is_finite() && i.low <= i.high);
            }
            if let Some(p) = contrast.p_value().unwrap() {
                prop_assert!((0.0..=1.0).contains(&p));
            }
            if let Ok(found) = verdicts(&[contrast], parameter)
                && let Verdict::CannotTell { rules_out: Some(ratio), .. } = found[0]
            {
                prop_assert!(ratio.is_finite() && ratio >= 1.0);
            }
        }
        if let Ok(found) = median_interval(&values) {
            prop_assert!(found.median.is_finite());
        }
        if let Ok(Some(i)) = signed_rank_interval(&values) {
            prop_assert!(i.low <= i.high && i.low.is_finite() && i.high.is_finite());
        }
        if let Ok(Some(family)) = simultaneous(std::slice::from_ref(&values), seed) {
            prop_assert!(family.critical.is_finite());
            prop_assert!(family.intervals.iter().all(|i| i.low.is_finite() && i.high.is_finite()));
        }
        if let Ok(found) = log_ratios(&values, &others) {
            prop_assert!(found.iter().all(|d| d.is_finite()));
        }
        if let Ok(found) = trend(&values, &others) {
            prop_assert!(found.slope.is_finite());
            prop_assert!(found.interval.is_none_or(|i| i.low <= i.high));
        }
        if let Ok(r) = lag1_autocorrelation(&values) {
            prop_assert!(r.abs() <= 1.0 + 1e-9);
        }
        if let Ok(found) = Paired::of(&values) {
            prop_assert!(found.differences.iter().all(|d| d.is_finite()));
        }
        if let Ok(found) = stationarity(&values) {
            prop_assert!(found.slope.is_finite() && found.excursion.is_finite());
        }
        if let Ok(pilot) = Pilot::of(&values)
            && let Ok(rounds) = pilot.rounds(parameter)
        {
            prop_assert!(rounds >= 8);
        }
        if let Ok(tests) = holm(&values, parameter) {
            prop_assert!(tests.iter().all(|t| (0.0..=1.0).contains(&t.adjusted)));
        }
        let _ = pairs_for_half_width(parameter, values.first().copied().unwrap_or(1.0));
        let _ = pairs_for_equivalence(parameter, values.first().copied().unwrap_or(1.0), 0.025);
    }

    #[test]
    fn t_quantile_inverts_the_distribution(p in 1e-6..1.0_f64, degrees in 1_usize..2000) {
        // 3·10⁻¹⁴ where intervals are made; near p = ½ the inverse loses half of its digits to cancellation.
        let tolerance = if (p - 0.5).abs() > 0.4 { 1e-12 } else { 1e-7 };
        let back = t_cdf(t_quantile(p, degrees).unwrap(), degrees).unwrap();
        prop_assert!((back - p).abs() <= tolerance);
    }

    #[test]
    fn a_contrast_moves_and_turns_with_its_differences(d in differences(6..40), shift in -1.0..1.0) {
        let contrast = Contrast::of(&d).unwrap();
        let interval = contrast.interval().unwrap();
        prop_assert!(interval.contains(contrast.mean()));
        let moved = Contrast::of(&d.iter().map(|d| d + shift).collect::<Vec<_>>()).unwrap();
        prop_assert!(near(moved.interval().unwrap().low, interval.low + shift));
        prop_assert!(near(moved.signed_rank().unwrap().high, contrast.signed_rank().unwrap().high + shift));
        let turned = Contrast::of(&d.iter().map(|d| -d).collect::<Vec<_>>()).unwrap();
        prop_assert!(near(turned.interval().unwrap().low, -interval.high));
        prop_assert!(near(turned.signed_rank().unwrap().low, -contrast.signed_rank().unwrap().high));
        prop_assert_eq!(turned.ranks_disagree(), contrast.ranks_disagree());
        let (p, turned_p) = (contrast.p_value().unwrap().unwrap(), turned.p_value().unwrap().unwrap());
        prop_assert!(near(p, turned_p));
    }

    #[test]
    fn the_p_value_and_the_interval_agree(d in differences(6..40)) {
        let contrast = Contrast::of(&d).unwrap();
        let interval = contrast.interval().unwrap();
        // Within rounding of the limit either may win.
        prop_assume!(interval.low.abs() > 1e-9 && interval.high.abs() > 1e-9);
        prop_assert_eq!(contrast.p_value().unwrap().unwrap() < 0.05, !interval.contains(0.0));
    }

    #[test]
    fn the_signed_rank_interval_inverts_the_listed_test(d in prop::collection::vec(-1.0..1.0_f64, 6..11)) {
        let interval = signed_rank_interval(&d).unwrap().unwrap();
        prop_assert!(listed_signed_rank_p(&d, interval.low - 1e-9) <= 0.05);
        prop_assert!(listed_signed_rank_p(&d, interval.high + 1e-9) <= 0.05);
        prop_assert!(listed_signed_rank_p(&d, interval.low + 1e-9) > 0.05);
        prop_assert!(listed_signed_rank_p(&d, interval.high - 1e-9) > 0.05);
    }

    #[test]
    fn a_median_lies_in_its_interval_in_any_order(d in differences(6..60), seed in any::<u64>()) {
        let found = median_interval(&d).unwrap();
        let interval = found.interval.unwrap();
        prop_assert!(interval.interval.contains(found.median));
        prop_assert!((0.95..1.0).contains(&interval.confidence));
        let mut shuffled = d.clone();
        Rng::new(seed).shuffle(&mut shuffled);
        prop_assert_eq!(median_interval(&shuffled).unwrap(), found);
    }

    #[test]
    fn holm_lies_between_the_plain_and_bonferroni(p in prop::collection::vec(0.0..=1.0_f64, 1..20)) {
        let tests = holm(&p, 0.05).unwrap();
        for test in &tests {
            prop_assert!(test.adjusted >= test.p);
            prop_assert!(test.adjusted <= (p.len() as f64 * test.p).min(1.0).max(test.p) || tests.iter().any(|o| o.p < test.p && o.adjusted == test.adjusted));
            prop_assert_eq!(test.rejected, test.adjusted <= 0.05);
            prop_assert!(tests.iter().all(|o| o.p < test.p || o.adjusted >= test.adjusted));
        }
    }

    #[test]
    fn a_family_is_never_tighter_than_its_members(
        d in prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, 9), 1..5),
        seed in any::<u64>(),
    ) {
        if let Ok(found) = simultaneous(&d, seed) {
            for (effect, wide) in d.iter().zip(found.unwrap().intervals) {
                let single = Contrast::of(effect).unwrap().interval().unwrap();
                prop_assert!(wide.low <= single.low + 1e-12 && wide.high >= single.high - 1e-12);
            }
        }
    }

    #[test]
    fn a_verdict_turns_with_its_contrast(d in differences(8..40), delta in 0.001..0.5) {
        let turned: Vec<f64> = d.iter().map(|d| -d).collect();
        let verdict = verdicts(&[Contrast::of(&d).unwrap()], delta).unwrap()[0];
        let other = verdicts(&[Contrast::of(&turned).unwrap()], delta).unwrap()[0];
        match (verdict, other) {
            (Verdict::Higher, Verdict::Lower) | (Verdict::Lower, Verdict::Higher) => {}
            (
                Verdict::CannotTell { rules_out: Some(a), why: x },
                Verdict::CannotTell { rules_out: Some(b), why: y },
            ) => prop_assert!(near(a, b) && x == y),
            (a, b) => prop_assert_eq!(a, b),
        }
    }

    #[test]
    fn below_stays_below_and_shuffling_keeps_all(seed in any::<u64>(), n in 1..u64::MAX, length in 0_usize..50) {
        let mut rng = Rng::new(seed);
        prop_assert!((0..20).all(|_| rng.below(n) < n));
        prop_assert_eq!(rng.below(0), 0);
        let mut items: Vec<usize> = (0..length).collect();
        rng.shuffle(&mut items);
        items.sort_unstable();
        prop_assert_eq!(items, (0..length).collect::<Vec<_>>());
    }
}
