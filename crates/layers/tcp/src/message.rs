//! What the two processes say to each other over the control channel.

use serde::{Deserialize, Serialize};
use strata_record::{Ceiling, Harness, Measured, Proof, Workload};
use strata_units::CpuList;

/// What the other side is to do, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The workload, seen from the client.
    pub(crate) workload: Workload,
    /// Its CPUs, one a connection.
    pub(crate) cpus: CpuList,
    /// What each connection must begin with.
    pub(crate) token: u64,
}

/// What the other side answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// Connections are awaited on this port of 127.0.0.1.
    Listening(u16),
    /// It is over.
    Done(Box<Report>),
    /// It could not be done.
    Failed(String),
}

/// What the other side found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its CPU time an operation, in nanoseconds.
    pub(crate) cpu_ns_per_op: f64,
    /// Where it was.
    pub(crate) proof: Proof,
    /// A receiver's figure; an answering side has none.
    pub(crate) received: Option<Received>,
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
