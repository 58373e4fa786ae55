//! The root under which trees are read, and the reader that keeps notes of what it could not read.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use strata_record::Note;
use strata_units::IdList;

use crate::recording::Recording;

/// The most that is read of one file; larger ones are no attribute of sysfs or procfs that we want.
const MOST: u64 = 1 << 20;

/// The largest CPU or node number in a bit mask, as in strata-units' lists.
const LARGEST_BIT: usize = 65_535;

/// Where `sys/`, `proc/` and `etc/` stand: `/` of this machine, or a recorded tree in a folder or in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Memory(Arc<Recording>),
}

impl Root {
    /// The machine that this process runs on.
    pub fn live() -> Root {
        Root::new("/")
    }

    /// Any folder; `/` is the live machine.
    pub fn new(folder: impl Into<PathBuf>) -> Root {
        Root(Place::Folder(folder.into()))
    }

    /// A tree in memory.
    pub fn recorded(recording: Recording) -> Root {
        Root(Place::Memory(Arc::new(recording)))
    }

    /// The folder; of a tree in memory a word that says so.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Place::Folder(folder) => folder,
            Place::Memory(_) => Path::new("(recorded in memory)"),
        }
    }

    /// Whether this is the machine that the process runs on, of which system calls tell the truth too.
    pub fn is_live(&self) -> bool {
        self.path() == Path::new("/")
    }

    /// Whether there is a folder to read in.
    pub(crate) fn is_there(&self) -> bool {
        match &self.0 {
            Place::Folder(folder) => folder.is_dir(),
            Place::Memory(_) => true,
        }
    }
}

