//! What to doubt about a run, most serious first.

use std::collections::BTreeSet;

use strata_record::{Reality, Record, Run, Status, SummaryLine, TargetKind, WarningCode};
use strata_stats::{ROUNDS_FOR_CLAIM, ROUNDS_FOR_INTERVAL};
use strata_units::show;

use crate::cells::CellDetail;
use crate::drift::Drift;
use crate::rounds::Rounds;
use crate::words::percent;
use crate::{Fate, Trial};

/// A clock error from here on shows in three digits.
const CLOCK_ERROR_PPM: f64 = 500.0;
/// The part of an operation's time from which on what measuring adds is worth a word.
const HARNESS_SHARE: f64 = 0.05;
/// The part of the median latency from which on the error of timing by batch is worth a word.
const BATCH_SHARE: f64 = 0.1;
/// More cells than this are counted rather than named.
const NAMED: usize = 3;

/// Everything that a doubt may come from.
pub(crate) struct Facts<'f, 'a> {
    pub(crate) run: &'a Run,
    /// Records of cells that are not in the plan.
    pub(crate) foreign: usize,
    pub(crate) rounds: Rounds,
    pub(crate) cells: &'f [CellDetail<'a>],
    pub(crate) lines: &'f [SummaryLine],
    pub(crate) drift: Option<Drift>,
    /// What comparing found.
    pub(crate) compared: Vec<String>,
}

/// One text for several cells, in the order in which they came.
#[derive(Default)]
struct Shared(Vec<(String, Vec<String>)>);

impl Shared {
    fn add(&mut self, text: String, label: &str) {
        match self.0.iter_mut().find(|(t, _)| *t == text) {
            Some((_, labels)) => labels.push(label.to_owned()),
            None => self.0.push((text, vec![label.to_owned()])),
        }
    }

    fn lines(self, all: usize) -> impl Iterator<Item = String> {
        self.0
            .into_iter()
            .map(move |(text, labels)| format!("{}: {text}", who(&labels, all)))
    }
}

fn who(labels: &[String], all: usize) -> String {
    match labels.len() {
        n if n == all && n > 1 => "All cells".to_owned(),
        n if n <= NAMED => labels.join(", "),
        n => format!("{n} of {all} cells"),
    }
}

