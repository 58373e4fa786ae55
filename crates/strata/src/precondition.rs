//! `--precondition`: writes a region until it behaves as it will go on to, as SNIA's test specification asks (Solid State
//! Storage Performance Test Specification 2.0: purge left to the user, workload-independent preconditioning, then the
//! workload itself until five rounds of it are steady).

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Result, bail};
use strata_block::{BlockEngine, Prepared};
use strata_measure::{JobError, Trial};
use strata_record::{Measured, Op, Preconditioning};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::block::{Shape, cells, jobs, plain};
use crate::cli::Measuring;
use crate::host::Host;
use crate::interrupt::Stopped;
use crate::progress::about;
use crate::session::Session;

/// How often the region is written over, and in what size (clause 3.3 of the specification).
const PASSES: u64 = 2;
const BLOCK: Bytes = Bytes(128 << 10);

/// A round of the workload, the rounds that must be steady, and the most that are made (clause 7.2).
const ROUND: Nanos = Nanos(60_000_000_000);
const STEADY: usize = 5;
const MOST_ROUNDS: usize = 25;

/// Writes the region of `target`, and tells beforehand how much that is and how long it may take.
pub(crate) fn precondition(
    host: &Host,
    session: &Session,
    target: &Prepared,
    shapes: &[Shape],
    measuring: &Measuring,
) -> Result<Preconditioning> {
    let begun = Instant::now();
    let engine = [BlockEngine::best_ring(), BlockEngine::Libaio]
        .into_iter()
        .find(|engine| engine.available().is_ok())
        .unwrap_or(BlockEngine::Psync);
    let block = BLOCK.min(target.region);
    let sequence = |op, bs| {
        // No more in flight than there are blocks, so that no two writes meet on one.
        let depth = u64::from(engine.most_depth().min(32)).min(target.region.0 / block.0);
        Ok::<_, anyhow::Error>(Shape {
            engine,
            op,
            bs,
            depth: if bs == block {
                QueueDepth::new(depth).map_err(|e| anyhow::anyhow!(e))?
            } else {
                QueueDepth::ONE
            },
            random_map: false,
            verify: false,
        })
    };
    let second = plain(Nanos::SECOND, Nanos(0));
    let seed = session.seed();
    let read = trial(
        host,
        session,
        target,
        sequence(Op::Read, block)?,
        &second,
        seed,
    )?;
    let all = target.region * PASSES;
    let round = measuring.duration.unwrap_or(ROUND);
    // The ledger is for the run's own trials.
    let plainly = |shape: &Shape| Shape {
        verify: false,
        ..*shape
    };
    // Of a plan's shapes some may be of an engine that this machine has not; their trials say so.
    let writer = shapes
        .iter()
        .find(|s| s.op.writes() && s.engine.available_on(target).is_ok())
        .map(plainly);
    session.say(&forecast(target, all, &read, writer.is_some(), round));

    let mut written = Bytes(0);
    // A piece at a time, so that Ctrl-C and progress have their moments.
    let pieces = (target.region.0 / Bytes::GIB.0).clamp(1, 100);
    let piece = Bytes((target.region.0 / pieces).next_multiple_of(block.0));
    // What is left behind the last whole block is written too.
    let whole = target.for_blocks(block).region;
    for pass in 1..=PASSES {
        let mut at = Bytes(0);
        while at.0 < target.region.0 {
            let (size, bs) = if at < whole {
                (piece.min(Bytes(whole.0 - at.0)), block)
            } else {
                let rest = Bytes(target.region.0 - at.0);
                (rest, rest)
            };
            let part = target.part(at, size);
            let mut by_count = second.clone();
            by_count.duration = None;
            by_count.ops = Some(part.region.0 / bs.0);
            let part_done = trial(
                host,
                session,
                &part,
                sequence(Op::Write, bs)?,
                &by_count,
                seed,
            )?;
            written = written + bs * part_done.ops;
            at = at + part.region;
            session.say(&format!(
                "preconditioning: pass {pass} of {PASSES}, {at} of {} written",
                target.region
            ));
        }
    }
    let mut rounds: Vec<f64> = Vec::new();
    let mut steady = writer.is_none();
    let mut each = measuring.clone();
    each.duration = Some(round);
    each.ops = None;
    each.ramp = Nanos(0);
    // What the drive can do, not what it is offered.
    each.rate = None;
    while let Some(shape) = writer
        && !steady
        && rounds.len() < MOST_ROUNDS
    {
        // Other places each round: the same ones again would be steady of a small part.
        let seed = seed.wrapping_add(rounds.len() as u64 + 1);
        let done = trial(host, session, target, shape, &each, seed)?;
        written = written + shape.bs * done.ops;
        rounds.push(done.ops_per_s);
        steady = is_steady(&rounds);
        session.say(&format!(
            "preconditioning: round {} of the workload, {:.0} a second{}",
            rounds.len(),
            done.ops_per_s,
            if steady { ", steady" } else { "" }
        ));
    }
    if !steady {
        session.say(&format!(
            "preconditioning: {MOST_ROUNDS} rounds were not steady; figures on this drive are of a moment, not of a steady state"
        ));
    }
    Ok(Preconditioning {
        via: target.path.display().to_string(),
        bytes: written,
        seconds: begun.elapsed().as_secs_f64(),
        workload: writer.map(|s| format!("{} {} {} qd{}", s.engine, s.op, s.bs, s.depth)),
        rounds_ops_per_s: rounds,
        steady,
    })
}

