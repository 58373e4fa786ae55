//! A run that is gone on with.

use std::collections::BTreeMap;

use anyhow::Result;
use strata_measure::Job;
use strata_nvme::NvmeTarget;
use strata_record::Cell;
use strata_units::Bytes;

use super::{Controllers, Part, TIMEOUT, Via, Way, identity, job, prepare};
use crate::Usage;
use crate::host::Host;
use crate::session::Desk;

/// The jobs of the nvme cells of a run that is gone on with, in their order. A run goes on with the target that it was begun
/// with, or not at all.
pub(crate) fn again(
    host: &Host,
    desk: &Desk,
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
            timeout: cell.timeout_ns.unwrap_or(TIMEOUT),
            made: made_again(cell)?,
        };
        if !held.contains_key(&key) {
            let target = prepare(controllers, &part, &cell.placement, desk)?;
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
        jobs.push(job(host, controllers, target, &part, cell, desk.folder())?);
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