fn some(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl Facts<'_, '_> {
    /// The doubts, each a sentence or two.
    pub(crate) fn doubts(self) -> Vec<String> {
        let mut doubts = Vec::new();
        self.build(&mut doubts);
        self.emulated_processor(&mut doubts);
        self.unmeasured(&mut doubts);
        self.left_out(&mut doubts);
        self.records(&mut doubts);
        self.few_rounds(&mut doubts);
        self.realities(&mut doubts);
        self.before(&mut doubts);
        self.quota(&mut doubts);
        self.warnings(&mut doubts);
        self.accuracy(&mut doubts);
        doubts.extend(self.compared.iter().cloned());
        self.drifted(&mut doubts);
        self.unproved(&mut doubts);
        doubts
    }

    fn build(&self, doubts: &mut Vec<String>) {
        let built = &self.run.built;
        if built.profile != "release" {
            doubts.push(format!(
                "Measured by a {} build: the figures are worth nothing. Build with `--release` and measure again.",
                built.profile
            ));
        }
        if built
            .commit
            .as_deref()
            .is_some_and(|c| c.ends_with("-dirty"))
        {
            doubts.push(
                "Measured by a program that was changed since its last commit: nobody else can build it.".to_owned(),
            );
        }
    }

    /// QEMU's translation, by the name that it gives its processors (its docs/system/i386/cpu).
    fn emulated_processor(&self, doubts: &mut Vec<String>) {
        let model = self.run.environment.cpu.model.as_deref();
        if let Some(model) = model.filter(|model| model.contains("TCG")) {
            doubts.push(format!(
                "Measured on an emulated processor ({model}): all times are those of its translation, and so are the ratios between ways that differ in what they compute. It shows that the tool works, and nothing of speed."
            ));
        }
    }

    /// Cells without any figure that counts.
    fn unmeasured(&self, doubts: &mut Vec<String>) {
        let mut skipped = Shared::default();
        for cell in self.cells {
            if cell.trials.is_empty() {
                skipped.add(
                    "not measured, the run has no trial of it.".to_owned(),
                    &cell.label,
                );
            } else if let Some(why) = cell.skipped() {
                skipped.add(format!("SKIP, {why}."), &cell.label);
            }
        }
        doubts.extend(skipped.lines(self.cells.len()));
    }

    /// Cells of which trials are left out for more than a repeated round.
    fn left_out(&self, doubts: &mut Vec<String>) {
        for (cell, line) in self.cells.iter().zip(self.lines) {
            let none = !cell
                .trials
                .iter()
                .any(|t| matches!(t.fate, Fate::LeftOut(_)));
            if none || cell.skipped().is_some() {
                continue;
            }
            let with = line.ops_per_s_with_left_out.map_or_else(String::new, |e| {
                format!(
                    "; with {} its median would be {}",
                    if line.rounds == 0 { "them" } else { "those in" },
                    show::per_second(e.median)
                )
            });
            doubts.push(format!(
                "{}: left out of every median and ratio: {}{with}.",
                cell.label,
                line.left_out.join("; ")
            ));
        }
    }

    /// Records that do not belong or do not agree with themselves.
    fn records(&self, doubts: &mut Vec<String>) {
        if self.foreign > 0 {
            doubts.push(format!(
                "{} of cells that are not in the plan: not looked at.",
                some(self.foreign, "trial")
            ));
        }
        let mut unreadable = Shared::default();
        for cell in self.cells {
            if let Some((round, why)) = cell.unreadable.first() {
                unreadable.add(
                    format!(
                        "the latency histogram of {} cannot be used, so that its curve is missing (first in round {round}: {why}).",
                        some(cell.unreadable.len(), "trial")
                    ),
                    &cell.label,
                );
            }
        }
        doubts.extend(unreadable.lines(self.cells.len()));
    }

    fn few_rounds(&self, doubts: &mut Vec<String>) {
        let Rounds {
            planned,
            begun,
            whole,
            voided,
        } = self.rounds;
        if whole < planned {
            doubts.push(format!(
                "The run was not finished: {whole} of {planned} rounds are whole. `strata run --resume` goes on with it."
            ));
        }
        let counted = |c: &&CellDetail<'_>| match c.counted().count() {
            0 => None,
            n => Some(n),
        };
        let fewest = self.cells.iter().filter_map(|c| counted(&c)).min();
        match fewest {
            Some(n) if n < ROUNDS_FOR_INTERVAL => doubts.push(format!(
                "Too few rounds for intervals: {n}, where {ROUNDS_FOR_INTERVAL} give an interval and {ROUNDS_FOR_CLAIM} a claim."
            )),
            Some(n) if n < ROUNDS_FOR_CLAIM => doubts.push(format!(
                "Too few rounds for claims: {n}, where a claim takes {ROUNDS_FOR_CLAIM}."
            )),
            _ => {}
        }
        if voided > 0 {
            doubts.push(format!(
                "{voided} of {begun} rounds were voided by a failed trial: {}.",
                self.failures()
            ));
        }
    }

    /// The first reason why a trial failed, and how many failed.
    fn failures(&self) -> String {
        let failed: Vec<(&str, &Record)> = self
            .cells
            .iter()
            .flat_map(|c| {
                c.trials
                    .iter()
                    .map(|t: &Trial<'_>| (c.label.as_str(), t.record))
            })
            .filter(|(_, r)| r.status == Status::Failed)
            .collect();
        let first = failed.first().map_or_else(String::new, |(label, r)| {
            format!(
                ", first of {label} in round {}: {}",
                r.round,
                r.reason.as_deref().unwrap_or("no reason given")
            )
        });
        format!("{} failed{first}", some(failed.len(), "trial"))
    }

    fn realities(&self, doubts: &mut Vec<String>) {
        let mut seen = Shared::default();
        for cell in self.cells {
            let text = match (cell.cell.reality, cell.cell.target.kind) {
                (Reality::Hardware | Reality::Passthrough, _) => continue,
                (Reality::Virtual, TargetKind::File | TargetKind::Drive) => {
                    "these figures are of a virtual drive. They tell of the hypervisor, and of what else it serves, not of a \
                     drive."
                }
                (Reality::Virtual, TargetKind::Wire) => {
                    "these figures are of a virtual network function. They tell of the hypervisor, not of a wire."
                }
                (Reality::Emulated, _) => {
                    "these figures are of our own emulated controller. They tell of software, not of a drive."
                }
                (Reality::Software, TargetKind::File | TargetKind::Drive) => {
                    "these figures are of a device made of software. They tell of this machine's kernel, not of a drive."
                }
                (Reality::Software, TargetKind::Wire) => {
                    "these figures are of a link made of software (loopback, veth or the like). They tell of this machine's \
                     kernel, not of a wire."
                }
                (Reality::Memory, TargetKind::File | TargetKind::Drive) => {
                    "these figures are of memory (tmpfs or the like). They tell of the kernel's path, not of a drive."
                }
                (Reality::Memory, TargetKind::Wire) => {
                    "these figures are of memory. They tell of this machine, not of a wire."
                }
                (Reality::Unknown, _) => {
                    "the system does not say what device stands behind these figures (a container's file system, or one \
                     behind a server). Give a target on a drive of this machine."
                }
            };
            seen.add(text.to_owned(), &cell.label);
        }
        doubts.extend(seen.lines(self.cells.len()));
    }

    /// What was done before the first trial and did not come to its end.
    fn before(&self, doubts: &mut Vec<String>) {
        for done in self.run.preconditioning.iter().filter(|p| !p.steady) {
            doubts.push(format!(
                "{} was preconditioned and not steady after {} of the workload: its figures are of a moment, not of a \
                 steady state.",
                done.via,
                some(done.rounds_ops_per_s.len(), "round")
            ));
        }
        for sweep in self.run.sweeps.iter().filter(|s| !s.sure) {
            doubts.push(format!(
                "{}: whether more streams bring more, the sweep before the rounds could not tell.",
                sweep.of
            ));
        }
    }

    /// A share of CPU time, whether or not a trial was held back by it.
    fn quota(&self, doubts: &mut Vec<String>) {
        let limits = self.run.environment.limits.as_ref();
        let Some(quota) = limits.and_then(|limits| limits.cpu_quota.as_ref()) else {
            return;
        };
        doubts.push(format!(
            "A quota of {} CPUs' time was set: threads that use it up stand still for the rest of each {}, which the tails of latency show first. Raise cpu.max of /{}.",
            show::digits(quota.cpus()),
            quota.period,
            quota.cgroup
        ));
    }

    /// The warnings of trials that count, by kind and text; those that exclude are told with what is left out.
    fn warnings(&self, doubts: &mut Vec<String>) {
        const ORDER: [WarningCode; 24] = [
            WarningCode::Buffered,
            WarningCode::DeviceCounters,
            WarningCode::AboveCeiling,
            WarningCode::Throttled,
            WarningCode::CpuQuota,
            WarningCode::Link,
            WarningCode::WireErrors,
            WarningCode::Discards,
            WarningCode::Retransmissions,
            WarningCode::OutOfSequence,
            WarningCode::ReceiverNotReady,
            WarningCode::Paused,
            WarningCode::Congestion,
            WarningCode::Hot,
            WarningCode::SharedCpu,
            WarningCode::KernelWorkers,
            WarningCode::ForeignLoad,
            WarningCode::Steal,
            WarningCode::Frequency,
            WarningCode::RemoteInterrupts,
            WarningCode::NotStationary,
            WarningCode::FewOperations,
            WarningCode::Memory,
            WarningCode::Governor,
        ];
        for code in ORDER {
            // Each text once, with the trials that gave it, by cell and round: of a cell, one trial a round counts.
            let mut texts: Vec<(&str, BTreeSet<(usize, u32)>)> = Vec::new();
            for (at, cell) in self.cells.iter().enumerate() {
                for record in cell.counted() {
                    for warning in record.warnings.iter().filter(|w| w.code == code) {
                        let trial = (at, record.round);
                        match texts.iter_mut().find(|(text, _)| *text == warning.text) {
                            Some((_, trials)) => {
                                trials.insert(trial);
                            }
                            None => texts.push((&warning.text, BTreeSet::from([trial]))),
                        }
                    }
                }
            }
            doubts.extend(self.told(&texts));
        }
    }

    /// A line a text; of more than a few, whose figures then differ from trial to trial, one with the first of them.
    fn told(&self, texts: &[(&str, BTreeSet<(usize, u32)>)]) -> Vec<String> {
        let who_of = |trials: &BTreeSet<(usize, u32)>| {
            let cells: BTreeSet<usize> = trials.iter().map(|(cell, _)| *cell).collect();
            let labels: Vec<String> = cells
                .into_iter()
                .map(|cell| self.cells[cell].label.clone())
                .collect();
            who(&labels, self.cells.len())
        };
        if texts.len() <= NAMED {
            return texts
                .iter()
                .map(|(text, trials)| {
                    format!(
                        "{} ({}): {}",
                        who_of(trials),
                        some(trials.len(), "trial"),
                        full_stop(text)
                    )
                })
                .collect();
        }
        let all = texts
            .iter()
            .flat_map(|(_, trials)| trials)
            .copied()
            .collect();
        let first = texts.iter().find_map(|(text, trials)| {
            let (cell, round) = trials.first()?;
            Some(format!(
                "{} ({}, in {} wordings; the first, of {} in round {round}): {}",
                who_of(&all),
                some(all.len(), "trial"),
                texts.len(),
                self.cells[*cell].label,
                full_stop(text)
            ))
        });
        first.into_iter().collect()
    }

    /// Errors and bounds of the figures themselves.
    fn accuracy(&self, doubts: &mut Vec<String>) {
        let mut shared = Shared::default();
        for (cell, line) in self.cells.iter().zip(self.lines) {
            let mut add = |text: String| shared.add(text, &cell.label);
            let counted: Vec<&Record> = cell.counted().collect();
            let results = || counted.iter().filter_map(|r| r.result.as_ref());
            let errors: u64 = results().map(|r| r.errors).sum();
            let lost: u64 = results().map(|r| r.lost).sum();
            if errors + lost > 0 {
                add(format!(
                    "{errors} errors and {lost} lost in trials that count."
                ));
            }
            if let Some(clock) = cell.proof.as_ref().map(|p| p.clock)
                && clock.error_ppm > CLOCK_ERROR_PPM
            {
                add(format!(
                    "the clock may be wrong by {} parts per million.",
                    show::digits(clock.error_ppm)
                ));
            }
            if let (Some(harness), Some(rate)) = (line.harness_ns_per_op, line.ops_per_s) {
                let share = harness.median * rate.median
                    / (1e9 * f64::from(cell.cell.workload.threads.max(1)));
                if share > HARNESS_SHARE {
                    add(format!(
                        "measuring itself takes {} % of a thread's time.",
                        percent(share)
                    ));
                }
            }
            let latencies = || results().filter_map(|r| r.latency_ns.as_ref());
            let error = latencies()
                .filter_map(|l| l.batch_error_ns)
                .fold(0.0, f64::max);
            if let Some(p50) = line.p50_ns
                && error > BATCH_SHARE * p50.median
            {
                add(format!(
                    "latencies are timed a batch at a time, and each may be too long by up to {}.",
                    show::time(error)
                ));
            }
        }
        doubts.extend(shared.lines(self.cells.len()));
    }

    fn drifted(&self, doubts: &mut Vec<String>) {
        if let Some(drift) = self.drift.filter(Drift::moved) {
            doubts.push(format!("The run drifted: {}.", drift.words()));
        }
    }

    fn unproved(&self, doubts: &mut Vec<String>) {
        let mut shared = Shared::default();
        for cell in self.cells {
            if let Some(proof) = &cell.proof {
                for missing in &proof.missing {
                    shared.add(format!("not proved: {}", full_stop(missing)), &cell.label);
                }
            }
            let bare = cell.counted().filter(|r| r.proof.is_none()).count();
            if bare > 0 {
                shared.add(
                    format!("{} without any proof of where it ran.", some(bare, "trial")),
                    &cell.label,
                );
            }
        }
        doubts.extend(shared.lines(self.cells.len()));
    }
}

fn full_stop(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}
