//! What analysis says of runs whose figures are given.

mod support;

use strata_analysis::{Analysis, Fate, Response, analyse};
use strata_record::{
    Ceiling, CeilingKind, Contrast, Limits, Op, Preconditioning, Quota, Reality, Record, Run,
    Status, StreamSweep, Verdict, Warning, WarningCode,
};
use strata_units::Nanos;
use support::{assert_valid, block, noise, records, run, tcp, trial};

fn contrast<'a>(analysis: &'a Analysis<'_>, response: &str) -> &'a Contrast {
    analysis
        .summary
        .contrasts
        .iter()
        .find(|c| c.response == response)
        .unwrap_or_else(|| panic!("no contrast in {response}"))
}

fn doubted(analysis: &Analysis<'_>, text: &str) -> bool {
    analysis.summary.doubts.iter().any(|d| d.contains(text))
}

/// psync and io_uring reading at depth 1, io_uring at `ratio` of psync's rate, with a spread of rounds common to both and
/// a smaller one of its own.
fn two_engines(rounds: u32, ratio: f64) -> (Run, Vec<Record>) {
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 1),
        ],
        rounds,
    );
    let records = records(&run, |cell, round| {
        let rate = 20_000.0 * noise(0.10, 9, round) * noise(0.005, cell, round);
        if cell == 1 { rate * ratio } else { rate }
    });
    assert_valid(&records);
    (run, records)
}

#[test]
fn medians_have_order_statistic_intervals_from_six_rounds_on() {
    let run = run(vec![block("psync", Op::RandRead, 1)], 7);
    let all = records(&run, |_, round| 1000.0 * f64::from(round + 1));
    assert_valid(&all);
    let of = |rounds: u32| {
        let some: Vec<Record> = all.iter().filter(|r| r.round < rounds).cloned().collect();
        let analysis = analyse(&run, &some);
        let line = &analysis.summary.lines[0];
        assert_eq!(line.rounds, rounds);
        (
            line.ops_per_s.expect("a median"),
            line.bytes_per_s.expect("a median"),
        )
    };
    let (rate, bytes) = of(5);
    assert_eq!(
        (rate.median, rate.ci95_low, rate.ci95_high),
        (3000.0, None, None)
    );
    assert_eq!(bytes.median, 3000.0 * 4096.0);
    let (rate, _) = of(6);
    assert_eq!(
        (rate.median, rate.ci95_low, rate.ci95_high),
        (3500.0, Some(1000.0), Some(6000.0))
    );
    let (rate, _) = of(7);
    assert_eq!(
        (rate.median, rate.ci95_low, rate.ci95_high),
        (4000.0, Some(1000.0), Some(7000.0))
    );
}

#[test]
fn a_percentile_stands_only_where_every_round_has_it() {
    let run = run(vec![block("psync", Op::RandRead, 1)], 6);
    // p99 takes 1000 operations; round 5 has 900.
    let all = records(&run, |_, round| if round == 5 { 900.0 } else { 2000.0 });
    assert_valid(&all);
    let analysis = analyse(&run, &all);
    let line = &analysis.summary.lines[0];
    assert!(line.p50_ns.is_some());
    assert_eq!(line.p99_ns, None);
}

#[test]
fn a_clear_difference_is_told_with_its_interval() {
    let (run, records) = two_engines(10, 0.8);
    let analysis = analyse(&run, &records);
    let rate = contrast(&analysis, "ops_per_s");
    assert_eq!(rate.verdict, Verdict::Lower);
    assert_eq!(rate.rounds, 10);
    assert!((rate.ratio - 0.8).abs() < 0.01, "{}", rate.ratio);
    let (low, high) = (rate.ci95_low.expect("low"), rate.ci95_high.expect("high"));
    // The spread between rounds is in both cells and must cancel.
    assert!(
        low < 0.8 && 0.8 < high && high - low < 0.02,
        "[{low}, {high}]"
    );
    assert!(rate.p_holm.is_some_and(|p| p < 1e-6));
    assert_eq!(rate.name, "io_uring ÷ psync at randread 4KiB qd1");
    assert!(rate.words.starts_with("io_uring is "), "{}", rate.words);
    assert!(rate.words.ends_with("slower than psync"), "{}", rate.words);
    // Latency and CPU time go the other way, each in a family of its own.
    assert_eq!(contrast(&analysis, "mean_ns").verdict, Verdict::Higher);
    assert_eq!(
        contrast(&analysis, "cpu_ns_per_op").verdict,
        Verdict::Higher
    );
    assert_eq!(
        analysis
            .families
            .iter()
            .map(|f| (f.response, f.size))
            .collect::<Vec<_>>(),
        [
            (Response::OpsPerS, 1),
            (Response::Mean, 1),
            (Response::CpuPerOp, 1)
        ]
    );
    assert!(analysis.answer.contains(&rate.words), "{}", analysis.answer);
}

