//! `ring [ROUNDS]`: polled NVMe against the limits of the two cores that it runs on, in turns within one run: our driver and
//! the emulated controller without data against a bare ring, with 4 KiB of data against a bare copy. Ratios above the targets
//! (half of the ring, 70 % of the copy) are what is wanted, and at most 60 ns of the driver's own an operation; figures of two
//! runs cannot be compared.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use strata_benches::bare;
use strata_benches::emulated::{ALL, BLOCK, EMULATE, Emulated, Outcome, emulate};
use strata_measure::{Job, Trial};
use strata_nvme::NvmeJob;
use strata_record::{Cell, Layer, Op, Placement, Reality, Target, TargetKind, TimedBy, Workload};
use strata_topology::{Allowed, Root, Topology, pin_current_thread};
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
        "driver on CPU {near}, controller on CPU {far}; each ratio: ours, the limit, median over {rounds} rounds of two"
    );
    for depth in [1, 32, 128] {
        let limit = || Ok(bare::ring(depth, WINDOW, near, far)?);
        let what = format!("depth {depth:3}, no data, of a bare ring");
        let rate = turns(&what, rounds, || reads(depth, near, far, false), limit, 0.5)?;
        if depth == 32 {
            told_of_one(rate, near)?;
        }
    }
    let limit = || Ok(bare::copy(BLOCK, ALL, 32, WINDOW, far)?);
    let ours = || reads(32, near, far, true);
    turns("depth  32, 4 KiB, of a bare copy", rounds, ours, limit, 0.7)?;
    Ok(())
}

/// What an operation takes of the driver's CPU at this rate, beyond what it takes of the loop against an engine that does
/// nothing: the driver's own cost, and its waiting for the other CPU's cache lines.
fn told_of_one(rate: f64, near: CpuId) -> Outcome<()> {
    let loops = || -> Result<f64, String> {
        pin_current_thread(&vec![near].into()).map_err(|e| e.to_string())?;
        let tally = strata_benches::harness(TimedBy::Operation, 20_000_000);
        Ok(tally.window().0 as f64 / tally.ops() as f64)
    };
    let alone = std::thread::scope(|scope| scope.spawn(loops).join());
    let alone = alone.map_err(|_| "the loop panicked")??;
    let all = 1e9 / rate;
    println!(
        "depth  32, no data: {all:.0} ns an operation, {alone:.0} of them the loop's: {:.0} ns of the driver, waiting included; wanted 60",
        all - alone
    );
    Ok(())
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
        timeout_ns: Some(Nanos::SECOND),
        sockets: None,
        verbs: None,
        binding: None,
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

/// Both in turns (ours, limit, limit, ours), and what comes of it; the median of ours.
fn turns(
    what: &str,
    rounds: usize,
    ours: impl Fn() -> Outcome<f64>,
    limit: impl Fn() -> Outcome<f64>,
    target: f64,
) -> Outcome<f64> {
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
    let ours = of(&mut a).1;
    println!(
        "{what}: {:.2} M/s of {:.2} M/s: {median:.3} ({least:.3} to {most:.3}); wanted {target}",
        ours / 1e6,
        of(&mut b).1 / 1e6
    );
    Ok(ours)
}
