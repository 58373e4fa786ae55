//! Verdicts: what may be said of a contrast, and the words for it.

use crate::StatsError;
use crate::contrast::Contrast;
use crate::distribution::t_quantile;
use crate::family::holm;
use crate::input::{above_zero, bounded};

/// Level of a family of claims that something differs, two-sided.
pub const ALPHA_EFFECT: f64 = 0.05;

/// Level of each one-sided test of equivalence, so that the interval that must fit is the 95 % one.
pub const ALPHA_EQUIVALENCE: f64 = 0.025;

/// The difference that counts as none unless the plan says otherwise: 3 %.
pub const DEFAULT_DELTA: f64 = 0.03;

/// Why nothing can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Fewer than eight rounds.
    TooFewRounds,
    /// The t interval and the signed-rank interval lie differently about no difference.
    RanksDisagree,
    /// The interval, corrected for the family, holds both no difference and more than δ, or touches δ.
    IntervalTooWide,
}

/// What may be said of a contrast of two cells. Whether higher is better the response knows, not the numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// No difference is shown, and one of `delta` or more is ruled out.
    Equivalent {
        /// The relative difference that counts as none.
        delta: f64,
    },
    /// The ratio is above 1.
    Higher,
    /// The ratio is below 1.
    Lower,
    /// The ratio is not 1, but nearer to it than `delta`.
    DiffersByLessThan {
        /// The relative difference that counts as none.
        delta: f64,
    },
    /// Neither is shown.
    CannotTell {
        /// Only ratios beyond this one, or below its inverse, are ruled out; `None` below six rounds.
        rules_out: Option<f64>,
        /// Why.
        why: Doubt,
    },
}

/// The verdicts of one family of contrasts, in the order given, with Holm's correction of the tests for a difference and
/// of those for equivalence; a single contrast is a family of one. Contrasts of fewer than eight rounds count in the
/// family's size and get no claim.
///
/// `delta` is the relative difference that counts as none, such as [`DEFAULT_DELTA`], fixed before the run.
///
/// # Errors
/// `delta` is not a finite number above 0, or the ratio that could be ruled out overflows.
pub fn verdicts(contrasts: &[Contrast], delta: f64) -> Result<Vec<Verdict>, StatsError> {
    above_zero("greatest difference that counts as none", delta)?;
    let claimable = |contrast: &Contrast, p: Option<f64>| {
        p.filter(|_| contrast.may_claim()).unwrap_or(NEVER_REJECTED)
    };
    let mut effect = Vec::with_capacity(contrasts.len());
    let mut equivalence = Vec::with_capacity(contrasts.len());
    for contrast in contrasts {
        effect.push(claimable(contrast, contrast.p_value()?));
        equivalence.push(claimable(contrast, contrast.equivalence_p(delta)?));
    }
    let effect = holm(&effect, ALPHA_EFFECT)?;
    let equivalence = holm(&equivalence, ALPHA_EQUIVALENCE)?;
    contrasts
        .iter()
        .zip(effect.iter().zip(&equivalence))
        .map(|(contrast, (effect, equivalence))| {
            let differs = effect.rejected && !contrast.ranks_disagree();
            Ok(match (equivalence.rejected, differs) {
                (true, true) => Verdict::DiffersByLessThan { delta },
                (true, false) => Verdict::Equivalent { delta },
                (false, true) if contrast.mean() > 0.0 => Verdict::Higher,
                (false, true) => Verdict::Lower,
                (false, false) => Verdict::CannotTell {
                    rules_out: rules_out(contrast, contrasts.len())?,
                    why: doubt(contrast),
                },
            })
        })
        .collect()
}

/// The p-value of what may not be claimed whatever the numbers say.
const NEVER_REJECTED: f64 = 1.0;

fn doubt(contrast: &Contrast) -> Doubt {
    if !contrast.may_claim() {
        Doubt::TooFewRounds
    } else if contrast.ranks_disagree() {
        Doubt::RanksDisagree
    } else {
        Doubt::IntervalTooWide
    }
}

