//! `strata report`: renders a run's report again from its records.

use anyhow::{Context, Result};
use strata_record::{Document, SCHEMA, read_run, read_trials};

use crate::cli::ReportArgs;
use crate::{End, output};

pub(crate) fn run(args: &ReportArgs) -> Result<End> {
    let folder = &args.run;
    let run = read_run(folder)?;
    let (records, _) = read_trials(folder, &run.id)?;
    let analysed = strata_analysis::analyse(&run, &records);
    let html = strata_report::html(&run, &analysed)?;
    for (name, text) in [
        ("report.md", strata_report::markdown(&run, &analysed)),
        ("report.html", html),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| {
            format!(
                "cannot write {}; copy the run to where you may",
                path.display()
            )
        })?;
    }
    if args.printing.json {
        output::json(&Document {
            schema: SCHEMA,
            run: Some(folder.display().to_string()),
            summary: analysed.summary.lines,
            contrasts: analysed.summary.contrasts,
            doubts: analysed.summary.doubts,
            records: records.clone(),
        })?;
    } else if !args.printing.quiet {
        output::summary(&analysed, &folder.join("report.html"))?;
    }
    Ok(End::Done)
}
