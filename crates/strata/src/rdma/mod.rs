//! `strata rdma`: cells of RDMA verbs between two processes, and the RDMA devices of this machine.

mod ceiling;
mod list;
pub(crate) mod rails;
mod wrong;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use strata_measure::Job;
use strata_rdma::{RdmaJob, VerbsEngine};
use strata_record::{
    Cell, Direction, Layer, Op, RdmaEnd, Reality, Target, TargetKind, Verbs, Workload,
};
use strata_topology::{Topology, WatchList};
use strata_units::{ByteOffset, Bytes, CpuList, QueueDepth};

use crate::block::workload;
use crate::cli::{RdmaArgs, RdmaCommand};
use crate::host::Host;
use crate::peer::{Peers, Remote};
use crate::session::{Ready, Session};
use crate::tcp::{Wire, weaker};
use crate::{End, Usage};

use rails::{Ports, Rails, Said, offers, rails};

/// How a cell's other side is called that is a process of our own.
const HERE: &str = "this machine";

/// One shape of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    engine: VerbsEngine,
    op: Op,
    bs: Bytes,
    depth: QueueDepth,
    direction: Option<Direction>,
}

pub(crate) fn run(args: RdmaArgs) -> Result<End> {
    if let Some(RdmaCommand::List(args)) = &args.command {
        return list::run(args);
    }
    let shapes = shapes(&args)?;
    let host = Host::read()?;
    let mut ready = Ready::default();
    // The other side is reached, and ports and CPUs are checked, before a folder is made.
    let wire = wire(&mut ready.peers, &args)?;
    let cells = cells(&host, &wire, &shapes, &args)?;
    let session = Session::begin("rdma", args.keeping.clone(), args.printing.clone())?;
    add(&mut ready, cells, &wire, &host)?;
    session.run(ready, args.measuring.repeats)
}

/// Reaches what the options name.
pub(crate) fn wire(peers: &mut Peers, args: &RdmaArgs) -> Result<Wire> {
    Ok(match &args.peer {
        None => Wire::Loopback { ipv6: false },
        Some(name) => Wire::Peer(peers.reach(name, args.key_file.as_deref())?),
    })
}

/// The shapes that are asked for, each once.
pub(crate) fn shapes(args: &RdmaArgs) -> Result<Vec<Shape>> {
    let mut shapes = Vec::new();
    for op in &args.op {
        if !op.is_rdma() {
            return Err(Usage::error(format!(
                "--op {op} is none of the rdma layer; give write, write-imm, read, send, fetch-add, write-pingpong, write-imm-pingpong or send-pingpong"
            )));
        }
        if !args.direction.is_empty() && op.is_pingpong() {
            return Err(Usage::error(format!(
                "--direction: {op} goes both ways; leave it out, or give another --op"
            )));
        }
        let sizes: Vec<Bytes> = match args.bs[..] {
            [] if *op == Op::FetchAdd => vec![Bytes(8)],
            [] if op.is_pingpong() => vec![Bytes(64)],
            [] => vec![Bytes::KIB * 64],
            _ => args.bs.iter().flat_map(|sizes| sizes.each()).collect(),
        };
        let directions: Vec<Option<Direction>> = match args.direction[..] {
            _ if op.is_pingpong() => vec![None],
            [] => vec![Some(Direction::Send)],
            _ => args.direction.iter().copied().map(Some).collect(),
        };
        for bs in sizes {
            for depth in &args.depth {
                for direction in &directions {
                    for engine in &args.engine {
                        let shape = Shape {
                            engine: *engine,
                            op: *op,
                            bs,
                            depth: *depth,
                            direction: *direction,
                        };
                        if !shapes.contains(&shape) {
                            shapes.push(shape);
                        }
                    }
                }
            }
        }
    }
    Ok(shapes)
}

/// A cell a shape.
pub(crate) fn cells(
    host: &Host,
    wire: &Wire,
    shapes: &[Shape],
    args: &RdmaArgs,
) -> Result<Vec<Cell>> {
    let rails = rails_of(host, wire, args)?;
    let (target, reality, via) = target(host, wire, &rails);
    let placement = wire.place(host, &args.measuring, args.peer_cpus.as_ref(), &target)?;
    let verbs = |op| Verbs {
        transport: args.transport,
        connect: args.connect,
        mtu_bytes: args.mtu,
        inline_bytes: args.inline.unwrap_or(Verbs::inlined(op)),
        batch: args.batch,
        signal_every: args.signal_every,
        relaxed_ordering: args.relaxed_ordering,
        reads: args.reads,
        pkey_index: args.pkey_index,
        service_level: args.service_level,
        traffic_class: args.traffic_class,
        timeout: args.qp_timeout,
        retries: args.retries,
        rnr_retries: args.rnr_retries,
        ..Verbs::over(rails.all.clone())
    };
    let cells: Vec<Cell> = shapes
        .iter()
        .map(|shape| Cell {
            layer: Layer::Rdma,
            engine: shape.engine.to_string(),
            reality,
            placement: placement.clone(),
            target: target.clone(),
            via: via.clone(),
            timeout_ns: None,
            sockets: None,
            verbs: Some(verbs(shape.op)),
            binding: None,
            workload: Workload {
                direction: shape.direction,
                streams: args.qps,
                verify: args.verify,
                ..workload(shape.op, shape.bs, shape.depth, &args.measuring)
            },
        })
        .collect();
    Ok(cells)
}

