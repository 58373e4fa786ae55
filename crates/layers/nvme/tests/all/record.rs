//! What a record of this layer says beside its figure.

use strata_nvme::{NvmeJob, Stands};
use strata_record::{Arrivals, Op, Rate, TimedBy};
use strata_units::Bytes;

use crate::cells::{NEVER, cell, job, measured, once, prepare, target, verified, wanted};
use crate::emulator::Emulator;

const BLOCK: Bytes = Bytes(4096);

#[test]
fn the_null_controller_has_commands_a_second_and_no_bytes() {
    let emulator = Emulator::new("moves_data = false");
    let controller = emulator.controller();
    assert_eq!(controller.stands().expect("told"), Stands::Null);
    let target = target(&controller, BLOCK);
    assert!(!target.moves);
    for (op, depth) in [(Op::RandRead, 1), (Op::RandWrite, 32)] {
        let result = measured(&cell(op, BLOCK, depth, &target), &target);
        assert_eq!(result.measured.bytes_per_s, None);
    }
    let why = NvmeJob::new(
        verified(cell(Op::RandRead, BLOCK, 1, &target)),
        target.clone(),
        NEVER,
    );
    let why = why.map(drop).expect_err("nothing to verify");
    assert!(
        why.contains("moves no data") && why.contains("--no-data"),
        "{why}"
    );
    drop((target, controller));
    emulator.end();
}

#[test]
fn polls_are_counted() {
    // At depth 1 a completion takes many polls; a poll finds one of them at most.
    let emulator = Emulator::new("[performance]\nlatency = \"50us\"");
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    for depth in [1, 16] {
        let cell = cell(Op::RandRead, BLOCK, depth, &target);
        let measured = measured(&cell, &target).measured;
        let polling = measured.polling.expect("a poller");
        let found = polling.polls - polling.empty;
        let a_poll = polling.completions_per_poll.expect("found some");
        assert!(polling.empty > 0 && found > 0, "{polling:?}");
        assert!(a_poll >= 1.0 && a_poll <= depth as f64, "{polling:?}");
        assert!(
            (a_poll * found as f64 - measured.ops as f64).abs() < 1e-3,
            "{polling:?}"
        );
    }
    drop((target, controller));
    emulator.end();
}

#[test]
fn the_next_trial_is_the_same_cell_again() {
    let emulator = Emulator::new("queues = 2");
    let controller = emulator.controller();
    let wanted = strata_nvme::Wanted {
        size: Some(Bytes::MIB),
        ..wanted(1, BLOCK)
    };
    let target = prepare(&controller, &wanted).expect("a target");
    let cell = cell(Op::RandRead, BLOCK, 32, &target);
    let mut again = job(&cell, &target, NEVER);
    // More trials than there are queue pairs: each gives its own back.
    for _ in 0..5 {
        let result = once(&mut again).expect("a result");
        assert_eq!((result.failed, result.measured.ops), (None, 1000));
    }
    drop((again, target, controller));
    emulator.end();
}

#[test]
fn batches_and_schedules_are_kept_as_by_any_engine() {
    let emulator = Emulator::new("");
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    let plain = cell(Op::RandRead, BLOCK, 32, &target);
    let mut batched = plain.clone();
    batched.workload.timed_by = TimedBy::Batch;
    let result = once(&mut job(&batched, &target, NEVER)).expect("a result");
    assert_eq!(result.failed, None);
    // The window closes with the batch that reaches the count.
    assert!(
        (1000..1032).contains(&result.measured.ops),
        "{}",
        result.measured.ops
    );
    let latency = result.measured.latency_ns.expect("timed");
    assert_eq!(latency.count, result.measured.ops);
    assert!(latency.batch_error_ns.is_some());

    let mut offered = plain;
    offered.workload.rate = Some(Rate {
        ops_per_s: 5_000,
        arrivals: Arrivals::Fixed,
    });
    let open = measured(&offered, &target).measured.open.expect("a rate");
    assert_eq!(open.offered_ops_per_s, 5_000.0);
    drop((target, controller));
    emulator.end();
}
