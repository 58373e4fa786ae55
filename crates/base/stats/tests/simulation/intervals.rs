//! Coverage of single intervals.

use strata_stats::{
    Contrast, Pilot, Rng, median_interval, normal_quantile, pairs_for_half_width,
    signed_rank_interval,
};

use crate::noise::{self, Noise};
use crate::rate::Rate;

pub(crate) fn t_interval(experiments: usize) {
    for noise in noise::ALL {
        for rounds in [6, 8, 12, 24] {
            let mut rng = Rng::new(rounds as u64);
            let rate = Rate::of(experiments, || {
                let contrast = Contrast::of(&noise.rounds(rounds, &mut rng)).unwrap();
                contrast.interval().unwrap().contains(0.0)
            });
            let high = if noise == Noise::Normal { 0.95 } else { 0.975 };
            rate.within(
                0.95,
                high,
                &format!("t interval, {noise:?}, {rounds} rounds"),
            );
        }
    }
}

/// The bounds above are tight enough: with 1.96 for t the same check fails.
pub(crate) fn normal_quantile_would_fail(experiments: usize) {
    let z = normal_quantile(0.975).unwrap();
    let mut rng = Rng::new(1);
    let rate = Rate::of(experiments, || {
        let contrast = Contrast::of(&Noise::Normal.rounds(8, &mut rng)).unwrap();
        contrast.mean().abs() <= z * contrast.standard_error()
    });
    assert!(!rate.fits(0.95, 0.975), "{rate:?}");
}

pub(crate) fn signed_rank(experiments: usize) {
    // Exact confidences 1 − 2·P(T⁺ ≤ c), from the tables: 2/64, 10/256, 2·87/4096 and, at 24 rounds, c = 81.
    for (rounds, confidence) in [(6, 0.968_75), (8, 0.960_94), (12, 0.957_52), (24, 0.951)] {
        for noise in noise::ALL {
            let mut rng = Rng::new(100 + rounds as u64);
            let rate = Rate::of(experiments, || {
                let differences = noise.rounds(rounds, &mut rng);
                let interval = signed_rank_interval(&differences).unwrap();
                interval.unwrap().contains(0.0)
            });
            let what = format!("signed rank, {noise:?}, {rounds} rounds");
            rate.within(confidence - 0.001, confidence + 0.001, &what);
        }
    }
    // Beyond the exact distribution: the approximation.
    let mut rng = Rng::new(99);
    let rate = Rate::of(experiments / 4, || {
        let differences = Noise::HeavyTailed.rounds(60, &mut rng);
        let interval = signed_rank_interval(&differences).unwrap();
        interval.unwrap().contains(0.0)
    });
    rate.within(0.948, 0.954, "signed rank, approximated, 60 rounds");
}

pub(crate) fn order_statistics(experiments: usize) {
    // Skewed, because the interval of a median may not need symmetry: e^z has the median 1.
    for rounds in [6, 8, 9, 15, 30] {
        let mut rng = Rng::new(200 + rounds as u64);
        let mut confidence = 0.0;
        let rate = Rate::of(experiments, || {
            let values: Vec<f64> = (0..rounds).map(|_| rng.normal().exp()).collect();
            let found = median_interval(&values).unwrap().interval.unwrap();
            confidence = found.confidence;
            found.interval.contains(1.0)
        });
        assert!(confidence >= 0.95);
        rate.within(
            confidence,
            confidence,
            &format!("order statistics, {rounds} rounds"),
        );
    }
}

pub(crate) fn stein(experiments: usize) {
    for noise in noise::ALL {
        // Widths from wide (the pilot alone decides) to narrow, in standard deviations of the noise.
        let sd = match noise {
            Noise::Normal => 1.0,
            Noise::HeavyTailed => 3.0_f64.sqrt(),
            Noise::SlowMixture => (2.0_f64 * (0.15 * 0.85 * 0.09 + 0.0049)).sqrt(),
        };
        for width in [1.5, 0.8, 0.5] {
            let mut rng = Rng::new(300);
            let mut too_wide = 0;
            let rate = Rate::of(experiments, || {
                let mut all = noise.rounds(8, &mut rng);
                let pilot = Pilot::of(&all).unwrap();
                let rounds = pilot.rounds(width * sd).unwrap();
                all.extend(noise.rounds(rounds - 8, &mut rng));
                let interval = pilot.contrast(&all).unwrap().interval().unwrap();
                let half = (interval.high - interval.low) / 2.0;
                too_wide += usize::from(half > width * sd * (1.0 + 1e-12));
                interval.contains(0.0)
            });
            assert_eq!(too_wide, 0, "Stein's interval promises its width");
            let (low, high) = if noise == Noise::Normal {
                (0.95, 0.95)
            } else {
                (0.935, 0.975)
            };
            rate.within(
                low,
                high,
                &format!("Stein, {noise:?}, half width {width} s"),
            );
        }
    }
}

/// The pairs that the power formula names give the half width on average.
pub(crate) fn half_width_plan(experiments: usize) {
    let pairs = pairs_for_half_width(0.07, 0.03).unwrap();
    let mut rng = Rng::new(400);
    let widths: f64 = (0..experiments)
        .map(|_| {
            let differences: Vec<f64> = (0..pairs).map(|_| 0.07 * rng.normal()).collect();
            let interval = Contrast::of(&differences).unwrap().interval().unwrap();
            (interval.high - interval.low) / 2.0
        })
        .sum();
    let mean = widths / experiments as f64;
    println!("mean half width of {pairs} pairs: {mean:.5}");
    assert!((0.029..0.031).contains(&mean), "{mean}");
}
