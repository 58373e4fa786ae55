//! Trees that are cut short, scrambled or knotted: read or refused, never a panic, and never a choice of absent CPUs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use strata_record::Environment;
use strata_topology::{
    Allowed, InterruptTable, Recording, Root, Topology, Want, ceiling, choose, read_environment,
    read_limits,
};

use crate::support::{Tree, lines};

/// What is asked of a topology beside the choice of cores, with what must hold of any.
fn judge_everything(root: &Root, topology: &Topology) {
    for function in &topology.pci {
        let path = topology.path_to_root(function.address);
        assert_eq!(path.first().map(|f| f.address), Some(function.address));
        if let Ok(found) = ceiling(topology, &[function.address]) {
            assert!(found.bytes_per_s > 0.0 && found.bytes_per_s.is_finite());
            assert!(!found.bound_by.is_empty());
        }
    }
    for disk in &topology.disks {
        assert_eq!(disk.functions, topology.functions_below(&disk.name));
    }
    let within = topology.sockets().iter().all(|socket| {
        let outside = socket.cpus.without(&topology.online());
        outside.is_empty()
    });
    assert!(within);
    let _ = InterruptTable::read(root).map(|table| table.difference(&table));
    let _ = read_limits(root);
}

#[derive(Debug, Clone)]
enum Harm {
    Cut(usize),
    Fill(Vec<u8>),
    Number(i128),
    Remove,
    Folder,
    Knot,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (0usize..40).prop_map(Harm::Cut),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Harm::Fill),
        any::<i128>().prop_map(Harm::Number),
        proptest::sample::select(vec![-1, 0, 1, 65_535, 65_536, i128::from(u64::MAX)])
            .prop_map(Harm::Number),
        Just(Harm::Remove),
        Just(Harm::Folder),
        Just(Harm::Knot),
    ]
}

/// Files and links under a folder, in a fixed order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn harmed(path: &Path, harm: &Harm) {
    let text = fs::read(path).unwrap_or_default();
    fs::remove_file(path).expect("a file or link");
    match harm {
        Harm::Cut(at) => fs::write(path, &text[..text.len().min(*at)]).expect("a file"),
        Harm::Fill(bytes) => fs::write(path, bytes).expect("a file"),
        Harm::Number(number) => fs::write(path, number.to_string()).expect("a file"),
        Harm::Remove => {}
        Harm::Folder => fs::create_dir(path).expect("a folder"),
        Harm::Knot => symlink(path, path).expect("a link"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn harmed_trees_never_panic(
        name in proptest::sample::select(vec!["laptop", "two-sockets", "node-unknown", "offline", "cpuset", "storage-node", "adapters"]),
        harms in proptest::collection::vec((any::<proptest::sample::Index>(), harm()), 1..60),
    ) {
        let tree = Tree::unpack(name);
        let mut left = entries(tree.path());
        for (index, harm) in &harms {
            if !left.is_empty() {
                harmed(&left.swap_remove(index.index(left.len())), harm);
            }
        }
        let root = tree.root();
        if let Ok(topology) = Topology::read(&root) {
            let allowed = Allowed::read(&root, &topology);
            prop_assert!(allowed.cpus.without(&topology.online()).is_empty());
            for near in topology.node_ids().iter().map(Some).chain([None]) {
                let want = Want { count: 2, near, ..Want::default() };
                if let Ok(choice) = choose(&topology, &allowed, &want) {
                    prop_assert_eq!(choice.list().and(&allowed.cpus).len(), 2);
                }
            }
            judge_everything(&root, &topology);
            let host = read_environment(&root).expect("the topology was read");
            let text = serde_json::to_string(&(&topology, &host)).expect("JSON");
            let back: (Topology, Environment) = serde_json::from_str(&text).expect("what was written");
            prop_assert_eq!(back, (topology, host));
        }
    }

    /// As a fuzzer does it: the text of a tree with lines cut, joined and exchanged.
    #[test]
    fn scrambled_texts_never_panic(
        name in proptest::sample::select(vec!["storage-node", "two-sockets", "cpuset", "adapters"]),
        swaps in proptest::collection::vec(
            (any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), 0usize..120, 0usize..120),
            1..80,
        ),
    ) {
        let mut lines = lines(name);
        for (one, other, at, from) in &swaps {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            let head: String = lines[one].chars().take(*at).collect();
            let tail: String = lines[other].chars().skip(*from).collect();
            lines[one] = head + &tail;
        }
        let mut recording = Recording::default();
        let refused = lines.iter().filter(|line| recording.put(line).is_err()).count();
        prop_assert!(refused < lines.len());
        let root = Root::recorded(recording);
        if let Ok(topology) = Topology::read(&root) {
            judge_everything(&root, &topology);
            let text = serde_json::to_string(&topology).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Topology>(&text).expect("what was written"), topology);
        }
    }
}
