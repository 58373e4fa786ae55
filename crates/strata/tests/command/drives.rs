//! Drives: read by everybody who may, written only by whoever names the one that may be lost.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::loops::Loop;
use crate::support::{Running, done, fails, json, records, run, scratch, strata, told, until};

const SIZE: u64 = 4 << 20;

/// `strata block` on `target`; the drive's own size, since it is not a file that is made.
fn on(target: &Path, words: &str, output: &Path) -> Command {
    let mut command = strata(["block", "--ramp", "0s", "--repeats", "2"]);
    if !words.contains("--duration") && !words.contains("--ops") {
        command.args(["--duration", "100ms"]);
    }
    if !words.contains("--engine") {
        command.args(["--engine", "psync"]);
    }
    command.args(words.split_whitespace());
    command.arg("--target").arg(target);
    command.arg("--output").arg(output);
    command
}

fn warned(record: &Value, code: &str) -> bool {
    let warnings = record["warnings"].as_array().expect("warnings");
    warnings.iter().any(|w| w["code"] == code)
}

#[test]
fn a_drive_is_read_and_one_never_written_is_left_out() {
    let test = "a_drive_is_read_and_one_never_written_is_left_out";
    let Some(drive) = Loop::sparse(test, SIZE, &[]) else {
        return;
    };
    let output = drive.beside("sparse");
    let ran = done(on(&drive.device, "--json", &output));
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    let found = records(&output);
    assert_eq!(found.len(), 2);
    for record in &found {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["target"]["kind"], "drive");
        assert_eq!(record["target"]["region_bytes"], SIZE);
        let name = drive.device.file_name().and_then(|n| n.to_str());
        let identity = record["target"]["identity"].as_str().expect("text");
        assert!(identity.contains(name.expect("a name")), "{identity}");
        assert!(warned(record, "unwritten"), "{record}");
    }
    let summary = document["summary"].as_array().expect("lines");
    assert!(
        summary.iter().all(|line| line["rounds"] == 0),
        "{summary:?}"
    );

    drive.fill(SIZE);
    let output = drive.beside("written");
    let part = "--json --size 1MiB --offset 2MiB";
    let ran = done(on(&drive.device, part, &output));
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    for record in records(&output) {
        assert!(!warned(&record, "unwritten"), "{record}");
        assert_eq!(record["target"]["region_from_bytes"], 2 << 20);
        assert_eq!(record["target"]["region_bytes"], 1 << 20);
    }
    assert!(document["summary"][0]["rounds"].as_u64() > Some(0));
    let refused = |words: &str, expected: &[&str]| {
        fails(on(&drive.device, words, &drive.beside("no")), 2, expected);
        assert!(!drive.beside("no").exists());
    };
    refused(
        "--size 2MiB --offset 3MiB",
        &["holds 1MiB behind --offset 3MiB", "2MiB are asked for"],
    );
    refused("--offset 8MiB", &["holds 0B behind --offset 8MiB"]);
    refused("--offset 1000", &["--offset of 1000B", "4KiB"]);
}

#[test]
fn a_drive_is_written_only_when_it_is_named() {
    let test = "a_drive_is_written_only_when_it_is_named";
    let Some(drive) = Loop::written(test, SIZE) else {
        return;
    };
    let before = fs::read(&drive.image).expect("readable");
    let output = drive.beside("run");
    for op in ["randwrite", "write", "randrw:99"] {
        let words = format!("--op {op}");
        fails(
            on(&drive.device, &words, &output),
            2,
            &[drive.path(), "destroys what it holds", "--destroy"],
        );
    }
    fails(
        on(&drive.device, "--precondition", &output),
        2,
        &["destroys what it holds", "--destroy"],
    );
    for typed in ["other", drive.path(), ""] {
        let mut command = on(&drive.device, "--op randwrite", &output);
        command.arg("--destroy").arg(typed);
        let code = run(command).status.code();
        assert!(matches!(code, Some(1 | 2)), "{typed:?}: {code:?}");
    }
    let mut command = on(&drive.device, "--op randwrite", &output);
    command.args(["--destroy", "other"]);
    fails(
        command,
        1,
        &[drive.path(), "\"other\" is not loop", "the file behind it"],
    );
    assert!(!output.exists(), "a run that never began leaves no folder");
    assert_eq!(fs::read(&drive.image).expect("readable"), before);
    // Reading needs no leave, and takes none.
    let mut command = on(&drive.device, "--quiet", &drive.beside("read"));
    command.args(["--destroy", drive.identity()]);
    done(command);
    assert_eq!(fs::read(&drive.image).expect("readable"), before);

    let words =
        "--quiet --op randwrite --bs 64KiB --random-map --ops 8 --size 512KiB --offset 1MiB";
    let mut command = on(&drive.device, words, &output);
    command.args(["--destroy", drive.identity()]);
    done(command);
    assert!(records(&output).iter().all(|r| r["status"] == "ok"));
    let after = fs::read(&drive.image).expect("readable");
    let (from, to) = (1 << 20, (1 << 20) + (512 << 10));
    assert_eq!(after[..from], before[..from]);
    assert_eq!(after[to..], before[to..]);
    let block = 64 << 10;
    for at in (from..to).step_by(block) {
        assert_ne!(after[at..at + block], before[at..at + block], "{at}");
    }
}

