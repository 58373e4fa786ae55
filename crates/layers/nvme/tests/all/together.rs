//! Several threads on one controller, each with a queue pair of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strata_measure::{Job, JobError, Trial};
use strata_nvme::{NvmeJob, Wanted};
use strata_record::Op;
use strata_units::{Bytes, Nanos};

use crate::cells::{
    NEVER, cell, clocked, cpus, job, kept, measured, once, ops, prepare, target, timed, wanted,
};
use crate::emulator::Emulator;

const BLOCK: Bytes = Bytes(4096);

#[test]
fn two_threads_count_together() {
    let test = "two_threads_count_together";
    let Some(two) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    let emulator = Emulator::new("queues = 2");
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    let mut cell = cell(Op::RandRead, BLOCK, 8, &target);
    cell.workload.threads = 2;
    cell.placement.cpus = two.into();
    let result = measured(&cell, &target);
    assert_eq!(result.measured.ops, 2000, "a thousand each");
    drop((target, controller));
    emulator.end();
}

#[test]
fn more_threads_than_queue_pairs_are_refused() {
    let test = "more_threads_than_queue_pairs_are_refused";
    let Some(two) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    let emulator = Emulator::new("queues = 1");
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    let mut cell = cell(Op::RandRead, BLOCK, 8, &target);
    cell.workload.threads = 2;
    cell.placement.cpus = two.into();
    let Err(why) = NvmeJob::new(cell, target.clone(), Nanos::SECOND) else {
        panic!("there is one pair");
    };
    assert!(
        why.contains("2 threads need a queue pair each") && why.contains("has 1"),
        "{why}"
    );
    drop((target, controller));
    emulator.end();
}

#[test]
fn when_the_controller_fails_one_thread_the_other_ends_with_the_reason() {
    let test = "when_the_controller_fails_one_thread_the_other_ends_with_the_reason";
    let Some(two) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    for (fault, words, depth) in [
        ("lost", "did not complete within its deadline", 1),
        ("lost", "did not complete within its deadline", 16),
        ("fatal", "fatal status (CSTS.CFS)", 16),
        ("removed", "is gone", 16),
    ] {
        let toml =
            format!("[[faults.rule]]\nfault = \"{fault}\"\nkind = \"read\"\nnth = 3000\ntimes = 1");
        let emulator = Emulator::new(&toml);
        let controller = emulator.controller();
        let target = target(&controller, BLOCK);
        let mut cell = timed(
            cell(Op::RandRead, BLOCK, depth, &target),
            Nanos::SECOND * 60,
        );
        cell.workload.threads = 2;
        cell.placement.cpus = two.clone().into();
        let (result, took) = clocked(&cell, &target, Nanos::from_millis(200));
        assert!(took < Duration::from_secs(12), "{fault}: {took:?}");
        let result = result.expect("what was measured until then");
        kept(&result, fault);
        // Whichever thread is heard.
        let why = result.failed.expect("a reset");
        assert!(why.contains(words), "{why}");
        let unanswered = result.measured.errors + result.measured.lost;
        assert!((1..=2 * depth).contains(&unanswered), "{why}");
        if fault == "removed" {
            continue;
        }
        assert_eq!(result.measured.lost, 0, "{why}");
        measured(&ops(timeless(cell), 500), &target);
        drop((target, controller));
        emulator.end();
    }
}

#[test]
fn a_trial_whose_controller_somebody_else_resets_ends_in_words() {
    let emulator = Emulator::new("");
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    for depth in [1, 32] {
        let cell = timed(
            cell(Op::RandRead, BLOCK, depth, &target),
            Nanos::SECOND * 60,
        );
        let begin = Instant::now();
        let result = std::thread::scope(|scope| {
            let mut running = job(&cell, &target, Nanos::SECOND);
            let trial = scope.spawn(move || once(&mut running));
            std::thread::sleep(Duration::from_millis(700));
            controller.reset().expect("a reset");
            trial.join().expect("no panic").expect("a result")
        });
        assert!(begin.elapsed() < Duration::from_secs(12));
        kept(&result, "reset by another");
        let why = result.failed.expect("the queue is gone");
        assert!(why.contains("was reset by another thread"), "{why}");
        assert_eq!(result.measured.lost, 0, "{why}");
        measured(&ops(timeless(cell), 500), &target);
    }
    drop((target, controller));
    emulator.end();
}

fn timeless(mut cell: strata_record::Cell) -> strata_record::Cell {
    cell.workload.duration_ns = None;
    cell
}

#[test]
fn an_interruption_ends_a_trial_at_once() {
    // Nothing comes back by itself.
    let emulator = Emulator::new("[performance]\nread.latency = \"1h\"");
    let controller = emulator.controller();
    let wanted = Wanted {
        size: Some(Bytes::MIB),
        ..wanted(1, BLOCK)
    };
    let target = prepare(&controller, &wanted).expect("a target");
    for depth in [1, 128] {
        let cell = timed(
            cell(Op::RandRead, BLOCK, depth, &target),
            Nanos::SECOND * 60,
        );
        let stop = AtomicBool::new(false);
        let mut running = job(&cell, &target, NEVER);
        let (ended, within) = std::thread::scope(|scope| {
            let trial = scope.spawn(|| {
                let trial = Trial {
                    seed: 1,
                    interrupted: &stop,
                };
                running.run(&trial).map(|result| result.measured.ops)
            });
            std::thread::sleep(Duration::from_millis(700));
            let asked = Instant::now();
            stop.store(true, Ordering::Relaxed);
            (trial.join().expect("no panic"), asked.elapsed())
        });
        assert_eq!(ended, Err(JobError::Interrupted));
        assert!(within < Duration::from_secs(5), "{within:?}");
        controller.health().expect("aborts were enough");
    }
    drop((target, controller));
    emulator.end();
}
