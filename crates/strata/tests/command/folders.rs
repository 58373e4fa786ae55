//! A run's folder: one run each, whatever is in it already, and nothing of it lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::support::{
    Running, done, drawn, fails, lines, records, scratch, short, slow_to_fill, strata, told, until,
};

fn into(output: &Path, words: &str) -> Command {
    let mut command = strata(short(words));
    command.arg("--output").arg(output);
    command
}

fn on(command: &[&str], folder: &Path) -> Command {
    let mut command = strata(command);
    command.arg(folder);
    command
}

fn resume(folder: &Path) -> Command {
    on(&["run", "--quiet", "--resume"], folder)
}

/// A finished run of two cells and two rounds.
fn finished() -> (TempDir, PathBuf) {
    let folder = scratch();
    let output = folder.path().join("run");
    done(into(
        &output,
        "block --quiet --engine psync --op randread,read --duration 20ms",
    ));
    assert_eq!(lines(&output), 4);
    (folder, output)
}

#[test]
fn what_is_no_run_is_named() {
    let folder = scratch();
    for command in [["report"].as_slice(), &["run", "--resume"]] {
        for path in [folder.path().join("nowhere"), folder.path().to_owned()] {
            let line = fails(
                on(command, &path),
                1,
                &["cannot read", "run.json", "give the folder of a run"],
            );
            assert_eq!(line.matches("No such file").count(), 1, "told once: {line}");
        }
    }
    assert!(
        !folder.path().join("trials.jsonl").exists(),
        "nothing is made there"
    );
    fs::write(folder.path().join("run.json"), "{\"schema\": 1").expect("written");
    for command in [["report"].as_slice(), &["run", "--resume"]] {
        fails(
            on(command, folder.path()),
            1,
            &["run.json is no file of a run", "give the folder"],
        );
    }
    fs::write(folder.path().join("run.json"), "{\"schema\": 99}").expect("written");
    fails(
        on(&["report"], folder.path()),
        1,
        &["schema 99", "use a newer strata"],
    );
}

#[test]
fn a_run_without_a_name_gets_a_folder_under_results() {
    let folder = scratch();
    let mut command = strata(short(
        "block --quiet --engine psync --size 1MiB --repeats 1",
    ));
    command.current_dir(folder.path());
    done(command);
    let results = fs::read_dir(folder.path().join("results")).expect("results");
    let runs: Vec<PathBuf> = results.flatten().map(|entry| entry.path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(
        runs[0].display().to_string().ends_with("Z-block"),
        "{runs:?}"
    );
    let mut left: Vec<String> = fs::read_dir(&runs[0])
        .expect("a run")
        .flatten()
        .map(|entry| entry.file_name().display().to_string())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["report.html", "report.md", "run.json", "trials.jsonl"]
    );
}

#[test]
fn a_finished_run_is_not_run_over() {
    let (_folder, output) = finished();
    let before = fs::read(output.join("trials.jsonl")).expect("records");
    for words in ["block", "tcp"] {
        fails(
            into(&output, words),
            2,
            &["holds a run already", "--resume", "another --output"],
        );
    }
    let quick = ["run", "quick", "--size", "1MiB", "--output"];
    fails(on(&quick, &output), 2, &["holds a run already"]);
    // To go on with it is to do nothing, well.
    done(resume(&output));
    assert_eq!(
        fs::read(output.join("trials.jsonl")).expect("records"),
        before
    );
    assert!(!output.join("target.dat").exists());
}

#[test]
fn records_without_their_run_are_not_run_over() {
    let (_folder, output) = finished();
    let before = fs::read(output.join("trials.jsonl")).expect("records");
    fs::remove_file(output.join("run.json")).expect("removed");
    fails(into(&output, "block"), 2, &["and no run"]);
    for name in ["report.md", "report.html"] {
        fs::remove_file(output.join(name)).expect("removed");
    }
    fails(into(&output, "block"), 2, &["holds a run already"]);
    assert_eq!(
        fs::read(output.join("trials.jsonl")).expect("records"),
        before
    );
}