#[test]
fn no_difference_is_told_as_such() {
    let (run, records) = two_engines(12, 1.001);
    let analysis = analyse(&run, &records);
    let rate = contrast(&analysis, "ops_per_s");
    assert_eq!(rate.verdict, Verdict::Equivalent, "{}", rate.words);
    assert!(
        rate.words.starts_with("no difference larger than 3 %"),
        "{}",
        rate.words
    );
}

#[test]
fn what_noise_hides_cannot_be_told() {
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 1),
        ],
        8,
    );
    let records = records(&run, |cell, round| 20_000.0 * noise(0.08, cell, round));
    assert_valid(&records);
    let analysis = analyse(&run, &records);
    let rate = contrast(&analysis, "ops_per_s");
    assert_eq!(rate.verdict, Verdict::CannotTell, "{}", rate.words);
    assert!(
        rate.words
            .starts_with("cannot tell: rules out only more than "),
        "{}",
        rate.words
    );
}

#[test]
fn few_rounds_give_no_claim_and_fewer_no_interval() {
    for (rounds, interval) in [(1, false), (2, false), (5, false), (6, true), (7, true)] {
        let (run, records) = two_engines(rounds, 0.5);
        let analysis = analyse(&run, &records);
        let rate = contrast(&analysis, "ops_per_s");
        assert_eq!(rate.verdict, Verdict::CannotTell, "{rounds} rounds");
        assert_eq!(rate.ci95_low.is_some(), interval, "{rounds} rounds");
        assert_eq!(rate.p_holm, None);
        assert!((rate.ratio - 0.5).abs() < 0.02, "{}", rate.ratio);
        assert!(
            doubted(&analysis, "Too few rounds for"),
            "{:?}",
            analysis.summary.doubts
        );
    }
}

#[test]
fn a_falsified_placement_is_left_out() {
    let (run, mut records) = two_engines(10, 0.8);
    // The trial whose thread was moved is also the one that would change the result.
    let moved = trial(&run, &run.plan.cells[1], 4, 90_000.0);
    let at = records
        .iter()
        .position(|r| r.round == 4 && r.what.engine == "io_uring")
        .expect("a trial");
    records[at].result = moved.result;
    records[at].proof.as_mut().expect("a proof").contradictions =
        vec!["thread 1 was asked on CPU 1 and seen on CPU 0".to_owned()];
    assert_valid(&records);
    let analysis = analyse(&run, &records);
    let rate = contrast(&analysis, "ops_per_s");
    assert_eq!(rate.rounds, 9);
    assert!((rate.ratio - 0.8).abs() < 0.01, "{}", rate.ratio);
    assert!(
        rate.words
            .contains("with the trials left out counted in, io_uring ÷ psync would be 0."),
        "{}",
        rate.words
    );
    let line = &analysis.summary.lines[1];
    assert_eq!(line.rounds, 9);
    assert_eq!(
        line.left_out,
        [
            "1 trial: the proof contradicts the placement: thread 1 was asked on CPU 1 and seen on CPU 0"
        ]
    );
    assert!(line.ops_per_s_with_left_out.is_some());
    assert!(doubted(&analysis, "seen on CPU 0"));
    assert!(
        analysis.summary.doubts[0].contains("left out"),
        "{:?}",
        analysis.summary.doubts
    );
}

