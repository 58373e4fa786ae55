//! `strata tcp`: cells of TCP between two processes, of this machine or of two.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow};
use strata_measure::{Job, JobError, Trial};
use strata_record::{
    Cell, Direction, Layer, Op, Placement, Reality, Sockets, StreamCandidate, StreamSweep, Target,
    TargetKind, Workload,
};
use strata_tcp::{Sweep, TcpEngine, TcpJob, interface_of, saturate, settable};
use strata_topology::WatchList;
use strata_units::{ByteOffset, Bytes, CpuList, QueueDepth};

use crate::block::workload;
use crate::cli::{Measuring, Streams, TcpArgs};
use crate::host::Host;
use crate::peer::{Peer, Remote};
use crate::session::{Ready, Session};
use crate::{End, Usage};

/// One shape of load on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) engine: TcpEngine,
    pub(crate) op: Op,
    pub(crate) bs: Bytes,
    pub(crate) reply: Option<Bytes>,
    pub(crate) depth: QueueDepth,
    pub(crate) direction: Option<Direction>,
    pub(crate) streams: Streams,
}

impl Shape {
    /// One connection that blocks, sending.
    pub(crate) fn plain(op: Op, bs: Bytes) -> Shape {
        Shape {
            engine: TcpEngine {
                spin: false,
                zerocopy: false,
            },
            op,
            bs,
            reply: None,
            depth: QueueDepth::ONE,
            direction: (op == Op::Stream).then_some(Direction::Send),
            streams: Streams::Number(1),
        }
    }
}

pub(crate) fn run(args: TcpArgs) -> Result<End> {
    let shapes = shapes(&args)?;
    let host = Host::read()?;
    let mut ready = Ready::default();
    // The other side is reached, and CPUs are checked, before a folder is made.
    let wire = Wire::of(&mut ready, &args)?;
    let cells = cells(&host, &wire, &shapes, &args)?;
    for sockets in cells.iter().filter_map(|cell| cell.sockets.as_ref()) {
        settable(sockets).map_err(Usage::error)?;
    }
    let session = Session::begin("tcp", args.keeping.clone(), args.printing.clone())?;
    add(&mut ready, cells, &wire, &shapes, &host, &session)?;
    session.run(ready, args.measuring.repeats)
}

/// Where the other side is.
pub(crate) enum Wire {
    /// A second process of this machine; over IPv6's loopback, or IPv4's.
    Loopback { ipv6: bool },
    /// Where `strata serve` runs.
    Peer(Arc<Peer>),
}

impl Wire {
    /// Reaches what the options name.
    pub(crate) fn of(ready: &mut Ready, args: &TcpArgs) -> Result<Wire> {
        Ok(match &args.peer {
            None => Wire::Loopback { ipv6: args.ipv6 },
            Some(name) => Wire::Peer(ready.peers.reach(name, args.key_file.as_deref())?),
        })
    }

    /// What the wire is as a target, what stands behind it, and how it is reached.
    fn target(&self, host: &Host) -> (Target, Reality, String) {
        let (identity, reality, via, node) = match self {
            Wire::Loopback { ipv6 } => {
                let address = if *ipv6 { "::1" } else { "127.0.0.1" };
                let identity = format!("lo of {}: {address} to {address}", host.name);
                (identity, Reality::Software, address.to_owned(), None)
            }
            Wire::Peer(peer) => {
                let ours = interface_of(peer.here).unwrap_or_else(|_| peer.here.to_string());
                let known = host.topology.interfaces.iter().find(|i| i.name == ours);
                let theirs = &peer.welcome;
                let there = theirs.environment.hostname.as_deref().unwrap_or("unnamed");
                let identity = format!(
                    "{ours} of {} to {} of {there}",
                    host.name,
                    theirs.interface.as_deref().unwrap_or("an interface")
                );
                let here = if peer.here.is_loopback() {
                    Reality::Software
                } else {
                    known
                        .and_then(|i| i.judgement.reality)
                        .unwrap_or(Reality::Unknown)
                };
                let node = known.and_then(|i| i.node);
                (
                    identity,
                    weaker(here, theirs.reality),
                    peer.name.clone(),
                    node,
                )
            }
        };
        let target = Target {
            kind: TargetKind::Wire,
            identity,
            region_from_bytes: ByteOffset(0),
            region_bytes: None,
            node,
        };
        (target, reality, via)
    }

