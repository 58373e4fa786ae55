//! `strata block`: cells of the kernel's storage path on a file.

use std::path::Path;

use anyhow::{Result, anyhow};
use strata_block::{BlockEngine, BlockJob, FileError, Prepared, prepare};
use strata_measure::Job;
use strata_record::{Cell, Layer, Op, TimedBy, Workload};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::cli::{BlockArgs, Measuring};
use crate::host::Host;
use crate::session::{Session, Target};
use crate::{End, Usage};

/// Name of the file that a run makes for itself in its folder.
pub(crate) const OWN_FILE: &str = "target.dat";

/// The window when none is given.
pub(crate) const DURATION: Nanos = Nanos(2_000_000_000);

/// One shape of load on the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) engine: BlockEngine,
    pub(crate) op: Op,
    pub(crate) bs: Bytes,
    pub(crate) depth: QueueDepth,
}

pub(crate) fn run(args: BlockArgs) -> Result<End> {
    let mut shapes = Vec::new();
    for op in &args.op {
        if !op.is_storage() {
            return Err(Usage::error(format!(
                "--op {op} is none of the block layer; give randread, randwrite, randrw:PERCENT, read or write"
            )));
        }
        for bs in &args.bs {
            if !bs.is_multiple_of(Bytes(512)) {
                return Err(Usage::error(format!(
                    "--bs {bs} is no multiple of the 512 byte sector; give 512, 4KiB, 64KiB, …"
                )));
            }
            for depth in &args.depth {
                for engine in &args.engine {
                    if depth.get() > engine.most_depth() {
                        return Err(Usage::error(format!(
                            "--depth {depth} with {engine}, which has one operation in flight; give --depth 1, more --threads, or --engine io_uring"
                        )));
                    }
                    let shape = Shape {
                        engine: *engine,
                        op: *op,
                        bs: *bs,
                        depth: *depth,
                    };
                    if !shapes.contains(&shape) {
                        shapes.push(shape);
                    }
                }
            }
        }
    }
    // Asked for by name: where it cannot be had that is an error, not a skipped cell.
    for engine in &args.engine {
        engine
            .available()
            .map_err(|why| anyhow!("--engine {engine}: {why}"))?;
    }
    let host = Host::read()?;
    // Placement is checked before a file is filled for minutes.
    host.place(&args.measuring, None, None)?;
    let session = Session::begin("block", args.keeping, args.printing)?;
    let target = args.target.as_deref();
    let path = target.map_or_else(|| session.folder().join(OWN_FILE), Path::to_owned);
    let block = shapes.iter().map(|s| s.bs).max().unwrap_or(Bytes(4096));
    let writes = shapes.iter().any(|s| s.op.writes());
    let file = make(&session, &path, args.size, block, writes)?;
    let own = Target::own((target.is_none() && file.made).then(|| file.path.clone()));
    let cells = cells(&host, &file, &shapes, &args.measuring, args.verify)?;
    let jobs = jobs(&host, &cells, &file)?;
    session.run(cells, jobs, args.measuring.repeats, own)
}

/// Looks at the file, or makes it; a run that is stopped meanwhile ends here.
pub(crate) fn make(
    session: &Session,
    path: &Path,
    size: Option<Bytes>,
    block: Bytes,
    writes: bool,
) -> Result<Prepared> {
    // A run is gone on with from any folder, and its records hold the path as text.
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if path.to_str().is_none() {
        let path = path.display();
        return Err(Usage::error(format!(
            "{path} is not UTF-8, as records need it; name another --target"
        )));
    }
    if !path.exists() {
        session.say(&format!(
            "filling {} with {}",
            path.display(),
            size.unwrap_or(Bytes::GIB)
        ));
    }
    prepare(
        path,
        size,
        block,
        writes,
        session.seed(),
        session.interrupted(),
    )
    .map_err(usage_or_not)
}

