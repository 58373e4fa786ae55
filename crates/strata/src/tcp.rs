//! `strata tcp`: cells of TCP between two processes of this machine.

use anyhow::{Context, Result};
use strata_measure::Job;
use strata_record::{Cell, Layer, Op, Reality};
use strata_tcp::TcpJob;
use strata_units::{Bytes, CpuList, QueueDepth};

use crate::block::workload;
use crate::cli::{Measuring, TcpArgs};
use crate::host::Host;
use crate::session::{Session, Target};
use crate::{End, Usage};

/// One shape of load on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) op: Op,
    pub(crate) bs: Bytes,
    pub(crate) depth: QueueDepth,
}

pub(crate) fn run(args: TcpArgs) -> Result<End> {
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
    let host = Host::read()?;
    let cells = cells(&host, &shapes, &args.measuring, args.peer_cpus.as_ref())?;
    let jobs = cells
        .iter()
        .map(|cell| job(&host, cell))
        .collect::<Result<_>>()?;
    let session = Session::begin("tcp", args.keeping, args.printing)?;
    session.run(cells, jobs, args.measuring.repeats, Target::own(None))
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
                workload: workload(shape.op, shape.bs, shape.depth, measuring, false),
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
    Ok(Box::new(job.watching(host.watch_loopback(&cell.placement))))
}
