//! Recorded trees of sysfs and procfs.
//!
//! An input is lines, `path = text` or `path -> target of a link`, in which `\n` and `\t` are a new line and a tabulator.
//! They are laid out in a folder in memory. Folders and files come first and links last, so that nothing is ever written
//! through a link to the machine's own files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strata_record::Environment;
use strata_topology::{Allowed, Root, Topology, Want, choose, read_environment};

/// The most that is laid out of one input.
const MOST_LINES: usize = 1000;

/// Whatever is read: no CPU is chosen that is not online, allowed and asked for, and it is written as it is read.
pub(crate) fn topology(bytes: &[u8]) {
    let folder = super::folder();
    lay_out(folder.path(), &String::from_utf8_lossy(bytes));
    let root = Root::new(folder.path());
    let Ok(topology) = Topology::read(&root) else {
        return;
    };
    let allowed = Allowed::read(&root, &topology);
    let online = topology.online();
    assert!(allowed.cpus.without(&online).is_empty(), "{allowed:?}");
    for near in topology.node_ids().iter().take(4).map(Some).chain([None]) {
        for whole_cores in [false, true] {
            let want = Want {
                count: 2,
                near,
                whole_cores,
                avoid: online.iter().take(1).collect(),
            };
            if let Ok(choice) = choose(&topology, &allowed, &want) {
                let chosen = choice.list().and(&allowed.cpus).without(&want.avoid);
                assert_eq!(chosen.len(), 2, "{choice:?} of {allowed:?}");
            }
        }
    }
    let host = read_environment(&root).expect("the topology was read");
    let text = serde_json::to_string(&(&topology, &host)).expect("plain data");
    let back: (Topology, Environment) = serde_json::from_str(&text).expect("what was written");
    assert_eq!(back, (topology, host));
}

fn lay_out(root: &Path, text: &str) {
    let mut links = Vec::new();
    for line in text.lines().take(MOST_LINES) {
        let (path, target) = match (line.split_once(" -> "), line.split_once(" =")) {
            (Some((path, target)), _) => (path, Some(target)),
            (None, Some((path, _))) => (path, None),
            (None, None) => continue,
        };
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !path.split('/').all(plain) {
            continue;
        }
        let path = root.join(path);
        // What does not fit (a file below a file, a name too long) is not there.
        if let Some(above) = path.parent() {
            let _ = fs::create_dir_all(above);
        }
        match target {
            Some(target) => links.push((path, target)),
            None => {
                let (_, text) = line.split_once(" =").unwrap_or_default();
                let text = text.trim_start().replace("\\n", "\n").replace("\\t", "\t");
                let _ = fs::write(path, text + "\n");
            }
        }
    }
    for (path, target) in links {
        let _ = symlink(target, path);
    }
}
