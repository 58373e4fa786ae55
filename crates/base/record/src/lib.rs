//! The schema: cell, record, proof, ceiling, summary and run, as plain data.
//!
//! A *record* is one line of `trials.jsonl`: one trial of one cell, with everything that stands beside its figure. It is
//! the only thing that analysis and reports read, so a result of another machine or year is as good as one just made.
//! Keys carry their unit and numbers are in base units. The JSON Schemas under `results/schema/` are made from these
//! types, and a test holds the two together.

#![forbid(unsafe_code)]

mod binding;
mod cell;
mod connection;
mod environment;
mod host_proof;
mod limits;
mod op;
mod port_proof;
mod run;
mod summary;
mod trial;
mod verbs;

use schemars::generate::SchemaSettings;

pub use binding::{Binding, Driver};
pub use cell::{
    Arrivals, Cell, Direction, Layer, Placement, Rate, Reality, Sockets, Target, TargetKind,
    TimedBy, Workload,
};
pub use connection::{ConnectionsProof, InterfaceLayout, Spread, ZeroCopyProof};
pub use environment::{
    Adapter, CpuModel, Drive, Environment, Guest, Hugepages, NodeMemory, Note, Socket,
};
pub use host_proof::{
    CgroupThrottling, CpuFrequency, CpuInterrupts, CpuProof, CpuSoftirqs, CpuThrottling, CpuTimes,
    DeviceProof, DriveProof, FrequencySource, FunctionProof, HostProof, InterfaceProof, LinkProof,
    LinkState, TcpProof, VectorCount, VectorProof,
};
pub use limits::{Bound, HugetlbBound, Limits, Quota, Slurm};
pub use op::{Op, OpParseError};
pub use port_proof::{PortEvent, RdmaPortProof, WireSign};
pub use run::{
    Built, Plan, Preconditioning, Run, StoreError, StreamCandidate, StreamSweep, read_run,
    read_trials,
};
pub use summary::{Contrast, Document, Estimate, Summary, SummaryLine, Verdict};
pub use trial::{
    Ceiling, CeilingKind, ClockProof, ClockSource, Completes, Cost, Flow, Harness, Latency,
    Measured, Open, PagesProof, Percentiles, Polling, Proof, Record, Role, Series, Stationarity,
    Status, ThreadProof, Warning, WarningCode,
};
pub use verbs::{Connect, QueuePairsProof, Rail, RdmaEnd, Transport, Verbs};

/// The version of the schema that these types write; a reader refuses a newer one.
pub const SCHEMA: u32 = 1;

/// The JSON Schemas that are committed, as file name and text: `record` (a line of `trials.jsonl`), `run` (`run.json`)
/// and `document` (what `--json` prints).
pub fn schemas() -> Vec<(&'static str, String)> {
    fn text<T: schemars::JsonSchema>(title: &str) -> String {
        // What is written, not what is accepted: every field is always there, so that a reader can rely on it.
        let mut schema = SchemaSettings::draft2020_12()
            .for_serialize()
            .into_generator()
            .into_root_schema_for::<T>();
        schema.insert("title".into(), title.into());
        let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
        text.push('\n');
        text
    }
    vec![
        (
            "record.schema.json",
            text::<Record>("Strata record, version 1"),
        ),
        ("run.schema.json", text::<Run>("Strata run, version 1")),
        (
            "document.schema.json",
            text::<Document>("Strata command output, version 1"),
        ),
    ]
}
