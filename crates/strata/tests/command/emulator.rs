//! The emulated controller as a process: served by hand, ended with whoever needs it, killed in the midst of its work.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::permission::User;
use crate::support::{
    Ran, Running, done, fails, lines, records, run, scratch, short, strata, two_cpus, until,
};

/// A run on an emulated controller of its own, whose socket lies in a folder that is known.
struct Own {
    folder: TempDir,
}

impl Own {
    fn new() -> Own {
        let own = Own { folder: scratch() };
        fs::create_dir(own.temporary()).expect("made");
        own
    }

    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Runs until its second trial has begun.
    fn started(&self, words: &str) -> Running {
        let mut command = strata(short(&format!("nvme --emulated --size 8MiB {words}")));
        command.arg("--output").arg(self.output());
        command.env("TMPDIR", self.temporary());
        let run = Running::start(command);
        until("a trial", || (lines(&self.output()) >= 1).then_some(()));
        run
    }

    /// The processes of its controllers.
    fn controllers(&self) -> Vec<Pid> {
        let folder = self.temporary().display().to_string();
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        processes
            .flatten()
            .filter(|process| {
                // One that has just ended has nothing to read.
                fs::read(process.path().join("cmdline")).is_ok_and(|line| {
                    String::from_utf8_lossy(&line).contains(&format!("\0emu\0{folder}/"))
                })
            })
            .filter_map(|process| process.file_name().to_str()?.parse().ok())
            .map(Pid::from_raw)
            .collect()
    }

    fn nothing_is_left(&self) {
        until("no controller is left over", || {
            self.controllers().is_empty().then_some(())
        });
        until("no folder is left over", || {
            let entries = fs::read_dir(self.temporary()).expect("ours");
            (entries.count() == 0).then_some(())
        });
    }
}

#[test]
fn ctrl_c_keeps_what_was_measured_and_ends_the_controller() {
    if !two_cpus("ctrl_c_keeps_what_was_measured_and_ends_the_controller") {
        return;
    }
    let own = Own::new();
    let run = own.started("--repeats 500");
    assert_eq!(own.controllers().len(), 1);
    kill(run.id(), Signal::SIGINT).expect("it runs");
    let ran = run.end();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
    assert!(
        ran.err.contains("go on with `strata run --resume /"),
        "{}",
        ran.err
    );
    own.nothing_is_left();
    let kept = records(&own.output());
    assert!(!kept.is_empty() && kept.len() < 500);
    assert!(kept.iter().all(|r| r["status"] == "ok"), "{kept:?}");
}

#[test]
fn a_killed_run_leaves_no_controller() {
    if !two_cpus("a_killed_run_leaves_no_controller") {
        return;
    }
    let own = Own::new();
    let run = own.started("--repeats 500");
    assert_eq!(own.controllers().len(), 1);
    kill(run.id(), Signal::SIGKILL).expect("it runs");
    assert_eq!(run.end().status.code(), None);
    own.nothing_is_left();
    assert!(records(&own.output()).iter().all(|r| r["status"] == "ok"));
}

#[test]
fn a_killed_controller_is_a_failed_trial_and_no_hang() {
    if !two_cpus("a_killed_controller_is_a_failed_trial_and_no_hang") {
        return;
    }
    let own = Own::new();
    let run = own.started("--depth 8 --timeout 300ms --duration 500ms --repeats 12");
    let begun = Instant::now();
    for controller in own.controllers() {
        kill(controller, Signal::SIGKILL).expect("it runs");
    }
    let ran = run.end();
    // Of a deadline each that is left, with room for a machine that does other things.
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    own.nothing_is_left();
    let kept = records(&own.output());
    assert_eq!(kept[0]["status"], "ok", "{kept:?}");
    let failed: Vec<&Value> = kept.iter().filter(|r| r["status"] == "failed").collect();
    assert!(!failed.is_empty(), "{kept:?}");
    for record in failed {
        let reason = record["reason"].as_str().expect("a reason");
        assert!(reason.contains("the emulated controller"), "{reason}");
        let lost = reason.matches("since it cannot be stopped").count();
        assert!(lost <= 1, "told once: {reason}");
    }
}

/// A controller that is served by hand.
struct Served {
    folder: TempDir,
    process: Running,
}

impl Served {
    fn new(words: &str) -> Served {
        Served::with(scratch(), words)
    }

    fn with(folder: TempDir, words: &str) -> Served {
        let mut command = strata(["emu"]);
        command.arg(folder.path().join("served"));
        command.args(words.split_whitespace());
        let mut served = Served {
            folder,
            process: Running::start(command),
        };
        until("the socket", || {
            assert!(!served.process.has_ended(), "{}", served.process.said());
            served.at().join("cntrl").exists().then_some(())
        });
        served
    }

