//! Choosing cores near a device, and checking cores that a user chose.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{CpuId, CpuList, NodeId, NodeList};

use crate::allowed::Allowed;
use crate::cpu::Cpu;
use crate::topology::Topology;

/// What cores are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// How many CPUs, at least one.
    pub count: usize,
    /// The node to be near: the target's. `None`: keep to one node, whichever has most cores.
    pub near: Option<NodeId>,
    /// Never share a physical core, neither among the chosen nor with those to avoid. Otherwise cores are shared only
    /// when the nearest node has no whole one left.
    pub whole_cores: bool,
    /// CPUs that others use: never taken.
    pub avoid: CpuList,
}

/// Cores chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// CPUs in the order of preference: give the first thread the first.
    pub cpus: Vec<CpuId>,
    /// Their node; `None` when they have several or it is unknown.
    pub node: Option<NodeId>,
    /// What is not as one would wish, in words.
    pub notes: Vec<String>,
}

impl Choice {
    /// The CPUs as a set.
    pub fn list(&self) -> CpuList {
        self.cpus.iter().copied().collect()
    }
}

/// Why cores cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// Zero or an empty list was asked for.
    #[error("no CPU was asked for; ask for at least one")]
    Nothing,
    /// A node that is not there.
    #[error("node {node} does not exist; this machine has {}", nodes_are(.present))]
    AbsentNode {
        /// The node.
        node: NodeId,
        /// The nodes that are there.
        present: NodeList,
    },
    /// CPUs that are not there.
    #[error("CPU {cpus} does not exist; this process may use CPUs {allowed}")]
    AbsentCpu {
        /// The CPUs.
        cpus: CpuList,
        /// What may be used.
        allowed: CpuList,
    },
    /// CPUs that are switched off.
    #[error(
        "CPU {cpus} is offline; this process may use CPUs {allowed}, or switch it on by `echo 1 > /sys/devices/system/cpu/cpuN/online`"
    )]
    OfflineCpu {
        /// The CPUs.
        cpus: CpuList,
        /// What may be used.
        allowed: CpuList,
    },
    /// CPUs outside of affinity or cpuset.
    #[error("CPU {cpus} is not allowed to this process{}; it may use CPUs {allowed}: choose among them, or widen its cpuset or taskset", in_cpuset(.cpuset))]
    NotAllowed {
        /// The CPUs.
        cpus: CpuList,
        /// What may be used.
        allowed: CpuList,
        /// The cpuset that limits the process.
        cpuset: Option<String>,
    },
    /// Not as many as wanted.
    #[error("{wanted} {what} are wanted, but only {found} are free: this process may use CPUs {allowed}{}; ask for fewer threads{}", but_for(.avoided), or_share(.what))]
    TooFew {
        /// How many were wanted.
        wanted: usize,
        /// How many there are.
        found: usize,
        /// Of what: `CPUs` or `whole physical cores`.
        what: &'static str,
        /// What may be used.
        allowed: CpuList,
        /// What was to be avoided.
        avoided: CpuList,
    },
}

const WHOLE: &str = "whole physical cores";

fn nodes_are(present: &NodeList) -> String {
    if present.is_empty() {
        "no NUMA nodes: leave the node out".to_owned()
    } else {
        format!("nodes {present}: choose one of them")
    }
}

fn in_cpuset(cpuset: &Option<String>) -> String {
    cpuset
        .as_ref()
        .map_or_else(String::new, |path| format!(" (cpuset /{path})"))
}

fn but_for(avoided: &CpuList) -> String {
    if avoided.is_empty() {
        String::new()
    } else {
        format!(", of which {avoided} are taken")
    }
}

fn or_share(what: &str) -> &'static str {
    if what == WHOLE {
        ", or let threads share physical cores"
    } else {
        ""
    }
}

/// Chooses cores: the wanted node first and then by distance; on a node whole physical cores first, then second
/// hardware threads; among those cores that nobody else's thread shares, isolated and tickless ones, and the core of
/// CPU 0, where most housekeeping and interrupts are, last.
///
/// # Errors
/// Nothing is wanted, the node is absent, or there are fewer CPUs (whole cores) than wanted.
pub fn choose(topology: &Topology, allowed: &Allowed, want: &Want) -> Result<Choice, ChooseError> {
    if want.count == 0 {
        return Err(ChooseError::Nothing);
    }
    if let Some(node) = want.near
        && topology.node(node).is_none()
    {
        return Err(ChooseError::AbsentNode {
            node,
            present: topology.node_ids(),
        });
    }
    let cores = free_cores(topology, allowed, want);
    let near = want.near.or_else(|| roomiest(&cores));
    let mut ranked: Vec<(_, CpuId)> = Vec::new();
    for core in &cores {
        for (turn, cpu) in core.free.iter().enumerate() {
            let rank = (
                distance(topology, near, cpu.node),
                turn,
                core.shared,
                Reverse(cpu.isolated),
                Reverse(cpu.nohz_full),
                core.has_cpu0,
                cpu.id,
            );
            ranked.push((rank, cpu.id));
        }
    }
    ranked.sort_unstable();
    if ranked.len() < want.count {
        return Err(ChooseError::TooFew {
            wanted: want.count,
            found: ranked.len(),
            what: if want.whole_cores { WHOLE } else { "CPUs" },
            allowed: allowed.cpus.clone(),
            avoided: want.avoid.and(&allowed.cpus),
        });
    }
    let cpus: Vec<CpuId> = ranked.iter().take(want.count).map(|(_, id)| *id).collect();
    let list: CpuList = cpus.iter().copied().collect();
    Ok(Choice {
        node: topology.common_node(&list),
        notes: notes(topology, want, &list),
        cpus,
    })
}

