//! `strata nvme`: cells of NVMe queue pairs polled from user space.

mod again;
mod controllers;
mod find;
mod list;
mod via;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use strata_measure::{Job, Nominal};
use strata_nvme::{NvmeEngine, NvmeJob, NvmeTarget, Stands};
use strata_record::{Binding, Cell, Driver, Layer, Op, Placement, Reality, Target, TargetKind};
use strata_topology::WatchList;
use strata_units::{ByteOffset, Bytes, CpuList, Nanos, PciAddress, QueueDepth};

use crate::block::{LEDGER, workload};
use crate::cli::{Measuring, NvmeArgs, NvmeAt, NvmeCommand};
use crate::host::{Host, namespace_identity};
use crate::session::{Ready, Session};
use crate::shapes::Listed;
use crate::{End, Usage};

pub(crate) use again::again;
pub(crate) use controllers::Controllers;
use controllers::{Part, Up, prepare};
pub(crate) use find::{by_serial, find};
use via::{Via, Way};

/// The namespace of an emulated controller that is made for a run and keeps data: more than any cache, and filled in a moment.
const SIZE: Bytes = Bytes(256 << 20);

/// How long a command may take before it is aborted, when nothing is said.
const TIMEOUT: Nanos = Nanos(5_000_000_000);

/// One shape of load on the target.
pub(crate) type Shape = crate::shapes::Shape<NvmeEngine>;

pub(crate) fn run(mut args: NvmeArgs) -> Result<End> {
    if let Some(NvmeCommand::List(args)) = &args.command {
        return list::run(args);
    }
    let shapes = shapes(&args)?;
    let host = Host::read()?;
    find(&host, &mut args)?;
    let repeats = args.measuring.repeats;
    // What is wrong with where it shall run is told before a folder is made.
    placement(&host, &args)?;
    let session = Session::begin("nvme", args.keeping.clone(), args.printing.clone())?;
    let mut ready = Ready::default();
    add(&mut ready, &args, &shapes, &host, &session)?;
    session.run(ready, repeats)
}

/// The block when none is asked for.
const BLOCK: Bytes = Bytes(4096);

fn largest(blocks: &[Bytes]) -> Bytes {
    blocks.iter().copied().max().unwrap_or(BLOCK)
}

/// The shapes that are asked for, each once.
pub(crate) fn shapes(args: &NvmeArgs) -> Result<Vec<Shape>> {
    if args.target.is_none() && args.emulated.is_none() {
        return Err(Usage::error(
            "no controller is named; give --emulated, or --target with a PCI address, a serial number, or the folder of a vfio-user socket",
        ));
    }
    let largest = largest(&args.load.bs);
    if let Some(size) = args.size.filter(|size| *size < largest) {
        return Err(Usage::error(format!(
            "--size {size} holds no block of {largest}; give a larger one, or a smaller --bs"
        )));
    }
    if args.timeout == Some(Nanos(0)) {
        return Err(Usage::error(
            "--timeout 0s: a command takes longer than no time; give 100ms, 5s, …",
        ));
    }
    let listed = Listed {
        layer: Layer::Nvme,
        engine: &args.engine,
        load: &args.load,
    };
    listed.shapes(|_, _| Ok(()))
}

/// Where threads and memory go, and an emulated controller beside them.
fn place(host: &Host, measuring: &Measuring, peer: Option<&CpuList>) -> Result<Placement> {
    let none = CpuList::default();
    let own = host.place_beside(measuring, peer.unwrap_or(&none), None)?;
    let one: CpuList = match peer {
        Some(given) => {
            host.check("--peer-cpus", given)?;
            if given.len() != 1 {
                return Err(Usage::error(format!(
                    "--peer-cpus {given}: the emulated controller polls with one thread; give one CPU"
                )));
            }
            given.clone()
        }
        None => host.choose_among(&host.allowed.cpus, 1, None, &own.cpus)?,
    };
    // Where only some of the threads share its CPU a warning stands beside the figure.
    if own.cpus == one {
        let next = if host.allowed.cpus.len() < 2 {
            "this process may use no other; allow it one (taskset, cpuset)"
        } else {
            "give it another by --cpus or --peer-cpus"
        };
        return Err(Usage::error(format!(
            "driver and emulated controller poll, and with both on CPU {one} each would wait for the end of the other's turn: {next}"
        )));
    }
    Ok(Placement {
        peer_cpus: one,
        ..own
    })
}

