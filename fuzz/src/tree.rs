//! Recorded trees of sysfs and procfs, in memory: lines `path = text` or `path -> target of a link`.

use strata_record::Environment;
use strata_topology::{
    Allowed, InterruptTable, Recording, Root, Topology, Want, ceiling, choose, read_environment,
    read_limits,
};

/// The most functions and nodes of one tree that are asked about; their number shall not make the fuzzer slow.
const ASKED: usize = 4;

/// Whatever is read: no CPU is chosen that is not online, allowed and free, a ceiling is a rate with a name, and the
/// topology is written so that it is read again.
pub(crate) fn topology(bytes: &[u8]) {
    let mut recording = Recording::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        // What a tree cannot hold is not there.
        let _ = recording.put(line);
    }
    let root = Root::recorded(recording);
    let _ = read_limits(&root);
    let _ = InterruptTable::read(&root).map(|table| table.difference(&table));
    let Ok(topology) = Topology::read(&root) else {
        return;
    };
    cores(&root, &topology);
    for function in topology.pci.iter().take(ASKED) {
        let path = topology.path_to_root(function.address);
        let first = path.first().map(|function| function.address);
        assert_eq!(first, Some(function.address));
        if let Ok(found) = ceiling(&topology, &[function.address]) {
            let rate = found.bytes_per_s;
            assert!(rate > 0.0 && rate.is_finite(), "{found:?}");
            assert!(!found.bound_by.is_empty(), "{found:?}");
        }
    }
    let host = read_environment(&root).expect("the topology was read");
    let text = serde_json::to_string(&(&topology, &host)).expect("plain data");
    let back: (Topology, Environment) = serde_json::from_str(&text).expect("what was written");
    assert_eq!(back, (topology, host));
}

fn cores(root: &Root, topology: &Topology) {
    let allowed = Allowed::read(root, topology);
    let online = topology.online();
    assert!(allowed.cpus.without(&online).is_empty(), "{allowed:?}");
    let nodes = topology.node_ids();
    for near in nodes.iter().take(ASKED).map(Some).chain([None]) {
        let want = Want {
            count: 2,
            near,
            whole_cores: true,
            avoid: online.iter().take(1).collect(),
        };
        if let Ok(choice) = choose(topology, &allowed, &want) {
            let chosen = choice.list().and(&allowed.cpus).without(&want.avoid);
            assert_eq!(chosen.len(), 2, "{choice:?} of {allowed:?}");
        }
    }
}
