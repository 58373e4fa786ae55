//! The other side is killed, the user stops, strangers come: each ends in a word, and leaves no process behind.

use std::env;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strata_measure::{JobError, TrialResult};
use strata_record::{Cell, Direction, Op};
use strata_tcp::TcpJob;
use strata_units::{Bytes, CpuId, Nanos, QueueDepth};

use crate::support::{
    GO, await_some, cell, children, children_of, job, listening, run, state, timed,
};

pub(crate) const TESTS: [(&str, fn()); 11] = [
    ("an_other_side_that_is_killed_is_named", killed),
    (
        "an_other_side_killed_by_count_is_named_too",
        killed_by_count,
    ),
    ("an_other_side_that_stalls_is_named_within_seconds", stalled),
    (
        "a_receiver_is_let_go_when_its_sender_stalls",
        stalled_sender,
    ),
    ("an_interruption_ends_both_sides", interrupted),
    (
        "a_client_that_is_killed_takes_the_other_side_along",
        orphaned,
    ),
    ("strangers_at_the_port_disturb_nothing", strangers),
    ("a_program_that_is_no_other_side_is_named", no_other_side),
    ("a_cpu_that_is_not_there_is_named_at_once", absent_cpu),
    ("a_cpu_that_the_other_side_lacks_is_named", absent_peer_cpu),
    ("a_cell_that_cannot_be_says_what_to_give", bad_cells),
];

const SHAPES: [(Op, Bytes, u64); 3] = [
    (Op::ReqRep, Bytes(64), 1),
    (Op::ReqRep, Bytes(4096), 16),
    (Op::Stream, Bytes(128 << 10), 1),
];

/// Runs the job; when its other side has been there for a while, `meddle` is called with it.
fn meddled<T>(
    job: &mut TcpJob,
    interrupted: &AtomicBool,
    meddle: impl FnOnce(Pid) -> T,
) -> (Result<TrialResult, JobError>, T, Duration) {
    thread::scope(|scope| {
        let running = scope.spawn(|| run(job, interrupted));
        let other = await_some("other side", || children().first().copied());
        listening(other);
        thread::sleep(Duration::from_millis(400));
        let given = meddle(other);
        let begun = Instant::now();
        let ended = running.join().expect("no panic");
        (ended, given, begun.elapsed())
    })
}

fn kill_in_mid_trial(cell: &Cell) {
    let label = cell.label();
    let mut job = job(cell.clone());
    let (ended, (), within) = meddled(&mut job, &GO, |other| {
        kill(other, Signal::SIGKILL).expect("killed");
    });
    let Err(JobError::Failed(why)) = ended else {
        panic!("{label}: {ended:?}");
    };
    assert!(why.contains("the other side"), "{label}: {why}");
    assert!(within.as_secs() < 8, "{label}: {within:?}");
    assert_eq!(children(), [], "{label}");
}

fn killed() {
    for (op, block, depth) in SHAPES {
        kill_in_mid_trial(&timed(cell(op, block, depth, 0), Nanos::SECOND * 60));
        let mut next = job(cell(op, block, depth, 100));
        let result = run(&mut next, &GO).expect("the next trial works");
        assert_eq!((result.measured.ops, result.failed), (100, None));
    }
}

fn killed_by_count() {
    for (op, block, depth) in SHAPES {
        kill_in_mid_trial(&cell(op, block, depth, u64::MAX));
    }
}

/// Stops the other side in mid-trial and does not let it go on; the trial must end by itself.
fn stall_in_mid_trial(cell: Cell) {
    let label = cell.label();
    let (ended, (), within) = meddled(&mut job(cell), &GO, |other| {
        kill(other, Signal::SIGSTOP).expect("stopped");
    });
    let Err(JobError::Failed(why)) = ended else {
        panic!("{label}: {ended:?}");
    };
    assert!(why.contains("the other side"), "{label}: {why}");
    // Four seconds of silence, and what a busy machine adds.
    assert!(within.as_secs() < 10, "{label}: {within:?}");
    assert_eq!(children(), [], "{label}");
}

fn stalled() {
    stall_in_mid_trial(cell(Op::ReqRep, Bytes(64), 1, u64::MAX));
    // Sends to one that takes nothing any more.
    stall_in_mid_trial(cell(Op::Stream, Bytes(128 << 10), 1, u64::MAX));
}

fn stalled_sender() {
    for direction in [Direction::Receive, Direction::Both] {
        let mut cell = timed(cell(Op::Stream, Bytes(128 << 10), 1, 0), Nanos::SECOND * 60);
        cell.workload.direction = Some(direction);
        stall_in_mid_trial(cell);
    }
}

