//! Error rates of families, of equivalence and of verdicts.

use strata_stats::{
    ALPHA_EFFECT, ALPHA_EQUIVALENCE, Contrast, Rng, Verdict, holm, pairs_for_equivalence,
    simultaneous, verdicts,
};

use crate::noise::{self, Noise};
use crate::rate::Rate;

/// A family of effects over the same rounds that share a cell, as ratios to one baseline do.
fn family(noise: Noise, effects: usize, rounds: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let baseline = noise.rounds(rounds, rng);
    (0..effects)
        .map(|_| {
            let own = noise.rounds(rounds, rng);
            own.iter().zip(&baseline).map(|(a, b)| a - b).collect()
        })
        .collect()
}

pub(crate) fn holm_errors(experiments: usize) {
    for noise in noise::ALL {
        for false_hypotheses in [0, 3] {
            let mut rng = Rng::new(500);
            let rate = Rate::of(experiments, || {
                // Independent effects, where Holm comes nearest to its level; the first ones are truly far from 0.
                let p: Vec<f64> = (0..6)
                    .map(|effect| {
                        let shift = if effect < false_hypotheses { 20.0 } else { 0.0 };
                        let mut differences = noise.rounds(12, &mut rng);
                        differences.iter_mut().for_each(|d| *d += shift);
                        let contrast = Contrast::of(&differences).unwrap();
                        contrast.p_value().unwrap().unwrap()
                    })
                    .collect();
                let tests = holm(&p, ALPHA_EFFECT).unwrap();
                tests[false_hypotheses..].iter().any(|test| test.rejected)
            });
            // Šidák: independent tests at 0.05/m each err together with 1 − (1 − 0.05/m)^m, 0.049.
            let low = if noise == Noise::Normal { 0.048 } else { 0.0 };
            let what = format!("Holm, {noise:?}, {false_hypotheses} of 6 false");
            rate.within(low, 0.05, &what);
        }
    }
}

pub(crate) fn simultaneous_coverage(experiments: usize) {
    for noise in noise::ALL {
        for (effects, rounds) in [(1, 8), (3, 8), (6, 12), (10, 16)] {
            let mut rng = Rng::new(600 + effects as u64);
            let mut seed = 0;
            let rate = Rate::of(experiments / 10, || {
                let family = family(noise, effects, rounds, &mut rng);
                seed += 1;
                let found = simultaneous(&family, seed).unwrap().unwrap();
                found.intervals.iter().all(|i| i.contains(0.0))
            });
            let what = format!("simultaneous, {noise:?}, {effects} effects, {rounds} rounds");
            rate.within(0.95, 0.975, &what);
        }
    }
}

pub(crate) fn false_equivalence(experiments: usize) {
    let delta = 0.03_f64;
    for (noise, scale) in [
        (Noise::Normal, 0.02),
        (Noise::HeavyTailed, 0.01),
        (Noise::SlowMixture, 0.1),
    ] {
        for sign in [-1.0, 1.0] {
            let mut rng = Rng::new(700);
            let rate = Rate::of(experiments, || {
                // The true difference is exactly what must not be called equivalent.
                let differences: Vec<f64> = noise
                    .rounds(12, &mut rng)
                    .iter()
                    .map(|d| scale * d + sign * delta.ln_1p())
                    .collect();
                let contrast = Contrast::of(&differences).unwrap();
                contrast.equivalence_p(delta).unwrap().unwrap() <= ALPHA_EQUIVALENCE
            });
            let low = if noise == Noise::Normal { 0.025 } else { 0.01 };
            rate.within(low, 0.025, &format!("false equivalence, {noise:?}, {sign}"));
        }
    }
}

/// The pairs that the power formula names do show equivalence of equal cells in 80 %, at either level.
pub(crate) fn equivalence_power(experiments: usize) {
    for alpha in [0.05, ALPHA_EQUIVALENCE] {
        let pairs = pairs_for_equivalence(0.07, 0.02, alpha).unwrap();
        let mut rng = Rng::new(800);
        let rate = Rate::of(experiments / 2, || {
            let differences: Vec<f64> = (0..pairs).map(|_| 0.07 * rng.normal()).collect();
            let contrast = Contrast::of(&differences).unwrap();
            contrast.equivalence_p(0.02).unwrap().unwrap() <= alpha
        });
        rate.within(0.78, 0.81, &format!("power of {pairs} pairs at {alpha}"));
    }
}

/// In a family of twelve rounds with nothing to find, with one truth beyond δ and with one far beyond it, a wrong claim of
/// any kind stays as rare as the two levels together allow.
pub(crate) fn wrong_verdicts(experiments: usize) {
    let delta = 0.03_f64;
    for noise in noise::ALL {
        let scale = if noise == Noise::SlowMixture {
            0.3
        } else {
            0.03
        };
        let truths = [0.0, 0.0, delta.ln_1p(), -0.3];
        let mut rng = Rng::new(900);
        let mut found_the_large = Rate::default();
        let rate = Rate::of(experiments, || {
            let contrasts: Vec<Contrast> = truths
                .iter()
                .map(|truth| {
                    let differences: Vec<f64> = noise
                        .rounds(12, &mut rng)
                        .iter()
                        .map(|d| truth + scale * d)
                        .collect();
                    Contrast::of(&differences).unwrap()
                })
                .collect();
            let found = verdicts(&contrasts, delta).unwrap();
            found_the_large.count(found[3] == Verdict::Lower);
            truths
                .iter()
                .zip(found)
                .any(|(truth, verdict)| match verdict {
                    Verdict::Higher => *truth <= 0.0,
                    Verdict::Lower => *truth >= 0.0,
                    Verdict::Equivalent { .. } => truth.abs() >= delta.ln_1p(),
                    Verdict::DiffersByLessThan { .. } => {
                        *truth == 0.0 || truth.abs() >= delta.ln_1p()
                    }
                    Verdict::CannotTell { .. } => false,
                })
        });
        rate.within(0.0, 0.075, &format!("wrong verdicts, {noise:?}"));
        found_the_large.within(0.95, 1.0, &format!("right verdict on −26 %, {noise:?}"));
    }
}
