//! What the user may not.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{done, fails, lines, program, records, short, strata};

/// Nobody, by number.
const NOBODY: u32 = 65534;

/// The command as a user who may not do everything: root becomes nobody, with a copy of the program where nobody reaches
/// it, if there is such a place.
pub(crate) struct User {
    folder: TempDir,
    program: PathBuf,
}

impl User {
    pub(crate) fn new(test: &str) -> Option<User> {
        let folder = tempfile::tempdir().expect("a folder");
        mode(folder.path(), 0o755);
        let copy = folder.path().join("strata");
        fs::copy(program(), &copy).expect("a copy");
        mode(&copy, 0o755);
        let user = User {
            folder,
            program: copy,
        };
        let reached = user.strata(&["--version".to_owned()]).output();
        match reached {
            Ok(output) if output.status.success() => Some(user),
            other => {
                println!("SKIP {test}: an ordinary user cannot run the program here: {other:?}");
                None
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn strata(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.folder.path());
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn files_and_folders_out_of_reach_are_named() {
    let Some(user) = User::new("files_and_folders_out_of_reach_are_named") else {
        return;
    };
    let open = user.path("open");
    fs::create_dir(&open).expect("made");
    mode(&open, 0o777);
    let secret = user.path("secret.dat");
    fs::write(&secret, vec![1; 1 << 20]).expect("written");
    mode(&secret, 0o000);
    let readable = user.path("own.dat");
    done({
        let mut command = strata(short(
            "block --quiet --size 1MiB --repeats 1 --duration 20ms",
        ));
        command
            .arg("--target")
            .arg(&readable)
            .arg("--output")
            .arg(user.path("own"));
        command
    });
    mode(&readable, 0o444);
    let closed = user.path("closed");
    fs::create_dir(&closed).expect("made");
    mode(&closed, 0o555);
    let hidden = user.path("hidden");
    fs::create_dir(&hidden).expect("made");
    fs::write(hidden.join("f"), vec![1; 1 << 20]).expect("written");
    mode(&hidden, 0o000);

    let refused = |words: &str, target: &Path, output: &Path, expected: &[&str]| {
        let mut command = user.strata(&short(words));
        command
            .arg("--target")
            .arg(target)
            .arg("--output")
            .arg(output);
        fails(command, 1, expected);
    };
    let denied = "Permission denied";
    let out = open.join("o");
    refused(
        "block --size 1MiB",
        &secret,
        &out,
        &[
            "secret.dat",
            denied,
            "name a file or drive that you may read",
        ],
    );
    refused(
        "block --size 1MiB --op randwrite",
        &readable,
        &out,
        &["own.dat", denied, "read and write"],
    );
    refused(
        "block --size 1MiB",
        &closed.join("f"),
        &out,
        &["closed/f", denied, "a folder that you may write to"],
    );
    refused(
        "block --size 1MiB",
        &hidden.join("f"),
        &out,
        &["hidden/f", denied, "that you may read"],
    );
    assert!(!out.exists(), "a run that never began leaves no folder");
    refused(
        "block --size 1MiB",
        &readable,
        &closed,
        &[
            "closed/trials.jsonl",
            denied,
            "give an --output that you may write to",
        ],
    );
    refused(
        "block --size 1MiB",
        &readable,
        &closed.join("o"),
        &["closed/o", denied, "give an --output that you may write to"],
    );
    fails(
        user.strata(&["man".to_owned(), closed.join("m").display().to_string()]),
        1,
        &[denied, "name a folder"],
    );
    // As nobody the rest works all the same.
    let mut command = user.strata(&short(
        "block --quiet --size 1MiB --repeats 1 --duration 20ms",
    ));
    command
        .arg("--target")
        .arg(&readable)
        .arg("--output")
        .arg(&out);
    done(command);
    mode(&hidden, 0o755);
}

#[test]
fn somebody_elses_run_is_read_and_not_changed() {
    let Some(user) = User::new("somebody_elses_run_is_read_and_not_changed") else {
        return;
    };
    let run = user.path("run");
    let mut command = strata(short(
        "block --quiet --size 1MiB --repeats 1 --duration 20ms",
    ));
    command.arg("--output").arg(&run);
    done(command);
    for name in ["trials.jsonl", "report.md", "report.html"] {
        mode(&run.join(name), 0o444);
    }
    mode(&run, 0o555);
    let path = run.display().to_string();
    let denied = "Permission denied";
    fails(
        user.strata(&["report".to_owned(), path.clone()]),
        1,
        &["report.md", denied, "copy the run"],
    );
    let resume = ["run".to_owned(), "--resume".to_owned(), path];
    fails(user.strata(&resume), 1, &["trials.jsonl", denied]);
    mode(&run, 0o755);
    assert_eq!(lines(&run), 1);
}

/// Without any privilege a file is measured, and what could not be looked at meanwhile is told.
#[test]
fn nobody_measures_a_file_and_is_told_what_proof_is_missing() {
    let Some(user) = User::new("nobody_measures_a_file_and_is_told_what_proof_is_missing") else {
        return;
    };
    let open = user.path("open");
    fs::create_dir(&open).expect("made");
    mode(&open, 0o777);
    let output = open.join("run");
    let words = "block --engine psync,libaio --op randread,randwrite --size 1MiB --repeats 1";
    let mut command = user.strata(&short(words));
    command.arg("--target").arg(open.join("own.dat"));
    command.arg("--output").arg(&output);
    done(command);
    let found = records(&output);
    assert_eq!(found.len(), 4);
    for record in &found {
        assert_eq!(record["status"], "ok", "{record}");
        let proof = &record["proof"];
        let missing = proof["missing"].as_array().expect("a list");
        let says = |of: &str| {
            missing
                .iter()
                .any(|m| m.as_str().is_some_and(|m| m.contains(of)))
        };
        let host = &proof["host"];
        assert!(host.is_object(), "somebody watched: {proof}");
        // Whatever is not in the record is in the list of what could not be had, with the reason.
        for cpu in host["cpus"].as_array().expect("CPUs") {
            let name = format!("CPU {}", cpu["cpu"]);
            if cpu["frequency"]["governor"].is_null() {
                assert!(
                    says(&format!("governor and limits of {name}")),
                    "{missing:?}"
                );
            }
            if cpu["throttled"].is_null() {
                assert!(says(&format!("throttling of {name}")), "{missing:?}");
            }
        }
        if host["drives"].as_array().is_some_and(Vec::is_empty) && record["reality"] == "hardware" {
            assert!(
                !missing.is_empty(),
                "temperature is root's to read: {proof}"
            );
        }
        for reason in missing {
            let reason = reason.as_str().expect("text");
            assert!(reason.contains(": "), "what, and why: {reason}");
        }
    }
    let report = fs::read_to_string(output.join("report.md")).expect("a report");
    for reason in found[0]["proof"]["missing"].as_array().expect("a list") {
        let what = reason.as_str().and_then(|r| r.split(" of CPU").next());
        assert!(report.contains(what.expect("text")), "{reason}");
    }
}
