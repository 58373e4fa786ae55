//! Rings of every mode: right data, or a reason that names what is wanting and what to give.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, setuid};
use strata_block::{BlockEngine, BlockJob};
use strata_measure::JobError;
use strata_record::{Arrivals, Op, Rate};
use strata_units::{Bytes, CpuList, Nanos};

use crate::support::{Filled, IO_URING, cell, cpus, disk, filled, measured, run, timed, usable};

const BLOCK: Bytes = Bytes(4096);

/// Whether the engine can be used on the file; says so by the test's name when it cannot.
fn usable_on(engine: BlockEngine, file: &Filled, test: &str) -> bool {
    match engine.available_on(file) {
        Ok(()) => true,
        Err(why) => {
            println!("SKIP {test}: {engine}: {why}");
            false
        }
    }
}

/// Whether there is a CPU for the kernel's polling thread beside the one that measures.
fn has_room(engine: BlockEngine, test: &str) -> bool {
    let room = !engine.sq_polled() || cpus(2).is_some();
    if !room {
        println!("SKIP {test}: {engine}: this process may use one CPU only");
    }
    room
}

fn every_mode(folder: &Path, test: &str) {
    let file = filled(folder, Bytes::MIB * 8, Bytes(512));
    for engine in BlockEngine::all().filter(|e| e.ring_mode().is_some()) {
        if !has_room(engine, test) || !usable_on(engine, &file, test) {
            continue;
        }
        for (op, block, depth, ops) in [
            (Op::RandRead, Bytes(512), 100, 1000),
            (Op::Read, BLOCK, 1, 300),
            (Op::RandRead, Bytes::MIB, 8, 60),
        ] {
            let mut cell = cell(engine, op, block, depth, &file);
            cell.workload.ops = Some(ops);
            let found = measured(&cell, &file, test).measured;
            assert_eq!(found.ops, ops, "{}", cell.label());
        }
        let mut write = cell(engine, Op::RandRw { read_percent: 50 }, BLOCK, 32, &file);
        write.workload.verify = true;
        measured(&write, &file, test);
    }
}

#[test]
fn every_mode_reads_on_disk_what_was_written() {
    every_mode(disk(), "every_mode_reads_on_disk_what_was_written");
}

#[test]
fn every_mode_reads_in_memory_what_was_written() {
    let (test, shm) = (
        "every_mode_reads_in_memory_what_was_written",
        Path::new("/dev/shm"),
    );
    if shm.is_dir() {
        every_mode(shm, test);
    } else {
        println!("SKIP {test}: there is no /dev/shm");
    }
}

#[test]
fn the_greatest_depth_and_the_largest_block_are_measured() {
    let test = "the_greatest_depth_and_the_largest_block_are_measured";
    let file = filled(disk(), Bytes::MIB * 64, BLOCK);
    for name in [
        "libaio",
        "io_uring",
        "io_uring+registered",
        "io_uring+taskrun",
    ] {
        let engine: BlockEngine = name.parse().expect("an engine");
        if !usable(engine, test) {
            continue;
        }
        for (block, depth, ops) in [(BLOCK, 4096, 6000), (Bytes::MIB * 16, 2, 8)] {
            let mut cell = cell(engine, Op::RandRead, block, depth, &file);
            cell.workload.ops = Some(ops);
            match run(cell.clone(), &file) {
                Ok(found) => assert_eq!(
                    (found.failed.as_deref(), found.measured.ops),
                    (None, ops),
                    "{}",
                    cell.label()
                ),
                // Not everybody may pin so much.
                Err(JobError::Failed(why)) if why.contains("RLIMIT_MEMLOCK") => {
                    println!("SKIP {test}: {name}: {why}");
                }
                Err(other) => panic!("{}: {other}", cell.label()),
            }
        }
    }
}

/// An open loop polls: an engine that slept there would start its operations late by as much.
#[test]
fn an_open_loop_is_not_slept_through() {
    let test = "an_open_loop_is_not_slept_through";
    let file = filled(disk(), Bytes::MIB * 4, BLOCK);
    for name in [
        "libaio",
        "io_uring",
        "io_uring+registered",
        "io_uring+taskrun",
        "io_uring+sqpoll",
    ] {
        let engine: BlockEngine = name.parse().expect("an engine");
        if !usable(engine, test) || !has_room(engine, test) {
            continue;
        }
        let mut cell = timed(cell(engine, Op::RandRead, BLOCK, 64, &file), Nanos::SECOND);
        cell.workload.verify = false;
        cell.workload.rate = Some(Rate {
            ops_per_s: 2000,
            arrivals: Arrivals::Fixed,
        });
        let found = run(cell, &file).expect("a result");
        assert_eq!(found.failed, None, "{name}");
        // Ten a second would be done by an engine that sleeps for the 100 ms that a closed loop allows.
        assert!(found.measured.ops > 100, "{name}: {}", found.measured.ops);
    }
}

