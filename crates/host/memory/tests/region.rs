//! Regions as the kernel of this machine gives them; what it lacks is skipped by name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strata_memory::{Huge, Lock, MemoryError, Region, Want, memlock_limit};
use strata_units::{Bytes, NodeId, NodeList};

const HUGE: Bytes = Bytes(2 << 20);

fn want(bytes: Bytes) -> Want {
    Want {
        bytes,
        node: None,
        huge: Huge::Never,
        lock: Lock::Never,
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

fn memory_nodes() -> NodeList {
    fs::read_to_string("/sys/devices/system/node/has_memory")
        .map_or_else(|_| vec![NodeId(0)].into(), |t| t.parse().expect("a list"))
}

/// A line of the region's entry in /proc/self/smaps (proc_pid_smaps(5)), as text after the field's name.
fn smaps(region: &Region, field: &str) -> String {
    let at = region.as_ptr().addr().get() as u64;
    let text = fs::read_to_string("/proc/self/smaps").expect("smaps");
    let mut inside = false;
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((from, to)) = first.split_once('-') {
            let hex = |t| u64::from_str_radix(t, 16).expect("an address");
            inside = (hex(from)..hex(to)).contains(&at);
        } else if inside && first == field {
            return line[field.len()..].trim().to_owned();
        }
    }
    panic!("no {field} for the region in smaps");
}

/// Pages by node, or None with the reason printed where the kernel does not tell.
fn pages(region: &Region, test: &str) -> Option<Vec<(Option<NodeId>, u64)>> {
    match region.pages_by_node() {
        Ok(pages) => Some(pages),
        Err(why) => {
            println!("SKIP {test} (pages): {why}");
            None
        }
    }
}

#[test]
fn is_zeroed_touched_and_aligned() {
    let region = Region::new(&want(Bytes(100_000))).expect("a region");
    assert!(region.len() >= Bytes(100_000) && region.len() < Bytes(100_000) + region.page());
    assert!(region.len().is_multiple_of(region.page()));
    assert_eq!(
        region.as_ptr().addr().get() % region.page().as_usize(),
        0,
        "aligned"
    );
    for at in 0..region.len().as_usize() {
        // SAFETY: within the region, which nothing else writes.
        let byte = unsafe { region.as_ptr().as_ptr().add(at).read_volatile() };
        assert_eq!(byte, 0, "byte {at}");
    }
    let last = region.len().as_usize() - 1;
    // SAFETY: within the region, which nothing else reads or writes.
    let back = unsafe {
        let last = region.as_ptr().as_ptr().add(last);
        last.write_volatile(0xa5);
        last.read_volatile()
    };
    assert_eq!(back, 0xa5);
    assert!(region.notes().is_empty(), "{:?}", region.notes());
    assert!(!region.locked());
    if let Some(pages) = pages(&region, "is_zeroed_touched_and_aligned") {
        let count: u64 = pages.iter().map(|(_, n)| n).sum();
        assert_eq!(count, region.len().0 / region.page().0);
        assert!(pages.iter().all(|(node, _)| node.is_some()), "{pages:?}");
    }
}

#[test]
fn a_bound_region_lies_on_its_node() {
    for node in memory_nodes().iter() {
        let region = Region::new(&Want {
            node: Some(node),
            ..want(Bytes::MIB * 8)
        });
        let region = match region {
            Err(why @ MemoryError::NotAllowed { .. }) => {
                println!("SKIP a_bound_region_lies_on_its_node (node {node}): {why}");
                continue;
            }
            other => other.expect("a region"),
        };
        if let Some(pages) = pages(&region, "a_bound_region_lies_on_its_node") {
            let all = region.len().0 / region.page().0;
            assert_eq!(pages, [(Some(node), all)]);
        }
    }
}

#[test]
fn a_large_region_is_sampled_evenly() {
    let region = Region::new(&want(Bytes::MIB * 65)).expect("a region");
    if let Some(pages) = pages(&region, "a_large_region_is_sampled_evenly") {
        let asked: u64 = pages.iter().map(|(_, n)| n).sum();
        assert!((2048..=4096).contains(&asked), "{asked}");
    }
}

#[test]
fn an_absent_node_is_refused_with_those_there_are() {
    let error = Region::new(&Want {
        node: Some(NodeId(4095)),
        ..want(Bytes::MIB)
    })
    .expect_err("no such node");
    assert!(matches!(error, MemoryError::NoNode { .. }));
    let text = error.to_string();
    assert!(text.contains("node 4095"), "{text}");
    assert!(text.contains(&memory_nodes().to_string()), "{text}");
}

#[test]
fn impossible_sizes_are_refused() {
    for bytes in [0, u64::MAX, u64::MAX - 1, (1 << 47) + 1] {
        for huge in [Huge::Never, Huge::Prefer, Huge::Require] {
            let error = Region::new(&Want {
                huge,
                ..want(Bytes(bytes))
            })
            .expect_err("impossible");
            assert!(matches!(error, MemoryError::Size { .. }), "{error}");
        }
    }
    let error = Region::new(&want(Bytes(1 << 47))).expect_err("no machine has so much");
    assert!(matches!(error, MemoryError::NotEnough { .. }), "{error}");
}

#[test]
fn a_locked_region_is_locked() {
    const TEST: &str = "a_locked_region_is_locked";
    let region = match Region::new(&Want {
        lock: Lock::Require,
        ..want(Bytes::MIB)
    }) {
        Err(why @ MemoryError::Memlock { .. }) => {
            println!("SKIP {TEST}: {why}");
            return;
        }
        other => other.expect("a region"),
    };
    assert!(region.locked() && region.notes().is_empty());
    let flags = smaps(&region, "VmFlags:");
    assert!(flags.split_whitespace().any(|f| f == "lo"), "{flags}");
    let open = Region::new(&want(Bytes::MIB)).expect("a region");
    let flags = smaps(&open, "VmFlags:");
    assert!(!flags.split_whitespace().any(|f| f == "lo"), "{flags}");
}

/// Runs itself again without CAP_IPC_LOCK and with 64 KiB to lock.
#[test]
fn a_small_memlock_limit_is_told() {
    const TEST: &str = "a_small_memlock_limit_is_told";
    const CHILD: &str = "STRATA_TEST_MEMLOCK_CHILD";
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(memlock_limit(), Some(Bytes::KIB * 64));
        let wanted = want(Bytes::MIB);
        let error = Region::new(&Want {
            lock: Lock::Require,
            ..wanted.clone()
        })
        .expect_err("a limit of 64 KiB");
        assert_eq!(
            error.to_string(),
            "cannot lock 1MiB of memory: RLIMIT_MEMLOCK is 64KiB and 0B are locked already; raise it to at least 1MiB \
             with `ulimit -l unlimited` or LimitMEMLOCK=infinity, or run with CAP_IPC_LOCK"
        );
        let region = Region::new(&Want {
            lock: Lock::Prefer,
            ..wanted.clone()
        })
        .expect("unlocked memory");
        assert!(!region.locked());
        assert_eq!(
            region.notes(),
            [format!("memory is not locked: {error}")],
            "one note"
        );
        // What is locked already is counted.
        let few = Region::new(&Want {
            lock: Lock::Require,
            ..want(Bytes::KIB * 60)
        })
        .expect("within the limit");
        let error = Region::new(&Want {
            lock: Lock::Require,
            ..want(Bytes::KIB * 60)
        })
        .expect_err("the rest of the limit");
        assert!(
            error.to_string().contains("60KiB are locked already"),
            "{error}"
        );
        drop(few);
        return;
    }
    let mut command = if is_root() {
        // Root is held to the limit only without this capability.
        let mut drop = Command::new("setpriv");
        drop.args(["--bounding-set", "-ipc_lock", "sh"]);
        drop
    } else {
        Command::new("sh")
    };
    let this = std::env::current_exe().expect("this test");
    command
        .arg("-c")
        .arg("ulimit -l 64 || exit 77; exec \"$0\" --exact \"$1\" --nocapture")
        .arg(this)
        .arg(TEST)
        .env(CHILD, "1");
    let child = match command.output() {
        Err(why) => {
            println!("SKIP {TEST}: cannot start a child without CAP_IPC_LOCK: {why}");
            return;
        }
        Ok(child) => child,
    };
    let output = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    if child.status.code() == Some(77) || output.contains("setpriv:") {
        println!(
            "SKIP {TEST}: cannot lower the limit in a child: {}",
            output.trim()
        );
        return;
    }
    assert!(child.status.success(), "{output}");
    assert!(output.contains("1 passed"), "{output}");
}

