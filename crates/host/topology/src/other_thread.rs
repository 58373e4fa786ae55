//! Where a thread of another process ran, as far as the kernel tells it to others.

use std::fs;

use strata_units::{CpuId, CpuList, Nanos};

use crate::cpu_time::STEP;
use crate::watch::{Watched, migrations_of};

/// Watches a process's first thread from outside: it is looked at when the watch starts and when it ends.
pub struct OtherThread {
    pid: u32,
    seen: Vec<CpuId>,
    samples: u64,
    changes: u64,
    before: Told,
    migrations: Result<u64, String>,
}

/// What `/proc` tells of a thread (proc_pid_stat(5), proc_pid_status(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    cpu: Option<CpuId>,
    mask: Option<CpuList>,
    voluntary: u64,
    involuntary: u64,
    user: Nanos,
    system: Nanos,
}

impl Told {
    fn read(pid: u32) -> Option<Told> {
        let at = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{pid}/{name}")).ok();
        Told::of(&at("stat")?, &at("status")?)
    }

    fn of(stat: &str, status: &str) -> Option<Told> {
        // The name may hold spaces and brackets; the state, field 3, follows the last bracket.
        let (_, fields) = stat.rsplit_once(')')?;
        // A child that has ended stands there until somebody asks how.
        if fields.trim_start().starts_with(['Z', 'X']) {
            return None;
        }
        let field = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<u64>().ok();
        let line = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(found.trim())
        };
        let count = |name: &str| line(name)?.parse().ok();
        Some(Told {
            cpu: field(39).and_then(|n| u32::try_from(n).ok()).map(CpuId),
            mask: line("Cpus_allowed_list:")?.parse().ok(),
            voluntary: count("voluntary_ctxt_switches:")?,
            involuntary: count("nonvoluntary_ctxt_switches:")?,
            user: STEP * field(14)?,
            system: STEP * field(15)?,
        })
    }
}

impl OtherThread {
    /// Starts to watch the first thread of a process; none when there is no such process.
    pub fn start(pid: u32) -> Option<OtherThread> {
        let before = Told::read(pid)?;
        let mut watch = OtherThread {
            pid,
            seen: Vec::new(),
            samples: 0,
            changes: 0,
            migrations: migrations_of(&format!("/proc/{pid}/task/{pid}/sched")),
            before: before.clone(),
        };
        watch.note(&before);
        Some(watch)
    }

    /// Its CPU time so far, in steps of 10 ms; none when the process has ended.
    pub fn spent(&self) -> Option<Nanos> {
        Told::read(self.pid).map(|told| told.user + told.system)
    }

    fn note(&mut self, told: &Told) {
        let Some(cpu) = told.cpu else { return };
        self.samples += 1;
        if self.seen.last().is_some_and(|last| *last != cpu) {
            self.changes += 1;
        }
        if self.seen.last() != Some(&cpu) {
            self.seen.push(cpu);
        }
    }

    /// Takes a last sample and tells what was found; none when the process has ended.
    pub fn finish(mut self) -> Option<Watched> {
        let after = Told::read(self.pid)?;
        self.note(&after);
        let path = format!("/proc/{pid}/task/{pid}/sched", pid = self.pid);
        let migrations = self
            .migrations
            .and_then(|before| Ok(migrations_of(&path)?.saturating_sub(before)));
        let before = self.before;
        let (user, system) = (after.user - before.user, after.system - before.system);
        Some(Watched {
            mask: after.mask,
            seen: self.seen.into_iter().collect(),
            samples: self.samples,
            changes: self.changes,
            migrations_unknown: migrations.as_ref().err().cloned(),
            migrations: migrations.ok(),
            voluntary_switches: after.voluntary.saturating_sub(before.voluntary),
            involuntary_switches: after.involuntary.saturating_sub(before.involuntary),
            cpu_time: user + system,
            user,
            system,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_no_hindrance() {
        let fields: Vec<String> = (4..=52).map(|n| (n * 10).to_string()).collect();
        let stat = format!("42 (a) S (b)) R {}", fields.join(" "));
        let status = "Name:\ta) S (b)\nCpus_allowed_list:\t1,3-5\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        let told = Told::of(&stat, status).expect("all is there");
        assert_eq!(told.cpu, Some(CpuId(390)));
        assert_eq!(
            told.mask.map(|mask| mask.to_string()),
            Some("1,3-5".to_owned())
        );
        assert_eq!((told.voluntary, told.involuntary), (7, 9));
        assert_eq!((told.user, told.system), (STEP * 140, STEP * 150));
        for (stat, status) in [("", status), ("42 (x R 1", status), (stat.as_str(), "")] {
            assert_eq!(Told::of(stat, status), None, "{stat:?} {status:?}");
        }
    }

    #[test]
    fn a_child_is_seen_where_it_runs() {
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .expect("a child");
        let watch = OtherThread::start(child.id()).expect("it is there");
        let found = watch.finish().expect("it still is");
        assert_eq!(found.samples, 2);
        let mask = found.mask.expect("the kernel tells it");
        assert!(
            found.seen.without(&mask).is_empty(),
            "{mask} {}",
            found.seen
        );
        let pid = child.id();
        let watch = OtherThread::start(pid).expect("it is there");
        child.kill().expect("ended");
        // Not yet reaped: its end is seen all the same.
        while Told::read(pid).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(watch.finish(), None);
        child.wait().expect("reaped");
        assert!(OtherThread::start(pid).is_none());
    }
}
