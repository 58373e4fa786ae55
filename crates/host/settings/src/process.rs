//! Which process made an entry, and in which life of the machine.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use strata_topology::Root;

use crate::tree::text;

/// A process, told apart from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), starttime).
    pub started_ticks: u64,
}

impl Process {
    /// This one.
    pub(crate) fn own(root: &Root) -> io::Result<Process> {
        let stat = stat(root, "self")?.filter(|stat| stat.alive);
        stat.map(|stat| stat.process)
            .ok_or_else(|| io::Error::other("proc/self/stat does not tell it; mount /proc"))
    }

    /// Whether it still runs. What cannot be read does.
    pub fn is_alive(&self, root: &Root) -> bool {
        match stat(root, &self.pid.to_string()) {
            Ok(Some(stat)) => stat.alive && stat.process == *self,
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

struct Stat {
    process: Process,
    /// Neither a zombie nor dead: neither will do anything any more.
    alive: bool,
}

fn stat(root: &Root, pid: &str) -> io::Result<Option<Stat>> {
    let found = text(root, &format!("proc/{pid}/stat"))?;
    Ok(found.as_deref().and_then(parsed))
}

/// `7 (a) b) S 1 …`: the name may hold anything, so the fields are counted from its last bracket on.
fn parsed(stat: &str) -> Option<Stat> {
    let (pid, rest) = stat.split_once(" (")?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        process: Process {
            pid: pid.parse().ok()?,
            // Field 22, where the state is field 3.
            started_ticks: fields.get(19)?.parse().ok()?,
        },
        alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

/// The life of the machine (`Documentation/admin-guide/sysctl/kernel.rst`, random).
pub(crate) fn boot(root: &Root) -> io::Result<String> {
    let found = text(root, "proc/sys/kernel/random/boot_id")?;
    found
        .filter(|id| !id.is_empty())
        .ok_or_else(|| io::Error::other("proc/sys/kernel/random/boot_id is absent; mount /proc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let root = Root::live();
        let own = Process::own(&root).expect("/proc");
        assert_eq!(own.pid, std::process::id());
        assert!(own.is_alive(&root));
        let earlier = Process {
            started_ticks: own.started_ticks + 1,
            ..own
        };
        assert!(!earlier.is_alive(&root), "its number was given again");
        let mut child = std::process::Command::new("sleep").arg("60").spawn();
        let child = child.as_mut().expect("sleep(1)");
        let stat = stat(&root, &child.id().to_string()).expect("readable");
        let other = stat.expect("it runs").process;
        assert!(other.is_alive(&root));
        child.kill().expect("ours");
        // A zombie until it is waited for, and then gone.
        while other.is_alive(&root) {
            std::thread::yield_now();
        }
        child.wait().expect("ended");
        assert!(!other.is_alive(&root));
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = |state: &str| parsed(&format!("7 (a) Z 1 b) {state} {}99 0", "1 ".repeat(18)));
        let found = stat("S").expect("parsed");
        assert_eq!((found.process.pid, found.process.started_ticks), (7, 99));
        assert!(found.alive && !stat("Z").expect("parsed").alive);
        assert!(parsed("7 (a) S 1").is_none() && parsed("").is_none());
    }
}
