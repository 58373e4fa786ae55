//! The two distributions that intervals need.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::StatsError;
use crate::input::{bounded, probability};

fn student(degrees: usize) -> Result<StudentsT, StatsError> {
    StudentsT::new(0.0, 1.0, degrees as f64).map_err(|_| StatsError::OutOfDomain {
        what: "degrees of freedom",
        found: degrees as f64,
        expected: "at least 1",
    })
}

fn number(what: &'static str, found: f64) -> Result<f64, StatsError> {
    if found.is_nan() {
        return Err(StatsError::OutOfDomain {
            what,
            found,
            expected: "a number",
        });
    }
    Ok(found)
}

/// P(T ≤ t) for Student's t with the given degrees of freedom.
///
/// # Errors
/// No degrees of freedom, or `t` is NaN; infinities give 0 and 1.
pub fn t_cdf(t: f64, degrees: usize) -> Result<f64, StatsError> {
    let t = number("argument of the t distribution", t)?;
    Ok(student(degrees)?.cdf(t))
}

/// The t below which Student's t with the given degrees of freedom lies with probability `p`.
///
/// # Errors
/// `p` outside of (0, 1), or no degrees of freedom.
pub fn t_quantile(p: f64, degrees: usize) -> Result<f64, StatsError> {
    probability("probability of the t quantile", p)?;
    bounded("t quantile", student(degrees)?.inverse_cdf(p))
}

/// P(T > t): not 1 − cdf, which loses the small p-values that Holm's correction multiplies.
pub(crate) fn t_above(t: f64, degrees: usize) -> Result<f64, StatsError> {
    Ok(student(degrees)?.sf(number("t statistic", t)?))
}

/// P(Z ≤ z) for the standard normal distribution.
///
/// # Errors
/// `z` is NaN; infinities give 0 and 1.
pub fn normal_cdf(z: f64) -> Result<f64, StatsError> {
    Ok(Normal::standard().cdf(number("argument of the normal distribution", z)?))
}

/// The z below which a standard normal lies with probability `p`.
///
/// # Errors
/// `p` outside of (0, 1).
pub fn normal_quantile(p: f64) -> Result<f64, StatsError> {
    probability("probability of the normal quantile", p)?;
    bounded("normal quantile", Normal::standard().inverse_cdf(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found - expected).abs() <= tolerance,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn t_quantiles_match_the_tables() {
        // NIST/SEMATECH e-Handbook, table 1.3.6.7.2, three decimals.
        for (degrees, p950, p975, p995) in [
            (1, 6.314, 12.706, 63.657),
            (2, 2.920, 4.303, 9.925),
            (5, 2.015, 2.571, 4.032),
            (7, 1.895, 2.365, 3.499),
            (11, 1.796, 2.201, 3.106),
            (23, 1.714, 2.069, 2.807),
            (30, 1.697, 2.042, 2.750),
            (60, 1.671, 2.000, 2.660),
            (100, 1.660, 1.984, 2.626),
        ] {
            for (p, expected) in [(0.95, p950), (0.975, p975), (0.995, p995)] {
                close(t_quantile(p, degrees).unwrap(), expected, 6e-4);
                close(t_quantile(1.0 - p, degrees).unwrap(), -expected, 6e-4);
            }
        }
    }

    #[test]
    fn t_matches_its_closed_forms() {
        // One degree is Cauchy; two have t = (2p − 1)·√2 / √(1 − (2p − 1)²).
        for p in [0.001, 0.2, 0.5, 0.6, 0.9, 0.975, 0.9999] {
            let cauchy = (std::f64::consts::PI * (p - 0.5)).tan();
            close(
                t_quantile(p, 1).unwrap(),
                cauchy,
                1e-9 * (1.0 + cauchy.abs()),
            );
            let c = 2.0 * p - 1.0;
            let two = c * 2.0_f64.sqrt() / (1.0 - c * c).sqrt();
            close(t_quantile(p, 2).unwrap(), two, 1e-9 * (1.0 + two.abs()));
            close(t_cdf(two, 2).unwrap(), p, 1e-12);
        }
        // Far in the tail P(T₁ > t) → 1/(πt), which 1 − cdf could not resolve.
        close(
            t_above(1e18, 1).unwrap() * std::f64::consts::PI * 1e18,
            1.0,
            1e-9,
        );
    }

    #[test]
    fn normal_matches_the_tables() {
        for (p, z) in [
            (0.8, 0.841_621_233_572_914),
            (0.9, 1.281_551_565_544_6),
            (0.95, 1.644_853_626_951_472),
            (0.975, 1.959_963_984_540_054),
            (0.995, 2.575_829_303_548_901),
        ] {
            close(normal_quantile(p).unwrap(), z, 1e-10);
            close(normal_quantile(1.0 - p).unwrap(), -z, 1e-10);
            // statrs computes erfc to about 2·10⁻¹¹.
            close(normal_cdf(z).unwrap(), p, 5e-11);
        }
    }

    #[test]
    fn what_has_no_quantile_is_refused() {
        for p in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                t_quantile(p, 7),
                Err(StatsError::OutOfDomain { .. })
            ));
            assert!(matches!(
                normal_quantile(p),
                Err(StatsError::OutOfDomain { .. })
            ));
        }
        assert!(matches!(
            t_quantile(0.975, 0),
            Err(StatsError::OutOfDomain { .. })
        ));
        assert!(t_cdf(f64::NAN, 3).is_err());
        assert!(normal_cdf(f64::NAN).is_err());
    }
}
