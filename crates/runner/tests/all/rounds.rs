//! The order of trials, what voids a round, and what an interruption leaves.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_record::{Op, Record, Run, Status};
use strata_runner::{AsItIs, Ended, estimate, execute, turns};
use strata_units::Nanos;

use crate::support::{Call, Told, broken, go_on, place, run, strayed, well, whole};

/// Round, attempt and cell of each record, in the order made.
fn made(run: &Run, records: &[Record]) -> Vec<(u32, u32, usize)> {
    records
        .iter()
        .map(|r| (r.round, r.attempt, place(run, r)))
        .collect()
}

/// The rounds that were made again, with how often each.
fn again(run: &Run, records: &[Record]) -> Vec<u32> {
    let mut rounds: Vec<u32> = records
        .iter()
        .filter(|r| r.attempt > 0)
        .map(|r| r.round)
        .collect();
    assert_eq!(
        rounds.len() % run.plan.cells.len(),
        0,
        "whole rounds are repeated"
    );
    rounds.dedup();
    rounds
}

#[test]
fn each_round_has_each_cell_once_in_its_own_seeded_order() {
    let run = run(5, 12, 7);
    let executed = whole(&run, |_, _| Ok(well()));
    assert_eq!(executed.records.len(), 60);
    let mut orders = BTreeSet::new();
    for (round, records) in (0u32..).zip(executed.records.chunks(5)) {
        assert!(records.iter().all(|r| (r.round, r.attempt) == (round, 0)));
        let order: Vec<usize> = records.iter().map(|r| place(&run, r)).collect();
        assert_eq!(
            order.iter().copied().collect::<BTreeSet<_>>(),
            (0..5).collect()
        );
        let drawn: Vec<usize> = turns(&run.plan, round, 0).iter().map(|t| t.cell).collect();
        assert_eq!(order, drawn);
        orders.insert(order);
    }
    // 12 draws of 120: two alike happen in every other run, half of them alike in none.
    assert!(orders.len() > 6, "{orders:?}");

    let seeds: BTreeSet<u64> = executed.records.iter().map(|r| r.seed).collect();
    assert_eq!(seeds.len(), 60, "no two trials have one stream");
    for ((n, record), call) in (0u32..).zip(&executed.records).zip(&executed.calls) {
        assert_eq!((record.trial, record.status), (n, Status::Ok));
        assert_eq!(
            (call.cell, call.seed),
            (place(&run, record), record.seed),
            "the record says what the job was told"
        );
        assert_eq!((&record.run, &record.reason), (&run.id, &None));
    }
    let starts: Vec<f64> = executed.records.iter().map(|r| r.started_s).collect();
    assert!(starts.is_sorted(), "{starts:?}");
}

#[test]
fn the_order_follows_from_the_seed() {
    let order = |seed| {
        let run = run(4, 6, seed);
        made(&run, &whole(&run, |_, _| Ok(well())).records)
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    let run = run(4, 6, 1);
    assert_ne!(
        turns(&run.plan, 3, 0),
        turns(&run.plan, 3, 1),
        "a repeated round is drawn again"
    );
}

#[test]
fn the_observer_is_told_each_trial_and_how_many_there_are() {
    let run = run(2, 5, 3);
    let executed = whole(&run, |call, _| {
        Ok(if call.number == 2 { broken() } else { well() })
    });
    let mut expected: Vec<_> = (0..10).map(|n| (n, 10, n as u32 / 2)).collect();
    expected.extend([(10, 12, 1), (11, 12, 1)]);
    assert_eq!(executed.told.begun, expected);
    let cells: Vec<String> = executed.records.iter().map(|r| r.cell.clone()).collect();
    assert_eq!(executed.told.ended, cells);
}

#[test]
fn what_voids_a_round_is_repeated_once_at_the_end() {
    type Outcome = fn() -> Result<TrialResult, JobError>;
    let voiding: [(&str, Outcome, Status); 3] = [
        (
            "it could not be started",
            || Err(JobError::Failed("no connection".to_owned())),
            Status::Failed,
        ),
        ("it broke off", || Ok(broken()), Status::Failed),
        ("its proof contradicts", || Ok(strayed()), Status::Ok),
    ];
    for (why, outcome, status) in voiding {
        let run = run(3, 10, 11);
        // Trial 13 is the second of round 4.
        let executed = whole(&run, move |call, _| {
            if call.number == 13 {
                outcome()
            } else {
                Ok(well())
            }
        });
        assert_eq!(executed.records[13].status, status, "{why}");
        let made = made(&run, &executed.records);
        assert_eq!(made.len(), 33, "{why}");
        assert!(
            made[..30].iter().all(|(_, attempt, _)| *attempt == 0),
            "{why}"
        );
        let repeated: BTreeSet<_> = made[30..].iter().copied().collect();
        assert_eq!(
            repeated,
            [(4, 1, 0), (4, 1, 1), (4, 1, 2)].into(),
            "{why}: the whole round, as attempt 1"
        );
    }
}

#[test]
fn no_read_comes_behind_a_write_not_even_a_repeated_one() {
    let mut run = run(2, 10, 5);
    run.plan.cells[1].workload.op = Op::RandWrite;
    // The second read and, behind ten reads and the repeat, the second write.
    let executed = whole(&run, |call, _| {
        Ok(if [1, 12].contains(&call.number) {
            broken()
        } else {
            well()
        })
    });
    let expected: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|cell| {
            (0..10)
                .map(move |round| (round, 0, cell))
                .chain([(1, 1, cell)])
        })
        .collect();
    assert_eq!(made(&run, &executed.records), expected);
}

