//! What ends a trial before its time, and what is kept of it.

use std::env;
use std::fs::{self, OpenOptions};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use strata_block::BlockEngine::{Libaio, Psync};
use strata_block::BlockJob;
use strata_measure::{Job, JobError, Trial};
use strata_record::{Cell, Op};
use strata_units::{Bytes, CpuId, Nanos, QueueDepth};

use crate::support::{GO, IO_URING, cell, cpus, disk, filled, run, timed, usable};

const BLOCK: Bytes = Bytes(4096);

#[test]
fn a_file_cut_in_mid_trial_fails_and_what_was_measured_is_kept() {
    let test = "a_file_cut_in_mid_trial_fails_and_what_was_measured_is_kept";
    for (engine, depth) in [(Psync, 1), (Libaio, 32), (IO_URING, 32)] {
        if !usable(engine, test) {
            continue;
        }
        let file = filled(disk(), Bytes::MIB * 4, BLOCK);
        let mut cell = timed(
            cell(engine, Op::RandRead, BLOCK, depth, &file),
            Nanos::SECOND * 60,
        );
        cell.workload.verify = false;
        let begun = Instant::now();
        let result = thread::scope(|scope| {
            let running = scope.spawn(|| run(cell.clone(), &file));
            thread::sleep(Duration::from_millis(400));
            OpenOptions::new()
                .write(true)
                .open(&file.path)
                .and_then(|f| f.set_len(file.region.0 / 2))
                .expect("cut");
            running.join().expect("no panic")
        })
        .expect("a result");
        let why = result.failed.expect("half of the file is gone");
        assert!(
            why.contains("became shorter") && why.contains("given up after 1000"),
            "{engine}: {why}"
        );
        let found = &result.measured;
        assert!(
            found.ops > 0 && found.errors >= 1000,
            "{engine}: {} done, {} failed",
            found.ops,
            found.errors
        );
        let timed = found.latency_ns.as_ref().expect("the good ones are timed");
        assert_eq!(timed.count, found.ops, "{engine}: and only those");
        assert!(begun.elapsed().as_secs() < 50, "not after the whole window");
    }
}

#[test]
fn a_file_taken_away_before_the_trial_is_named() {
    let file = filled(disk(), Bytes::MIB, BLOCK);
    let cell = cell(Psync, Op::RandRead, BLOCK, 1, &file);
    fs::remove_file(&file.path).expect("removed");
    let Err(JobError::Failed(why)) = run(cell, &file) else {
        panic!("there is nothing to read");
    };
    assert!(
        why.contains(&*file.path.to_string_lossy()) && why.contains("leave it in its place"),
        "{why}"
    );
}

#[test]
fn an_interruption_ends_a_trial_at_once() {
    let test = "an_interruption_ends_a_trial_at_once";
    let file = filled(disk(), Bytes::MIB, BLOCK);
    for (engine, depth) in [(Psync, 1), (Libaio, 4096), (IO_URING, 4096)] {
        if !usable(engine, test) {
            continue;
        }
        let cell = timed(
            cell(engine, Op::RandRead, BLOCK, depth, &file),
            Nanos::SECOND * 60,
        );
        let stop = AtomicBool::new(false);
        let mut job = BlockJob::new(cell, file.prepared.clone()).expect("a job");
        let (ended, within) = thread::scope(|scope| {
            let running =
                scope.spawn(|| job_run(&mut job, &stop).map(|result| result.measured.ops));
            thread::sleep(Duration::from_millis(300));
            let asked = Instant::now();
            stop.store(true, Ordering::Relaxed);
            (running.join().expect("no panic"), asked.elapsed())
        });
        assert_eq!(ended, Err(JobError::Interrupted), "{engine}");
        assert!(within.as_secs() < 5, "{engine}: {within:?}");
    }
}

fn job_run(
    job: &mut BlockJob,
    interrupted: &AtomicBool,
) -> Result<strata_measure::TrialResult, JobError> {
    job.run(&Trial {
        seed: 1,
        interrupted,
    })
}

