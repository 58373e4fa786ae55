//! What is measured: engine × workload × placement × target.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, CpuList, Nanos, NodeId, QueueDepth};

use crate::Op;

/// What is measured in isolation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The kernel's storage path.
    Block,
    /// Sockets.
    Tcp,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Layer::Block => "block",
            Layer::Tcp => "tcp",
        })
    }
}

/// What stands behind a target; detected, never declared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Reality {
    /// A device of the machine itself.
    Hardware,
    /// A device or virtual function handed to a guest.
    Passthrough,
    /// A hypervisor's device.
    Virtual,
    /// Our own emulated controller; told by the layer that drives it, for the system cannot.
    Emulated,
    /// Software alone: Soft-RoCE, soft iWARP, veth, loopback, a loop device whose file is out of sight.
    Software,
    /// Memory that answers as storage: tmpfs, brd, zram.
    Memory,
    /// The system does not say: a container's overlay whose disk is out of sight, a file system behind a server.
    Unknown,
}

impl fmt::Display for Reality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Reality::Hardware => "hardware",
            Reality::Passthrough => "passthrough",
            Reality::Virtual => "virtual",
            Reality::Emulated => "emulated",
            Reality::Software => "software",
            Reality::Memory => "memory",
            Reality::Unknown => "unknown",
        })
    }
}

/// What kind of thing a target is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A file on a file system.
    File,
    /// A pair of ports.
    Wire,
}

/// The drive and namespace, file, or pair of ports that is measured. Two records are of one target when these are equal;
/// a path is no identity and stands elsewhere (`Cell::via`).
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Target {
    /// What kind of thing it is.
    pub kind: TargetKind,
    /// What tells it from every other: for a file the file system's type, device and size; for a wire its two ports.
    pub identity: String,
    /// The region of it that is used, from its start; null for a wire.
    pub region_bytes: Option<Bytes>,
    /// The node that its device hangs on; null when it has none or the system does not say.
    pub node: Option<NodeId>,
}

/// When operations are timed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TimedBy {
    /// One clock read an operation, when its completion is seen.
    Operation,
    /// One clock read a reaped batch, after it; the largest batch time is the error.
    Batch,
}

impl fmt::Display for TimedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TimedBy::Operation => "operation",
            TimedBy::Batch => "batch",
        })
    }
}

/// What is asked of the target.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Workload {
    /// The operation.
    pub op: Op,
    /// Size of one operation.
    pub block_bytes: Bytes,
    /// Operations in flight a thread.
    pub depth: QueueDepth,
    /// Measuring threads.
    pub threads: u16,
    /// The window's length; null when it ends by count.
    pub duration_ns: Option<Nanos>,
    /// The window's operations a thread; null when it ends by time.
    pub ops: Option<u64>,
    /// Time under load before the window opens.
    pub ramp_ns: Nanos,
    /// How operations are timed.
    pub timed_by: TimedBy,
    /// Whether each read is checked against what was written.
    pub verify: bool,
}

/// Where the measuring threads and their memory are asked to be.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Placement {
    /// The CPUs of the measuring threads, one each.
    pub cpus: CpuList,
    /// The CPUs of the other side's threads; empty when there is none.
    pub peer_cpus: CpuList,
    /// The node that the buffers are bound to; null when unbound.
    pub mem_node: Option<NodeId>,
}

/// One thing to measure: its trials are the repeats of one another.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Cell {
    /// The layer measured.
    pub layer: Layer,
    /// The way that the layer is driven, such as `psync`.
    pub engine: String,
    /// What stands behind the target.
    pub reality: Reality,
    /// The target.
    pub target: Target,
    /// How the target is reached: the path or address of this run.
    pub via: String,
    /// What is asked of it.
    pub workload: Workload,
    /// Where from.
    pub placement: Placement,
}

impl Cell {
    /// A short name for people: `block io_uring randread 4KiB qd32`.
    pub fn label(&self) -> String {
        let w = &self.workload;
        let layer = self.layer.to_string();
        let engine = if self.engine == layer {
            String::new()
        } else {
            format!(" {}", self.engine)
        };
        let mut label = format!("{layer}{engine} {} {}", w.op, w.block_bytes);
        if w.op != Op::Stream {
            label.push_str(&format!(" qd{}", w.depth));
        }
        if w.threads > 1 {
            label.push_str(&format!(" ×{}", w.threads));
        }
        label
    }

    /// The identity of the cell across runs: everything but the path.
    pub fn key(&self) -> String {
        let w = &self.workload;
        let p = &self.placement;
        let window = match (w.duration_ns, w.ops) {
            (Some(span), _) => span.to_string(),
            (None, ops) => format!("{}ops", ops.unwrap_or(0)),
        };
        let node = |n: Option<NodeId>| n.map_or_else(|| "any".to_owned(), |n| n.to_string());
        format!(
            "{}/{}/{}/{}/{}/qd{}/x{}/{window}/ramp{}/by-{}{}/cpus{}/peer{}/mem{}/{}{}",
            self.layer,
            self.engine,
            self.reality,
            w.op,
            w.block_bytes,
            w.depth,
            w.threads,
            w.ramp_ns,
            w.timed_by,
            if w.verify { "/verify" } else { "" },
            p.cpus,
            p.peer_cpus,
            node(p.mem_node),
            self.target.identity,
            self.target
                .region_bytes
                .map_or_else(String::new, |b| format!("+{b}")),
        )
    }
}
