//! The kernel's storage path on the kernel's NVMe driver.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use strata_virtual_node::on;

use crate::support::{Running, done, records, run, scratch, strata};

/// `strata block` on a target, by count: figures of a guest's speed are nobody's business.
pub(crate) fn block(target: &Path, words: &str, output: &Path) -> Command {
    let mut command = strata(["block", "--ramp", "0s"]);
    if !words.contains("--repeats") {
        command.args(["--repeats", "1"]);
    }
    command.args(words.split_whitespace());
    command.arg("--target").arg(target);
    command.arg("--output").arg(output);
    command
}

/// How many reads a disk has completed (Documentation/block/stat.rst).
fn reads(disk: &Path) -> u64 {
    let name = disk.file_name().expect("a name").to_string_lossy();
    let text = fs::read_to_string(format!("/sys/block/{name}/stat")).expect("its counters");
    let first = text.split_whitespace().next();
    first.and_then(|n| n.parse().ok()).expect("a number")
}

/// The character device of a disk.
fn passthrough(disk: &Path) -> String {
    disk.to_string_lossy().replace("/dev/nvme", "/dev/ng")
}

#[test]
fn every_engine_reads_a_drive_through_the_kernels_driver() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        for (target, engines) in [
            (
                disk.display().to_string(),
                "psync,libaio,io_uring,io_uring+registered,io_uring+sqpoll,io_uring+taskrun",
            ),
            (passthrough(&disk), "io_uring_cmd"),
        ] {
            let output = folder.path().join(target.trim_start_matches("/dev/"));
            let words = format!("--engine {engines} --ops 50 --cpus 2 --poll-cpus 3");
            done(block(Path::new(&target), &words, &output));
            let found = records(&output);
            assert_eq!(found.len(), engines.split(',').count());
            for record in &found {
                let engine = &record["engine"];
                assert_eq!(record["status"], "ok", "{engine}: {}", record["reason"]);
                assert_eq!(record["reality"], "virtual", "{engine}");
                assert_eq!(record["target"]["node"], 1, "{engine}");
                assert_eq!(record["result"]["ops"], 50, "{engine}");
                assert_eq!(record["result"]["errors"], 0, "{engine}");
            }
        }
    });
}

#[test]
fn a_polled_ring_completes_without_an_interrupt() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        for (name, target, engine) in [
            ("ring", disk.display().to_string(), "io_uring+iopoll"),
            ("commands", passthrough(&disk), "io_uring_cmd+iopoll"),
        ] {
            let output = folder.path().join(name);
            let words = format!("--engine {engine} --ops 200 --depth 4 --cpus 2");
            done(block(Path::new(&target), &words, &output));
            let record = &records(&output)[0];
            assert_eq!(record["status"], "ok", "{engine}: {}", record["reason"]);
            assert_eq!(record["result"]["ops"], 200, "{engine}");
            let fired = record["proof"]["host"]["fired"]
                .as_array()
                .expect("what fired");
            let queues = fired
                .iter()
                .filter(|v| v["name"].as_str().is_some_and(|n| n.starts_with("nvme")));
            assert_eq!(queues.count(), 0, "{engine}: {fired:?}");
        }
    });
}

/// What fio says that it did: operations and errors.
fn fio(target: &Path, words: &str) -> (u64, u64) {
    let mut command = Command::new("fio");
    command.args([
        "--name=same",
        "--direct=1",
        "--ioengine=io_uring",
        "--output-format=json",
    ]);
    command.arg(format!("--filename={}", target.display()));
    command.args(words.split_whitespace());
    let out = command.output().expect("fio starts");
    let text = String::from_utf8_lossy(&out.stdout);
    // What went wrong stands in front of the document.
    let document = text.find('{').map(|at| &text[at..]).unwrap_or_default();
    let found: Value = serde_json::from_str(document).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let job = &found["jobs"][0];
    let ops = |way: &str| job[way]["total_ios"].as_u64().expect("a count");
    (
        ops("read") + ops("write"),
        job["total_err"].as_u64().unwrap_or(0),
    )
}

#[test]
fn as_many_operations_as_fio_reach_the_drive() {
    on("usual", |node| {
        let folder = scratch();
        for (serial, bs, depth) in [
            ("STRATA0", 4096, 1),
            ("STRATA1", 4096, 8),
            ("STRATA0", 512, 4),
        ] {
            let disk = node.disk(serial);
            let before = reads(&disk);
            let size = bs * 300;
            let words = format!("--rw=randread --bs={bs} --iodepth={depth} --size={size}");
            assert_eq!(fio(&disk, &words), (300, 0), "{serial}");
            let theirs = reads(&disk) - before;
            let output = folder.path().join(format!("{serial}-{bs}"));
            let words =
                format!("--engine io_uring --bs {bs}B --depth {depth} --size {size}B --ops 300");
            done(block(&disk, &words, &output));
            let record = &records(&output)[0];
            assert_eq!(record["result"]["ops"], 300);
            assert_eq!(record["result"]["errors"], 0);
            let device = &record["proof"]["host"]["devices"][0];
            let ours = device["reads"].as_u64().expect("a count");
            assert!(theirs >= 300, "{serial}: {theirs} of fio's");
            // The kernel completes a batch before it counts it, so that the last may not be in it yet.
            let around = 300 - u64::from(depth as u32)..=300 + u64::from(depth as u32) + 8;
            assert!(
                around.contains(&ours),
                "{serial}: {ours} reads for 300 operations"
            );
        }
    });
}

#[test]
fn a_bad_block_is_an_error_of_ours_as_of_fios() {
    on("four", |node| {
        let folder = scratch();
        let disk = node.disk("NOWHERE");
        // 512 blocks of 4 KiB in turn, one of which lies where nothing can be read.
        let words =
            "--rw=read --bs=4096 --size=2M --iodepth=1 --continue_on_error=all --ignore_error=61";
        let (ops, errors) = fio(&disk, words);
        assert_eq!((ops, errors), (512, 1), "of fio");
        let output = folder.path().join("bad");
        let ran = run(block(
            &disk,
            "--engine io_uring --op read --bs 4KiB --size 2MiB --ops 512",
            &output,
        ));
        let record = &records(&output)[0];
        assert_eq!(record["result"]["errors"], errors, "{}", ran.err);
        // Theirs are operations begun, ours those that came to a good end: one more is begun for the one that did not.
        assert_eq!(record["result"]["ops"], ops);
        assert_eq!(record["proof"]["host"]["devices"][0]["reads"], ops + errors);
        // A drive whose firmware tells no node has none here.
        assert_eq!(record["target"]["node"], Value::Null);
    });
}

#[test]
fn a_drive_that_slows_down_is_noticed() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA0");
        let output = folder.path().join("slow");
        let running = Running::start(block(
            &disk,
            "--engine io_uring --duration 4s --depth 4",
            &output,
        ));
        // Its window is open once the drive is read at a stretch.
        let begun = reads(&disk);
        node.within(Duration::from_secs(60), "the load", || {
            reads(&disk) > begun + 400
        });
        node.throttle("STRATA0", 20);
        let ran = running.end();
        node.throttle("STRATA0", 0);
        assert_eq!(ran.status.code(), Some(0), "{}", ran.err);
        let record = &records(&output)[0];
        let warnings = record["warnings"].as_array().expect("warnings");
        assert!(
            warnings.iter().any(|w| w["code"] == "not_stationary"),
            "{warnings:?}"
        );
        assert_eq!(record["result"]["stationarity"]["stationary"], false);
    });
}