#[test]
fn what_a_drive_holds_is_named_and_kept() {
    let test = "what_a_drive_holds_is_named_and_kept";
    for (line, named) in [
        ("mkfs.ext4 -q $IMG", "ext4"),
        ("mkswap $IMG", "swap"),
        ("sgdisk -n 1:0:0 $IMG", "GPT"),
        ("echo 'start=2048' | sfdisk -q $IMG", "partition table"),
        ("pvcreate -qq -y $IMG", "LVM"),
    ] {
        let Some(mut drive) = Loop::sparse(test, 16 << 20, &[]) else {
            return;
        };
        if !drive.shell(test, line) {
            continue;
        }
        let output = drive.beside("run");
        let write = |expected: &[&str]| {
            let before = fs::read(&drive.image).expect("readable");
            let mut command = on(&drive.device, "--op write", &output);
            command.args(["--destroy", drive.identity()]);
            fails(command, 1, expected);
            assert!(!output.exists());
            assert!(
                fs::read(&drive.image).expect("readable") == before,
                "{line}"
            );
        };
        write(&[drive.path(), "is left alone: ", named]);
        if named == "ext4" && drive.mount(test) {
            let output = drive.beside("run");
            let mut command = on(&drive.device, "--op write", &output);
            command.args(["--destroy", drive.identity()]);
            fails(command, 1, &["is mounted at", "unmount it first", "ext4"]);
            assert!(!output.exists());
        }
    }
}

#[test]
fn a_drive_that_is_pulled_fails_its_trials_and_keeps_their_records() {
    let test = "a_drive_that_is_pulled_fails_its_trials_and_keeps_their_records";
    let Some(drive) = Loop::written(test, SIZE) else {
        return;
    };
    for (n, shape) in [
        "--engine psync",
        "--engine libaio --depth 32",
        "--engine libaio --depth 4 --op randwrite --rate 50",
    ]
    .into_iter()
    .enumerate()
    {
        drive.fill(SIZE);
        let output = drive.beside(&n.to_string());
        let mut command = on(&drive.device, &format!("{shape} --duration 4s"), &output);
        if shape.contains("randwrite") {
            command.args(["--destroy", drive.identity()]);
        }
        let run = Running::start(command);
        until("the run's folder", || {
            output.join("run.json").exists().then_some(())
        });
        // Its window is open by then, or it opens on what is gone; either way it ends.
        thread::sleep(Duration::from_millis(500));
        drive.pull();
        let ran = run.end();
        assert_eq!(ran.status.code(), Some(1), "{shape}: {}", ran.err);
        let why = ran.err.lines().last().unwrap_or_default();
        assert!(
            why.contains("operations failed") && why.contains("shorter"),
            "{shape}: {}",
            ran.err
        );
        let kept = records(&output);
        assert!(!kept.is_empty(), "{shape}");
        let last = kept.last().expect("one at least");
        assert_eq!(last["status"], "failed", "{shape}: {last}");
        assert!(last["reason"].as_str().is_some_and(|r| !r.is_empty()));
        assert!(output.join("report.md").exists());
    }
}

#[test]
fn blocks_larger_than_512_bytes_are_asked_for_whole() {
    let test = "blocks_larger_than_512_bytes_are_asked_for_whole";
    let Some(drive) = Loop::sparse(test, SIZE, &["--sector-size", "4096"]) else {
        return;
    };
    drive.fill(SIZE);
    for bs in ["512", "4608"] {
        let words = format!("--bs {bs}");
        fails(
            on(&drive.device, &words, &drive.beside("no")),
            2,
            &[drive.path(), "has blocks of 4KiB", "--bs of"],
        );
    }
    // What is left over of a size is not used.
    let output = drive.beside("run");
    done(on(&drive.device, "--quiet --size 10000", &output));
    assert_eq!(records(&output)[0]["target"]["region_bytes"], 8192);
}

#[test]
fn what_is_neither_file_nor_drive_is_refused_with_what_could_be_named() {
    let folder = scratch();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let output = folder.path().join("run");
    let inside = |path: &Path| path.join("strata.dat").display().to_string();
    for path in [Path::new("/dev/null"), &socket, &pipe] {
        let line = fails(
            on(path, "", &output),
            2,
            &["neither a regular file nor a drive", "name a file, such as"],
        );
        assert!(!line.contains(&inside(path)), "nothing lies in it: {line}");
    }
    fails(
        on(folder.path(), "", &output),
        2,
        &["is a folder", &inside(folder.path())],
    );
    assert!(!output.exists());
}