/// A polling thread's CPU is either given or another than the measuring one; one too few is refused before the run.
#[test]
fn a_polling_thread_has_a_cpu_of_its_own() {
    let test = "a_polling_thread_has_a_cpu_of_its_own";
    let engine: BlockEngine = "io_uring+sqpoll".parse().expect("an engine");
    let file = filled(disk(), Bytes::MIB, BLOCK);
    let Some(two) = cpus(2) else {
        println!("SKIP {test}: this process may use one CPU only");
        return;
    };
    if !usable(engine, test) {
        return;
    }
    let mut cell = cell(engine, Op::RandRead, BLOCK, 4, &file);
    for (poll, good) in [(vec![two[1]], true), (vec![two[0]], false), (two, false)] {
        cell.placement.poll_cpus = CpuList::from(poll);
        match BlockJob::new(cell.clone(), file.prepared.clone()) {
            Ok(_) if good => {
                let result = measured(&cell, &file, test);
                let ours: u64 = (result.proof.threads.iter())
                    .map(|t| t.user_ns.0 + t.system_ns.0)
                    .sum();
                let all = result.cost.cpu_ns_per_op * result.measured.ops as f64;
                assert!(
                    all > ours as f64,
                    "the thread's time is counted: {all} of {ours}"
                );
            }
            Err(why) if !good => {
                assert!(
                    why.contains("+sqpoll") && why.contains("--threads"),
                    "{why}"
                );
            }
            other => panic!("{:?}: {:?}", cell.placement.poll_cpus, other.err()),
        }
    }
}

/// What an engine cannot do on a file is a reason to skip the cell, told before anything is measured.
#[test]
fn what_the_target_cannot_is_skipped_with_the_reason() {
    let test = "what_the_target_cannot_is_skipped_with_the_reason";
    let file = filled(disk(), Bytes::MIB, BLOCK);
    let command: BlockEngine = "io_uring_cmd".parse().expect("an engine");
    if usable(command, test) {
        let Err(JobError::Skipped(why)) = run(cell(command, Op::RandRead, BLOCK, 1, &file), &file)
        else {
            panic!("a file takes no NVMe commands");
        };
        assert!(why.contains("/dev/ng0n1"), "{why}");
    }
    let polled: BlockEngine = "io_uring+iopoll".parse().expect("an engine");
    if usable(polled, test) {
        let mut buffered = file.prepared.clone();
        buffered.direct = false;
        let why = polled.available_on(&buffered).expect_err("no O_DIRECT");
        assert!(why.contains("O_DIRECT") && why.contains("+iopoll"), "{why}");
        match run(cell(polled, Op::RandRead, BLOCK, 1, &file), &file) {
            Err(JobError::Skipped(why)) => assert!(why.contains("nvme.poll_queues"), "{why}"),
            Ok(result) => assert_eq!(result.failed, None, "a drive with queues to poll"),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The limit is a process's, so this test runs itself as a child, which is an ordinary user: root may lock what it likes.
#[test]
fn too_little_locked_memory_is_told_with_the_next_step() {
    const CHILD: &str = "STRATA_TEST_NO_LOCKED_MEMORY";
    let test = "rings::too_little_locked_memory_is_told_with_the_next_step";
    let engine: BlockEngine = "io_uring+registered".parse().expect("an engine");
    if !usable(engine, test) {
        return;
    }
    if env::var_os(CHILD).is_none() {
        return as_child(test, CHILD);
    }
    let file = filled(disk(), Bytes::MIB * 8, BLOCK);
    let folder = file.path.parent().expect("a folder");
    fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("ours");
    // The limit does not bind root.
    let gone = !Uid::effective().is_root() || setuid(Uid::from_raw(65534)).is_ok();
    if !gone || fs::File::open(&file.path).is_err() {
        println!(
            "SKIP {test}: as an ordinary user it cannot read {}",
            file.path.display()
        );
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("a limit");
    setrlimit(Resource::RLIMIT_MEMLOCK, 65536, hard).expect("lowered");
    let refused = run(cell(engine, Op::RandRead, Bytes::MIB, 4, &file), &file);
    let Err(JobError::Failed(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("RLIMIT_MEMLOCK is 64KiB") && why.contains("ulimit -l"),
        "{why}"
    );
    println!("told as it ought to be");
}

/// Runs this test again as a child with `mark` in its environment, which says at its end that it went well.
fn as_child(test: &str, mark: &str) {
    let child = Command::new(env::current_exe().expect("this test"))
        .args([test, "--exact", "--nocapture"])
        .env(mark, "1")
        .output()
        .expect("a child");
    let out = String::from_utf8_lossy(&child.stdout);
    let skipped = out.lines().find(|line| line.starts_with("SKIP "));
    if let Some(line) = skipped {
        println!("{line}");
    }
    assert!(
        child.status.success() && (skipped.is_some() || out.contains("told as it ought to be")),
        "{out}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

/// A filter as containers have it, which refuses io_uring_setup(2): seccomp(2), for this process and for good, so in a child.
#[test]
fn a_seccomp_filter_is_named_and_nothing_else_is_measured() {
    const CHILD: &str = "STRATA_TEST_SECCOMP";
    let test = "rings::a_seccomp_filter_is_named_and_nothing_else_is_measured";
    if !usable(IO_URING, test) {
        return;
    }
    if env::var_os(CHILD).is_none() {
        return as_child(test, CHILD);
    }
    let file = filled(disk(), Bytes::MIB, BLOCK);
    if !forbid_io_uring() {
        println!("SKIP {test}: this kernel takes no seccomp filter");
        return;
    }
    for engine in BlockEngine::all().filter(|e| e.ring_mode().is_some()) {
        let why = engine.available().expect_err("it is forbidden");
        assert!(
            why.contains("seccomp") && why.contains("--engine libaio"),
            "{engine}: {why}"
        );
    }
    let refused = run(cell(IO_URING, Op::RandRead, BLOCK, 4, &file), &file);
    assert!(
        matches!(&refused, Err(JobError::Skipped(why)) if why.contains("seccomp")),
        "{refused:?}"
    );
    println!("told as it ought to be");
}

/// Makes io_uring_setup(2) fail with EPERM on this thread and those that it makes.
fn forbid_io_uring() -> bool {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // The number of the system call is the first word of what a filter sees.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the first call takes no pointers; the second reads the program, which lives for the call.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) == 0
    }
}