    /// Where threads and memory go, on both sides.
    fn place(
        &self,
        host: &Host,
        measuring: &Measuring,
        peer_cpus: Option<&CpuList>,
        target: &Target,
    ) -> Result<Placement> {
        match self {
            Wire::Loopback { .. } => host.place(measuring, Some(peer_cpus), None),
            Wire::Peer(peer) => {
                let threads = usize::from(measuring.threads);
                let offered = &peer.welcome.cpus;
                let own = host.place(measuring, None, target.node)?;
                let chosen = match peer_cpus {
                    Some(given) if given.and(offered) != *given => {
                        return Err(Usage::error(format!(
                            "--peer-cpus {given}: {} offers CPUs {offered}",
                            peer.name
                        )));
                    }
                    Some(given) => given.clone(),
                    None => {
                        // On one machine the two sides stay apart if they can.
                        let apart = offered.without(&own.cpus);
                        let from = if peer.same_host && apart.len() >= threads {
                            &apart
                        } else {
                            offered
                        };
                        from.iter().take(threads).collect()
                    }
                };
                if chosen.len() != threads {
                    return Err(Usage::error(format!(
                        "{threads} threads need as many CPUs there, and {} has {chosen}; change --threads or --peer-cpus",
                        peer.name
                    )));
                }
                Ok(Placement {
                    peer_cpus: chosen,
                    ..own
                })
            }
        }
    }
}

/// The reality of what is made of two: that of the part that says least of a machine.
fn weaker(a: Reality, b: Reality) -> Reality {
    const ORDER: [Reality; 7] = [
        Reality::Unknown,
        Reality::Software,
        Reality::Memory,
        Reality::Emulated,
        Reality::Virtual,
        Reality::Passthrough,
        Reality::Hardware,
    ];
    ORDER
        .into_iter()
        .find(|r| *r == a || *r == b)
        .unwrap_or(Reality::Unknown)
}

/// The shapes that are asked for, each once.
pub(crate) fn shapes(args: &TcpArgs) -> Result<Vec<Shape>> {
    let mut shapes = Vec::new();
    for op in &args.op {
        let usual = match op {
            Op::ReqRep => Bytes(64),
            Op::Stream => Bytes::KIB * 128,
            other => {
                return Err(Usage::error(format!(
                    "--op {other} is none of the tcp layer; give reqrep or stream"
                )));
            }
        };
        if *op == Op::Stream && args.measuring.rate.is_some() {
            return Err(Usage::error(
                "--rate is of requests: a stream sends as much as passes; give --op reqrep",
            ));
        }
        let sizes = if args.bs.is_empty() {
            vec![usual]
        } else {
            args.bs.clone()
        };
        let directions: Vec<Option<Direction>> = match op {
            Op::Stream => args.direction.iter().copied().map(Some).collect(),
            _ => vec![None],
        };
        for bs in sizes {
            for depth in &args.depth {
                for direction in &directions {
                    for engine in &args.engine {
                        let shape = Shape {
                            engine: *engine,
                            op: *op,
                            bs,
                            reply: args.reply_bs.filter(|r| *op == Op::ReqRep && *r != bs),
                            depth: *depth,
                            direction: *direction,
                            streams: args.streams,
                        };
                        if !shapes.contains(&shape) {
                            shapes.push(shape);
                        }
                    }
                }
            }
        }
    }
    if args.streams == Streams::Auto && shapes.iter().any(|s| s.op != Op::Stream) {
        return Err(Usage::error(
            "--streams auto finds what saturates a stream; give --op stream, or a number",
        ));
    }
    Ok(shapes)
}

/// A cell a shape; one whose number of streams is to be found has all CPUs that may be used.
pub(crate) fn cells(
    host: &Host,
    wire: &Wire,
    shapes: &[Shape],
    args: &TcpArgs,
) -> Result<Vec<Cell>> {
    let sockets = |op| Sockets {
        nodelay: match (args.nagle, args.nodelay) {
            (true, _) => false,
            (_, true) => true,
            _ => Sockets::of(op).nodelay,
        },
        send_buffer_bytes: args.sndbuf,
        receive_buffer_bytes: args.rcvbuf,
        congestion: args.congestion.clone(),
        busy_poll_ns: args.busy_poll,
        interface: args.interface.clone(),
    };
    let mut measuring = args.measuring.clone();
    if args.streams == Streams::Auto {
        measuring.threads = most_threads(host, wire, args);
    }
    shapes
        .iter()
        .map(|shape| {
            cell(
                host,
                wire,
                shape,
                &measuring,
                &sockets(shape.op),
                args.peer_cpus.as_ref(),
            )
        })
        .collect()
}

/// How many threads each side may have: as many as CPUs are given, or half of this machine's where both sides are on it.
fn most_threads(host: &Host, wire: &Wire, args: &TcpArgs) -> u16 {
    let all = host.allowed.cpus.len();
    let (here, there) = match wire {
        Wire::Loopback { .. } => (all / 2, all / 2),
        Wire::Peer(peer) => (all, peer.welcome.cpus.len()),
    };
    let given = |list: &Option<CpuList>, own: usize| list.as_ref().map_or(own, CpuList::len);
    let most = given(&args.measuring.cpus, here).min(given(&args.peer_cpus, there));
    u16::try_from(most.max(1)).unwrap_or(u16::MAX)
}

