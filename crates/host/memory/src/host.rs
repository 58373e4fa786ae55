//! What the host says about its memory: nodes, free pages, limits.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use strata_units::{Bytes, NodeId, NodeList};

use crate::MemoryError;
use crate::error::place;

/// The files of a host under a root that is `/` but for tests.
pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn list(&self, path: &str) -> Option<NodeList> {
        self.read(path)?.parse().ok()
    }

    /// Nodes with memory; a kernel without NUMA has node 0 and no such folder.
    pub(crate) fn memory_nodes(&self) -> NodeList {
        self.list("sys/devices/system/node/has_memory")
            .or_else(|| self.list("sys/devices/system/node/online"))
            .unwrap_or_else(|| vec![NodeId(0)].into())
    }

    /// Nodes that the calling thread's cpuset allows (proc_pid_status(5)); None where the kernel does not say.
    fn allowed_nodes(&self) -> Option<NodeList> {
        self.read("proc/thread-self/status")?
            .lines()
            .find_map(|line| line.strip_prefix("Mems_allowed_list:"))?
            .parse()
            .ok()
    }

    /// Refuses a node that is absent, has no memory, or is outside the cpuset.
    pub(crate) fn check_node(&self, node: NodeId) -> Result<(), MemoryError> {
        let have = self.memory_nodes();
        if !have.contains(node) {
            return Err(MemoryError::NoNode { node, have });
        }
        match self.allowed_nodes() {
            Some(allowed) if !allowed.contains(node) => {
                Err(MemoryError::NotAllowed { node, allowed })
            }
            _ => Ok(()),
        }
    }

    /// Refuses what would not fit: pages bound to a full node wake the OOM killer rather than fail.
    pub(crate) fn check_room(&self, bytes: Bytes, node: Option<NodeId>) -> Result<(), MemoryError> {
        match self.available(node) {
            Some(available) if available < bytes => Err(MemoryError::NotEnough {
                bytes,
                available,
                place: place(node),
            }),
            _ => Ok(()),
        }
    }

    /// MemAvailable, or for one node what it is made of (free, page cache, reclaimable slab).
    fn available(&self, node: Option<NodeId>) -> Option<Bytes> {
        let Some(node) = node else {
            return kibibytes(&self.read("proc/meminfo")?, "MemAvailable:");
        };
        let text = self.read(format!("sys/devices/system/node/node{node}/meminfo"))?;
        let of = |field| kibibytes(&text, field);
        let rest = ["Active(file):", "Inactive(file):", "SReclaimable:"];
        Some(
            rest.into_iter()
                .filter_map(of)
                .fold(of("MemFree:")?, |sum, part| sum + part),
        )
    }

    /// Pages of 2 MiB that are free (on a node, or beyond reservations of the whole machine).
    pub(crate) fn free_huge_pages(&self, node: Option<NodeId>) -> Option<u64> {
        let folder = huge_folder(node);
        let number = |file: &str| self.read(folder.join(file))?.trim().parse::<u64>().ok();
        // Only the machine's folder has resv_hugepages: a reservation is bound to no node.
        Some(number("free_hugepages")?.saturating_sub(number("resv_hugepages").unwrap_or(0)))
    }

    /// What this process has locked (VmLck of proc_pid_status(5)).
    pub(crate) fn locked(&self) -> Bytes {
        self.read("proc/self/status")
            .and_then(|text| kibibytes(&text, "VmLck:"))
            .unwrap_or_default()
    }
}

fn huge_folder(node: Option<NodeId>) -> PathBuf {
    node.map_or_else(
        || "sys/kernel/mm".into(),
        |node| PathBuf::from(format!("sys/devices/system/node/node{node}")),
    )
    .join("hugepages/hugepages-2048kB")
}

/// The file by which 2 MiB pages are reserved, for people to type.
pub(crate) fn huge_knob(node: Option<NodeId>) -> String {
    format!("/{}", huge_folder(node).join("nr_hugepages").display())
}

/// The figure behind `field` in lines such as `Node 0 MemFree:  4422084 kB` or `VmLck:\t 0 kB`.
fn kibibytes(text: &str, field: &str) -> Option<Bytes> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != field);
        words.next()?;
        let kib: u64 = words.next()?.parse().ok()?;
        kib.checked_mul(1024).map(Bytes)
    })
}

/// Whether the process below `root` (`/` but for tests) may lock memory beyond its limit: CAP_IPC_LOCK among `CapEff` of
/// proc_pid_status(5).
pub fn may_lock_any(root: &Path) -> bool {
    /// linux/capability.h.
    const IPC_LOCK: u64 = 1 << 14;
    let text = std::fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & IPC_LOCK != 0)
}

/// The soft limit on locked memory (`RLIMIT_MEMLOCK`, getrlimit(2)); None: unlimited.
///
/// The kernel does not hold processes with CAP_IPC_LOCK to it.
pub fn memlock_limit() -> Option<Bytes> {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) | Err(_) => None,
        Ok((soft, _)) => Some(Bytes(soft)),
    }
}

