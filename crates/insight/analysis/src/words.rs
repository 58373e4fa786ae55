//! Verdicts in plain English, with their figures.

use strata_record::{Estimate, Layer};
use strata_stats::{Doubt, Interval, ROUNDS_FOR_CLAIM, ROUNDS_FOR_INTERVAL, Verdict};
use strata_units::show;

use crate::{Factor, Response};

/// From here on, and below its inverse, a ratio reads better as a multiple than in percent.
const MULTIPLE: f64 = 2.0;

/// A median with its interval, the unit once where all three share it: `421 k/s [418, 425]`. `unit` gives a figure its
/// digits and, after a space, its unit.
pub fn in_unit(estimate: Estimate, unit: fn(f64) -> String) -> String {
    let middle = unit(estimate.median);
    let (Some(low), Some(high)) = (estimate.ci95_low, estimate.ci95_high) else {
        return format!("{middle} (no interval)");
    };
    let (low, high) = (unit(low), unit(high));
    let split = |text: &str| -> Option<(String, String)> {
        text.split_once(' ')
            .map(|(d, u)| (d.to_owned(), u.to_owned()))
    };
    match (split(&middle), split(&low), split(&high)) {
        (Some((m, unit)), Some((l, of_low)), Some((h, of_high)))
            if unit == of_low && unit == of_high =>
        {
            format!("{m} {unit} [{l}, {h}]")
        }
        _ => format!("{middle} [{low}, {high}]"),
    }
}

/// Bytes a second with their interval; of a wire in bits a second as well, as links are sold.
pub fn bandwidth(layer: Layer, bytes_per_s: Estimate) -> String {
    match layer {
        Layer::Tcp | Layer::Rdma => {
            let bytes = show::bandwidth(bytes_per_s.median);
            format!("{} = {bytes}", in_unit(bytes_per_s, show::link_rate))
        }
        Layer::Block | Layer::Nvme => in_unit(bytes_per_s, show::bandwidth),
    }
}

/// A part of one as percent: one decimal below ten, three below a tenth.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent != 0.0 && percent.abs() < 0.095 {
        format!("{percent:.3}")
    } else if percent.abs() < 9.95 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.0}")
    }
}

/// A ratio, with the decimals that tell a small difference.
pub fn ratio(ratio: f64) -> String {
    if (0.1..MULTIPLE).contains(&ratio) {
        format!("{ratio:.3}")
    } else {
        show::digits(ratio)
    }
}

/// A ratio with its interval.
pub(crate) fn ratio_with(estimate: f64, interval: Option<Interval>) -> String {
    match interval {
        Some(i) => format!("{} [{}, {}]", ratio(estimate), ratio(i.low), ratio(i.high)),
        None => format!("{} (no interval)", ratio(estimate)),
    }
}

/// Greatest ratio that is not ruled out, as a difference.
pub(crate) fn more_than(ratio: f64) -> String {
    if ratio < MULTIPLE {
        format!("{} %", percent(ratio - 1.0))
    } else {
        format!("a factor of {}", show::digits(ratio))
    }
}

/// What a contrast compares: the two names, and in what.
pub(crate) struct Compared<'a> {
    pub(crate) base: &'a str,
    pub(crate) other: &'a str,
    pub(crate) factor: Factor,
    pub(crate) response: Response,
    pub(crate) ratio: f64,
    pub(crate) interval: Option<Interval>,
}

