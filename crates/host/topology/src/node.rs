//! Memory nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::Hugepages;
use strata_units::{Bytes, CpuList, NodeId};

use crate::root::Reader;

const FOLDER: &str = "sys/devices/system/node";

/// A memory node (`Documentation/ABI/stable/sysfs-devices-node` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// The CPUs that it says are its own, offline ones included where the kernel lists them.
    pub cpus: CpuList,
    /// Memory in all.
    #[serde(rename = "memory_total_bytes")]
    pub memory_total: Option<Bytes>,
    /// Memory free when read.
    #[serde(rename = "memory_free_bytes")]
    pub memory_free: Option<Bytes>,
    /// Its pools of huge pages, smallest pages first.
    pub hugepages: Vec<Hugepages>,
    /// Distance to each node as firmware tells it (10 is local), in the order of the nodes; empty when untold.
    pub distances: Vec<Distance>,
}

/// How far another node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Distance {
    /// The other node.
    pub to: NodeId,
    /// Relative latency, 10 for local (ACPI SLIT).
    pub distance: u32,
}

impl Node {
    /// Whether it has memory but no CPUs (CXL or persistent memory, mostly).
    pub fn is_memory_only(&self) -> bool {
        self.cpus.is_empty() && self.memory_total.is_some_and(|memory| memory.0 > 0)
    }

    /// Distance to another node, where told.
    pub fn distance_to(&self, node: NodeId) -> Option<u32> {
        self.distances
            .iter()
            .find(|d| d.to == node)
            .map(|d| d.distance)
    }
}

pub(crate) fn read(reader: &Reader) -> Vec<Node> {
    let ids: Vec<NodeId> = reader
        .numbered(FOLDER, "node")
        .into_iter()
        .map(NodeId)
        .collect();
    ids.iter()
        .map(|id| {
            let folder = format!("{FOLDER}/node{id}");
            let cpus = reader
                .list(&format!("{folder}/cpulist"))
                .or_else(|| reader.mask(&format!("{folder}/cpumap")))
                .unwrap_or_default();
            let (memory_total, memory_free) = memory(reader, &format!("{folder}/meminfo"));
            Node {
                id: *id,
                cpus,
                memory_total,
                memory_free,
                hugepages: hugepages(reader, &format!("{folder}/hugepages")),
                distances: distances(reader, &format!("{folder}/distance"), &ids),
            }
        })
        .collect()
}

/// `Node 0 MemTotal:       16772456 kB`: total and free.
fn memory(reader: &Reader, path: &str) -> (Option<Bytes>, Option<Bytes>) {
    let text = reader.text(path).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.contains(name))?;
        let kib: u64 = line
            .split_once(name)?
            .1
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        kib.checked_mul(1024).map(Bytes)
    };
    let found = (field("MemTotal:"), field("MemFree:"));
    if !text.is_empty() && (found.0.is_none() || found.1.is_none()) {
        reader.note(path, "found no MemTotal or MemFree in kB");
    }
    found
}

fn hugepages(reader: &Reader, folder: &str) -> Vec<Hugepages> {
    let mut pools: Vec<Hugepages> = reader
        .names(folder)
        .iter()
        .filter_map(|name| {
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            Some(Hugepages {
                page_bytes: Bytes(kib.checked_mul(1024)?),
                total: reader.value(&format!("{folder}/{name}/nr_hugepages"), "a number")?,
                free: reader.value(&format!("{folder}/{name}/free_hugepages"), "a number"),
            })
        })
        .collect();
    pools.sort_unstable_by_key(|pool| pool.page_bytes);
    pools
}

/// One number a node, in the order of the nodes that are online.
fn distances(reader: &Reader, path: &str, nodes: &[NodeId]) -> Vec<Distance> {
    let Some(text) = reader.word(path) else {
        return Vec::new();
    };
    let numbers: Option<Vec<u32>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
    match numbers {
        Some(numbers) if numbers.len() == nodes.len() => nodes
            .iter()
            .zip(numbers)
            .map(|(to, distance)| Distance { to: *to, distance })
            .collect(),
        _ => {
            reader.note(
                path,
                format!("found {text:?}, expected {} distances", nodes.len()),
            );
            Vec::new()
        }
    }
}
