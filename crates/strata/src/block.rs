//! `strata block`: cells of the kernel's storage path on a file or drive.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use strata_block::{BlockEngine, BlockJob, Prepared, TargetError, Wanted, WrittenState, prepare};
use strata_measure::Job;
use strata_record::{Arrivals, Cell, Layer, Op, Rate, TimedBy, Workload};
use strata_units::{ByteOffset, Bytes, CpuList, Nanos, QueueDepth};

use crate::cli::{BlockArgs, Measuring};
use crate::host::Host;
use crate::precondition::precondition;
use crate::session::{Desk, Own, Ready, Session};
use crate::shapes::Listed;
use crate::{End, Usage};

/// Name of the file that a run makes for itself in its folder.
pub(crate) const OWN_FILE: &str = "target.dat";

/// The window when none is given.
pub(crate) const DURATION: Nanos = Nanos(2_000_000_000);

/// One shape of load on the target.
pub(crate) type Shape = crate::shapes::Shape<BlockEngine>;

pub(crate) fn run(args: BlockArgs) -> Result<End> {
    let shapes = shapes(&args)?;
    let host = Host::read()?;
    // Placement is checked before a file is filled for minutes.
    host.place(&args.measuring, None, None)?;
    let repeats = args.measuring.repeats;
    let session = Session::begin("block", args.keeping.clone(), args.printing.clone())?;
    let mut ready = Ready::default();
    add(&mut ready, &args, &shapes, &host, &session, OWN_FILE, true)?;
    session.run(ready, repeats)
}

/// The shapes that are asked for, each once.
pub(crate) fn shapes(args: &BlockArgs) -> Result<Vec<Shape>> {
    let listed = Listed {
        layer: Layer::Block,
        engine: &args.engine,
        load: &args.load,
    };
    listed.shapes(|engine, depth| {
        if depth.get() <= engine.most_depth() {
            return Ok(());
        }
        Err(Usage::error(format!(
            "--depth {depth} with {engine}, which has one operation in flight; give --depth 1, more --threads, or --engine io_uring"
        )))
    })
}

/// Makes the target ready, and a cell and a job of each shape. `strict` makes an error of what this machine cannot run,
/// since it was asked for by name; in a plan it becomes a skipped trial. `name` is that of a file made in the run's folder.
pub(crate) fn add(
    ready: &mut Ready,
    args: &BlockArgs,
    shapes: &[Shape],
    host: &Host,
    session: &Session,
    name: &str,
    strict: bool,
) -> Result<()> {
    let writes = shapes.iter().any(|s| s.op.writes()) || args.precondition;
    let of = |shapes: &[Shape], most: bool| {
        let sizes = shapes.iter().map(|s| s.bs);
        let found = if most { sizes.max() } else { sizes.min() };
        found.unwrap_or(Bytes(4096))
    };
    let wanted = Wanted {
        size: args.size,
        from: ByteOffset(args.offset.0),
        block: of(shapes, true),
        smallest: of(shapes, false),
        writes,
        destroy: args.destroy.as_deref(),
        held: &ready.targets,
        seed: session.seed(),
    };
    let target = args.target.as_deref();
    let path = target.map_or_else(|| session.folder().join(name), Path::to_owned);
    if target.is_none() {
        session.makes(name)?;
    }
    let mut file = make(session, &path, &wanted)?;
    if target.is_none() && file.made {
        ready.own.add(file.path.clone());
    }
    if strict {
        for engine in &args.engine {
            engine
                .available_on(&file)
                .map_err(|why| anyhow!("--engine {engine}: {why}"))?;
        }
    }
    if args.precondition {
        let done = precondition(host, session, &file, shapes, &args.measuring)?;
        ready.preconditioning.push(done);
        file.state = WrittenState::Ours;
    }
    let cells = cells(
        host,
        &file,
        shapes,
        &args.measuring,
        args.poll_cpus.as_ref(),
    )?;
    ready
        .jobs
        .extend(jobs(host, &cells, &file, session.folder())?);
    ready.cells.extend(cells);
    ready.targets.push(file);
    Ok(())
}

/// Looks at the target, or makes the file; a run that is stopped meanwhile ends here.
pub(crate) fn make(desk: &Desk, path: &Path, wanted: &Wanted<'_>) -> Result<Prepared> {
    // A run is gone on with from any folder, and its records hold the path as text.
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if path.to_str().is_none() {
        let path = path.display();
        return Err(Usage::error(format!(
            "{path} is not UTF-8, as records need it; name another --target"
        )));
    }
    if !path.exists() {
        desk.say(&format!(
            "filling {} with {}",
            path.display(),
            wanted.size.unwrap_or(Bytes::GIB)
        ));
    }
    let found = prepare(path, wanted, desk.interrupted()).map_err(usage_or_not)?;
    for what in &found.unasked {
        desk.say(&format!("{}: {what}", path.display()));
    }
    Ok(found)
}

/// What the user can mend by typing something else is a mistake in usage.
pub(crate) fn usage_or_not(error: TargetError) -> anyhow::Error {
    match error {
        TargetError::NotATarget { .. }
        | TargetError::TooShort { .. }
        | TargetError::OfAnother { .. }
        | TargetError::NotOurs { .. }
        | TargetError::Unaligned { .. }
        | TargetError::SmallBlock { .. }
        | TargetError::NotNamed { .. } => Usage::error(error),
        other => other.into(),
    }
}

