//! What control groups and the batch system let this process have beside CPUs and nodes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::Note;
use strata_units::{Bytes, Nanos};

use crate::cgroup;
use crate::mounts;
use crate::root::{Reader, Root};

const CGROUPS: &str = "proc/self/cgroup";

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
    /// What could not be read, and what is limited in a way that is not read.
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

impl Limits {
    /// Reads the limits of the calling process.
    pub fn read(root: &Root) -> Limits {
        let reader = Reader::new(root);
        let mut limits = Limits {
            slurm: slurm(&reader),
            ..Limits::default()
        };
        let mounts = mounts::read(&reader);
        let folders = cgroup::of_version_2(&reader, &mounts);
        limits.cgroup = folders.first().cloned();
        for folder in folders.iter().filter(|folder| reader.exists(folder)) {
            limits.tighten(&reader, folder);
        }
        limits
            .hugetlb
            .sort_by_key(|one| page_bytes(&one.page).unwrap_or(u64::MAX));
        note_version_1(&reader);
        limits.notes = reader.into_notes();
        limits
    }

    fn tighten(&mut self, reader: &Reader, folder: &str) {
        tighter(&mut self.memory_max, bound(reader, folder, "memory.max"));
        tighter(&mut self.memory_high, bound(reader, folder, "memory.high"));
        for file in reader.names(folder) {
            let page = file
                .strip_prefix("hugetlb.")
                .and_then(|rest| rest.strip_suffix(".max"))
                .filter(|page| !page.ends_with(".rsvd"));
            let Some(page) = page else { continue };
            let Some(found) = bound(reader, folder, &file) else {
                continue;
            };
            match self.hugetlb.iter_mut().find(|one| one.page == page) {
                Some(one) if one.bound.bytes > found.bytes => one.bound = found,
                Some(_) => {}
                None => self.hugetlb.push(HugetlbBound {
                    page: page.to_owned(),
                    bound: found,
                }),
            }
        }
        if let Some(found) = quota(reader, folder)
            && self
                .cpu_quota
                .as_ref()
                .is_none_or(|quota| found.cpus() < quota.cpus())
        {
            self.cpu_quota = Some(found);
        }
    }
}

fn tighter(held: &mut Option<Bound>, found: Option<Bound>) {
    if let Some(found) = found
        && held.as_ref().is_none_or(|held| found.bytes < held.bytes)
    {
        *held = Some(found);
    }
}

/// A number of bytes, or `max`.
fn bound(reader: &Reader, folder: &str, file: &str) -> Option<Bound> {
    let path = format!("{folder}/{file}");
    if reader.word(&path)? == "max" {
        return None;
    }
    Some(Bound {
        bytes: Bytes(reader.value(&path, "a number of bytes or max")?),
        cgroup: folder.to_owned(),
    })
}

/// `200000 100000`, in microseconds, or `max 100000`.
fn quota(reader: &Reader, folder: &str) -> Option<Quota> {
    let path = format!("{folder}/cpu.max");
    let text = reader.word(&path)?;
    let (quota, period) = text.split_once(' ').unwrap_or((text.as_str(), "100000"));
    if quota == "max" {
        return None;
    }
    let nanos = |micros: &str| {
        let micros: u64 = micros.trim().parse().ok()?;
        micros.checked_mul(1000).filter(|n| *n > 0).map(Nanos)
    };
    let Some((quota, period)) = nanos(quota).zip(nanos(period)) else {
        reader.note(
            &path,
            format!("found {text:?}, expected a quota and a period in microseconds"),
        );
        return None;
    };
    Some(Quota {
        quota,
        period,
        cgroup: folder.to_owned(),
    })
}

/// `2MB`, `1GB`, `64KB`
fn page_bytes(name: &str) -> Option<u64> {
    let (number, shift) = [("KB", 10), ("MB", 20), ("GB", 30)]
        .into_iter()
        .find_map(|(unit, shift)| Some((name.strip_suffix(unit)?, shift)))?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Controllers of version 1 have files of other names, whose limits are told as unread rather than as absent.
fn note_version_1(reader: &Reader) {
    let text = reader.text(CGROUPS).unwrap_or_default();
    let old: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .flat_map(|controllers| controllers.split(','))
        .filter(|controller| ["cpu", "memory", "hugetlb"].contains(controller))
        .collect();
    if !old.is_empty() {
        reader.note(
            CGROUPS,
            format!(
                "cgroup version 1 has the controllers {}: their limits are not read",
                old.join(", ")
            ),
        );
    }
}

fn slurm(reader: &Reader) -> Option<Slurm> {
    let text = reader.text("proc/self/environ")?;
    let variables: BTreeMap<&str, &str> = text
        .split('\0')
        .filter_map(|variable| variable.trim().split_once('='))
        .collect();
    let word = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Some(Slurm {
        job: word("SLURM_JOB_ID")?,
        step: word("SLURM_STEP_ID"),
        cpus_on_node: word("SLURM_CPUS_ON_NODE").and_then(|cpus| cpus.parse().ok()),
        cpus_per_node: word("SLURM_JOB_CPUS_PER_NODE"),
        nodes: word("SLURM_JOB_NODELIST"),
        cpu_bind: word("SLURM_CPU_BIND").filter(|bind| !bind.is_empty()),
        mem_bind: word("SLURM_MEM_BIND").filter(|bind| !bind.is_empty()),
    })
}