/// The same, of what is asked for.
pub(crate) fn placement(host: &Host, args: &NvmeArgs) -> Result<Placement> {
    let near = match &args.target {
        None => return place(host, &args.measuring, args.peer_cpus.as_ref()),
        Some(NvmeAt::Function(at)) => host.node_of(*at),
        // Where its threads run is the business of whoever started it.
        Some(_) => None,
    };
    host.place_beside(&args.measuring, &CpuList::default(), near)
}

/// Makes the target ready, and a cell and a job of each shape.
pub(crate) fn add(
    ready: &mut Ready,
    args: &NvmeArgs,
    shapes: &[Shape],
    host: &Host,
    session: &Session,
) -> Result<()> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or(path.clone());
    let way = match &args.target {
        Some(NvmeAt::Folder(folder)) => Way::Socket(absolute(folder)),
        Some(NvmeAt::Function(at)) => Way::Function(*at),
        Some(NvmeAt::Serial(serial)) => {
            return Err(anyhow!(
                "{serial} was not looked for; this is a bug of strata"
            ));
        }
        None => Way::Emulated {
            path: args.emulated.iter().flatten().next().map(absolute),
            no_data: args.no_data,
        },
    };
    let via = Via {
        way,
        namespace: args.namespace,
    };
    let part = Part {
        via,
        size: args.size,
        from: ByteOffset(args.offset.0),
        block: largest(&args.load.bs),
        smallest: args.load.bs.iter().copied().min().unwrap_or(BLOCK),
        writes: shapes.iter().any(|s| s.op.writes()),
        destroy: args.destroy.as_deref(),
        timeout: args.timeout.unwrap_or(TIMEOUT),
        made: None,
    }
    .making();
    let placement = placement(host, args)?;
    let near = (host, &placement);
    add_all(ready, &part, shapes, near, &args.measuring, session)
}

/// Makes a part of a namespace ready, and a cell and a job of each shape on it.
fn add_all(
    ready: &mut Ready,
    part: &Part<'_>,
    shapes: &[Shape],
    (host, placement): (&Host, &Placement),
    measuring: &Measuring,
    session: &Session,
) -> Result<()> {
    let target = prepare(&mut ready.controllers, part, placement, session)?;
    for shape in shapes {
        let cell = cell(host, &target, part, shape, placement, measuring)?;
        let job = job(
            host,
            &mut ready.controllers,
            &target,
            part,
            &cell,
            session.folder(),
        )?;
        ready.cells.push(cell);
        ready.jobs.push(job);
    }
    Ok(())
}

/// The cells of `run quick`: our driver on an emulated controller, which is at hand on any machine. The driver and the
/// controller poll, each on a CPU of its own; where there is but one CPU there is nothing to measure.
pub(crate) fn quick(
    ready: &mut Ready,
    host: &Host,
    session: &Session,
    measuring: &Measuring,
    largest: Bytes,
) -> Result<()> {
    if host.allowed.cpus.len() < 2 {
        session.say("SKIP nvme: driver and emulated controller poll, each on a CPU of its own, and this process may use one");
        return Ok(());
    }
    let part = Part {
        via: Via {
            way: Way::Emulated {
                path: None,
                no_data: false,
            },
            namespace: 1,
        },
        size: None,
        from: ByteOffset(0),
        block: largest,
        smallest: Bytes(4096),
        writes: false,
        destroy: None,
        timeout: TIMEOUT,
        made: None,
    }
    .making();
    let placement = place(host, measuring, None)?;
    let shapes = [
        (Op::RandRead, Bytes(4096), 1),
        (Op::RandRead, Bytes(4096), 32),
        (Op::Read, largest, 8),
    ];
    let shapes = shapes.map(|(op, bs, depth)| {
        Ok(Shape {
            engine: NvmeEngine::Native,
            op,
            bs,
            depth: QueueDepth::new(depth).map_err(|e| anyhow!(e))?,
            random_map: false,
            verify: false,
        })
    });
    let shapes: Vec<Shape> = shapes.into_iter().collect::<Result<_>>()?;
    let near = (host, &placement);
    add_all(ready, &part, &shapes, near, measuring, session)
}

