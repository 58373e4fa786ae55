//! Changes that hold as long as a value lives.

use strata_units::PciAddress;

use crate::folder::Lock;
use crate::function::{Binding, FunctionDriver};
use crate::journal::Found;
use crate::restore::undo;
use crate::{Change, ChangeError, Entry, Journal, JournalError, Kernel, SettingsError, Undone};

/// Changes that are made, and are undone when this is dropped. What cannot be undone then stays in the journal, for
/// `strata restore`.
pub struct Scope<K: Kernel> {
    journal: Journal,
    kernel: K,
    number: u64,
    changes: Vec<Change>,
    over: bool,
}

impl<K: Kernel> Scope<K> {
    /// Writes the changes down, makes them in this order, and gives the scope in which they hold. `what_for` is told to
    /// whoever meets the entry.
    ///
    /// # Errors
    /// Nothing is changed when the journal cannot be written, or another process has one of the functions in its hands. When a
    /// change fails, those before it are undone at once.
    pub fn begin(
        journal: Journal,
        kernel: K,
        what_for: &str,
        changes: Vec<Change>,
    ) -> Result<Scope<K>, SettingsError> {
        let lock = journal.lock()?;
        let number = journal.begin(&lock, what_for, &changes)?;
        let mut scope = Scope {
            journal,
            kernel,
            number,
            changes,
            over: false,
        };
        let mut made = scope.changes.iter();
        let failed = made.find_map(|change| change.apply(&mut scope.kernel).err());
        match failed {
            None => Ok(scope),
            Some(why) => Err(scope.roll_back(&lock, why)),
        }
    }

    fn roll_back(&mut self, lock: &Lock, why: ChangeError) -> SettingsError {
        let left = match self.undo_locked(lock) {
            Ok(undone) => undone
                .into_iter()
                .filter_map(|(_, undone)| match undone {
                    Undone::Left(left) => Some(left.to_string()),
                    _ => None,
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(why) => why.to_string(),
        };
        match left.is_empty() {
            true => why.into(),
            false => SettingsError::Stuck {
                why: Box::new(why),
                left,
            },
        }
    }

    /// What it changes settings by.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// The changes.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Gives a function that is among the changes one of its two bindings, within the same entry; as often as one likes. It is
    /// not taken from a driver while it is in use ([`crate::in_use`]).
    ///
    /// # Errors
    /// It is in use, or the kernel does not do it; it then has whatever it was left with, which the scope still undoes.
    pub fn set(&mut self, function: PciAddress, after: bool) -> Result<(), SettingsError> {
        let change = self.changes.iter().find_map(|change| match change {
            Change::Driver(change) if change.function == function => Some(change),
            _ => None,
        });
        let change: &FunctionDriver = change.ok_or(ChangeError::NotCovered { function })?;
        let wanted: &Binding = if after { &change.after } else { &change.before };
        let _lock = self.journal.lock()?;
        Ok(change.set(&mut self.kernel, wanted)?)
    }

    /// Leaves the changes as they are, and their entry in the journal, for `strata restore`.
    pub fn keep(mut self) {
        self.over = true;
    }

    /// Undoes the changes, the last one first.
    ///
    /// # Errors
    /// The journal cannot be locked or written. What could not be undone is told by [`Undone::Left`], and stays in the journal.
    pub fn undo(mut self) -> Result<Vec<(Change, Undone)>, JournalError> {
        let lock = self.journal.lock()?;
        self.undo_locked(&lock)
    }

    fn undo_locked(&mut self, lock: &Lock) -> Result<Vec<(Change, Undone)>, JournalError> {
        self.over = true;
        // Another process may have undone it, if it was forced to.
        let Some(entry) = self.entry()? else {
            return Ok(Vec::new());
        };
        undo(&self.journal, &mut self.kernel, lock, self.number, &entry)
    }

    fn entry(&self) -> Result<Option<Entry>, JournalError> {
        let all = self.journal.read()?.into_iter();
        Ok(all
            .filter_map(|found| match found {
                Found::Entry(number, entry) if number == self.number => Some(entry),
                _ => None,
            })
            .find(|entry| self.journal.is_of_this_boot(entry)))
    }
}

impl<K: Kernel> Drop for Scope<K> {
    fn drop(&mut self) {
        if !self.over
            && let Ok(lock) = self.journal.lock()
        {
            // What fails stays in the journal, which tells it.
            let _ = self.undo_locked(&lock);
        }
    }
}
