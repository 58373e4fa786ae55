//! What the two sides say to each other over the control channel.

use serde::{Deserialize, Serialize};
use strata_measure::two_sides::Report;
use strata_record::{Sockets, Workload};
use strata_units::CpuList;

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
