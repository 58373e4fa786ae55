//! The models in simulated time.

mod errors;
mod faults;
mod latency;
mod limits;
mod slc;
mod thermal;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use strata_nvme_spec::{Lba, NamespaceId};
use strata_units::{Bytes, Nanos};

use super::{Access, AccessKind, Pace, Performance};

const SECOND: u64 = 1_000_000_000;

/// The pace that the lines under `[performance]` say.
fn pace(toml: &str) -> Pace {
    let performance: Performance = toml::from_str(toml).expect(toml);
    Pace::new(&performance, 7).expect(toml)
}

fn access(kind: AccessKind, bytes: u64) -> Access {
    Access {
        kind,
        nsid: NamespaceId(1),
        first: Lba(0),
        blocks: u32::try_from(bytes / 512).unwrap_or(u32::MAX),
        bytes: Bytes(bytes),
    }
}

fn read(bytes: u64) -> Access {
    access(AccessKind::Read, bytes)
}

fn write(bytes: u64) -> Access {
    access(AccessKind::Write, bytes)
}

/// Keeps `depth` commands in flight for a second, a completion being followed by the next command after `turnaround`; calls
/// `done` with each command that completed within it.
fn closed_loop(
    pace: &mut Pace,
    depth: u32,
    turnaround: Nanos,
    mut next: impl FnMut() -> Access,
    mut done: impl FnMut(Access),
) {
    let mut flying = BinaryHeap::new();
    let mut commands = Vec::new();
    for slot in 0..depth as usize {
        commands.push(next());
        flying.push(Reverse((pace.due(Nanos(0), &commands[slot]), slot)));
    }
    while let Some(Reverse((at, slot))) = flying.pop() {
        if at > Nanos::SECOND {
            break;
        }
        done(commands[slot]);
        commands[slot] = next();
        let begin = at + turnaround;
        flying.push(Reverse((pace.due(begin, &commands[slot]), slot)));
    }
}

/// Completions of 4 KiB reads in a second.
fn reads_a_second(toml: &str, depth: u32, turnaround: Nanos) -> f64 {
    let mut count = 0_u32;
    let mut pace = pace(toml);
    closed_loop(&mut pace, depth, turnaround, || read(4096), |_| count += 1);
    f64::from(count)
}

/// So many latencies of commands that do not meet, sorted, in nanoseconds.
fn latencies(toml: &str, count: u64) -> Vec<u64> {
    let mut pace = pace(toml);
    let mut found: Vec<u64> = (0..count)
        .map(|n| {
            let now = Nanos(n * 1000);
            (pace.due(now, &read(4096)) - now).0
        })
        .collect();
    found.sort_unstable();
    found
}

/// Whether `hits` of `count` fit a probability within five standard errors.
fn binomial(hits: u64, count: u64, probability: f64) -> bool {
    let n = count as f64;
    let error = (probability * (1.0 - probability) * n).sqrt();
    (hits as f64 - probability * n).abs() <= 5.0 * error
}
