//! Recorded trees: compact manifests, unpacked into a folder that goes with the test.
//!
//! A line of a manifest is `path = text` or `path -> target of a link`; `#` begins a comment. One range in braces in the
//! path (`cpu{0-3}`, list format) repeats the line; `{}`, `{+N}` and `{-N}` then stand for the number itself and for sums
//! and differences, in path and text. `\n` and `\t` in a text are a new line and a tabulator.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use strata_topology::{Recording, Root, Topology};
use strata_units::CpuList;
use tempfile::TempDir;

pub(crate) struct Tree {
    folder: TempDir,
}

impl Tree {
    /// Unpacks `tests/trees/NAME.tree`.
    pub(crate) fn unpack(name: &str) -> Tree {
        let tree = Tree { folder: folder() };
        lines(name).iter().for_each(|line| tree.put(line));
        tree
    }

    /// Adds or replaces what one line without a range says.
    pub(crate) fn put(&self, line: &str) {
        if let Some((path, target)) = line.split_once(" -> ") {
            let path = self.made(path);
            symlink(target.trim(), path).expect("a link");
        } else {
            let (path, text) = line
                .split_once(" =")
                .unwrap_or_else(|| panic!("bad line: {line}"));
            let text = text.trim_start().replace("\\n", "\n").replace("\\t", "\t");
            fs::write(self.made(path), text + "\n").expect("a file");
        }
    }

    fn made(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path.trim());
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        path
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.folder.path())
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology::read(&self.root()).expect("a topology")
    }
}

/// The lines of a manifest, without comments and with ranges written out.
pub(crate) fn lines(name: &str) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/trees/{name}.tree"));
    let text = fs::read_to_string(&manifest).expect("a manifest");
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(repeated)
        .collect()
}

/// The same tree in memory.
pub(crate) fn recording(name: &str) -> Recording {
    Recording::parse(&lines(name).join("\n")).expect("a tree")
}

/// A folder that goes with the test; in memory where there is any, for trees are thousands of small files.
pub(crate) fn folder() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("a folder")
}

fn repeated(line: &str) -> Vec<String> {
    let path_end = line.find([' ']).unwrap_or(line.len());
    let Some(open) = line[..path_end].find('{') else {
        return vec![line.to_owned()];
    };
    let close = open + line[open..].find('}').expect("a closing brace");
    let range: CpuList = line[open + 1..close].parse().expect("a range");
    range
        .iter()
        .map(|id| {
            let number = i64::from(id.0);
            let mut text = line[..open].to_owned() + &number.to_string();
            let mut rest = &line[close + 1..];
            while let Some(open) = rest.find('{') {
                let close = open + rest[open..].find('}').expect("a closing brace");
                let shift = &rest[open + 1..close];
                let shift: i64 = if shift.is_empty() {
                    0
                } else {
                    shift.parse().expect("a shift")
                };
                text += &rest[..open];
                text += &(number + shift).to_string();
                rest = &rest[close + 1..];
            }
            text + rest
        })
        .collect()
}

pub(crate) fn cpus(list: &str) -> CpuList {
    list.parse().expect("a list of CPUs")
}