impl Compared<'_> {
    /// The verdict on `rounds` replicates; `paired` when these are averages of two rounds each.
    pub(crate) fn words(&self, verdict: Verdict, rounds: usize, paired: bool) -> String {
        match verdict {
            Verdict::Equivalent { delta } => format!(
                "no difference larger than {} %: {} ÷ {} is {}",
                show_delta(delta),
                self.other,
                self.base,
                ratio_with(self.ratio, self.interval)
            ),
            Verdict::Higher | Verdict::Lower => self.effect(),
            Verdict::DiffersByLessThan { delta } => format!(
                "{}: differs, by less than {} %",
                self.effect(),
                show_delta(delta)
            ),
            Verdict::CannotTell { rules_out, why } => cannot_tell(rules_out, why, rounds, paired),
        }
    }

    fn effect(&self) -> String {
        let Self { base, other, .. } = self;
        let more = self.ratio > 1.0;
        // Gains of layers multiply, so that they are told as multiples however small they are.
        let multiple =
            self.factor == Factor::Layer || !(1.0 / MULTIPLE..MULTIPLE).contains(&self.ratio);
        let figure = if multiple {
            let bounds = self
                .interval
                .map(|i| format!(" [{}, {}]", ratio(i.low), ratio(i.high)));
            format!("{} times{}", ratio(self.ratio), bounds.unwrap_or_default())
        } else {
            // A narrow interval needs its decimal to show that it has a width.
            let narrow = self.interval.is_some_and(|i| i.high - i.low < 0.03);
            let difference = |r: f64| {
                let part = if more { r - 1.0 } else { 1.0 - r };
                if narrow {
                    format!("{:.1}", part * 100.0)
                } else {
                    percent(part)
                }
            };
            let bounds = self.interval.map(|i| {
                let (near, far) = if more {
                    (i.low, i.high)
                } else {
                    (i.high, i.low)
                };
                format!(" [{}, {}]", difference(near), difference(far))
            });
            format!("{} %{}", difference(self.ratio), bounds.unwrap_or_default())
        };
        match (self.response, self.factor, multiple) {
            (Response::OpsPerS, Factor::Layer | Factor::Engine, false) => {
                let word = if more { "faster" } else { "slower" };
                format!("{other} is {figure} {word} than {base}")
            }
            (Response::OpsPerS, Factor::Depth, false) => {
                let word = if more { "more" } else { "fewer" };
                format!("{other} does {figure} {word} operations a second than {base}")
            }
            (Response::OpsPerS, _, true) => {
                format!("{other} does {figure} the operations a second of {base}")
            }
            (Response::CpuPerOp, _, false) => {
                let word = if more { "more" } else { "less" };
                format!("{other} uses {figure} {word} CPU time an operation than {base}")
            }
            (Response::CpuPerOp, _, true) => {
                format!("{other} uses {figure} the CPU time an operation of {base}")
            }
            (_, _, false) => {
                let word = if more { "longer" } else { "less long" };
                format!(
                    "an operation takes {figure} {word} with {other} than with {base} ({})",
                    self.response.name()
                )
            }
            (_, _, true) => {
                format!(
                    "an operation takes {figure} as long with {other} as with {base} ({})",
                    self.response.name()
                )
            }
        }
    }
}

fn show_delta(delta: f64) -> String {
    format!("{}", (delta * 1000.0).round() / 10.0)
}

