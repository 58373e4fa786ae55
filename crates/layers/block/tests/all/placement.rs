//! A placement that is falsified in mid-trial by somebody else is found out.

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use strata_block::BlockEngine::{self, Libaio, Psync};
use strata_measure::TrialResult;
use strata_record::Op;
use strata_units::{Bytes, CpuId, Nanos};

use crate::support::{IO_URING, cell, cpus, disk, filled, run, timed, usable};

fn set(cpus: &[CpuId]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu.0 as usize).expect("a CPU of this process");
    }
    set
}

/// A trial on the first CPU, during which `disturb` is done to the measuring thread, as taskset(1) in another terminal
/// would.
fn disturbed(engine: BlockEngine, first: CpuId, name: &str, disturb: impl Fn(Pid)) -> TrialResult {
    let file = filled(disk(), Bytes::MIB, Bytes(4096));
    let mut cell = timed(
        cell(engine, Op::RandRead, Bytes(4096), 1, &file),
        Nanos::SECOND,
    );
    cell.placement.cpus = vec![first].into();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        // Threads begin with the name of the one that made them, so this tells the measuring thread from those of other
        // tests.
        let running = thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, || {
                tell.send(gettid()).expect("somebody listens");
                run(cell.clone(), &file)
            })
            .expect("a thread");
        let parent = told.recv().expect("a thread's number");
        let measuring = pinned_child(parent, name, first);
        // Past the harness's cost and into the window, as far as a busy machine allows.
        thread::sleep(Duration::from_millis(300));
        disturb(measuring);
        running.join().expect("no panic").expect("a result")
    })
}

/// The other thread of that name, once it has pinned itself.
fn pinned_child(parent: Pid, name: &str, cpu: CpuId) -> Pid {
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 20 {
        for entry in fs::read_dir("/proc/self/task").expect("procfs").flatten() {
            let of = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let number = entry.file_name().to_string_lossy().parse().ok();
            let Some(tid) = number.map(Pid::from_raw).filter(|tid| *tid != parent) else {
                continue;
            };
            let pinned = of("status").lines().any(|line| {
                line.strip_prefix("Cpus_allowed_list:")
                    .is_some_and(|list| list.trim() == cpu.to_string())
            });
            if of("comm").trim() == name && pinned {
                return tid;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("no thread {name} was pinned to CPU {cpu}");
}

#[test]
fn a_thread_moved_by_another_is_found_out() {
    let test = "a_thread_moved_by_another_is_found_out";
    let Some(cpus) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    for engine in [Psync, Libaio, IO_URING] {
        if !usable(engine, test) {
            continue;
        }
        let result = disturbed(engine, cpus[0], "moved-away", |thread| {
            sched_setaffinity(thread, &set(&cpus[1..])).expect("moved");
        });
        let found = result.proof.contradictions.join("; ");
        let other = cpus[1];
        assert!(
            found.contains(&format!("was seen on CPU {other}")),
            "{engine}: {found}"
        );
        assert!(
            found.contains(&format!("may run on CPU {other}")),
            "{engine}: {found}"
        );
        assert_eq!(result.failed, None, "the figure itself is none the wiser");
        assert!(result.measured.ops > 0);
    }
}

#[test]
fn a_thread_that_was_away_for_a_while_is_found_out() {
    let test = "a_thread_that_was_away_for_a_while_is_found_out";
    let Some(cpus) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    let result = disturbed(Psync, cpus[0], "moved-and-back", |thread| {
        sched_setaffinity(thread, &set(&cpus[1..])).expect("moved");
        std::thread::sleep(Duration::from_millis(200));
        sched_setaffinity(thread, &set(&cpus[..1])).expect("put back");
    });
    let found = result.proof.contradictions.join("; ");
    assert!(
        found.contains(&format!("was seen on CPU {}", cpus[1])),
        "{found}"
    );
    let [thread] = &result.proof.threads[..] else {
        panic!("one thread measured");
    };
    assert_eq!(thread.mask, thread.asked, "at its end all looks well");
}

#[test]
fn a_wider_mask_is_found_out_even_if_nothing_moved() {
    let test = "a_wider_mask_is_found_out_even_if_nothing_moved";
    let Some(cpus) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    let result = disturbed(Psync, cpus[0], "mask-widened", |thread| {
        sched_setaffinity(thread, &set(&cpus)).expect("widened");
    });
    let found = result.proof.contradictions.join("; ");
    assert!(found.contains("may run on CPU"), "{found}");
}
