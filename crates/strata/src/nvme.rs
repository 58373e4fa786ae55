//! `strata nvme`: cells of NVMe queue pairs polled from user space.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use strata_measure::Job;
use strata_memory::memory_available;
use strata_nvme::{
    Controller, NvmeEngine, NvmeJob, NvmeTarget, Options, Stands, VfioUser, Wanted, Whose,
};
use strata_nvme_spec::NamespaceId;
use strata_record::{Cell, Layer, Op, Placement, Reality, Target, TargetKind};
use strata_topology::WatchList;
use strata_units::{ByteOffset, Bytes, CpuList, Nanos, QueueDepth};

use crate::block::{LEDGER, workload};
use crate::cli::{Measuring, NvmeArgs};
use crate::emulated::{Emulated, Model};
use crate::host::Host;
use crate::session::{Ready, Session};
use crate::shapes::Listed;
use crate::{End, Usage};

/// The namespace of an emulated controller that is made for a run and keeps data: more than any cache, and filled in a moment.
const SIZE: Bytes = Bytes(256 << 20);

/// How long a command may take before it is aborted, when nothing is said.
pub(crate) const TIMEOUT: Nanos = Nanos(5_000_000_000);

/// One shape of load on the target.
pub(crate) type Shape = crate::shapes::Shape<NvmeEngine>;

/// How a controller is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// One of the run's own, emulated: its model's file, and whether it only answers.
    Emulated {
        path: Option<PathBuf>,
        no_data: bool,
    },
    /// One behind a socket in this folder.
    Socket(PathBuf),
}

/// A namespace of a controller, as records have it: `emulated#1`, `emulated,no-data:/path/model.toml#1`,
/// `vfio-user:/path#1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Via {
    pub(crate) way: Way,
    pub(crate) namespace: u32,
}

const EMULATED: &str = "emulated";
const NO_DATA: &str = "emulated,no-data";
const SOCKET: &str = "vfio-user:";

impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Emulated { path, no_data } => {
                f.write_str(if *no_data { NO_DATA } else { EMULATED })?;
                if let Some(path) = path {
                    write!(f, ":{}", path.display())?;
                }
            }
            Way::Socket(folder) => write!(f, "{SOCKET}{}", folder.display())?,
        }
        write!(f, "#{}", self.namespace)
    }
}

impl std::str::FromStr for Via {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Via> {
        let wrong = || anyhow!("`{text}` is no way to a controller");
        let (way, namespace) = text.rsplit_once('#').ok_or_else(wrong)?;
        let path = |rest: &str| match rest.strip_prefix(':') {
            Some(path) => Ok(Some(PathBuf::from(path))),
            None if rest.is_empty() => Ok(None),
            None => Err(wrong()),
        };
        let way = if let Some(folder) = way.strip_prefix(SOCKET) {
            Way::Socket(PathBuf::from(folder))
        } else {
            let (rest, no_data) = match way.strip_prefix(NO_DATA) {
                Some(rest) => (rest, true),
                None => (way.strip_prefix(EMULATED).ok_or_else(wrong)?, false),
            };
            Way::Emulated {
                path: path(rest)?,
                no_data,
            }
        };
        Ok(Via {
            way,
            namespace: namespace.parse().map_err(|_| wrong())?,
        })
    }
}

/// The controllers of a session, each brought up once. The emulated ones end with it.
#[derive(Default)]
pub(crate) struct Controllers(BTreeMap<(Way, Option<Bytes>, CpuList), Up>);

/// A controller that is up.
enum Up {
    Emulated(Emulated),
    Reached(Arc<Controller>),
}

impl Up {
    fn controller(&self) -> &Arc<Controller> {
        match self {
            Up::Emulated(it) => &it.controller,
            Up::Reached(it) => it,
        }
    }
}

impl Controllers {
    /// The controller of a way, brought up if it was not; `size` is that of an emulated one's namespace, `cpus` its CPU.
    fn up(&mut self, way: &Way, size: Option<Bytes>, cpus: &CpuList) -> Result<&Up> {
        let key = (way.clone(), size, cpus.clone());
        if !self.0.contains_key(&key) {
            let up = match way {
                Way::Emulated { path, no_data } => {
                    let model = Model {
                        path: path.clone(),
                        no_data: *no_data,
                        size,
                    };
                    let cpu = cpus.iter().next();
                    let cpu = cpu.ok_or_else(|| anyhow!("no CPU for the emulated controller"))?;
                    Up::Emulated(Emulated::start(&model, cpu)?)
                }
                Way::Socket(folder) => {
                    let options = Options::default();
                    let carrier = VfioUser::connect(folder, options.register_patience)?;
                    Up::Reached(Controller::open(Box::new(carrier), &options)?)
                }
            };
            self.0.insert(key.clone(), up);
        }
        self.0
            .get(&key)
            .ok_or_else(|| anyhow!("a controller is missing; this is a bug of strata"))
    }
}

