//! A layer's side of a trial, behind one dynamic call.

use std::sync::atomic::AtomicBool;

use strata_record::{Ceiling, Cost, Harness, Measured, Proof, Warning};

use crate::CrewError;

/// What a job is told of a trial.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// Seed of its operation stream.
    pub seed: u64,
    /// Set when the user wants to stop; the trial then ends within a second and counts for nothing.
    pub interrupted: &'a AtomicBool,
}

/// A trial that was run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialResult {
    /// The figure.
    pub measured: Measured,
    /// What it cost.
    pub cost: Cost,
    /// Where everything was.
    pub proof: Proof,
    /// The bounds beside it.
    pub bounds: Vec<Ceiling>,
    /// What measuring costs.
    pub harness: Harness,
    /// What to doubt.
    pub warnings: Vec<Warning>,
    /// Why the figure is none: operations failed, or the trial broke off. What was measured until then is kept.
    pub failed: Option<String>,
}

/// Why there is no result at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// This machine cannot run it.
    #[error("{0}")]
    Skipped(String),
    /// It could not be started.
    #[error("{0}")]
    Failed(String),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl From<CrewError> for JobError {
    fn from(e: CrewError) -> JobError {
        match e {
            CrewError::Interrupted => JobError::Interrupted,
            CrewError::SetUp(why) => JobError::Failed(why),
        }
    }
}

/// One cell, ready to be run again and again.
pub trait Job {
    /// Runs one trial.
    ///
    /// # Errors
    /// [`JobError`] when there is nothing to record but a reason.
    fn run(&mut self, trial: &Trial<'_>) -> Result<TrialResult, JobError>;

    /// How it reaches its target, where that may have changed since its cell was made: the kernel gives a drive that comes
    /// back another name.
    fn via(&self) -> Option<&str> {
        None
    }
}
