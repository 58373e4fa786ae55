//! A recorded tree in memory: for tests, for fuzzers, and for trees that came as one text.

use std::collections::BTreeMap;
use std::io;

/// The longest path, as in Linux (PATH_MAX); it bounds the depth of a tree too.
const LONGEST_PATH: usize = 4096;

/// Links that one path may lead through (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// Files, folders and links as they stand below `sys/`, `proc/` and `etc/`; read by `Root::recorded`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    top: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder(BTreeMap<String, Entry>),
    File(Vec<u8>),
    Link(String),
}

/// A line that says nothing that a tree can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot add {line:?} to a recorded tree: {found}; expected `path = text` or `path -> target`, the path relative and below folders only"
)]
pub struct RecordingError {
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub found: &'static str,
}

impl Recording {
    /// Adds or replaces what one line says: `path = text`, in which `\n`, `\t`, `\0` and `\\` stand for a new line, a
    /// tabulator, a zero and a backslash, or `path -> target`. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The line is of neither form, its path is no relative one, or something else than a folder stands on its way.
    pub fn put(&mut self, line: &str) -> Result<(), RecordingError> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let fail = |found| RecordingError {
            line: line.chars().take(200).collect(),
            found,
        };
        let equals = line.split_once(" =");
        let arrow = line
            .split_once(" -> ")
            .filter(|(path, _)| equals.is_none_or(|(file, _)| path.len() < file.len()));
        let (path, entry) = match (arrow, equals) {
            (Some((path, target)), _) => (path, Entry::Link(target.trim().to_owned())),
            (None, Some((path, text))) => {
                let text = unescaped(text.trim_start()) + "\n";
                (path, Entry::File(text.into_bytes()))
            }
            (None, None) => return Err(fail("neither ` = ` nor ` -> `")),
        };
        let path = path.trim();
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if path.len() > LONGEST_PATH || !path.split('/').all(plain) {
            return Err(fail("the path is none of a recorded tree"));
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = &mut self.top;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            let below = folder
                .entry(part.to_owned())
                .or_insert_with(|| Entry::Folder(BTreeMap::new()));
            let Entry::Folder(below) = below else {
                return Err(fail("a file or link stands where a folder should"));
            };
            folder = below;
        }
        folder.insert(name.to_owned(), entry);
        Ok(())
    }

    /// A whole text, a line after the other.
    ///
    /// # Errors
    /// As [`Recording::put`], for the first line that is wrong.
    pub fn parse(text: &str) -> Result<Recording, RecordingError> {
        let mut recording = Recording::default();
        text.lines().try_for_each(|line| recording.put(line))?;
        Ok(recording)
    }

    /// The path with its links followed; `Ok(None)` when one leads out of the tree.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR` or `ELOOP`, as of a file system.
    pub(crate) fn real(&self, path: &str) -> io::Result<Option<String>> {
        let mut ahead: Vec<&str> = path.rsplit('/').collect();
        // The names so far, each with what stands there.
        let mut real: Vec<(&str, &Entry)> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            let here = match real.last() {
                None => &self.top,
                Some((_, Entry::Folder(below))) => below,
                // `file/.` and `file/..` are errors in a file system too.
                Some(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            };
            match part {
                "" | "." => {}
                ".." => {
                    if real.pop().is_none() {
                        return Ok(None);
                    }
                }
                _ => match here.get_key_value(part) {
                    None => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
                    Some((_, Entry::Link(target))) => {
                        links += 1;
                        if links > MOST_LINKS || target.len() > LONGEST_PATH {
                            return Err(io::Error::from_raw_os_error(libc::ELOOP));
                        }
                        if target.starts_with('/') {
                            return Ok(None);
                        }
                        ahead.extend(target.rsplit('/'));
                    }
                    Some((name, entry)) => real.push((name, entry)),
                },
            }
        }
        let names: Vec<&str> = real.iter().map(|(name, _)| *name).collect();
        Ok(Some(names.join("/")))
    }

    /// The bytes of a file of which [`Recording::real`] told the path.
    ///
    /// # Errors
    /// `ENOENT`, or it is no file.
    pub(crate) fn file(&self, real: &str) -> io::Result<&[u8]> {
        match self.entry(real)? {
            Entry::File(bytes) => Ok(bytes),
            Entry::Folder(_) | Entry::Link(_) => Err(io::Error::other("not a regular file")),
        }
    }

    /// The names in a folder of which [`Recording::real`] told the path, sorted.
    ///
    /// # Errors
    /// `ENOENT` or `ENOTDIR`.
    pub(crate) fn names(&self, real: &str) -> io::Result<Vec<String>> {
        let parts: Vec<String> = parts(real);
        Ok(self.folder(&parts)?.keys().cloned().collect())
    }

    /// The target of a link, which may lead nowhere.
    pub(crate) fn link(&self, path: &str) -> Option<&str> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let above = self.real(above).ok()??;
        match self.folder(&parts(&above)).ok()?.get(name)? {
            Entry::Link(target) => Some(target),
            Entry::Folder(_) | Entry::File(_) => None,
        }
    }

    fn entry(&self, real: &str) -> io::Result<&Entry> {
        let mut parts = parts(real);
        let name = parts.pop().unwrap_or_default();
        let folder = self.folder(&parts)?;
        folder
            .get(&name)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// The folder at the end of these names, none of them a link.
    fn folder(&self, parts: &[String]) -> io::Result<&BTreeMap<String, Entry>> {
        let mut folder = &self.top;
        for part in parts {
            folder = match folder.get(part) {
                Some(Entry::Folder(below)) => below,
                Some(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                None => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
            };
        }
        Ok(folder)
    }
}

fn parts(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                // `\040` is how the kernel writes a blank in mounts(5).
                Some('0') if !letters.peek().is_some_and(char::is_ascii_digit) => plain.push('\0'),
                Some('\\') | None => plain.push('\\'),
                Some(other) => plain.extend(['\\', other]),
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_as_in_a_file_system() {
        let tree = Recording::parse(
            "# a comment\n\n\
             sys/devices/a/b/text = one\\ntwo \\\\ \\040\n\
             sys/class/b -> ../devices/a/b\n\
             sys/class/round -> round\n\
             sys/class/out -> ../../../etc\n\
             sys/class/far -> /proc/self/comm\n\
             sys/class/gone -> ../nothing",
        )
        .expect("a tree");
        let real = |path: &str| tree.real(path).map_err(|e| e.raw_os_error());
        let found = Ok(Some("sys/devices/a/b/text".to_owned()));
        assert_eq!(real("sys/class/b/text"), found);
        assert_eq!(real("sys/class/b/../b/./text"), found);
        assert_eq!(
            tree.file("sys/devices/a/b/text").expect("a file"),
            b"one\ntwo \\ \\040\n"
        );
        assert_eq!(real("sys/class/out"), Ok(None));
        assert_eq!(real("sys/class/far"), Ok(None));
        assert_eq!(real("sys/class/gone"), Err(Some(libc::ENOENT)));
        assert_eq!(real("sys/class/round"), Err(Some(libc::ELOOP)));
        assert_eq!(real("sys/class/b/text/."), Err(Some(libc::ENOTDIR)));
        assert_eq!(tree.link("sys/class/gone"), Some("../nothing"));
        assert_eq!(tree.link("sys/class/b/text"), None);
        assert_eq!(tree.names("sys").expect("a folder"), ["class", "devices"]);
    }

    #[test]
    fn wrong_lines_are_refused() {
        let mut tree = Recording::parse("a = 1").expect("a tree");
        for bad in [
            "nothing",
            "a/b = 2",
            "../a = 2",
            "/a = 2",
            "a//b -> c",
            " = 2",
        ] {
            let error = tree.put(bad).expect_err(bad);
            assert!(error.to_string().contains("expected `path = text`"));
        }
        let deep = "x/".repeat(3000) + "y = 1";
        tree.put(&deep).expect_err("too deep");
    }
}
