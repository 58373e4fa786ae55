//! What control groups and the batch system let this process have beside CPUs and nodes.

use std::collections::BTreeMap;

use strata_record::{Bound, HugetlbBound, Limits, Quota, Slurm};
use strata_units::{Bytes, Nanos};

use crate::cgroup;
use crate::mounts;
use crate::root::{Reader, Root};

const CGROUPS: &str = "proc/self/cgroup";

/// Reads the limits of the calling process.
pub fn read_limits(root: &Root) -> Limits {
    let reader = Reader::new(root);
    let limits = read_with(&reader);
    Limits {
        notes: reader.into_notes(),
        ..limits
    }
}

/// As [`read_limits`], with the notes left in the reader.
pub(crate) fn read_with(reader: &Reader) -> Limits {
    let mut limits = Limits {
        slurm: slurm(reader),
        ..Limits::default()
    };
    let mounts = mounts::read(reader);
    let folders = cgroup::of_version_2(reader, &mounts);
    limits.cgroup = folders.first().cloned();
    for folder in folders.iter().filter(|folder| reader.exists(folder)) {
        tighten(&mut limits, reader, folder);
    }
    limits
        .hugetlb
        .sort_by_key(|one| page_bytes(&one.page).unwrap_or(u64::MAX));
    note_version_1(reader);
    limits
}

fn tighten(limits: &mut Limits, reader: &Reader, folder: &str) {
    tighter(&mut limits.memory_max, bound(reader, folder, "memory.max"));
    tighter(
        &mut limits.memory_high,
        bound(reader, folder, "memory.high"),
    );
    for file in reader.names(folder) {
        let page = file
            .strip_prefix("hugetlb.")
            .and_then(|rest| rest.strip_suffix(".max"))
            .filter(|page| !page.ends_with(".rsvd"));
        let Some(page) = page else { continue };
        let Some(found) = bound(reader, folder, &file) else {
            continue;
        };
        match limits.hugetlb.iter_mut().find(|one| one.page == page) {
            Some(one) if one.bound.bytes > found.bytes => one.bound = found,
            Some(_) => {}
            None => limits.hugetlb.push(HugetlbBound {
                page: page.to_owned(),
                bound: found,
            }),
        }
    }
    if let Some(found) = quota(reader, folder)
        && limits
            .cpu_quota
            .as_ref()
            .is_none_or(|quota| found.cpus() < quota.cpus())
    {
        limits.cpu_quota = Some(found);
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
