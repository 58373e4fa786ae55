//! The rules of the house, held over `cargo metadata` and the files that git knows: which crate may use which, under
//! which licences, what lies at the top level, where `unsafe` may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Licences that the crates we link may have; each lets the suite be given on as Apache-2.0 OR MIT.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// All that lies at the top level.
const TOP: [&str; 14] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "benches",
    "crates",
    "fuzz",
    "results",
    "scripts",
];

/// Crates that cannot do without `unsafe`, and for what; all others forbid it.
const UNSAFE: [(&str, &str); 12] = [
    ("strata-block", "submission of raw buffers to the kernel"),
    (
        "strata-guard",
        "ioctls that ask a drive for its reservations",
    ),
    (
        "strata-measure",
        "the time-stamp counter; raw access to buffers",
    ),
    (
        "strata-memory",
        "mmap, mbind, mlock, move_pages, and the signal when mapped memory is taken away",
    ),
    (
        "strata-nvme",
        "doorbells and queues in memory that a device shares, registers, and the calls of VFIO",
    ),
    (
        "strata-nvme-emulator",
        "queues and data in memory that a client shares",
    ),
    (
        "strata-rdma",
        "objects of libibverbs, and memory that a device writes",
    ),
    (
        "strata-rdma-sys",
        "the functions of libibverbs and librdmacm",
    ),
    (
        "strata-spdk",
        "the plugin's functions, and memory of SPDK's allocator",
    ),
    ("strata-tcp", "send and recv on raw buffers"),
    (
        "strata-topology",
        "the ioctl that asks a network interface's driver for its statistics",
    ),
    (
        "strata-vfio-user",
        "volatile access to memory shared with the other end",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(3)
        .expect("crates/base/units lies three folders down")
        .to_owned()
}

/// The workspace and all that it is built from, for the machine at hand.
fn metadata() -> Value {
    let version = Command::new(env!("CARGO")).arg("-vV").output();
    let version = String::from_utf8(version.expect("cargo -vV").stdout).expect("text");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("cargo names its host");
    let out = Command::new(env!("CARGO"))
        // Crates for other systems alone need not be here, so that no network is needed after a build.
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            host,
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(
        out.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The crates of this workspace.
fn members(metadata: &Value) -> Vec<&Value> {
    let ids: BTreeSet<&str> = list(metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let crates: Vec<&Value> = list(metadata, "packages")
        .iter()
        .filter(|package| ids.contains(text(package, "id")))
        .collect();
    assert!(crates.len() >= 14, "only {} crates found", crates.len());
    crates
}

/// Files that git tracks or would, relative to the root; None, with the reason printed, where there is no git.
fn files(test: &str) -> Option<Vec<PathBuf>> {
    let out = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output();
    match out {
        Ok(out) if out.status.success() => Some(
            String::from_utf8(out.stdout)
                .expect("names are UTF-8")
                .split_terminator('\0')
                .map(PathBuf::from)
                // Deleted and not yet committed.
                .filter(|path| root().join(path).exists())
                .collect(),
        ),
        Ok(out) => {
            println!(
                "SKIP {test}: git ls-files: {}",
                String::from_utf8_lossy(&out.stderr).trim()
            );
            None
        }
        Err(why) => {
            println!("SKIP {test}: cannot run git: {why}");
            None
        }
    }
}

mod directions {
    use super::*;

    /// Where a crate lives, and so what it may use.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Room {
        Base,
        Host,
        Measure,
        Nvme,
        Peer,
        /// A layer by name; `rdma-sys` belongs to the layer `rdma`, and `spdk-abi` to `spdk`.
        Layer(String),
        Remote,
        Runner,
        Analysis,
        Report,
        Health,
        Strata,
        Benches,
        /// What tests run in; no part of what users get.
        VirtualNode,
    }

    use Room::*;

    fn room(folder: &Path) -> Option<Room> {
        let parts: Vec<&str> = folder.iter().filter_map(|part| part.to_str()).collect();
        Some(match parts[..] {
            ["benches"] => Benches,
            ["crates", "measure"] => Measure,
            ["crates", "peer"] => Peer,
            ["crates", "runner"] => Runner,
            ["crates", "strata"] => Strata,
            ["crates", "virtual-node"] => VirtualNode,
            ["crates", "base", _] => Base,
            ["crates", "host", _] => Host,
            ["crates", "nvme", _] => Nvme,
            ["crates", "layers", "remote"] => Remote,
            ["crates", "layers", name] => {
                let layer = ["-sys", "-abi"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end));
                Layer(layer.unwrap_or(name).to_owned())
            }
            ["crates", "insight", "analysis"] => Analysis,
            ["crates", "insight", "report"] => Report,
            ["crates", "insight", "health"] => Health,
            _ => return None,
        })
    }

    /// Whether a crate of `from` may use one of `to` in what is built for users.
    fn may_use(from: &Room, to: &Room) -> bool {
        match (from, to) {
            (Benches, _) => true,
            (_, Benches | Strata | VirtualNode) => false,
            (Strata, _) | (_, Base) => true,
            (Base, _) => false,
            (Host | Measure | Nvme | Peer, Host) => true,
            (Nvme, Nvme) => true,
            (Peer, Measure) => true,
            (Layer(a), Layer(b)) => a == b,
            (Layer(_), Host | Measure | Nvme | Peer) => true,
            (Remote | Runner, Host | Measure | Nvme | Peer | Layer(_)) => true,
            (Runner, Remote) => true,
            // Analysis and report read records only: no host, no measuring.
            (Report, Analysis) => true,
            (Health, Host | Runner | Analysis) => true,
            _ => false,
        }
    }

    /// The floor of a room, from the ground up.
    fn floor(room: &Room) -> u8 {
        match room {
            Base => 0,
            Host | Analysis | VirtualNode => 1,
            Measure | Nvme | Report => 2,
            Peer => 3,
            Layer(_) => 4,
            Remote => 5,
            Runner => 6,
            Health => 7,
            Strata => 8,
            Benches => 9,
        }
    }

    /// Tests may also use their own floor and any below (a layer's test may ask `analysis` about its records), but never
    /// one above: otherwise the lower crate could not be tested before the upper one compiles.
    fn tests_may_use(from: &Room, to: &Room) -> bool {
        may_use(from, to) || floor(to) <= floor(from)
    }

    #[test]
    fn the_rule_is_the_designs() {
        let layer = |name: &str| Layer(name.to_owned());
        let room = |path: &str| room(Path::new(path)).expect(path);
        let yes = [
            (Host, Base),
            (Measure, Host),
            (Peer, Measure),
            (layer("tcp"), Peer),
            (layer("nvme"), Nvme),
            (room("crates/layers/rdma"), room("crates/layers/rdma-sys")),
            (room("crates/layers/spdk"), room("crates/layers/spdk-abi")),
            (Remote, layer("tcp")),
            (Runner, Remote),
            (Report, Analysis),
            (Health, Host),
            (Strata, Health),
            (Benches, Strata),
        ];
        for (from, to) in &yes {
            assert!(may_use(from, to), "{from:?} uses {to:?}");
            assert!(tests_may_use(from, to), "{from:?} uses {to:?}");
            assert!(floor(to) <= floor(from), "{to:?} is not below {from:?}");
        }
        let no = [
            (Base, Host),
            (Host, Measure),
            (Measure, Peer),
            (Peer, layer("tcp")),
            (layer("tcp"), layer("block")),
            (layer("tcp"), Remote),
            (layer("block"), Runner),
            (Runner, Analysis),
            (Analysis, Host),
            (Analysis, Measure),
            (Report, Host),
            (Health, layer("nvme")),
            (Runner, Strata),
            (Strata, Benches),
            (Strata, VirtualNode),
            (VirtualNode, Host),
        ];
        for (from, to) in &no {
            assert!(!may_use(from, to), "{from:?} uses {to:?}");
        }
        assert!(tests_may_use(&layer("nvme"), &VirtualNode) && may_use(&VirtualNode, &Base));
        assert!(!tests_may_use(&Base, &Host) && tests_may_use(&layer("tcp"), &layer("block")));
        assert_eq!(super::directions::room(Path::new("crates/attic/x")), None);
    }

    #[test]
    fn crates_use_only_what_lies_below_them() {
        let metadata = metadata();
        let root = text(&metadata, "workspace_root");
        let mut rooms = BTreeMap::new();
        for package in members(&metadata) {
            let manifest = Path::new(text(package, "manifest_path"));
            let folder = manifest
                .parent()
                .and_then(|dir| dir.strip_prefix(root).ok());
            let folder = folder.expect("members lie in the workspace");
            let room = room(folder).unwrap_or_else(|| {
                panic!("{} is no folder of the design", folder.display());
            });
            rooms.insert(text(package, "name"), room);
        }
        let mut wrong = Vec::new();
        for package in members(&metadata) {
            let name = text(package, "name");
            for dependency in list(package, "dependencies") {
                let other = text(dependency, "name");
                let Some(to) = rooms.get(other) else { continue };
                let allowed = match dependency["kind"].as_str() {
                    Some("dev") => tests_may_use(&rooms[name], to),
                    _ => may_use(&rooms[name], to),
                };
                if !allowed {
                    wrong.push(format!("{name} ({:?}) uses {other} ({to:?})", rooms[name]));
                }
            }
        }
        assert!(wrong.is_empty(), "against the design: {wrong:#?}");
    }
}

mod licences {
    use super::*;

    /// Whether an SPDX expression (ISO/IEC 5962:2021, annex D) can be met by licences of the list; the old slash means OR.
    fn allowed(expression: &str) -> Result<bool, String> {
        let spaced = expression
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        let held = either(&words, &mut at)?;
        match words.get(at) {
            None => Ok(held),
            Some(word) => Err(format!("unexpected `{word}` in `{expression}`")),
        }
    }

    fn either(words: &[&str], at: &mut usize) -> Result<bool, String> {
        let mut held = both(words, at)?;
        while words.get(*at) == Some(&"OR") {
            *at += 1;
            held |= both(words, at)?;
        }
        Ok(held)
    }

    fn both(words: &[&str], at: &mut usize) -> Result<bool, String> {
        let mut held = one(words, at)?;
        while words.get(*at) == Some(&"AND") {
            *at += 1;
            held &= one(words, at)?;
        }
        Ok(held)
    }

    fn one(words: &[&str], at: &mut usize) -> Result<bool, String> {
        let word = *words.get(*at).ok_or("ends too early")?;
        *at += 1;
        match word {
            "(" => {
                let held = either(words, at)?;
                if words.get(*at) != Some(&")") {
                    return Err("a bracket stays open".to_owned());
                }
                *at += 1;
                Ok(held)
            }
            ")" | "OR" | "AND" | "WITH" => Err(format!("unexpected `{word}`")),
            // An exception only adds permissions (SPDX annex D.3), so the licence decides.
            _ if words.get(*at) == Some(&"WITH") => {
                words.get(*at + 1).ok_or("WITH what?")?;
                *at += 2;
                Ok(LICENCES.contains(&word))
            }
            _ => Ok(LICENCES.contains(&word)),
        }
    }

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0-only OR MIT",
            "(MIT OR GPL-3.0-or-later) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "MIT OR GPL-2.0-only AND GPL-3.0-only",
        ] {
            assert_eq!(allowed(good), Ok(true), "{good}");
        }
        for bad in [
            "GPL-2.0-only",
            "GPL-2.0-only WITH Linux-syscall-note",
            "MIT AND GPL-2.0-only",
            "(GPL-2.0-only OR LGPL-2.1-or-later) AND MIT",
            "mit",
        ] {
            assert_eq!(allowed(bad), Ok(false), "{bad}");
        }
        for wrong in [
            "",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "OR MIT",
            "MIT WITH",
        ] {
            assert!(allowed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_dependency_may_be_given_on() {
        let metadata = metadata();
        let ours: BTreeSet<&str> = members(&metadata).iter().map(|p| text(p, "id")).collect();
        let mut wrong = Vec::new();
        for package in list(&metadata, "packages") {
            let (name, licence) = (text(package, "name"), text(package, "license"));
            if ours.contains(text(package, "id")) {
                assert_eq!(licence, "Apache-2.0 OR MIT", "{name}");
            }
            match allowed(licence) {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("{name}: {licence}")),
                Err(why) => wrong.push(format!("{name}: {licence:?}: {why}")),
            }
        }
        assert!(wrong.is_empty(), "licences not on the list: {wrong:#?}");
    }
}

#[test]
fn the_top_level_is_the_designs() {
    let Some(files) = files("the_top_level_is_the_designs") else {
        return;
    };
    let top: BTreeSet<&str> = files
        .iter()
        .filter_map(|path| path.iter().next()?.to_str())
        .collect();
    let wanted = TOP.into_iter().collect();
    let differ: Vec<_> = top.symmetric_difference(&wanted).collect();
    assert!(
        differ.is_empty(),
        "missing, or foreign to the design: {differ:?}"
    );
}

#[test]
fn crates_tell_their_purpose_and_keep_unsafe_out() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in members(&metadata) {
        let name = text(package, "name");
        let level = if UNSAFE.iter().any(|(listed, _)| *listed == name) {
            // Modules that need it allow it for themselves.
            "#![deny(unsafe_code)]"
        } else {
            "#![forbid(unsafe_code)]"
        };
        for target in list(package, "targets") {
            let path = text(target, "src_path");
            if !(path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")) {
                continue;
            }
            let source = fs::read_to_string(path).expect(path);
            if !source.starts_with("//! ") {
                wrong.push(format!("{path} does not open with what it is for"));
            }
            if !source.lines().any(|line| line == level) {
                wrong.push(format!("{path} lacks {level}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The lines of a source, numbered from 1, that use `unsafe` and have no `SAFETY:` within six lines above.
fn bare_unsafe(source: &str) -> Vec<usize> {
    let lines: Vec<&str> = source.lines().collect();
    let uses = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.match_indices("unsafe ").any(|(at, word)| {
            let after = &code[at + word.len()..];
            // A function, or the type of one; whoever calls it says why.
            if after.starts_with("extern \"C\" fn") {
                return false;
            }
            ["{", "impl", "extern"]
                .iter()
                .any(|next| after.starts_with(next))
        })
    };
    (0..lines.len())
        .filter(|at| uses(lines[*at]))
        .filter(|at| {
            !lines[at.saturating_sub(6)..*at]
                .iter()
                .any(|line| line.contains("SAFETY:"))
        })
        .map(|at| at + 1)
        .collect()
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    // Written so that this file does not use the word either.
    let source = "// SAFETY: fine.\nUN {\n}\n\n\n\n\n\nUN { b }\n// UN {\n".replace("UN", "unsafe");
    assert_eq!(bare_unsafe(&source), [9]);
    let source = "f: UN extern \"C\" fn(u8),\nUN extern \"C\" {\n".replace("UN", "unsafe");
    assert_eq!(bare_unsafe(&source), [2]);
    let Some(files) = files("every_unsafe_says_why_it_is_sound") else {
        return;
    };
    let mut bare = Vec::new();
    for path in files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        let source = fs::read_to_string(root().join(path)).expect("a source");
        bare.extend(
            bare_unsafe(&source)
                .into_iter()
                .map(|line| format!("{}:{line}", path.display())),
        );
    }
    assert!(
        bare.is_empty(),
        "unsafe without a SAFETY: comment in the six lines above: {bare:#?}"
    );
}

/// What is committed must build anywhere: no path of the machine that it was written on.
#[test]
fn no_file_names_a_developers_folders() {
    // Taken apart, so that this file does not name them.
    let foreign = [
        concat!("/wo", "rk/"),
        concat!("/root", "/"),
        concat!("/tmp/tar", "get"),
    ];
    let Some(files) = files("no_file_names_a_developers_folders") else {
        return;
    };
    let mut named = Vec::new();
    for path in &files {
        let bytes = fs::read(root().join(path)).expect("a file");
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            if foreign.iter().any(|name| line.contains(name)) {
                named.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(named.is_empty(), "paths of one machine: {named:#?}");
}