pub(crate) fn cell(
    host: &Host,
    wire: &Wire,
    shape: &Shape,
    measuring: &Measuring,
    sockets: &Sockets,
    peer_cpus: Option<&CpuList>,
) -> Result<Cell> {
    let (target, reality, via) = wire.target(host);
    Ok(Cell {
        layer: Layer::Tcp,
        engine: shape.engine.to_string(),
        reality,
        placement: wire.place(host, measuring, peer_cpus, &target)?,
        target,
        via,
        sockets: Some(sockets.clone()),
        workload: Workload {
            reply_bytes: shape.reply,
            direction: shape.direction,
            streams: match shape.streams {
                Streams::Number(n) => n,
                Streams::Auto => 1,
            },
            ..workload(shape.op, shape.bs, shape.depth, measuring)
        },
    })
}

/// Adds the cells and their jobs; numbers of streams that are to be found are found first.
pub(crate) fn add(
    ready: &mut Ready,
    cells: Vec<Cell>,
    wire: &Wire,
    shapes: &[Shape],
    host: &Host,
    session: &Session,
) -> Result<()> {
    if let Wire::Peer(peer) = wire {
        ready.machine(&peer.welcome.environment);
    }
    for (cell, shape) in cells.into_iter().zip(shapes) {
        let cell = match shape.streams {
            Streams::Number(_) => cell,
            Streams::Auto => {
                let (cell, sweep) = saturated(host, wire, &cell, session)?;
                ready.sweeps.push(sweep);
                cell
            }
        };
        ready.jobs.push(job(host, wire, &cell)?);
        ready.cells.push(cell);
    }
    Ok(())
}

/// The cell with as many threads and connections as saturate the path.
fn saturated(
    host: &Host,
    wire: &Wire,
    cell: &Cell,
    session: &Session,
) -> Result<(Cell, StreamSweep)> {
    let of = cell.label();
    let sweep = Sweep {
        seed: session.seed(),
        ..Sweep::default()
    };
    session.say(&format!(
        "{of}: looking for the number of streams that saturates the path, at least {}",
        sweep.takes(cell)
    ));
    let interrupted: &AtomicBool = session.interrupted();
    let found = saturate(cell, &sweep, |cell, seed| {
        let mut job = job(host, wire, cell).map_err(|e| format!("{e:#}"))?;
        let done = job.run(&Trial { seed, interrupted }).map_err(|e| match e {
            JobError::Interrupted => "interrupted".to_owned(),
            e => e.to_string(),
        })?;
        match done.failed {
            Some(why) => Err(why),
            None => Ok(done.measured.bytes_per_s.unwrap_or(0.0)),
        }
    });
    if interrupted.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(crate::interrupt::Stopped.into());
    }
    let found = found.map_err(|e| anyhow!("--streams auto: {e}"))?;
    let chosen = found
        .candidates
        .get(found.chosen)
        .ok_or_else(|| anyhow!("--streams auto: nothing was chosen; this is a bug of strata"))?;
    session.say(&format!(
        "{of}: {} streams, {} threads of {}{}",
        chosen.streams(),
        chosen.threads,
        chosen.connections,
        if found.sure {
            ""
        } else {
            "; whether more bring more, the sweep could not tell"
        }
    ));
    let candidates = found
        .candidates
        .iter()
        .map(|c| StreamCandidate {
            threads: c.threads,
            streams: c.connections,
            bytes_per_s: c.bytes_per_s.clone(),
        })
        .collect();
    let record = StreamSweep {
        of,
        candidates,
        chosen: found.chosen,
        sure: found.sure,
    };
    Ok((chosen.cell(cell), record))
}

/// The job of a cell; over loopback the other side is this program again.
pub(crate) fn job(host: &Host, wire: &Wire, cell: &Cell) -> Result<Box<dyn Job>> {
    let (cpus, theirs) = (
        cell.placement.cpus.clone(),
        cell.placement.peer_cpus.clone(),
    );
    match wire {
        Wire::Loopback { .. } => {
            let program = std::env::current_exe()
                .context("cannot find this program to start the other side with")?;
            let watch = WatchList::of_interface(&host.topology, "lo", cpus, theirs);
            let job = TcpJob::new(cell.clone(), program, vec!["peer".to_owned()])
                .map_err(Usage::error)?;
            Ok(Box::new(job.watching(watch)))
        }
        Wire::Peer(peer) => {
            let job =
                TcpJob::reaching(cell.clone(), Remote(Arc::clone(peer))).map_err(Usage::error)?;
            let Ok(name) = interface_of(peer.here) else {
                return Ok(Box::new(job));
            };
            // Over loopback the other side watches nothing: this one does.
            let watched = if peer.here.is_loopback() {
                theirs
            } else {
                CpuList::default()
            };
            let watch = WatchList::of_interface(&host.topology, &name, cpus, watched);
            let bounds = host.wire_bounds(&watch);
            Ok(Box::new(job.watching(watch).bounded(bounds)))
        }
    }
}
