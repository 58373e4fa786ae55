//! `strata run`: whole plans, and runs that are gone on with.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use strata_block::BlockEngine;
use strata_record::{Cell, Layer, Op};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::block::{self, OWN_FILE};
use crate::cli::RunArgs;
use crate::host::Host;
use crate::session::{Session, Target};
use crate::{End, tcp};

/// The window of each trial of `quick`, and the ramp before it.
const WINDOW: (Nanos, Nanos) = (Nanos::from_millis(1500), Nanos::from_millis(300));

pub(crate) fn run(args: RunArgs) -> Result<End> {
    if let Some(folder) = &args.resume {
        return resume(folder, args.printing);
    }
    let host = Host::read()?;
    let session = Session::begin("quick", args.keeping, args.printing)?;
    let path = args
        .target
        .clone()
        .unwrap_or_else(|| session.folder().join(OWN_FILE));
    let size = (!path.exists()).then_some(args.size);
    let largest = Bytes::KIB * 128;
    let file = block::make(&session, &path, size, largest, false)?;
    let own = Target::own(file.made.then(|| file.path.clone()));
    let measuring = block::plain(WINDOW.0, WINDOW.1);

    let storage = |engine, op, bs, depth| {
        Ok::<_, anyhow::Error>(block::Shape {
            engine,
            op,
            bs,
            depth: deep(depth)?,
        })
    };
    let storage = [
        storage(BlockEngine::Psync, Op::RandRead, Bytes(4096), 1)?,
        storage(BlockEngine::IO_URING, Op::RandRead, Bytes(4096), 1)?,
        storage(BlockEngine::IO_URING, Op::RandRead, Bytes(4096), 32)?,
        storage(BlockEngine::IO_URING, Op::Read, largest, 8)?,
    ];
    let wire = [
        tcp::Shape {
            op: Op::ReqRep,
            bs: Bytes(64),
            depth: QueueDepth::ONE,
        },
        tcp::Shape {
            op: Op::Stream,
            bs: largest,
            depth: QueueDepth::ONE,
        },
    ];
    let mut cells = block::cells(&host, &file, &storage, &measuring, false)?;
    let mut jobs = block::jobs(&cells, &file)?;
    let network = tcp::cells(&host, &wire, &measuring, None)?;
    for cell in &network {
        jobs.push(tcp::job(cell)?);
    }
    cells.extend(network);
    session.run(cells, jobs, args.repeats, own)
}

fn deep(depth: u64) -> Result<QueueDepth> {
    QueueDepth::new(depth).map_err(|e| anyhow!(e))
}

fn resume(folder: &Path, printing: crate::cli::Printing) -> Result<End> {
    let (session, plan) = Session::resume(folder, printing)?;
    let jobs = || {
        let on_files: Vec<Cell> = plan
            .cells
            .iter()
            .filter(|c| c.layer == Layer::Block)
            .cloned()
            .collect();
        let (on_files, own) = block::again(&Host::read()?, &session, &on_files)?;
        let mut on_files = on_files.into_iter();
        let jobs = plan.cells.iter().map(|cell| match cell.layer {
            Layer::Block => on_files
                .next()
                .context("a job is missing; this is a bug of strata"),
            Layer::Tcp => tcp::job(cell),
        });
        Ok::<_, anyhow::Error>((jobs.collect::<Result<Vec<_>>>()?, own))
    };
    let (jobs, own) = jobs().with_context(|| format!("cannot go on with {}", folder.display()))?;
    session.run(plan.cells, jobs, plan.rounds, own)
}
