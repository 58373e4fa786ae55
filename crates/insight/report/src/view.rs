//! What a report says, before it is Markdown or HTML.

use std::collections::BTreeSet;

use strata_analysis::{Analysis, CellDetail, Response, bandwidth, ratio};
use strata_record::{Completes, Environment, Run, SummaryLine, Workload};
use strata_units::show;

use crate::environment::{Part, parts};
use crate::section::{Section, missing};
use crate::table::{Row, Table};
use crate::text;
use crate::text::NONE;

/// Everything that a report says.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// The other machines of the run, where there are any.
    pub(crate) others: String,
    pub(crate) answer: String,
    pub(crate) doubts: Vec<String>,
    pub(crate) figures: Table,
    /// What signs and columns of the figures mean, and why some are missing.
    pub(crate) figure_notes: Vec<String>,
    pub(crate) contrasts: Table,
    /// Why there is no contrast; for a table without rows.
    pub(crate) no_contrasts: &'static str,
    pub(crate) contrast_notes: Vec<String>,
    pub(crate) sections: Vec<Section>,
    pub(crate) environment: Vec<Part>,
    /// Facts of the plan and of the program.
    pub(crate) plan: Vec<(&'static str, String)>,
    pub(crate) cells: Table,
    pub(crate) command: String,
    pub(crate) not_measured: Vec<String>,
}

impl View {
    pub(crate) fn of(run: &Run, analysed: &Analysis<'_>) -> Self {
        let lines = &analysed.summary.lines;
        Self {
            title: format!("Strata: {}", run.plan.name),
            subtitle: format!(
                "Run {}, begun {}; strata {}{}",
                run.id,
                run.created_at,
                run.built.version,
                run.built
                    .commit
                    .as_ref()
                    .map_or_else(String::new, |c| format!(" ({c})"))
            ),
            others: others(run),
            answer: analysed.answer.clone(),
            doubts: analysed.summary.doubts.clone(),
            figures: figures(analysed),
            figure_notes: figure_notes(analysed),
            contrasts: contrasts(analysed),
            no_contrasts: match analysed.pairs {
                0 => "None: no two cells of one reality and target differ in one thing alone.",
                _ => {
                    "None: there are cells that differ in one thing alone, but no round holds figures of both that count."
                }
            },
            contrast_notes: contrast_notes(analysed),
            sections: analysed
                .cells
                .iter()
                .zip(lines)
                .enumerate()
                .map(|(at, (cell, line))| Section::of(at + 1, cell, line))
                .collect(),
            environment: machines(run),
            plan: plan(run, analysed),
            cells: cells(analysed),
            command: text::command(&run.command),
            not_measured: not_measured(run, analysed),
        }
    }
}

/// Whether a peer is the machine that measured, by what its kernel drew when it started.
fn is_here(run: &Run, peer: &Environment) -> bool {
    peer.boot_id.is_some() && peer.boot_id == run.environment.boot_id
}

/// Who was at the other end of the wire, in one line; nothing where that was a process that strata started itself.
fn others(run: &Run) -> String {
    let named: Vec<String> = run
        .peers
        .iter()
        .map(|peer| {
            let name = peer
                .hostname
                .as_deref()
                .unwrap_or("a machine without a name");
            if is_here(run, peer) {
                return format!("{name}, which is this machine");
            }
            let kernel = peer.kernel_release.as_deref().unwrap_or("not told");
            let cpu = peer.cpu.model.as_deref().unwrap_or("not told");
            format!("{name} (kernel {kernel}, CPU {cpu})")
        })
        .collect();
    match named.is_empty() {
        true => String::new(),
        false => format!("The other side: {}", named.join("; ")),
    }
}

/// The environment of the machine that measured, then those of the others, each under its name.
fn machines(run: &Run) -> Vec<Part> {
    let of = |e: &Environment| parts(&serde_json::to_value(e).unwrap_or_default());
    let mut all = of(&run.environment);
    for peer in run.peers.iter().filter(|peer| !is_here(run, peer)) {
        let name = peer.hostname.as_deref().unwrap_or("unnamed");
        all.extend(of(peer).into_iter().map(|part| Part {
            title: format!("Other side {name}: {}", part.title),
            ..part
        }));
    }
    all
}

fn figures(analysed: &Analysis<'_>) -> Table {
    let mut table = Table::new(
        "Medians over rounds, with 95 % intervals",
        &[
            "Cell",
            "Reality",
            "#Rounds",
            "#Operations",
            "#Bandwidth",
            "#Latency p50",
            "#Latency p99",
            "Latency until",
            "#CPU/op",
            "#Of ceiling",
        ],
    );
    for (at, (cell, line)) in analysed
        .cells
        .iter()
        .zip(&analysed.summary.lines)
        .enumerate()
    {
        let nothing = cell.skipped().map(|_| "skipped".to_owned());
        table.rows.push(Row {
            link: Some(at + 1),
            left_out: line.rounds == 0,
            entries: vec![
                cell.label.clone(),
                cell.cell.reality.to_string(),
                nothing.unwrap_or_else(|| line.rounds.to_string()),
                text::estimate(line.ops_per_s, show::per_second),
                text::or_none(line.bytes_per_s.map(|e| bandwidth(line.cell.layer, e))),
                text::estimate(line.p50_ns, show::time),
                text::estimate(line.p99_ns, show::time),
                cell.completes
                    .map_or_else(|| NONE.to_owned(), |c| text::completes(c).to_owned()),
                text::estimate(line.cpu_ns_per_op, show::time),
                share(cell),
            ],
        });
    }
    table
}

