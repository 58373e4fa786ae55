//! Small texts that several sections share.

use strata_analysis::{SplitPlot, in_unit, percent};
use strata_record::{
    CeilingKind, ClockSource, Completes, Estimate, Preconditioning, Role, StreamCandidate,
    StreamSweep,
};
use strata_units::show;

/// What stands where there is no figure.
pub(crate) const NONE: &str = "–";

/// A median with its interval, or the sign for none.
pub(crate) fn estimate(estimate: Option<Estimate>, unit: fn(f64) -> String) -> String {
    estimate.map_or_else(|| NONE.to_owned(), |e| in_unit(e, unit))
}

/// A figure, or the sign for none.
pub(crate) fn figure(value: Option<f64>, unit: fn(f64) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), unit)
}

/// Anything that prints, or the sign for none.
pub(crate) fn or_none(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| v.to_string())
}

/// A part of one as percent with its sign.
pub(crate) fn share(part: f64) -> String {
    format!("{} %", percent(part))
}

/// Until when a latency is taken.
pub(crate) fn completes(completes: Completes) -> &'static str {
    match completes {
        Completes::Device => "device done",
        Completes::AcceptedLocally => "accepted locally",
        Completes::RemoteAcked => "acknowledged by the peer",
        Completes::RoundTrip => "reply back",
        Completes::HalfRoundTrip => "half a round trip",
        Completes::Received => "received at the far end",
    }
}

pub(crate) fn ceiling_kind(kind: CeilingKind) -> &'static str {
    match kind {
        CeilingKind::Nominal => "nominal: physics of a link or port",
        CeilingKind::Estimate => "estimated: that less packet headers",
        CeilingKind::Measured => "measured",
    }
}

pub(crate) fn clock(source: ClockSource) -> &'static str {
    match source {
        ClockSource::Tsc => "time-stamp counter",
        ClockSource::MonotonicRaw => "CLOCK_MONOTONIC_RAW",
    }
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Measure => "measuring",
        Role::Peer => "other side",
    }
}

/// A list of identifiers, or the sign for none.
pub(crate) fn list(list: &strata_units::CpuList) -> String {
    if list.is_empty() {
        NONE.to_owned()
    } else {
        list.to_string()
    }
}

/// What was written to a drive before the first trial, and what its rounds were.
pub(crate) fn preconditioning(done: &Preconditioning) -> String {
    let written = format!(
        "{}: {} written in {}",
        done.via,
        show::amount(done.bytes.0 as f64),
        show::time(done.seconds * 1e9)
    );
    let Some(workload) = &done.workload else {
        return format!("{written}, in sequence alone");
    };
    let rounds: Vec<String> = done
        .rounds_ops_per_s
        .iter()
        .map(|rate| show::per_second(*rate))
        .collect();
    format!(
        "{written}; rounds of {workload}: {}; {}",
        rounds.join(", "),
        if done.steady {
            "the last five were steady"
        } else {
            "never five that were steady"
        }
    )
}

/// The numbers of streams that were tried, each with what its trials brought, and the one chosen.
pub(crate) fn sweep(sweep: &StreamSweep) -> String {
    let spread = |c: &StreamCandidate| format!("{} × {}", c.threads, c.streams);
    let tried: Vec<String> = sweep
        .candidates
        .iter()
        .map(|c| {
            let brought: Vec<String> = c.bytes_per_s.iter().map(|b| show::bandwidth(*b)).collect();
            format!("{} brought {}", spread(c), brought.join(" and "))
        })
        .collect();
    let chosen = sweep.candidates.get(sweep.chosen).map(spread);
    format!(
        "{}, threads × connections of each: {}; chosen {}{}",
        sweep.of,
        tried.join("; "),
        or_none(chosen),
        if sweep.sure {
            ""
        } else {
            ", though more may bring more"
        }
    )
}

/// How the cells of drivers stood in the rounds, and what changing these took.
pub(crate) fn split_plot(split: &SplitPlot) -> String {
    let cells = |n: usize| format!("{n} cell{}", if n == 1 { "" } else { "s" });
    let levels: Vec<String> = split
        .levels
        .iter()
        .map(|level| format!("{} ({})", level.binding, cells(level.cells)))
        .collect();
    let mut said = format!(
        "split plot: {}. In each round each of these was bound once, for all of its cells, also where the round before ended \
         with it; their order was drawn each round, and that of the cells within each",
        levels.join(", ")
    );
    if split.free > 0 {
        said.push_str(&format!(
            ". {} without a driver of its own stood among them, each at a place drawn each round",
            cells(split.free)
        ));
    }
    if let Some(took) = split.change_s {
        said.push_str(&format!(
            ". {} changes took {} to {} each, with opening the drive and looking at it",
            split.changes,
            show::time(took.least * 1e9),
            show::time(took.most * 1e9)
        ));
    }
    said
}

/// A command line that a shell takes back.
pub(crate) fn command(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let words = ["strata", "block", "--target", "/tmp/a b'c", ""].map(str::to_owned);
        assert_eq!(command(&words), r"strata block --target '/tmp/a b'\''c' ''");
    }
}