/// The number of reserved 2 MiB pages of a node, put back when dropped; one test at a time changes it.
struct Reserved {
    knob: PathBuf,
    before: u64,
    _only: MutexGuard<'static, ()>,
}

impl Reserved {
    /// Adds `more` pages that are free, or says why it cannot.
    fn more(node: NodeId, more: u64) -> Result<Self, String> {
        static ONLY: Mutex<()> = Mutex::new(());
        if !is_root() {
            return Err("reserving 2 MiB pages needs root".into());
        }
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = PathBuf::from(format!(
            "/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
        ));
        let knob = folder.join("nr_hugepages");
        let number = |file: &str| -> Result<u64, String> {
            let path = folder.join(file);
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            text.trim().parse().map_err(|e| format!("{text}: {e}"))
        };
        let before = number("nr_hugepages")?;
        let reserved = Self {
            knob,
            before,
            _only: only,
        };
        fs::write(&reserved.knob, (before + more).to_string())
            .map_err(|e| format!("{}: {e}", reserved.knob.display()))?;
        let free = number("free_hugepages")?;
        if free < more {
            return Err(format!(
                "only {free} of {more} pages of 2 MiB could be reserved"
            ));
        }
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Err(why) = fs::write(&self.knob, self.before.to_string()) {
            eprintln!(
                "cannot put {} back to {}: {why}",
                self.knob.display(),
                self.before
            );
        }
    }
}