/// A kernel without io_uring cannot be had here, but one that refuses a ring can: a process that may open no more
/// descriptors gets none. The limit is a process's, so this test runs itself as a child.
#[test]
fn a_ring_that_the_kernel_refuses_is_skipped() {
    const CHILD: &str = "STRATA_TEST_NO_DESCRIPTORS";
    let test = "faults::a_ring_that_the_kernel_refuses_is_skipped";
    if !usable(IO_URING, test) {
        return;
    }
    if env::var_os(CHILD).is_none() {
        let child = Command::new(env::current_exe().expect("this test"))
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("a child");
        let out = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && out.contains("skipped as it ought to be"),
            "{out}{}",
            String::from_utf8_lossy(&child.stderr)
        );
        return;
    }
    let file = filled(disk(), Bytes::MIB, BLOCK);
    let cell = cell(IO_URING, Op::RandRead, BLOCK, 4, &file);
    let mut job = BlockJob::new(cell.clone(), file.prepared.clone()).expect("a job");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("lowered");
    let refused = job_run(&mut job, &GO);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("put back");
    let Err(JobError::Skipped(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("io_uring") && why.contains("--engine libaio"),
        "{why}"
    );
    let again = job_run(&mut job, &GO).expect("the same job, with descriptors");
    assert_eq!((again.measured.ops, again.failed), (1000, None));
    println!("skipped as it ought to be");
}

#[test]
fn a_cell_that_cannot_be_says_what_to_give() {
    let file = filled(disk(), Bytes::MIB, BLOCK);
    let good = || cell(Psync, Op::RandRead, BLOCK, 1, &file);
    type Change = fn(&mut Cell);
    let cases: [(Change, &str); 10] = [
        (
            |c| c.engine = "libfast".to_owned(),
            "psync, libaio, io_uring or io_uring_cmd",
        ),
        (|c| c.workload.op = Op::ReqRep, "expected randread"),
        (
            |c| c.workload.depth = QueueDepth::new(2).expect("two"),
            "--depth 1",
        ),
        (|c| c.workload.block_bytes = Bytes(1000), "--bs"),
        (|c| c.workload.block_bytes = Bytes::MIB * 2, "--bs"),
        (|c| c.workload.threads = 2, "--cpus"),
        (
            |c| {
                c.workload.op = Op::RandWrite;
                c.workload.verify = true;
                c.workload.block_bytes = Bytes::MIB;
                c.workload.threads = 2;
                c.placement.cpus = vec![CpuId(0), CpuId(1)].into();
            },
            "fewer --threads",
        ),
        (|c| c.workload.ops = Some(0), "--ops"),
        (|c| c.workload.duration_ns = Some(Nanos::SECOND), "--ops"),
        (|c| c.workload.ops = None, "--duration"),
    ];
    for (change, expected) in cases {
        let mut cell = good();
        change(&mut cell);
        let why = BlockJob::new(cell, file.prepared.clone())
            .map(drop)
            .expect_err(expected);
        assert!(why.contains(expected) && !why.contains('\n'), "{why}");
    }
    let mut foreign = file.prepared.clone();
    foreign.state = strata_block::WrittenState::Written;
    let why = BlockJob::new(good(), foreign)
        .map(drop)
        .expect_err("nothing to check by");
    assert!(why.contains("--verify"), "{why}");
}

#[test]
fn a_cpu_that_is_not_there_fails_for_all_threads() {
    let file = filled(disk(), Bytes::MIB, BLOCK);
    let mut cell = timed(
        cell(Psync, Op::RandRead, BLOCK, 1, &file),
        Nanos::SECOND * 60,
    );
    cell.workload.threads = 2;
    let first = cpus(1).expect("a CPU to run on")[0];
    cell.placement.cpus = vec![first, CpuId(60_000)].into();
    let Err(JobError::Failed(why)) = run(cell, &file) else {
        panic!("there is no such CPU");
    };
    assert!(why.contains("60000"), "{why}");
}