#[test]
fn the_later_attempt_of_a_voided_round_counts() {
    let (run, mut all) = two_engines(10, 0.8);
    // io_uring failed in round 3; the round was made again at the end.
    let failed = all
        .iter_mut()
        .find(|r| r.round == 3 && r.what.engine == "io_uring")
        .expect("a trial");
    failed.status = Status::Failed;
    failed.reason = Some("short read".to_owned());
    let mut again: Vec<Record> = vec![
        trial(&run, &run.plan.cells[0], 3, 21_000.0),
        trial(&run, &run.plan.cells[1], 3, 16_800.0),
    ];
    for record in &mut again {
        record.attempt = 1;
        record.started_s = 200.0;
    }
    all.extend(again);
    assert_valid(&all);
    let analysis = analyse(&run, &all);
    let rate = contrast(&analysis, "ops_per_s");
    assert_eq!((rate.rounds, rate.verdict), (10, Verdict::Lower));
    assert_eq!(analysis.summary.lines[0].rounds, 10);
    let psync = &analysis.cells[0].trials;
    let of_round_3: Vec<&Fate> = psync
        .iter()
        .filter(|t| t.record.round == 3)
        .map(|t| &t.fate)
        .collect();
    assert_eq!(of_round_3, [&Fate::Repeated, &Fate::Counted]);
    assert_eq!(analysis.rounds.voided, 1);
    assert!(doubted(&analysis, "1 of 10 rounds were voided"));
    assert!(doubted(&analysis, "short read"));
}

#[test]
fn more_than_a_fifth_voided_cannot_be_told() {
    for (voided, told) in [(2, true), (3, false)] {
        let (run, mut all) = two_engines(10, 0.5);
        let mut again = Vec::new();
        for record in all.iter_mut().filter(|r| r.round < voided) {
            let mut repeat = record.clone();
            repeat.attempt = 1;
            repeat.started_s += 500.0;
            again.push(repeat);
            if record.what.engine == "psync" {
                record.status = Status::Failed;
                record.reason = Some("no answer".to_owned());
                record.result = None;
            }
        }
        all.extend(again);
        assert_valid(&all);
        let analysis = analyse(&run, &all);
        let rate = contrast(&analysis, "ops_per_s");
        assert_eq!(rate.rounds, 10);
        assert_eq!(rate.verdict == Verdict::Lower, told, "{}", rate.words);
        assert_eq!(
            rate.words
                .contains("3 of 10 rounds were voided or left out"),
            !told
        );
    }
}

#[test]
fn attempts_are_not_mixed_in_a_ratio() {
    let (run, mut all) = two_engines(8, 0.8);
    // The run stopped while round 2 was made again: io_uring has a second attempt there, psync has not.
    let mut again = trial(&run, &run.plan.cells[1], 2, 90_000.0);
    again.attempt = 1;
    all.push(again);
    let analysis = analyse(&run, &all);
    assert_eq!(contrast(&analysis, "ops_per_s").rounds, 7);
}

#[test]
fn a_skipped_cell_is_named_with_its_reason() {
    let (run, mut all) = two_engines(8, 0.8);
    for record in all.iter_mut().filter(|r| r.what.engine == "io_uring") {
        let mut skipped = Record::new(&run.id, record.what.clone());
        skipped.round = record.round;
        skipped.status = Status::Skipped;
        skipped.reason = Some("io_uring is disabled by kernel.io_uring_disabled=2".to_owned());
        skipped.started_at = record.started_at.clone();
        *record = skipped;
    }
    assert_valid(&all);
    let analysis = analyse(&run, &all);
    assert!(analysis.summary.contrasts.is_empty());
    assert!(doubted(
        &analysis,
        "block io_uring randread 4KiB qd1: SKIP, io_uring is disabled"
    ));
    assert!(!doubted(&analysis, "no round holds a figure of both"));
    assert_eq!(
        analysis.cells[1].skipped(),
        Some("io_uring is disabled by kernel.io_uring_disabled=2")
    );
    assert_eq!(analysis.summary.lines[1].ops_per_s, None);
    assert_eq!(analysis.summary.lines[1].rounds, 0);
}

#[test]
fn nothing_is_divided_across_realities_targets_or_two_factors() {
    let mut other_reality = block("io_uring", Op::RandRead, 1);
    other_reality.reality = Reality::Memory;
    let mut other_target = block("io_uring", Op::RandRead, 1);
    other_target.target.identity = "ext4 on vdb1".to_owned();
    let mut other_region = block("io_uring", Op::RandRead, 1);
    other_region.target.region_bytes = Some(strata_units::Bytes::MIB);
    let mut other_placement = block("io_uring", Op::RandRead, 1);
    other_placement.placement.cpus = vec![strata_units::CpuId(0)].into();
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            other_reality,
            other_target,
            other_region,
            other_placement,
            block("io_uring", Op::Read, 1),
            block("io_uring", Op::RandRead, 32),
            tcp(Op::ReqRep),
        ],
        8,
    );
    let records = records(&run, |cell, round| 10_000.0 * noise(0.01, cell, round));
    assert_valid(&records);
    let analysis = analyse(&run, &records);
    assert_eq!(analysis.summary.contrasts, []);
    assert_eq!(analysis.summary.lines.len(), 8);
}

