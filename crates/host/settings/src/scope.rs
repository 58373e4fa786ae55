//! Changes that hold as long as a value lives.

use strata_units::PciAddress;

use crate::folder::Lock;
use crate::function::{Binding, FunctionDriver};
use crate::restore::undo;
use crate::{
    Change, ChangeError, Entry, Journal, JournalError, Kernel, Left, SettingsError, Undone,
};

/// Changes that are made, and are undone when this is dropped. What cannot be undone then stays in the journal, for
/// `strata restore`.
pub struct Scope<K: Kernel> {
    journal: Journal,
    kernel: K,
    number: u64,
    /// As it was written down.
    entry: Entry,
    over: bool,
}

impl<K: Kernel> Scope<K> {
    /// Writes the changes down, makes them in this order, and gives the scope in which they hold. `what_for` is told to
    /// whoever meets the entry.
    ///
    /// # Errors
    /// Nothing is changed when the journal cannot be written, another process has one of the functions in its hands, or one is not
    /// as it was found. When a change fails, those before it are undone at once.
    pub fn begin(
        journal: Journal,
        kernel: K,
        what_for: &str,
        changes: Vec<Change>,
    ) -> Result<Scope<K>, SettingsError> {
        let lock = journal.lock()?;
        let number = journal.next(&lock, &changes)?;
        // Another process may have been faster, and what it did since is not ours to undo.
        for change in &changes {
            change.begins(kernel.root())?;
        }
        let entry = journal.begin(&lock, number, what_for, changes)?;
        let mut scope = Scope {
            journal,
            kernel,
            number,
            entry,
            over: false,
        };
        let mut made = scope.entry.changes.iter().enumerate();
        let failed =
            made.find_map(|(at, change)| Some((at, change.apply(&mut scope.kernel).err()?)));
        match failed {
            None => Ok(scope),
            Some((at, why)) => Err(scope.roll_back(&lock, at, why)),
        }
    }

    /// Undoes the changes before the one that failed, and that one as far as it was begun.
    fn roll_back(&mut self, lock: &Lock, failed: usize, why: ChangeError) -> SettingsError {
        let untouched = matches!(why, ChangeError::Changed { .. })
            || match &self.entry.changes[failed] {
                Change::Driver(of) => of.begins(self.kernel.root()).is_ok(),
                Change::Module { .. } => false,
            };
        self.over = true;
        let made = Entry {
            changes: self.entry.changes[..failed + usize::from(!untouched)].to_vec(),
            ..self.entry.clone()
        };
        // First what was never made, so that nobody undoes it if this is killed; what was made goes back also when that fails.
        let changes = made.changes.clone();
        let rest = self.journal.leave(lock, self.number, &self.entry, changes);
        let undone = match made.changes.is_empty() {
            true => rest.map(|()| Vec::new()),
            false => {
                let undone = undo(&self.journal, &mut self.kernel, lock, self.number, &made);
                rest.and(undone)
            }
        };
        let left = match undone {
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
        &self.entry.changes
    }

    /// Gives a function that is among the changes one of its two bindings, within the same entry; as often as one likes. It is
    /// not taken from a driver while it is in use ([`crate::in_use`]).
    ///
    /// # Errors
    /// It is in use, or the kernel does not do it; it then has whatever it was left with, which the scope still undoes. Nothing is
    /// changed when somebody else has undone the entry meanwhile.
    pub fn set(&mut self, function: PciAddress, after: bool) -> Result<(), SettingsError> {
        let change = self.entry.changes.iter().find_map(|change| match change {
            Change::Driver(change) if change.function == function => Some(change),
            _ => None,
        });
        let change: &FunctionDriver = change.ok_or(ChangeError::NotCovered { function })?;
        let wanted: &Binding = if after { &change.after } else { &change.before };
        let _lock = self.journal.lock()?;
        let written = self.written()?;
        if !written.is_some_and(|entry| entry.covers(function)) {
            let folder = self.journal.folder().to_owned();
            return Err(JournalError::Forgotten { function, folder }.into());
        }
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
        match self.written()? {
            Some(entry) => undo(&self.journal, &mut self.kernel, lock, self.number, &entry),
            None => self.look(),
        }
    }

    /// Its entry, as far as that still says something is changed.
    fn written(&self) -> Result<Option<Entry>, JournalError> {
        let mut all = self.journal.current()?.into_iter();
        let found = all.find(|(number, entry)| *number == self.number && entry.is(&self.entry));
        Ok(found.map(|(_, entry)| entry))
    }

    /// What became of the functions when somebody else has undone the entry. Nothing is written down any more, so nothing is
    /// changed; what stands in another entry is another's.
    fn look(&self) -> Result<Vec<(Change, Undone)>, JournalError> {
        let others = self.journal.current()?;
        let mut all = Vec::new();
        for change in self.entry.changes.iter().rev() {
            let Change::Driver(of) = change else {
                continue;
            };
            let function = of.function;
            let became = match Binding::of(self.kernel.root(), function) {
                Err(ChangeError::Gone { .. }) => Undone::Gone,
                Err(why) => Undone::Left(Left::Failed(why)),
                Ok(found) if found == of.before => Undone::Before,
                Ok(_) if others.iter().any(|(_, entry)| entry.covers(function)) => Undone::Gone,
                Ok(found) => Undone::Left(Left::Forgotten { function, found }),
            };
            all.push((change.clone(), became));
        }
        Ok(all)
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
