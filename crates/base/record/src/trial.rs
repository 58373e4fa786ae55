//! One trial and what stands beside its figure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, CpuList, Nanos, NodeId};

use crate::{Cell, ConnectionsProof, Direction, HostProof, QueuePairsProof, SCHEMA};

/// How a trial ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It measured.
    Ok,
    /// The machine cannot run this cell; the reason says why.
    Skipped,
    /// It ought to have run and did not, or ended with errors; the reason says why.
    Failed,
}

/// One trial of one cell: a line of `trials.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Version of this schema.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// The run that it belongs to.
    pub run: String,
    /// Number of the trial in the run, from 0, in the order in which they were made.
    pub trial: u32,
    /// The round, from 0.
    pub round: u32,
    /// How often this round had been voided before.
    pub attempt: u32,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// When it began, in seconds since the run began.
    pub started_s: f64,
    /// How long it took, right before this trial, to bring the host to the cell's binding, in seconds; null where it was
    /// there already, or the cell has none.
    #[serde(default)]
    pub switch_s: Option<f64>,
    /// Seed of the trial's operation stream.
    pub seed: u64,
    /// Identity of the cell across runs.
    pub cell: String,
    /// What was measured.
    #[serde(flatten)]
    pub what: Cell,
    /// How it ended.
    pub status: Status,
    /// Why it was skipped or failed; null when it did neither.
    pub reason: Option<String>,
    /// The figure; null when there is none.
    pub result: Option<Measured>,
    /// What the figure cost; null when there is none.
    pub cost: Option<Cost>,
    /// What was found afterwards about where everything was; null when nothing ran.
    pub proof: Option<Proof>,
    /// The bound beside the figure: of all known ones the lowest; null when nothing ran.
    pub ceiling: Option<Ceiling>,
    /// Every bound that is known of the figure.
    #[serde(default)]
    pub bounds: Vec<Ceiling>,
    /// What measuring itself costs, on the same core in the same trial; null when nothing ran.
    pub harness: Option<Harness>,
    /// What to doubt.
    pub warnings: Vec<Warning>,
}

impl Record {
    /// A record of `what` without a figure, for the caller to fill; status `failed` until it is.
    pub fn new(run: &str, what: Cell) -> Self {
        Self {
            schema: SCHEMA,
            run: run.to_owned(),
            trial: 0,
            round: 0,
            attempt: 0,
            started_at: String::new(),
            started_s: 0.0,
            switch_s: None,
            seed: 0,
            cell: what.key(),
            what,
            status: Status::Failed,
            reason: None,
            result: None,
            cost: None,
            proof: None,
            ceiling: None,
            bounds: Vec::new(),
            harness: None,
            warnings: Vec::new(),
        }
    }

    /// Why this trial may stand in no contrast, by rules that never look at its figure: none when it may.
    pub fn excluded(&self) -> Option<String> {
        if self.status != Status::Ok {
            return Some(
                self.reason
                    .clone()
                    .unwrap_or_else(|| "did not end well".to_owned()),
            );
        }
        if let Some(found) = self.proof.as_ref().and_then(|p| p.contradictions.first()) {
            return Some(format!("the proof contradicts the placement: {found}"));
        }
        self.warnings
            .iter()
            .find(|w| w.code.excludes())
            .map(|w| w.text.clone())
    }
}

/// When an operation counts as complete; printed beside every latency.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Completes {
    /// The device, or the kernel for it, says that it is done.
    Device,
    /// The local side has accepted it; nothing is known of the other.
    AcceptedLocally,
    /// The other side has acknowledged it.
    RemoteAcked,
    /// The answer has come back.
    RoundTrip,
    /// Half of the time until the answer came back.
    HalfRoundTrip,
    /// The bytes have arrived in the receiver's memory.
    Received,
}

/// The figure of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Operations that completed in the window.
    pub ops: u64,
    /// The window's length in seconds.
    pub window_s: f64,
    /// `ops / window_s`.
    pub ops_per_s: f64,
    /// Bytes moved a second; null where none were.
    pub bytes_per_s: Option<f64>,
    /// Operations that ended in an error, in the window or not.
    pub errors: u64,
    /// Operations that never came back, or messages that never arrived.
    pub lost: u64,
    /// When an operation counts as complete.
    pub completes: Completes,
    /// Times of the window's operations; null where they have none.
    pub latency_ns: Option<Latency>,
    /// Operations over the window.
    pub series: Series,
    /// Whether the series kept its level.
    pub stationarity: Option<Stationarity>,
    /// Mean number of operations in flight over the window, by Little's law; null without latencies.
    pub mean_depth: Option<f64>,
    /// How an open loop kept its schedule; null for a closed one.
    #[serde(default)]
    pub open: Option<Open>,
    /// The parts of a figure that is of both directions; empty for one.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// How the window's completions were polled for; null where the threads sleep until one comes.
    #[serde(default)]
    pub polling: Option<Polling>,
}

