//! Undoing what ended processes left.

use std::collections::BTreeSet;
use std::path::PathBuf;

use strata_topology::Root;
use strata_units::PciAddress;

use crate::change::Left;
use crate::folder::Lock;
use crate::function::Binding;
use crate::journal::Found;
use crate::{Change, Entry, Journal, JournalError, Kernel, Name, Undone, module};

/// What became of a file of the journal.
#[derive(Debug)]
pub struct Told {
    /// The entry; none where the file cannot be understood.
    pub entry: Option<Entry>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an entry.
#[derive(Debug)]
pub enum Outcome {
    /// Its changes were undone, in this order, as far as each says; what is left stays in the journal.
    Undone(Vec<(Change, Undone)>),
    /// Its process, which is another one, runs and undoes it itself: it was left.
    Runs,
    /// It is of another boot, and what it changed is gone: it was dropped.
    OtherBoot,
    /// It is of a later format: it was left.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// It cannot be understood.
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Whether it was removed, as forced to.
        removed: bool,
    },
}

impl Outcome {
    /// Whether nothing stays in the journal but modules that others use.
    pub fn is_done(&self) -> bool {
        match self {
            Outcome::Undone(changes) => changes.iter().all(|(_, undone)| {
                undone.is_done() || matches!(undone, Undone::Left(Left::Shared { .. }))
            }),
            Outcome::OtherBoot => true,
            Outcome::Garbled { removed, .. } => *removed,
            Outcome::Runs | Outcome::Newer { .. } => false,
        }
    }
}

/// Undoes the entries of processes that have ended, the latest first: of one function, or all. `force` also undoes those of
/// processes that run, puts back what somebody else has changed, and removes what cannot be understood; a drive that is in use
/// is left all the same.
///
/// # Errors
/// The journal cannot be locked, read or written.
pub fn restore(
    journal: &Journal,
    kernel: &mut dyn Kernel,
    only: Option<PciAddress>,
    force: bool,
) -> Result<Vec<Told>, JournalError> {
    let wanted = |entry: &Entry| only.is_none_or(|only| entry.covers(only));
    restore_those(journal, kernel, &journal.lock()?, &wanted, force)
}

/// Undoes the entries of processes that have ended by which strata gave a function the driver `from`; what it has been given back
/// to is `to`, and other entries of this are forgotten ([`forget`]).
///
/// # Errors
/// As [`restore`].
pub fn take_back(
    journal: &Journal,
    kernel: &mut dyn Kernel,
    function: PciAddress,
    from: &Name,
    to: &Name,
) -> Result<Vec<Told>, JournalError> {
    let lock = journal.lock()?;
    let wanted = |entry: &Entry| entry.gives(function, from);
    let told = restore_those(journal, kernel, &lock, &wanted, false)?;
    forget(journal, kernel.root(), &lock, function, Some(to))?;
    Ok(told)
}

/// Drops what entries of processes that have ended say of a function where nothing is to be undone: it has what was before, since
/// somebody put that back by hand; or they gave it the driver `given`, which was asked for and which it has. Modules stay written
/// down, for [`restore`].
///
/// # Errors
/// The journal cannot be read or written.
pub fn forget(
    journal: &Journal,
    root: &Root,
    lock: &Lock,
    function: PciAddress,
    given: Option<&Name>,
) -> Result<(), JournalError> {
    // What cannot be looked at may have to be undone.
    let Ok(found) = Binding::of(root, function) else {
        return Ok(());
    };
    let is_there = given.is_some() && found.driver.as_ref() == given;
    let is_over = |change: &Change| match change {
        Change::Driver(of) if of.function == function => {
            found == of.before || is_there && of.after.driver == found.driver
        }
        _ => false,
    };
    for (number, entry) in journal.current()? {
        // A scope passes by the state before, and goes on.
        if entry.changes.iter().any(is_over) && !journal.is_running(&entry) {
            let left = entry.changes.iter().filter(|change| !is_over(change));
            journal.leave(lock, number, &entry, left.cloned().collect())?;
        }
    }
    Ok(())
}

