//! What a report shows of one cell.

use strata_analysis::{CellDetail, Fate, ProofDigest, Response};
use strata_record::{Completes, Layer, QueuePairsProof, Record, Role, SummaryLine};
use strata_units::{ByteOffset, Bytes, show};

use crate::host;
use crate::plot::{self, Plot};
use crate::table::{Row, Table};
use crate::text;
use crate::text::NONE;

/// One cell's section.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    /// Number of the cell, from 1; names the section.
    pub(crate) number: usize,
    pub(crate) label: String,
    pub(crate) reality: String,
    /// What is measured, as name and value.
    pub(crate) what: Vec<(&'static str, String)>,
    /// Why there is no figure; none where there is one.
    pub(crate) nothing: Option<String>,
    pub(crate) plots: Vec<Plot>,
    /// Why a plot is missing, and other remarks on figures that are not there.
    pub(crate) remarks: Vec<String>,
    /// What stands beside the figures: harness, ceiling, clock.
    pub(crate) beside: Vec<(&'static str, String)>,
    pub(crate) contradictions: Vec<String>,
    /// Proof of threads, of pages and of CPUs.
    pub(crate) proof: Vec<Table>,
    pub(crate) rounds: Table,
}

impl Section {
    pub(crate) fn of(number: usize, cell: &CellDetail<'_>, line: &SummaryLine) -> Self {
        let nothing = match (cell.skipped(), cell.middle) {
            (_, Some(_)) => None,
            (Some(why), None) => Some(format!("Skipped: {why}")),
            (None, None) if cell.trials.is_empty() => {
                Some("The run has no trial of it.".to_owned())
            }
            (None, None) => Some(format!("No trial counts: {}.", line.left_out.join("; "))),
        };
        let plots: Vec<Plot> = [plot::latency(cell), plot::throughput(cell)]
            .into_iter()
            .flatten()
            .collect();
        Self {
            number,
            label: cell.label.clone(),
            reality: cell.cell.reality.to_string(),
            what: what(cell),
            remarks: if nothing.is_some() {
                Vec::new()
            } else {
                missing(cell, line)
            },
            nothing,
            plots,
            beside: beside(cell, line),
            contradictions: cell.proof.as_ref().map_or_else(Vec::new, |p| {
                p.contradictions
                    .iter()
                    .map(|(round, found)| format!("round {round}: {found}"))
                    .collect()
            }),
            proof: cell.proof.as_ref().map_or_else(Vec::new, proof),
            rounds: rounds(cell),
        }
    }
}

fn what(cell: &CellDetail<'_>) -> Vec<(&'static str, String)> {
    let c = cell.cell;
    let target = match (c.target.region_from_bytes, c.target.region_bytes) {
        (ByteOffset(0), Some(region)) => format!("{}, its first {region}", c.target.identity),
        (from, Some(region)) => {
            format!("{}, {region} from {} on", c.target.identity, Bytes(from.0))
        }
        (_, None) => c.target.identity.clone(),
    };
    let node = c
        .target
        .node
        .map_or_else(|| "node not known".to_owned(), |n| format!("on node {n}"));
    let mut said = vec![
        ("Target", format!("{target}; {node}")),
        ("Reached by", c.via.clone()),
    ];
    said.extend(c.binding.map(|b| ("Measured with", b.to_string())));
    let until = cell
        .completes
        .map_or_else(|| NONE.to_owned(), |c| text::completes(c).to_owned());
    let until = match (c.layer, cell.completes) {
        (Layer::Rdma, Some(Completes::RemoteAcked)) => {
            format!(
                "{until}: by its device, when its bytes need be neither visible to its CPUs nor persistent"
            )
        }
        _ => until,
    };
    said.push(("Latency until", until));
    said.extend(queue_pairs(cell));
    said
}

/// The queue pairs of each side and rail, with what they carried in all trials that count.
fn queue_pairs(cell: &CellDetail<'_>) -> Vec<(&'static str, String)> {
    let proofs: Vec<&QueuePairsProof> = cell
        .counted()
        .filter_map(|r| r.proof.as_ref())
        .flat_map(|p| &p.queue_pairs)
        .collect();
    let mut lines: Vec<&QueuePairsProof> = Vec::new();
    for proof in &proofs {
        if !lines
            .iter()
            .any(|l| (l.role, &l.end) == (proof.role, &proof.end))
        {
            lines.push(proof);
        }
    }
    lines
        .into_iter()
        .map(|line| {
            let same = proofs.iter().filter(|p| (p.role, &p.end) == (line.role, &line.end));
            let bytes = same.fold(Bytes(0), |sum, p| sum + p.bytes);
            let node = line
                .node
                .map_or_else(|| "of no known node".to_owned(), |n| format!("on node {n}"));
            let gid = line
                .gid
                .as_ref()
                .map_or_else(|| "no GID".to_owned(), |gid| format!("GID {gid}"));
            let seen = line
                .seen_by
                .as_ref()
                .map_or_else(String::new, |by| format!(", arrival seen by {by}"));
            (
                match line.role {
                    Role::Measure => "Queue pairs",
                    Role::Peer => "Queue pairs of the other side",
                },
                format!(
                    "{} of {} {node}, {}, {gid}, P_Key {:#06x}, packets of {}, {} registered{seen}; {bytes} carried in all trials",
                    line.count, line.end, line.link_layer, line.pkey, line.mtu_bytes, line.memory_bytes
                ),
            )
        })
        .collect()
}

/// Which responses have no figure, and why.
pub(crate) fn missing(cell: &CellDetail<'_>, line: &SummaryLine) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |what: &str, why: &str| said.push(format!("{what} {NONE}: {why}."));
    if line.bytes_per_s.is_none() {
        say(
            "Bandwidth",
            "nothing of a size is moved, or the receiver did not count it",
        );
    }
    if line.mean_ns.is_none() {
        match cell.completes {
            Some(
                c
                @ (strata_record::Completes::AcceptedLocally | strata_record::Completes::Received),
            ) => say(
                "Latency",
                &format!(
                    "an operation here counts when it is {}, which has no time of its own",
                    text::completes(c)
                ),
            ),
            _ => say(
                "Latency",
                match &cell.cell.verbs {
                    Some(verbs) if verbs.signal_every > 1 => {
                        "a completion stands for several operations, and does not tell when each was done"
                    }
                    Some(_) if cell.cell.workload.verify => {
                        "making and checking what the messages carry would be timed too"
                    }
                    _ => "not taken in every round",
                },
            ),
        }
    } else {
        let tail: Vec<&str> = [
            (line.p50_ns, "p50"),
            (line.p99_ns, "p99"),
            (line.p999_ns, "p99.9"),
        ]
        .iter()
        .filter(|(found, _)| found.is_none())
        .map(|(_, name)| *name)
        .collect();
        if !tail.is_empty() {
            say(
                &tail.join(", "),
                "fewer than ten operations of a round lie above it",
            );
        }
    }
    if line.cpu_ns_per_op.is_none() {
        say("CPU time", "not accounted in every round");
    }
    if cell
        .counted()
        .any(|r| r.cost.is_some_and(|c| c.instructions_per_op.is_none()))
    {
        say("Instructions an operation", "the machine gave no counter");
    }
    if line.ops_per_s.is_some_and(|e| e.ci95_low.is_none()) {
        say("Intervals", "they take six rounds");
    }
    said
}

fn beside(cell: &CellDetail<'_>, line: &SummaryLine) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    if let Some(harness) = line.harness_ns_per_op {
        said.push((
            "Harness cost",
            format!(
                "{} an operation, against an engine that does nothing, on the same core",
                text::estimate(Some(harness), show::time)
            ),
        ));
    }
    if let Some(bound) = &cell.ceiling {
        let of = [
            bound.ops_per_s.map(show::per_second),
            bound.bytes_per_s.map(show::bandwidth),
        ];
        let of: Vec<String> = of.into_iter().flatten().collect();
        let limit = if of.is_empty() {
            "no bound known".to_owned()
        } else {
            of.join(", ")
        };
        let share = text::estimate(bound.share, text::share);
        let reached = if bound.reached {
            "; it stands at it"
        } else {
            ""
        };
        said.push((
            "Ceiling",
            format!(
                "{limit}, by {} ({}); the cell reaches {share}{reached}",
                bound.bound_by,
                text::ceiling_kind(bound.kind)
            ),
        ));
    }
    let batch = cell
        .counted()
        .filter_map(|r| r.result.as_ref()?.latency_ns.as_ref()?.batch_error_ns)
        .reduce(f64::max);
    if let Some(error) = batch {
        said.push((
            "Timed by batch",
            format!(
                "each latency may be too long by up to {}",
                show::time(error)
            ),
        ));
    }
    if let Some(proof) = &cell.proof {
        let clock = proof.clock;
        said.push((
            "Clock",
            format!(
                "{}; at worst {} parts per million off, {} a reading",
                text::clock(clock.source),
                show::digits(clock.error_ppm),
                show::time(clock.read_ns)
            ),
        ));
        if let Some(host) = &proof.host {
            said.extend(host::beside(host));
        }
        if !proof.missing.is_empty() {
            said.push(("Not proved", proof.missing.join("; ")));
        }
    }
    said
}

