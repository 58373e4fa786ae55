//! A run's folder, whole, cut off, or of somebody else.

mod support;

use std::fs::{self, File};
use std::path::Path;

use proptest::prelude::*;
use strata_record::{Record, Run, SCHEMA, StoreError, read_run, read_trials};
use support::{RUN, record, run};
use tempfile::TempDir;

/// A folder with these bytes as `name`.
fn folder(name: &str, bytes: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(name), bytes).expect("a file");
    folder
}

fn trials(bytes: impl AsRef<[u8]>) -> Result<(Vec<Record>, u64), StoreError> {
    read_trials(folder("trials.jsonl", bytes).path(), RUN)
}

fn run_of(bytes: impl AsRef<[u8]>) -> Result<Run, StoreError> {
    read_run(folder("run.json", bytes).path())
}

/// Two records that differ, and their lines.
fn two() -> (Vec<Record>, String) {
    let mut second = record();
    second.trial += 1;
    second.result = None;
    let records = vec![record(), second];
    let lines = records.iter().map(line).collect();
    (records, lines)
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).expect("JSON") + "\n"
}

/// That the file is foreign from this line on, that the error names file, line and next step, and that it says `why`.
#[track_caller]
fn assert_foreign<T: std::fmt::Debug>(found: Result<T, StoreError>, at: usize, because: &str) {
    let error = found.expect_err("a foreign file");
    let text = error.to_string();
    let StoreError::Foreign { path, line, why } = error else {
        panic!("expected a foreign file: {text}");
    };
    assert_eq!(line, at, "{text}");
    assert!(why.contains(because), "{text}");
    assert!(text.contains(&*path.to_string_lossy()), "{text}");
    assert!(text.contains("give the folder"), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn what_is_written_is_read_back() {
    let (records, lines) = two();
    let (found, bytes) = trials(&lines).expect("records");
    assert_eq!(found, records);
    assert_eq!(bytes, lines.len() as u64);
    let text = serde_json::to_string_pretty(&run()).expect("JSON");
    assert_eq!(run_of(text).expect("a run"), run());
}

#[test]
fn a_line_cut_off_is_dropped() {
    let (records, lines) = two();
    let whole = lines.len() as u64;
    for tail in [&b"{"[..], b"{\"schema\":1,\"ru", b"\xff\xfe", b"null"] {
        let cut = [lines.as_bytes(), tail].concat();
        let (found, bytes) = trials(cut).expect("whole lines");
        assert_eq!((&found, bytes), (&records, whole));
    }
}

#[test]
fn a_file_cut_off_anywhere_keeps_its_whole_lines() {
    let (records, lines) = two();
    let folder = folder("trials.jsonl", &lines);
    let file = File::options()
        .write(true)
        .open(folder.path().join("trials.jsonl"))
        .expect("the file");
    for length in (0..=lines.len()).rev() {
        file.set_len(length as u64).expect("cut");
        let kept = &lines.as_bytes()[..length];
        let whole = kept.iter().filter(|b| **b == b'\n').count();
        let ends = kept
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let (found, bytes) = read_trials(folder.path(), RUN).expect("whole lines");
        assert_eq!(found, records[..whole], "cut to {length} bytes");
        assert_eq!(bytes, ends as u64, "cut to {length} bytes");
    }
}

#[test]
fn a_run_cut_off_anywhere_is_foreign() {
    let text = serde_json::to_string_pretty(&run()).expect("JSON");
    for length in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
        assert_foreign(run_of(&text[..length]), 1, "EOF while parsing");
    }
}

#[test]
fn foreign_lines_are_told_with_their_number() {
    let good = line(&record());
    for (bad, because) in [
        ("not JSON", "expected"),
        ("null", "no schema number"),
        ("{}", "no schema number"),
        ("[1, 2]", "no schema number"),
        ("{\"schema\": \"1\"}", "no schema number"),
        ("{\"schema\": 1}", "missing field"),
        ("{\"schema\": 1} {\"schema\": 1}", "trailing characters"),
    ] {
        assert_foreign(trials(format!("{good}{bad}\n{good}")), 2, because);
    }
    let wrong_type = good.replacen("\"trial\":3", "\"trial\":\"3\"", 1);
    assert_ne!(wrong_type, good);
    assert_foreign(trials(wrong_type), 1, "invalid type");
}

#[test]
fn a_line_of_another_run_is_told() {
    let mut other = record();
    other.run = "20250101T000000Z-other".to_owned();
    let lines = line(&record()) + &line(&other);
    assert_foreign(
        trials(&lines),
        2,
        "it belongs to run 20250101T000000Z-other",
    );
}

#[test]
fn a_newer_schema_is_told() {
    let mut newer = serde_json::to_value(record()).expect("JSON");
    newer["schema"] = (SCHEMA + 1).into();
    // What else a newer one holds is not known, so it must not matter.
    newer["status"] = "undreamt".into();
    let found = [
        trials(format!("{}{newer}\n", line(&record()))).map(drop),
        run_of(newer.to_string()).map(drop),
    ];
    for found in found {
        let error = found.expect_err("a newer schema");
        assert!(matches!(error, StoreError::Newer { found: 2, .. }));
        let text = error.to_string();
        assert!(text.contains("schema 2, this version reads 1"), "{text}");
        assert!(text.contains("use a newer strata"), "{text}");
    }
}

#[test]
fn no_file_and_an_empty_one() {
    assert!(matches!(trials(""), Ok((records, 0)) if records.is_empty()));
    assert!(matches!(trials("\n\n"), Ok((records, 2)) if records.is_empty()));
    let empty = tempfile::tempdir().expect("a folder");
    assert!(matches!(read_trials(empty.path(), RUN), Ok((records, 0)) if records.is_empty()));

    assert_foreign(run_of(""), 1, "EOF");
    for absent in [empty.path(), Path::new("/nonexistent/run")] {
        let error = read_run(absent).expect_err("no run.json");
        assert!(matches!(error, StoreError::Read { .. }));
        let text = error.to_string();
        assert!(text.contains("run.json: No such file"), "{text}");
        assert!(text.contains("give the folder of a run"), "{text}");
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_told() {
    let above = tempfile::tempdir().expect("a folder");
    for name in ["run.json", "trials.jsonl"] {
        fs::create_dir(above.path().join(name)).expect("a folder");
    }
    assert!(matches!(
        read_run(above.path()),
        Err(StoreError::Read { .. })
    ));
    assert!(matches!(
        read_trials(above.path(), RUN),
        Err(StoreError::Read { .. })
    ));
}

#[test]
fn bytes_that_are_no_text_are_told() {
    let lines = [line(&record()).as_bytes(), b"\xff\xfe{}\n"].concat();
    assert_foreign(trials(lines), 2, "invalid utf-8");
    let error = run_of(b"\xff\xfe{}").expect_err("no text");
    assert!(matches!(error, StoreError::Read { .. }));
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = "[".repeat(100_000) + "\n";
    assert_foreign(trials(&deep), 1, "recursion limit");
    assert_foreign(run_of(&deep), 1, "recursion limit");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if let Ok((records, length)) = trials(&bytes) {
            // Bytes at random never are a record, so all whole lines were empty.
            prop_assert!(records.is_empty());
            prop_assert_eq!(length, whole as u64);
            prop_assert!(bytes[..whole].iter().all(|b| *b == b'\n'));
        }
        prop_assert!(run_of(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_never_panics(at: prop::sample::Index, byte: u8) {
        let (records, lines) = two();
        let mut bytes = lines.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((found, _)) = trials(&bytes) {
            // The record without the changed byte is whole, unless the newline at its end was changed.
            let first_ends = lines.find('\n').map_or(0, |end| end + 1);
            if at >= first_ends {
                prop_assert_eq!(&found[0], &records[0]);
            } else if found.len() == 2 {
                prop_assert_eq!(&found[1], &records[1]);
            }
        }
    }
}
