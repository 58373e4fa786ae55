//! False alarms and misses of the check within a trial.

use strata_stats::{Rng, stationarity};

use crate::rate::Rate;

/// How often a series of the given length, noise a value and shape over 0..1 is called not stationary.
fn alarm(experiments: usize, points: u32, sd: f64, shape: impl Fn(f64) -> f64) -> Rate {
    let mut rng = Rng::new(1200);
    Rate::of(experiments, || {
        let series: Vec<f64> = (0..points)
            .map(|i| shape(f64::from(i) / f64::from(points)) * (1.0 + sd * rng.normal()).max(0.0))
            .collect();
        !stationarity(&series).unwrap().stationary
    })
}

/// Noise alone is seldom noticed, and losses that matter nearly always; a late loss in 30 % noise a value mostly not.
pub(crate) fn alarms(experiments: usize) {
    let experiments = experiments / 3;
    for sd in [0.05, 0.2, 0.5] {
        let what = format!("level, {sd} noise");
        alarm(experiments, 80, sd, |_| 1.0).within(0.0, 0.03, &what);
        alarm(experiments, 8, sd, |_| 1.0).within(0.0, 0.07, &format!("{what}, 8 values"));
    }
    let half_after = |at: f64| move |t: f64| if t < at { 1.0 } else { 0.5 };
    for at in [0.2, 0.5, 0.8] {
        let what = format!("half the speed after {at}");
        alarm(experiments, 80, 0.1, half_after(at)).within(0.98, 1.0, &what);
        alarm(experiments, 80, 0.3, half_after(at)).within(0.25, 1.0, &format!("{what}, noisy"));
    }
    alarm(experiments, 80, 0.2, half_after(0.5)).within(0.99, 1.0, "half the speed, 0.2 noise");
    alarm(experiments, 80, 0.1, |t| 1.0 - 0.3 * t).within(0.95, 1.0, "30 % lost slowly");
    let stall = |t: f64| if (0.4..0.5).contains(&t) { 0.0 } else { 1.0 };
    alarm(experiments, 80, 0.2, stall).within(0.94, 1.0, "a stall of a tenth");
}
