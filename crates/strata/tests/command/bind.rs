//! `strata bind`, `unbind` and `restore` where there is no drive for it: what they say, how they end, and what the journal keeps.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::permission::{User, mode};
use crate::support::{done, fails, not_understood, root_or_skip, run, strata};

/// No machine has this function.
const NOWHERE: &str = "fffffffe:ff:1f.7";

/// A private folder.
fn journal() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    mode(folder.path(), 0o700);
    folder
}

/// The command with its journal there.
fn with(journal: &Path, words: &str) -> Command {
    let mut command = strata(words.split_whitespace());
    command.env("STRATA_JOURNAL", journal);
    command
}

/// This machine's boot.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("/proc");
    id.trim().to_owned()
}

/// An entry by a process of that number and start, in that boot, of a function that is nowhere.
fn entry(pid: u32, started: u64, boot: &str) -> Value {
    let binding = |driver: &str| json!({"driver": driver, "driver_override": null});
    json!({
        "format": 1, "boot_id": boot, "process": {"pid": pid, "started_ticks": started},
        "at": "2026-01-02T03:04:05Z", "what_for": "strata bind it",
        "changes": [{"what": "driver", "function": NOWHERE, "before": binding("nvme"), "after": binding("vfio-pci"), "devices": []}],
    })
}

fn put(journal: &Path, text: &str) {
    fs::write(journal.join("1.json"), text).expect("written");
}

fn entries(journal: &Path) -> usize {
    let all = fs::read_dir(journal).expect("there").flatten();
    all.filter(|file| file.path().extension().is_some_and(|of| of == "json"))
        .count()
}

#[test]
fn without_a_journal_nothing_is_changed() {
    let folder = journal();
    let absent = folder.path().join("absent");
    let ran = done(with(&absent, "restore"));
    assert_eq!(ran.out, "Nothing of this host is changed by strata.\n");
    assert_eq!(ran.err, "");
    assert_eq!(done(with(&absent, "restore --quiet")).out, "");
    let document: Value =
        serde_json::from_str(&done(with(&absent, "restore --json")).out).expect("one document");
    assert_eq!(document, json!({"schema": 1, "done": true, "entries": []}));
    assert!(!absent.exists(), "it is made when something is changed");
    assert_eq!(done(with(folder.path(), "restore --force")).err, "");
}

#[test]
fn what_is_nowhere_is_not_bound() {
    let folder = journal();
    for words in [
        "bind",
        "bind --dry-run --json",
        "bind --serial S0 --whole-group",
        "unbind",
    ] {
        let command = with(folder.path(), &format!("{words} {NOWHERE}"));
        fails(
            command,
            2,
            &["there is no PCI function", NOWHERE, "strata nvme list"],
        );
    }
    assert_eq!(entries(folder.path()), 0);
    for words in [
        "bind",
        "unbind",
        "bind --force 81:00.0",
        "restore 81:00.0",
        "bind a b",
    ] {
        not_understood(with(folder.path(), words), &[]);
    }
    let mut command = with(folder.path(), "unbind");
    command.arg("");
    not_understood(command, &["BDF"]);
}

#[test]
fn what_is_no_drive_is_not_bound() {
    let test = "what_is_no_drive_is_not_bound";
    let Some((function, driver)) = no_drive() else {
        println!("SKIP {test}: this machine has no PCI functions but drives");
        return;
    };
    let folder = journal();
    let at = folder.path();
    let expected = [&function, "is neither an NVMe controller"];
    let ran = run(with(at, &format!("bind {function} --serial S0")));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    for word in expected {
        assert!(ran.err.contains(word), "{}", ran.err);
    }
    fails(
        with(at, &format!("unbind {function} --quiet")),
        1,
        &expected,
    );
    let ran = run(with(at, &format!("unbind {function} --json")));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(
        (
            &document["function"],
            &document["done"],
            &document["entries"]
        ),
        (&json!(function), &json!(false), &json!([]))
    );
    let named = driver.as_ref().map(|of| of.to_string_lossy());
    assert_eq!(document["driver"], json!(named));
    let refusals = document["refusals"].as_array().expect("a list");
    assert!(
        refusals.len() == 1
            && refusals[0]
                .as_str()
                .is_some_and(|why| why.contains(expected[1])),
        "{document}"
    );
    let ran = run(with(at, &format!("bind {function} --dry-run")));
    assert_eq!(ran.status.code(), Some(3), "{}", ran.err);
    assert!(
        ran.out.contains("Against it:") && ran.out.contains(expected[1]),
        "{}",
        ran.out
    );
    let ran = run(with(at, &format!("bind {function} --dry-run --json")));
    assert_eq!((ran.status.code(), ran.err.as_str()), (Some(3), ""));
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(document["function"], function);
    assert_eq!(document["bound"], false);
    assert_eq!(document["refusals"].as_array().expect("a list").len(), 1);
    assert_eq!(entries(at), 0, "nothing was to be written down");
    assert_eq!(driver_of(&function), driver);
}

/// A PCI function that is no drive, and its driver.
fn no_drive() -> Option<(String, Option<std::ffi::OsString>)> {
    let all = fs::read_dir("/sys/bus/pci/devices").ok()?.flatten();
    let mut names = all.filter_map(|entry| entry.file_name().into_string().ok());
    let name = names.find(|name| {
        let class = fs::read_to_string(format!("/sys/bus/pci/devices/{name}/class"));
        class.is_ok_and(|class| !class.starts_with("0x01"))
    })?;
    let driver = driver_of(&name);
    Some((name, driver))
}

