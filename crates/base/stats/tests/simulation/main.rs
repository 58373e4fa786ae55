//! Simulated coverages and error rates of every procedure, against what METHOD states.
//!
//! Each simulation runs twice: short in every `cargo test`, and long when STRATA_SOAK=1. Seeds are fixed, and a rate may
//! leave its stated range by four binomial standard errors, so that a right formula passes and, say, a normal quantile
//! in place of Student's does not.

mod drift;
mod families;
mod intervals;
mod noise;
mod rate;
mod stationarity;

/// Experiments a cell in the short version.
const SHORT: usize = 3000;

/// How much longer the soak is.
const SOAK_FACTOR: usize = 40;

macro_rules! simulations {
    ($($module:ident::$name:ident),* $(,)?) => {
        mod short {
            $(#[test]
            fn $name() {
                crate::$module::$name(crate::SHORT);
            })*
        }

        mod soak {
            $(#[test]
            fn $name() {
                if std::env::var_os("STRATA_SOAK").is_none_or(|value| value != "1") {
                    println!("SKIP soak::{}: set STRATA_SOAK=1 (make soak)", stringify!($name));
                    return;
                }
                crate::$module::$name(crate::SHORT * crate::SOAK_FACTOR);
            })*
        }
    };
}

simulations![
    intervals::t_interval,
    intervals::normal_quantile_would_fail,
    intervals::signed_rank,
    intervals::order_statistics,
    intervals::stein,
    intervals::half_width_plan,
    families::holm_errors,
    families::simultaneous_coverage,
    families::false_equivalence,
    families::equivalence_power,
    families::wrong_verdicts,
    drift::trend_coverage,
    drift::pairing,
    stationarity::alarms,
];