#[test]
fn a_repeat_that_fails_too_is_not_repeated() {
    let run = run(2, 5, 4);
    let executed = whole(&run, |call, _| {
        Ok(if call.number == 0 || call.number >= 10 {
            broken()
        } else {
            well()
        })
    });
    assert_eq!(executed.records.len(), 12);
    assert!(executed.records.iter().all(|r| r.attempt <= 1));
}

#[test]
fn a_skipped_cell_voids_nothing() {
    let run = run(2, 5, 4);
    let executed = whole(&run, |call, _| match call.cell {
        0 => Err(JobError::Skipped("this kernel has no io_uring".to_owned())),
        _ => Ok(well()),
    });
    assert_eq!(executed.records.len(), 10);
    for record in &executed.records {
        if place(&run, record) == 0 {
            assert_eq!(record.status, Status::Skipped);
            assert_eq!(
                record.reason.as_deref(),
                Some("this kernel has no io_uring")
            );
            assert!(record.result.is_none() && record.proof.is_none());
        } else {
            assert_eq!(record.status, Status::Ok);
        }
    }
}

#[test]
fn more_than_a_fifth_of_the_rounds_void_is_told_and_not_repeated() {
    let run = run(3, 10, 8);
    for (void, expected) in [
        (vec![9], vec![9]),
        (vec![2, 7], vec![2, 7]),
        (vec![0, 2, 7], vec![]),
        ((0..10).collect(), vec![]),
    ] {
        let failing = void.clone();
        let executed = whole(&run, move |call, _| {
            let round = u32::try_from(call.number / 3).expect("small");
            Ok(if failing.contains(&round) {
                broken()
            } else {
                well()
            })
        });
        assert_eq!(again(&run, &executed.records), expected, "void: {void:?}");
        assert_eq!(
            executed.records.len(),
            30 + 3 * expected.len(),
            "nothing is left out: {void:?}"
        );
    }
}

#[test]
fn a_failed_trial_keeps_what_it_measured() {
    let run = run(1, 2, 1);
    let executed = whole(&run, |call, _| match call.number {
        0 => Ok(broken()),
        _ => Err(JobError::Failed("cannot connect".to_owned())),
    });
    let [half, none] = &executed.records[..] else {
        panic!("two of two rounds are void: {}", executed.records.len());
    };
    assert_eq!(
        (half.status, half.reason.as_deref()),
        (Status::Failed, Some("3 operations failed"))
    );
    let told = well();
    assert_eq!(
        (&half.result, &half.proof, &half.cost),
        (&Some(told.measured), &Some(told.proof), &Some(told.cost))
    );
    assert_eq!(
        (none.status, none.reason.as_deref(), &none.result),
        (Status::Failed, Some("cannot connect"), &None)
    );
}

#[test]
fn an_interrupted_trial_counts_for_nothing_and_those_before_are_kept() {
    let run = run(3, 4, 5);
    let executed = go_on(&run, Vec::new(), None, |call: Call, _: &Trial<'_>| {
        if call.number == 7 {
            Err(JobError::Interrupted)
        } else {
            Ok(well())
        }
    });
    assert!(matches!(executed.ended, Ok(Ended::Interrupted)));
    assert_eq!((executed.records.len(), executed.calls.len()), (7, 8));

    let rest = go_on(&run, executed.records, None, |_, _| Ok(well()));
    assert!(matches!(rest.ended, Ok(Ended::Done)));
    let undisturbed = whole(&run, |_, _| Ok(well()));
    assert_eq!(made(&run, &rest.records), made(&run, &undisturbed.records));
}

/// A job during which the user presses Ctrl-C, too late for this trial.
struct Late<'a>(&'a AtomicBool);

impl Job for Late<'_> {
    fn run(&mut self, _: &Trial<'_>) -> Result<TrialResult, JobError> {
        self.0.store(true, Ordering::Relaxed);
        Ok(well())
    }
}

#[test]
fn nothing_begins_after_an_interruption() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let run = run(1, 4, 5);
    let (mut records, mut told) = (Vec::new(), Told::default());
    let mut jobs: Vec<Box<dyn Job>> = vec![Box::new(Late(&STOP))];
    for _ in 0..2 {
        let ended = execute(
            &run,
            &mut jobs,
            &mut AsItIs,
            &mut records,
            None,
            &STOP,
            &mut told,
        );
        assert!(matches!(ended, Ok(Ended::Interrupted)), "{ended:?}");
        assert_eq!((records.len(), told.begun.len()), (1, 1));
    }
}

#[test]
fn the_estimate_is_all_rounds_and_unknown_by_count() {
    let mut run = run(3, 4, 1);
    let windows = Nanos::from_millis(110) * 12;
    let told = estimate(&run.plan, &[]).expect("timed");
    assert!(
        told > windows && told < windows + Nanos::SECOND * 12,
        "{told}"
    );
    let workload = &mut run.plan.cells[1].workload;
    (workload.duration_ns, workload.ops) = (None, Some(1000));
    assert_eq!(estimate(&run.plan, &[]), None);
}