fn driver_of(function: &str) -> Option<std::ffi::OsString> {
    let link = fs::read_link(format!("/sys/bus/pci/devices/{function}/driver")).ok()?;
    link.file_name().map(ToOwned::to_owned)
}

#[test]
fn an_entry_of_a_process_that_ended_is_undone_and_goes() {
    let folder = journal();
    // Its function has gone since, and so has all that was changed of it.
    put(folder.path(), &entry(u32::MAX - 1, 1, &boot()).to_string());
    let ran = done(with(folder.path(), "restore --json"));
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(document["done"], true);
    let told = &document["entries"][0];
    assert_eq!(
        (&told["what_for"], &told["outcome"]),
        (&json!("strata bind it"), &json!("undone"))
    );
    assert_eq!(told["changes"][0]["outcome"], "gone");
    assert_eq!(told["changes"][0]["change"]["function"], NOWHERE);
    assert_eq!(entries(folder.path()), 0);
    put(folder.path(), &entry(u32::MAX - 1, 1, &boot()).to_string());
    let ran = done(with(folder.path(), "restore"));
    assert!(
        ran.out
            .contains("strata bind it, process 4294967294, 2026-01-02T03:04:05Z"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("gone from the host"), "{}", ran.out);
}

#[test]
fn an_entry_of_another_boot_is_told_and_dropped() {
    let folder = journal();
    put(
        folder.path(),
        &entry(1, 1, "00000000-0000-0000-0000-000000000000").to_string(),
    );
    let ran = done(with(folder.path(), "restore"));
    assert!(
        ran.out.contains("before the last boot") && ran.out.contains("dropped"),
        "{}",
        ran.out
    );
    assert_eq!(entries(folder.path()), 0);
}

#[test]
fn what_a_running_process_changed_is_left_unless_forced() {
    let folder = journal();
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    let started = fields[19].parse().expect("a number");
    put(
        folder.path(),
        &entry(std::process::id(), started, &boot()).to_string(),
    );
    let ran = run(with(folder.path(), "restore"));
    assert_eq!(ran.status.code(), Some(3), "{}", ran.err);
    assert!(
        ran.out.contains("still runs") && ran.out.contains("`strata restore --force`"),
        "{}",
        ran.out
    );
    let ran = run(with(folder.path(), "restore --quiet"));
    assert_eq!((ran.status.code(), ran.out.as_str()), (Some(3), ""));
    assert!(ran.err.contains("still runs"), "{}", ran.err);
    assert_eq!(entries(folder.path()), 1);
    done(with(folder.path(), "restore --force"));
    assert_eq!(entries(folder.path()), 0);
}

#[test]
fn entries_that_cannot_be_understood_are_told() {
    let folder = journal();
    let whole = entry(1, 1, &boot()).to_string();
    for (text, expected) in [
        (&whole[..whole.len() / 2], "it is no JSON"),
        ("", "it is empty"),
        ("{\"format\":\"x\"}", "it tells no format"),
    ] {
        put(folder.path(), text);
        let ran = run(with(folder.path(), "restore"));
        assert_eq!(ran.status.code(), Some(3), "{expected}: {}", ran.err);
        for word in [expected, "1.json", "`strata restore --force` removes it"] {
            assert!(ran.out.contains(word), "{word:?} is not in {}", ran.out);
        }
        assert_eq!(entries(folder.path()), 1);
        let ran = done(with(folder.path(), "restore --force"));
        assert!(ran.out.contains("was removed"), "{}", ran.out);
        assert_eq!(entries(folder.path()), 0);
    }
    put(folder.path(), "{\"format\": 2}");
    for words in ["restore", "restore --force"] {
        let ran = run(with(folder.path(), words));
        assert_eq!(ran.status.code(), Some(3), "{}", ran.err);
        assert!(ran.out.contains("of format 2") && ran.out.contains("the version that wrote it"));
    }
    assert_eq!(entries(folder.path()), 1);
}

#[test]
fn a_journal_that_others_may_write_is_not_used() {
    let folder = journal();
    put(folder.path(), &entry(u32::MAX - 1, 1, &boot()).to_string());
    mode(folder.path(), 0o750);
    fails(
        with(folder.path(), "restore"),
        1,
        &["its mode is 0750", "mode 0700"],
    );
    mode(folder.path(), 0o700);
    let file = folder.path().join("1.json");
    fails(with(&file, "restore"), 1, &["it is no folder"]);
    assert_eq!(entries(folder.path()), 1);
}

#[test]
fn an_ordinary_user_cannot_undo_what_root_changed() {
    let test = "an_ordinary_user_cannot_undo_what_root_changed";
    if !root_or_skip(test) {
        return;
    }
    let Some(user) = User::new(test) else {
        return;
    };
    let place = user.path("journal");
    fs::create_dir(&place).expect("made");
    mode(&place, 0o700);
    put(&place, &entry(u32::MAX - 1, 1, &boot()).to_string());
    let mut command = user.strata(&["restore".to_owned()]);
    command.env("STRATA_JOURNAL", &place);
    fails(command, 1, &["is not used", "it belongs to user 0"]);
    assert_eq!(entries(&place), 1);
}