#[test]
fn depths_are_compared_by_what_passes_alone() {
    let run = run(
        vec![
            block("io_uring", Op::RandRead, 32),
            block("io_uring", Op::RandRead, 1),
        ],
        8,
    );
    let records = records(&run, |cell, round| {
        [80_000.0, 20_000.0][cell] * noise(0.01, cell, round)
    });
    assert_valid(&records);
    let analysis = analyse(&run, &records);
    let [only] = analysis.summary.contrasts.as_slice() else {
        panic!("{:?}", analysis.summary.contrasts);
    };
    assert_eq!(only.response, "ops_per_s");
    assert_eq!(only.name, "qd32 ÷ qd1 at io_uring randread 4KiB");
    assert!((only.ratio - 4.0).abs() < 0.1, "{}", only.ratio);
    assert_eq!(only.verdict, Verdict::Higher);
}

#[test]
fn a_figure_above_physics_is_refused_and_one_above_a_measured_bound_warned_of() {
    for (kind, counts) in [(CeilingKind::Nominal, 7), (CeilingKind::Measured, 8)] {
        let (run, mut all) = two_engines(8, 0.8);
        let record = all
            .iter_mut()
            .find(|r| r.round == 2 && r.what.engine == "psync")
            .expect("a trial");
        let rate = record.result.as_ref().expect("a figure").ops_per_s;
        let ceiling = record.ceiling.as_mut().expect("a ceiling");
        ceiling.kind = kind;
        ceiling.ops_per_s = Some(rate / 1.5);
        ceiling.share = Some(1.5);
        ceiling.bound_by = "PCIe 3.0 x4 of 0000:81:00.0".to_owned();
        if kind == CeilingKind::Measured {
            record.warnings.push(Warning {
                code: WarningCode::AboveCeiling,
                text: "150.0 % of a measured bound".to_owned(),
            });
        }
        assert_valid(&all);
        let analysis = analyse(&run, &all);
        assert_eq!(analysis.summary.lines[0].rounds, counts);
        assert_eq!(
            doubted(&analysis, "refused as wrong: 150 % of PCIe 3.0 x4"),
            counts == 7
        );
        assert_eq!(
            doubted(&analysis, "150.0 % of a measured bound"),
            counts == 8
        );
    }
}

#[test]
fn a_cell_at_its_ceiling_makes_the_ratio_a_bound() {
    let (run, mut all) = two_engines(8, 0.5);
    for record in all.iter_mut().filter(|r| r.what.engine == "psync") {
        let rate = record.result.as_ref().expect("a figure").ops_per_s;
        record.ceiling.as_mut().expect("a ceiling").ops_per_s = Some(rate / 0.98);
    }
    let analysis = analyse(&run, &all);
    assert!(
        analysis.cells[0]
            .ceiling
            .as_ref()
            .is_some_and(|c| c.reached)
    );
    let words = &contrast(&analysis, "ops_per_s").words;
    assert!(
        words.contains("; ≤, because the ceiling (the core, by the null engine)"),
        "{words}"
    );
}

#[test]
fn drifting_differences_are_averaged_in_pairs_with_a_doubt() {
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 1),
        ],
        20,
    );
    let drifting = records(&run, |cell, round| {
        let base = 20_000.0 * (1.0 - 0.01 * f64::from(round)) * noise(0.002, cell, round);
        if cell == 1 {
            base * (1.0 + 0.02 * f64::from(round))
        } else {
            base
        }
    });
    assert_valid(&drifting);
    let analysis = analyse(&run, &drifting);
    assert!(analysis.contrasts[0].paired);
    assert!(analysis.contrasts[0].lag1.is_some_and(|r| r > 0.5));
    assert_eq!(contrast(&analysis, "ops_per_s").rounds, 20);
    assert!(doubted(&analysis, "averaged in pairs"));
    let only_psync: Vec<Record> = drifting
        .into_iter()
        .filter(|r| r.what.engine == "psync")
        .collect();
    let analysis = analyse(&run, &only_psync);
    let drift = analysis.drift.expect("a drift");
    assert!((drift.change + 0.19).abs() < 0.01, "{drift:?}");
    assert!(drift.moved() && doubted(&analysis, "The run drifted"));
}

