//! A run's folder: who may write to it, and how a record gets onto the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use strata_record::{Record, Run, read_run, read_trials};

/// Why a run's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is one already.
    #[error("{folder} holds a run already; go on with it by `strata run --resume {folder}`, or give another --output", folder = folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
    },
    /// It is somebody's.
    #[error("{folder} holds {found} and no run; give an --output that does not exist yet, or is empty", folder = folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// Another process is at it.
    #[error("another strata is writing to {}; wait for it, or give another --output", .0.display())]
    Locked(PathBuf),
    /// The system refuses.
    #[error("cannot {what} {}: {source}; {next}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        next: &'static str,
    },
    /// It holds something else.
    #[error(transparent)]
    Unreadable(#[from] strata_record::StoreError),
}

fn system<'a>(
    what: &'static str,
    path: &'a Path,
    next: &'static str,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::System {
        what,
        path: path.to_owned(),
        source,
        next,
    }
}

const WRITABLE: &str = "give an --output that you may write to, on a file system with room";
const ROOM: &str = "what was measured is kept; make room and go on with `strata run --resume`";

/// Names what is made in a folder for a run that has not begun, one a line: after a kill nobody else could tell it from
/// somebody's file. Once there is a run, its `own_files` do.
const MAKING: &str = "making.txt";

/// A folder that this process alone may write to, before it holds a run. Dropped without one, it leaves nothing of its own.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    /// The folders that were made for it, the innermost first.
    made: Vec<PathBuf>,
    trials: Flock<File>,
}

impl Claim {
    /// Makes the folder (and those above it) for a new run, and keeps others out of it: from here on, not only from the
    /// first record on, since a file may be filled in it for minutes.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when it holds a run, [`StoreError::Locked`] when another process is at it, and what the
    /// system refuses.
    pub fn new(folder: &Path) -> Result<Claim, StoreError> {
        let missing = |at: &&Path| !at.as_os_str().is_empty() && !at.exists();
        let made = folder.ancestors().take_while(missing);
        let made = made.map(Path::to_owned).collect();
        // What is put into a run's folder takes the place of what had its name.
        if let Some(found) = stranger(folder) {
            return Err(StoreError::NotEmpty {
                folder: folder.to_owned(),
                found,
            });
        }
        fs::create_dir_all(folder).map_err(system("make", folder, WRITABLE))?;
        let taken = || StoreError::Taken {
            folder: folder.to_owned(),
        };
        // Before the lock, so that a run's folder is told as such whoever is at it.
        if folder.join("run.json").exists() {
            return Err(taken());
        }
        let trials = lock(folder)?;
        let claim = Claim {
            folder: folder.to_owned(),
            made,
            trials,
        };
        // Looked at again behind the lock: two that came at once shall not both have it. Records without a run.json are
        // somebody's; an empty file is what a kill before the first record leaves.
        if folder.join("run.json").exists() || !claim.is_empty() {
            return Err(taken());
        }
        claim.unfinish()?;
        Ok(claim)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says, before it is made, that a target of this name in the folder is the run's own: `target.dat`, of a plan's table
    /// `target-N.dat`. What a kill leaves of it before the run begins is no reason to refuse the folder then.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn makes(&self, name: &str) -> Result<(), StoreError> {
        let path = self.folder.join(MAKING);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(format!("{name}\n").as_bytes())?;
                file.sync_all()
            })
            .map_err(system("write", &path, WRITABLE))
    }

    /// Gives what a killed command had finished for a run that never began the name that it has while it is made, under which
    /// it is looked at before it is taken for the suite's.
    fn unfinish(&self) -> Result<(), StoreError> {
        for name in making(&self.folder) {
            let (whole, partial) = (
                self.folder.join(&name),
                self.folder.join(format!("{name}.partial")),
            );
            if whole.exists() && !partial.exists() {
                fs::rename(&whole, &partial).map_err(system("rename", &whole, WRITABLE))?;
            }
        }
        self.made_all();
        Ok(())
    }

    /// Nothing is being made any more.
    fn made_all(&self) {
        // One that is left over names what is told by its name or by a run.json, too.
        let _ = fs::remove_file(self.folder.join(MAKING));
    }

    /// Writes down what is to be measured; from now on the folder holds a run.
    ///
    /// # Errors
    /// What the system refuses; then there is no run.
    pub fn begin(self, run: &Run) -> Result<Store, StoreError> {
        let head = self.folder.join("run.json");
        let mut text = serde_json::to_vec_pretty(run)
            .map_err(|e| system("write", &head, "this is a bug of strata")(e.into()))?;
        text.push(b'\n');
        put(&self.folder, "run.json", &text).map_err(system("write", &head, WRITABLE))?;
        self.made_all();
        Ok(Store { at: self })
    }

    fn is_empty(&self) -> bool {
        self.trials.metadata().is_ok_and(|m| m.len() == 0)
    }
}

