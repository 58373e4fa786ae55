use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use strata_units::{Bytes, NodeId};

use crate::MemoryError;
use crate::error::place;
use crate::host::{Host, huge_knob, memlock_limit, page_at, small_page};
use crate::mapping::{Lent, Mapping, Whose};

const HUGE_PAGE: Bytes = Bytes(2 << 20);

/// Beyond any machine's memory, and small enough that no sum of sizes overflows.
const LARGEST: Bytes = Bytes(1 << 47);

/// The most pages whose node is asked for, so that the proof of a large region stays cheap.
const SAMPLE: usize = 4096;

/// Whether pages of 2 MiB are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Huge {
    /// Small pages, and the kernel is kept from joining them.
    Never,
    /// 2 MiB if free, else small pages and a note.
    Prefer,
    /// 2 MiB, or an error.
    Require,
}

/// Whether the pages are locked into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Not locked.
    Never,
    /// Locked if the limits allow it, else a note.
    Prefer,
    /// Locked, or an error.
    Require,
}

/// What a region shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Bytes needed; rounded up to whole pages.
    pub bytes: Bytes,
    /// The memory node that every page shall lie on; None leaves it to the thread's policy (mostly the node that it
    /// runs on).
    pub node: Option<NodeId>,
    /// Whether pages of 2 MiB are used.
    pub huge: Huge,
    /// Whether the pages are locked into memory.
    pub lock: Lock,
}

/// Memory for I/O buffers: zeroed, present, page aligned; unmapped when dropped.
///
/// The region may move to another thread, but is not shared between threads:
///
/// ```
/// fn moves<T: Send>() {}
/// moves::<strata_memory::Region>();
/// ```
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<strata_memory::Region>();
/// ```
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    node: Option<NodeId>,
    page: Bytes,
    locked: bool,
    notes: Vec<String>,
}

impl Region {
    /// Maps, binds, touches and locks, in this order. The calling thread does the touching: without a node it should be
    /// pinned already.
    ///
    /// # Errors
    ///
    /// An absent or forbidden node, more memory than there is, and whatever of `want` is required and cannot be had.
    pub fn new(want: &Want) -> Result<Region, MemoryError> {
        Region::of(want, Whose::Own)
    }

    /// The same as pages of a file in memory, whose descriptor ([`Region::file`]) lets another process map them: a
    /// controller in a process of its own. The file is sealed at its size.
    ///
    /// # Errors
    ///
    /// As [`Region::new`].
    pub fn shared(want: &Want) -> Result<Region, MemoryError> {
        Region::of(want, Whose::Shared)
    }

    /// Memory of another allocator's, which binds and locks it its own way.
    pub fn lent(memory: Box<dyn Lent>, locked: bool) -> Region {
        let mapping = Mapping::lent(memory);
        let page = page_at(mapping.start()).unwrap_or_else(small_page);
        Region {
            mapping,
            node: None,
            page,
            locked,
            notes: Vec::new(),
        }
    }

    fn of(want: &Want, whose: Whose) -> Result<Region, MemoryError> {
        let host = Host::at("/");
        if let Some(node) = want.node {
            host.check_node(node)?;
        }
        let mut notes = Vec::new();
        let mut region = match want.huge {
            Huge::Never => Region::small(&host, want, whose, &mut notes)?,
            Huge::Prefer | Huge::Require => match Region::huge(&host, want, whose, &mut notes) {
                Err(why @ MemoryError::NoHugePages { .. }) if want.huge == Huge::Prefer => {
                    notes.push(format!("uses pages of {}: {why}", small_page()));
                    Region::small(&host, want, whose, &mut notes)?
                }
                other => other?,
            },
        };
        if want.lock != Lock::Never && !region.locked {
            match region.lock(&host) {
                Err(why) if want.lock == Lock::Prefer => {
                    notes.push(format!("memory is not locked: {why}"));
                }
                other => other?,
            }
        }
        region.notes = notes;
        Ok(region)
    }