pub(crate) fn run(args: NvmeArgs) -> Result<End> {
    let shapes = shapes(&args)?;
    let host = Host::read()?;
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
            "no controller is named; give --emulated, or --target with the folder of a vfio-user socket",
        ));
    }
    let largest = largest(&args.bs);
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
        op: &args.op,
        bs: &args.bs,
        depth: &args.depth,
        random_map: args.random_map,
        verify: args.verify,
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
    if args.target.is_some() {
        // Where its threads run is the business of whoever started it.
        return host.place_beside(&args.measuring, &CpuList::default(), None);
    }
    place(host, &args.measuring, args.peer_cpus.as_ref())
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
        Some(folder) => Way::Socket(absolute(folder)),
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
        block: largest(&args.bs),
        smallest: args.bs.iter().copied().min().unwrap_or(BLOCK),
        writes: shapes.iter().any(|s| s.op.writes()),
        destroy: args.destroy.as_deref(),
        timeout: args.timeout.unwrap_or(TIMEOUT),
        made: None,
    }
    .making();
    let placement = placement(host, args)?;
    let target = prepare(&mut ready.controllers, &part, &placement, session)?;
    for shape in shapes {
        let cell = cell(&target, &part, shape, &placement, &args.measuring)?;
        let job = job(
            &mut ready.controllers,
            &target,
            &part,
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
    let target = prepare(&mut ready.controllers, &part, &placement, session)?;
    for (op, bs, depth) in [
        (Op::RandRead, Bytes(4096), 1),
        (Op::RandRead, Bytes(4096), 32),
        (Op::Read, largest, 8),
    ] {
        let shape = Shape {
            engine: NvmeEngine::Native,
            op,
            bs,
            depth: QueueDepth::new(depth).map_err(|e| anyhow!(e))?,
            random_map: false,
            verify: false,
        };
        let cell = cell(&target, &part, &shape, &placement, measuring)?;
        let job = job(
            &mut ready.controllers,
            &target,
            &part,
            &cell,
            session.folder(),
        )?;
        ready.cells.push(cell);
        ready.jobs.push(job);
    }
    Ok(())
}

/// A part of a namespace, and what is to be done to it.
pub(crate) struct Part<'a> {
    pub(crate) via: Via,
    /// Of the region.
    pub(crate) size: Option<Bytes>,
    /// Of an emulated controller's first namespace; as its model says when none.
    pub(crate) made: Option<Bytes>,
    pub(crate) from: ByteOffset,
    /// The largest and the smallest operation.
    pub(crate) block: Bytes,
    pub(crate) smallest: Bytes,
    pub(crate) writes: bool,
    pub(crate) destroy: Option<&'a str>,
    pub(crate) timeout: Nanos,
}

impl Part<'_> {
    /// The same, with the size that a namespace of a new run is made with.
    fn making(self) -> Self {
        let made = match (&self.via.way, self.size) {
            (Way::Socket(_), _) => None,
            // The others are as the model says.
            _ if self.via.namespace != 1 => None,
            (_, Some(size)) => {
                let block = self.block.0.max(1);
                let end = (size.0 / block * block).saturating_add(self.from.0);
                // An offset within a block is refused, and not the size that would come of it.
                Some(Bytes(end.checked_next_multiple_of(block).unwrap_or(end)))
            }
            (
                Way::Emulated {
                    path: None,
                    no_data: false,
                },
                None,
            ) => Some(SIZE),
            (Way::Emulated { .. }, None) => None,
        };
        Part { made, ..self }
    }
}

/// Brings the controller up, if it is not, and looks at the namespace.
pub(crate) fn prepare(
    controllers: &mut Controllers,
    part: &Part<'_>,
    placement: &Placement,
    session: &Session,
) -> Result<NvmeTarget> {
    let up = controllers.up(&part.via.way, part.made, &placement.peer_cpus)?;
    let name = part.via.to_string();
    if let Up::Emulated(it) = up
        && let Some(held) = it.held(part.via.namespace)
    {
        let room = Bytes(held.size.0.saturating_sub(part.from.0));
        let region = part.size.unwrap_or(room);
        // It takes pages as they are filled, until the kernel ends somebody for them.
        if held.in_memory
            && let Some(available) = memory_available()
            && available < region
        {
            let available = Bytes(available.0 >> 20 << 20);
            return Err(Usage::error(format!(
                "{name} would be filled with {region} of memory, and {available} are available; give a smaller --size, or --no-data"
            )));
        }
        session.say(&format!("filling {name} with {region}"));
    }
    let wanted = Wanted {
        namespace: NamespaceId(part.via.namespace),
        size: part.size,
        from: part.from,
        block: part.block,
        smallest: part.smallest,
        writes: part.writes,
        whose: match part.via.way {
            Way::Emulated { .. } => Whose::Ours,
            Way::Socket(_) => Whose::Theirs(part.destroy),
        },
        seed: session.seed(),
    };
    NvmeTarget::prepare(up.controller(), &name, &wanted, session.interrupted()).map_err(|e| {
        if e.is_usage() {
            Usage::error(e)
        } else {
            e.into()
        }
    })
}

