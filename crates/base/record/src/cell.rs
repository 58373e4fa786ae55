//! What is measured: engine × workload × placement × target.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{ByteOffset, Bytes, CpuList, Nanos, NodeId, QueueDepth};

use crate::{Binding, Op, Verbs};

/// What is measured in isolation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The kernel's storage path.
    Block,
    /// NVMe queue pairs polled from user space.
    Nvme,
    /// Sockets.
    Tcp,
    /// Verbs.
    Rdma,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Layer::Block => "block",
            Layer::Nvme => "nvme",
            Layer::Tcp => "tcp",
            Layer::Rdma => "rdma",
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
    /// A block device, or the character device of an NVMe namespace.
    Drive,
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
    /// What tells it from every other: for a file the file system's type, device and size; for a drive its model, serial
    /// number and namespace; for a wire its two ports.
    pub identity: String,
    /// Where the region of it that is used begins; 0 for a wire.
    #[serde(default)]
    pub region_from_bytes: ByteOffset,
    /// The region's length; null for a wire.
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

/// How operations arrive that do not wait for one another.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At equal distances.
    Fixed,
    /// As of a Poisson process: independent of one another, at exponential distances.
    Poisson,
}

/// An open loop's offer. Its operations are timed from the moment at which they were to start, so that a stall is not
/// hidden.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Rate {
    /// Operations a second of all threads together.
    pub ops_per_s: u64,
    /// How they arrive.
    pub arrivals: Arrivals,
}

/// Which way the bytes of a stream go, seen from the side that was asked to measure.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the other side.
    Send,
    /// From it.
    Receive,
    /// Both at once, over connections of their own.
    Both,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::Send => "send",
            Direction::Receive => "receive",
            Direction::Both => "both",
        })
    }
}

/// How the sockets of a network layer are set; null is as the system has it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Sockets {
    /// Whether small messages go at once (TCP_NODELAY).
    pub nodelay: bool,
    /// The send buffer that is asked for (SO_SNDBUF).
    pub send_buffer_bytes: Option<Bytes>,
    /// The receive buffer that is asked for (SO_RCVBUF).
    pub receive_buffer_bytes: Option<Bytes>,
    /// The congestion control (TCP_CONGESTION).
    pub congestion: Option<String>,
    /// How long the kernel polls the device's queue before it sleeps (SO_BUSY_POLL).
    pub busy_poll_ns: Option<Nanos>,
    /// The interface that they are bound to (SO_BINDTODEVICE).
    pub interface: Option<String>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            nodelay: true,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            congestion: None,
            busy_poll_ns: None,
            interface: None,
        }
    }
}

impl Sockets {
    /// As they are where nobody says otherwise: requests and replies go at once, a stream's blocks gather, so that the end of
    /// each is no small segment of its own.
    pub fn of(op: Op) -> Sockets {
        Sockets {
            nodelay: op != Op::Stream,
            ..Sockets::default()
        }
    }

    /// What differs from the defaults of an operation, a word each: `nagle`, `sndbuf=1MiB`, `cubic`, `busy-poll=50us`,
    /// `dev=eth0`.
    pub fn words(&self, op: Op) -> Vec<String> {
        let mut words = Vec::new();
        if self.nodelay != Sockets::of(op).nodelay {
            words.push(if self.nodelay { "nodelay" } else { "nagle" }.to_owned());
        }
        words.extend(self.send_buffer_bytes.map(|b| format!("sndbuf={b}")));
        words.extend(self.receive_buffer_bytes.map(|b| format!("rcvbuf={b}")));
        words.extend(self.congestion.clone());
        words.extend(self.busy_poll_ns.map(|t| format!("busy-poll={t}")));
        words.extend(self.interface.as_ref().map(|i| format!("dev={i}")));
        words
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
    /// Size of a reply; null when it is that of the request, or there is none.
    #[serde(default)]
    pub reply_bytes: Option<Bytes>,
    /// Operations in flight a thread: a connection's, where there are connections.
    pub depth: QueueDepth,
    /// Measuring threads.
    pub threads: u16,
    /// Connections, or queue pairs, a thread and direction; 1 where there are none.
    #[serde(default = "one")]
    pub streams: u16,
    /// Which way a stream's bytes go, and which side does the operations of the rdma layer; null for others, and for what
    /// goes to and fro.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Whether random places are visited each once before any is visited again.
    #[serde(default)]
    pub random_map: bool,
    /// The offer of an open loop; null when each operation waits for the one before it.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// The window's length; null when it ends by count.
    pub duration_ns: Option<Nanos>,
    /// The window's operations a thread; null when it ends by time.
    pub ops: Option<u64>,
    /// Time under load before the window opens.
    pub ramp_ns: Nanos,
    /// How operations are timed.
    pub timed_by: TimedBy,
    /// Whether each read is checked against what was written, each write recorded in a ledger that a later check goes by, and
    /// each byte that a connection receives against the one sent.
    pub verify: bool,
}

fn one() -> u16 {
    1
}

impl Workload {
    /// One operation in flight on one thread for a second, in a closed loop: what a caller changes to what it wants.
    pub fn plain(op: Op, block_bytes: Bytes) -> Workload {
        Workload {
            op,
            block_bytes,
            reply_bytes: None,
            depth: QueueDepth::ONE,
            threads: 1,
            streams: 1,
            direction: (op == Op::Stream).then_some(Direction::Send),
            random_map: false,
            rate: None,
            duration_ns: Some(Nanos::SECOND),
            ops: None,
            ramp_ns: Nanos(0),
            timed_by: TimedBy::Operation,
            verify: false,
        }
    }
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
    /// The CPUs of the threads that the kernel polls with on our behalf (io_uring's SQPOLL); empty when there are none.
    #[serde(default)]
    pub poll_cpus: CpuList,
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
    /// How long an operation may take before it is aborted; null for a layer that aborts none, and where it was not kept.
    #[serde(default)]
    pub timeout_ns: Option<Nanos>,
    /// How the sockets are set; null for a layer without.
    #[serde(default)]
    pub sockets: Option<Sockets>,
    /// How the queue pairs are made; null for a layer without.
    #[serde(default)]
    pub verbs: Option<Verbs>,
    /// The driver that the drive is put on for it; null where it is measured as the host is.
    #[serde(default)]
    pub binding: Option<Binding>,
    /// Where from.
    pub placement: Placement,
}

impl Cell {
    /// A short name for people: `block io_uring randread 4KiB qd32`.
    pub fn label(&self) -> String {
        let w = &self.workload;
        let mut label = format!("{} {}", self.means(), self.shape());
        if w.op != Op::Stream {
            label.push_str(&format!(" qd{}", w.depth));
        }
        label.push_str(&self.spread());
        label
    }