#[test]
fn doubts_name_what_devalues_the_figures() {
    let (mut run, mut all) = two_engines(8, 0.8);
    run.built.profile = "debug".to_owned();
    run.environment.cpu.model = Some("QEMU TCG CPU version 2.5+".to_owned());
    for record in &mut all {
        record.warnings.push(Warning {
            code: WarningCode::Buffered,
            text: "the file system buffers what was to go direct".to_owned(),
        });
        record.harness = Some(strata_record::Harness {
            ns_per_op: 20_000.0,
            ops: 1000,
        });
        record.proof.as_mut().expect("a proof").clock.error_ppm = 900.0;
    }
    all[0].warnings.push(Warning {
        code: WarningCode::Unwritten,
        text: "reads met blocks that were never written".to_owned(),
    });
    all[1]
        .result
        .as_mut()
        .expect("a figure")
        .latency_ns
        .as_mut()
        .expect("latencies")
        .count += 1;
    assert_valid(&all);
    let mut with_foreign = all.clone();
    with_foreign.push(trial(&run, &tcp(Op::ReqRep), 0, 1000.0));
    let analysis = analyse(&run, &with_foreign);
    assert!(analysis.summary.doubts[0].starts_with("Measured by a debug build"));
    for expected in [
        "virtual drive",
        "emulated processor (QEMU TCG",
        "buffers what was to go direct",
        "never written",
        "measuring itself takes",
        "900 parts per million",
        "1 trial of cells that are not in the plan",
        "histogram of 1 trial cannot be used",
        "not proved: interrupts by CPU",
    ] {
        assert!(
            doubted(&analysis, expected),
            "{expected}: {:#?}",
            analysis.summary.doubts
        );
    }
    assert_eq!(analysis.summary.lines[0].rounds, 7);
}

/// The drive of a trial at so many degrees, before and after.
fn at_celsius(record: &mut Record, celsius: f64) {
    let proof = record.proof.as_mut().expect("a proof");
    let drive = &mut proof.host.as_mut().expect("watched").drives[0];
    (drive.before_celsius, drive.after_celsius) = (celsius, celsius);
}

#[test]
fn trials_that_heat_made_unlike_form_no_contrast() {
    let (run, sound) = two_engines(10, 0.8);
    let whole = analyse(&run, &sound);
    assert_eq!(contrast(&whole, "ops_per_s").rounds, 10);
    assert!(!doubted(&whole, "for heat"));

    // Ten degrees are not more than ten; eleven are, in one round of ten.
    let mut warm = sound.clone();
    at_celsius(&mut warm[0], 51.0);
    assert_eq!(
        contrast(&analyse(&run, &warm), "ops_per_s").rounds,
        10,
        "41 °C and 51 °C"
    );
    at_celsius(&mut warm[0], 52.0);
    let analysed = analyse(&run, &warm);
    assert_eq!(contrast(&analysed, "ops_per_s").rounds, 9);
    assert!(
        doubted(&analysed, "for heat (first round 0: the drive was at 41 °C"),
        "{:#?}",
        analysed.summary.doubts
    );
    // Each cell's own median is of what was measured.
    assert!(analysed.summary.lines.iter().all(|l| l.rounds == 10));

    let mut throttled = sound.clone();
    let proof = throttled[3].proof.as_mut().expect("a proof");
    proof.host.as_mut().expect("watched").cpus[0].throttled = Some(strata_record::CpuThrottling {
        core: 1,
        package: 0,
    });
    let analysed = analyse(&run, &throttled);
    assert_eq!(contrast(&analysed, "ops_per_s").rounds, 9);
    assert!(doubted(&analysed, "heat or power slowed CPU 1"));

    // More than a fifth of the rounds: nothing can be told.
    let mut hot = sound.clone();
    for record in hot.iter_mut().filter(|r| r.round < 3) {
        let celsius = if record.what.engine == "psync" {
            30.0
        } else {
            70.0
        };
        at_celsius(record, celsius);
    }
    let analysed = analyse(&run, &hot);
    let judged = contrast(&analysed, "ops_per_s");
    assert_eq!((judged.rounds, judged.verdict), (7, Verdict::CannotTell));

    // Nobody looked: nothing is left out.
    let mut unwatched = hot.clone();
    for record in &mut unwatched {
        record.proof.as_mut().expect("a proof").host = None;
    }
    assert_eq!(contrast(&analyse(&run, &unwatched), "ops_per_s").rounds, 10);
}