    fn small(
        host: &Host,
        want: &Want,
        whose: Whose,
        notes: &mut Vec<String>,
    ) -> Result<Region, MemoryError> {
        let page = small_page();
        let len = whole_pages(want.bytes, page)?;
        host.check_room(want.bytes, want.node)?;
        let fail = |what, call, errno, next| system(what, want.bytes, want.node, call, errno, next);
        let mapping = Mapping::new(len, false, whose).map_err(|errno| {
            fail(
                "map",
                "mmap(2)",
                errno,
                "check `ulimit -v` and vm.overcommit_memory",
            )
        })?;
        mapping.stay_small().map_err(|errno| {
            fail(
                "keep small the pages of",
                "madvise(2)",
                errno,
                "check that a sandbox (seccomp) allows it",
            )
        })?;
        bind(host, &mapping, want, notes)?;
        match mapping.populate() {
            Err(Errno::EINVAL) => mapping.touch(page.as_usize()),
            other => other.map_err(|errno| {
                fail(
                    "fault in",
                    "madvise(2)",
                    errno,
                    "free memory there, or raise memory.max of the control group",
                )
            })?,
        }
        Ok(Region {
            mapping,
            node: want.node,
            page,
            locked: false,
            notes: Vec::new(),
        })
    }

    fn huge(
        host: &Host,
        want: &Want,
        whose: Whose,
        notes: &mut Vec<String>,
    ) -> Result<Region, MemoryError> {
        let len = whole_pages(want.bytes, HUGE_PAGE)?;
        // Asked for before our own reservation counts among those taken.
        let free = host.free_huge_pages(want.node);
        let lacking = |why: String| MemoryError::NoHugePages {
            pages: len.get() as u64 / HUGE_PAGE.0,
            free: free.map_or_else(|| "unknown".to_owned(), |free| free.to_string()),
            place: place(want.node),
            why,
            knob: huge_knob(want.node),
        };
        let mapping = Mapping::new(len, true, whose)
            .map_err(|errno| lacking(format!("mmap(2) says {}", errno.desc())))?;
        bind(host, &mapping, want, notes)?;
        mapping.populate().map_err(|errno| {
            lacking(match errno {
                Errno::EINVAL => {
                    "this kernel is older than Linux 5.14 and cannot fault them in without risk of SIGBUS".to_owned()
                }
                // The reservation of mmap(2) holds for the machine, not for the node.
                Errno::EFAULT | Errno::ENOMEM => "they are not free there".to_owned(),
                other => format!("madvise(2) says {}", other.desc()),
            })
        })?;
        Ok(Region {
            mapping,
            node: want.node,
            page: HUGE_PAGE,
            locked: true,
            notes: Vec::new(),
        })
    }

    fn lock(&mut self, host: &Host) -> Result<(), MemoryError> {
        let bytes = self.len();
        self.mapping.lock().map_err(|errno| {
            let locked = host.locked();
            match memlock_limit() {
                Some(limit)
                    if locked + bytes > limit
                        && matches!(errno, Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN) =>
                {
                    MemoryError::Memlock {
                        bytes,
                        limit,
                        locked,
                    }
                }
                _ => system(
                    "lock",
                    bytes,
                    self.node,
                    "mlock(2)",
                    errno,
                    "check that a sandbox (seccomp) allows it and memory is free",
                ),
            }
        })?;
        self.locked = true;
        Ok(())
    }

