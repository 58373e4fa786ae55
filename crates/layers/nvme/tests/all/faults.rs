//! What a trial comes to when the controller fails: an end within its time, in words, with what was measured until then,
//! and a controller that the next trial can use where it lets itself be.

use std::sync::Arc;
use std::time::Duration;

use strata_measure::{JobError, TrialResult};
use strata_nvme::{Controller, NvmeTarget};
use strata_record::Op;
use strata_units::{Bytes, Nanos};

use crate::cells::{cell, clocked, kept, measured, ops, target, timed, verified};
use crate::emulator::Emulator;

const BLOCK: Bytes = Bytes(4096);
const DEADLINE: Nanos = Nanos::from_millis(200);

/// Far more than a deadline and a reset, and far less than a hang.
const SOON: Duration = Duration::from_secs(12);

/// The filling of a target is one command of 128 KiB after the other, and a flush.
const FILLED: u64 = 9;

/// A controller that behaves until the target was filled and some operations done.
fn faulty(fault: &str, more: &str, after: u64) -> (Emulator, Arc<Controller>, NvmeTarget) {
    let nth = FILLED + after;
    let toml = format!("[[faults.rule]]\nfault = \"{fault}\"\nnth = {nth}\ntimes = 1\n{more}");
    let emulator = Emulator::new(&toml);
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    (emulator, controller, target)
}

fn ended(found: (Result<TrialResult, JobError>, Duration), label: &str) -> (TrialResult, String) {
    let (result, took) = found;
    assert!(took < SOON, "{label}: {took:?}");
    let result = result.unwrap_or_else(|e| panic!("{label}: {e}"));
    let why = result.failed.clone().unwrap_or_else(|| panic!("{label}"));
    kept(&result, label);
    assert_eq!(result.measured.lost, 0, "{label}: {why}");
    (result, why)
}

/// Runs each depth and both ways with one fault, then once more on the same controller.
fn each(
    fault: &str,
    more: &str,
    check: impl Fn(&TrialResult, &str, u64),
    again: impl Fn(&NvmeTarget, Op, u64),
) {
    for (op, depth) in [
        (Op::RandRead, 1),
        (Op::RandRead, 32),
        (Op::RandWrite, 1),
        (Op::RandWrite, 32),
    ] {
        let label = format!("{fault} {op} at depth {depth}");
        let (emulator, controller, target) = faulty(fault, more, 300);
        let cell = ops(cell(op, BLOCK, depth, &target), 2000);
        let (result, why) = ended(clocked(&cell, &target, DEADLINE), &label);
        check(&result, &why, depth);
        again(&target, op, depth);
        drop((target, controller));
        emulator.end();
    }
}

fn works(target: &NvmeTarget, op: Op, depth: u64) {
    measured(&cell(op, BLOCK, depth, target), target);
}

#[test]
fn lost_commands_end_in_a_reset_and_all_have_one_answer() {
    each(
        "lost",
        "",
        |result, why, depth| {
            assert!(why.contains("was reset"), "{why}");
            assert!(
                why.contains("did not complete within its deadline")
                    && why.contains("to abort it did not bring it back"),
                "{why}"
            );
            let errors = result.measured.errors;
            assert!((1..=depth).contains(&errors), "{errors}: {why}");
            assert!(
                why.contains(&format!(
                    "{errors} operations failed: {errors} × ended by a reset"
                )),
                "{why}"
            );
        },
        works,
    );
}

#[test]
fn late_commands_are_aborted_and_the_trial_goes_on() {
    each(
        "late",
        "delay = \"1h\"",
        |result, why, _| {
            assert_eq!((result.measured.ops, result.measured.errors), (2000, 1));
            assert!(
                why.starts_with("1 operations failed: 1 × ") && why.contains("deadline"),
                "{why}"
            );
        },
        works,
    );
}

#[test]
fn what_is_late_within_the_deadline_is_only_slow() {
    let (emulator, controller, target) = faulty("late", "delay = \"60ms\"", 300);
    let cell = ops(cell(Op::RandRead, BLOCK, 1, &target), 2000);
    let latency = measured(&cell, &target).measured.latency_ns.expect("timed");
    assert!(latency.max >= 60e6, "{}", latency.max);
    drop((target, controller));
    emulator.end();
}

#[test]
fn duplicates_are_found_out() {
    each(
        "twice",
        "delay = \"0ns\"",
        |_, why, _| {
            assert!(
                why.contains("completed command 0x") && why.contains("which was not outstanding"),
                "{why}"
            );
        },
        works,
    );
}

#[test]
fn completions_of_the_wrong_phase_are_none() {
    each(
        "wrong-phase",
        "",
        |_, why, _| {
            assert!(
                why.contains("was reset") && why.contains("within its deadline"),
                "{why}"
            );
        },
        works,
    );
}

