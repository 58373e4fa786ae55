//! Sockets, and the nodes that one is divided into.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{CpuId, CpuList, NodeList};

use crate::topology::Topology;

/// A package: what is plugged into one socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Socket {
    /// Its number (`physical_package_id`).
    pub package: u32,
    /// Its CPUs that are online.
    pub cpus: CpuList,
    /// The nodes of these CPUs.
    pub nodes: NodeList,
    /// Whether it is divided into several nodes: Intel's sub-NUMA clusters, AMD's nodes per socket.
    pub divided: bool,
}

impl Topology {
    /// The sockets, ascending; none where the tree does not tell packages.
    pub fn sockets(&self) -> Vec<Socket> {
        let mut packages: BTreeMap<u32, Vec<CpuId>> = BTreeMap::new();
        for cpu in self.cpus.iter().filter(|cpu| cpu.online) {
            if let Some(package) = cpu.package {
                packages.entry(package).or_default().push(cpu.id);
            }
        }
        packages
            .into_iter()
            .map(|(package, cpus)| {
                let nodes: NodeList = cpus.iter().filter_map(|cpu| self.node_of(*cpu)).collect();
                Socket {
                    package,
                    cpus: cpus.into(),
                    divided: nodes.len() > 1,
                    nodes,
                }
            })
            .collect()
    }
}
