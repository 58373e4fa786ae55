//! `strata run node`: both ways to one drive in one run, and a wire between two machines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use strata_virtual_node::{Node, WIRE, on};

use crate::support::{Running, done, fails, json, lines, records, run, scratch, strata};

fn node_run(words: &str, output: &Path) -> Command {
    let mut command = strata(["run", "node", "--drive", "STRATA0"]);
    command.args(["--duration", "100ms", "--ramp", "0s"]);
    command.args(words.split_whitespace());
    command.arg("--output").arg(output);
    command
}

/// Something is on the drive, so that reading it measures it.
fn written(node: &Node) {
    let disk = node.disk("STRATA0");
    let ran = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=256", "conv=fsync"])
        .arg(format!("of={}", disk.display()))
        .output()
        .expect("dd");
    assert!(ran.status.success(), "{ran:?}");
}

fn is_back(node: &Node) {
    node.disk("STRATA0");
    assert_eq!(node.driver("STRATA0").as_deref(), Some("nvme"));
}

#[test]
fn one_drive_by_both_ways_and_one_wire() {
    on("wire", |node| {
        let folder = scratch();
        written(node);
        let [_, peer] = WIRE;
        let key = "/tmp/strata.key";
        // The same on both sides.
        let make = format!("echo strata | sha256sum | cut -c1-64 >{key}; chmod 600 {key}");
        assert!(
            Command::new("bash")
                .args(["-c", &make])
                .status()
                .expect("bash")
                .success()
        );
        let program = crate::support::program();
        node.on_peer(&format!(
            "{make}; exec {} serve --listen 0.0.0.0 --key-file {key}",
            program.display()
        ));
        let output = folder.path().join("node");
        let reached = |output: &Path| {
            let ran = run(node_run(
                &format!("--repeats 1 --streams 2 --peer {peer} --key-file {key}"),
                output,
            ));
            (ran.status.code(), ran.err)
        };
        let mut ended = reached(&output);
        for attempt in 0..10 {
            if ended.0 == Some(0) || !ended.1.contains(peer) {
                break;
            }
            // The other guest takes its time to come up.
            std::thread::sleep(Duration::from_secs(2));
            ended = reached(&folder.path().join(format!("again-{attempt}")));
        }
        assert_eq!(ended.0, Some(0), "{}", ended.1);
        let last = std::fs::read_dir(folder.path()).expect("runs").flatten();
        let output = last
            .map(|e| e.path())
            .find(|p| p.join("trials.jsonl").exists())
            .expect("a run");
        is_back(node);
        let found = records(&output);
        let of = |layer: &str| {
            found
                .iter()
                .filter(|r| r["layer"] == layer)
                .cloned()
                .collect::<Vec<Value>>()
        };
        assert!(found.iter().all(|r| r["status"] == "ok"), "{}", ended.1);
        let targets = |records: &[Value]| {
            records
                .iter()
                .map(|r| r["target"].to_string())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(targets(&of("block")), targets(&of("nvme")), "one drive");
        assert_eq!(targets(&of("block")).len(), 1);
        assert_eq!(targets(&of("tcp")).len(), 1);
        for record in of("block").iter().chain(&of("nvme")) {
            assert_eq!(record["reality"], "virtual");
            let driver = if record["layer"] == "block" {
                "nvme"
            } else {
                "vfio-pci"
            };
            let functions = record["proof"]["host"]["functions"]
                .as_array()
                .expect("functions");
            assert_eq!(functions[0]["before"], driver);
            assert_eq!(functions[0]["after"], driver);
        }
        // Each driver once.
        let drivers: Vec<&str> = found
            .iter()
            .filter(|r| !r["switch_s"].is_null())
            .map(|r| r["layer"].as_str().expect("a layer"))
            .collect();
        assert_eq!(
            drivers.iter().collect::<BTreeSet<_>>().len(),
            2,
            "{drivers:?}"
        );
        assert_eq!(drivers.len(), 2, "{drivers:?}");
        let head = json(&output.join("run.json"));
        assert!(head["environment"]["boot_id"].is_string());
        let report = std::fs::read_to_string(output.join("report.md")).expect("a report");
        assert!(report.contains("nvme native ÷ block"), "{report}");
        // TCP and verbs on one wire, by name; and that verbs were no hardware's.
        assert_eq!(targets(&of("rdma")), targets(&of("tcp")));
        assert_eq!((of("tcp").len(), of("rdma").len()), (3, 3));
        assert!(of("rdma").iter().all(|r| r["reality"] == "software"));
        assert!(report.contains("rdma verbs write qd8 ÷ tcp stream 2 streams"));
        assert!(report.contains("they bypass nothing and may well lose"));
        verbs_between_two_machines(peer, key, folder.path());
    });
}

/// Each operation with its content checked, by the same server and key.
fn verbs_between_two_machines(peer: &str, key: &str, folder: &Path) {
    let measure = |words: &str, output: &str| {
        let mut command = strata(["rdma", "--peer", peer, "--key-file", key]);
        command.args(["--repeats", "1", "--ramp", "0s", "--ops", "20"]);
        command.args(words.split_whitespace());
        let output = folder.join(output);
        command.arg("--output").arg(&output);
        done(command);
        records(&output)
    };
    for (words, cells) in [
        (
            "--op write,write-imm,read,send --bs 5000 --depth 4 --verify",
            4,
        ),
        ("--op fetch-add --qps 4 --depth 2 --engine verbs-ex", 1),
        ("--op send --transport ud --bs 1000 --depth 4 --verify", 1),
    ] {
        let found = measure(words, &words.replace(' ', ""));
        assert_eq!(found.len(), cells, "{words}");
        for record in &found {
            assert_eq!(record["status"], "ok", "{words}: {}", record["reason"]);
            let pairs = record["proof"]["queue_pairs"].as_array().expect("both");
            assert_eq!(pairs.len(), 2);
            assert_ne!(pairs[0]["gid"], pairs[1]["gid"], "two machines");
            // The ports themselves count, here and there.
            for (host, way) in [("host", "sent"), ("peer_host", "received")] {
                let port = &record["proof"][host]["ports"][0];
                assert_eq!(port["device"], "rxe0", "{host}");
                let packets = port[format!("{way}_packets")].as_u64();
                assert!(packets > Some(0), "{host}: {port}");
            }
        }
    }
    // What does not fit is told before anything times out, and the server lives on.
    for (words, said) in [
        ("--gid-index 0", "one is IPv4 and the other IPv6"),
        ("--mtu 512 --op send --transport ud --bs 1000", "one packet"),
        ("--peer-device mlx5_0", "has rxe0/1"),
    ] {
        let mut command = strata(["rdma", "--peer", peer, "--key-file", key, "--repeats", "1"]);
        command.args(words.split_whitespace());
        let output = folder.join(said.replace([' ', '/'], "-"));
        command.arg("--output").arg(output);
        let ran = run(command);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains(said), "{words}: {told}");
        assert!(matches!(ran.status.code(), Some(1 | 2)), "{words}: {told}");
    }
    assert_eq!(measure("--op write --bs 1..4", "after").len(), 3);
}