/// Undoes the entries that are wanted; those of modules alone always are, as modules that others used may be free by now.
fn restore_those(
    journal: &Journal,
    kernel: &mut dyn Kernel,
    lock: &Lock,
    wanted: &dyn Fn(&Entry) -> bool,
    force: bool,
) -> Result<Vec<Told>, JournalError> {
    let own = journal.own()?;
    let mut all = journal.read()?;
    all.reverse();
    let mut told = Vec::new();
    let mut numbers = Vec::new();
    // Functions of which a later change is left: an earlier one must not be undone below it.
    let mut left = BTreeSet::new();
    // Those that stay changed, and may need modules for their way back.
    let mut changed = BTreeSet::new();
    for found in all {
        let mut undone_as = None;
        let (entry, outcome) = match found {
            Found::Newer { path, format } => (None, Outcome::Newer { path, format }),
            Found::Garbled { path, why } => {
                if force {
                    journal.remove_file(lock, &path)?;
                }
                let removed = force;
                (None, Outcome::Garbled { path, why, removed })
            }
            Found::Entry(number, entry) if !journal.is_of_this_boot(&entry) => {
                journal.remove(lock, number)?;
                (Some(entry), Outcome::OtherBoot)
            }
            Found::Entry(_, entry) if !wanted(&entry) && entry.functions().next().is_some() => {
                changed.extend(entry.functions());
                continue;
            }
            Found::Entry(_, entry) if !force && journal.is_anothers(&entry, own) => {
                left.extend(entry.functions());
                (Some(entry), Outcome::Runs)
            }
            Found::Entry(number, entry) => {
                let undone = undo_drivers(kernel, &entry, force, &left);
                left.extend(still(&undone));
                undone_as = Some(number);
                (Some(entry), Outcome::Undone(undone))
            }
        };
        told.push(Told { entry, outcome });
        numbers.push(undone_as);
    }
    changed.extend(left);
    for (told, number) in told.iter_mut().zip(numbers) {
        if let (Some(number), Some(entry), Outcome::Undone(undone)) =
            (number, &told.entry, &mut told.outcome)
        {
            undo_modules(kernel, entry, &changed, undone);
            leave(journal, lock, number, entry, undone)?;
        }
    }
    Ok(told)
}

/// Undoes one entry, as its own process does.
pub(crate) fn undo(
    journal: &Journal,
    kernel: &mut dyn Kernel,
    lock: &Lock,
    number: u64,
    entry: &Entry,
) -> Result<Vec<(Change, Undone)>, JournalError> {
    let mut changed = BTreeSet::new();
    for (other, entry) in journal.current()? {
        if other != number {
            changed.extend(entry.functions());
        }
    }
    let mut undone = undo_drivers(kernel, entry, false, &BTreeSet::new());
    changed.extend(still(&undone));
    undo_modules(kernel, entry, &changed, &mut undone);
    leave(journal, lock, number, entry, &undone)?;
    Ok(undone)
}

/// The functions whose change is left.
fn still(undone: &[(Change, Undone)]) -> impl Iterator<Item = PciAddress> {
    let left = undone.iter().filter(|(_, undone)| undone.is_owed());
    left.filter_map(|(change, _)| change.function())
}

/// Undoes the drivers of an entry, the last one first.
fn undo_drivers(
    kernel: &mut dyn Kernel,
    entry: &Entry,
    force: bool,
    above: &BTreeSet<PciAddress>,
) -> Vec<(Change, Undone)> {
    let mut undone = Vec::new();
    for change in entry.changes.iter().rev() {
        let Change::Driver(driver) = change else {
            continue;
        };
        let function = driver.function;
        let became = match above.contains(&function) {
            true => Undone::Left(Left::Under { function }),
            false => driver.undo(kernel, force),
        };
        undone.push((change.clone(), became));
    }
    undone
}

/// Undoes the modules of an entry, the last one first, unless functions that are still changed may need them.
fn undo_modules(
    kernel: &mut dyn Kernel,
    entry: &Entry,
    changed: &BTreeSet<PciAddress>,
    undone: &mut Vec<(Change, Undone)>,
) {
    let by: Vec<String> = changed.iter().map(ToString::to_string).collect();
    for change in entry.changes.iter().rev() {
        let Change::Module { module } = change else {
            continue;
        };
        let became = match by.is_empty() {
            true => module::unload(kernel, module),
            false => Undone::Left(Left::Shared {
                module: module.clone(),
                by: by.join(", "),
            }),
        };
        undone.push((change.clone(), became));
    }
}

/// Makes the journal say what is left of an entry, in the order in which it was done.
fn leave(
    journal: &Journal,
    lock: &Lock,
    number: u64,
    entry: &Entry,
    undone: &[(Change, Undone)],
) -> Result<(), JournalError> {
    let left = |change: &&Change| {
        let became = undone.iter().find(|(of, _)| of == *change);
        became.is_none_or(|(_, became)| became.is_owed())
    };
    let left = entry.changes.iter().filter(left).cloned().collect();
    journal.leave(lock, number, entry, left)
}