/// Bytes and hours, before the first is written: a drive seldom writes faster than it reads.
fn forecast(target: &Prepared, all: Bytes, read: &Measured, rounds: bool, round: Nanos) -> String {
    let rate = read.bytes_per_s.unwrap_or(0.0).max(1.0);
    let least = std::time::Duration::from_secs_f64(all.0 as f64 / rate);
    let rounds = if rounds {
        format!(
            ", then {STEADY} to {MOST_ROUNDS} rounds of the workload, {round} each ({} at most)",
            about((round * MOST_ROUNDS as u64).as_duration())
        )
    } else {
        String::new()
    };
    format!(
        "preconditioning {} writes {all} in sequence, about {} if it writes as fast as it reads ({:.0} MiB/s){rounds}",
        target.path.display(),
        about(least),
        rate / f64::from(1 << 20)
    )
}

/// One trial that is kept in no record.
fn trial(
    host: &Host,
    session: &Session,
    target: &Prepared,
    shape: Shape,
    measuring: &Measuring,
    seed: u64,
) -> Result<Measured> {
    let cells = cells(host, target, &[shape], measuring, None)?;
    let mut jobs = jobs(host, &cells, target, session.folder())?;
    let interrupted = session.interrupted();
    let Some(job) = jobs.first_mut() else {
        bail!("a job is missing; this is a bug of strata");
    };
    let done = job.run(&Trial { seed, interrupted });
    if interrupted.load(Ordering::Relaxed) {
        return Err(Stopped.into());
    }
    let why = match done {
        Ok(done) => match done.failed {
            None => return Ok(done.measured),
            Some(why) => why,
        },
        Err(JobError::Interrupted) => return Err(Stopped.into()),
        Err(e) => e.to_string(),
    };
    bail!("preconditioning {}: {why}", target.path.display())
}

/// Whether the last five rounds are steady: their range within 20 % of their mean, the rise of their least-squares line
/// within 10 % of it (Performance Test Specification 2.0, clause 2.1.24).
fn is_steady(rounds: &[f64]) -> bool {
    let Some(last) = rounds.len().checked_sub(STEADY).map(|from| &rounds[from..]) else {
        return false;
    };
    let n = last.len() as f64;
    let mean = last.iter().sum::<f64>() / n;
    let (least, most) = last
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(a, b), y| (a.min(*y), b.max(*y)));
    let middle = (n - 1.0) / 2.0;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in last.iter().enumerate() {
        let dx = x as f64 - middle;
        xy += dx * (y - mean);
        xx += dx * dx;
    }
    let rise = xy / xx * (n - 1.0);
    most - least <= 0.2 * mean && rise.abs() <= 0.1 * mean
}

#[cfg(test)]
mod tests {
    use super::is_steady;

    #[test]
    fn five_rounds_near_their_mean_and_without_a_slope_are_steady() {
        for (rounds, steady) in [
            (&[100.0; 4][..], false),
            (&[100.0; 5], true),
            (&[900.0, 100.0, 101.0, 99.0, 100.0, 102.0], true),
            (&[100.0, 100.0, 125.0, 100.0, 100.0], false),
            // A range of 16 %, all of it a slope.
            (&[92.0, 96.0, 100.0, 104.0, 108.0], false),
            (&[98.0, 99.0, 100.0, 101.0, 102.0], true),
            (&[0.0; 5], true),
        ] {
            assert_eq!(is_steady(rounds), steady, "{rounds:?}");
        }
    }
}
