//! What cannot be: one line says what was found, what was expected and what to do, and nothing is left behind.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::support::{fails, not_understood, run, scratch, short, strata};

#[test]
fn a_file_in_no_folder_cannot_be_made() {
    let folder = scratch();
    let target = folder.path().join("no/such/file");
    let mut command = strata(short("block"));
    command
        .current_dir(folder.path())
        .arg("--target")
        .arg(&target);
    let line = fails(
        command,
        1,
        &[
            "no/such",
            "No such file or directory",
            "a folder that exists",
        ],
    );
    assert_eq!(line.matches("No such file").count(), 1, "told once: {line}");
    let mut command = strata(["run", "quick", "--size", "1MiB", "--output"]);
    command
        .arg(folder.path().join("o"))
        .arg("--target")
        .arg(&target);
    fails(command, 1, &["a folder that exists"]);
    assert!(!folder.path().join("o").exists(), "nothing was measured");
}

#[test]
fn shapes_that_no_engine_has_are_refused() {
    let folder = scratch();
    let refused = |words: &str, expected: &[&str]| {
        let mut command = strata(short(words));
        command.current_dir(folder.path());
        fails(command, 2, expected);
    };
    refused("block --bs 1000", &["--bs 1000B", "512", "give 512, 4KiB"]);
    refused("block --bs 0", &["--bs"]);
    refused(
        "block --engine psync --depth 2",
        &["psync", "--depth 1", "--engine io_uring"],
    );
    refused("block --op stream", &["stream", "give randread"]);
    refused("block --duration 0s", &["window"]);
    refused("block --bs 16MiB", &["holds 8MiB", "16MiB", "--bs"]);
    refused(
        "block --cpus 4095",
        &["CPU 4095", "does not exist", "may use CPUs"],
    );
    refused("block --cpus 0,1", &["--cpus 0,1"]);
    refused(
        "block --mem-node 900",
        &["no such node", "this machine has"],
    );
    refused("tcp --op randread", &["randread", "give reqrep or stream"]);
    refused(
        "tcp --op stream --depth 2",
        &["a stream has no depth", "leave --depth out"],
    );
    refused("tcp --bs 17MiB", &["17MiB", "from 1 to 16MiB"]);
    refused("tcp --bs 0", &["give a --bs"]);
    refused("tcp --cpus 4095", &["CPU 4095"]);
    refused("tcp --peer-cpus 4095", &["--peer-cpus", "CPU 4095"]);
    refused("tcp --threads 1000", &["1000"]);
    refused(
        "tcp --interface no-such0",
        &["no-such0", "--interface", "--peer"],
    );
    refused(
        "tcp --direction both",
        &["--direction is of a stream", "--op stream"],
    );
    refused(
        "tcp --op stream --reply-bs 1KiB",
        &["--reply-bs", "--op reqrep"],
    );
    refused("tcp --reply-bs 17MiB", &["give a --reply-bs from 1 to"]);
    refused(
        "tcp --congestion no-such",
        &["no-such", "available here", "--congestion"],
    );
    refused(
        "tcp --op stream --streams auto --threads 4",
        &["--streams auto", "--threads 4"],
    );
    refused("tcp --sndbuf 1GiB", &["SO_SNDBUF", "net.core.wmem_max"]);
    let left = fs::read_dir(folder.path().join("results")).map(|entries| entries.count());
    assert_eq!(
        left.unwrap_or_default(),
        0,
        "a run that never began leaves no folder"
    );
}

#[test]
fn what_is_no_value_is_not_understood() {
    let refused = |words: &str, expected: &[&str]| {
        not_understood(strata(words.split_whitespace()), expected);
    };
    refused("block --depth 0", &["--depth", "1 to 4096"]);
    refused("block --depth 5000", &["--depth", "1 to 4096"]);
    refused(
        "block --engine libfoo",
        &["libfoo", "expected psync, libaio, io_uring"],
    );
    refused("block --op trim", &["trim", "randread"]);
    refused("block --bs 4XB", &["4XB"]);
    refused("block --repeats 0", &["--repeats"]);
    refused("block --threads 0", &["--threads"]);
    refused("block --ops 0", &["--ops"]);
    refused("block --ops 5 --duration 1s", &["--ops"]);
    refused("block --duration ten", &["ten"]);
    refused("block --cpus 3-1", &["3-1"]);
    refused("run", &["<PLAN>"]);
    refused("run slow", &["slow", "quick"]);
    refused("run quick --resume x", &["--resume"]);
    refused("report", &["<RUN>"]);
    refused("frobnicate", &["frobnicate"]);
}

#[test]
fn an_output_that_is_no_folder_is_refused() {
    let folder = scratch();
    let file = folder.path().join("file");
    fs::write(&file, "mine").expect("written");
    for words in ["block", "tcp"] {
        for below in [file.clone(), file.join("below")] {
            let mut command = strata(short(words));
            command.arg("--output").arg(below);
            fails(
                command,
                1,
                &["cannot make", "give an --output that you may write to"],
            );
        }
    }
    assert_eq!(fs::read(&file).expect("readable"), b"mine");
}

#[test]
fn a_path_of_any_bytes_is_told_or_refused() {
    let folder = scratch();
    let name = std::ffi::OsStr::from_bytes(b"odd \xff name");
    let mut command = strata(short("block --repeats 1 --quiet"));
    command
        .arg("--target")
        .arg(folder.path().join(name))
        .arg("--output")
        .arg(folder.path().join("o"));
    fails(command, 2, &["is not UTF-8"]);
    assert!(!folder.path().join(name).exists() && !folder.path().join("o").exists());
    let ran = run(strata([std::ffi::OsStr::new("report"), name]));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
}
