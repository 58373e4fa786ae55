//! The answer of a run in a sentence or two.

use std::collections::BTreeSet;

use strata_record::{Estimate, Layer, Summary, Verdict};
use strata_units::show;

use crate::cells::CellDetail;
use crate::contrasts::ContrastDetail;
use crate::words::in_unit;
use crate::{Factor, Response};

/// What the ratios say, those of layers first, then the most that each layer did.
pub(crate) fn answer(
    summary: &Summary,
    cells: &[CellDetail<'_>],
    details: &[ContrastDetail],
) -> String {
    let mut said: Vec<String> = [Factor::Layer, Factor::Engine, Factor::Depth]
        .into_iter()
        .filter_map(|factor| headline(summary, details, cells, factor))
        .collect();
    let layers: BTreeSet<Layer> = cells.iter().map(|c| c.cell.layer).collect();
    let most: Vec<String> = layers
        .iter()
        .filter_map(|layer| most(*layer, summary, cells))
        .collect();
    if !most.is_empty() {
        said.push(format!("Most measured: {}.", most.join("; ")));
    }
    let offered: Vec<String> = layers
        .iter()
        .filter_map(|layer| least_when_offered(*layer, summary, cells))
        .collect();
    if !offered.is_empty() {
        said.push(format!(
            "Least mean latency at a rate that was offered: {}.",
            offered.join("; ")
        ));
    }
    if most.is_empty() && offered.is_empty() {
        return "No figure: every trial was skipped, failed or left out.".to_owned();
    }
    said.join(" ")
}

/// The ratio of rates that this factor makes where it is told most of: for layers and engines at the least depth, for depths
/// over the widest step. Where every rate was offered, the ratio of mean latencies.
fn headline(
    summary: &Summary,
    details: &[ContrastDetail],
    cells: &[CellDetail<'_>],
    factor: Factor,
) -> Option<String> {
    let weight = |d: &ContrastDetail| {
        let workload = |at: usize| &cells[at].cell.workload;
        let depth = |at: usize| i32::from(workload(at).depth.get());
        let step = match factor {
            Factor::Layer | Factor::Engine => -depth(d.cells.1),
            Factor::Depth => depth(d.cells.1) - depth(d.cells.0),
        };
        let (closed, told_by) = match workload(d.cells.0).rate {
            None => (true, Response::OpsPerS),
            Some(_) => (false, Response::Mean),
        };
        (d.factor == factor && d.response == told_by).then_some((closed, step))
    };
    let greatest = details.iter().filter_map(weight).max()?;
    let first = details.iter().position(|d| weight(d) == Some(greatest))?;
    let (at, beside) = match factor {
        Factor::Layer => nearest(summary, details, cells, first),
        Factor::Engine | Factor::Depth => (first, String::new()),
    };
    let detail = details.get(at)?;
    let (base, other) = (&cells[detail.cells.0].cell, &cells[detail.cells.1].cell);
    // A verdict names the two; that there is none does not.
    let between = match (summary.contrasts.get(at)?.verdict, factor) {
        (Verdict::CannotTell, Factor::Layer) => format!(", {} and {}", other.means(), base.means()),
        (Verdict::CannotTell, Factor::Engine) => format!(", {} and {}", other.engine, base.engine),
        (Verdict::CannotTell, Factor::Depth) => {
            format!(
                ", depths {} and {}",
                other.workload.depth, base.workload.depth
            )
        }
        _ => String::new(),
    };
    let layer = match factor {
        Factor::Layer => String::new(),
        Factor::Engine | Factor::Depth => format!("{} ", base.layer),
    };
    Some(format!(
        "{layer}{} ({}){between}: {}{beside}.",
        detail.shared, base.reality, detail.claim
    ))
}

/// Of the ratios of one cell to the engines of the kernel's layer that to the best of them, so that what going past the
/// kernel brings is not told against an engine that nobody would take; and how many there are.
fn nearest(
    summary: &Summary,
    details: &[ContrastDetail],
    cells: &[CellDetail<'_>],
    first: usize,
) -> (usize, String) {
    let like = &details[first];
    let rivals: Vec<(usize, f64)> = details
        .iter()
        .zip(&summary.contrasts)
        .enumerate()
        .filter(|(_, (d, _))| {
            (d.factor, d.response, d.cells.1) == (like.factor, like.response, like.cells.1)
        })
        .map(|(at, (d, contrast))| {
            // Of latencies the best is that to which the ratio is greatest.
            let gain = match d.response {
                Response::OpsPerS => contrast.ratio,
                _ => -contrast.ratio,
            };
            (at, gain)
        })
        .collect();
    let best = rivals.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let at = best.map_or(first, |(at, _)| *at);
    let base = cells[details[at].cells.0].cell;
    let beside = match rivals.len() {
        1 => String::new(),
        n => format!(
            "; of {n} engines of {} there {} came nearest",
            base.layer, base.engine
        ),
    };
    (at, beside)
}

/// The least mean latency of a layer's open loops, of which the rate was given and says nothing.
fn least_when_offered(layer: Layer, summary: &Summary, cells: &[CellDetail<'_>]) -> Option<String> {
    let (mean, cell) = summary
        .lines
        .iter()
        .zip(cells)
        .filter(|(line, _)| line.cell.layer == layer && line.cell.workload.rate.is_some())
        .filter_map(|(line, cell)| Some((line.mean_ns?, cell)))
        .min_by(|a, b| a.0.median.total_cmp(&b.0.median))?;
    Some(format!("{} {}", in_unit(mean, show::time), by(cell)))
}

fn by(cell: &CellDetail<'_>) -> String {
    format!("by {} ({})", cell.label, cell.cell.reality)
}

/// The greatest rate of a layer, and the greatest bandwidth where another cell has that; of closed loops, whose rate is
/// their own.
fn most(layer: Layer, summary: &Summary, cells: &[CellDetail<'_>]) -> Option<String> {
    let best = |of: fn(&strata_record::SummaryLine) -> Option<Estimate>| {
        summary
            .lines
            .iter()
            .zip(cells)
            .filter(|(line, _)| line.cell.layer == layer && line.cell.workload.rate.is_none())
            .filter_map(|(line, cell)| Some((of(line)?, cell)))
            .max_by(|a, b| a.0.median.total_cmp(&b.0.median))
    };
    let (rate, fastest) = best(|l| l.ops_per_s)?;
    let rate = in_unit(rate, show::per_second);
    Some(match best(|l| l.bytes_per_s) {
        Some((bytes, widest)) if std::ptr::eq(widest, fastest) => format!(
            "{rate} and {} {}",
            in_unit(bytes, show::bandwidth),
            by(fastest)
        ),
        Some((bytes, widest)) => format!(
            "{rate} {}, {} {}",
            by(fastest),
            in_unit(bytes, show::bandwidth),
            by(widest)
        ),
        None => format!("{rate} {}", by(fastest)),
    })
}
