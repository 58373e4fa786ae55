//! What is counted is what was done, on disk and in memory, by each engine.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use strata_block::BlockEngine::{self, Libaio, Psync};
use strata_measure::payload;
use strata_record::{Op, TimedBy, WarningCode};
use strata_units::{Bytes, Nanos, NodeId};

use crate::support::{IO_URING, allowed, cell, cpus, disk, filled, measured, run, timed, usable};

const MIB: Bytes = Bytes::MIB;

/// Engine, operation, block, depth, operations.
const READS: [(BlockEngine, Op, Bytes, u64, u64); 13] = [
    (Psync, Op::RandRead, Bytes(512), 1, 500),
    (Psync, Op::Read, Bytes(4096), 1, 500),
    (Psync, Op::RandRead, Bytes(128 << 10), 1, 100),
    (Psync, Op::Read, MIB, 1, 30),
    (Libaio, Op::RandRead, Bytes(512), 128, 2000),
    (Libaio, Op::Read, Bytes(4096), 1, 500),
    (Libaio, Op::RandRead, MIB, 16, 100),
    (IO_URING, Op::RandRead, Bytes(512), 128, 2000),
    (IO_URING, Op::RandRead, Bytes(4096), 1, 500),
    (IO_URING, Op::Read, Bytes(4096), 32, 2000),
    // No power of two, as the ring's size is.
    (IO_URING, Op::RandRead, Bytes(3 * 512), 100, 1000),
    (IO_URING, Op::Read, Bytes(64 << 10), 128, 500),
    (IO_URING, Op::RandRead, MIB, 16, 100),
];

fn reads(folder: &Path, test: &str) {
    let file = filled(folder, MIB * 8, Bytes(512));
    for (engine, op, block, depth, ops) in READS {
        if !usable(engine, test) {
            continue;
        }
        let mut cell = cell(engine, op, block, depth, &file);
        cell.workload.ops = Some(ops);
        let result = measured(&cell, &file, test);
        assert_eq!(result.measured.ops, ops, "{}", cell.label());
        let buffered = result
            .warnings
            .iter()
            .any(|w| w.code == WarningCode::Buffered);
        assert_eq!(buffered, !file.direct, "{}", cell.label());
    }
}

#[test]
fn reads_on_disk_are_checked_and_counted() {
    reads(disk(), "reads_on_disk_are_checked_and_counted");
}

#[test]
fn reads_in_memory_are_checked_and_counted() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        println!("SKIP reads_in_memory_are_checked_and_counted: there is no /dev/shm");
        return;
    }
    reads(shm, "reads_in_memory_are_checked_and_counted");
    let file = filled(shm, MIB, Bytes(512));
    let kind = std::process::Command::new("stat")
        .args(["-f", "-c", "%T", "/dev/shm"])
        .output();
    if kind.is_ok_and(|told| told.stdout == b"tmpfs\n") {
        assert!(!file.direct, "memory takes O_DIRECT, and passes nothing by");
    }
}

#[test]
fn two_threads_count_together() {
    let test = "two_threads_count_together";
    let Some(two) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    let file = filled(disk(), MIB * 4, Bytes(4096));
    for (engine, op, depth) in [
        (Psync, Op::Read, 1),
        (Libaio, Op::RandRead, 8),
        (IO_URING, Op::RandRead, 8),
        (IO_URING, Op::Read, 32),
    ] {
        if !usable(engine, test) {
            continue;
        }
        let mut cell = cell(engine, op, Bytes(4096), depth, &file);
        cell.workload.threads = 2;
        cell.placement.cpus = two.clone().into();
        let result = measured(&cell, &file, test);
        assert_eq!(result.measured.ops, 2000, "a thousand each");
    }
}

#[test]
fn what_the_ramp_did_is_in_no_figure() {
    let test = "what_the_ramp_did_is_in_no_figure";
    let file = filled(disk(), MIB, Bytes(4096));
    for (engine, depth) in [(Psync, 1), (Libaio, 16), (IO_URING, 16)] {
        if !usable(engine, test) {
            continue;
        }
        let mut cell = cell(engine, Op::RandRead, Bytes(4096), depth, &file);
        cell.workload.ramp_ns = Nanos::from_millis(60);
        // Many more than these are done in the ramp.
        cell.workload.ops = Some(5);
        let result = measured(&cell, &file, test);
        assert_eq!(result.measured.ops, 5);
        let few = result
            .warnings
            .iter()
            .any(|w| w.code == WarningCode::FewOperations);
        assert!(few, "{:?}", result.warnings);
    }
}