    fn at(&self) -> PathBuf {
        self.folder.path().join("served")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `strata nvme` on it, into a new folder.
    fn nvme(&self, name: &str, words: &str) -> Command {
        let mut command = strata(short(&format!("nvme {words}")));
        command.arg("--target").arg(self.at());
        command.arg("--output").arg(self.path(name));
        command
    }

    fn verify(&self, words: &[&str]) -> Command {
        let mut command = strata(["verify", "--target"]);
        command.arg(self.at()).args(words);
        command
    }

    fn interrupted(self) -> Ran {
        kill(self.process.id(), Signal::SIGINT).expect("it runs");
        self.process.end()
    }
}

const SERIAL: &str = "STRATA0000000001";

#[test]
fn a_controller_that_is_served_by_hand_is_measured_and_ends_with_ctrl_c() {
    let mut served = Served::new("--size 16MiB");
    let said = until("a word", || {
        let said = served.process.said();
        said.ends_with('\n').then_some(said)
    });
    assert!(
        said.contains("serving Strata emulated controller"),
        "{said}"
    );
    let mode = fs::metadata(served.at())
        .expect("made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);

    let mut second = strata(["emu"]);
    second.arg(served.at());
    fails(
        second,
        1,
        &[
            "cntrl",
            "another server listens there",
            "choose another folder",
        ],
    );
    // What was never written is no drive's figure.
    done(served.nvme("fresh", "--quiet"));
    for record in records(&served.path("fresh")) {
        assert_eq!(record["warnings"][0]["code"], "unwritten", "{record}");
        assert_eq!(record["reality"], "emulated");
    }
    fails(
        served.nvme("unnamed", "--op randwrite"),
        2,
        &["destroys what it holds", "--destroy", "serial number"],
    );
    fails(
        served.nvme("wrong", "--op randwrite --destroy ANOTHER"),
        2,
        &["left alone", "\"ANOTHER\" is not its serial number"],
    );
    fails(
        served.nvme("third", "--namespace 3"),
        2,
        &["namespace 3", "active ones are 1"],
    );
    fails(served.nvme("deep", "--depth 4096"), 2, &["--depth"]);
    for name in ["unnamed", "wrong", "third", "deep"] {
        assert!(!served.path(name).exists(), "{name}");
    }
    done(served.nvme(
        "written",
        &format!("--quiet --op write --bs 64KiB --destroy {SERIAL}"),
    ));
    done(served.nvme("read", "--quiet --depth 16"));
    for record in records(&served.path("read")) {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(
            record["via"],
            format!("vfio-user:{}#1", served.at().display())
        );
        assert_eq!(record["placement"]["peer_cpus"], Value::Array(Vec::new()));
    }
    let at = served.at();
    let ran = served.interrupted();
    assert_eq!(ran.status.code(), Some(0), "{}", ran.err);
    assert!(!at.join("cntrl").exists());
}

#[test]
fn folders_that_are_no_place_for_a_socket_are_refused() {
    let folder = scratch();
    let emu = |name: &str| {
        let mut command = strata(["emu"]);
        command.arg(folder.path().join(name));
        command
    };
    let at = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        path
    };
    at("open", 0o755);
    fails(emu("open"), 1, &["its mode is 0755", "mkdir -m 700"]);
    let taken = at("taken", 0o700);
    fs::write(taken.join("cntrl"), "mine").expect("written");
    fails(emu("taken"), 1, &["something is there that is no socket"]);
    assert_eq!(fs::read(taken.join("cntrl")).expect("kept"), b"mine");
    fails(emu("no/such"), 1, &["no/such", "No such file"]);
    let mut command = emu("cpu");
    command.args(["--cpu", "4095"]);
    fails(command, 1, &["4095"]);
}

/// Who serves one client says so to the next.
#[test]
fn a_second_client_is_told_that_there_is_one() {
    let served = Served::new("--size 8MiB");
    let first = Running::start(served.nvme("first", "--repeats 1 --duration 60s"));
    until("the first", || {
        served.path("first/run.json").exists().then_some(())
    });
    let way = "another client has the device";
    fails(served.nvme("second", ""), 1, &[way, "end that one first"]);
    assert!(!served.path("second").exists());
    fails(served.verify(&[]), 1, &[way]);
    kill(first.id(), Signal::SIGKILL).expect("it runs");
    first.end();
    // The next one is served as if nothing had been.
    done(served.nvme("third", "--quiet"));
}

#[test]
fn somebody_elses_socket_is_out_of_reach() {
    let Some(user) = User::new("somebody_elses_socket_is_out_of_reach") else {
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP somebody_elses_socket_is_out_of_reach: there is one user here");
        return;
    }
    let served = Served::new("--size 8MiB");
    let target = served.at().display().to_string();
    let words = short(&format!("nvme --target {target}"));
    let open = user.path("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("ours");
    let mut command = user.strata(&words);
    command.current_dir(open);
    fails(command, 1, &["Permission denied", "by this user"]);
    fails(
        user.strata(&["verify", "--target", &target].map(str::to_owned)),
        1,
        &["Permission denied"],
    );
}

/// Somebody's file system is left alone, whatever serial number is typed.
#[test]
fn a_namespace_that_carries_a_file_system_is_left_alone() {
    let folder = scratch();
    let image = folder.path().join("image");
    File::create(&image)
        .and_then(|file| file.set_len(16 << 20))
        .expect("an image");
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output();
    if !made.as_ref().is_ok_and(|made| made.status.success()) {
        // What libblkid knows it by: the magic number of a superblock.
        let mut bytes = fs::read(&image).expect("readable");
        bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        bytes[0x400 + 0x4c..0x400 + 0x50].copy_from_slice(&1u32.to_le_bytes());
        fs::write(&image, bytes).expect("written");
    }
    let before = fs::read(&image).expect("readable");
    let model = folder.path().join("model.toml");
    let text = format!("[[namespace]]\nsize = \"16MiB\"\nmemory = {{ file = {image:?} }}");
    fs::write(&model, text).expect("written");
    let served = Served::with(folder, &format!("--model {}", model.display()));
    let words = format!("--op randwrite --destroy {SERIAL}");
    fails(
        served.nvme("run", &words),
        1,
        &["left alone", "ext", "wipefs -a"],
    );
    done(served.nvme("read", "--quiet"));
    assert!(
        fs::read(&image).expect("readable") == before,
        "and nothing was written"
    );
}

/// Whether a write stands in the ledger, behind its header.
fn begun(output: &Path) -> bool {
    fs::read(output.join("ledger.bin")).is_ok_and(|bytes| bytes.iter().skip(4096).any(|b| *b != 0))
}

#[test]
fn writes_outlive_a_killed_writer_and_another_process_checks_them() {
    let served = Served::new("--size 4MiB");
    let serial = format!("--destroy {SERIAL}");
    // All of it is the suite's first, so that every sector can be told.
    let lap = "--quiet --op randwrite --verify --bs 4KiB --random-map --ops 1024 --repeats 1";
    done(served.nvme("lap", &format!("{lap} {serial}")));
    let right = |output: &str, told: &str| -> Value {
        let ledger = served.path(output).join("ledger.bin");
        let ledger = ledger.to_str().expect("text");
        let ran = run(served.verify(&["--namespace", "1", "--json", "--ledger", ledger]));
        assert_eq!(
            ran.status.code(),
            Some(0),
            "{told}: {} {}",
            ran.out,
            ran.err
        );
        serde_json::from_str(&ran.out).expect("one document")
    };
    let found = right("lap", "a lap");
    assert_eq!(
        (&found["sectors"], &found["wrong_sectors"]),
        (&8192.into(), &0.into())
    );
    assert_eq!(found["acknowledged_blocks"], 1024);
    for (n, depth) in [1u64, 32].into_iter().enumerate() {
        let words = format!("--op randwrite --verify --repeats 1 --duration 60s --depth {depth}");
        let name = format!("killed-{n}");
        let writer = Running::start(served.nvme(&name, &format!("{words} {serial}")));
        until("a write", || begun(&served.path(&name)).then_some(()));
        thread::sleep(Duration::from_millis(RandomState::new().hash_one(n) % 300));
        kill(writer.id(), Signal::SIGKILL).expect("it runs");
        assert_eq!(writer.end().status.code(), None);
        let found = right(&name, &format!("killed at depth {depth}"));
        let open = found["open_blocks"].as_u64().expect("a count");
        assert!(open <= depth, "{found}");
    }
    done(served.verify(&[]));
    // One ledger's generations are not another's.
    let ledger = served.path("lap").join("ledger.bin");
    let ran = run(served.verify(&["--ledger", ledger.to_str().expect("text")]));
    assert_eq!(ran.status.code(), Some(3), "{}", ran.err);
    assert!(ran.out.contains("sectors are wrong"), "{}", ran.out);
    assert!(
        ran.out.lines().count() > 2,
        "the first are named: {}",
        ran.out
    );
}

#[test]
fn checks_of_what_cannot_be_checked_are_refused() {
    let served = Served::new("--size 4MiB");
    fails(
        served.verify(&["--namespace", "2"]),
        2,
        &["namespace 2", "active ones are 1"],
    );
    let ran = run(served.verify(&[]));
    assert_eq!(ran.status.code(), Some(3), "nobody wrote it: {}", ran.out);
    assert!(
        ran.out.contains("8192 of 8192 sectors are wrong"),
        "{}",
        ran.out
    );

    let larger = Served::new("--size 16MiB");
    let words = "--quiet --op write --bs 64KiB --verify --ops 256 --repeats 1";
    done(larger.nvme("run", &format!("{words} --destroy {SERIAL}")));
    let ledger = larger.path("run").join("ledger.bin");
    let ledger = ledger.to_str().expect("text");
    done(larger.verify(&["--ledger", ledger]));
    fails(
        served.verify(&["--ledger", ledger]),
        2,
        &["holds 4MiB", "16MiB", "of another target"],
    );
    let null = Served::new("--no-data");
    fails(null.verify(&[]), 2, &["moves no data", "nothing to check"]);

    let file = served.path("file");
    fs::write(&file, [0; 4096]).expect("written");
    let mut command = strata(["verify", "--namespace", "1", "--target"]);
    command.arg(&file);
    fails(command, 2, &["--namespace", "no folder"]);
    let mut command = strata(["verify", "--target"]);
    command.arg(served.path(""));
    fails(command, 2, &["is a folder", "cntrl", "strata emu"]);
}
