//! The journal of host settings: whatever of the host is changed is written down first and undone afterwards.
//!
//! A [`Change`] says what is changed, what was before and what is wanted. A [`Scope`] writes its changes to the [`Journal`],
//! synced, before it makes them, and undoes them when it ends; what a killed process left is undone by [`restore`], from
//! whatever step it was killed at: what is there now is compared with what was before, and only what is missing is done. What
//! somebody else has changed meanwhile is told and left alone. No drive is taken from its driver while it is in use
//! ([`in_use`]). Settings of this kind are gone at a reboot, and so is the journal, which lies in `/run`. All is read and written
//! below a root by a [`Kernel`], so that each step can be stopped at in tests.

#![forbid(unsafe_code)]

mod change;
mod entry;
mod error;
mod folder;
mod function;
mod journal;
mod kernel;
mod module;
mod name;
mod process;
mod restore;
mod scope;
mod tree;
mod users;

pub use change::{Change, Left, Undone};
pub use entry::{Entry, FORMAT};
pub use error::{ChangeError, JournalError, SettingsError};
pub use folder::Lock;
pub use function::{Binding, FunctionDriver, wait_for_devices};
pub use journal::{Found, Journal};
pub use kernel::{Kernel, Live};
pub use module::{is_registered, missing_modules};
pub use name::{Name, NotAName};
pub use process::Process;
pub use restore::{Outcome, Told, forget, restore, take_back};
pub use scope::Scope;
pub use users::{Reason, Uses, in_use};