/// Reads below a root; what is absent is `None`, what is wrong is `None` and a note.
pub(crate) struct Reader<'a> {
    root: &'a Root,
    real_root: PathBuf,
    notes: RefCell<Vec<Note>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Reader {
            root,
            real_root: fs::canonicalize(root.path()).unwrap_or_else(|_| root.path().to_owned()),
            notes: RefCell::default(),
        }
    }

    pub(crate) fn root(&self) -> &'a Root {
        self.root
    }

    pub(crate) fn note(&self, path: &str, why: impl Into<String>) {
        self.notes.borrow_mut().push(Note {
            path: path.to_owned(),
            why: why.into(),
        });
    }

    pub(crate) fn into_notes(self) -> Vec<Note> {
        self.notes.into_inner()
    }

    /// The path with its links followed, within a recording relative to it; `None` when absent or when a link leads out
    /// of the root.
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let real = match &self.root.0 {
            Place::Folder(folder) if self.root.is_live() => return Some(folder.join(path)),
            Place::Folder(folder) => fs::canonicalize(folder.join(path))
                .map(|real| Some(real).filter(|real| real.starts_with(&self.real_root))),
            Place::Memory(recording) => recording.real(path).map(|real| real.map(PathBuf::from)),
        };
        match real {
            Ok(Some(real)) => Some(real),
            Ok(None) => {
                self.note(path, "leads out of the recorded tree; not followed");
                None
            }
            Err(error) => {
                self.refused(path, &error);
                None
            }
        }
    }

    /// Keeps a note unless the error is how the kernel says "there is no such value": a missing file, `EINVAL` of a link
    /// that is down, `EOPNOTSUPP`, `ENODEV`, `ENXIO`.
    fn refused(&self, path: &str, error: &io::Error) {
        let no_value = matches!(
            error.raw_os_error(),
            Some(
                libc::ENOENT
                    | libc::ENOTDIR
                    | libc::EINVAL
                    | libc::EOPNOTSUPP
                    | libc::ENODEV
                    | libc::ENXIO
            )
        );
        if !no_value {
            self.note(path, error.to_string());
        }
    }

    /// A file's text without the blanks round it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.long_text(path, MOST)
    }

    /// As [`Reader::text`], of a file that may be `most` bytes long.
    pub(crate) fn long_text(&self, path: &str, most: u64) -> Option<String> {
        let full = self.locate(path)?;
        let read = || -> io::Result<Vec<u8>> {
            if let Place::Memory(recording) = &self.root.0 {
                return Ok(recording.file(&full.to_string_lossy())?.to_owned());
            }
            // A FIFO or a device in a foreign tree would block or never end.
            if !fs::metadata(&full)?.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            let mut bytes = Vec::new();
            File::open(&full)?.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Some(
                    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
                        .to_owned(),
                )
            }
            Err(error) => {
                self.refused(path, &error);
                None
            }
        }
    }

    /// A file's text, `None` when it is empty too.
    pub(crate) fn word(&self, path: &str) -> Option<String> {
        self.text(path).filter(|text| !text.is_empty())
    }

    /// A file's text parsed; a note when it is not what was expected.
    pub(crate) fn value<T: FromStr>(&self, path: &str, expected: &str) -> Option<T> {
        let text = self.word(path)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.note(path, format!("found {text:?}, expected {expected}"));
        }
        value
    }

    /// A file that holds 0 or 1.
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        self.value::<u8>(path, "0 or 1").map(|n| n != 0)
    }

    /// A file that holds a hexadecimal number, with or without `0x`.
    pub(crate) fn hex<T: TryFrom<u32>>(&self, path: &str) -> Option<T> {
        let text = self.word(path)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        let number = u32::from_str_radix(digits, 16).ok();
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let bits = 8 * size_of::<T>();
            self.note(
                path,
                format!("found {text:?}, expected a hexadecimal number of {bits} bits"),
            );
        }
        number
    }

    /// A file in list format (`0-3,8`); some kernels write `(null)` for an empty one.
    pub(crate) fn list<T: Ord + From<u32>>(&self, path: &str) -> Option<IdList<T>> {
        let text = self.text(path).filter(|text| text != "(null)")?;
        match text.parse() {
            Ok(list) => Some(list),
            Err(error) => {
                self.note(path, format!("{error}"));
                None
            }
        }
    }

    /// A file that holds a bit mask in words of 32 bits, most significant first (`00000000,0000ffff`).
    pub(crate) fn mask<T: Ord + From<u32>>(&self, path: &str) -> Option<IdList<T>> {
        let text = self.word(path)?;
        let words: Option<Vec<u32>> = text
            .split(',')
            .rev()
            .map(|word| u32::from_str_radix(word.trim(), 16).ok())
            .collect();
        let Some(words) = words.filter(|words| words.len() * 32 <= LARGEST_BIT + 1) else {
            self.note(
                path,
                format!("found {text:?}, expected a mask of words of 32 bits"),
            );
            return None;
        };
        let bits = words
            .iter()
            .zip((0u32..).step_by(32))
            .flat_map(|(word, base)| {
                (0..32)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| T::from(base + bit))
            });
        Some(bits.collect())
    }

    /// The names in a folder, sorted; none when it is absent.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let Some(full) = self.locate(folder) else {
            return Vec::new();
        };
        let names = match &self.root.0 {
            Place::Memory(recording) => recording.names(&full.to_string_lossy()),
            Place::Folder(_) => fs::read_dir(&full).map(|entries| {
                let mut names: Vec<String> = entries
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .collect();
                names.sort_unstable();
                names
            }),
        };
        names.unwrap_or_else(|error| {
            self.refused(folder, &error);
            Vec::new()
        })
    }

    /// The numbers `N` of the entries `prefixN` in a folder, ascending (`cpu0`, `cpu1`, but not `cpuidle`).
    pub(crate) fn numbered(&self, folder: &str, prefix: &str) -> Vec<u32> {
        let mut numbers: Vec<u32> = self
            .names(folder)
            .iter()
            .filter_map(|name| numbered(name, prefix))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Whether something is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        match &self.root.0 {
            Place::Folder(folder) => folder.join(path).exists(),
            Place::Memory(recording) => recording.real(path).is_ok_and(|real| real.is_some()),
        }
    }

    /// The path below the root that a chain of links ends at; a note when it ends nowhere, as in a tree recorded in part.
    pub(crate) fn real(&self, path: &str) -> Option<String> {
        let inside = match &self.root.0 {
            Place::Folder(folder) => fs::canonicalize(folder.join(path)).ok().and_then(|real| {
                let inside = real.strip_prefix(&self.real_root).ok()?;
                Some(inside.to_string_lossy().into_owned())
            }),
            Place::Memory(recording) => recording.real(path).ok().flatten(),
        };
        if inside.is_none() {
            self.note(path, "leads to nothing in this tree");
        }
        inside
    }

    /// The last name of a link's target (`driver -> ../../bus/pci/drivers/nvme` gives `nvme`); it may be dangling.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        match &self.root.0 {
            Place::Folder(folder) => {
                let target = fs::read_link(folder.join(path)).ok()?;
                Some(target.file_name()?.to_string_lossy().into_owned())
            }
            Place::Memory(recording) => {
                let target = Path::new(recording.link(path)?);
                Some(target.file_name()?.to_string_lossy().into_owned())
            }
        }
    }
}

/// The number `N` of a name `prefixN`.
pub(crate) fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|n| usize::try_from(*n).is_ok_and(|n| n <= LARGEST_BIT))
}
