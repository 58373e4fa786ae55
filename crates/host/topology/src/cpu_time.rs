//! What CPUs spent their time on, and what quotas took from this process's cgroups.

use std::collections::BTreeMap;

use strata_record::{CgroupThrottling, CpuTimes};
use strata_units::{CpuId, Nanos};

use crate::cgroup;
use crate::mounts;
use crate::root::{Reader, numbered};

/// A step of `/proc/stat` and of `/proc/PID/stat`: USER_HZ is 100 on every architecture with NUMA that Linux still runs on (asm-generic/param.h).
pub(crate) const STEP: Nanos = Nanos::from_millis(10);

/// Times of all CPUs since the start (proc_stat(5)).
pub(crate) fn times(reader: &Reader) -> BTreeMap<CpuId, CpuTimes> {
    let text = reader.text("proc/stat").unwrap_or_default();
    text.lines()
        .map_while(|line| line.strip_prefix("cpu"))
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let cpu = line.starts_with(|c: char| c.is_ascii_digit());
            let cpu = CpuId(numbered(fields.next().filter(|_| cpu)?, "")?);
            let steps: Vec<u64> = fields.map_while(|f| f.parse().ok()).collect();
            let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = steps[..] else {
                return None;
            };
            let span = |parts: &[u64]| {
                let sum = parts.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
                STEP * sum
            };
            let times = CpuTimes {
                user_ns: span(&[user, nice]),
                system_ns: span(&[system]),
                interrupt_ns: span(&[irq, softirq]),
                idle_ns: span(&[idle, iowait]),
                steal_ns: span(&[steal]),
            };
            Some((cpu, times))
        })
        .collect()
}

/// What was spent since `before`.
pub(crate) fn spent(before: CpuTimes, after: CpuTimes) -> CpuTimes {
    CpuTimes {
        user_ns: after.user_ns - before.user_ns,
        system_ns: after.system_ns - before.system_ns,
        interrupt_ns: after.interrupt_ns - before.interrupt_ns,
        idle_ns: after.idle_ns - before.idle_ns,
        steal_ns: after.steal_ns - before.steal_ns,
    }
}

/// `cpu.stat` of this process's cgroup and of those above it, added up: a quota counts in the group that has it
/// (`Documentation/admin-guide/cgroup-v2.rst`, `Documentation/scheduler/sched-bwc.rst`).
pub(crate) fn quota(reader: &Reader) -> Option<CgroupThrottling> {
    let mounts = mounts::read(reader);
    // Version 1 first: on a machine with both, the cpu controller is in one of them only.
    [
        cgroup::of_version_1(reader, &mounts, "cpu"),
        cgroup::of_version_2(reader, &mounts),
    ]
    .iter()
    .find_map(|folders| {
        let held = folders.iter().filter_map(|group| throttling(reader, group));
        held.reduce(|sum, found| CgroupThrottling {
            periods: sum.periods.saturating_add(found.periods),
            held_ns: sum.held_ns + found.held_ns,
        })
    })
}

fn throttling(reader: &Reader, group: &str) -> Option<CgroupThrottling> {
    let text = reader.text(&format!("{group}/cpu.stat"))?;
    let field = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.trim().parse().ok())?
        })
    };
    Some(CgroupThrottling {
        periods: field("nr_throttled")?,
        held_ns: match field("throttled_usec") {
            Some(us) => Nanos(1000) * us,
            None => Nanos(field("throttled_time")?),
        },
    })
}
