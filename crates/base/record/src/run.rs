//! A run's folder: `run.json` before the first trial, a line of `trials.jsonl` after each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use strata_units::Bytes;

use crate::{Cell, Environment, Record, SCHEMA};

/// What is to be measured, frozen before the first trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Its name: `quick`, or the layer that is measured alone.
    pub name: String,
    /// Every cell.
    pub cells: Vec<Cell>,
    /// Rounds, each with every cell once.
    pub rounds: u32,
    /// Seed of the order of trials and of the operation streams.
    pub seed: u64,
}

/// The program that measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Built {
    /// Version of the package.
    pub version: String,
    /// Commit that it was built from, with `-dirty` when it was changed; null when not built from a checkout.
    pub commit: Option<String>,
    /// `release`, `debug`, or, optimised less than a release, `low-optimisation (opt-level 1)`: figures of all but the first are
    /// worth nothing.
    pub profile: String,
}

/// One number of streams in a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamCandidate {
    /// Threads of each side.
    pub threads: u16,
    /// Connections of each.
    pub streams: u16,
    /// Bytes a second received in each of the sweep's trials.
    pub bytes_per_s: Vec<f64>,
}

/// A sweep before the rounds: how many streams it takes until more bring no more. Its trials stand in no figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamSweep {
    /// The cell that it was made for, in short.
    pub of: String,
    /// What was tried, by rising number of streams.
    pub candidates: Vec<StreamCandidate>,
    /// Which of them was chosen, from 0.
    pub chosen: usize,
    /// Whether every greater number was shown to bring no more than the sweep's margin.
    pub sure: bool,
}

/// What SNIA's test specification asks for before a drive is measured (Solid State Storage Performance Test Specification
/// 2.0, clauses 3 and 7): the region written twice over in sequence, then the workload until five rounds of it are steady.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Preconditioning {
    /// The path of the target.
    pub via: String,
    /// Bytes that were written in all.
    pub bytes: Bytes,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// The workload of the rounds; null when nothing but the sequence was written.
    pub workload: Option<String>,
    /// Operations a second of each round.
    pub rounds_ops_per_s: Vec<f64>,
    /// Whether the last five rounds were steady: none farther than 20 % from their mean, their line's rise below 10 %.
    pub steady: bool,
}

/// `run.json`: what a run is to do, and the machine that it is done on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Version of this schema.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// Identity of the run.
    pub id: String,
    /// When it was begun, RFC 3339 in UTC.
    pub created_at: String,
    /// The command line that began it.
    pub command: Vec<String>,
    /// The program.
    pub built: Built,
    /// The files that the run made for itself, and removes when it ends; none when it measures somebody's.
    #[serde(default)]
    pub own_files: Vec<String>,
    /// The machines of the other sides, where those are others.
    #[serde(default)]
    pub peers: Vec<Environment>,
    /// The sweeps that found how many streams saturate a path.
    #[serde(default)]
    pub sweeps: Vec<StreamSweep>,
    /// What was written before the first trial, so that the drives were in a state that lasts.
    #[serde(default)]
    pub preconditioning: Vec<Preconditioning>,
    /// The plan.
    pub plan: Plan,
    /// The machine.
    pub environment: Environment,
}

/// Why a run's folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; give the folder of a run, which holds run.json and trials.jsonl", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} is no file of a run (line {line}: {why}); give the folder that `--output` named, unchanged", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a newer version.
    #[error("{path} has schema {found}, this version reads {SCHEMA}; use a newer strata", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema found.
        found: u64,
    },
}

/// The schema number of a JSON value, checked.
fn check_schema(value: &serde_json::Value, path: &Path, line: usize) -> Result<(), StoreError> {
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(n) if n == u64::from(SCHEMA) => Ok(()),
        Some(found) if found > u64::from(SCHEMA) => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
        }),
        _ => Err(StoreError::Foreign {
            path: path.to_owned(),
            line,
            why: "no schema number".to_owned(),
        }),
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    text: &str,
    path: &Path,
    line: usize,
) -> Result<T, StoreError> {
    let foreign = |e: serde_json::Error| StoreError::Foreign {
        path: path.to_owned(),
        line,
        why: e.to_string(),
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(foreign)?;
    check_schema(&value, path, line)?;
    serde_json::from_value(value).map_err(foreign)
}

/// Reads `run.json` of a folder.
pub fn read_run(folder: &Path) -> Result<Run, StoreError> {
    let path = folder.join("run.json");
    let text = fs::read_to_string(&path).map_err(|source| StoreError::Read {
        path: path.clone(),
        source,
    })?;
    parse(&text, &path, 1)
}

/// Reads `trials.jsonl` of a folder: its records, and how many bytes of whole lines they take.
///
/// A last line without its newline is what a kill in mid-write leaves; it was never promised, and is left out. A missing
/// file is a run without trials. Any other line that is no record of the run `id` is an error.
pub fn read_trials(folder: &Path, id: &str) -> Result<(Vec<Record>, u64), StoreError> {
    let path = folder.join("trials.jsonl");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(source) => return Err(StoreError::Read { path, source }),
    };
    let whole = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let mut records = Vec::new();
    for (n, line) in bytes[..whole].split(|b| *b == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let foreign = |why: String| StoreError::Foreign {
            path: path.clone(),
            line: n + 1,
            why,
        };
        let text = std::str::from_utf8(line).map_err(|e| foreign(e.to_string()))?;
        let record: Record = parse(text, &path, n + 1)?;
        if record.run != id {
            return Err(foreign(format!(
                "it belongs to run {}, this is run {id}",
                record.run
            )));
        }
        records.push(record);
    }
    Ok((records, whole as u64))
}
