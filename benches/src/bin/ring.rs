//! `ring [ROUNDS]`: polled NVMe against the limits of the two cores that it runs on, in turns within one run: our driver and
//! the emulated controller without data against a bare ring, with 4 KiB of data against a bare copy. Ratios above the targets
//! (half of the ring, 70 % of the copy) are what is wanted; figures of two runs cannot be compared.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use strata_benches::bare;
use strata_benches::emulated::{ALL, BLOCK, EMULATE, Emulated, Outcome, emulate};
use strata_measure::{Job, Trial};
use strata_nvme::NvmeJob;
use strata_record::{Cell, Layer, Op, Placement, Reality, Target, TargetKind, Workload};
use strata_topology::{Allowed, Root, Topology};
use strata_units::{CpuId, CpuList, Nanos, QueueDepth};

/// The window of each figure.
const WINDOW: Nanos = Nanos::SECOND;

/// Rounds of two pairs each, when nothing is said.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match arguments.as_slice() {
        [] => Some(ROUNDS),
        [rounds] => rounds.parse().ok().filter(|n| (1..=1000).contains(n)),
        _ => None,
    };
    let done = match (arguments.as_slice(), rounds) {
        ([it, folder, cpu, data], _) if it == EMULATE => emulate(folder, cpu, data),
        (_, Some(rounds)) => compare(rounds),
        _ => {
            eprintln!("usage: ring [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ring: {why}");
            ExitCode::from(1)
        }
    }
}

fn compare(rounds: usize) -> Outcome<()> {
    let root = Root::live();
    let cpus = Allowed::read(&root, &Topology::read(&root)?).cpus;
    let (Some(far), Some(near)) = (cpus.iter().next(), cpus.iter().nth(1)) else {
        println!(
            "SKIP ring: driver and controller poll, each on a CPU of its own, and there is one"
        );
        return Ok(());
    };
    println!(
        "driver on CPU {near}, controller on CPU {far}; each line: ours, the limit, median ratio over {rounds} rounds of two"
    );
    for depth in [1, 32, 128] {
        let limit = || Ok(bare::ring(depth, WINDOW, near, far)?);
        let what = format!("depth {depth:3}, no data, of a bare ring");
        turns(&what, rounds, || reads(depth, near, far, false), limit, 0.5)?;
    }
    let limit = || Ok(bare::copy(BLOCK, ALL, 32, WINDOW, far)?);
    let ours = || reads(32, near, far, true);
    turns("depth  32, 4 KiB, of a bare copy", rounds, ours, limit, 0.7)
}

/// Random reads a second at `depth`, every latency recorded, of a controller of its own: one that is up polls, and would take
/// its CPU from the limit.
fn reads(depth: u16, near: CpuId, far: CpuId, data: bool) -> Outcome<f64> {
    let emulated = Emulated::start(far, data)?;
    let target = emulated.target.clone();
    let cell = Cell {
        layer: Layer::Nvme,
        engine: "native".to_owned(),
        reality: Reality::Emulated,
        target: Target {
            kind: TargetKind::Drive,
            identity: String::new(),
            region_from_bytes: target.from,
            region_bytes: Some(target.region),
            node: None,
        },
        via: String::new(),
        workload: Workload {
            depth: QueueDepth::new(depth.into())?,
            duration_ns: Some(WINDOW),
            ramp_ns: Nanos::from_millis(50),
            ..Workload::plain(Op::RandRead, BLOCK)
        },
        sockets: None,
        placement: Placement {
            cpus: [near].into_iter().collect(),
            peer_cpus: CpuList::default(),
            poll_cpus: CpuList::default(),
            mem_node: None,
        },
    };
    let mut job = NvmeJob::new(cell, target, Nanos::SECOND)?;
    let result = job.run(&Trial {
        seed: 1,
        interrupted: &AtomicBool::new(false),
    })?;
    match result.failed {
        None => Ok(result.measured.ops_per_s),
        Some(why) => Err(why.into()),
    }
}

/// Both in turns (ours, limit, limit, ours), and what comes of it.
fn turns(
    what: &str,
    rounds: usize,
    ours: impl Fn() -> Outcome<f64>,
    limit: impl Fn() -> Outcome<f64>,
    target: f64,
) -> Outcome<()> {
    let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (first, bare_first) = (ours()?, limit()?);
        let (bare_second, second) = (limit()?, ours()?);
        ratios.push((first + second) / (bare_first + bare_second));
        a.push((first + second) / 2.0);
        b.push((bare_first + bare_second) / 2.0);
    }
    let of = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        (all[0], all[all.len() / 2], all[all.len() - 1])
    };
    let (least, median, most) = of(&mut ratios);
    println!(
        "{what}: {:.2} M/s of {:.2} M/s: {median:.3} ({least:.3} to {most:.3}); wanted {target}",
        of(&mut a).1 / 1e6,
        of(&mut b).1 / 1e6
    );
    Ok(())
}
