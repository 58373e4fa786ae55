//! `strata run`: whole plans, and runs that are gone on with.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use strata_block::{BlockEngine, Wanted};
use strata_record::{Cell, Layer, Op, Sockets};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::block::{self, OWN_FILE};
use crate::cli::{Measuring, PlanName, RunArgs};
use crate::host::Host;
use crate::session::{Ready, Session};
use crate::{End, Usage, interrupt, node, nvme, plan, rdma, tcp};

/// How each trial of `quick` and `node` measures, by default 1.25 s after 0.3 s.
pub(crate) fn measuring(args: &RunArgs) -> Measuring {
    block::plain(
        args.duration.unwrap_or(Nanos::from_millis(1250)),
        args.ramp.unwrap_or(Nanos::from_millis(300)),
    )
}

/// Rounds of `quick`.
const ROUNDS: u32 = 10;

pub(crate) fn run(args: RunArgs) -> Result<End> {
    match (&args.resume, &args.plan) {
        (Some(folder), _) => resume(folder, &args),
        (None, Some(PlanName::File(path))) => {
            if args.target.is_some() || args.size.is_some() {
                return Err(Usage::error(
                    "--target and --size are of quick; a plan file names its targets itself",
                ));
            }
            let of_node = !args.drive.is_empty() || args.peer.is_some() || args.key_file.is_some();
            if of_node || args.duration.is_some() || args.ramp.is_some() {
                return Err(Usage::error(
                    "--drive, --peer, --key-file, --duration and --ramp are of node and quick; a plan file says itself what is measured, and how long",
                ));
            }
            plan::run(path, &args)
        }
        (None, Some(PlanName::Node)) => {
            if args.target.is_some() || args.size.is_some() {
                return Err(Usage::error(
                    "--target and --size are of quick; node measures the whole of each --drive",
                ));
            }
            node::run(&args)
        }
        (None, _) => {
            if !args.drive.is_empty() || args.peer.is_some() || args.key_file.is_some() {
                return Err(Usage::error(
                    "--drive, --peer and --key-file are of node (`strata run node --drive SERIAL`)",
                ));
            }
            quick(args)
        }
    }
}

fn quick(args: RunArgs) -> Result<End> {
    let host = Host::read()?;
    let measuring = measuring(&args);
    let session = Session::begin("quick", args.keeping, args.printing)?;
    let mut ready = Ready::default();
    let path = match &args.target {
        Some(target) => target.clone(),
        None => {
            session.makes(OWN_FILE)?;
            session.folder().join(OWN_FILE)
        }
    };
    let largest = Bytes::KIB * 128;
    let wanted = Wanted {
        size: (!path.exists()).then(|| args.size.unwrap_or(Bytes::GIB)),
        smallest: Bytes(4096),
        seed: session.seed(),
        ..Wanted::reads(largest)
    };
    let file = block::make(&session, &path, &wanted)?;
    if file.made {
        ready.own.add(file.path.clone());
    }
    let storage = |engine, op, bs, depth| {
        Ok::<_, anyhow::Error>(block::Shape {
            engine,
            op,
            bs,
            depth: deep(depth)?,
            random_map: false,
            verify: false,
        })
    };
    let uring = BlockEngine::best_ring();
    let storage = [
        storage(BlockEngine::Psync, Op::RandRead, Bytes(4096), 1)?,
        storage(uring, Op::RandRead, Bytes(4096), 1)?,
        storage(uring, Op::RandRead, Bytes(4096), 32)?,
        storage(uring, Op::Read, largest, 8)?,
    ];
    let shapes = [
        tcp::Shape::plain(Op::ReqRep, Bytes(64)),
        tcp::Shape::plain(Op::Stream, largest),
    ];
    ready.cells = block::cells(&host, &file, &storage, &measuring, None)?;
    ready.jobs = block::jobs(&host, &ready.cells, &file, session.folder())?;
    if let Err(why) = nvme::quick(&mut ready, &host, &session, &measuring, largest) {
        if interrupt::stopped(&why) {
            return Err(why);
        }
        session.say(&format!("SKIP nvme: {why:#}"));
    }
    let wire = tcp::Wire::Loopback { ipv6: false };
    for shape in &shapes {
        let cell = tcp::cell(&host, &wire, shape, &measuring, &Sockets::of(shape.op))?;
        ready.jobs.push(tcp::job(&host, &wire, &cell)?);
        ready.cells.push(cell);
    }
    session.run(ready, args.repeats.unwrap_or(ROUNDS))
}

pub(crate) fn deep(depth: u64) -> Result<QueueDepth> {
    QueueDepth::new(depth).map_err(|e| anyhow!(e))
}

fn resume(folder: &Path, args: &RunArgs) -> Result<End> {
    let (destroy, key_file) = (args.destroy.as_deref(), args.key_file.as_deref());
    let (session, plan) = Session::resume(folder, args.printing.clone())?;
    let mut ready = Ready::default();
    let mut jobs = || {
        // Those of the others are made when their driver holds the drive.
        let free = || plan.cells.iter().filter(|c| c.binding.is_none());
        let on_storage: Vec<&Cell> = free().filter(|c| c.layer == Layer::Block).collect();
        let host = Host::read()?;
        node::again(&mut ready, &host, &session, &plan.cells, &args.drive)?;
        let mut on_storage =
            block::again(&host, &session, &on_storage, destroy, &mut ready.own)?.into_iter();
        let cells: Vec<&Cell> = free().filter(|c| c.layer == Layer::Nvme).collect();
        let mut polled =
            nvme::again(&host, &session, &mut ready.controllers, &cells, destroy)?.into_iter();
        let jobs = free().map(|cell| match cell.layer {
            Layer::Block => on_storage
                .next()
                .context("a job is missing; this is a bug of strata"),
            Layer::Nvme => polled
                .next()
                .context("a job is missing; this is a bug of strata"),
            Layer::Tcp => {
                let wire = tcp::Wire::again(&host, &mut ready.peers, cell, key_file)?;
                tcp::job(&host, &wire, cell)
            }
            Layer::Rdma => rdma::again(&host, &mut ready.peers, cell, key_file),
        });
        jobs.collect::<Result<Vec<_>>>()
    };
    let jobs = jobs().with_context(|| format!("cannot go on with {}", folder.display()))?;
    ready.jobs = jobs;
    ready.cells = plan.cells;
    session.run(ready, plan.rounds)
}
