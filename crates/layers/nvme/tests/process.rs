//! A controller in a process of its own, whose first thread polls, as `strata emu` is: watched from outside, and killed in
//! mid-trial. Not of libtest, which runs no test in the first thread.

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "all/cells.rs"]
mod cells;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "all/emulator.rs"]
mod emulator;

use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use strata_nvme_emulator::{Config, serve};
use strata_record::{Op, Role};
use strata_units::{Bytes, CpuId, CpuList, Nanos};

use cells::{NEVER, cell, cpus, job, once, ops, target, timed};
use emulator::{LONG, connect, long, private_folder};

const BLOCK: Bytes = Bytes(4096);

/// A controller in a process of its own, on one CPU; ended with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SERVE: &str = "STRATA_TEST_SERVE";
const ON: &str = "STRATA_TEST_SERVE_ON";

fn main() {
    if let (Some(folder), Ok(cpu)) = (std::env::var_os(SERVE), std::env::var(ON)) {
        let cpu = CpuId(cpu.parse().expect("a number"));
        let never = AtomicBool::new(false);
        serve(&Config::default(), Path::new(&folder), Some(cpu), &never).expect("served");
        return;
    }
    let Some(two) = cpus(2) else {
        println!("SKIP process: this process may use one CPU only");
        return;
    };
    let folder = private_folder();
    let mut process = Process(
        Command::new(std::env::current_exe().expect("this test"))
            .env(SERVE, folder.path())
            .env(ON, two[1].0.to_string())
            .spawn()
            .expect("a child"),
    );
    let controller = connect(folder.path(), &long()).expect("a controller");
    let target = target(&controller, BLOCK);
    let theirs: CpuList = vec![two[1]].into();
    let cell = ops(cell(Op::RandRead, BLOCK, 8, &target), 100_000);
    let mut watched = job(&cell, &target, NEVER).with_emulator(process.0.id(), theirs.clone());
    let result = once(&mut watched).expect("a result");
    assert_eq!(result.failed, None);
    let of = |role| {
        let mut threads = result.proof.threads.iter();
        threads
            .find(|thread| thread.role == role)
            .expect("a thread")
    };
    assert_eq!(of(Role::Measure).seen, vec![two[0]].into());
    assert_eq!(of(Role::Peer).asked, theirs);
    assert_eq!(of(Role::Peer).seen, theirs);
    assert_eq!(result.proof.contradictions, [""; 0]);
    let cost = result.cost.peer_cpu_ns_per_op.expect("it polled");
    assert!(cost > 0.0, "{cost}");

    // On another CPU than it was asked to be the figure is contradicted.
    let elsewhere = job(&cell, &target, NEVER);
    let mut elsewhere = elsewhere.with_emulator(process.0.id(), vec![two[0]].into());
    let result = once(&mut elsewhere).expect("a result");
    assert!(!result.proof.contradictions.is_empty());

    // Ended in mid-trial it is missing, and the trial says what became of the controller.
    let pid = process.0.id();
    let mut dies =
        job(&timed(cell, Nanos::SECOND * 60), &target, Nanos::SECOND).with_emulator(pid, theirs);
    let begin = Instant::now();
    let found = std::thread::scope(|scope| {
        let trial = scope.spawn(|| once(&mut dies));
        sleep(Duration::from_millis(700));
        process.0.kill().expect("killed");
        process.0.wait().expect("dead");
        trial.join().expect("no panic")
    });
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    let result = found.expect("what was measured until then");
    assert!(result.measured.ops > 0);
    let why = result.failed.expect("its controller died");
    assert!(why.contains("is lost"), "{why}");
    assert!(
        result
            .proof
            .missing
            .iter()
            .any(|it| it.contains("its process has ended")),
        "{:?}",
        result.proof.missing
    );
    drop((dies, target, controller));
}
