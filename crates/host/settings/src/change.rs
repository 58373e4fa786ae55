//! One thing that is changed, and what became of undoing it.

use std::fmt;

use serde::{Deserialize, Serialize};
use strata_topology::Root;
use strata_units::PciAddress;

use crate::function::{Binding, FunctionDriver};
use crate::{ChangeError, Kernel, Name, module};

/// A change of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A PCI function gets another driver.
    Driver(FunctionDriver),
    /// A kernel module that was not there is loaded.
    Module {
        /// Its name.
        module: Name,
    },
}

impl Change {
    /// The function that it is about.
    pub fn function(&self) -> Option<PciAddress> {
        match self {
            Change::Driver(change) => Some(change.function),
            Change::Module { .. } => None,
        }
    }

    /// That it begins from what is there; a module that is loaded meanwhile stays loaded.
    pub(crate) fn begins(&self, root: &Root) -> Result<(), ChangeError> {
        match self {
            Change::Driver(change) => change.begins(root),
            Change::Module { .. } => Ok(()),
        }
    }

    pub(crate) fn apply(&self, kernel: &mut dyn Kernel) -> Result<(), ChangeError> {
        match self {
            Change::Driver(change) => change.apply(kernel),
            Change::Module { module } => module::load(kernel, module),
        }
    }
}

/// `0000:81:00.0: the driver nvme → the driver vfio-pci`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Driver(change) => write!(
                f,
                "{}: {} → {}",
                change.function, change.before, change.after
            ),
            Change::Module { module } => write!(f, "module {module}: absent → loaded"),
        }
    }
}

/// What became of undoing a change.
#[derive(Debug)]
pub enum Undone {
    /// All was as before already.
    Before,
    /// It is again.
    Restored,
    /// What was changed is gone from the host.
    Gone,
    /// It was left as it is.
    Left(Left),
}

impl Undone {
    /// Whether nothing of the change is left.
    pub fn is_done(&self) -> bool {
        !matches!(self, Undone::Left(_))
    }

    /// Whether something is left that a later attempt may undo.
    pub(crate) fn is_owed(&self) -> bool {
        matches!(self, Undone::Left(left) if !matches!(left, Left::NotBack(_)))
    }
}

/// Why a change was left.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// Somebody else has changed it since.
    #[error(
        "{function} has {found}: somebody has changed it since strata gave it {expected}; `strata restore --force` puts back what was before"
    )]
    Foreign {
        /// The function.
        function: PciAddress,
        /// What it has.
        found: Binding,
        /// What strata gave it.
        expected: Binding,
    },
    /// A later change of the same is left, and comes first.
    #[error("{function} has a later change that is left")]
    Under {
        /// The function.
        function: PciAddress,
    },
    /// Somebody else uses the module now.
    #[error("the module {module} stays, since {by} needs it; `strata restore` unloads it later")]
    Shared {
        /// The module.
        module: Name,
        /// Who uses it.
        by: String,
    },
    /// It is bound as before, but its drives are not there. There is nothing more to undo, and the journal forgets it.
    #[error(transparent)]
    NotBack(ChangeError),
    /// The journal has forgotten it, and it is not as before.
    #[error(
        "{function} has {found}, and what this process wrote down of it is gone from the journal (`strata restore --force` does that), so that it is left; `strata unbind {function}` gives it to the kernel"
    )]
    Forgotten {
        /// The function.
        function: PciAddress,
        /// What it has.
        found: Binding,
    },
    /// It failed.
    #[error(transparent)]
    Failed(#[from] ChangeError),
}
