//! What the emulated controller's performance model says is what the driver measures: the whole way from the model to the
//! record. One test at a time, driver and controller on a CPU each. Others may take these from them: then a trial shows
//! nothing of the model, but what no disturbance excuses still holds.

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "all/cells.rs"]
mod cells;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "all/emulator.rs"]
mod emulator;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strata_measure::TrialResult;
use strata_record::{Measured, Op, WarningCode};
use strata_units::{Bytes, Nanos};

use cells::{NEVER, cell, cpus, run, target, timed};
use emulator::Emulator;

const BLOCK: Bytes = Bytes(4096);

/// The most trials, and how many undisturbed ones say that it is not as it should be.
const TRIALS: usize = 30;
const ENOUGH: usize = 3;

static ONE: Mutex<()> = Mutex::new(());

/// Runs trials, each on a controller of its own, until `good` likes one, or has disliked some that nobody disturbed.
fn best(
    test: &str,
    toml: &str,
    (op, depth, window): (Op, u64, Nanos),
    good: impl Fn(&TrialResult) -> Result<(), String>,
) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(two) = cpus(2) else {
        println!("SKIP {test}: driver and controller poll, and this process may use one CPU only");
        return;
    };
    let mut bad = Vec::new();
    for _ in 0..TRIALS {
        let emulator = Emulator::on(toml, Some(two[1]));
        let controller = emulator.controller();
        let target = target(&controller, BLOCK);
        let cell = timed(cell(op, BLOCK, depth, &target), window);
        let before = emulator.waited().unwrap_or_default();
        let result = run(&cell, &target, NEVER).expect("a result");
        let waited = emulator.waited().unwrap_or_default() - before;
        drop((target, controller));
        emulator.end();
        assert_eq!(result.failed, None);
        if result.measured.ops == 0 {
            continue;
        }
        match good(&result) {
            Ok(()) => return,
            Err(why) if !disturbed(&result, waited) => bad.push(why),
            Err(_) => {}
        }
        assert!(bad.len() < ENOUGH, "undisturbed: {bad:#?}");
    }
    println!(
        "SKIP {test}: others took the CPUs of driver and controller in each of {TRIALS} trials"
    );
}

/// Whether the driver had less than the whole window of its CPU, or the controller waited for its own.
fn disturbed(result: &TrialResult, waited: Duration) -> bool {
    let window_ns = result.measured.window_s * 1e9;
    let had_ns = result.cost.cpu_ns_per_op * result.measured.ops as f64;
    had_ns < window_ns * 0.99 || waited.as_nanos() as f64 > window_ns * 0.01
}

#[test]
fn a_latency_is_read_as_it_is() {
    let toml = "[performance]\nread.latency = \"100us\"";
    let shape = (Op::RandRead, 1, Nanos::from_millis(100));
    best("a_latency_is_read_as_it_is", toml, shape, |result| {
        let latency = result.measured.latency_ns.as_ref().expect("timed");
        assert!(latency.min >= 100_000.0, "earlier than it may: {latency:?}");
        let median = latency.percentiles.p50.ok_or("too few of them")?;
        within(median, 100_000.0, 0.05)
    });
}

#[test]
fn a_rate_is_kept() {
    let toml = "[performance]\nread.iops = 50_000";
    for depth in [4, 32] {
        let shape = (Op::RandRead, depth, Nanos::from_millis(100));
        best("a_rate_is_kept", toml, shape, |result| {
            let rate = result.measured.ops_per_s;
            assert!(rate <= 51_000.0, "more than it may: {rate}");
            within(rate, 50_000.0, 0.02)
        });
    }
}

#[test]
fn a_bandwidth_is_kept() {
    let toml = "[performance]\nwrite.bytes_per_s = \"16MiB\"";
    let shape = (Op::RandWrite, 32, Nanos::from_millis(100));
    best("a_bandwidth_is_kept", toml, shape, |result| {
        let limit = (16 << 20) as f64;
        let rate = result.measured.bytes_per_s.expect("moved");
        assert!(rate <= limit * 1.02, "more than it may: {rate}");
        within(rate, limit, 0.02)
    });
}

/// Of the cache a mebibyte went into the filling of the target; of the rest each operation takes 4 KiB.
const FAST: u64 = 20 << 20;

const SLC: &str = r#"
    [performance]
    write.bytes_per_s = "40MiB"
    [performance.slc]
    bytes = "21MiB"
    bytes_per_s = "10MiB"
    "#;

#[test]
fn the_cache_is_full_at_its_byte() {
    let shape = (Op::RandWrite, 8, Nanos::SECOND);
    best("the_cache_is_full_at_its_byte", SLC, shape, |result| {
        changes(&result.measured)?;
        let found = result.measured.stationarity.expect("enough intervals");
        let warned = |warning: &strata_record::Warning| warning.code == WarningCode::NotStationary;
        assert!(
            !found.stationary && result.warnings.iter().any(warned),
            "{found:?}"
        );
        Ok(())
    });
}

/// The series falls from 100 operations an interval to 25 at the byte that the model says.
fn changes(measured: &Measured) -> Result<(), String> {
    let series = &measured.series;
    assert!((series.interval_s - 0.01).abs() < 1e-9, "{series:?}");
    // Two slow ones in a row, so that one stall is no change.
    let slow = |ops: &[u64]| ops.iter().all(|n| *n < 60);
    let at = series.ops.windows(2).position(slow);
    let at = at.ok_or_else(|| format!("no change: {:?}", series.ops))?;
    let before: u64 = series.ops[..at].iter().sum();
    let expected = FAST / BLOCK.0;
    // An interval, and what was in flight.
    if before.abs_diff(expected) > 100 + 8 {
        return Err(format!("after {before} of {expected}: {:?}", series.ops));
    }
    let levels = [&series.ops[..at], &series.ops[at + 1..]].map(mean);
    within(levels[0], 102.4, 0.05)?;
    within(levels[1], 25.6, 0.05)
}

#[test]
fn without_a_cache_the_rate_stands_still() {
    let toml = "[performance]\nwrite.bytes_per_s = \"40MiB\"";
    let shape = (Op::RandWrite, 8, Nanos::SECOND);
    best(
        "without_a_cache_the_rate_stands_still",
        toml,
        shape,
        |result| {
            let found = result.measured.stationarity.expect("enough intervals");
            let series = &result.measured.series.ops;
            found
                .stationary
                .then_some(())
                .ok_or_else(|| format!("{found:?}: {series:?}"))
        },
    );
}

fn mean(ops: &[u64]) -> f64 {
    ops.iter().sum::<u64>() as f64 / ops.len().max(1) as f64
}

fn within(found: f64, expected: f64, part: f64) -> Result<(), String> {
    if (found / expected - 1.0).abs() <= part {
        return Ok(());
    }
    Err(format!("{found}, and the model says {expected}"))
}
