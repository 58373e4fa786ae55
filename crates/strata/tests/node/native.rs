//! Our driver on real controllers, over VFIO.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use strata_virtual_node::{Node, on};

use crate::support::{Running, done, fails, lines, records, scratch, strata};

/// A drive that is with vfio-pci until this is dropped.
pub(crate) struct Taken<'a>(&'a Node, &'static str);

impl Taken<'_> {
    pub(crate) fn take<'a>(node: &'a Node, serial: &'static str) -> Taken<'a> {
        done(strata(["bind", serial, "--serial", serial]));
        assert_eq!(node.driver(serial).as_deref(), Some("vfio-pci"));
        Taken(node, serial)
    }

    fn give_back(self) {
        done(strata(["unbind", &self.0.function(self.1)]));
        self.0.disk(self.1);
    }
}

/// `strata nvme` on a drive.
pub(crate) fn polled(target: &str, words: &str, output: &Path) -> Command {
    let mut command = strata(["nvme", "--ramp", "0s", "--target", target]);
    if !words.contains("--repeats") {
        command.args(["--repeats", "1"]);
    }
    command.args(words.split_whitespace());
    command.arg("--output").arg(output);
    command
}

/// How many reads a drive has completed, by the machine's own account.
fn reads(node: &Node, serial: &str) -> u64 {
    let all = node.monitor("query-blockstats", json!({}));
    let disk = format!("disk-{serial}");
    let drives = all.as_array().expect("drives");
    let found = drives.iter().find(|d| d["device"] == disk.as_str());
    let stats = &found.expect("the drive")["stats"];
    stats["rd_operations"].as_u64().expect("a count")
}

/// Fills the first so many KiB through the kernel, with bytes that are nobody's.
fn fill(disk: &Path, kib: usize) {
    let bytes: Vec<u8> = (0..kib << 10).map(|at| (at / 13 % 255) as u8 + 1).collect();
    let file = OpenOptions::new().write(true).open(disk).expect("a device");
    file.write_all_at(&bytes, 0).expect("written");
    file.sync_all().expect("on the medium");
}

#[test]
fn a_real_controller_is_read_at_depth_1_and_32_without_an_interrupt() {
    on("usual", |node| {
        let folder = scratch();
        for (serial, at, block) in [("STRATA0", 0, 512), ("STRATA1", 1, 4096)] {
            let function = node.function(serial);
            let taken = Taken::take(node, serial);
            let output = folder.path().join(serial);
            // By its address, and by its serial number.
            let target = if at == 0 { &function } else { serial };
            let words = format!("--depth 1,32 --bs {block}B,128KiB --ops 200");
            done(polled(target, &words, &output));
            let found = records(&output);
            assert_eq!(found.len(), 4);
            for record in &found {
                assert_eq!(record["status"], "ok", "{serial}: {}", record["reason"]);
                assert_eq!(record["reality"], "virtual");
                assert_eq!(record["target"]["node"], at);
                assert_eq!(record["result"]["ops"], 200);
                assert_eq!(record["result"]["errors"], 0);
                let proof = &record["proof"];
                assert_eq!(proof["contradictions"], json!([]));
                assert_eq!(
                    proof["host"]["fired"],
                    json!([]),
                    "a polled cell has no interrupts"
                );
                let functions = proof["host"]["functions"].as_array().expect("functions");
                assert_eq!(functions[0]["before"], "vfio-pci", "{functions:?}");
                let cpu = record["placement"]["cpus"][0].as_u64().expect("a CPU");
                assert_eq!(cpu / 2, at, "near the drive");
            }
            taken.give_back();
        }
    });
}

#[test]
fn two_threads_have_a_queue_pair_each() {
    on("usual", |node| {
        let folder = scratch();
        let taken = Taken::take(node, "STRATA1");
        let output = folder.path().join("two");
        let ran = done(polled(
            "STRATA1",
            "--threads 2 --cpus 2,3 --depth 4 --ops 200",
            &output,
        ));
        let record = &records(&output)[0];
        assert_eq!(record["status"], "ok", "{}", ran.err);
        assert_eq!(record["result"]["ops"], 400);
        assert_eq!(record["proof"]["threads"].as_array().map(Vec::len), Some(2));
        taken.give_back();
    });
}

