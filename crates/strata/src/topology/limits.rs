//! What control groups and Slurm let this process have, in words.

use strata_record::Limits;
use strata_units::show;

/// A line a limit; empty where there is none.
pub(super) fn shown(limits: &Limits) -> String {
    let mut lines: Vec<String> = Vec::new();
    if let Some(quota) = &limits.cpu_quota {
        lines.push(format!(
            "CPU time of {} CPUs by /{}: threads that poll are stopped when it is used up",
            show::digits(quota.cpus()),
            quota.cgroup
        ));
    }
    let bounds = [
        ("memory", &limits.memory_max),
        ("memory before it is slowed", &limits.memory_high),
    ];
    for (what, bound) in bounds {
        if let Some(bound) = bound {
            lines.push(format!("{what} {} by /{}", bound.bytes, bound.cgroup));
        }
    }
    for huge in &limits.hugetlb {
        let bound = &huge.bound;
        lines.push(format!(
            "huge pages of {} {} by /{}",
            huge.page, bound.bytes, bound.cgroup
        ));
    }
    if let Some(slurm) = &limits.slurm {
        let mut line = format!("Slurm job {}", slurm.job);
        if let Some(step) = &slurm.step {
            line.push_str(&format!(", step {step}"));
        }
        if let Some(cpus) = slurm.cpus_on_node {
            line.push_str(&format!(", {cpus} CPUs on this node"));
        }
        if let Some(bind) = &slurm.cpu_bind {
            line.push_str(&format!(", bound by {bind}"));
        }
        lines.push(line);
    }
    let lines: Vec<String> = lines.iter().map(|line| format!("  {line}\n")).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("Limits of this process\n{}", lines.concat())
    }
}
