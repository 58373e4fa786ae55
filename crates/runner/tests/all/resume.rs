//! A run that was killed at any moment goes on with exactly the trials that are missing.

use std::fs;

use strata_measure::{JobError, TrialResult};
use strata_record::{Record, Run, read_trials};
use strata_runner::{Claim, Ended, Store, turns};

use crate::support::{Call, broken, go_on, run, well};

/// Everything of a record that the plan alone decides.
fn decided(records: &[Record]) -> Vec<(u32, u32, u32, String, u64)> {
    records
        .iter()
        .map(|r| (r.trial, r.round, r.attempt, r.cell.clone(), r.seed))
        .collect()
}

/// One trial of round 2 fails, so that there is a repeated round to be resumed too. It hangs on the seed, not on how many
/// trials this process has made.
fn answers(run: &Run) -> impl Fn(Call) -> Result<TrialResult, JobError> + Clone + 'static {
    let failing = turns(&run.plan, 2, 0)[1].seed;
    move |call| {
        Ok(if call.seed == failing {
            broken()
        } else {
            well()
        })
    }
}

#[test]
fn a_run_killed_at_any_byte_goes_on_where_it_was() {
    let run = run(3, 5, 42);
    let answer = answers(&run);
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Claim::new(folder.path())
        .and_then(|claim| claim.begin(&run))
        .expect("begun");
    let whole = go_on(&run, Vec::new(), Some(&mut store), {
        let answer = answer.clone();
        move |call, _| answer(call)
    });
    drop(store);
    assert!(matches!(whole.ended, Ok(Ended::Done)));
    assert_eq!(whole.records.len(), 18, "five rounds and one again");
    let path = folder.path().join("trials.jsonl");
    let bytes = fs::read(&path).expect("records");

    let mut borders = vec![0];
    borders.extend((1..=bytes.len()).filter(|at| bytes[at - 1] == b'\n'));
    assert_eq!(borders.len(), 19);
    for (kept, border) in borders.iter().enumerate() {
        // At the border, after one byte of the next line, in its middle, and all of it but the newline.
        let next = borders.get(kept + 1).map_or(0, |next| next - border);
        for more in [0, 1, next / 2, next.saturating_sub(1)] {
            if more > 0 && more >= next {
                continue;
            }
            fs::write(&path, &bytes[..border + more]).expect("cut");
            let (mut store, read, records) = Store::resume(folder.path()).expect("resumed");
            assert_eq!(read, run, "the plan is frozen");
            assert_eq!(records, whole.records[..kept], "cut {more} bytes after it");
            let rest = go_on(&read, records, Some(&mut store), {
                let answer = answer.clone();
                move |call, _| answer(call)
            });
            assert!(matches!(rest.ended, Ok(Ended::Done)), "{:?}", rest.ended);
            assert_eq!(decided(&rest.records), decided(&whole.records));
            let missing: Vec<u64> = whole.records[kept..].iter().map(|r| r.seed).collect();
            let asked: Vec<u64> = rest.calls.iter().map(|call| call.seed).collect();
            assert_eq!(asked, missing, "exactly those that are missing");
            let (stored, length) = read_trials(folder.path(), &run.id).expect("a whole file");
            assert_eq!(stored, rest.records);
            assert_eq!(length, fs::metadata(&path).expect("a file").len());
        }
    }
}

#[test]
fn a_finished_run_has_nothing_to_go_on_with() {
    let run = run(2, 6, 3);
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Claim::new(folder.path())
        .and_then(|claim| claim.begin(&run))
        .expect("begun");
    let first = go_on(&run, Vec::new(), Some(&mut store), |_, _| Ok(well()));
    drop(store);
    let before = fs::read(folder.path().join("trials.jsonl")).expect("records");
    let (mut store, read, records) = Store::resume(folder.path()).expect("resumed");
    let again = go_on(&read, records, Some(&mut store), |_, _| Ok(broken()));
    assert!(matches!(again.ended, Ok(Ended::Done)));
    assert_eq!((again.records, again.calls.len()), (first.records, 0));
    let after = fs::read(folder.path().join("trials.jsonl")).expect("records");
    assert_eq!(before, after);
}
