//! The journal's folder: private, locked by one process at a time, and synced.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use strata_units::Nanos;

use crate::JournalError;

/// The file that is locked.
const LOCK: &str = "lock";

/// What an entry is written to before it has its name.
const NEW: &str = "entry.new";

/// The largest entry that is read.
const MOST: u64 = 1 << 20;

/// How often a lock is tried.
const LOOK: Duration = Duration::from_millis(20);

/// That no other process changes settings, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A folder of this user's that nobody else may enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(PathBuf);

fn system<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> JournalError + 'a {
    move |why| JournalError::System {
        what,
        path: path.to_owned(),
        why,
    }
}

impl Folder {
    /// Makes it where it is missing.
    pub(crate) fn make(path: &Path) -> Result<Folder, JournalError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                return Err(system("make the journal", path)(why));
            }
            _ => {}
        }
        match Folder::existing(path)? {
            Some(folder) => Ok(folder),
            None => Err(system("look at", path)(io::ErrorKind::NotFound.into())),
        }
    }

    /// The folder that is there, if one is.
    pub(crate) fn existing(path: &Path) -> Result<Option<Folder>, JournalError> {
        // Of the place itself: a link could be turned elsewhere afterwards.
        let found = match fs::symlink_metadata(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(system("look at", path))?,
        };
        let open = |found: String| {
            Err(JournalError::Open {
                folder: path.to_owned(),
                found,
            })
        };
        let (user, mode) = (found.uid(), found.mode() & 0o777);
        if !found.is_dir() {
            return open("it is no folder".to_owned());
        }
        if user != geteuid().as_raw() {
            return open(format!("it belongs to user {user}"));
        }
        if mode & 0o077 != 0 {
            return open(format!("its mode is {mode:04o}"));
        }
        Ok(Some(Folder(path.to_owned())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Waits for the lock, no longer than `within`.
    pub(crate) fn lock(&self, within: Nanos) -> Result<Lock, JournalError> {
        let path = self.0.join(LOCK);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = opened.map_err(system("open", &path))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(why)) => return Err(system("lock", &path)(why)),
                Err(TryLockError::WouldBlock) if Nanos::from(begun.elapsed()) < within => {
                    thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    let mut by = String::new();
                    let told = (&file).take(100).read_to_string(&mut by);
                    return Err(JournalError::Locked {
                        folder: self.0.clone(),
                        by: match told {
                            Ok(_) if !by.trim().is_empty() => by.trim().to_owned(),
                            _ => "another process".to_owned(),
                        },
                        within,
                    });
                }
            }
        }
        // Only for those who wait to tell; the lock holds without it.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()));
        // What a process that was killed had begun to write is no entry, and nobody's any more.
        let _ = fs::remove_file(self.0.join(NEW));
        Ok(Lock { _file: file })
    }

    /// The files `N.json`, by their numbers.
    pub(crate) fn files(&self) -> Result<Vec<(u64, PathBuf)>, JournalError> {
        let read = system("read", &self.0);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(&read)? {
            let path = entry.map_err(&read)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_suffix(".json").map(str::parse::<u64>);
            if let Some(Ok(number)) = number {
                files.push((number, path));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The bytes of a file; `None` when it was removed meanwhile.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(system("read", path)(why)),
        }
    }

    /// Writes a file whole or not at all; it is on the medium when this returns.
    pub(crate) fn write(&self, _: &Lock, path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
        let new = self.0.join(NEW);
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        written().map_err(system("write", path))?;
        self.sync()
    }

    /// Removes a file, for good when this returns.
    pub(crate) fn remove(&self, _: &Lock, path: &Path) -> Result<(), JournalError> {
        fs::remove_file(path).map_err(system("remove", path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), JournalError> {
        File::open(&self.0)
            .and_then(|folder| folder.sync_all())
            .map_err(system("sync", &self.0))
    }
}