#[test]
fn fatal_status_is_told_and_reset() {
    each(
        "fatal",
        "",
        |_, why, _| {
            assert!(
                why.contains("was reset") && why.contains("fatal status (CSTS.CFS)"),
                "{why}"
            );
        },
        works,
    );
}

#[test]
fn removal_is_told_and_the_next_trial_says_why_it_is_none() {
    for depth in [1, 32] {
        let (emulator, controller, target) = faulty("removed", "", 300);
        let cell = ops(cell(Op::RandRead, BLOCK, depth, &target), 2000);
        let (result, took) = clocked(&cell, &target, DEADLINE);
        assert!(took < SOON, "{took:?}");
        let result = result.expect("what was measured until then");
        kept(&result, "removed");
        let why = result.failed.expect("it is gone");
        assert!(why.contains("is gone") && why.contains("all ones"), "{why}");
        // It could not be stopped, so that nothing is known of what was in flight.
        assert_eq!(result.measured.lost, depth, "{why}");
        let (again, took) = clocked(&cell, &target, DEADLINE);
        assert!(took < SOON, "{took:?}");
        let why = again.expect_err("it is gone").to_string();
        assert!(why.contains("is lost") && why.contains("is gone"), "{why}");
        drop((target, controller));
        emulator.end();
    }
}

#[test]
fn corrupt_data_are_found_by_verified_reads_alone() {
    for depth in [1, 32] {
        let (emulator, controller, target) = faulty("corrupt", "", 300);
        let plain = ops(cell(Op::RandRead, BLOCK, depth, &target), 2000);
        let cell = verified(plain);
        let (result, why) = ended(clocked(&cell, &target, DEADLINE), "corrupt");
        assert_eq!(result.measured.errors, 1, "{why}");
        assert!(
            why.contains("returned wrong data: sector ")
                && why.contains("did not hold what was written there"),
            "{why}"
        );
        // The medium itself was sound.
        measured(&cell, &target);
        drop((target, controller));
        emulator.end();
    }
}

#[test]
fn statuses_on_blocks_are_told_by_name() {
    let toml = "[[faults.rule]]\nfault = \"status\"\nstatus = \"Unrecovered Read Error\"\nkind = \"read\"\nfirst_lba = 800\nlast_lba = 807";
    for depth in [1, 32] {
        let emulator = Emulator::new(toml);
        let controller = emulator.controller();
        let target = target(&controller, BLOCK);
        // Four times over the whole region of 256 blocks.
        let cell = ops(cell(Op::Read, BLOCK, depth, &target), 1023);
        let (result, why) = ended(clocked(&cell, &target, DEADLINE), "a bad block");
        // The count is of good ones; behind it a depth of others was on its way.
        assert!((4..=5).contains(&result.measured.errors), "{why}");
        assert_eq!(result.measured.ops, 1023);
        assert!(why.contains("× Unrecovered Read Error"), "{why}");
        // Writes pass.
        works(&target, Op::Write, depth);
        drop((target, controller));
        emulator.end();
    }
}

#[test]
fn errors_come_at_their_rate() {
    const OPS: u64 = 20_000;
    let toml = "[[faults.rule]]\nfault = \"status\"\nstatus = \"Unrecovered Read Error\"\nkind = \"read\"\nrate = 0.01";
    for depth in [1, 32] {
        let emulator = Emulator::new(toml);
        let controller = emulator.controller();
        let target = target(&controller, BLOCK);
        let cell = ops(cell(Op::RandRead, BLOCK, depth, &target), OPS);
        let (result, why) = ended(clocked(&cell, &target, DEADLINE), "1 %");
        let all = (OPS + result.measured.errors) as f64;
        let (expected, deviation) = (all * 0.01, (all * 0.01 * 0.99).sqrt());
        let found = result.measured.errors as f64;
        assert!((found - expected).abs() < 5.0 * deviation, "{why}");
        assert_eq!(result.measured.ops, OPS);
        drop((target, controller));
        emulator.end();
    }
}

#[test]
fn a_trial_of_failures_is_given_up() {
    let toml = "[[faults.rule]]\nfault = \"status\"\nstatus = \"Internal Error\"\nkind = \"read\"\nafter = \"300ms\"";
    let emulator = Emulator::new(toml);
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    let cell = timed(cell(Op::RandRead, BLOCK, 8, &target), Nanos::SECOND * 60);
    let (result, took) = clocked(&cell, &target, DEADLINE);
    assert!(took < SOON, "{took:?}");
    let why = result.expect("a result").failed.expect("failures");
    assert!(
        why.contains("given up after 1000 failed operations") && why.contains("Internal Error"),
        "{why}"
    );
    drop((target, controller));
    emulator.end();
}