#[test]
fn cells_of_one_name_are_told_apart() {
    let mut elsewhere = block("psync", Op::RandRead, 1);
    elsewhere.placement.cpus = vec![strata_units::CpuId(0)].into();
    let run = run(vec![block("psync", Op::RandRead, 1), elsewhere], 8);
    let analysis = analyse(&run, &[]);
    assert_eq!(
        analysis
            .cells
            .iter()
            .map(|c| c.label.as_str())
            .collect::<Vec<_>>(),
        [
            "block psync randread 4KiB qd1, cpus 1",
            "block psync randread 4KiB qd1, cpus 0"
        ]
    );
    assert_eq!(
        analysis.answer,
        "No figure: every trial was skipped, failed or left out."
    );
    assert!(doubted(&analysis, "0 of 8 rounds are whole"));
}

#[test]
fn no_two_cells_have_one_name() {
    let plain = || block("io_uring", Op::RandRead, 1);
    type Change = fn(&mut strata_record::Cell);
    let changes: [(Change, &str); 8] = [
        (|c| c.reality = Reality::Memory, "memory"),
        (
            |c| c.target.region_from_bytes = strata_units::ByteOffset(1 << 30),
            "from 1GiB on",
        ),
        (
            |c| c.target.region_bytes = Some(strata_units::Bytes::MIB),
            "1MiB of it",
        ),
        (|c| c.target.region_bytes = None, "all of it"),
        (
            |c| c.placement.poll_cpus = vec![strata_units::CpuId(3)].into(),
            "poll cpus 3",
        ),
        (|c| c.workload.ramp_ns = Nanos::SECOND, "ramp 1s"),
        (|c| c.workload.verify = true, "verified"),
        // In no part of a name.
        (|c| c.target.identity = "another".to_owned(), "cell 2"),
    ];
    for (change, told) in changes {
        let mut other = plain();
        change(&mut other);
        let run = run(vec![plain(), other], 2);
        let analysis = analyse(&run, &[]);
        let [first, second] = [0, 1].map(|at| analysis.cells[at].label.as_str());
        assert_ne!(first, second);
        assert_eq!(second, format!("block io_uring randread 4KiB qd1, {told}"));
    }
}

#[test]
fn curves_and_the_middle_round_are_those_of_the_records() {
    let (run, records) = two_engines(8, 0.8);
    let analysis = analyse(&run, &records);
    let cell = &analysis.cells[0];
    assert_eq!(cell.curves.len(), 8);
    let middle = &cell.trials[cell.middle.expect("a middle")].record;
    let mut rates: Vec<f64> = cell
        .counted()
        .filter_map(|r| Response::OpsPerS.of(r))
        .collect();
    rates.sort_by(f64::total_cmp);
    assert_eq!(Response::OpsPerS.of(middle), Some(rates[3]));
    for curve in &cell.curves {
        let latency = cell.trials[curve.trial]
            .record
            .result
            .as_ref()
            .and_then(|r| r.latency_ns.as_ref())
            .expect("latencies");
        let p99 = curve
            .points
            .iter()
            .find(|p| (p.quantile - 0.99).abs() < 1e-9)
            .expect("p99 is a step of the curve");
        let recorded = latency.percentiles.p99.expect("p99");
        assert!(
            (p99.nanos / recorded - 1.0).abs() < 0.01,
            "{p99:?}, recorded {recorded}"
        );
    }
}

