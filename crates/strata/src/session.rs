//! One run from its folder to its report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use jiff::Timestamp;
use strata_measure::Job;
use strata_record::{Cell, Document, Plan, Record, Run, SCHEMA, Status};
use strata_runner::{Ended, Store, estimate, execute};
use strata_topology::{Root, read_environment};
use strata_units::Nanos;

use crate::cli::{Keeping, Printing};
use crate::progress::{Line, about};
use crate::{End, Usage, built, interrupt, output};

/// A file that the run made for itself, removed when the session ends, however it ends.
pub(crate) struct Target(Option<PathBuf>);

impl Target {
    /// The run's own file, if it has one.
    pub(crate) fn own(path: Option<PathBuf>) -> Target {
        Target(path)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // One that is gone already was to be gone.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A run that is about to be made, or gone on with.
pub(crate) struct Session {
    name: &'static str,
    folder: PathBuf,
    seed: u64,
    printing: Printing,
    interrupted: Arc<AtomicBool>,
    resumed: Option<(Store, Run, Vec<Record>)>,
}

impl Session {
    /// A new run called `name`. Its folder is looked at here and made when there is something to keep.
    pub(crate) fn begin(
        name: &'static str,
        keeping: Keeping,
        printing: Printing,
    ) -> Result<Session> {
        let now = Timestamp::now();
        let folder = keeping.output.unwrap_or_else(|| {
            PathBuf::from("results").join(format!("{}-{name}", now.strftime("%Y%m%dT%H%M%S%3fZ")))
        });
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        if folder.join("run.json").exists() {
            return Err(Usage::error(strata_runner::StoreError::Taken { folder }));
        }
        std::fs::create_dir_all(&folder).with_context(|| {
            format!(
                "cannot make {}; give an --output that you may write to",
                folder.display()
            )
        })?;
        Ok(Session {
            name,
            folder,
            seed: keeping.seed.unwrap_or_else(|| now.as_nanosecond() as u64),
            printing,
            interrupted: interrupt::watch().context("cannot watch for Ctrl-C")?,
            resumed: None,
        })
    }

    /// The run in `folder`, and its plan.
    pub(crate) fn resume(folder: &Path, printing: Printing) -> Result<(Session, Plan)> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let (store, run, records) = Store::resume(&folder)?;
        let here = read_environment(&Root::live())?.hostname;
        if run.environment.hostname != here {
            let there = run
                .environment
                .hostname
                .as_deref()
                .unwrap_or("an unnamed host");
            return Err(Usage::error(format!(
                "{} was begun on {there}; go on with it there, or begin a new run",
                folder.display()
            )));
        }
        let plan = run.plan.clone();
        let session = Session {
            name: "resumed",
            folder,
            seed: plan.seed,
            printing,
            interrupted: interrupt::watch().context("cannot watch for Ctrl-C")?,
            resumed: Some((store, run, records)),
        };
        Ok((session, plan))
    }

    /// The run's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The run's seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Set when the user wants to stop.
    pub(crate) fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// A line for the user, on standard error.
    pub(crate) fn say(&self, what: &str) {
        if !self.printing.quiet {
            eprintln!("strata: {what}");
        }
    }

    /// Runs the cells in rounds, keeps each record, renders the report and prints what came of it.
    pub(crate) fn run(
        mut self,
        cells: Vec<Cell>,
        mut jobs: Vec<Box<dyn Job>>,
        rounds: u32,
        own: Target,
    ) -> Result<End> {
        let (mut store, run, mut records) = match self.resumed.take() {
            Some(resumed) => resumed,
            None => {
                let run = self.head(cells, rounds)?;
                (Store::create(&self.folder, &run)?, run, Vec::new())
            }
        };
        self.forecast(&run, records.len());
        let mut line = Line::new(self.printing.quiet);
        let ended = execute(
            &run,
            &mut jobs,
            &mut records,
            Some(&mut store),
            &self.interrupted,
            &mut line,
        );
        line.finish(self.printing.quiet);
        drop(own);
        // What was measured is reported, even when its last record could not be kept.
        let printed = self.report(&run, &records, &store);
        let ended = ended?;
        printed?;
        Ok(match ended {
            Ended::Interrupted => {
                self.say(&format!(
                    "interrupted; go on with `strata run --resume {}`",
                    self.folder.display()
                ));
                End::Interrupted
            }
            Ended::Done if any_cell_failed(&run.plan, &records) => End::Failed,
            Ended::Done => End::Done,
        })
    }

    fn head(&self, cells: Vec<Cell>, rounds: u32) -> Result<Run> {
        let now = Timestamp::now();
        Ok(Run {
            schema: SCHEMA,
            id: format!(
                "{}-{:08x}",
                now.strftime("%Y%m%dT%H%M%SZ"),
                self.seed as u32
            ),
            created_at: now.to_string(),
            command: std::env::args().collect(),
            built: built::built(),
            plan: Plan {
                name: self.name.to_owned(),
                cells,
                rounds,
                seed: self.seed,
            },
            environment: read_environment(&Root::live())?,
        })
    }

    fn forecast(&self, run: &Run, made: usize) {
        let plan = &run.plan;
        let trials = plan.cells.len() as u64 * u64::from(plan.rounds);
        let time = estimate(plan).map_or_else(
            || "for as long as its operations take".to_owned(),
            |all| {
                let left = trials.saturating_sub(made as u64);
                format!(
                    "about {}",
                    about(Nanos(all.0 / trials.max(1) * left).as_duration())
                )
            },
        );
        let kept = if made > 0 {
            format!(", {made} trials of it made before")
        } else {
            String::new()
        };
        self.say(&format!(
            "{} cells × {} rounds{kept}: {time}",
            plan.cells.len(),
            plan.rounds
        ));
    }

    /// Writes the report's files and prints what was asked for.
    fn report(&self, run: &Run, records: &[Record], store: &Store) -> Result<()> {
        let analysed = strata_analysis::analyse(run, records);
        store.put(
            "report.md",
            strata_report::markdown(run, &analysed).as_bytes(),
        )?;
        store.put(
            "report.html",
            strata_report::html(run, &analysed)?.as_bytes(),
        )?;
        if self.printing.json {
            output::json(&Document {
                schema: SCHEMA,
                run: Some(self.folder.display().to_string()),
                records: records.to_vec(),
                summary: analysed.summary.lines,
                contrasts: analysed.summary.contrasts,
                doubts: analysed.summary.doubts,
            })
        } else if self.printing.quiet {
            Ok(())
        } else {
            output::summary(&analysed, &self.folder.join("report.html"))
        }
    }
}

/// Whether any cell has only failures to show. One that this machine cannot run has not failed.
fn any_cell_failed(plan: &Plan, records: &[Record]) -> bool {
    plan.cells.iter().any(|cell| {
        let key = cell.key();
        let mut of_cell = records.iter().filter(|r| r.cell == key).peekable();
        of_cell.peek().is_some() && of_cell.all(|r| r.status == Status::Failed)
    })
}
