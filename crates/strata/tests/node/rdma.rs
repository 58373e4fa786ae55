//! RDMA devices on a machine that has one, of software.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use strata_virtual_node::{SOFT_ROCE, on};

use crate::support::{Running, done, records, schema, scratch, strata, until, valid};

/// The interface below the device.
const BELOW: &str = "roce0";

fn list() -> Value {
    let told = done(strata(["rdma", "list", "--json"])).out;
    serde_json::from_str(&told).expect("one document")
}

fn ip(words: &str) {
    let mut command = Command::new("ip");
    let ran = command.args(words.split_whitespace()).status();
    assert!(ran.expect("iproute2 is there").success(), "ip {words}");
}

/// Puts the interface back for other tests, in whatever state this one left it.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        for words in [
            format!("link set {BELOW} mtu 4200 up"),
            format!("address replace {SOFT_ROCE}/24 dev {BELOW}"),
        ] {
            let mut command = Command::new("ip");
            let _ = command.args(words.split_whitespace()).status();
        }
    }
}

#[test]
fn soft_roce_is_listed_and_what_becomes_wrong_with_it_is_told() {
    on("verbs", |_| {
        let found = list();
        assert_eq!(found["findings"], json!([]));
        let device = &found["devices"][0];
        assert_eq!(device["name"], "rxe0");
        assert_eq!(
            (&device["kind"], &device["reality"], &device["pci"]),
            (&json!("CA"), &json!("software"), &Value::Null)
        );
        let verbs = device["verbs"].as_str().expect("a device file");
        assert!(verbs.starts_with("uverbs"), "{verbs}");
        let port = &device["ports"][0];
        assert_eq!(port["state"], "ACTIVE");
        assert_eq!(port["interfaces"], json!([BELOW]));
        // The kernel says 2.5 Gb/s of an interface that tells no speed.
        assert_eq!(port["data_rate_bits_per_s"], Value::Null);
        let gids = port["gids"].as_array().expect("GIDs");
        let usual = gids.iter().find(|gid| gid["index"] == port["usual_gid"]);
        let usual = usual.expect("the one of its choice");
        assert_eq!(usual["gid"], format!("::ffff:{SOFT_ROCE}"));
        assert_eq!(
            (&usual["kind"], &usual["interface"]),
            (&json!("RoCE v2"), &json!(BELOW))
        );
        assert_eq!(port["networks"][0]["addresses"], json!([SOFT_ROCE]));

        let _restored = Restored;
        let wrong = |what: &str| {
            let found = list();
            let findings = found["findings"].as_array().expect("findings");
            let told: Vec<&str> = findings.iter().filter_map(|f| f["what"].as_str()).collect();
            assert_eq!(told.len(), 1, "{what}: {told:?}");
            assert!(told[0].contains(what), "{what}: {told:?}");
            assert_eq!(findings[0]["on"], "rxe0 port 1");
        };
        ip(&format!("link set {BELOW} mtu 1500"));
        wrong("the MTU of roce0 is 1500");
        ip(&format!("link set {BELOW} mtu 4200"));
        ip(&format!("address del {SOFT_ROCE}/24 dev {BELOW}"));
        wrong("roce0 has no IP address");
        ip(&format!("link set {BELOW} down"));
        wrong("DOWN (Disabled)");
    });
}

/// The processes that this one has started, by their names.
fn children(of: nix::unistd::Pid) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).expect("it lives");
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let all = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        all.collect::<Vec<i32>>()
    };
    tasks.flatten().flat_map(of_task).collect()
}

/// Between two processes: what a user does first, and what comes of an other side that is killed.
#[test]
fn verbs_between_two_processes() {
    on("verbs", |_| {
        let folder = scratch();
        let measure = |words: &str, output: &str| {
            let mut command = strata(["rdma", "--repeats", "1", "--ramp", "0s"]);
            command.args(words.split_whitespace());
            command.arg("--output").arg(folder.path().join(output));
            command
        };
        let words = "--op write,send-pingpong --bs 64 --engine verbs,verbs-ex --ops 100 --json";
        let told = done(measure(words, "first")).out;
        let document: Value = serde_json::from_str(&told).expect("one document");
        valid(&schema("document"), &document);
        let found = document["records"].as_array().expect("records");
        assert_eq!(found.len(), 4);
        for record in found {
            assert_eq!(record["status"], "ok", "{}", record["reason"]);
            assert_eq!(
                record["target"]["identity"],
                "roce0 of node to roce0 of node"
            );
            assert_eq!(record["proof"]["contradictions"], json!([]));
            let completes = &record["result"]["completes"];
            let pingpong = record["workload"]["op"] == "send-pingpong";
            let expected = if pingpong {
                "round_trip"
            } else {
                "remote_acked"
            };
            assert_eq!(completes, expected);
            // Who only holds memory spends nothing.
            let threads = record["proof"]["threads"].as_array().expect("threads");
            let peer = threads.iter().find(|t| t["role"] == "peer").expect("there");
            assert_eq!(peer["mask"], record["placement"]["peer_cpus"]);
        }

        let running = Running::start(measure("--op write --duration 60s", "killed"));
        let peer = until("the other side runs", || {
            children(running.id()).first().copied()
        });
        std::thread::sleep(Duration::from_secs(4));
        let begun = Instant::now();
        kill(nix::unistd::Pid::from_raw(peer), Signal::SIGKILL).expect("killed");
        let ran = running.end();
        assert!(
            begun.elapsed() < Duration::from_secs(12),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
        let record = &records(&folder.path().join("killed"))[0];
        assert_eq!(record["status"], "failed");
        let why = record["reason"].as_str().expect("a reason");
        assert!(
            why.contains("other side") || why.contains("did not answer"),
            "{why}"
        );
        // What was measured is kept.
        assert!(record["result"]["ops"].as_u64() > Some(0), "{why}");
    });
}
