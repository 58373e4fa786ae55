//! What the measuring side gives the other one to do.

use serde::{Deserialize, Serialize};
use strata_record::{Verbs, Workload};
use strata_units::CpuList;

use crate::maker::Faults;

/// The layer's name, by which a task is known as its own.
pub const LAYER: &str = "rdma";

/// What the other side is to do, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The workload, seen from the side that measures.
    pub(crate) workload: Workload,
    /// The engine's name.
    pub(crate) engine: String,
    /// The queue pairs; of each rail the other side's end is the one that does this.
    pub(crate) verbs: Verbs,
    /// Its CPUs, one a thread.
    pub(crate) cpus: CpuList,
    /// What only the two sides know: packet numbers and contents are made of it.
    pub(crate) secret: u64,
    /// What it does wrong on purpose.
    #[serde(default)]
    pub(crate) faults: Faults,
}
