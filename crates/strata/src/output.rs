//! What is printed on standard output.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use strata_analysis::{Analysis, bandwidth, in_unit};
use strata_record::Estimate;
use strata_units::show;

/// A line on standard error. Where nobody reads that any more, or its disk is full, there is nobody to tell so.
pub(crate) fn tell(what: &str) {
    let _ = writeln!(io::stderr().lock(), "strata: {what}");
}

/// One JSON document and a newline.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<()> {
    let mut document = serde_json::to_vec(value).context("cannot write JSON")?;
    document.push(b'\n');
    print(&document)
}

/// Text as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    print(text.as_bytes())
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("cannot write to standard output; give it room, or --quiet")
}

/// An error and its causes in one line; a cause that the text above it has told already is not told again.
pub(crate) fn line(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |line, cause| {
            let cause = cause.to_string();
            if line.contains(&cause) {
                line
            } else {
                format!("{line}: {cause}")
            }
        })
}

/// Whether an error says that nobody reads standard output any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
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
            Cell::new(&detail.label),
            Cell::new(line.cell.reality),
            // Why stands among the doubts.
            match detail.skipped() {
                Some(_) => Cell::new("SKIP"),
                None => Cell::new(line.rounds),
            },
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

/// A median with its interval, or a dash.
fn shown(estimate: Option<Estimate>, unit: fn(f64) -> String) -> String {
    estimate.map_or_else(|| NONE.to_owned(), |e| in_unit(e, unit))
}

/// What stands where there is no figure.
const NONE: &str = "–";