/// A physical core and those of its CPUs that may be taken.
struct Core<'t> {
    free: Vec<&'t Cpu>,
    /// One of its CPUs is to be avoided: somebody else's thread runs there.
    shared: bool,
    has_cpu0: bool,
}

fn free_cores<'t>(topology: &'t Topology, allowed: &Allowed, want: &Want) -> Vec<Core<'t>> {
    let mut cores: BTreeMap<CpuId, Vec<&Cpu>> = BTreeMap::new();
    for cpu in &topology.cpus {
        let free = cpu.online && allowed.cpus.contains(cpu.id) && !want.avoid.contains(cpu.id);
        if free {
            cores.entry(cpu.core_name()).or_default().push(cpu);
        }
    }
    cores
        .into_values()
        .filter_map(|mut free| {
            let siblings = &free.first()?.siblings;
            let shared = !siblings.and(&want.avoid).is_empty();
            let has_cpu0 = siblings.contains(CpuId(0));
            if want.whole_cores {
                if shared {
                    return None;
                }
                free.truncate(1);
            }
            Some(Core {
                free,
                shared,
                has_cpu0,
            })
        })
        .collect()
}

/// The node with most free cores, that of CPU 0 not counted; the least of equals.
fn roomiest(cores: &[Core]) -> Option<NodeId> {
    let mut count: BTreeMap<NodeId, usize> = BTreeMap::new();
    for core in cores {
        if let Some(node) = core.free.first().and_then(|cpu| cpu.node) {
            *count.entry(node).or_default() += usize::from(!core.has_cpu0);
        }
    }
    count
        .into_iter()
        .max_by_key(|(node, cores)| (*cores, Reverse(*node)))
        .map(|(node, _)| node)
}

/// The node itself, then by what firmware tells, then what it does not tell, then CPUs of no known node.
fn distance(
    topology: &Topology,
    near: Option<NodeId>,
    node: Option<NodeId>,
) -> (u32, Option<NodeId>) {
    let Some(near) = near else { return (0, None) };
    let far = match node {
        Some(node) if node == near => 0,
        Some(node) => topology
            .node(near)
            .and_then(|near| near.distance_to(node))
            .unwrap_or(u32::MAX - 1),
        None => u32::MAX,
    };
    (far, node)
}

fn notes(topology: &Topology, want: &Want, cpus: &CpuList) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(near) = want.near {
        let away: CpuList = cpus
            .iter()
            .filter(|cpu| topology.node_of(*cpu) != Some(near))
            .collect();
        if !away.is_empty() {
            let nodes: NodeList = away
                .iter()
                .filter_map(|cpu| topology.node_of(cpu))
                .collect();
            let whose = if nodes.is_empty() {
                "whose node is unknown".to_owned()
            } else {
                format!("of node {nodes}")
            };
            notes.push(format!(
                "node {near} has too few CPUs that this process may use; taken as well: CPU {away} {whose}"
            ));
        }
    }
    let chosen: Vec<&Cpu> = cpus.iter().filter_map(|cpu| topology.cpu(cpu)).collect();
    let taken: CpuList = cpus.iter().chain(want.avoid.iter()).collect();
    let sharing: CpuList = chosen
        .iter()
        .filter(|cpu| cpu.siblings.and(&taken).len() > 1)
        .map(|cpu| cpu.id)
        .collect();
    if !sharing.is_empty() {
        notes.push(format!(
            "CPU {sharing} shares a physical core with another one in use"
        ));
    }
    if chosen.iter().any(|cpu| cpu.siblings.contains(CpuId(0))) {
        notes.push("the core of CPU 0, where housekeeping and interrupts run, is taken".to_owned());
    }
    notes
}

/// Checks CPUs that a user named: each must be there, online and allowed to this process.
///
/// # Errors
/// The list is empty, or some CPU is absent, offline or not allowed; the error names those and what may be used.
pub fn check(topology: &Topology, allowed: &Allowed, asked: &CpuList) -> Result<(), ChooseError> {
    if asked.is_empty() {
        return Err(ChooseError::Nothing);
    }
    let present: CpuList = topology.cpus.iter().map(|cpu| cpu.id).collect();
    let may = || allowed.cpus.clone();
    let absent = asked.without(&present);
    if !absent.is_empty() {
        return Err(ChooseError::AbsentCpu {
            cpus: absent,
            allowed: may(),
        });
    }
    let offline = asked.without(&topology.online());
    if !offline.is_empty() {
        return Err(ChooseError::OfflineCpu {
            cpus: offline,
            allowed: may(),
        });
    }
    let refused = asked.without(&allowed.cpus);
    if !refused.is_empty() {
        return Err(ChooseError::NotAllowed {
            cpus: refused,
            allowed: may(),
            cpuset: allowed.cpuset.clone(),
        });
    }
    Ok(())
}