/// The cell of a shape.
pub(crate) fn cell(
    target: &NvmeTarget,
    part: &Part<'_>,
    shape: &Shape,
    placement: &Placement,
    measuring: &Measuring,
) -> Result<Cell> {
    let stands = target.controller.stands()?;
    let region = target.for_blocks(shape.bs).region;
    Ok(Cell {
        layer: Layer::Nvme,
        engine: shape.engine.to_string(),
        reality: match stands {
            Stands::Emulated | Stands::Null => Reality::Emulated,
            // Whatever is behind a socket is a program.
            Stands::Foreign => Reality::Software,
        },
        placement: placement.clone(),
        target: Target {
            kind: TargetKind::Drive,
            identity: identity(target, part)?,
            region_from_bytes: part.from,
            region_bytes: Some(region),
            node: None,
        },
        via: part.via.to_string(),
        sockets: None,
        workload: strata_record::Workload {
            random_map: shape.random_map,
            verify: shape.verify,
            ..workload(shape.op, shape.bs, shape.depth, measuring)
        },
    })
}

/// What tells the namespace from any other.
fn identity(target: &NvmeTarget, part: &Part<'_>) -> Result<String> {
    let of = target.controller.identity();
    Ok(format!(
        "{} namespace {} of {} {}{}",
        target.namespace.size,
        target.namespace.id,
        of.model.trim(),
        of.serial.trim(),
        modelled(target, &part.via.way)?
    ))
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
pub(crate) fn job(
    controllers: &mut Controllers,
    target: &NvmeTarget,
    part: &Part<'_>,
    cell: &Cell,
    folder: &Path,
) -> Result<Box<dyn Job>> {
    let block = cell.workload.block_bytes;
    let job = NvmeJob::new(cell.clone(), target.for_blocks(block), part.timeout);
    let job = job.map_err(Usage::error)?;
    let watch = WatchList {
        cpus: cell.placement.cpus.clone(),
        peer_cpus: cell.placement.peer_cpus.clone(),
        ..WatchList::default()
    };
    let job = job.with_ledger(folder.join(LEDGER)).watching(watch);
    let up = controllers.up(&part.via.way, part.made, &cell.placement.peer_cpus)?;
    Ok(Box::new(match up {
        Up::Emulated(it) => job.with_emulator(it.pid(), cell.placement.peer_cpus.clone()),
        Up::Reached(_) => job,
    }))
}

/// The jobs of the nvme cells of a run that is gone on with, in their order. A run goes on with the target that it was begun
/// with, or not at all.
pub(crate) fn again(
    session: &Session,
    controllers: &mut Controllers,
    cells: &[&Cell],
    destroy: Option<&str>,
) -> Result<Vec<Box<dyn Job>>> {
    let mut jobs = Vec::new();
    let mut held: BTreeMap<_, NvmeTarget> = BTreeMap::new();
    // Cells of one table: of one namespace from one place on, with the controller on one CPU.
    let table = |c: &Cell| {
        (
            c.via.clone(),
            c.target.identity.clone(),
            c.target.region_from_bytes,
            c.placement.peer_cpus.clone(),
        )
    };
    for cell in cells {
        let from = cell.target.region_from_bytes;
        let key = table(cell);
        let on_it = || cells.iter().filter(|c| table(c) == key);
        let sizes = || on_it().map(|c| c.workload.block_bytes);
        let part = Part {
            via: cell.via.parse()?,
            size: on_it().filter_map(|c| c.target.region_bytes).max(),
            from,
            block: sizes().max().unwrap_or(Bytes(4096)),
            smallest: sizes().min().unwrap_or(Bytes(4096)),
            writes: on_it().any(|c| c.workload.op.writes()),
            destroy,
            timeout: TIMEOUT,
            made: made_again(cell)?,
        };
        if !held.contains_key(&key) {
            let target = prepare(controllers, &part, &cell.placement, session)?;
            held.insert(key.clone(), target);
        }
        let Some(target) = held.get(&key) else {
            continue;
        };
        let found = identity(target, &part)?;
        if found != cell.target.identity {
            return Err(Usage::error(format!(
                "{} is now {found}, and the run was begun on {}; put that in its place, or begin a new run",
                cell.via, cell.target.identity
            )));
        }
        jobs.push(job(controllers, target, &part, cell, session.folder())?);
    }
    Ok(jobs)
}

/// The size that an emulated controller's first namespace was made with: what its identity begins with.
fn made_again(cell: &Cell) -> Result<Option<Bytes>> {
    let via: Via = cell.via.parse()?;
    let first = matches!(via.way, Way::Emulated { .. }) && via.namespace == 1;
    let size = cell.target.identity.split(' ').next().unwrap_or_default();
    Ok(if first { size.parse().ok() } else { None })
}
