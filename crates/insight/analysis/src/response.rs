//! The responses of a trial: what a summary has a median of, and a contrast a ratio.

use strata_record::Record;

/// One number that a trial gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// Operations a second.
    OpsPerS,
    /// Bytes a second.
    BytesPerS,
    /// Mean latency in nanoseconds.
    Mean,
    /// Median latency in nanoseconds.
    P50,
    /// 99th percentile of latency in nanoseconds.
    P99,
    /// 99.9th percentile of latency in nanoseconds.
    P999,
    /// CPU time an operation in nanoseconds.
    CpuPerOp,
    /// What measuring costs an operation, in nanoseconds.
    Harness,
}

impl Response {
    /// The responses that are compared; each makes one family.
    pub const COMPARED: [Response; 3] = [Response::OpsPerS, Response::Mean, Response::CpuPerOp];

    /// Its key in records and summaries.
    pub fn key(self) -> &'static str {
        match self {
            Response::OpsPerS => "ops_per_s",
            Response::BytesPerS => "bytes_per_s",
            Response::Mean => "mean_ns",
            Response::P50 => "p50_ns",
            Response::P99 => "p99_ns",
            Response::P999 => "p999_ns",
            Response::CpuPerOp => "cpu_ns_per_op",
            Response::Harness => "harness_ns_per_op",
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Response::OpsPerS => "operations a second",
            Response::BytesPerS => "bytes a second",
            Response::Mean => "mean latency",
            Response::P50 => "median latency",
            Response::P99 => "99th percentile of latency",
            Response::P999 => "99.9th percentile of latency",
            Response::CpuPerOp => "CPU time an operation",
            Response::Harness => "harness cost an operation",
        }
    }

    /// Its value in a trial; none where the trial has none.
    pub fn of(self, record: &Record) -> Option<f64> {
        let result = record.result.as_ref();
        let latency = result.and_then(|r| r.latency_ns.as_ref());
        match self {
            Response::OpsPerS => result.map(|r| r.ops_per_s),
            Response::BytesPerS => result.and_then(|r| r.bytes_per_s),
            Response::Mean => latency.map(|l| l.mean),
            Response::P50 => latency.and_then(|l| l.percentiles.p50),
            Response::P99 => latency.and_then(|l| l.percentiles.p99),
            Response::P999 => latency.and_then(|l| l.percentiles.p999),
            Response::CpuPerOp => record.cost.map(|c| c.cpu_ns_per_op),
            Response::Harness => record.harness.map(|h| h.ns_per_op),
        }
    }
}