#[test]
fn huge_pages_are_used_where_free() {
    const TEST: &str = "huge_pages_are_used_where_free";
    let node = memory_nodes().first().expect("a node with memory");
    let _reserved = match Reserved::more(node, 4) {
        Ok(reserved) => reserved,
        Err(why) => {
            println!("SKIP {TEST}: {why}");
            return;
        }
    };
    for place in [None, Some(node)] {
        let region = match Region::new(&Want {
            node: place,
            huge: Huge::Require,
            lock: Lock::Require,
            ..want(Bytes::MIB * 5)
        }) {
            Err(MemoryError::NoHugePages { why, .. }) if why.contains("older than Linux 5.14") => {
                println!("SKIP {TEST}: {why}");
                return;
            }
            other => other.expect("three huge pages"),
        };
        assert_eq!(region.page(), HUGE);
        assert_eq!(region.len(), HUGE * 3);
        assert_eq!(region.as_ptr().addr().get() % HUGE.as_usize(), 0);
        assert!(region.locked());
        // A container may forbid mbind(2).
        assert!(
            region
                .notes()
                .iter()
                .all(|note| note.starts_with("memory is not bound")),
            "{:?}",
            region.notes()
        );
        assert_eq!(smaps(&region, "KernelPageSize:"), "2048 kB");
        if let Some(pages) = pages(&region, TEST) {
            assert_eq!(pages.iter().map(|(_, n)| n).sum::<u64>(), 3);
            if place.is_some() {
                assert_eq!(pages, [(Some(node), 3)]);
            }
        }
    }
}

#[test]
fn huge_pages_that_are_not_free_are_told() {
    const TEST: &str = "huge_pages_that_are_not_free_are_told";
    let _reserved = match Reserved::more(memory_nodes().first().expect("a node"), 1) {
        Ok(reserved) => Some(reserved),
        Err(why) => {
            println!("SKIP {TEST} (part): {why}; asks for more than the machine can have free");
            None
        }
    };
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.map_or(0, |t| t.trim().parse().expect("a number"));
    let wanted = want(HUGE * (free + 1));
    let error = Region::new(&Want {
        huge: Huge::Require,
        ..wanted.clone()
    })
    .expect_err("one too many");
    let text = error.to_string();
    assert!(
        text.contains("2MiB") && text.contains("/sys/kernel/mm/hugepages"),
        "{text}"
    );
    let region = Region::new(&Want {
        huge: Huge::Prefer,
        ..wanted
    })
    .expect("small pages");
    assert!(region.page() < HUGE);
    assert_eq!(region.len(), HUGE * (free + 1));
    assert_eq!(
        region.notes(),
        [format!("uses pages of {}: {error}", region.page())]
    );
    assert_ne!(smaps(&region, "KernelPageSize:"), "2048 kB");
}

