//! The report as one HTML file.

use askama::Template;
use strata_analysis::Analysis;
use strata_record::Run;

use crate::view::View;

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot render the HTML report of run {run}: {source}; the records are intact, and `report.md` has the same figures"
)]
pub struct RenderError {
    run: String,
    source: askama::Error,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    view: View,
}

/// The report of a run as one HTML file, for `report.html`: it loads nothing, runs no script, follows the reader's light
/// or dark setting, and reads from 400 pixels to print.
///
/// # Errors
/// The template engine fails, which for texts in memory it has no reason to.
pub fn html(run: &Run, analysed: &Analysis<'_>) -> Result<String, RenderError> {
    Page {
        view: View::of(run, analysed),
    }
    .render()
    .map_err(|source| RenderError {
        run: run.id.clone(),
        source,
    })
}
