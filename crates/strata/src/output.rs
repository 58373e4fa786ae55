//! What is printed on standard output.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use strata_analysis::{Analysis, bandwidth, in_unit};
use strata_record::{Estimate, SummaryLine};
use strata_units::show;

/// One JSON document and a newline.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Text as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether an error says that nobody reads standard output any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause
            .downcast_ref::<io::Error>()
            .map(io::Error::kind)
            .or_else(|| {
                cause
                    .downcast_ref::<serde_json::Error>()
                    .and_then(serde_json::Error::io_error_kind)
            });
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

/// A table without a frame, as wide as the terminal.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head);
    table
}

/// The headline table, the ratios and the doubts of a run.
pub(crate) fn summary(analysed: &Analysis<'_>, report: &Path) -> Result<()> {
    let mut table = table(&[
        "cell",
        "reality",
        "rounds",
        "operations/s",
        "bandwidth",
        "p50",
        "p99",
        "CPU/op",
    ]);
    for (line, detail) in analysed.summary.lines.iter().zip(&analysed.cells) {
        let figures = [
            shown(line.ops_per_s, show::per_second),
            line.bytes_per_s
                .map_or_else(|| NONE.to_owned(), |e| bandwidth(line.cell.layer, e)),
            shown(line.p50_ns, show::time),
            shown(line.p99_ns, show::time),
            shown(line.cpu_ns_per_op, show::time),
        ];
        let mut row = vec![
            Cell::new(name(line, detail.skipped())),
            Cell::new(line.cell.reality),
            Cell::new(line.rounds),
        ];
        row.extend(figures.map(|figure| Cell::new(figure).set_alignment(CellAlignment::Right)));
        table.add_row(row);
    }
    let mut out = format!("{table}\n");
    if !analysed.answer.is_empty() {
        out.push_str(&format!("\n{}\n", analysed.answer));
    }
    // Where rounds are too few for any interval the answer has said so.
    let told = analysed.summary.contrasts.iter().zip(&analysed.contrasts);
    for (contrast, detail) in told.filter(|(contrast, _)| contrast.ci95_low.is_some()) {
        out.push_str(&format!(
            "  {}, {}: {}\n",
            contrast.name,
            detail.response.name(),
            contrast.words
        ));
    }
    if !analysed.summary.doubts.is_empty() {
        out.push_str("\nTo doubt:\n");
        for doubt in &analysed.summary.doubts {
            out.push_str(&format!("  - {doubt}\n"));
        }
    }
    out.push_str(&format!("\nReport: {}\n", report.display()));
    text(&out)
}

fn name(line: &SummaryLine, skipped: Option<&str>) -> String {
    match skipped {
        Some(why) => format!("{} (SKIP: {why})", line.cell.label()),
        None => line.cell.label(),
    }
}

/// A median with its interval, or a dash.
fn shown(estimate: Option<Estimate>, unit: fn(f64) -> String) -> String {
    estimate.map_or_else(|| NONE.to_owned(), |e| in_unit(e, unit))
}

/// What stands where there is no figure.
const NONE: &str = "–";