    /// The first byte. Valid for [`len`](Self::len) bytes until the region is dropped; aligned to the page.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.mapping.start()
    }

    /// Bytes of the region: what was wanted, rounded up to whole pages. Never empty.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> Bytes {
        Bytes(self.mapping.len() as u64)
    }

    /// Copies bytes out of it, from `at` on. Others may write it at the same time: what is copied is then of no one moment.
    ///
    /// # Panics
    /// When they do not lie inside.
    pub fn copy_out(&self, at: Bytes, into: &mut [u8]) {
        self.mapping.copy_out(self.part(at, into.len()), into);
    }

    /// Copies bytes into it, from `at` on.
    ///
    /// # Panics
    /// As [`Region::copy_out`].
    pub fn copy_in(&self, at: Bytes, from: &[u8]) {
        self.mapping.copy_in(self.part(at, from.len()), from);
    }

    fn part(&self, at: Bytes, len: usize) -> usize {
        let (at, end) = (at.as_usize(), self.mapping.len());
        assert!(
            at.checked_add(len).is_some_and(|last| last <= end),
            "{len} bytes from {at} of {end}"
        );
        at
    }

    /// The file in memory that a [shared](Region::shared) region is of; the region's first byte is the file's.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.mapping.file()
    }

    /// The page really used: 2 MiB, or the machine's small page.
    pub fn page(&self) -> Bytes {
        self.page
    }

    /// Whether the pages stay in memory: by mlock(2), or because pages of 2 MiB from the reserved pool are never
    /// swapped (hugetlbpage.rst of the kernel's documentation).
    pub fn locked(&self) -> bool {
        self.locked
    }

    /// How many pages lie on which node now (move_pages(2)); None counts pages that are not present.
    ///
    /// Every page is asked for, or of a region of more than 4096 pages an even sample of at most that many.
    ///
    /// # Errors
    ///
    /// The kernel does not answer: it has no NUMA, or a sandbox forbids the call.
    pub fn pages_by_node(&self) -> Result<Vec<(Option<NodeId>, u64)>, MemoryError> {
        let pages = self.mapping.len().div_ceil(self.page.as_usize());
        let stride = pages.div_ceil(SAMPLE) * self.page.as_usize();
        let offsets: Vec<usize> = (0..self.mapping.len()).step_by(stride).collect();
        let nodes = self.mapping.nodes_at(&offsets).map_err(|errno| {
            system(
                "ask for the nodes of",
                self.len(),
                self.node,
                "move_pages(2)",
                errno,
                "check that the kernel has CONFIG_NUMA and a sandbox (seccomp) allows it",
            )
        })?;
        let mut count = BTreeMap::new();
        for node in nodes {
            *count
                .entry(u32::try_from(node).ok().map(NodeId))
                .or_insert(0) += 1;
        }
        Ok(count.into_iter().collect())
    }

    /// What was preferred and could not be had, why, and the next step.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Binds to the node wanted. Where the call is not to be had (containers forbid it, some kernels lack it) but the
/// machine has no other node, all pages lie there anyhow.
fn bind(
    host: &Host,
    mapping: &Mapping,
    want: &Want,
    notes: &mut Vec<String>,
) -> Result<(), MemoryError> {
    let Some(node) = want.node else {
        return Ok(());
    };
    let Err(errno) = mapping.bind(node) else {
        return Ok(());
    };
    if matches!(errno, Errno::EPERM | Errno::ENOSYS) && host.memory_nodes().as_slice() == [node] {
        let note = format!(
            "memory is not bound: mbind(2) says {}; node {node} is the only one with memory",
            errno.desc()
        );
        // Small pages come after huge ones that could not be had: the note of the first attempt is enough.
        if !notes.contains(&note) {
            notes.push(note);
        }
        return Ok(());
    }
    Err(system(
        "bind",
        want.bytes,
        want.node,
        "mbind(2)",
        errno,
        "check that a sandbox (seccomp) allows it, or leave the memory node out",
    ))
}

fn whole_pages(bytes: Bytes, page: Bytes) -> Result<NonZeroUsize, MemoryError> {
    Some(bytes)
        .filter(|bytes| *bytes <= LARGEST)
        .and_then(|bytes| usize::try_from(bytes.0.next_multiple_of(page.0)).ok())
        .and_then(NonZeroUsize::new)
        .ok_or(MemoryError::Size { bytes })
}

fn system(
    what: &'static str,
    bytes: Bytes,
    node: Option<NodeId>,
    call: &'static str,
    errno: Errno,
    next: &'static str,
) -> MemoryError {
    MemoryError::System {
        what,
        bytes,
        place: place(node),
        call,
        source: errno.into(),
        next,
    }
}