    /// What drives it in short: `block io_uring`, `nvme native`, `tcp`.
    pub fn means(&self) -> String {
        let layer = self.layer.to_string();
        if self.engine == layer {
            layer
        } else {
            format!("{layer} {}", self.engine)
        }
    }

    /// Operation, sizes and direction in short: `randread 4KiB`, `stream 128KiB both`, `reqrep 64B:4KiB`.
    pub fn shape(&self) -> String {
        let w = &self.workload;
        let mut shape = format!("{} {}", w.op, w.block_bytes);
        if let Some(reply) = w.reply_bytes {
            shape.push_str(&format!(":{reply}"));
        }
        if let Some(direction) = w.direction.filter(|d| *d != Direction::Send) {
            shape.push_str(&format!(" {direction}"));
        }
        if w.random_map {
            shape.push_str(" each once");
        }
        shape
    }

    /// What follows the depth in a short name: connections, threads, rate and settings, where they are not the usual ones.
    pub fn spread(&self) -> String {
        let w = &self.workload;
        let mut words = String::new();
        if w.streams > 1 {
            let what = match self.layer {
                Layer::Rdma => "queue pairs",
                _ => "streams",
            };
            words.push_str(&format!(" {} {what}", w.streams));
        }
        if w.threads > 1 {
            words.push_str(&format!(" ×{}", w.threads));
        }
        if let Some(rate) = w.rate {
            let how = match rate.arrivals {
                Arrivals::Fixed => "",
                Arrivals::Poisson => " Poisson",
            };
            words.push_str(&format!(" at {}/s{how}", rate.ops_per_s));
        }
        for word in self.settings() {
            words.push(' ');
            words.push_str(&word);
        }
        words
    }

    /// What is set of sockets or queue pairs and not usual, a word each.
    fn settings(&self) -> impl Iterator<Item = String> + '_ {
        let op = self.workload.op;
        let sockets = self.sockets.iter().flat_map(move |s| s.words(op));
        sockets.chain(self.verbs.iter().flat_map(move |v| v.words(op)))
    }

    /// The identity of the cell across runs: everything but the path, the drive's PCI function, and the time limit.
    pub fn key(&self) -> String {
        let w = &self.workload;
        let p = &self.placement;
        let window = match (w.duration_ns, w.ops) {
            (Some(span), _) => span.to_string(),
            (None, ops) => format!("{}ops", ops.unwrap_or(0)),
        };
        let node = |n: Option<NodeId>| n.map_or_else(|| "any".to_owned(), |n| n.to_string());
        let mut more = String::new();
        more.extend(w.reply_bytes.map(|b| format!("/reply{b}")));
        more.extend((w.streams > 1).then(|| format!("/streams{}", w.streams)));
        more.extend(w.direction.map(|d| format!("/{d}")));
        more.extend(w.random_map.then(|| "/each-once".to_owned()));
        more.extend(w.rate.map(|r| match r.arrivals {
            Arrivals::Fixed => format!("/rate{}", r.ops_per_s),
            Arrivals::Poisson => format!("/poisson{}", r.ops_per_s),
        }));
        for word in self.settings() {
            more.push_str(&format!("/{}", word.replace(' ', "-")));
        }
        // The function is a place, as the path is: what tells the drive is its target's identity.
        more.extend(self.binding.map(|b| format!("/on-{}", b.driver)));
        format!(
            "{}/{}/{}/{}/{}/qd{}/x{}{more}/{window}/ramp{}/by-{}{}/cpus{}{}/peer{}/mem{}/{}{}",
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
            if p.poll_cpus.is_empty() {
                String::new()
            } else {
                format!("/poll{}", p.poll_cpus)
            },
            p.peer_cpus,
            node(p.mem_node),
            self.target.identity,
            match (self.target.region_from_bytes, self.target.region_bytes) {
                (_, None) => String::new(),
                (ByteOffset(0), Some(length)) => format!("+{length}"),
                (from, Some(length)) => format!("@{}+{length}", Bytes(from.0)),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_usual_of_an_operation_is_told() {
        for (op, nodelay, said) in [
            (Op::ReqRep, true, ""),
            (Op::ReqRep, false, "nagle"),
            (Op::Stream, false, ""),
            (Op::Stream, true, "nodelay"),
        ] {
            let sockets = Sockets {
                nodelay,
                ..Sockets::of(op)
            };
            assert_eq!(sockets.words(op).join(" "), said, "{op:?}");
        }
    }
}
