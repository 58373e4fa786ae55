//! The journal: what is changed of the host at the moment, and what was before.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use strata_topology::Root;
use strata_units::{Nanos, PciAddress};

use crate::entry::NoEntry;
use crate::folder::{Folder, Lock};
use crate::process::boot;
use crate::{Change, Entry, FORMAT, JournalError, Name, Process};

/// Where it lies when nothing else is said: gone at a reboot, as the settings are.
const PLACE: &str = "/run/strata";

/// What names another place.
const VARIABLE: &str = "STRATA_JOURNAL";

/// How long another process may change settings before a second one gives up: its driver may take [`crate::Kernel::patience`] to
/// bind, and its controller as long again to come up, which is 260 s for a function. Whoever waits behind several slow ones is
/// told so.
const PATIENCE: Nanos = Nanos::from_millis(270_000);

/// The journal of a machine: a folder with a file an entry.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: Folder,
    root: Root,
    boot_id: String,
}

/// A file of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An entry, and its number.
    Entry(u64, Entry),
    /// One of a later format.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// One that cannot be understood.
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Journal {
    /// `/run/strata`, or what `STRATA_JOURNAL` names.
    pub fn place() -> PathBuf {
        std::env::var_os(VARIABLE)
            .filter(|place| !place.is_empty())
            .map_or_else(|| PathBuf::from(PLACE), PathBuf::from)
    }

    /// The journal in `folder`, made with mode 0700 where it is missing, of the machine whose tree is below `root`.
    ///
    /// # Errors
    /// The folder cannot be made, or is not this user's alone.
    pub fn open(folder: &Path, root: &Root) -> Result<Journal, JournalError> {
        Journal::of(Folder::make(folder)?, root)
    }

    /// The journal in `folder` if there is one.
    ///
    /// # Errors
    /// It cannot be looked at, or is not this user's alone.
    pub fn existing(folder: &Path, root: &Root) -> Result<Option<Journal>, JournalError> {
        Folder::existing(folder)?
            .map(|folder| Journal::of(folder, root))
            .transpose()
    }

    fn of(folder: Folder, root: &Root) -> Result<Journal, JournalError> {
        let boot_id = boot(root).map_err(|why| JournalError::System {
            what: "tell the boot for the journal in",
            path: folder.path().to_owned(),
            why,
        })?;
        Ok(Journal {
            folder,
            root: root.clone(),
            boot_id,
        })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps other processes from changing settings until the lock is dropped; waits for one that does, as long as it may take for one function.
    ///
    /// # Errors
    /// [`JournalError::Locked`], or the lock's file cannot be opened.
    pub fn lock(&self) -> Result<Lock, JournalError> {
        self.lock_within(PATIENCE)
    }

    /// As [`Journal::lock`], no longer than `within`.
    ///
    /// # Errors
    /// As [`Journal::lock`].
    pub fn lock_within(&self, within: Nanos) -> Result<Lock, JournalError> {
        self.folder.lock(within)
    }

    /// All that is in it, oldest first.
    ///
    /// # Errors
    /// The folder or a file of it cannot be read.
    pub fn read(&self) -> Result<Vec<Found>, JournalError> {
        let mut all = Vec::new();
        for (number, path) in self.folder.files()? {
            let Some(bytes) = self.folder.read(&path)? else {
                continue;
            };
            all.push(match Entry::parse(&bytes) {
                Ok(entry) => Found::Entry(number, entry),
                Err(NoEntry::Newer(format)) => Found::Newer { path, format },
                Err(NoEntry::Garbled(why)) => Found::Garbled { path, why },
            });
        }
        Ok(all)
    }

    /// Whether strata gave a function this driver, by an entry of this boot. A change that somebody has taken back by hand counts
    /// until strata looks at the function and finds it as before ([`crate::forget`]): when somebody else gives it the same driver
    /// first, this cannot tell it from ours.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn gave(&self, function: PciAddress, driver: &Name) -> Result<bool, JournalError> {
        Ok(self
            .current()?
            .iter()
            .any(|(_, entry)| entry.gives(function, driver)))
    }

    /// The entries of this boot and their numbers, oldest first.
    pub(crate) fn current(&self) -> Result<Vec<(u64, Entry)>, JournalError> {
        let entries = self.read()?.into_iter().filter_map(|found| match found {
            Found::Entry(number, entry) => Some((number, entry)),
            _ => None,
        });
        Ok(entries
            .filter(|(_, entry)| self.is_of_this_boot(entry))
            .collect())
    }

    /// Whether an entry is of this life of the machine; what another one changed is gone.
    pub fn is_of_this_boot(&self, entry: &Entry) -> bool {
        entry.boot_id == self.boot_id
    }

    /// This process.
    pub(crate) fn own(&self) -> Result<Process, JournalError> {
        Process::own(&self.root).map_err(|why| self.system("tell the process for", why))
    }

    /// Whether another process made an entry and still runs; what is this one's own it may undo.
    pub(crate) fn is_anothers(&self, entry: &Entry, own: Process) -> bool {
        entry.process != own && self.is_running(entry)
    }

    /// Whether the process that made an entry still runs.
    pub(crate) fn is_running(&self, entry: &Entry) -> bool {
        self.is_of_this_boot(entry) && entry.process.is_alive(&self.root)
    }

    /// The number of the next entry, if nobody has what that changes.
    pub(crate) fn next(&self, _: &Lock, changes: &[Change]) -> Result<u64, JournalError> {
        let own = self.own()?;
        let mut last = 0;
        for found in self.read()? {
            match found {
                Found::Newer { path, format } => return Err(JournalError::Newer { path, format }),
                Found::Garbled { path, why } => return Err(JournalError::Garbled { path, why }),
                Found::Entry(number, entry) => {
                    last = number;
                    if !self.is_anothers(&entry, own) {
                        continue;
                    }
                    let taken = changes.iter().filter_map(Change::function);
                    if let Some(function) = taken.into_iter().find(|f| entry.covers(*f)) {
                        return Err(JournalError::Taken {
                            function,
                            process: entry.process,
                            what_for: entry.what_for,
                        });
                    }
                }
            }
        }
        Ok(last + 1)
    }

    /// Writes down what will be changed; only afterwards may it be.
    pub(crate) fn begin(
        &self,
        lock: &Lock,
        number: u64,
        what_for: &str,
        changes: Vec<Change>,
    ) -> Result<Entry, JournalError> {
        let entry = Entry {
            format: FORMAT,
            boot_id: self.boot_id.clone(),
            process: self.own()?,
            at: Timestamp::now(),
            what_for: what_for.to_owned(),
            changes,
        };
        self.write(lock, number, &entry)?;
        Ok(entry)
    }

    /// Makes an entry say what is left of its changes; without any it is removed.
    pub(crate) fn leave(
        &self,
        lock: &Lock,
        number: u64,
        entry: &Entry,
        left: Vec<Change>,
    ) -> Result<(), JournalError> {
        match left {
            left if left.is_empty() => self.remove(lock, number),
            left if left == entry.changes => Ok(()),
            left => self.write(
                lock,
                number,
                &Entry {
                    changes: left,
                    ..entry.clone()
                },
            ),
        }
    }

    fn write(&self, lock: &Lock, number: u64, entry: &Entry) -> Result<(), JournalError> {
        let mut bytes = serde_json::to_vec_pretty(entry)
            .map_err(|why| self.system("write an entry of", io::Error::other(why)))?;
        bytes.push(b'\n');
        self.folder.write(lock, &self.path(number), &bytes)
    }

    pub(crate) fn remove(&self, lock: &Lock, number: u64) -> Result<(), JournalError> {
        self.folder.remove(lock, &self.path(number))
    }

    pub(crate) fn remove_file(&self, lock: &Lock, path: &Path) -> Result<(), JournalError> {
        self.folder.remove(lock, path)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.path().join(format!("{number}.json"))
    }

    fn system(&self, what: &'static str, why: io::Error) -> JournalError {
        JournalError::System {
            what,
            path: self.folder.path().to_owned(),
            why,
        }
    }
}
