//! One run from its folder to its report.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use jiff::Timestamp;
use strata_block::Prepared;
use strata_measure::Job;
use strata_record::{
    Cell, Document, Environment, Plan, Preconditioning, Record, Run, SCHEMA, Status, StreamSweep,
};
use strata_runner::{AsItIs, Claim, Ended, Store, StoreError, Switch, estimate, execute, switches};
use strata_topology::{Root, read_environment};
use strata_units::Nanos;

use crate::cli::{Keeping, Printing};
use crate::nvme::Controllers;
use crate::peer::Peers;
use crate::progress::{Line, about};
use crate::{End, Usage, built, interrupt, output};

/// Files that the run made for itself, removed when the session ends, however it ends.
#[derive(Default)]
pub(crate) struct Own(Vec<PathBuf>);

impl Own {
    /// One more.
    pub(crate) fn add(&mut self, path: PathBuf) {
        self.0.push(path);
    }

    fn names(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.display().to_string();
        self.0.iter().map(name).collect()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for path in &self.0 {
            // One that is gone already was to be gone.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What is to be measured, made ready.
#[derive(Default)]
pub(crate) struct Ready {
    pub(crate) cells: Vec<Cell>,
    /// A job a cell without a binding, in their order.
    pub(crate) jobs: Vec<Box<dyn Job>>,
    /// What they measure, of storage.
    pub(crate) targets: Vec<Prepared>,
    pub(crate) own: Own,
    pub(crate) preconditioning: Vec<Preconditioning>,
    /// The other sides that were reached.
    pub(crate) peers: Peers,
    /// Their machines.
    pub(crate) machines: Vec<Environment>,
    pub(crate) sweeps: Vec<StreamSweep>,
    /// What puts drives on the drivers that cells need.
    pub(crate) switch: Option<Box<dyn Switch>>,
    /// The serial numbers that were typed of those drives.
    pub(crate) drives: Vec<String>,
    /// The controllers of its polled drives. Their jobs come before them.
    pub(crate) controllers: Controllers,
}

impl Ready {
    /// One more machine, if it is not known already.
    pub(crate) fn machine(&mut self, environment: &Environment) {
        if !self.machines.contains(environment) {
            self.machines.push(environment.clone());
        }
    }
}

/// A run that is about to be made, or gone on with.
pub(crate) struct Session {
    name: String,
    desk: Desk,
    begun: Begun,
}

/// What those who make jobs need of a run, at its beginning and later.
#[derive(Clone)]
pub(crate) struct Desk {
    folder: PathBuf,
    seed: u64,
    printing: Printing,
    interrupted: Arc<AtomicBool>,
    own_files: Vec<String>,
}

impl Deref for Session {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl Desk {
    /// The run's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The run's seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The files that the run that is gone on with made for itself.
    pub(crate) fn own_files(&self) -> &[String] {
        &self.own_files
    }

    /// Set when the user wants to stop.
    pub(crate) fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// A line for the user, on standard error.
    pub(crate) fn say(&self, what: &str) {
        say(&self.printing, what);
    }
}

/// What there is of a run when its session begins.
enum Begun {
    /// A folder of its own, in which nothing is left when it comes to no trial.
    Claimed(Claim),
    /// The run, and its records so far.
    Resumed(Store, Box<Run>, Vec<Record>),
}

impl Session {
    /// A new run called `name`. Its folder is made here, and nobody else's from here on.
    pub(crate) fn begin(name: &str, keeping: Keeping, printing: Printing) -> Result<Session> {
        let now = Timestamp::now();
        let folder = keeping.output.unwrap_or_else(|| {
            PathBuf::from("results").join(format!("{}-{name}", now.strftime("%Y%m%dT%H%M%S%3fZ")))
        });
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let claim = Claim::new(&folder).map_err(|e| match e {
            theirs @ (StoreError::Taken { .. } | StoreError::NotEmpty { .. }) => {
                Usage::error(theirs)
            }
            other => other.into(),
        })?;
        Ok(Session {
            name: name.to_owned(),
            desk: Desk {
                folder,
                seed: keeping.seed.unwrap_or_else(|| now.as_nanosecond() as u64),
                printing,
                interrupted: interrupt::watch().context("cannot watch for Ctrl-C")?,
                own_files: Vec::new(),
            },
            begun: Begun::Claimed(claim),
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
            name: "resumed".to_owned(),
            desk: Desk {
                folder,
                seed: plan.seed,
                printing,
                interrupted: interrupt::watch().context("cannot watch for Ctrl-C")?,
                own_files: run.own_files.clone(),
            },
            begun: Begun::Resumed(store, Box::new(run), records),
        };
        Ok((session, plan))
    }

    /// What those who make jobs while the run is under way need of it.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Says that a file of this name is to be made in the run's folder, before it is: a kill meanwhile leaves the run's own.
    ///
    /// # Errors
    /// The folder takes no file.
    pub(crate) fn makes(&self, name: &str) -> Result<()> {
        match &self.begun {
            Begun::Claimed(claim) => Ok(claim.makes(name)?),
            // Its run.json has told.
            Begun::Resumed(..) => Ok(()),
        }
    }

    /// Runs the cells in rounds, keeps each record, renders the report and prints what came of it.
    pub(crate) fn run(self, ready: Ready, rounds: u32) -> Result<End> {
        let Ready {
            cells,
            mut jobs,
            own,
            preconditioning,
            peers,
            machines,
            sweeps,
            mut switch,
            drives,
            ..
        } = ready;
        let Desk {
            folder,
            seed,
            printing,
            interrupted,
            ..
        } = self.desk;
        let (mut store, run, mut records) = match self.begun {
            Begun::Resumed(store, run, records) => (store, run, records),
            Begun::Claimed(claim) => {
                let plan = Plan {
                    name: self.name,
                    cells,
                    rounds,
                    seed,
                };
                let run = Box::new(Run {
                    own_files: own.names(),
                    preconditioning,
                    peers: machines,
                    sweeps,
                    ..head(plan)?
                });
                (claim.begin(&run)?, run, Vec::new())
            }
        };
        say(&printing, &forecast(&run, &records));
        let mut line = Line::new(printing.quiet);
        let ended = execute(
            &run,
            &mut jobs,
            switch.as_deref_mut().unwrap_or(&mut AsItIs),
            &mut records,
            Some(&mut store),
            &interrupted,
            &mut line,
        );
        line.finish(printing.quiet);
        // Drives go back before anything is told.
        let left = switch.as_mut().map_or_else(Vec::new, |switch| switch.end());
        left.iter().for_each(|why| output::tell(why));
        drop(own);
        let key_file = peers.key_file();
        // What was measured is reported, even when its last record could not be kept.
        let printed = report(&printing, &run, &records, &store);
        let ended = ended?;
        match printed {
            // Whoever read our output has seen enough; how the run ended is told all the same.
            Err(e) if output::is_closed_pipe(&e) => {}
            other => other?,
        }
        Ok(match ended {
            Ended::Interrupted => {
                let folder = folder.display();
                let key = key_file.map_or_else(String::new, |path| {
                    format!(" --key-file {}", path.display())
                });
                let drives = match &drives[..] {
                    [] => String::new(),
                    drives => format!(" --drive {}", drives.join(",")),
                };
                say(
                    &printing,
                    &format!("interrupted; go on with `strata run --resume {folder}{key}{drives}`"),
                );
                End::Interrupted
            }
            Ended::Done if any_failed(&records) || !left.is_empty() => End::Failed,
            Ended::Done => End::Done,
        })
    }
}

fn say(printing: &Printing, what: &str) {
    if !printing.quiet {
        output::tell(what);
    }
}

fn head(plan: Plan) -> Result<Run> {
    let now = Timestamp::now();
    Ok(Run {
        schema: SCHEMA,
        id: format!(
            "{}-{:08x}",
            now.strftime("%Y%m%dT%H%M%SZ"),
            plan.seed as u32
        ),
        created_at: now.to_string(),
        // A path may hold any bytes.
        command: std::env::args_os()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
        built: built::built(),
        own_files: Vec::new(),
        preconditioning: Vec::new(),
        peers: Vec::new(),
        sweeps: Vec::new(),
        plan,
        environment: read_environment(&Root::live())?,
    })
}

/// What is to be done, and how long it will take.
fn forecast(run: &Run, records: &[Record]) -> String {
    let (plan, made) = (&run.plan, records.len());
    let trials = plan.cells.len() as u64 * u64::from(plan.rounds);
    let time = estimate(plan, records).map_or_else(
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
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let changes = match switches(plan) {
        n if n > 0 && records.iter().all(|r| r.switch_s.is_none()) => {
            format!(", and what {n} change{} of driver a round take", s(n))
        }
        _ => String::new(),
    };
    let (cells, rounds) = (plan.cells.len(), plan.rounds);
    format!(
        "{cells} cell{} × {rounds} round{}{kept}: {time}{changes}",
        s(cells),
        s(rounds as usize)
    )
}

/// Writes the report's files and prints what was asked for.
fn report(printing: &Printing, run: &Run, records: &[Record], store: &Store) -> Result<()> {
    let analysed = strata_analysis::analyse(run, records);
    store.put(
        "report.md",
        strata_report::markdown(run, &analysed).as_bytes(),
    )?;
    store.put(
        "report.html",
        strata_report::html(run, &analysed)?.as_bytes(),
    )?;
    let folder = store.folder();
    if printing.json {
        output::json(&Document {
            schema: SCHEMA,
            run: Some(folder.display().to_string()),
            records: records.to_vec(),
            summary: analysed.summary.lines,
            contrasts: analysed.summary.contrasts,
            doubts: analysed.summary.doubts,
        })
    } else if printing.quiet {
        Ok(())
    } else {
        output::summary(&analysed, &folder.join("report.html"))
    }
}

/// Whether a trial failed and was not made again with success. What this machine cannot run has not failed.
fn any_failed(records: &[Record]) -> bool {
    records.iter().any(|failed| {
        let again = |r: &Record| {
            (r.round, &r.cell) == (failed.round, &failed.cell)
                && r.attempt > failed.attempt
                && r.status != Status::Failed
        };
        failed.status == Status::Failed && !records.iter().any(again)
    })
}
