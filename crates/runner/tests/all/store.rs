//! A run's folder: one writer, whole files, nobody else's records.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use strata_record::{Record, Run, read_run, read_trials};
use strata_runner::{Claim, Store, StoreError};
use tempfile::TempDir;

use crate::support::run;

fn begun(run: &Run) -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Claim::new(folder.path())
        .and_then(|claim| claim.begin(run))
        .expect("begun");
    (folder, store)
}

fn record(run: &Run, trial: u32) -> Record {
    Record {
        trial,
        ..Record::new(&run.id, run.plan.cells[0].clone())
    }
}

/// That the error is told in one line that names the folder.
fn told<T>(found: Result<T, StoreError>, folder: &Path) -> StoreError {
    let Err(error) = found else {
        panic!("this ought to be refused");
    };
    let text = error.to_string();
    assert!(text.contains(&*folder.to_string_lossy()), "{text}");
    assert!(!text.contains('\n'), "{text}");
    error
}

#[test]
fn nobody_else_writes_to_a_run_that_is_open() {
    let run = run(1, 1, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let claim = Claim::new(folder.path()).expect("free");
    let second = told(Claim::new(folder.path()).map(drop), folder.path());
    assert!(matches!(second, StoreError::Locked(_)), "{second:?}");

    let mut store = claim.begin(&run).expect("begun");
    store.append(&record(&run, 0)).expect("written");
    let resumed = told(Store::resume(folder.path()).map(|_| ()), folder.path());
    assert!(matches!(resumed, StoreError::Locked(_)), "{resumed:?}");
    store.append(&record(&run, 1)).expect("still ours");

    drop(store);
    let (_, _, records) = Store::resume(folder.path()).expect("free again");
    assert_eq!(records.len(), 2);
}

#[test]
fn a_folder_that_holds_a_run_is_refused_and_left_alone() {
    let run = run(1, 1, 1);
    let (folder, mut store) = begun(&run);
    store.append(&record(&run, 0)).expect("written");
    drop(store);
    let refused = told(Claim::new(folder.path()).map(drop), folder.path());
    assert!(matches!(refused, StoreError::Taken { .. }), "{refused:?}");
    assert!(refused.to_string().contains("--resume"));

    // Records whose run.json is lost are somebody's measurements too.
    fs::remove_file(folder.path().join("run.json")).expect("removed");
    let refused = told(Claim::new(folder.path()).map(drop), folder.path());
    assert!(matches!(refused, StoreError::Taken { .. }), "{refused:?}");
    let (records, _) = read_trials(folder.path(), &run.id).expect("still there");
    assert_eq!(records.len(), 1);
}

#[test]
fn a_claim_without_a_run_leaves_nothing_of_its_own() {
    let parent = tempfile::tempdir().expect("a folder");
    let (above, beside) = (parent.path().join("a"), parent.path().join("a/other"));
    drop(Claim::new(&above.join("b/run")).expect("free"));
    assert!(!above.exists());
    let claim = Claim::new(&above.join("b/run")).expect("free");
    fs::create_dir(&beside).expect("by somebody");
    drop(claim);
    assert!(beside.exists() && !above.join("b").exists());
    let made = parent.path().join("run");
    drop(Claim::new(&made).expect("free"));
    assert!(!made.exists());
    fs::create_dir(&made).expect("made by somebody");
    drop(Claim::new(&made).expect("free"));
    assert_eq!(fs::read_dir(&made).expect("still there").count(), 0);
}

#[test]
fn a_folder_of_somebody_elses_is_refused_and_what_a_kill_leaves_is_not() {
    let run = run(1, 1, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let note = folder.path().join("note.txt");
    fs::write(&note, "mine").expect("a note");
    let refused = told(Claim::new(folder.path()).map(drop), folder.path());
    assert!(
        matches!(refused, StoreError::NotEmpty { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("note.txt"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);

    fs::remove_file(note).expect("removed");
    // Killed before the first record, while run.json was being written.
    fs::write(folder.path().join("trials.jsonl"), "").expect("empty");
    fs::write(folder.path().join("run.json.partial"), "{").expect("half");
    // Or while targets were being filled, a plan's too.
    for target in ["target.dat.partial", "target-12.dat.partial"] {
        fs::write(folder.path().join(target), "half").expect("half");
    }
    let store = Claim::new(folder.path()).and_then(|claim| claim.begin(&run));
    drop(store.expect("begun anew"));
    assert_eq!(read_run(folder.path()).expect("whole"), run);
}

/// A process that is killed runs no destructor.
fn killed(claim: Claim) {
    std::mem::forget(claim);
}

#[test]
fn a_target_that_was_finished_for_a_run_that_never_began_is_made_anew() {
    let run = run(1, 1, 1);
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("run");
    let at = |name: &str| folder.join(name);
    let names = || {
        let entries = fs::read_dir(&folder).expect("a folder").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    };
    let claim = Claim::new(&folder).expect("free");
    claim.makes("target.dat").expect("written");
    claim.makes("target-2.dat").expect("written");
    fs::write(at("target.dat"), "whole").expect("made");
    // The lock would go with the process.
    fs::remove_file(at("trials.jsonl")).expect("removed");
    killed(claim);

    // What was not said to be made is somebody's, whatever its name.
    fs::write(at("target-3.dat"), "mine").expect("written");
    let refused = told(Claim::new(&folder).map(drop), &folder);
    assert!(refused.to_string().contains("target-3.dat"), "{refused}");
    assert!(at("target.dat").exists(), "and nothing was touched");
    fs::remove_file(at("target-3.dat")).expect("removed");

    let claim = Claim::new(&folder).expect("what is there was the other claim's");
    assert_eq!(names(), ["target.dat.partial", "trials.jsonl"]);
    claim.makes("target.dat").expect("written");
    fs::rename(at("target.dat.partial"), at("target.dat")).expect("made");
    let store = claim.begin(&run).expect("begun");
    assert_eq!(names(), ["run.json", "target.dat", "trials.jsonl"]);
    drop(store);
    let (store, ..) = Store::resume(&folder).expect("a run like any other");
    drop(store);
    assert!(at("target.dat").exists(), "run.json says whose it is");
}

#[test]
fn a_claim_that_was_making_something_leaves_no_word_of_it() {
    let parent = tempfile::tempdir().expect("a folder");
    let made = parent.path().join("run");
    let claim = Claim::new(&made).expect("free");
    claim.makes("target.dat").expect("written");
    drop(claim);
    assert!(!made.exists());
}

/// Names in a file that anybody may have written do not reach out of the folder, or to what no command makes.
#[test]
fn a_list_of_what_is_made_names_targets_alone() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("run");
    fs::create_dir(&folder).expect("made");
    let letters = [parent.path().join("target.dat"), folder.join("letters")];
    for path in &letters {
        fs::write(path, "mine").expect("written");
    }
    fs::write(
        folder.join("making.txt"),
        "../target.dat\nletters\n\u{fffd}\n",
    )
    .expect("written");
    let refused = told(Claim::new(&folder).map(drop), &folder);
    assert!(refused.to_string().contains("letters"), "{refused}");
    fs::rename(&letters[1], parent.path().join("letters")).expect("moved");
    drop(Claim::new(&folder).expect("free"));
    assert!(letters[0].exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let parent = tempfile::tempdir().expect("a folder");
    let file = parent.path().join("file");
    fs::write(&file, "no folder").expect("a file");
    let below = file.join("run");
    let refused = told(Claim::new(&below).map(drop), &below);
    assert!(matches!(refused, StoreError::System { .. }), "{refused:?}");
    assert!(refused.to_string().contains("--output"), "{refused}");
}

#[test]
fn a_record_is_readable_as_soon_as_it_is_appended() {
    let run = run(1, 1, 1);
    let (folder, mut store) = begun(&run);
    assert_eq!(read_run(folder.path()).expect("written first"), run);
    for n in 0..5 {
        store.append(&record(&run, n)).expect("written");
        let (records, bytes) = read_trials(folder.path(), &run.id).expect("whole");
        assert_eq!(
            records,
            (0..=n).map(|n| record(&run, n)).collect::<Vec<_>>()
        );
        let length = fs::metadata(folder.path().join("trials.jsonl")).expect("a file");
        assert_eq!(bytes, length.len());
    }
}

#[test]
fn foreign_lines_are_refused_and_left_as_they_are() {
    let run = run(1, 1, 1);
    let (folder, mut store) = begun(&run);
    store.append(&record(&run, 0)).expect("written");
    drop(store);
    let path = folder.path().join("trials.jsonl");
    let ours = fs::read(&path).expect("a record");
    let mut other = record(&run, 1);
    other.run = "20250101T000000Z-other".to_owned();
    let mut other = serde_json::to_vec(&other).expect("JSON");
    other.push(b'\n');
    for foreign in [
        &b"not JSON at all\n"[..],
        b"{\"schema\":1}\n",
        b"[1,2,3]\n",
        b"\xff\xfe\n",
        &other,
    ] {
        let bytes = [&ours[..], foreign].concat();
        fs::write(&path, &bytes).expect("written");
        let refused = told(Store::resume(folder.path()).map(|_| ()), folder.path());
        assert!(matches!(refused, StoreError::Unreadable(_)), "{refused:?}");
        assert!(refused.to_string().contains("line 2"), "{refused}");
        assert_eq!(fs::read(&path).expect("still there"), bytes);
    }
}

#[test]
fn a_folder_without_a_run_is_not_resumed_and_nothing_is_made_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = told(Store::resume(folder.path()).map(|_| ()), folder.path());
    assert!(refused.to_string().contains("run.json"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_file_is_put_as_a_whole_or_not_at_all() {
    let run = run(1, 1, 1);
    let (folder, store) = begun(&run);
    let path = folder.path().join("report.md");
    let texts = [vec![b'a'; 300_000], vec![b'b'; 200_000]];
    store.put("report.md", &texts[0]).expect("put");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0u32;
            while !over.load(Ordering::Relaxed) || seen == 0 {
                let found = fs::read(&path).expect("there at every moment");
                assert!(texts.contains(&found), "{} bytes", found.len());
                seen += 1;
            }
        });
        for n in 0..20 {
            store.put("report.md", &texts[n % 2]).expect("put");
        }
        over.store(true, Ordering::Relaxed);
        reader.join().expect("only whole files were seen");
    });
    assert!(!folder.path().join("report.md.partial").exists());

    // What cannot be written leaves the old one.
    fs::create_dir(folder.path().join("report.md.partial")).expect("in the way");
    let refused = told(store.put("report.md", b"new"), folder.path());
    assert!(matches!(refused, StoreError::System { .. }), "{refused:?}");
    assert_eq!(fs::read(&path).expect("the old one"), texts[1]);
}