fn share(cell: &CellDetail<'_>) -> String {
    cell.ceiling
        .as_ref()
        .map_or_else(|| NONE.to_owned(), |c| text::estimate(c.share, text::share))
}

/// More cells than this are counted rather than named.
const NAMED: usize = 3;

/// Reasons for missing figures, each once with its cells.
fn figure_notes(analysed: &Analysis<'_>) -> Vec<String> {
    let mut notes = vec![
        "Brackets hold the order-statistic interval of the median over rounds; nothing within a round is a repeat.".to_owned(),
    ];
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for (cell, line) in analysed.cells.iter().zip(&analysed.summary.lines) {
        let of_cell = match cell.skipped() {
            Some(why) => vec![format!("Skipped: {why}.")],
            None if line.rounds == 0 => Vec::new(),
            None => missing(cell, line),
        };
        for reason in of_cell {
            match reasons.iter_mut().find(|(r, _)| *r == reason) {
                Some((_, labels)) => labels.push(&cell.label),
                None => reasons.push((reason, vec![&cell.label])),
            }
        }
    }
    let all = analysed.cells.len();
    notes.extend(
        reasons
            .into_iter()
            .map(|(reason, labels)| match labels.len() {
                n if n == all && all > 1 => reason,
                n if n > NAMED => format!("{reason} ({n} of {all} cells)"),
                _ => format!("{reason} ({})", labels.join("; ")),
            }),
    );
    notes
}

fn contrasts(analysed: &Analysis<'_>) -> Table {
    let mut table = Table::new(
        "Ratios within rounds, of one reality and target",
        &[
            "Ratio",
            "Of",
            "What may be said",
            "#Estimate [95 %]",
            "#Whole family",
            "#p (Holm)",
            "#Rounds",
            "#r₁",
        ],
    );
    for (contrast, detail) in analysed.summary.contrasts.iter().zip(&analysed.contrasts) {
        let estimate = match (contrast.ci95_low, contrast.ci95_high) {
            (Some(low), Some(high)) => {
                format!(
                    "{} [{}, {}]",
                    ratio(contrast.ratio),
                    ratio(low),
                    ratio(high)
                )
            }
            _ => format!("{} (no interval)", ratio(contrast.ratio)),
        };
        let reality = |at: usize| analysed.cells[at].cell.reality;
        let (base, other) = (reality(detail.cells.0), reality(detail.cells.1));
        let reality = if base == other {
            base.to_string()
        } else {
            format!("{other} on {base}")
        };
        table.rows.push(Row {
            link: Some(detail.cells.1 + 1),
            left_out: false,
            entries: vec![
                format!("{} ({reality})", contrast.name),
                detail.response.name().to_owned(),
                contrast.words.clone(),
                estimate,
                detail.simultaneous.map_or_else(
                    || NONE.to_owned(),
                    |(low, high)| format!("[{}, {}]", ratio(low), ratio(high)),
                ),
                contrast.p_holm.map_or_else(|| NONE.to_owned(), p_value),
                contrast.rounds.to_string(),
                detail
                    .lag1
                    .map_or_else(|| NONE.to_owned(), |r| format!("{r:.2}")),
            ],
        });
    }
    table
}

fn p_value(p: f64) -> String {
    if p < 0.0001 {
        "< 0.0001".to_owned()
    } else {
        format!("{p:.4}")
    }
}

fn contrast_notes(analysed: &Analysis<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if !analysed.families.is_empty() {
        let families: Vec<String> = analysed
            .families
            .iter()
            .map(|f| format!("{} on {}", f.size, f.response.name()))
            .collect();
        notes.push(format!(
            "Families, within which claims are corrected (Holm): {}. Whole family: intervals that hold all at once. A difference \
             of less than 3 % counts as none. r₁: lag-1 autocorrelation of the rounds' ratios.",
            families.join("; ")
        ));
        notes.push(
            "Realities and targets are never divided by one another, layers only where both drive one target with one workload \
             from the same CPUs and memory node."
                .to_owned(),
        );
    }
    if let Some(drift) = analysed.drift {
        notes.push(format!("Drift: {}.", drift.words()));
    }
    notes
}