#[test]
fn the_lowest_of_all_bounds_is_the_cells_ceiling() {
    let (run, mut all) = two_engines(8, 0.5);
    for record in &mut all {
        let rate = record.result.as_ref().expect("a figure").bytes_per_s;
        let core = record.ceiling.clone().expect("a ceiling");
        let link = Ceiling {
            ops_per_s: None,
            bytes_per_s: rate.map(|rate| rate / 0.97),
            bound_by: "link of 0000:81:00.0".to_owned(),
            kind: CeilingKind::Nominal,
            share: Some(0.97),
        };
        // In one trial the core was slow, and bound lower than the link.
        let slow = Ceiling {
            ops_per_s: record.result.as_ref().map(|r| r.ops_per_s / 0.99),
            ..core.clone()
        };
        let of_core = if record.round == 3 { slow } else { core };
        record.bounds = vec![of_core, link];
    }
    assert_valid(&all);
    let analysis = analyse(&run, &all);
    let found = analysis.cells[0].ceiling.as_ref().expect("a ceiling");
    assert_eq!(found.bound_by, "link of 0000:81:00.0");
    assert_eq!((found.kind, found.reached), (CeilingKind::Nominal, true));
    assert_eq!(found.ops_per_s, None, "the core's bound is another");
    assert!(
        contrast(&analysis, "ops_per_s")
            .words
            .contains("both stand at their ceilings")
    );
}

#[test]
fn a_quota_is_doubted_whether_or_not_it_held_a_trial_back() {
    let (mut run, all) = two_engines(8, 0.8);
    assert!(!doubted(&analyse(&run, &all), "quota"));
    run.environment.limits = Some(Limits {
        cpu_quota: Some(Quota {
            quota: Nanos::from_millis(250),
            period: Nanos::from_millis(100),
            cgroup: "sys/fs/cgroup/job_77".to_owned(),
        }),
        ..Limits::default()
    });
    assert!(doubted(
        &analyse(&run, &all),
        "A quota of 2.50 CPUs' time was set"
    ));
}

#[test]
fn an_engine_with_a_polling_thread_is_compared_and_its_cpu_told() {
    let polled = |cpu| {
        let mut cell = block("io_uring+sqpoll", Op::RandRead, 1);
        cell.placement.poll_cpus = vec![strata_units::CpuId(cpu)].into();
        cell
    };
    let run = run(
        vec![polled(3), polled(1), block("psync", Op::RandRead, 1)],
        8,
    );
    let records = records(&run, |cell, round| {
        [30_000.0, 15_000.0, 20_000.0][cell] * noise(0.01, cell, round)
    });
    assert_valid(&records);
    let analysis = analyse(&run, &records);
    let rates: Vec<&str> = analysis
        .summary
        .contrasts
        .iter()
        .filter(|c| c.response == "ops_per_s")
        .map(|c| c.words.as_str())
        .collect();
    let [elsewhere, own] = rates.as_slice() else {
        panic!("each against psync, and not against one another: {rates:?}");
    };
    let told = "; io_uring+sqpoll had one more CPU, on which the kernel polled for it (3)";
    assert!(elsewhere.ends_with(told), "{elsewhere}");
    assert!(
        own.ends_with("; the kernel polled for io_uring+sqpoll on its own CPU (1)"),
        "{own}"
    );
    assert!(analysis.answer.contains(told), "{}", analysis.answer);
}

