//! The CPUs and nodes that this process may use.

use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::Note;
use strata_units::{CpuList, NodeList};

use crate::affinity::list_of;
use crate::cgroup;
use crate::mounts;
use crate::root::{Reader, Root};
use crate::topology::Topology;

const STATUS: &str = "proc/self/status";

/// What a process may use: its affinity within its cpuset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allowed {
    /// CPUs, all of them online.
    pub cpus: CpuList,
    /// Memory nodes.
    pub nodes: NodeList,
    /// The cpuset whose limits were read, as a path below the root.
    pub cpuset: Option<String>,
    /// What could not be read, and what was taken beyond the affinity.
    pub notes: Vec<Note>,
}

impl Allowed {
    /// Reads the affinity of the calling thread (sched_getaffinity(2); for a recorded tree `Cpus_allowed_list` of
    /// proc_pid_status(5)) and the cpuset (cgroups(7), cpuset(7)). To be called before the thread is pinned.
    ///
    /// CPUs that `isolcpus=` keeps out of every process's affinity are allowed as well, unless the affinity was narrowed
    /// by somebody: it is for measuring threads that they were isolated.
    pub fn read(root: &Root, topology: &Topology) -> Allowed {
        let reader = Reader::new(root);
        let online = topology.online();
        let affinity = affinity(&reader)
            .unwrap_or_else(|| online.clone())
            .and(&online);
        let cpuset = Cpuset::read(&reader);
        let within = cpuset
            .as_ref()
            .map_or_else(|| online.clone(), |set| set.cpus.and(&online));
        let isolated = topology.isolated().and(&within);
        let untouched = affinity.without(&isolated) == within.without(&isolated);
        let mut cpus = affinity.and(&within);
        if cpus.is_empty() {
            // The kernel keeps the affinity within the cpuset, so the cpuset that was found is another one.
            reader.note(
                STATUS,
                "affinity and cpuset have no CPU in common; the affinity is believed",
            );
            cpus = affinity;
        } else if untouched && cpus != within {
            reader.note(
                STATUS,
                format!(
                    "isolated CPUs {} are outside the affinity but may be pinned to",
                    within.without(&cpus)
                ),
            );
            cpus = within;
        }
        let nodes = field(&reader, "Mems_allowed_list:")
            .unwrap_or_else(|| topology.node_ids())
            .and(&topology.node_ids());
        let nodes = match cpuset.as_ref().and_then(|set| set.mems.as_ref()) {
            Some(mems) => nodes.and(mems),
            None => nodes,
        };
        Allowed {
            cpus,
            nodes,
            cpuset: cpuset.map(|set| set.path),
            notes: reader.into_notes(),
        }
    }
}

fn affinity(reader: &Reader) -> Option<CpuList> {
    if reader.root().is_live() {
        // Fails only where CPUs have numbers above 1023; the kernel writes the same mask in `status`.
        if let Ok(mask) = sched_getaffinity(Pid::from_raw(0)) {
            return Some(list_of(&mask));
        }
    }
    field(reader, "Cpus_allowed_list:")
}

/// A list in `/proc/self/status`.
fn field<T: Ord + From<u32>>(reader: &Reader, name: &str) -> Option<strata_units::IdList<T>> {
    let text = reader.text(STATUS)?;
    let list = text.lines().find_map(|line| line.strip_prefix(name))?;
    match list.parse() {
        Ok(list) => Some(list),
        Err(error) => {
            reader.note(STATUS, format!("{name} {error}"));
            None
        }
    }
}

struct Cpuset {
    path: String,
    cpus: CpuList,
    mems: Option<NodeList>,
}

impl Cpuset {
    /// The process's own cpuset; where its folder has no limits, the nearest one above it that has.
    fn read(reader: &Reader) -> Option<Cpuset> {
        let mounts = mounts::read(reader);
        // Version 1 first: on a machine with both, the cpuset controller is in one of them only.
        cgroup::of_version_1(reader, &mounts, "cpuset")
            .iter()
            .chain(&cgroup::of_version_2(reader, &mounts))
            .find_map(|folder| Cpuset::at(reader, folder))
    }

    fn at(reader: &Reader, folder: &str) -> Option<Cpuset> {
        let first = |names: [&str; 4]| {
            names
                .into_iter()
                .map(|name| format!("{folder}/{name}"))
                .find(|path| reader.exists(path))
        };
        // Version 2, version 1, version 1 before 4.1, and `noprefix`.
        let cpus = first([
            "cpuset.cpus.effective",
            "cpuset.effective_cpus",
            "cpuset.cpus",
            "cpus",
        ]);
        let mems = first([
            "cpuset.mems.effective",
            "cpuset.effective_mems",
            "cpuset.mems",
            "mems",
        ]);
        let cpus: CpuList = reader.list(&cpus?)?;
        (!cpus.is_empty()).then(|| Cpuset {
            path: folder.to_owned(),
            cpus,
            mems: mems
                .and_then(|path| reader.list(&path))
                .filter(|mems: &NodeList| !mems.is_empty()),
        })
    }
}