fn plan(run: &Run, analysed: &Analysis<'_>) -> Vec<(&'static str, String)> {
    let rounds = analysed.rounds;
    let mut said = vec![
        ("Plan", run.plan.name.clone()),
        (
            "Rounds",
            format!(
                "{} planned, {} whole, {} voided by a failed trial",
                rounds.planned, rounds.whole, rounds.voided
            ),
        ),
        ("Seed", run.plan.seed.to_string()),
    ];
    let split = analysed.split_plot.as_ref();
    said.extend(split.map(|split| ("Arrangement", text::split_plot(split))));
    said.extend([(
        "Program",
        format!(
            "strata {}, commit {}, {} build",
            run.built.version,
            text::or_none(run.built.commit.as_ref()),
            run.built.profile
        ),
    )]);
    said.extend(
        run.preconditioning
            .iter()
            .map(|done| ("Preconditioning", text::preconditioning(done))),
    );
    said.extend(
        run.sweeps
            .iter()
            .map(|sweep| ("Sweep of streams", text::sweep(sweep))),
    );
    said
}

fn checked(workload: &Workload) -> &'static str {
    let op = workload.op;
    match (workload.verify, op.reads(), op.writes()) {
        (false, _, _) => "no",
        (true, true, false) => "each read",
        (true, false, true) => "writes recorded in a ledger",
        (true, true, true) => "each read, and writes recorded in a ledger",
        (true, false, false) => "each byte received",
    }
}

fn cells(analysed: &Analysis<'_>) -> Table {
    let mut table = Table::new(
        "Cells of the plan",
        &[
            "Cell",
            "Target",
            "Window",
            "Ramp",
            "Timed by",
            "Checked",
            "CPUs",
            "Peer CPUs",
            "Memory",
            "#Trials",
        ],
    );
    for (at, cell) in analysed.cells.iter().enumerate() {
        let (w, p) = (&cell.cell.workload, &cell.cell.placement);
        table.rows.push(Row {
            link: Some(at + 1),
            left_out: false,
            entries: vec![
                cell.label.clone(),
                cell.cell.target.identity.clone(),
                match (w.duration_ns, w.ops) {
                    (Some(span), _) => span.to_string(),
                    (None, Some(ops)) => format!("{ops} operations"),
                    (None, None) => NONE.to_owned(),
                },
                w.ramp_ns.to_string(),
                w.timed_by.to_string(),
                checked(w).to_owned(),
                text::list(&p.cpus),
                text::list(&p.peer_cpus),
                p.mem_node
                    .map_or_else(|| "unbound".to_owned(), |n| format!("node {n}")),
                cell.trials.len().to_string(),
            ],
        });
    }
    table
}

/// Which storage was measured in a state that need not last.
fn unprepared(run: &Run, analysed: &Analysis<'_>) -> Option<String> {
    let storage = || {
        analysed
            .cells
            .iter()
            .map(|c| c.cell)
            .filter(|c| c.workload.op.is_storage())
    };
    let prepared = |via: &str| run.preconditioning.iter().any(|p| p.via == via);
    let left: BTreeSet<&str> = storage()
        .map(|c| c.via.as_str())
        .filter(|via| !prepared(via))
        .collect();
    let what = match left.len() {
        0 => return None,
        _ if !storage().any(|c| prepared(&c.via)) => "Storage is".to_owned(),
        1 => format!("{} is", left.into_iter().collect::<String>()),
        _ => format!("{} are", left.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Some(format!(
        "{what} read and written without preconditioning: no steady state in the sense of SNIA's test specification."
    ))
}

/// What a reader might take this for and it is not.
fn not_measured(run: &Run, analysed: &Analysis<'_>) -> Vec<String> {
    let layers: BTreeSet<String> = analysed
        .cells
        .iter()
        .filter(|c| c.middle.is_some())
        .map(|c| c.cell.layer.to_string())
        .collect();
    let layers: Vec<String> = layers.into_iter().collect();
    let mut said = vec![match layers.as_slice() {
        [] => "Nothing was measured.".to_owned(),
        layers => format!(
            "Only these layers were driven: {}. What a whole storage system adds to them is not in these figures.",
            layers.join(", ")
        ),
    }];
    let any = |test: fn(&CellDetail<'_>, &SummaryLine) -> bool| {
        analysed
            .cells
            .iter()
            .zip(&analysed.summary.lines)
            .any(|(c, l)| test(c, l))
    };
    said.extend(unprepared(run, analysed));
    if any(|c, _| c.completes == Some(Completes::Received)) {
        said.push(
            "A stream has no latency: when one of its bytes arrived is not known.".to_owned(),
        );
    }
    if any(|c, l| l.rounds > 0 && c.counted().all(|r| Response::Harness.of(r).is_none())) {
        said.push("The harness cost of some cells.".to_owned());
    }
    let unproved: BTreeSet<&str> = analysed
        .cells
        .iter()
        .filter_map(|c| c.proof.as_ref())
        .flat_map(|p| p.missing.iter().map(String::as_str))
        .collect();
    said.extend(unproved.into_iter().map(|m| format!("Not proved: {m}")));
    said
}
