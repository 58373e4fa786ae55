//! What control groups and the batch system let a process have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, Nanos};

use crate::Note;

/// Limits on this process (`Documentation/admin-guide/cgroup-v2.rst` of the kernel). Each is the tightest of the
/// process's group and those above it that are in sight; `None` is no limit there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// The process's group of version 2, as a path below the root; `None` when there is none.
    pub cgroup: Option<String>,
    /// Memory above which the process is killed (`memory.max`).
    pub memory_max: Option<Bound>,
    /// Memory above which it is slowed (`memory.high`).
    pub memory_high: Option<Bound>,
    /// Huge pages that it may have (`hugetlb.*.max`), smallest pages first.
    pub hugetlb: Vec<HugetlbBound>,
    /// CPU time (`cpu.max`): a thread that polls is stopped for the rest of each period once that is used up.
    pub cpu_quota: Option<Quota>,
    /// The job of Slurm that it is in.
    pub slurm: Option<Slurm>,
    /// What could not be read, and what is limited in a way that is not read; empty in a run's environment, whose notes
    /// hold that.
    pub notes: Vec<Note>,
}

/// A limit and the group that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// How much.
    pub bytes: Bytes,
    /// The group, as a path below the root.
    pub cgroup: String,
}

/// A limit on huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HugetlbBound {
    /// The kernel's name of the size (`2MB`, `1GB`).
    pub page: String,
    /// The limit.
    #[serde(flatten)]
    pub bound: Bound,
}

/// A share of CPU time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quota {
    /// CPU time of all threads together in a period.
    #[serde(rename = "quota_ns")]
    pub quota: Nanos,
    /// The period.
    #[serde(rename = "period_ns")]
    pub period: Nanos,
    /// The group, as a path below the root.
    pub cgroup: String,
}

impl Quota {
    /// CPUs' worth of time.
    pub fn cpus(&self) -> f64 {
        self.quota.0 as f64 / self.period.0 as f64
    }
}

/// What Slurm told the process when it started (sbatch(1), srun(1), output environment variables).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slurm {
    /// `SLURM_JOB_ID`.
    pub job: String,
    /// `SLURM_STEP_ID`; `None` in the batch script itself.
    pub step: Option<String>,
    /// `SLURM_CPUS_ON_NODE`.
    pub cpus_on_node: Option<u32>,
    /// `SLURM_JOB_CPUS_PER_NODE` (`16(x2)`).
    pub cpus_per_node: Option<String>,
    /// `SLURM_JOB_NODELIST`.
    pub nodes: Option<String>,
    /// `SLURM_CPU_BIND`: how srun bound the step's tasks (`quiet,mask_cpu:0x3`).
    pub cpu_bind: Option<String>,
    /// `SLURM_MEM_BIND`.
    pub mem_bind: Option<String>,
}
