//! A disk that is full, before a run and in the middle of it.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::support::{done, fails, lines, records, root_or_skip, scratch, short, strata};

/// A file system in memory of a few pages.
struct Small(TempDir);

impl Small {
    fn new(size: &str) -> Small {
        let small = Small(scratch());
        small.mount(MsFlags::empty(), size);
        small
    }

    fn mount(&self, flags: MsFlags, size: &str) {
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            self.path(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .expect("mounted");
    }

    fn grow(&self, size: &str) {
        self.mount(MsFlags::MS_REMOUNT, size);
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_file_that_does_not_fit_is_not_begun() {
    if !root_or_skip("a_file_that_does_not_fit_is_not_begun") {
        return;
    }
    let (small, folder) = (Small::new("4m"), scratch());
    let mut command = strata(short("block --size 64MiB"));
    command.arg("--target").arg(small.path().join("f"));
    command.arg("--output").arg(folder.path().join("run"));
    fails(
        command,
        1,
        &["4MiB free", "64MiB are needed", "smaller --size"],
    );
    assert_eq!(fs::read_dir(small.path()).expect("a folder").count(), 0);
    let mut command = strata(["run", "quick", "--size", "64MiB", "--output"]);
    command.arg(small.path().join("run"));
    fails(command, 1, &["smaller --size"]);
    assert_eq!(
        fs::read_dir(small.path()).expect("a folder").count(),
        0,
        "no folder of a run that never began"
    );
}

#[test]
fn a_disk_that_fills_up_keeps_what_was_measured() {
    const TRIALS: usize = 60;
    if !root_or_skip("a_disk_that_fills_up_keeps_what_was_measured") {
        return;
    }
    let (small, folder) = (Small::new("96k"), scratch());
    let output = small.path().join("run");
    let words = format!("block --engine psync --size 1MiB --ops 200 --repeats {TRIALS}");
    let mut command = strata(short(&words));
    command.arg("--target").arg(folder.path().join("own.dat"));
    command.arg("--output").arg(&output);
    fails(
        command,
        1,
        &[
            "trials.jsonl",
            "No space left",
            "what was measured is kept",
            "strata run --resume",
        ],
    );
    let kept = records(&output);
    assert!((1..TRIALS).contains(&kept.len()), "{} trials", kept.len());
    small.grow("16m");
    let mut command = strata(["run", "--quiet", "--resume"]);
    command.arg(&output);
    done(command);
    let all = records(&output);
    assert_eq!(all[..kept.len()], kept, "nothing of it lost");
    assert!(all.len() >= TRIALS && lines(&output) == all.len());
}

#[test]
fn a_folder_without_room_for_a_run_can_be_used_later() {
    if !root_or_skip("a_folder_without_room_for_a_run_can_be_used_later") {
        return;
    }
    let (small, folder) = (Small::new("4k"), scratch());
    let begin = || {
        let mut command = strata(short(
            "block --quiet --engine psync --size 1MiB --repeats 1",
        ));
        command.arg("--target").arg(folder.path().join("own.dat"));
        command.arg("--output").arg(small.path());
        command
    };
    fails(
        begin(),
        1,
        &["run.json", "No space left", "give an --output"],
    );
    assert_eq!(
        fs::read_dir(small.path()).expect("a folder").count(),
        0,
        "it holds no run"
    );
    small.grow("16m");
    done(begin());
}