#[test]
fn a_truncated_record_is_cut_off_and_made_again() {
    let (_folder, output) = finished();
    let path = output.join("trials.jsonl");
    let whole = fs::read(&path).expect("records");
    let made = drawn(&records(&output));
    fs::write(&path, &whole[..whole.len() - 20]).expect("cut");
    let ran = done(on(&["report", "--json"], &output));
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(document["records"].as_array().expect("records").len(), 3);
    done(resume(&output));
    assert_eq!(
        drawn(&records(&output)),
        made,
        "the lost trial is made again as it was drawn"
    );
}

#[test]
fn foreign_records_are_refused_and_left_alone() {
    let (_folder, output) = finished();
    let (_other, other) = finished();
    let path = output.join("trials.jsonl");
    let text = fs::read_to_string(&path).expect("records");
    let foreign = fs::read_to_string(other.join("trials.jsonl")).expect("records");
    let newer = text.replacen("\"schema\":1", "\"schema\":7", 1);
    assert_ne!(newer, text);
    let cases: [(Vec<u8>, &str); 5] = [
        (foreign.into(), "it belongs to run"),
        (newer.into(), "use a newer strata"),
        (format!("{text}hello\n").into(), "line 5"),
        ([b"\xff\xfe\n", text.as_bytes()].concat(), "line 1"),
        (format!("{{\"schema\":1}}\n{text}").into(), "line 1"),
    ];
    for (bytes, words) in cases {
        fs::write(&path, &bytes).expect("written");
        for command in [["report"].as_slice(), &["run", "--resume"]] {
            fails(on(command, &output), 1, &["trials.jsonl", words]);
        }
        assert!(
            fs::read(&path).expect("readable") == bytes,
            "{words}: left alone"
        );
    }
}

#[test]
fn a_run_goes_on_with_its_own_target_only() {
    let folder = scratch();
    let (output, target) = (folder.path().join("run"), folder.path().join("own.dat"));
    let mut command = into(&output, "block --quiet --size 1MiB --duration 20ms");
    command.arg("--target").arg(&target);
    done(command);
    let path = output.join("trials.jsonl");
    let first: String = fs::read_to_string(&path)
        .expect("records")
        .split_inclusive('\n')
        .take(1)
        .collect();
    fs::write(&path, first).expect("cut");
    // One that is gone is made again, and removed again.
    fs::remove_file(&target).expect("removed");
    done(resume(&output));
    assert_eq!((lines(&output), target.exists()), (2, false));
    fs::write(&target, vec![b'x'; 1000]).expect("written");
    fails(
        resume(&output),
        2,
        &["cannot go on with", "own.dat holds 1000B", "1MiB"],
    );
}

#[test]
fn nobody_else_gets_into_the_folder_of_a_run_under_way() {
    let folder = scratch();
    let output = folder.path().join("run");
    let mut first = Running::start(into(
        &output,
        "block --engine psync --repeats 1000 --size 1MiB",
    ));
    until("the first trial", || (lines(&output) > 0).then_some(()));
    fails(into(&output, "block"), 2, &["holds a run already"]);
    fails(
        resume(&output),
        1,
        &["another strata is writing", "wait for it"],
    );
    done(on(&["report", "--quiet"], &output));
    assert!(!first.has_ended(), "{}", first.said());
    kill(first.id(), Signal::SIGINT).expect("it runs");
    assert_eq!(first.end().status.code(), Some(130));
    assert!(
        records(&output).iter().all(|r| r["status"] == "ok"),
        "it was not disturbed"
    );
}

#[test]
fn nobody_else_gets_into_the_folder_of_a_run_that_fills_its_file() {
    let test = "nobody_else_gets_into_the_folder_of_a_run_that_fills_its_file";
    let Some((folder, size)) = slow_to_fill(test) else {
        return;
    };
    let output = folder.path().join("run");
    let mut first = Running::start(into(&output, &format!("block --size {size}")));
    until("the filling", || {
        output.join("target.dat.partial").exists().then_some(())
    });
    fails(
        into(&output, "block"),
        1,
        &["another strata is writing", "another --output"],
    );
    let mut same = into(&folder.path().join("other"), "block --quiet");
    same.arg("--target").arg(output.join("target.dat"));
    fails(same, 1, &["another strata is filling", "another --target"]);
    assert!(!first.has_ended(), "{}", first.said());
    kill(first.id(), Signal::SIGINT).expect("it runs");
    let ran = first.end();
    told(
        "filling",
        &ran,
        130,
        &["interrupted while filling", "removed"],
    );
    assert!(!output.exists(), "a run that never began leaves nothing");
}
