//! Logical CPUs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{CpuId, CpuList, NodeId};

use crate::node::Node;
use crate::root::{Reader, numbered};

const FOLDER: &str = "sys/devices/system/cpu";

/// A logical CPU (`Documentation/admin-guide/cputopology.rst` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    /// Its number.
    pub id: CpuId,
    /// Whether the kernel schedules on it.
    pub online: bool,
    /// Its memory node; `None` when the tree tells none or several.
    pub node: Option<NodeId>,
    /// Its package (socket).
    pub package: Option<u32>,
    /// Its core's number, unique within the package only.
    pub core: Option<u32>,
    /// The logical CPUs of its physical core, itself among them.
    pub siblings: CpuList,
    /// Left out of scheduling by `isolcpus=` or an isolated cpuset partition.
    pub isolated: bool,
    /// Without the periodic tick (`nohz_full=`).
    pub nohz_full: bool,
}

impl Cpu {
    /// The least CPU of its physical core: the core's name.
    pub(crate) fn core_name(&self) -> CpuId {
        self.siblings.first().unwrap_or(self.id)
    }
}

pub(crate) fn read(reader: &Reader, nodes: &[Node]) -> Vec<Cpu> {
    let online: Option<CpuList> = reader.list(&format!("{FOLDER}/online"));
    let isolated: CpuList = reader
        .list(&format!("{FOLDER}/isolated"))
        .unwrap_or_default();
    let nohz_full: CpuList = reader
        .list(&format!("{FOLDER}/nohz_full"))
        .unwrap_or_default();
    reader
        .numbered(FOLDER, "cpu")
        .into_iter()
        .map(CpuId)
        .map(|id| {
            let folder = format!("{FOLDER}/cpu{id}");
            // Kernels before 2.6.26 have no list; there only CPUs that can be unplugged have a flag.
            let online = match &online {
                Some(list) => list.contains(id),
                None => reader.flag(&format!("{folder}/online")).unwrap_or(true),
            };
            Cpu {
                id,
                online,
                node: node(reader, &folder, id, nodes),
                package: number(reader, &format!("{folder}/topology/physical_package_id")),
                core: number(reader, &format!("{folder}/topology/core_id")),
                siblings: siblings(reader, &folder, id),
                isolated: isolated.contains(id),
                nohz_full: nohz_full.contains(id),
            }
        })
        .collect()
}

/// A number of the topology folder; −1 means unknown.
fn number(reader: &Reader, path: &str) -> Option<u32> {
    let found: i64 = reader.value(path, "a number")?;
    u32::try_from(found).ok()
}

/// Its node by its own link, else by the one node that lists it.
fn node(reader: &Reader, folder: &str, id: CpuId, nodes: &[Node]) -> Option<NodeId> {
    let names = reader.names(folder);
    let linked: Vec<NodeId> = names
        .iter()
        .filter_map(|name| numbered(name, "node"))
        .map(NodeId)
        .collect();
    let listed = nodes
        .iter()
        .filter(|node| node.cpus.contains(id))
        .map(|node| node.id);
    let claims: Vec<NodeId> = if linked.is_empty() {
        listed.collect()
    } else {
        linked
    };
    match claims[..] {
        [] => None,
        [node] => Some(node),
        _ => {
            reader.note(
                folder,
                format!("{} nodes claim this CPU; its node is unknown", claims.len()),
            );
            None
        }
    }
}

/// The kernel's names since 5.3, then those before, then the masks of old kernels.
fn siblings(reader: &Reader, folder: &str, id: CpuId) -> CpuList {
    let topology = format!("{folder}/topology");
    let found: Option<CpuList> = ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|name| reader.list(&format!("{topology}/{name}")))
        .or_else(|| {
            ["core_cpus", "thread_siblings"]
                .iter()
                .find_map(|name| reader.mask(&format!("{topology}/{name}")))
        });
    found
        .into_iter()
        .flat_map(|list| list.as_slice().to_vec())
        .chain([id])
        .collect()
}
