//! What became of entries of the journal, for people and as JSON.

use serde::Serialize;
use strata_settings::{Change, Entry, Left, Outcome, Told, Undone};

use crate::cli::Printing;
use crate::{End, output};

#[derive(Serialize)]
pub(super) struct RestoredEntry {
    what_for: Option<String>,
    pid: Option<u32>,
    at: Option<String>,
    outcome: &'static str,
    why: Option<String>,
    changes: Vec<RestoredChange>,
}

#[derive(Serialize)]
struct RestoredChange {
    change: Change,
    outcome: &'static str,
    why: Option<String>,
}

/// A change that is left since others need it, which is nothing to mend.
const SHARED: &str = "shared";

/// What became of entries, and how the command ends by that.
pub(super) struct Became {
    pub(super) done: bool,
    pub(super) entries: Vec<RestoredEntry>,
    pub(super) text: String,
    pub(super) end: End,
}

/// Tells what is left where nothing else does.
pub(super) fn tell(printing: &Printing, told: Vec<Told>) -> Became {
    let done = told.iter().all(|told| told.outcome.is_done());
    let failed = told.iter().any(|told| match &told.outcome {
        Outcome::Undone(changes) => changes
            .iter()
            .any(|(_, undone)| matches!(undone, Undone::Left(Left::Failed(_) | Left::NotBack(_)))),
        _ => false,
    });
    let entries: Vec<RestoredEntry> = told.into_iter().map(entry).collect();
    let mut text = String::new();
    for entry in &entries {
        let pid = entry
            .pid
            .map_or_else(String::new, |pid| format!(", process {pid}"));
        let at = entry
            .at
            .as_ref()
            .map_or_else(String::new, |at| format!(", {at}"));
        let what_for = entry
            .what_for
            .as_deref()
            .unwrap_or("an entry of the journal");
        let why = entry
            .why
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"));
        text.push_str(&format!("{what_for}{pid}{at}{why}\n"));
        for change in entry.changes.iter().filter(|of| of.outcome != SHARED) {
            let line = match (&change.why, change.outcome) {
                (Some(why), _) => format!("left: {why}"),
                (None, "before") => format!("{}: as before already", change.change),
                (None, "gone") => format!("{}: gone from the host", change.change),
                (None, _) => format!("{}: undone", change.change),
            };
            text.push_str(&format!("  {line}\n"));
        }
        let shared = entry.changes.iter().filter(|of| of.outcome == SHARED);
        let shared: Vec<String> = shared.map(|of| of.change.to_string()).collect();
        if !shared.is_empty() {
            text.push_str(&format!(
                "  left, since others need it: {}; a later unbind or restore undoes it\n",
                shared.join(", ")
            ));
        }
    }
    if entries.is_empty() {
        text.push_str("Nothing of this host is changed by strata.\n");
    }
    if !done {
        for line in text.lines().filter(|_| printing.json || printing.quiet) {
            output::tell(line);
        }
    }
    let end = match (done, failed) {
        (true, _) => End::Done,
        (false, true) => End::Failed,
        (false, false) => End::NotMet,
    };
    Became {
        done,
        entries,
        text,
        end,
    }
}

fn entry(told: Told) -> RestoredEntry {
    let of = |what: fn(&Entry) -> String| told.entry.as_ref().map(what);
    let mut entry = RestoredEntry {
        what_for: of(|entry| entry.what_for.clone()),
        pid: told.entry.as_ref().map(|entry| entry.process.pid),
        at: of(|entry| entry.at.to_string()),
        outcome: "undone",
        why: None,
        changes: Vec::new(),
    };
    let (outcome, why) = match told.outcome {
        Outcome::Undone(changes) => {
            entry.changes = changes.into_iter().map(restored).collect();
            return entry;
        }
        Outcome::Runs => (
            "runs",
            "it still runs, and undoes what it changed at its end; `strata restore --force` undoes it now"
                .to_owned(),
        ),
        Outcome::OtherBoot => (
            "other_boot",
            "of before the last boot, which undid it; dropped".to_owned(),
        ),
        Outcome::Newer { path, format } => (
            "newer",
            format!(
                "{} is of format {format}: `strata restore` of the version that wrote it undoes it",
                path.display()
            ),
        ),
        Outcome::Garbled {
            path,
            why,
            removed: true,
        } => ("removed", format!("{} was removed: {why}", path.display())),
        Outcome::Garbled {
            path,
            why,
            removed: false,
        } => (
            "garbled",
            format!(
                "{} cannot be understood: {why}; read it, put back by hand what it says, and remove it (`strata restore --force` removes it)",
                path.display()
            ),
        ),
    };
    entry.outcome = outcome;
    entry.why = Some(why);
    entry
}

fn restored((change, undone): (Change, Undone)) -> RestoredChange {
    let (outcome, why) = match undone {
        Undone::Before => ("before", None),
        Undone::Restored => ("restored", None),
        Undone::Gone => ("gone", None),
        Undone::Left(left @ Left::Shared { .. }) => (SHARED, Some(left.to_string())),
        Undone::Left(left) => ("left", Some(left.to_string())),
    };
    RestoredChange {
        change,
        outcome,
        why,
    }
}
