//! What forbids a write or a rebind, and what could not be asked.

use std::fmt;

use crate::identity::Mismatch;
use crate::signatures::Signature;

/// Who gives a device to other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exporter {
    /// The kernel's NVMe target.
    Nvmet,
    /// The kernel's SCSI target (LIO).
    Lio,
    /// The SCST target.
    Scst,
}

impl fmt::Display for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exporter::Nvmet => "the NVMe target (nvmet)",
            Exporter::Lio => "the SCSI target (LIO)",
            Exporter::Scst => "the SCSI target (SCST)",
        })
    }
}

/// One reason not to write to a target, nor to take it from the kernel. `device` is the target; `on` is the device that the finding is about: the target
/// itself, a partition of it, or what is stacked above it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The typed identity is another's.
    #[error("not writing: {0}")]
    Identity(Mismatch),
    /// The kernel refuses writes.
    #[error(
        "{device} is left alone: it is read-only; clear that (`blockdev --setrw`, a loop device without -r) or name another target"
    )]
    ReadOnly {
        /// The target, or what lies below it where that is a loop device.
        device: String,
    },
    /// It has partitions.
    #[error("{device} is left alone: it has partitions {}; name a drive without any, or remove them first (`wipefs -a`)", names.join(", "))]
    Partitions {
        /// The target, or what lies below it where that is a loop device.
        device: String,
        /// The partitions.
        names: Vec<String>,
    },
    /// Something is made of it.
    #[error(
        "{device} is left alone: {on} is part of {by}; take that apart first (`dmsetup ls`, `mdadm --detail`, `losetup -d`)"
    )]
    Held {
        /// The target.
        device: String,
        /// What is held.
        on: String,
        /// What holds it.
        by: String,
    },
    /// A file system on it is mounted.
    #[error("{device} is left alone: {on} is mounted at {point}{}; unmount it first", namespace.map(|pid| format!(" (in the mount namespace of process {pid})")).unwrap_or_default())]
    Mounted {
        /// The target.
        device: String,
        /// What is mounted.
        on: String,
        /// Where.
        point: String,
        /// A process that sees the mount, where we do not.
        namespace: Option<u32>,
    },
    /// The kernel swaps to it.
    #[error("{device} is left alone: the kernel swaps to {on}; `swapoff /dev/{on}` first")]
    Swap {
        /// The target.
        device: String,
        /// What is swapped to.
        on: String,
    },
    /// Other machines may use it.
    #[error("{device} is left alone: {by} exports {on} by {entry}; remove it there first")]
    Exported {
        /// The target.
        device: String,
        /// What is exported: one of its devices, or an NVMe controller that leads to it.
        on: String,
        /// By whom.
        by: Exporter,
        /// The entry in its configuration, below the root.
        entry: String,
    },
    /// Another process has it open.
    #[error("{device} is left alone: process {pid} ({command}) has {on} open; end it first")]
    Open {
        /// The target.
        device: String,
        /// What is open.
        on: String,
        /// The process.
        pid: u32,
        /// Its name.
        command: String,
    },
    /// The kernel does not give it exclusively (open(2), O_EXCL on a block device).
    #[error(
        "{device} is left alone: the kernel says that it is in use (EBUSY for O_EXCL); see what stands on it (`lsblk`, `cat /proc/mounts`) and release it"
    )]
    InUse {
        /// The target.
        device: String,
    },
    /// A host has a reservation or a registration on it.
    #[error(
        "{device} is left alone: {found}; it is shared with other hosts, release it there first (`nvme resv-report`, `sg_persist`)"
    )]
    Reserved {
        /// The target.
        device: String,
        /// What was found.
        found: String,
    },
    /// A multipath head leads to one namespace by several ways.
    #[error("{device} is left alone: it has {} live paths ({}), so where a write goes is not known; disconnect all but one", paths.len(), paths.join(", "))]
    SeveralPaths {
        /// The target, or what lies below it where that is a loop device.
        device: String,
        /// The paths whose controller is live.
        paths: Vec<String>,
    },
    /// Its bytes are somebody's.
    #[error(
        "{device} is left alone: it carries {signature}; if that data may be lost, `wipefs -a` it first"
    )]
    Signed {
        /// The target.
        device: String,
        /// What was recognised.
        signature: Signature,
    },
    /// It cannot be opened.
    #[error("cannot open {device}: {why}; run as a user who may (root, group disk)")]
    CannotOpen {
        /// The target.
        device: String,
        /// What the system said.
        why: String,
    },
    /// A check without which nothing is written could not be made.
    #[error(
        "{device} is left alone: cannot tell {question}: {why}; run as root with /proc and /sys mounted"
    )]
    CannotTell {
        /// The target.
        device: String,
        /// What was to be known.
        question: &'static str,
        /// Why it is not.
        why: String,
    },
    /// Another device is there now.
    #[error("{device} is left alone: {found}; look again (`strata topology`) and start anew")]
    Changed {
        /// The target.
        device: String,
        /// What is different.
        found: String,
    },
}

impl Refusal {
    /// A short name that stays, for records and tests.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::Identity(_) => "identity",
            Refusal::ReadOnly { .. } => "read-only",
            Refusal::Partitions { .. } => "partitions",
            Refusal::Held { .. } => "held",
            Refusal::Mounted { .. } => "mounted",
            Refusal::Swap { .. } => "swap",
            Refusal::Exported { .. } => "exported",
            Refusal::Open { .. } => "open",
            Refusal::InUse { .. } => "in-use",
            Refusal::Reserved { .. } => "reserved",
            Refusal::SeveralPaths { .. } => "several-paths",
            Refusal::Signed { .. } => "signed",
            Refusal::CannotOpen { .. } => "cannot-open",
            Refusal::CannotTell { .. } => "cannot-tell",
            Refusal::Changed { .. } => "changed",
        }
    }
}

/// A question that had no answer here. It forbids nothing, and is told beside the permit or the refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not be asked: {question}: {why}")]
pub struct Unasked {
    /// What was to be known.
    pub question: &'static str,
    /// Why it is not.
    pub why: String,
}