fn proof(proof: &ProofDigest) -> Vec<Table> {
    let trials = format!(
        "{} trial{}",
        proof.trials,
        if proof.trials == 1 { "" } else { "s" }
    );
    let mut threads = Table::new(
        format!(
            "Threads over {trials} together; migrations, waits and preemptions of the worst trial"
        ),
        &[
            "Thread",
            "CPUs asked",
            "CPUs allowed",
            "CPUs seen",
            "#Looks",
            "#Migrations",
            "#Waits",
            "#Preempted",
            "#User",
            "#Kernel",
        ],
    );
    for (at, thread) in proof.threads.iter().enumerate() {
        threads.push(vec![
            format!("{} {}", at + 1, text::role(thread.role)),
            text::list(&thread.asked),
            text::list(&thread.mask),
            text::list(&thread.seen),
            thread.samples.to_string(),
            text::or_none(thread.migrations),
            thread.voluntary_switches.to_string(),
            thread.involuntary_switches.to_string(),
            show::time(thread.user_ns.0 as f64),
            show::time(thread.system_ns.0 as f64),
        ]);
    }
    let mut pages = Table::new(
        format!("Pages of the buffers: fewest and most in {trials}"),
        &["Node", "#Page size", "#Fewest", "#Most"],
    );
    for found in &proof.pages {
        pages.push(vec![
            found
                .node
                .map_or_else(|| "not in memory".to_owned(), |n| format!("node {n}")),
            found.page_bytes.to_string(),
            found.least.to_string(),
            found.most.to_string(),
        ]);
    }
    [
        Some(threads),
        Some(pages),
        proof.host.as_ref().map(host::cpus),
    ]
    .into_iter()
    .flatten()
    .filter(|t| !t.rows.is_empty())
    .collect()
}