/// What of this machine's memory new users can have (MemAvailable of /proc/meminfo, proc(5)); None where it is not told.
pub fn memory_available() -> Option<Bytes> {
    Host::at("/").available(None)
}

/// The machine's small page: 4 KiB, on some aarch64 kernels 16 or 64 KiB.
pub(crate) fn small_page() -> Bytes {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    Bytes(page.and_then(|p| u64::try_from(p).ok()).unwrap_or(4096))
}

/// The page of the mapping that holds an address (KernelPageSize of proc_pid_smaps(5)).
pub(crate) fn page_at(address: std::ptr::NonNull<u8>) -> Option<Bytes> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    page_in(&smaps, address.as_ptr() as u64)
}

fn page_in(smaps: &str, address: u64) -> Option<Bytes> {
    let holds = |line: &str| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        Some((from..u64::from_str_radix(to, 16).ok()?).contains(&address))
    };
    let from = smaps.lines().position(|line| holds(line) == Some(true))?;
    let of_it = smaps.lines().skip(from + 1);
    of_it
        .take_while(|line| holds(line).is_none())
        .find_map(|line| kibibytes(line, "KernelPageSize:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn a_page_is_that_of_the_mapping_around_an_address() {
        let smaps = "\
7f0000000000-7f0000002000 rw-p 00000000 00:00 0 
Size:                  8 kB
KernelPageSize:        4 kB
7f0000200000-7f0000600000 rw-s 00000000 00:0f 12 /dev/hugepages/map_0
Size:               4096 kB
KernelPageSize:     2048 kB
";
        assert_eq!(page_in(smaps, 0x7f00_0000_1fff), Some(Bytes(4096)));
        assert_eq!(page_in(smaps, 0x7f00_0020_0000), Some(Bytes(2 << 20)));
        assert_eq!(page_in(smaps, 0x7f00_0000_2000), None);
        let here = 0u8;
        assert_eq!(page_at(std::ptr::NonNull::from(&here)), Some(small_page()));
    }

    #[test]
    fn nodes_without_memory_and_outside_the_cpuset_are_refused() {
        let (_root, host) = host(&[
            ("sys/devices/system/node/has_memory", "0,2\n"),
            ("sys/devices/system/node/online", "0-2\n"),
            (
                "proc/thread-self/status",
                "Name:\tx\nMems_allowed:\t1\nMems_allowed_list:\t0\n",
            ),
        ]);
        assert!(host.check_node(NodeId(0)).is_ok());
        let text = |node| {
            host.check_node(NodeId(node))
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(
            text(1),
            "cannot allocate on memory node 1: nodes with memory are 0,2; choose one of these"
        );
        assert!(text(2).contains("may use nodes 0 only"), "{}", text(2));
        assert!(text(4095).contains("memory node 4095"), "{}", text(4095));
    }

    #[test]
    fn a_kernel_without_numa_has_node_0() {
        let (_root, host) = host(&[]);
        assert!(host.check_node(NodeId(0)).is_ok());
        assert!(host.check_node(NodeId(1)).is_err());
        assert!(host.check_room(Bytes::GIB * 1024, Some(NodeId(0))).is_ok());
        assert_eq!(host.free_huge_pages(None), None);
    }

    #[test]
    fn room_counts_what_the_kernel_can_take_back() {
        let (_root, host) = host(&[
            (
                "proc/meminfo",
                "MemTotal: 900 kB\nMemAvailable:    500 kB\n",
            ),
            (
                "sys/devices/system/node/node1/meminfo",
                "Node 1 MemFree:  100 kB\nNode 1 Active(file):  20 kB\nNode 1 Inactive(file): 30 kB\n\
                 Node 1 SReclaimable: 7 kB\n",
            ),
        ]);
        assert_eq!(host.available(Some(NodeId(1))), Some(Bytes(157 * 1024)));
        assert!(host.check_room(Bytes(500 * 1024), None).is_ok());
        let refused = host
            .check_room(Bytes(501 * 1024), None)
            .expect_err("too much");
        assert!(
            refused
                .to_string()
                .starts_with("cannot allocate 501KiB of memory: 500KiB are available"),
            "{refused}"
        );
        assert!(host.check_room(Bytes(158 * 1024), Some(NodeId(1))).is_err());
    }

    #[test]
    fn reserved_huge_pages_are_not_free() {
        let (_root, host) = host(&[
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                "8\n",
            ),
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
                "3\n",
            ),
            (
                "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
                "6\n",
            ),
        ]);
        assert_eq!(host.free_huge_pages(None), Some(5));
        assert_eq!(host.free_huge_pages(Some(NodeId(0))), Some(6));
        assert_eq!(host.free_huge_pages(Some(NodeId(1))), None);
    }

    #[test]
    fn the_limit_is_the_kernels() {
        let limits = fs::read_to_string("/proc/self/limits").expect("limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max locked memory"))
            .expect("a line");
        let soft = line.split_whitespace().nth(3).expect("a soft limit");
        let shown = memlock_limit().map_or("unlimited".to_owned(), |b| b.0.to_string());
        assert_eq!(soft, shown);
    }
}