#[test]
fn an_open_loop_is_compared_by_its_latency_and_not_by_the_rate_that_was_offered() {
    const OFFERED: u64 = 10_000;
    let open = |engine: &str, depth| {
        let mut cell = block(engine, Op::RandRead, depth);
        cell.workload.rate = Some(strata_record::Rate {
            ops_per_s: OFFERED,
            arrivals: strata_record::Arrivals::Fixed,
        });
        cell
    };
    let mut run = run(vec![open("psync", 32), open("io_uring", 32)], 8);
    let offered = |run: &Run| {
        let mut all = records(run, |_, _| OFFERED as f64);
        for record in &mut all {
            let result = record.result.as_mut().expect("a figure");
            let mean = &mut result.latency_ns.as_mut().expect("latencies").mean;
            *mean = 50_000.0 * noise(0.01, record.what.engine.len(), record.round);
            if record.what.engine == "io_uring" {
                *mean *= 0.8;
            }
        }
        assert_valid(&all);
        all
    };
    let all = offered(&run);
    let analysis = analyse(&run, &all);
    let compared: Vec<&str> = analysis
        .summary
        .contrasts
        .iter()
        .map(|c| c.response.as_str())
        .collect();
    assert_eq!(compared, ["mean_ns", "cpu_ns_per_op"]);
    let mean = contrast(&analysis, "mean_ns");
    assert_eq!(mean.verdict, Verdict::Lower, "{}", mean.words);
    let answer = &analysis.answer;
    assert!(answer.contains(&mean.words), "{answer}");
    assert!(
        !answer.contains("k/s") && !answer.contains("Most measured"),
        "the offer is no answer: {answer}"
    );
    assert!(
        answer.contains("at a rate that was offered: 4")
            && answer.contains("by block io_uring randread 4KiB qd32 at 10000/s"),
        "{answer}"
    );

    // A closed loop beside it has the headline and the greatest rate, be that below the offer.
    run.plan.cells.extend([
        block("psync", Op::RandRead, 1),
        block("io_uring", Op::RandRead, 1),
    ]);
    let closed = records(&run, |cell, round| 5_000.0 * noise(0.01, cell, round));
    let all: Vec<Record> = offered(&run)
        .into_iter()
        .filter(|r| r.what.workload.rate.is_some())
        .chain(
            closed
                .into_iter()
                .filter(|r| r.what.workload.rate.is_none()),
        )
        .collect();
    let analysis = analyse(&run, &all);
    let rate = contrast(&analysis, "ops_per_s");
    assert!(rate.name.ends_with("qd1"), "{}", rate.name);
    let answer = &analysis.answer;
    assert!(
        answer.starts_with("block randread 4KiB qd1 (virtual)"),
        "{answer}"
    );
    assert!(
        answer.contains("Most measured: 5.0") || answer.contains("Most measured: 4.9"),
        "{answer}"
    );
}

#[test]
fn a_drive_that_was_not_steady_and_a_sweep_that_could_not_tell_are_doubted() {
    let (mut run, records) = two_engines(8, 0.8);
    for (steady, sure) in [(true, true), (false, false)] {
        run.preconditioning = vec![Preconditioning {
            via: "/dev/nvme0n1".to_owned(),
            bytes: strata_units::Bytes::GIB,
            seconds: 12.5,
            workload: Some("psync randwrite 4KiB qd1".to_owned()),
            rounds_ops_per_s: vec![1000.0; 25],
            steady,
        }];
        run.sweeps = vec![StreamSweep {
            of: "tcp stream 128KiB".to_owned(),
            candidates: Vec::new(),
            chosen: 0,
            sure,
        }];
        let analysis = analyse(&run, &records);
        assert_eq!(
            doubted(
                &analysis,
                "/dev/nvme0n1 was preconditioned and not steady after 25 rounds"
            ),
            !steady
        );
        assert_eq!(
            doubted(
                &analysis,
                "tcp stream 128KiB: whether more streams bring more"
            ),
            !sure
        );
    }
}

#[test]
fn only_trials_that_lack_a_proof_are_counted_as_such() {
    let (run, mut all) = two_engines(8, 0.8);
    for record in all.iter_mut().filter(|r| r.round < 2) {
        record.proof = None;
    }
    let analysis = analyse(&run, &all);
    assert!(
        doubted(&analysis, "All cells: 2 trials without any proof"),
        "{:#?}",
        analysis.summary.doubts
    );
}

#[test]
fn a_warnings_text_stands_behind_the_trials_that_gave_it() {
    let (run, sound) = two_engines(8, 0.8);
    let warned = |text: &dyn Fn(&Record) -> String| {
        let mut all = sound.clone();
        for record in &mut all {
            record.warnings.push(Warning {
                code: WarningCode::Hot,
                text: text(record),
            });
        }
        assert_valid(&all);
        let mut doubts = analyse(&run, &all).summary.doubts;
        doubts.retain(|d| d.contains("°C"));
        doubts
    };
    assert_eq!(
        warned(&|_| "the drive is at 71 °C".to_owned()),
        ["All cells (16 trials): the drive is at 71 °C."]
    );
    assert_eq!(
        warned(&|r| format!(
            "the drive is at {} °C",
            if r.what.engine == "psync" { 71 } else { 72 }
        )),
        [
            "block psync randread 4KiB qd1 (8 trials): the drive is at 71 °C.",
            "block io_uring randread 4KiB qd1 (8 trials): the drive is at 72 °C.",
        ]
    );
    assert_eq!(
        warned(&|r| format!("the drive is at {} °C", 71 + r.round)),
        [
            "All cells (16 trials, in 8 wordings; the first, of block psync randread 4KiB qd1 in round 0): the drive is at \
          71 °C."
        ]
    );
}
