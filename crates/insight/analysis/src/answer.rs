//! The answer of a run in a sentence or two.

use std::collections::BTreeSet;

use strata_record::{Contrast, Estimate, Layer, Summary};
use strata_units::show;

use crate::cells::CellDetail;
use crate::contrasts::ContrastDetail;
use crate::words::in_unit;
use crate::{Factor, Response};

/// What the ratios say, then the most that each layer did. Layers are told one after another and never divided.
pub(crate) fn answer(
    summary: &Summary,
    cells: &[CellDetail<'_>],
    details: &[ContrastDetail],
) -> String {
    let mut said: Vec<String> = [Factor::Engine, Factor::Depth]
        .into_iter()
        .filter_map(|factor| headline(&summary.contrasts, details, cells, factor))
        .collect();
    let layers: BTreeSet<Layer> = cells.iter().map(|c| c.cell.layer).collect();
    let most: Vec<String> = layers
        .into_iter()
        .filter_map(|layer| most(layer, summary, cells))
        .collect();
    if most.is_empty() {
        return "No figure: every trial was skipped, failed or left out.".to_owned();
    }
    said.push(format!("Most that was measured: {}.", most.join("; ")));
    said.join(" ")
}

/// The ratio of rates that this factor makes where it is told most of: for engines at the least depth, for depths over
/// the widest step.
fn headline(
    contrasts: &[Contrast],
    details: &[ContrastDetail],
    cells: &[CellDetail<'_>],
    factor: Factor,
) -> Option<String> {
    let step = |d: &ContrastDetail| {
        let depth = |at: usize| i32::from(cells[at].cell.workload.depth.get());
        match factor {
            Factor::Engine => -depth(d.cells.1),
            Factor::Depth => depth(d.cells.1) - depth(d.cells.0),
        }
    };
    let greatest = details
        .iter()
        .filter(|d| d.factor == factor && d.response == Response::OpsPerS)
        .map(step)
        .max()?;
    let (contrast, detail) = contrasts.iter().zip(details).find(|(_, d)| {
        d.factor == factor && d.response == Response::OpsPerS && step(d) == greatest
    })?;
    let cell = &cells[detail.cells.0].cell;
    Some(format!(
        "{} ({}, {}): {}.",
        contrast.name, cell.layer, cell.reality, contrast.words
    ))
}

/// The greatest rate of a layer, and the greatest bandwidth where another cell has that.
fn most(layer: Layer, summary: &Summary, cells: &[CellDetail<'_>]) -> Option<String> {
    let best = |of: fn(&strata_record::SummaryLine) -> Option<Estimate>| {
        summary
            .lines
            .iter()
            .zip(cells)
            .filter(|(line, _)| line.cell.layer == layer)
            .filter_map(|(line, cell)| Some((of(line)?, cell)))
            .max_by(|a, b| a.0.median.total_cmp(&b.0.median))
    };
    let told = |estimate: Estimate, cell: &CellDetail<'_>, unit: fn(f64) -> String| {
        format!(
            "{} by {} ({})",
            in_unit(estimate, unit),
            cell.label,
            cell.cell.reality
        )
    };
    let (rate, fastest) = best(|l| l.ops_per_s)?;
    let mut text = told(rate, fastest, show::per_second);
    if let Some((bandwidth, widest)) = best(|l| l.bytes_per_s) {
        text.push_str(", ");
        text.push_str(&told(bandwidth, widest, show::bandwidth));
    }
    Some(text)
}