#[test]
fn a_window_by_time_is_as_long_as_asked() {
    let test = "a_window_by_time_is_as_long_as_asked";
    let file = filled(disk(), MIB, Bytes(4096));
    for (engine, depth) in [(Psync, 1), (Libaio, 32), (IO_URING, 32)] {
        if !usable(engine, test) {
            continue;
        }
        let window = Nanos::from_millis(205);
        let mut cell = timed(
            cell(engine, Op::RandRead, Bytes(4096), depth, &file),
            window,
        );
        cell.workload.ramp_ns = Nanos::from_millis(20);
        let found = measured(&cell, &file, test).measured;
        assert!(
            (found.window_s - window.as_secs_f64()).abs() < 1e-6,
            "{}",
            found.window_s
        );
        assert_eq!(
            (found.series.interval_s, found.series.ops.len()),
            (0.01, 20),
            "the last, shorter one is left out"
        );
    }
}

#[test]
fn by_batch_each_operation_is_still_counted_and_timed() {
    let test = "by_batch_each_operation_is_still_counted_and_timed";
    if !usable(IO_URING, test) {
        return;
    }
    let file = filled(disk(), MIB, Bytes(4096));
    let mut cell = cell(IO_URING, Op::RandRead, Bytes(4096), 32, &file);
    cell.workload.timed_by = TimedBy::Batch;
    let found = measured(&cell, &file, test).measured;
    assert!(
        (1000..1032).contains(&found.ops),
        "{}: the window closes with the batch that reaches the count",
        found.ops
    );
    let error = found.latency_ns.and_then(|l| l.batch_error_ns);
    assert!(error.is_some_and(|ns| ns >= 0.0), "{error:?}");
}

#[test]
fn what_was_written_is_read_back_checked() {
    let test = "what_was_written_is_read_back_checked";
    for (engine, depth) in [(Psync, 1), (Libaio, 32), (IO_URING, 32)] {
        if !usable(engine, test) {
            continue;
        }
        let file = filled(disk(), MIB * 4, Bytes(4096));
        for (op, verify) in [
            (Op::RandWrite, false),
            (Op::RandRw { read_percent: 50 }, true),
            (Op::Write, false),
            (Op::Read, true),
        ] {
            let mut cell = cell(engine, op, Bytes(4096), depth, &file);
            // The sequential ones go once over the whole file.
            cell.workload.ops = Some(1024);
            cell.workload.verify = verify;
            let found = measured(&cell, &file, test).measured;
            assert_eq!(found.ops, 1024, "{}", cell.label());
        }
        let bytes = fs::read(&file.path).expect("readable");
        assert_eq!(bytes.len(), 4 << 20, "not longer, not shorter");
        for (n, sector) in bytes.chunks(512).enumerate() {
            assert!(payload::stamp_of(sector, n as u64).is_ok(), "{engine}");
            let generation = u64::from_le_bytes(sector[16..24].try_into().expect("eight"));
            assert!(generation > 0, "{engine}: sector {n} was written again");
        }
    }
}

#[test]
fn a_block_in_the_wrong_place_is_found_out() {
    let test = "a_block_in_the_wrong_place_is_found_out";
    for (engine, depth) in [(Psync, 1), (Libaio, 32), (IO_URING, 32)] {
        if !usable(engine, test) {
            continue;
        }
        let file = filled(disk(), MIB, Bytes(4096));
        let raw = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&file.path)
            .expect("ours");
        // As a drive would that lost a write: block 77 holds what belongs to block 3.
        let mut block = vec![0; 4096];
        raw.read_exact_at(&mut block, 3 * 4096).expect("read");
        raw.write_all_at(&block, 77 * 4096).expect("written");
        let mut cell = cell(engine, Op::Read, Bytes(4096), depth, &file);
        cell.workload.ops = Some(512);
        let result = run(cell, &file).expect("a result");
        let why = result.failed.expect("a mismatch is no success");
        assert!(
            why.contains("sector 616") && why.contains("wrong data"),
            "{why}"
        );
        // Two laps, and up to a depth of a third.
        assert!(
            (2..=3).contains(&result.measured.errors),
            "{}",
            result.measured.errors
        );
    }
}

#[test]
fn bound_buffers_lie_on_their_node() {
    let test = "bound_buffers_lie_on_their_node";
    let file = filled(disk(), MIB, Bytes(4096));
    for node in allowed().nodes.iter() {
        let mut cell = cell(Psync, Op::RandRead, Bytes(4096), 1, &file);
        cell.placement.mem_node = Some(node);
        let result = measured(&cell, &file, test);
        assert!(
            result.proof.pages.iter().all(|p| p.node == Some(node)),
            "{:?}",
            result.proof.pages
        );
    }
    let mut cell = cell(Psync, Op::RandRead, Bytes(4096), 1, &file);
    cell.placement.mem_node = Some(NodeId(60));
    let absent = run(cell, &file).expect_err("no such node").to_string();
    assert!(absent.contains("60"), "{absent}");
}
