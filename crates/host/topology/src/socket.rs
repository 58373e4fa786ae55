//! Sockets, and the nodes that one is divided into.

use std::collections::BTreeMap;

use strata_record::Socket;
use strata_units::{CpuId, NodeList};

use crate::topology::Topology;

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