/// Reserved pages of one node do not serve another: a touch would raise SIGBUS, the region must be an error.
#[test]
fn huge_pages_of_another_node_are_no_help() {
    const TEST: &str = "huge_pages_of_another_node_are_no_help";
    let nodes = memory_nodes();
    let [rich, poor, ..] = nodes.as_slice() else {
        println!(
            "SKIP {TEST}: needs two nodes with memory, this machine has {}",
            nodes.len()
        );
        return;
    };
    let _reserved = match Reserved::more(*rich, 4) {
        Ok(reserved) => reserved,
        Err(why) => {
            println!("SKIP {TEST}: {why}");
            return;
        }
    };
    let free =
        format!("/sys/devices/system/node/node{poor}/hugepages/hugepages-2048kB/free_hugepages");
    if fs::read_to_string(&free).is_ok_and(|t| t.trim() != "0") {
        println!("SKIP {TEST}: node {poor} has free pages of 2 MiB");
        return;
    }
    let wanted = Want {
        node: Some(*poor),
        ..want(HUGE)
    };
    let error = Region::new(&Want {
        huge: Huge::Require,
        ..wanted.clone()
    })
    .expect_err("none is free there");
    let text = error.to_string();
    assert!(matches!(error, MemoryError::NoHugePages { .. }), "{text}");
    assert!(
        text.contains(&format!("on memory node {poor}: they are not free there")),
        "{text}"
    );
    let region = Region::new(&Want {
        huge: Huge::Prefer,
        ..wanted
    })
    .expect("small pages");
    assert!(region.page() < HUGE && region.notes().len() == 1);
    if let Some(pages) = pages(&region, TEST) {
        assert!(
            matches!(pages[..], [(Some(node), _)] if node == *poor),
            "{pages:?}"
        );
    }
}

#[test]
fn another_mapping_of_a_shared_region_has_its_bytes() {
    use std::os::unix::fs::FileExt;
    let region = Region::shared(&want(Bytes(100_000))).expect("a region");
    let file = region.file().expect("a file").try_clone_to_owned();
    let file = fs::File::from(file.expect("a descriptor"));
    assert_eq!(file.metadata().expect("told").len(), region.len().0);
    file.write_all_at(&[0x5a], 70_000).expect("written");
    // SAFETY: within the region, which nothing writes now.
    let seen = unsafe { region.as_ptr().as_ptr().add(70_000).read_volatile() };
    assert_eq!(seen, 0x5a);
    let shrunk = file.set_len(4096).expect_err("it is sealed");
    assert_eq!(shrunk.kind(), std::io::ErrorKind::PermissionDenied);
    if let Some(pages) = pages(&region, "another_mapping_of_a_shared_region_has_its_bytes") {
        let count: u64 = pages.iter().map(|(_, n)| n).sum();
        assert_eq!(count, region.len().0 / region.page().0);
        assert!(pages.iter().all(|(node, _)| node.is_some()), "{pages:?}");
    }
    let own = Region::new(&want(Bytes(1))).expect("a region");
    assert!(own.file().is_none());
}

#[test]
fn shared_huge_pages_are_used_where_free() {
    const TEST: &str = "shared_huge_pages_are_used_where_free";
    let node = memory_nodes().first().expect("a node with memory");
    let _reserved = match Reserved::more(node, 2) {
        Ok(reserved) => reserved,
        Err(why) => {
            println!("SKIP {TEST}: {why}");
            return;
        }
    };
    let region = match Region::shared(&Want {
        huge: Huge::Require,
        ..want(Bytes::MIB * 3)
    }) {
        Err(MemoryError::NoHugePages { why, .. }) if why.contains("older than Linux 5.14") => {
            println!("SKIP {TEST}: {why}");
            return;
        }
        other => other.expect("two huge pages"),
    };
    assert_eq!((region.page(), region.len()), (HUGE, HUGE * 2));
    assert_eq!(smaps(&region, "KernelPageSize:"), "2048 kB");
    assert!(region.file().is_some() && region.locked());
}