fn rounds(cell: &CellDetail<'_>) -> Table {
    let polled = |record: &Record| record.result.as_ref().is_some_and(|r| r.polling.is_some());
    let polled = cell.trials.iter().any(|trial| polled(trial.record));
    let mut columns = vec![
        "Round",
        "#Began",
        "#Operations",
        "#Bandwidth",
        "#Mean",
        "#p50",
        "#p99",
        "#p99.9",
        "#Greatest",
        "#In flight",
        "#CPU/op",
    ];
    // Of a cell whose threads poll: polls that found nothing, and what the others found each.
    columns.extend(["#Empty polls", "#Found a poll"].iter().filter(|_| polled));
    columns.extend(["Level kept", "Counts"]);
    let mut table = Table::new("Every trial", &columns);
    for (at, trial) in cell.trials.iter().enumerate() {
        let record = trial.record;
        let counts = match &trial.fate {
            Fate::Counted if cell.middle == Some(at) => "yes, the middle one".to_owned(),
            Fate::Counted => "yes".to_owned(),
            Fate::LeftOut(why) => why.clone(),
            Fate::Repeated => "its round was made again".to_owned(),
        };
        let mut entries = vec![
            match record.attempt {
                0 => record.round.to_string(),
                n => format!("{}, again ({n})", record.round),
            },
            format!("{:.1} s", record.started_s),
        ];
        entries.extend(figures(record));
        if polled {
            entries.extend(polls(record));
        }
        entries.push(level(record));
        entries.push(counts);
        table.rows.push(Row {
            link: None,
            left_out: !trial.counts(),
            entries,
        });
    }
    table
}

fn figures(record: &Record) -> Vec<String> {
    let result = record.result.as_ref();
    let latency = result.and_then(|r| r.latency_ns.as_ref());
    let of = |response: Response, unit: fn(f64) -> String| text::figure(response.of(record), unit);
    vec![
        of(Response::OpsPerS, show::per_second),
        of(Response::BytesPerS, show::bandwidth),
        of(Response::Mean, show::time),
        of(Response::P50, show::time),
        of(Response::P99, show::time),
        of(Response::P999, show::time),
        text::figure(latency.map(|l| l.max), show::time),
        text::figure(result.and_then(|r| r.mean_depth), show::digits),
        of(Response::CpuPerOp, show::time),
    ]
}

/// Which part of the polls found nothing, and how many completions each of the others found.
fn polls(record: &Record) -> [String; 2] {
    let polling = record.result.as_ref().and_then(|r| r.polling);
    let empty = polling.filter(|p| p.polls > 0);
    [
        text::figure(empty.map(|p| p.empty as f64 / p.polls as f64), text::share),
        text::figure(polling.and_then(|p| p.completions_per_poll), show::digits),
    ]
}

fn level(record: &Record) -> String {
    match record.result.as_ref().and_then(|r| r.stationarity) {
        Some(s) if s.stationary => "yes".to_owned(),
        Some(s) => format!(
            "no: slope {}, excursion {}",
            text::share(s.slope),
            text::share(s.excursion)
        ),
        None => NONE.to_owned(),
    }
}
