//! What goes wrong with settings and their journal.

use std::io;
use std::path::PathBuf;

use strata_units::{Nanos, PciAddress};

use crate::function::Binding;
use crate::name::Name;
use crate::process::Process;
use crate::users::Reason;

/// A setting could not be changed, or changed back.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such function.
    #[error("there is no PCI function {function} (any more); `strata topology` lists them")]
    Gone {
        /// The function.
        function: PciAddress,
    },
    /// Its state cannot be read.
    #[error("cannot read {what} of {function}: {why}; mount /sys and /proc, and run as root")]
    Unknown {
        /// What was to be known.
        what: &'static str,
        /// The function.
        function: PciAddress,
        /// Why it is not.
        why: io::Error,
    },
    /// The driver that is wanted is not there.
    #[error(
        "cannot bind {function} to {driver}: no such PCI driver is registered; load it (`modprobe {driver}`)"
    )]
    NoDriver {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: Name,
    },
    /// The kernel did not take a value.
    #[error(
        "cannot write {value:?} to {attribute}: {why}; run as root, where /sys is mounted for writing"
    )]
    Write {
        /// The attribute, below the root.
        attribute: String,
        /// The value.
        value: String,
        /// What the kernel said.
        why: io::Error,
    },
    /// It is in use.
    #[error("{function} is not taken from {driver}: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    InUse {
        /// The function.
        function: PciAddress,
        /// The driver that holds it.
        driver: Name,
        /// By whom, one at least.
        reasons: Vec<Reason>,
    },
    /// It is not what the kernel was told to make of it.
    #[error(
        "{function} has {found} and not {expected}, {within} after it was to be bound; see the kernel's log (`dmesg`)"
    )]
    NotBound {
        /// The function.
        function: PciAddress,
        /// What it has.
        found: Binding,
        /// What it should have.
        expected: Binding,
        /// How long was waited.
        within: Nanos,
    },
    /// Its drives did not come back with its driver.
    #[error(
        "{function} has its driver {driver} again, but {found} of the {expected} block devices that stood on it, {within} after; see its state (`strata topology`) and the kernel's log (`dmesg`)"
    )]
    NotBack {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: Name,
        /// How many are there.
        found: usize,
        /// How many there were.
        expected: usize,
        /// How long was waited.
        within: Nanos,
    },
    /// It has its driver, and no controller.
    #[error(
        "{function} has its driver {driver}, but none of its controllers is live, {within} after; see its state (`strata topology`) and the kernel's log (`dmesg`)"
    )]
    NotLive {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: Name,
        /// How long was waited.
        within: Nanos,
    },
    /// The state is another than the change begins from.
    #[error(
        "{function} has {found}, and {expected} was found a moment ago; look again (`strata topology`) and start anew"
    )]
    Changed {
        /// The function.
        function: PciAddress,
        /// What it has now.
        found: Binding,
        /// What it had.
        expected: Binding,
    },
    /// The scope does not cover the function.
    #[error(
        "{function} is none of what this scope has written down; begin it with that function among its changes"
    )]
    NotCovered {
        /// The function.
        function: PciAddress,
    },
    /// A module cannot be loaded.
    #[error(
        "cannot load the kernel module {module}: {why}; install the modules of the running kernel (`uname -r`; Debian's cloud kernels lack VFIO: linux-image-amd64 has it), and run as root"
    )]
    Module {
        /// The module.
        module: Name,
        /// What modprobe(8) said.
        why: io::Error,
    },
    /// A module cannot be unloaded.
    #[error(
        "cannot unload the kernel module {module}: {why}; it does no harm where it is, `rmmod {module}` as root takes it away"
    )]
    Unload {
        /// The module.
        module: Name,
        /// What the kernel said.
        why: io::Error,
    },
}

/// The journal cannot be used; nothing is changed without it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refuses.
    #[error("cannot {what} {}: {why}; run as root, or name another place for the journal by STRATA_JOURNAL", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        why: io::Error,
    },
    /// Others could write into it.
    #[error(
        "the journal in {} is not used: {found}, and what is undone by it is done as this user; give it a folder of this user's with mode 0700", folder.display()
    )]
    Open {
        /// Its folder.
        folder: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Another process is changing settings.
    #[error(
        "the journal in {} is locked by {by}, {within} long; wait until it is done, or end it", folder.display()
    )]
    Locked {
        /// Its folder.
        folder: PathBuf,
        /// By whom.
        by: String,
        /// How long was waited.
        within: Nanos,
    },
    /// An entry that is there cannot be understood, so that what it says was before would be lost.
    #[error(
        "nothing is changed while {} cannot be understood: {why}; read it, put back by hand what it says was changed, and remove it (`strata restore --force` removes it)", path.display()
    )]
    Garbled {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An entry of a later version.
    #[error(
        "nothing is changed while {} is there: its format is {format} and this strata knows {}; `strata restore` of the version that wrote it undoes it", path.display(), crate::FORMAT
    )]
    Newer {
        /// The entry.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// An entry is gone while its process runs.
    #[error(
        "{function} is left as it is: what this process wrote down of it is gone from the journal in {} (`strata restore --force` does that); look at it (`strata topology`) and start anew", folder.display()
    )]
    Forgotten {
        /// The function.
        function: PciAddress,
        /// The journal's folder.
        folder: PathBuf,
    },
    /// Another process changes the same.
    #[error(
        "{function} is in the hands of {process} ({what_for}), which undoes it at its end; wait for that, or end it"
    )]
    Taken {
        /// The function.
        function: PciAddress,
        /// The process, which runs.
        process: Process,
        /// What it does.
        what_for: String,
    },
}

/// Why settings are not as a scope wants them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nothing was changed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A change failed, and what was done before it is undone again.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A change failed, and so did undoing it.
    #[error(
        "{why}; and what was done before it is not all undone: {left}; `strata restore` tries again"
    )]
    Stuck {
        /// What failed first.
        why: Box<ChangeError>,
        /// What is left.
        left: String,
    },
}