/// Polls of a window, of all threads together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Polling {
    /// How often was looked for completions.
    pub polls: u64,
    /// How often none was there.
    pub empty: u64,
    /// Completions that a poll found which found any; null when none did.
    pub completions_per_poll: Option<f64>,
}

/// One direction of a figure that is of both, counted by its receiver. Both windows are equally long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Which one.
    pub direction: Direction,
    /// Blocks received in the window.
    pub ops: u64,
    /// Bytes received a second.
    pub bytes_per_s: f64,
    /// The window's length in seconds.
    pub window_s: f64,
    /// The least part of this window in which the other direction's was open too, from 0 to 1: the two sides' clocks are
    /// compared over the control channel, whose round trip bounds the error.
    pub overlap: f64,
}

/// How an open loop kept its schedule. Its latencies run from the moment at which an operation was to start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Open {
    /// Operations a second that were to start in the window.
    pub offered_ops_per_s: f64,
    /// Operations that were to start in the window and had not when it closed: their waits are in no latency.
    pub unstarted: u64,
    /// Mean time from the moment at which an operation was to start until it was posted, in nanoseconds; null when none
    /// completed.
    pub mean_wait_ns: Option<f64>,
}

/// Times of operations in nanoseconds. A percentile q stands here only when count × (1 − q) ≥ 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Least.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// The percentiles.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// Greatest.
    pub max: f64,
    /// How many operations were timed.
    pub count: u64,
    /// What the clock may have added to each at most: the largest time that one reaped batch took; null when each
    /// operation was timed by itself.
    pub batch_error_ns: Option<f64>,
    /// The whole distribution: HdrHistogram V2-deflate, base64, values in nanoseconds, three significant digits.
    pub histogram: String,
}

/// Percentiles in nanoseconds; null where the count is too small to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Half lie below.
    pub p50: Option<f64>,
    /// 90 % lie below.
    pub p90: Option<f64>,
    /// 99 % lie below.
    pub p99: Option<f64>,
    /// 99.9 % lie below.
    pub p999: Option<f64>,
    /// 99.99 % lie below.
    pub p9999: Option<f64>,
}

/// Operations over the window, in equal intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Length of an interval in seconds.
    pub interval_s: f64,
    /// Operations in each; a last shorter interval is left out.
    pub ops: Vec<u64>,
}

/// Whether the figure kept its level within the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stationarity {
    /// Relative change of the level over the whole window, by Theil and Sen's line.
    pub slope: f64,
    /// Largest relative distance of a sub-window's mean from the whole mean.
    pub excursion: f64,
    /// Whether both lie within what noise explains.
    pub stationary: bool,
}

/// What an operation cost the CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// CPU time of the measuring threads, and of the kernel's threads on their behalf, an operation of the window; of a
    /// stream's sender, an operation that it sent.
    pub cpu_ns_per_op: f64,
    /// The part of it spent in the kernel, from 0 to 1; null when no time was accounted.
    pub system_share: Option<f64>,
    /// CPU time of the other side's threads an operation that it did (of an answering side ramp and drain included); null
    /// when there is none.
    pub peer_cpu_ns_per_op: Option<f64>,
    /// Instructions an operation; null where the machine has no counter.
    pub instructions_per_op: Option<f64>,
}

/// Which side a thread belongs to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It measures.
    Measure,
    /// It is the other side.
    Peer,
}

/// What was found about one thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadProof {
    /// Its side.
    pub role: Role,
    /// The CPUs that it was to run on.
    pub asked: CpuList,
    /// Its affinity, read back after the trial.
    pub mask: CpuList,
    /// The CPUs on which it was seen during the trial.
    pub seen: CpuList,
    /// How often it was looked at.
    pub samples: u64,
    /// How often the kernel moved it; null when the kernel does not say.
    pub migrations: Option<u64>,
    /// Context switches that it asked for, by waiting.
    pub voluntary_switches: u64,
    /// Context switches forced on it.
    pub involuntary_switches: u64,
    /// Its CPU time outside the kernel.
    pub user_ns: Nanos,
    /// Its CPU time in the kernel.
    pub system_ns: Nanos,
}

/// Where pages of the buffers were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PagesProof {
    /// The node; null for pages that are not in memory.
    pub node: Option<NodeId>,
    /// How many pages; of regions above 4096 pages an even sample of 4096.
    pub pages: u64,
    /// Their size.
    pub page_bytes: Bytes,
}

/// What tells the time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    /// The time-stamp counter, calibrated against CLOCK_MONOTONIC_RAW.
    Tsc,
    /// clock_gettime(CLOCK_MONOTONIC_RAW).
    MonotonicRaw,
}

/// How well time was told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockProof {
    /// What tells it.
    pub source: ClockSource,
    /// Ticks a second.
    pub hertz: f64,
    /// Largest error of a span by calibration, in parts per million.
    pub error_ppm: f64,
    /// What one reading costs.
    pub read_ns: f64,
}

