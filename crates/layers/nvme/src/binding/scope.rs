//! Drives that are with vfio-pci for as long as a value lives.

use std::path::Path;

use strata_settings::{
    Change, Journal, JournalError, Kernel, Scope, SettingsError, Undone, forget,
};

use super::{BindError, Plan};

/// Who has the functions of a [`Bound`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The driver that had them before: the kernel's.
    Kernel,
    /// vfio-pci.
    Vfio,
}

/// Functions that were given to vfio-pci. When it is dropped they go back; if that fails, `strata restore` goes on from there.
pub struct Bound<K: Kernel> {
    scope: Scope<K>,
}

impl Plan {
    /// Does what was planned: writes it down, loads modules, and gives the functions to vfio-pci. All that was checked is checked
    /// again for each function when it is taken from its driver. `typed` are the serial numbers that the user typed; `what_for` is
    /// told to whoever meets the journal's entry.
    ///
    /// # Errors
    /// It is there already, something stands against it, a serial number was not typed, or it fails: then all is as it was before, or the error says
    /// what is not.
    pub fn bind<K: Kernel>(
        self,
        kernel: K,
        journal: &Path,
        typed: &[String],
        what_for: &str,
    ) -> Result<Bound<K>, BindError> {
        if !self.refusals.is_empty() {
            return Err(BindError::Refused(self.refusals));
        }
        if self.already.is_some() {
            let function = self.function;
            return Err(BindError::Already { function });
        }
        self.typed_matches(typed)?;
        let journal = Journal::open(journal, kernel.root())?;
        for of in &self.moves {
            // Where it was before it was given to the kernel on request is nothing to go back to any more.
            let own = of.before.driver.as_ref();
            forget(&journal, kernel.root(), &journal.lock()?, of.function, own)?;
        }
        let scope = Scope::begin(journal, kernel, what_for, self.changes())?;
        Ok(Bound { scope })
    }
}

impl<K: Kernel> Bound<K> {
    /// Gives the functions to the one or the other, as often as one likes: all within one entry of the journal. Whoever is given
    /// them next waits until they are there: the kernel's namespaces are back when this returns.
    ///
    /// # Errors
    /// One is in use where it is, or does not come up where it goes; the scope still undoes it.
    pub fn give_to(&mut self, holder: Holder) -> Result<(), SettingsError> {
        let functions: Vec<_> = self
            .scope
            .changes()
            .iter()
            .filter_map(Change::function)
            .collect();
        for function in functions {
            self.scope.set(function, holder == Holder::Vfio)?;
        }
        Ok(())
    }

    /// What was changed.
    pub fn changes(&self) -> &[Change] {
        self.scope.changes()
    }

    /// Leaves them with vfio-pci, until `strata unbind` or `strata restore`.
    pub fn keep(self) {
        self.scope.keep();
    }

    /// Gives them back.
    ///
    /// # Errors
    /// The journal cannot be locked or written. What could not be undone is told, and stays in the journal.
    pub fn undo(self) -> Result<Vec<(Change, Undone)>, JournalError> {
        self.scope.undo()
    }
}