#[test]
fn preconditioning_is_told_first_and_makes_the_region_ours() {
    let test = "preconditioning_is_told_first_and_makes_the_region_ours";
    let Some(drive) = Loop::sparse(test, SIZE, &[]) else {
        return;
    };
    let output = drive.beside("run");
    let words = "--precondition --op randread,randwrite --duration 50ms";
    let mut command = on(&drive.device, words, &output);
    command.args(["--destroy", drive.identity()]);
    let ran = done(command);
    let said: Vec<&str> = ran
        .err
        .lines()
        .filter_map(|l| l.strip_prefix("strata: preconditioning"))
        .collect();
    let first = said.first().copied().unwrap_or_default();
    for word in ["writes 8MiB in sequence", "about", "5 to 25 rounds"] {
        assert!(first.contains(word), "no {word:?} in {first:?}");
    }
    assert!(said[1].contains("pass 1 of 2"), "{said:?}");
    let kept = json(&output.join("run.json"));
    let [told] = kept["preconditioning"]
        .as_array()
        .expect("it is kept")
        .as_slice()
    else {
        panic!("{kept}");
    };
    assert_eq!(told["via"], drive.path());
    assert!(told["bytes"].as_u64() >= Some(2 * SIZE), "{told}");
    let rounds = told["rounds_ops_per_s"].as_array().expect("rounds").len();
    assert!((5..=25).contains(&rounds), "{told}");
    assert!(rounds == 25 || told["steady"] == true, "{told}");
    for record in records(&output) {
        assert!(!warned(&record, "unwritten"), "{record}");
    }
    let ran = done({
        let mut command = strata(["verify", "--json", "--target"]);
        command.arg(&drive.device);
        command
    });
    let found: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(
        (&found["sectors"], &found["wrong_sectors"]),
        (&(SIZE / 512).into(), &0.into())
    );
    // Its reads can be checked from now on.
    done(on(
        &drive.device,
        "--quiet --verify",
        &drive.beside("again"),
    ));
}

#[test]
fn ctrl_c_while_a_drive_is_preconditioned_leaves_no_run() {
    let test = "ctrl_c_while_a_drive_is_preconditioned_leaves_no_run";
    let Some(drive) = Loop::sparse(test, SIZE, &[]) else {
        return;
    };
    let output = drive.beside("run");
    let words = "--precondition --op randwrite --duration 60s";
    let mut command = on(&drive.device, words, &output);
    command.args(["--destroy", drive.identity()]);
    let mut run = Running::start(command);
    until("its first pass", || {
        run.said().contains("pass 1 of").then_some(())
    });
    kill(run.id(), Signal::SIGINT).expect("it runs");
    told("preconditioning", &run.end(), 130, &["interrupted"]);
    assert!(!output.exists(), "nothing was measured");
}

/// Two tables of a plan write one drive: the run holds it once, and does not stand in its own way.
#[test]
fn two_tables_of_a_plan_may_write_one_drive() {
    let test = "two_tables_of_a_plan_may_write_one_drive";
    let Some(drive) = Loop::written(test, SIZE) else {
        return;
    };
    let plan = drive.beside("two.toml");
    let table = |engine: &str, typed: &str| {
        format!(
            "[[block]]\ntarget = {:?}\nengine = \"{engine}\"\nop = \"randwrite\"\nduration = \"50ms\"\nramp = \"0s\"\ndestroy = {typed:?}\n",
            drive.path(),
        )
    };
    let go = |second: &str, output: &Path| {
        let head = "name = \"two\"\nrounds = 1\n";
        let text = format!(
            "{head}{}{}",
            table("psync", drive.identity()),
            table("libaio", second)
        );
        fs::write(&plan, text).expect("written");
        let mut command = strata(["run", "--quiet"]);
        command.arg(&plan).arg("--output").arg(output);
        command
    };
    let output = drive.beside("run");
    done(go(drive.identity(), &output));
    assert_eq!(records(&output).len(), 2);
    let refused = go("other", &drive.beside("no"));
    fails(
        refused,
        1,
        &["two.toml: [[block]] number 2", "\"other\" is not"],
    );
    assert!(!drive.beside("no").exists());
    // The leave is given anew when the run goes on.
    let mut resume = strata(["run", "--quiet", "--resume"]);
    resume.arg(&output);
    fails(resume, 2, &["--destroy"]);
    let mut resume = strata(["run", "--quiet", "--resume"]);
    resume.arg(&output).args(["--destroy", drive.identity()]);
    done(resume);
}