fn cannot_tell(rules_out: Option<f64>, why: Doubt, rounds: usize, paired: bool) -> String {
    let what = if paired { "pairs of rounds" } else { "rounds" };
    let why = match why {
        Doubt::TooFewRounds if rounds < ROUNDS_FOR_INTERVAL => Some(format!(
            "{rounds} {what} give no interval, which takes {ROUNDS_FOR_INTERVAL}; a claim takes {ROUNDS_FOR_CLAIM}"
        )),
        Doubt::TooFewRounds => Some(format!(
            "{rounds} {what}, and a claim takes {ROUNDS_FOR_CLAIM}"
        )),
        Doubt::RanksDisagree => {
            Some("the signed-rank interval disagrees with that of the mean".to_owned())
        }
        Doubt::IntervalTooWide => None,
    };
    let ruled = rules_out.map(|r| format!("rules out only more than {}", more_than(r)));
    let said: Vec<String> = why.into_iter().chain(ruled).collect();
    format!("cannot tell: {}", said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(
        response: Response,
        factor: Factor,
        ratio: f64,
        low: f64,
        high: f64,
    ) -> Compared<'static> {
        Compared {
            base: "psync",
            other: "io_uring",
            factor,
            response,
            ratio,
            interval: Some(Interval { low, high }),
        }
    }

    #[test]
    fn effects_read_as_sentences() {
        let slower = compared(Response::OpsPerS, Factor::Engine, 0.88, 0.85, 0.91);
        assert_eq!(
            slower.words(Verdict::Lower, 8, false),
            "io_uring is 12 % [9.0, 15] slower than psync"
        );
        let many = compared(Response::OpsPerS, Factor::Depth, 5.2, 5.0, 5.41);
        assert_eq!(
            many.words(Verdict::Higher, 8, false),
            "io_uring does 5.20 times [5.00, 5.41] the operations a second of psync"
        );
        let past = |response, ratio, low, high| Compared {
            base: "block io_uring",
            other: "nvme native",
            ..compared(response, Factor::Layer, ratio, low, high)
        };
        assert_eq!(
            past(Response::OpsPerS, 1.43, 1.4012, 1.46).words(Verdict::Higher, 8, false),
            "nvme native does 1.430 times [1.401, 1.460] the operations a second of block io_uring"
        );
        assert_eq!(
            past(Response::OpsPerS, 0.97, 0.95, 0.99).words(Verdict::Lower, 8, false),
            "nvme native does 0.970 times [0.950, 0.990] the operations a second of block io_uring"
        );
        assert_eq!(
            past(Response::CpuPerOp, 3.1, 3.05, 3.15).words(Verdict::Higher, 8, false),
            "nvme native uses 3.10 times [3.05, 3.15] the CPU time an operation of block io_uring"
        );
        assert_eq!(
            past(Response::Mean, 0.7, 0.69, 0.71).words(Verdict::Lower, 8, false),
            "an operation takes 0.700 times [0.690, 0.710] as long with nvme native as with block io_uring (mean latency)"
        );
        let cheaper = compared(Response::CpuPerOp, Factor::Engine, 0.8, 0.79, 0.81);
        assert_eq!(
            cheaper.words(Verdict::Lower, 8, false),
            "io_uring uses 20.0 % [19.0, 21.0] less CPU time an operation than psync"
        );
        let longer = compared(Response::Mean, Factor::Engine, 1.02, 1.015, 1.025);
        assert_eq!(
            longer.words(Verdict::DiffersByLessThan { delta: 0.03 }, 8, false),
            "an operation takes 2.0 % [1.5, 2.5] longer with io_uring than with psync (mean latency): differs, by less \
             than 3 %"
        );
        assert_eq!(
            compared(Response::OpsPerS, Factor::Engine, 1.001, 0.996, 1.006).words(
                Verdict::Equivalent { delta: 0.03 },
                8,
                false
            ),
            "no difference larger than 3 %: io_uring ÷ psync is 1.001 [0.996, 1.006]"
        );
    }

    #[test]
    fn a_shared_unit_stands_once() {
        let of = |median, ci95_low, ci95_high| {
            let estimate = Estimate {
                median,
                ci95_low,
                ci95_high,
            };
            in_unit(estimate, show::per_second)
        };
        assert_eq!(of(421e3, Some(418e3), Some(425e3)), "421 k/s [418, 425]");
        assert_eq!(
            of(999e3, Some(990e3), Some(1.01e6)),
            "999 k/s [990 k/s, 1.01 M/s]"
        );
        assert_eq!(of(421e3, None, None), "421 k/s (no interval)");
    }

    #[test]
    fn what_cannot_be_told_says_why() {
        let any = compared(Response::OpsPerS, Factor::Engine, 1.0, 0.96, 1.04);
        let wide = |rules_out| Verdict::CannotTell {
            rules_out: Some(rules_out),
            why: Doubt::IntervalTooWide,
        };
        assert_eq!(
            any.words(wide(1.041), 8, false),
            "cannot tell: rules out only more than 4.1 %"
        );
        assert_eq!(
            any.words(wide(3.0), 8, false),
            "cannot tell: rules out only more than a factor of 3.00"
        );
        let few = Verdict::CannotTell {
            rules_out: None,
            why: Doubt::TooFewRounds,
        };
        assert_eq!(
            any.words(few, 4, true),
            "cannot tell: 4 pairs of rounds give no interval, which takes 6; a claim takes 8"
        );
    }
}