/// What the user can mend by typing something else is a mistake in usage.
fn usage_or_not(error: FileError) -> anyhow::Error {
    match error {
        FileError::NotAFile { .. } | FileError::TooShort { .. } | FileError::NotOurs { .. } => {
            Usage::error(error)
        }
        other => other.into(),
    }
}

/// A cell a shape.
pub(crate) fn cells(
    host: &Host,
    file: &Prepared,
    shapes: &[Shape],
    measuring: &Measuring,
    verify: bool,
) -> Result<Vec<Cell>> {
    shapes
        .iter()
        .map(|shape| {
            let region = Bytes(file.region.0 / shape.bs.0 * shape.bs.0);
            let (target, reality) = host.file(&file.path, file.region, region)?;
            Ok(Cell {
                layer: Layer::Block,
                engine: shape.engine.to_string(),
                reality,
                placement: host.place(measuring, None, target.node)?,
                target,
                via: file.path.display().to_string(),
                workload: workload(shape.op, shape.bs, shape.depth, measuring, verify),
            })
        })
        .collect()
}

/// The workload of a shape, with what is common to all.
pub(crate) fn workload(
    op: Op,
    block_bytes: Bytes,
    depth: QueueDepth,
    measuring: &Measuring,
    verify: bool,
) -> Workload {
    Workload {
        op,
        block_bytes,
        depth,
        threads: measuring.threads,
        duration_ns: measuring
            .ops
            .is_none()
            .then(|| measuring.duration.unwrap_or(DURATION)),
        ops: measuring.ops,
        ramp_ns: measuring.ramp,
        timed_by: measuring.timed_by,
        verify,
    }
}

/// A job a cell, on the file as it was found for all of them.
pub(crate) fn jobs(host: &Host, cells: &[Cell], file: &Prepared) -> Result<Vec<Box<dyn Job>>> {
    cells
        .iter()
        .map(|cell| {
            let file = file.for_blocks(cell.workload.block_bytes);
            let watch = host.watch_file(&file.path, &cell.placement.cpus)?;
            let job = BlockJob::new(cell.clone(), file).map_err(Usage::error)?;
            Ok(Box::new(job.watching(watch)) as Box<dyn Job>)
        })
        .collect()
}

/// What `run quick` and a resumed run measure with, when nothing else is said.
pub(crate) fn plain(duration: Nanos, ramp: Nanos) -> Measuring {
    Measuring {
        duration: Some(duration),
        ops: None,
        ramp,
        threads: 1,
        cpus: None,
        mem_node: None,
        timed_by: TimedBy::Operation,
        repeats: 1,
    }
}

/// The jobs of the block cells of a run that is gone on with, on its file, which is made again when it is gone: a run removes
/// what it made for itself. A run goes on with the target that it was begun with, or not at all.
pub(crate) fn again(
    host: &Host,
    session: &Session,
    cells: &[Cell],
) -> Result<(Vec<Box<dyn Job>>, Target)> {
    let Some(first) = cells.first() else {
        return Ok((Vec::new(), Target::own(None)));
    };
    let path = Path::new(&first.via);
    // The cell of the largest block has the file's whole region.
    let size = cells.iter().filter_map(|c| c.target.region_bytes).max();
    let block = cells
        .iter()
        .map(|c| c.workload.block_bytes)
        .max()
        .unwrap_or(Bytes(4096));
    let writes = cells.iter().any(|c| c.workload.op.writes());
    let file = make(session, path, size, block, writes)?;
    // One that is there may be what a killed run of ours has left behind.
    let own = file.made || session.own_file() == path.to_str();
    let own = Target::own(own.then(|| path.to_owned()));
    let (target, _) = host.file(path, file.region, file.region)?;
    if target.identity != first.target.identity {
        return Err(Usage::error(format!(
            "{} is now a {}, and the run was begun on a {}; put that in its place, or begin a new run",
            path.display(),
            target.identity,
            first.target.identity
        )));
    }
    Ok((jobs(host, cells, &file)?, own))
}
