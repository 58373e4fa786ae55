//! `strata tcp`: cells of TCP between two processes of this machine.

use anyhow::{Context, Result};
use strata_measure::Job;
use strata_record::{Cell, Layer, Op, Reality, Sockets};
use strata_tcp::TcpJob;
use strata_units::{Bytes, CpuList, QueueDepth};

use crate::block::workload;
use crate::cli::{Measuring, TcpArgs};
use crate::host::Host;
use crate::session::{Ready, Session};
use crate::{End, Usage};

/// One shape of load on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) op: Op,
    pub(crate) bs: Bytes,
    pub(crate) depth: QueueDepth,
}

pub(crate) fn run(args: TcpArgs) -> Result<End> {
    let shapes = shapes(&args)?;
    let host = Host::read()?;
    let mut ready = Ready::default();
    add(&mut ready, &args, &shapes, &host)?;
    let session = Session::begin("tcp", args.keeping, args.printing)?;
    session.run(ready, args.measuring.repeats)
}

/// A cell and a job a shape.
pub(crate) fn add(ready: &mut Ready, args: &TcpArgs, shapes: &[Shape], host: &Host) -> Result<()> {
    let cells = cells(host, shapes, &args.measuring, args.peer_cpus.as_ref())?;
    for cell in &cells {
        ready.jobs.push(job(host, cell)?);
    }
    ready.cells.extend(cells);
    Ok(())
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
        let sizes = if args.bs.is_empty() {
            vec![usual]
        } else {
            args.bs.clone()
        };
        for bs in sizes {
            for depth in &args.depth {
                let shape = Shape {
                    op: *op,
                    bs,
                    depth: *depth,
                };
                if !shapes.contains(&shape) {
                    shapes.push(shape);
                }
            }
        }
    }
    Ok(shapes)
}

/// A cell a shape.
pub(crate) fn cells(
    host: &Host,
    shapes: &[Shape],
    measuring: &Measuring,
    peer_cpus: Option<&CpuList>,
) -> Result<Vec<Cell>> {
    shapes
        .iter()
        .map(|shape| {
            Ok(Cell {
                layer: Layer::Tcp,
                engine: "tcp".to_owned(),
                reality: Reality::Software,
                target: host.loopback(),
                via: "127.0.0.1".to_owned(),
                sockets: Some(Sockets::default()),
                workload: workload(shape.op, shape.bs, shape.depth, measuring),
                placement: host.place(measuring, Some(peer_cpus), None)?,
            })
        })
        .collect()
}

/// The job of a cell; the other side is this program again.
pub(crate) fn job(host: &Host, cell: &Cell) -> Result<Box<dyn Job>> {
    let program =
        std::env::current_exe().context("cannot find this program to start the other side with")?;
    let job = TcpJob::new(cell.clone(), program, vec!["peer".to_owned()]).map_err(Usage::error)?;
    let watch = host.watch_loopback(&cell.placement);
    let bounds = host.wire_bounds(&watch);
    Ok(Box::new(job.watching(watch).bounded(bounds)))
}