fn interrupted() {
    for (op, block, depth) in SHAPES {
        let stop = AtomicBool::new(false);
        let mut job = job(timed(cell(op, block, depth, 0), Nanos::SECOND * 60));
        let (ended, (), within) = meddled(&mut job, &stop, |_| {
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(ended, Err(JobError::Interrupted), "{op}");
        assert!(within < Duration::from_secs(2), "{op}: {within:?}");
        assert_eq!(children(), [], "{op}");
    }
}

/// A trial of a minute, for the one of this program's processes that is to be killed during it.
pub(crate) fn long_trial() {
    let cell = timed(cell(Op::ReqRep, Bytes(64), 1, 0), Nanos::SECOND * 60);
    // Killed before it ends: there is nobody to tell what came of it.
    drop(run(&mut job(cell), &GO));
}

fn orphaned() {
    let program = env::current_exe().expect("this program");
    let mut client = Command::new(program)
        .arg(crate::LONG_TRIAL)
        .spawn()
        .expect("a client");
    let parent = Pid::from_raw(client.id().try_into().expect("a process's number"));
    let other = await_some("other side", || children_of(parent).first().copied());
    listening(other);
    thread::sleep(Duration::from_millis(400));
    client.kill().expect("killed");
    client.wait().expect("waited for");
    // Whoever inherits it may take its time to wait for it.
    await_some("end of the other side", || {
        state(other)
            .is_none_or(|(state, _)| state == "Z")
            .then_some(())
    });
}

fn strangers() {
    for (op, block, depth) in SHAPES {
        let mut job = job(timed(cell(op, block, depth, 0), Nanos::SECOND));
        let (ended, kept, _) = meddled(&mut job, &GO, |other| {
            let port = listening(other);
            let sockets: Vec<TcpStream> = (0..4)
                .filter_map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
                .collect();
            for mut socket in &sockets {
                socket.set_nonblocking(true).expect("set");
                // Whatever of it is taken.
                let _ = socket.write(&[0x5a; 100_000]);
            }
            sockets
        });
        assert_eq!(kept.len(), 4, "{op}: they were at the port");
        let result = ended.expect("a result");
        assert_eq!(result.failed, None, "{op}");
        let found = &result.measured;
        let bytes = found.bytes_per_s.expect("bytes") * found.window_s;
        let expected = (found.ops * block.0) as f64;
        assert!(
            (bytes - expected).abs() <= expected * 1e-9,
            "{op}: {bytes} of {expected}"
        );
    }
}

fn no_other_side() {
    for program in ["/no/such/program", "/bin/true"] {
        let cell = cell(Op::ReqRep, Bytes(64), 1, 10);
        let mut job = TcpJob::new(cell, PathBuf::from(program), Vec::new()).expect("a job");
        let Err(JobError::Failed(why)) = run(&mut job, &GO) else {
            panic!("{program} answers nothing");
        };
        assert!(why.contains(program), "{why}");
        assert_eq!(children(), []);
    }
}

fn absent_cpu() {
    for op in [Op::ReqRep, Op::Stream] {
        let mut cell = timed(cell(op, Bytes(64), 1, 0), Nanos::SECOND * 60);
        cell.placement.cpus = vec![CpuId(60_000)].into();
        let begun = Instant::now();
        let Err(JobError::Failed(why)) = run(&mut job(cell), &GO) else {
            panic!("{op}: there is no such CPU");
        };
        assert!(why.contains("60000"), "{op}: {why}");
        // The other side would wait ten seconds for a connection.
        assert!(begun.elapsed().as_secs() < 8, "{op}: {:?}", begun.elapsed());
        assert_eq!(children(), []);
    }
}

fn absent_peer_cpu() {
    for op in [Op::ReqRep, Op::Stream] {
        let mut cell = timed(cell(op, Bytes(64), 1, 0), Nanos::SECOND * 60);
        cell.placement.peer_cpus = vec![CpuId(60_000)].into();
        let Err(JobError::Failed(why)) = run(&mut job(cell), &GO) else {
            panic!("{op}: there is no such CPU");
        };
        assert!(
            why.contains("the other side") && why.contains("60000"),
            "{op}: {why}"
        );
        assert_eq!(children(), []);
    }
}

fn bad_cells() {
    type Change = fn(&mut Cell);
    let cases: [(Change, &str); 7] = [
        (|c| c.workload.op = Op::RandRead, "stream or reqrep"),
        (
            |c| {
                c.workload.op = Op::Stream;
                c.workload.depth = QueueDepth::new(2).expect("two");
            },
            "--depth",
        ),
        (|c| c.workload.block_bytes = Bytes(0), "--bs"),
        (|c| c.workload.block_bytes = Bytes::GIB, "--bs"),
        (|c| c.workload.threads = 2, "--cpus"),
        (|c| c.placement.peer_cpus = Vec::new().into(), "--peer-cpus"),
        (|c| c.workload.ops = None, "--duration"),
    ];
    for (change, expected) in cases {
        let mut cell = cell(Op::ReqRep, Bytes(64), 1, 10);
        change(&mut cell);
        let why = TcpJob::new(cell, PathBuf::from("x"), Vec::new())
            .map(drop)
            .expect_err(expected);
        assert!(why.contains(expected) && !why.contains('\n'), "{why}");
    }
}
