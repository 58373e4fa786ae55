//! Cells on the wire, jobs whose other side is this program, and what is seen of that other side.

use std::env;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_record::{Cell, Layer, Op, Placement, Reality, Target, TargetKind, Workload};
use strata_tcp::TcpJob;
use strata_topology::{Allowed, Root, Topology};
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos, QueueDepth};

pub(crate) static GO: AtomicBool = AtomicBool::new(false);

/// The CPUs that this process may use.
pub(crate) fn allowed() -> Vec<CpuId> {
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    Allowed::read(&root, &topology).cpus.iter().collect()
}

/// A cell from the first CPU to the last; its window is a count of operations.
pub(crate) fn cell(op: Op, block: Bytes, depth: u64, ops: u64) -> Cell {
    let cpus = allowed();
    let one = |cpu: Option<&CpuId>| -> CpuList { cpu.copied().into_iter().collect() };
    Cell {
        layer: Layer::Tcp,
        engine: "tcp".to_owned(),
        reality: Reality::Software,
        target: Target {
            kind: TargetKind::Wire,
            identity: "loopback".to_owned(),
            region_from_bytes: ByteOffset(0),
            region_bytes: None,
            node: None,
        },
        via: "127.0.0.1".to_owned(),
        workload: Workload {
            depth: QueueDepth::new(depth).expect("a depth"),
            duration_ns: None,
            ops: Some(ops),
            ..Workload::plain(op, block)
        },
        timeout_ns: None,
        sockets: None,
        verbs: None,
        binding: None,
        placement: Placement {
            cpus: one(cpus.first()),
            poll_cpus: CpuList::default(),
            peer_cpus: one(cpus.last()),
            mem_node: None,
        },
    }
}

/// Gives the cell a window by time.
pub(crate) fn timed(mut cell: Cell, window: Nanos) -> Cell {
    (cell.workload.ops, cell.workload.duration_ns) = (None, Some(window));
    cell
}

pub(crate) fn job(cell: Cell) -> TcpJob {
    let program = env::current_exe().expect("this program");
    TcpJob::new(cell, program, vec![crate::SERVE.to_owned()]).expect("a cell that can be")
}

pub(crate) fn run(job: &mut TcpJob, interrupted: &AtomicBool) -> Result<TrialResult, JobError> {
    job.run(&Trial {
        seed: 0x5eed,
        interrupted,
    })
}

/// State and parent of a process (proc_pid_stat(5)); none when it is gone.
pub(crate) fn state(pid: Pid) -> Option<(String, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    Some((
        words.next()?.to_owned(),
        Pid::from_raw(words.next()?.parse().ok()?),
    ))
}

/// The children of this process, those among them that have ended and were not waited for.
pub(crate) fn children() -> Vec<Pid> {
    children_of(Pid::this())
}

pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    fs::read_dir("/proc")
        .expect("procfs")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// Looks for something until it is there.
pub(crate) fn await_some<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 20 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("no {what} within 20 s");
}

/// The port that a process listens on, once it does.
pub(crate) fn listening(pid: Pid) -> u16 {
    await_some("listening port", || {
        let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned))
            .filter_map(|to| Some(to.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
        table.lines().skip(1).find_map(|line| {
            // Local address and port in hexadecimal are the second column, the state (0A listens) the fourth, the inode
            // the tenth.
            let columns: Vec<&str> = line.split_whitespace().collect();
            let inode = *columns.get(9)?;
            if columns.get(3) != Some(&"0A") || !sockets.iter().any(|s| s == inode) {
                return None;
            }
            u16::from_str_radix(columns.get(1)?.rsplit_once(':')?.1, 16).ok()
        })
    })
}