/// What was found after a trial about where threads and pages really were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// A line a thread.
    pub threads: Vec<ThreadProof>,
    /// Where the buffers' pages were.
    pub pages: Vec<PagesProof>,
    /// How time was told.
    pub clock: ClockProof,
    /// What the host did meanwhile; null when nobody watched it.
    pub host: Option<HostProof>,
    /// What the other side's host did; null when it is this one, or there is none.
    #[serde(default)]
    pub peer_host: Option<HostProof>,
    /// What the kernel says about the connections, a line a side and direction; empty for a layer without.
    #[serde(default)]
    pub connections: Vec<ConnectionsProof>,
    /// What the queue pairs were and carried, a line a side and rail; empty for a layer without.
    #[serde(default)]
    pub queue_pairs: Vec<QueuePairsProof>,
    /// What contradicts the placement asked for; a trial with any is left out of every contrast.
    pub contradictions: Vec<String>,
    /// What could not be proved here, and why.
    pub missing: Vec<String>,
}

/// Where a bound comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CeilingKind {
    /// Physics of a link or port.
    Nominal,
    /// The same, less what is reckoned to go beside the data.
    Estimate,
    /// Another measurement's best.
    Measured,
}

/// The bound of a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ceiling {
    /// Operations a second at most.
    pub ops_per_s: Option<f64>,
    /// Bytes a second at most.
    pub bytes_per_s: Option<f64>,
    /// The bound's name.
    pub bound_by: String,
    /// Where it comes from.
    pub kind: CeilingKind,
    /// The figure's part of it, above 1 where the figure or the bound is wrong; null where they cannot be compared.
    pub share: Option<f64>,
}

impl Ceiling {
    /// The part of the bound that a figure reaches: of its operations or its bytes, whichever the bound has, the greater
    /// part; none where it has neither.
    pub fn share_of(&self, figure: &Measured) -> Option<f64> {
        let part =
            |figure: Option<f64>, bound: Option<f64>| Some(figure? / bound.filter(|b| *b > 0.0)?);
        let parts = [
            part(Some(figure.ops_per_s), self.ops_per_s),
            part(figure.bytes_per_s, self.bytes_per_s),
        ];
        parts.into_iter().flatten().reduce(f64::max)
    }

    /// The lowest of some bounds of one figure: that of which the figure is the greatest part. Bounds that cannot be compared
    /// with it come last.
    pub fn lowest(bounds: &[Ceiling]) -> Option<&Ceiling> {
        let share = |bound: &Ceiling| bound.share.unwrap_or(f64::NEG_INFINITY);
        bounds.iter().reduce(|lowest, next| {
            if share(next) > share(lowest) {
                next
            } else {
                lowest
            }
        })
    }
}

/// What measuring itself costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Harness {
    /// Clock, operation stream, histogram and loop, an operation, against an engine that does nothing. Numbering the sectors
    /// of writes and checking those of reads is not in it.
    pub ns_per_op: f64,
    /// Operations that this was taken over.
    pub ops: u64,
}

/// What kind of doubt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// A read met blocks that were never written.
    Unwritten,
    /// The figure moved within the window.
    NotStationary,
    /// Two threads shared a CPU.
    SharedCpu,
    /// Messages of an unreliable service did not arrive.
    MessagesLost,
    /// Too few operations for a figure.
    FewOperations,
    /// Memory could not be locked, bound or made huge as asked.
    Memory,
    /// The file system buffers what was to go direct.
    Buffered,
    /// Threads of the kernel's own did part of the work, on other CPUs.
    KernelWorkers,
    /// Heat or power slowed a CPU or a drive.
    Throttled,
    /// A drive was at or above the temperature from which on it warns.
    Hot,
    /// A CPU quota held threads back.
    CpuQuota,
    /// The frequency of a measuring CPU changed by more than a tenth.
    Frequency,
    /// The governor of a measuring CPU is not `performance`.
    Governor,
    /// The hypervisor took more than 1 % of a measuring CPU.
    Steal,
    /// Other threads took more than 5 % of a measuring CPU.
    ForeignLoad,
    /// The device's own counters do not agree with the operations.
    DeviceCounters,
    /// A PCI Express link is below what both its ends can, or was trained anew.
    Link,
    /// The device's interrupts came to another node than that of the threads.
    RemoteInterrupts,
    /// TCP or an RDMA port sent again.
    Retransmissions,
    /// Packets came to an RDMA port out of sequence.
    OutOfSequence,
    /// Requests found no receive posted.
    ReceiverNotReady,
    /// A port or interface dropped packets.
    Discards,
    /// Pause frames held a link back.
    Paused,
    /// Packets were marked with ECN, or congestion notifications slowed a sender.
    Congestion,
    /// A port or interface counted errors on the wire.
    WireErrors,
    /// The link of a port or interface went down in mid-trial.
    LinkDown,
    /// The figure is above a measured bound, so that one of the two was measured wrong.
    AboveCeiling,
}

impl WarningCode {
    /// Whether a figure with it stands in no contrast.
    pub fn excludes(self) -> bool {
        matches!(self, WarningCode::Unwritten | WarningCode::LinkDown)
    }
}

/// A doubt about a figure, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// What kind.
    pub code: WarningCode,
    /// What was found, and what to do.
    pub text: String,
}