/// The ports of both sides.
fn rails_of(host: &Host, wire: &Wire, args: &RdmaArgs) -> Result<Rails> {
    match wire {
        Wire::Loopback { .. } => {
            let all = offers(&host.topology, None);
            let ports = Ports {
                of: HERE,
                offers: &all,
                interface: None,
            };
            rails(&ports, &ports, Said::by(args).on_one_machine())
        }
        Wire::Peer(peer) => {
            let all = offers(&host.topology, Some(peer.here));
            let interface = strata_tcp::interface_of(peer.here).ok();
            let ours = Ports {
                of: HERE,
                offers: &all,
                interface: interface.as_deref(),
            };
            let theirs = Ports {
                of: &peer.name,
                offers: &peer.welcome.rdma,
                interface: peer.welcome.interface.as_deref(),
            };
            rails(&ours, &theirs, Said::by(args))
        }
    }
}

/// What the rails are as a target, what stands behind them, and how the other side is reached. Ports are named by their
/// interfaces, so that what TCP and verbs do over one wire is of one target.
fn target(host: &Host, wire: &Wire, rails: &Rails) -> (Target, Reality, String) {
    let (there, via) = match wire {
        Wire::Loopback { .. } => (host.name.as_str(), HERE.to_owned()),
        Wire::Peer(peer) => {
            let name = peer.welcome.environment.hostname.as_deref();
            (name.unwrap_or("unnamed"), peer.name.clone())
        }
    };
    let names: Vec<String> = rails
        .names
        .iter()
        .map(|(ours, theirs)| format!("{ours} of {} to {theirs} of {there}", host.name))
        .collect();
    let reality = rails.realities.iter().copied().reduce(weaker);
    let target = Target {
        kind: TargetKind::Wire,
        identity: names.join(" and "),
        region_from_bytes: ByteOffset(0),
        region_bytes: None,
        node: rails.node,
    };
    (target, reality.unwrap_or(Reality::Unknown), via)
}

/// Adds the cells and their jobs.
pub(crate) fn add(ready: &mut Ready, cells: Vec<Cell>, wire: &Wire, host: &Host) -> Result<()> {
    if let Wire::Peer(peer) = wire {
        ready.machine(&peer.welcome.environment);
    }
    for cell in cells {
        ready.jobs.push(job(host, wire, &cell)?);
        ready.cells.push(cell);
    }
    Ok(())
}

/// The job of a cell; without a peer the other side is this program again.
fn job(host: &Host, wire: &Wire, cell: &Cell) -> Result<Box<dyn Job>> {
    let verbs = cell
        .verbs
        .as_ref()
        .context("a cell of the rdma layer has no queue pairs; this is a bug of strata")?;
    let ours: Vec<RdmaEnd> = verbs.rails.iter().map(|rail| rail.ours.clone()).collect();
    let nominal = ceiling::of(host, cell, verbs);
    let (cpus, theirs) = (
        cell.placement.cpus.clone(),
        cell.placement.peer_cpus.clone(),
    );
    match wire {
        Wire::Loopback { .. } => {
            let program = std::env::current_exe()
                .context("cannot find this program to start the other side with")?;
            let local = strata_peer::Local {
                program,
                arguments: vec!["peer".to_owned()],
                ipv6: false,
            };
            let watch = watch(&host.topology, &ours, cpus, theirs);
            let job = RdmaJob::reaching(cell.clone(), local).map_err(Usage::error)?;
            Ok(Box::new(job.watching(watch).bounded(nominal)))
        }
        Wire::Peer(peer) => {
            let watched = if peer.here.is_loopback() {
                theirs
            } else {
                CpuList::default()
            };
            let watch = watch(&host.topology, &ours, cpus, watched);
            let job = RdmaJob::reaching(cell.clone(), Remote(Arc::clone(peer)));
            let job = job.map_err(Usage::error)?;
            Ok(Box::new(job.watching(watch).bounded(nominal)))
        }
    }
}

/// What is watched of a host whose ports these are.
pub(crate) fn watch(
    topology: &Topology,
    ends: &[RdmaEnd],
    cpus: CpuList,
    peer_cpus: CpuList,
) -> WatchList {
    let each = ends.iter().map(|end| {
        let none = CpuList::default;
        WatchList::of_port(topology, &end.device, end.port.into(), none(), none())
    });
    let all = each.reduce(WatchList::and).unwrap_or_default();
    WatchList {
        cpus,
        peer_cpus,
        ..all
    }
}

/// The job of a cell of a run that is gone on with: over the wire that it was begun on, which must be there as it was.
pub(crate) fn again(
    host: &Host,
    peers: &mut Peers,
    cell: &Cell,
    key_file: Option<&Path>,
) -> Result<Box<dyn Job>> {
    let wire = if cell.via == HERE {
        Wire::Loopback { ipv6: false }
    } else {
        Wire::Peer(peers.reach(&cell.via, key_file)?)
    };
    job(host, &wire, cell)
}
