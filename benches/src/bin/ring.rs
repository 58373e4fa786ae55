//! `ring [ROUNDS]`: polled NVMe against the limits of the two cores that it runs on, in turns within one run: our driver and
//! the emulated controller without data against a bare ring, with 4 KiB of data against a bare copy. Ratios above the targets
//! (half of the ring, 70 % of the copy) are what is wanted; figures of two runs cannot be compared.

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use strata_benches::bare;
use strata_measure::{Job, Trial};
use strata_nvme::{Controller, NvmeJob, NvmeTarget, Options, VfioUser, Wanted, Whose};
use strata_nvme_emulator::{Config, serve};
use strata_nvme_spec::NamespaceId;
use strata_record::{Cell, Layer, Op, Placement, Reality, Target, TargetKind, Workload};
use strata_topology::{Allowed, Root, Topology};
use strata_units::{ByteOffset, Bytes, CpuId, CpuList, Nanos, QueueDepth};

/// The window of each figure.
const WINDOW: Nanos = Nanos::SECOND;

/// The block, and the namespace of the controller that moves data.
const BLOCK: Bytes = Bytes(4096);
const ALL: Bytes = Bytes(256 << 20);

/// Rounds of two pairs each, when nothing is said.
const ROUNDS: usize = 5;

/// What makes this program the controller.
const EMULATE: &str = "--emulate";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [] => compare(ROUNDS),
        [rounds] => match rounds.parse() {
            Ok(rounds @ 1..=1000) => compare(rounds),
            _ => {
                eprintln!("usage: ring [ROUNDS]");
                return ExitCode::from(2);
            }
        },
        [emulate, folder, cpu, data] if emulate == EMULATE => emulated(folder, cpu, data),
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

fn config(data: bool) -> Config {
    let mut config = Config {
        moves_data: data,
        ..Config::default()
    };
    for namespace in &mut config.namespace {
        namespace.size.0 = ALL;
    }
    config
}

/// The controller's process.
fn emulated(folder: &str, cpu: &str, data: &str) -> Outcome<()> {
    let never = AtomicBool::new(false);
    let cpu: CpuId = cpu.parse()?;
    Ok(serve(
        &config(data == "data"),
        Path::new(folder),
        Some(cpu),
        &never,
    )?)
}

/// The controller's process, ended when dropped, with what the driver sees of it.
struct Emulated {
    target: NvmeTarget,
    child: Child,
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulated {
    fn start(folder: &Path, cpu: CpuId, data: bool) -> Outcome<Emulated> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(EMULATE)
            .arg(folder)
            .args([cpu.to_string().as_str(), if data { "data" } else { "none" }])
            .spawn()?;
        let options = Options::default();
        let begun = Instant::now();
        let carrier = loop {
            match VfioUser::connect(folder, options.register_patience) {
                Ok(carrier) => break carrier,
                Err(why) if begun.elapsed() > Duration::from_secs(10) => {
                    let _ = child.kill();
                    return Err(why.into());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let controller = Controller::open(Box::new(carrier), &options)?;
        let go = AtomicBool::new(false);
        let wanted = Wanted {
            namespace: NamespaceId(1),
            size: None,
            from: ByteOffset(0),
            block: BLOCK,
            smallest: BLOCK,
            writes: false,
            // Filled, since pages that were never written are one page of zeros.
            whose: Whose::Ours,
            seed: 1,
        };
        let target = NvmeTarget::prepare(&controller, "the controller", &wanted, &go)?;
        Ok(Emulated { target, child })
    }

    /// Random reads a second at `depth`, every latency recorded.
    fn reads(&self, depth: u16, near: CpuId) -> Outcome<f64> {
        let go = AtomicBool::new(false);
        let target = self.target.clone();
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
            interrupted: &go,
        })?;
        match result.failed {
            None => Ok(result.measured.ops_per_s),
            Some(why) => Err(why.into()),
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
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name);
    {
        let null = Emulated::start(&place("null"), far, false)?;
        for depth in [1, 32, 128] {
            let limit = || Ok(bare::ring(depth, WINDOW, near, far)?);
            let what = format!("depth {depth:3}, no data, of a bare ring");
            turns(&what, rounds, || null.reads(depth, near), limit, 0.5)?;
        }
    }
    let drive = Emulated::start(&place("data"), far, true)?;
    let limit = || Ok(bare::copy(BLOCK, ALL, 32, WINDOW, far)?);
    turns(
        "depth  32, 4 KiB, of a bare copy",
        rounds,
        || drive.reads(32, near),
        limit,
        0.7,
    )
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