/// The cell of a shape.
fn cell(
    host: &Host,
    target: &NvmeTarget,
    part: &Part<'_>,
    shape: &Shape,
    placement: &Placement,
    measuring: &Measuring,
) -> Result<Cell> {
    let (node, reality) = match (&part.via.way, target.controller.stands()?) {
        (_, Stands::Emulated | Stands::Null) => (None, Reality::Emulated),
        (Way::Function(at), Stands::Foreign) => {
            host.function(*at, &target.controller.identity().model)
        }
        // Whatever is behind a socket is a program.
        (_, Stands::Foreign) => (None, Reality::Software),
    };
    let region = target.for_blocks(shape.bs).region;
    Ok(Cell {
        layer: Layer::Nvme,
        engine: shape.engine.to_string(),
        reality,
        placement: placement.clone(),
        target: Target {
            kind: TargetKind::Drive,
            identity: identity(target, part)?,
            region_from_bytes: part.from,
            region_bytes: Some(region),
            node,
        },
        via: part.via.to_string(),
        timeout_ns: Some(part.timeout),
        sockets: None,
        verbs: None,
        binding: None,
        workload: strata_record::Workload {
            random_map: shape.random_map,
            verify: shape.verify,
            ..workload(shape.op, shape.bs, shape.depth, measuring)
        },
    })
}

/// The same as a cell of the kernel's path, by our driver.
pub(crate) fn past_the_kernel(cell: &Cell, function: PciAddress, namespace: u32) -> Cell {
    let way = Way::Function(function);
    Cell {
        layer: Layer::Nvme,
        engine: NvmeEngine::Native.to_string(),
        via: Via { way, namespace }.to_string(),
        timeout_ns: Some(TIMEOUT),
        binding: Some(Binding {
            function,
            driver: Driver::VfioPci,
        }),
        ..cell.clone()
    }
}

/// What tells the namespace from any other.
fn identity(target: &NvmeTarget, part: &Part<'_>) -> Result<String> {
    let of = target.controller.identity();
    let namespace = &target.namespace;
    let identity = namespace_identity(namespace.size, namespace.id.0, &of.model, &of.serial);
    Ok(identity + &modelled(target, &part.via.way)?)
}

/// What tells a controller with a model of its own from others: the model's text itself.
fn modelled(target: &NvmeTarget, way: &Way) -> Result<String> {
    let null = if target.moves {
        ""
    } else {
        ", which moves no data"
    };
    let Way::Emulated {
        path: Some(path), ..
    } = way
    else {
        return Ok(null.to_owned());
    };
    let text = std::fs::read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!(
        "{null}, as {name} ({:08x}) says",
        crc32fast::hash(&text)
    ))
}

/// The job of a cell.
fn job(
    host: &Host,
    controllers: &mut Controllers,
    target: &NvmeTarget,
    part: &Part<'_>,
    cell: &Cell,
    folder: &Path,
) -> Result<Box<dyn Job>> {
    let block = cell.workload.block_bytes;
    let job = NvmeJob::new(cell.clone(), target.for_blocks(block), part.timeout);
    let job = job.map_err(Usage::error)?;
    let (functions, bounds) = match &part.via.way {
        Way::Function(at) => (vec![*at], host.function_bounds(*at)),
        Way::Emulated { .. } | Way::Socket(_) => (Vec::new(), Nominal::default()),
    };
    let watch = WatchList {
        cpus: cell.placement.cpus.clone(),
        peer_cpus: cell.placement.peer_cpus.clone(),
        functions,
        ..WatchList::default()
    };
    let job = job.bounded(bounds);
    let job = job.with_ledger(folder.join(LEDGER)).watching(watch);
    let up = controllers.up(&part.via.way, part.made, &cell.placement.peer_cpus)?;
    Ok(Box::new(match up {
        Up::Emulated(it) => job.with_emulator(it.pid(), cell.placement.peer_cpus.clone()),
        Up::Reached(_) => job,
    }))
}
