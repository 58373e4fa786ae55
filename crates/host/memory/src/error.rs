use std::io;

use strata_units::{Bytes, NodeId, NodeList};

/// Why a region of memory could not be had as asked, or asked about.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No bytes, or more than an address space holds.
    #[error(
        "cannot allocate a region of {bytes}: a region holds 1 byte to {}; check block size, depth and threads",
        Bytes::GIB * (1 << 17)
    )]
    Size {
        /// What was asked.
        bytes: Bytes,
    },
    /// The node does not exist or has no memory of its own.
    #[error(
        "cannot allocate on memory node {node}: nodes with memory are {have}; choose one of these"
    )]
    NoNode {
        /// The node asked for.
        node: NodeId,
        /// Nodes that have memory.
        have: NodeList,
    },
    /// The node exists, but not for this process.
    #[error(
        "cannot allocate on memory node {node}: this process may use nodes {allowed} only \
         (Mems_allowed_list in /proc/thread-self/status); widen cpuset.mems of its control group or choose one of these"
    )]
    NotAllowed {
        /// The node asked for.
        node: NodeId,
        /// Nodes that the process's cpuset allows.
        allowed: NodeList,
    },
    /// More than is free: the attempt would wake the kernel's OOM killer.
    #[error(
        "cannot allocate {bytes} {place}: {available} are available there; \
         use smaller blocks, less depth or fewer threads, or free memory"
    )]
    NotEnough {
        /// What was asked.
        bytes: Bytes,
        /// What the kernel could give.
        available: Bytes,
        /// `on memory node 1`, or `of memory`.
        place: String,
    },
    /// 2 MiB pages were asked for and could not be had.
    #[error(
        "cannot allocate {pages} pages of 2MiB {place}: {why} ({free} free there); \
         reserve them with `echo N > {knob}`, N at least {pages} more than it reads now"
    )]
    NoHugePages {
        /// Pages needed.
        pages: u64,
        /// Pages that the kernel reports as free there, or `unknown`.
        free: String,
        /// `on memory node 1`, or `of memory`.
        place: String,
        /// What the kernel answered.
        why: String,
        /// The file by which such pages are reserved.
        knob: String,
    },
    /// The limit on locked memory is too small.
    #[error(
        "cannot lock {bytes} of memory: RLIMIT_MEMLOCK is {limit} and {locked} are locked already; \
         raise it to at least {} with `ulimit -l unlimited` or LimitMEMLOCK=infinity, or run with CAP_IPC_LOCK",
        *locked + *bytes
    )]
    Memlock {
        /// What was to be locked.
        bytes: Bytes,
        /// The soft limit found.
        limit: Bytes,
        /// What the process has locked before.
        locked: Bytes,
    },
    /// A system call failed for a reason of its own.
    #[error("cannot {what} {bytes} {place}: {call} says {source}; {next}")]
    System {
        /// `map`, `bind`, …
        what: &'static str,
        /// The region's size.
        bytes: Bytes,
        /// `on memory node 1`, or `of memory`.
        place: String,
        /// The system call, as its manual page is called.
        call: &'static str,
        /// Its answer.
        source: io::Error,
        /// What to do about it.
        next: &'static str,
    },
}

/// Where a region was asked for, as the messages say it.
pub(crate) fn place(node: Option<NodeId>) -> String {
    node.map_or_else(
        || "of memory".to_owned(),
        |node| format!("on memory node {node}"),
    )
}