/// Something in a folder that holds no run, and that a run would not leave there before its first record.
fn stranger(folder: &Path) -> Option<String> {
    let names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if names.iter().any(|name| name == "run.json") {
        return None;
    }
    let making = making(folder);
    let ours = |name: &str| {
        matches!(name, "trials.jsonl" | "run.json.partial" | MAKING)
            || name.strip_suffix(".partial").is_some_and(is_target)
            || making.iter().any(|made| made == name)
    };
    names.into_iter().find(|name| !ours(name))
}

/// The targets that a killed command was making in a folder, or had made.
fn making(folder: &Path) -> Vec<String> {
    let mut text = String::new();
    // Each name is short, and of each table of a plan there is one.
    let read = File::open(folder.join(MAKING))
        .and_then(|file| file.take(1 << 20).read_to_string(&mut text));
    match read {
        Ok(_) => text
            .lines()
            .filter(|name| is_target(name))
            .map(str::to_owned)
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Whether it is the name of a target that a command makes for itself: `target.dat`, of a plan's table `target-N.dat`.
fn is_target(name: &str) -> bool {
    let number = name
        .strip_prefix("target")
        .and_then(|rest| rest.strip_suffix(".dat"));
    number.is_some_and(|of| {
        let digits = of.strip_prefix('-');
        of.is_empty()
            || digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
    })
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_empty() && !self.folder.join("run.json").exists() {
            // Still locked, so it is ours; what cannot be removed is an empty file or folder.
            let _ = fs::remove_file(self.folder.join("trials.jsonl"));
            self.made_all();
            for folder in &self.made {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// The open folder of a run; nobody else writes to it as long as this lives.
#[derive(Debug)]
pub struct Store {
    at: Claim,
}

impl Store {
    /// Makes the folder (and those above it) for a new run.
    ///
    /// # Errors
    /// Those of [`Claim::new`] and [`Claim::begin`].
    pub fn create(folder: &Path, run: &Run) -> Result<Store, StoreError> {
        Claim::new(folder)?.begin(run)
    }

    /// Opens the folder of a run to go on with it: the run, and the records of its trials so far. What a kill in mid-write
    /// left behind the last whole record is cut off.
    ///
    /// # Errors
    /// [`StoreError`], when it holds no run, or another process is at it.
    pub fn resume(folder: &Path) -> Result<(Store, Run, Vec<Record>), StoreError> {
        let run = read_run(folder)?;
        let trials = lock(folder)?;
        let (records, whole) = read_trials(folder, &run.id)?;
        let mut at = Claim {
            folder: folder.to_owned(),
            made: Vec::new(),
            trials,
        };
        let path = folder.join("trials.jsonl");
        at.trials
            .set_len(whole)
            .map_err(system("cut", &path, WRITABLE))?;
        at.trials
            .seek(SeekFrom::End(0))
            .map_err(system("read", &path, WRITABLE))?;
        Ok((Store { at }, run, records))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.at.folder()
    }

    /// Appends a record; it is on the disk when this returns.
    ///
    /// # Errors
    /// What the system refuses. What was appended before stays whole.
    pub fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        let path = self.folder().join("trials.jsonl");
        let mut line = serde_json::to_vec(record)
            .map_err(|e| system("write", &path, "this is a bug of strata")(e.into()))?;
        line.push(b'\n');
        self.at
            .trials
            .write_all(&line)
            .and_then(|()| self.at.trials.sync_data())
            .map_err(system("write", &path, ROOM))
    }

    /// Puts a file into the folder as a whole: under another name first, synced, then renamed.
    ///
    /// # Errors
    /// What the system refuses; a file of that name stays as it was.
    pub fn put(&self, name: &str, text: &[u8]) -> Result<(), StoreError> {
        let path = self.folder().join(name);
        put(self.folder(), name, text).map_err(system("write", &path, ROOM))
    }
}

fn put(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!("{name}.partial"));
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, folder.join(name)))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // Half of a file helps nobody; that it cannot be removed changes nothing about the error told.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn lock(folder: &Path) -> Result<Flock<File>, StoreError> {
    let path = folder.join("trials.jsonl");
    loop {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .map_err(system("open", &path, WRITABLE))?;
        let file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => StoreError::Locked(folder.to_owned()),
                    other => system("lock", &path, WRITABLE)(other.into()),
                },
            )?;
        // A claim that was given up between our opening and our locking has removed the file: ours would be nobody's.
        let same = |there: fs::Metadata, ours: fs::Metadata| {
            (there.dev(), there.ino()) == (ours.dev(), ours.ino())
        };
        let there = fs::metadata(&path);
        let ours = file
            .metadata()
            .map_err(system("look at", &path, WRITABLE))?;
        if there.is_ok_and(|there| same(there, ours)) {
            return Ok(file);
        }
    }
}