/// The nearer limits are Bonferroni's: Holm rejects whatever Bonferroni does, so a contrast that Holm left open never
/// prints a ratio within 1 + δ.
fn rules_out(contrast: &Contrast, family: usize) -> Result<Option<f64>, StatsError> {
    if contrast.interval().is_none() {
        return Ok(None);
    }
    let t = t_quantile(1.0 - ALPHA_EQUIVALENCE / family as f64, contrast.degrees())?;
    let reach = contrast.mean().abs() + t * contrast.standard_error();
    bounded("ratio that a contrast rules out", reach.exp()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve rounds with the given mean and standard deviation, evenly placed.
    fn rounds(mean: f64, sd: f64) -> Contrast {
        let positions: Vec<f64> = (0..12).map(|i| f64::from(i) - 5.5).collect();
        let spread = (positions.iter().map(|p| p * p).sum::<f64>() / 11.0).sqrt();
        let differences: Vec<f64> = positions.iter().map(|p| mean + sd * p / spread).collect();
        Contrast::of(&differences).unwrap()
    }

    fn one(contrast: Contrast) -> Verdict {
        verdicts(&[contrast], DEFAULT_DELTA).unwrap()[0]
    }

    #[test]
    fn each_verdict_has_its_place() {
        // t₁₁ = 2.201, so the half width is 0.635·s; ln 1.03 = 0.02956.
        assert_eq!(one(rounds(0.0, 0.04)), Verdict::Equivalent { delta: 0.03 });
        assert_eq!(one(rounds(0.2, 0.1)), Verdict::Higher);
        assert_eq!(one(rounds(-0.2, 0.1)), Verdict::Lower);
        assert_eq!(
            one(rounds(0.01, 0.01)),
            Verdict::DiffersByLessThan { delta: 0.03 }
        );
        let Verdict::CannotTell {
            rules_out: Some(ratio),
            why: Doubt::IntervalTooWide,
        } = one(rounds(0.01, 0.1))
        else {
            panic!("a wide interval must leave the verdict open");
        };
        assert!((ratio - (0.01_f64 + 2.200_985 * 0.1 / 12.0_f64.sqrt()).exp()).abs() < 1e-6);
    }

    #[test]
    fn few_rounds_claim_nothing() {
        let six = Contrast::of(&[0.2, 0.21, 0.22, 0.2, 0.21, 0.22]).unwrap();
        assert!(matches!(
            one(six),
            Verdict::CannotTell {
                rules_out: Some(_),
                why: Doubt::TooFewRounds
            }
        ));
        let five = Contrast::of(&[0.0, 0.001, 0.0, 0.001, 0.0]).unwrap();
        assert_eq!(
            one(five),
            Verdict::CannotTell {
                rules_out: None,
                why: Doubt::TooFewRounds
            }
        );
    }

    #[test]
    fn ranks_that_disagree_forbid_a_difference() {
        let mut differences = vec![0.05; 12];
        differences[0] = -1.5;
        let contrast = Contrast::of(&differences).unwrap();
        assert!(matches!(
            one(contrast),
            Verdict::CannotTell {
                why: Doubt::RanksDisagree,
                ..
            }
        ));
    }

    #[test]
    fn a_family_claims_less_than_its_members() {
        let weak = rounds(0.05, 0.065);
        assert_eq!(one(weak), Verdict::Higher);
        let family = verdicts(&[weak, rounds(0.0, 0.2), rounds(0.0, 0.2)], 0.03).unwrap();
        assert!(matches!(family[0], Verdict::CannotTell { .. }));
        // Equivalence alone, but not with three others; the ratio told stays beyond 1 + δ.
        let near = rounds(0.0, 0.045);
        assert!(matches!(one(near), Verdict::Equivalent { .. }));
        let wide = rounds(0.0, 0.5);
        let family = verdicts(&[near, wide, wide, wide], 0.03).unwrap();
        let Verdict::CannotTell {
            rules_out: Some(ratio),
            ..
        } = family[0]
        else {
            panic!("Holm must leave it open");
        };
        assert!(ratio > 1.03);
        assert!(verdicts(&[], 0.03).unwrap().is_empty());
    }

    #[test]
    fn delta_must_be_a_difference() {
        for delta in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                verdicts(&[rounds(0.0, 0.1)], delta),
                Err(StatsError::OutOfDomain { .. })
            ));
        }
    }
}