/// Every cell of the plan stands once in the last attempt at each of so many rounds: one that a stop has cut is made anew.
fn is_whole(output: &Path, rounds: usize) {
    let plan = &json(&output.join("run.json"))["plan"];
    let cells = plan["cells"].as_array().expect("cells").len();
    assert!(cells >= 2, "{plan}");
    let mut last: BTreeMap<u64, (u64, Vec<String>)> = BTreeMap::new();
    for record in records(output) {
        assert_eq!(record["status"], "ok", "{}", record["reason"]);
        let number = |key: &str| record[key].as_u64().expect("a number");
        let round = last.entry(number("round")).or_default();
        if number("attempt") > round.0 {
            *round = (number("attempt"), Vec::new());
        }
        round
            .1
            .push(record["cell"].as_str().expect("a cell").to_owned());
    }
    assert_eq!(last.len(), rounds, "{last:?}");
    for (round, (_, found)) in last {
        let once: BTreeSet<&String> = found.iter().collect();
        assert_eq!((once.len(), found.len()), (cells, cells), "round {round}");
    }
}

fn resume(output: &Path, more: &[&str]) -> Command {
    let mut command = strata(["run", "--resume"]);
    command.arg(output).args(more);
    command
}

#[test]
fn stopped_in_the_middle_it_gives_the_drive_back_and_killed_it_is_restored() {
    on("usual", |node| {
        let folder = scratch();
        written(node);
        let output = folder.path().join("run");
        let past_the_kernel = |lines_before: usize| {
            node.within(Duration::from_secs(200), "a trial, and vfio-pci", || {
                node.driver("STRATA0").as_deref() == Some("vfio-pci")
                    && lines(&output) > lines_before
            });
        };
        let running = Running::start(node_run("--repeats 2", &output));
        past_the_kernel(0);
        kill(running.id(), Signal::SIGINT).expect("interrupted");
        let ran = running.end();
        assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
        is_back(node);
        fails(resume(&output, &[]), 2, &["--drive"]);

        let before = lines(&output);
        let running = Running::start(resume(&output, &["--drive", "STRATA0"]));
        past_the_kernel(before);
        kill(running.id(), Signal::SIGKILL).expect("killed");
        drop(running.end());
        assert_eq!(node.driver("STRATA0").as_deref(), Some("vfio-pci"));
        // A new run does not begin over it.
        let ran = run(node_run("--repeats 1", &folder.path().join("over")));
        assert_ne!(ran.status.code(), Some(0));
        assert!(ran.err.contains("restore"), "{}", ran.err);
        // Nor does this one go on, and what it has stays as it is.
        let trials = output.join("trials.jsonl");
        let before = std::fs::read(&trials).expect("records");
        fails(
            resume(&output, &["--drive", "STRATA0"]),
            2,
            &["strata restore"],
        );
        assert_eq!(std::fs::read(&trials).expect("records"), before);
        assert_eq!(node.driver("STRATA0").as_deref(), Some("vfio-pci"));
        done(strata(["restore"]));
        is_back(node);
        done(resume(&output, &["--drive", "STRATA0"]));
        is_back(node);
        is_whole(&output, 2);
    });
}

#[test]
fn without_a_drive_that_is_named_nothing_is_touched() {
    on("usual", |node| {
        let folder = scratch();
        let output = folder.path().join("none");
        let mut command = strata(["run", "node", "--output"]);
        command.arg(&output);
        fails(command, 2, &["--drive", "STRATA0", "STRATA1"]);
        let mut command = strata(["run", "node", "--drive", "STRATA7", "--output"]);
        command.arg(&output);
        fails(command, 2, &["STRATA7"]);
        let mut command = strata(["run", "node", "--drive", "STRATA0,STRATA0", "--output"]);
        command.arg(&output);
        fails(command, 2, &["STRATA0"]);
        assert!(!output.exists());
        is_back(node);
    });
}