#[test]
fn what_is_written_polled_is_verified_and_read_by_the_kernel() {
    on("usual", |node| {
        let folder = scratch();
        let taken = Taken::take(node, "STRATA0");
        fails(
            polled(
                "STRATA0",
                "--op randwrite --ops 10",
                &folder.path().join("refused"),
            ),
            2,
            &["--destroy"],
        );
        let output = folder.path().join("written");
        let words =
            "--op write --bs 64KiB --size 8MiB --depth 8 --ops 128 --destroy STRATA0 --verify";
        done(polled("STRATA0", words, &output));
        let record = &records(&output)[0];
        assert_eq!(record["status"], "ok", "{}", record["reason"]);
        assert_eq!(record["result"]["errors"], 0);
        taken.give_back();
        // Every sector says where it belongs and what it sums up to; the run's ledger says which write it is of.
        let mut command = strata(["verify", "--target"]);
        command.arg(node.disk("STRATA0"));
        command.arg("--ledger").arg(output.join("ledger.bin"));
        let told = done(command);
        assert!(!told.out.is_empty());
    });
}

#[test]
fn what_the_kernel_wrote_is_one_target_for_both() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA0");
        fill(&disk, 4096);
        let of = |name: &str| folder.path().join(name);
        let mut block = strata([
            "block",
            "--ramp",
            "0s",
            "--repeats",
            "1",
            "--ops",
            "50",
            "--size",
            "4MiB",
        ]);
        block
            .arg("--target")
            .arg(&disk)
            .arg("--output")
            .arg(of("block"));
        done(block);
        let taken = Taken::take(node, "STRATA0");
        done(polled("STRATA0", "--ops 50 --size 4MiB", &of("nvme")));
        taken.give_back();
        let one = |name: &str| records(&of(name))[0].clone();
        let (kernel, ours) = (one("block"), one("nvme"));
        for key in ["target", "reality"] {
            assert_eq!(kernel[key], ours[key], "{key}");
        }
        assert_eq!(kernel["placement"], ours["placement"]);
        for record in [&kernel, &ours] {
            let warnings = record["warnings"].as_array().expect("warnings");
            assert!(
                warnings.iter().all(|w| w["code"] != "unwritten"),
                "{warnings:?}"
            );
        }
    });
}

#[test]
fn a_drive_of_the_kernels_is_not_taken_by_the_way() {
    on("usual", |node| {
        let folder = scratch();
        let at = node.function("STRATA1");
        let output = folder.path().join("none");
        fails(polled(&at, "--ops 1", &output), 1, &["strata bind", &at]);
        assert_eq!(node.driver("STRATA1").as_deref(), Some("nvme"));
    });
}

#[test]
fn a_drive_that_slows_down_is_noticed() {
    on("usual", |node| {
        let folder = scratch();
        let taken = Taken::take(node, "STRATA0");
        let output = folder.path().join("slow");
        let before = reads(node, "STRATA0");
        let running = Running::start(polled(
            "STRATA0",
            "--duration 2s --depth 4 --repeats 2",
            &output,
        ));
        node.within(Duration::from_secs(60), "the first record", || {
            lines(&output) > 0
        });
        // In the middle of the second, which begins as the first did.
        let begun = reads(node, "STRATA0");
        let third = (begun - before) / 3;
        node.within(Duration::from_secs(60), "the second trial's load", || {
            reads(node, "STRATA0") > begun + third
        });
        node.throttle("STRATA0", 20);
        let ran = running.end();
        node.throttle("STRATA0", 0);
        assert_eq!(ran.status.code(), Some(0), "{}", ran.err);
        let found = records(&output);
        let slow = &found[1];
        assert_eq!(
            slow["result"]["stationarity"]["stationary"], false,
            "{}",
            slow["result"]
        );
        let warnings = slow["warnings"].as_array().expect("warnings");
        assert!(
            warnings.iter().any(|w| w["code"] == "not_stationary"),
            "{warnings:?}"
        );
        taken.give_back();
    });
}