/// A cell a shape.
pub(crate) fn cells(
    host: &Host,
    file: &Prepared,
    shapes: &[Shape],
    measuring: &Measuring,
    poll_cpus: Option<&CpuList>,
) -> Result<Vec<Cell>> {
    shapes
        .iter()
        .map(|shape| {
            let region = file.for_blocks(shape.bs).region;
            let (target, reality) = host.storage(file, region)?;
            let mut placement = host.place(measuring, None, target.node)?;
            if shape.engine.sq_polled() {
                placement.poll_cpus = host.poll_cpus(poll_cpus, &placement, target.node)?;
            }
            Ok(Cell {
                layer: Layer::Block,
                engine: shape.engine.to_string(),
                reality,
                placement,
                target,
                via: file.path.display().to_string(),
                timeout_ns: None,
                sockets: None,
                verbs: None,
                binding: None,
                workload: Workload {
                    random_map: shape.random_map,
                    verify: shape.verify,
                    ..workload(shape.op, shape.bs, shape.depth, measuring)
                },
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
) -> Workload {
    Workload {
        depth,
        threads: measuring.threads,
        duration_ns: measuring
            .ops
            .is_none()
            .then(|| measuring.duration.unwrap_or(DURATION)),
        ops: measuring.ops,
        ramp_ns: measuring.ramp,
        timed_by: measuring.timed_by,
        rate: measuring.rate.map(|ops_per_s| Rate {
            ops_per_s,
            arrivals: if measuring.poisson {
                Arrivals::Poisson
            } else {
                Arrivals::Fixed
            },
        }),
        ..Workload::plain(op, block_bytes)
    }
}

/// Name of the ledger of a run's last trial of verified writes.
pub(crate) const LEDGER: &str = "ledger.bin";

/// A job a cell, on the target as it was found for all of them.
pub(crate) fn jobs(
    host: &Host,
    cells: &[Cell],
    file: &Prepared,
    folder: &Path,
) -> Result<Vec<Box<dyn Job>>> {
    cells
        .iter()
        .map(|cell| {
            let file = file.for_blocks(cell.workload.block_bytes);
            let watch = host.watch_file(&file.path, &cell.placement.cpus)?;
            let bounds = host.file_bounds(&file)?;
            let job = BlockJob::new(cell.clone(), file).map_err(Usage::error)?;
            let job = job.watching(watch).bounded(bounds);
            let job = job.with_ledger(folder.join(LEDGER));
            Ok(Box::new(job) as Box<dyn Job>)
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
        rate: None,
        poisson: false,
        timed_by: TimedBy::Operation,
        repeats: 1,
    }
}

/// The jobs of the block cells of a run that is gone on with, each at its place in `cells`, on their targets; a file that
/// is gone is made again, since a run removes what it made for itself. A run goes on with the target that it was begun
/// with, or not at all.
pub(crate) fn again(
    host: &Host,
    desk: &Desk,
    cells: &[&Cell],
    destroy: Option<&str>,
    own: &mut Own,
) -> Result<Vec<Box<dyn Job>>> {
    let mut jobs: Vec<Option<Box<dyn Job>>> = cells.iter().map(|_| None).collect();
    // Tables of a plan may have several regions of one target. The one that ends last comes first: a file that is gone is made
    // long enough for all.
    let same = |a: &Cell, b: &Cell| {
        (&a.via, &a.target.identity, a.target.region_from_bytes)
            == (&b.via, &b.target.identity, b.target.region_from_bytes)
    };
    let end = |c: &Cell| c.target.region_from_bytes.0 + c.target.region_bytes.map_or(0, |b| b.0);
    let mut heads: Vec<&Cell> = cells.to_vec();
    heads.sort_by_key(|c| std::cmp::Reverse(end(c)));
    let mut held: Vec<Prepared> = Vec::new();
    let mut done: Vec<&Cell> = Vec::new();
    for head in heads {
        if done.iter().any(|c| same(c, head)) {
            continue;
        }
        done.push(head);
        let path = head.via.as_str();
        let on_it = || cells.iter().filter(|c| same(c, head));
        let sizes = || on_it().map(|c| c.workload.block_bytes);
        let Some(first) = on_it().next() else {
            continue;
        };
        let wanted = Wanted {
            // The cell of the largest block has the whole region.
            size: on_it().filter_map(|c| c.target.region_bytes).max(),
            from: first.target.region_from_bytes,
            block: sizes().max().unwrap_or(Bytes(4096)),
            smallest: sizes().min().unwrap_or(Bytes(4096)),
            writes: on_it().any(|c| c.workload.op.writes()),
            destroy,
            held: &held,
            seed: desk.seed(),
        };
        let file = make(desk, Path::new(path), &wanted)?;
        // One that is there may be what a killed run of ours has left behind.
        if file.made || desk.own_files().iter().any(|own| own == path) {
            own.add(PathBuf::from(path));
        }
        let (target, _) = host.storage(&file, file.region)?;
        if target.identity != first.target.identity {
            return Err(Usage::error(format!(
                "{path} is now a {}, and the run was begun on a {}; put that in its place, or begin a new run",
                target.identity, first.target.identity
            )));
        }
        for (place, cell) in cells.iter().enumerate().filter(|(_, c)| same(c, head)) {
            let region = cell.target.region_bytes.unwrap_or(file.region);
            if region > file.region {
                return Err(Usage::error(format!(
                    "{path} holds {} of the {region} that the run was begun on; begin a new run",
                    file.region
                )));
            }
            let file = file.part(Bytes(0), region);
            let made = self::jobs(host, std::slice::from_ref(*cell), &file, desk.folder())?;
            jobs[place] = made.into_iter().next();
        }
        held.push(file);
    }
    Ok(jobs.into_iter().flatten().collect())
}
