//! What the two sides say to each other over the control channel.

use serde::{Deserialize, Serialize};
use strata_record::{Ceiling, Harness, Measured, Proof, Sockets, Workload};
use strata_units::{CpuList, Nanos};

/// The name that this layer's tasks bear.
pub(crate) const LAYER: &str = "tcp";

/// What the other side answers, once it awaits connections: on which port.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Listening(pub(crate) u16);

/// What the other side answers.
pub(crate) type Answer = strata_peer::Answer<Listening, Report>;

/// What the other side is to do, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TcpTask {
    /// The workload, seen from the side that measures.
    pub(crate) workload: Workload,
    /// The engine's name.
    pub(crate) engine: String,
    /// How sockets are set.
    pub(crate) sockets: Sockets,
    /// Its CPUs, one a thread.
    pub(crate) cpus: CpuList,
    /// What each connection must begin with.
    pub(crate) token: u64,
    /// Where it has no address of its own to listen on: whether it is to be IPv6's loopback rather than IPv4's.
    pub(crate) ipv6: bool,
}

/// What the other side found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its CPU time an operation that it did, in nanoseconds.
    pub(crate) cpu_ns_per_op: f64,
    /// Where it was.
    pub(crate) proof: Proof,
    /// A receiver's figure; others have none.
    pub(crate) received: Option<Received>,
    /// The span of its clock in which its load began.
    pub(crate) began: Option<(Nanos, Nanos)>,
    /// Why what it found is void.
    pub(crate) failed: Option<String>,
}

/// What a receiver measured, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) measured: Measured,
    pub(crate) harness: Harness,
    pub(crate) ceiling: Ceiling,
}
