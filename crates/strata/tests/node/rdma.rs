//! RDMA devices on a machine that has one, of software.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use strata_virtual_node::{SOFT_ROCE, on};

use crate::support::{Running, done, program, records, run, schema, scratch, strata, until, valid};

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

/// Two devices, a rail each, and which of them carried how much; a message as large as a port has; and what is told where
/// memory may not be pinned. As one, since each boot takes its time.
#[test]
fn rails_large_messages_and_memory_that_may_not_be_pinned() {
    on("verbs", |_| {
        let folder = scratch();
        let measure = |program: Command, words: &str, output: &str| {
            let mut command = program;
            command.args(["rdma", "--repeats", "1", "--ramp", "0s", "--json"]);
            command.args(words.split_whitespace());
            command.arg("--output").arg(folder.path().join(output));
            command
        };
        let plain = || strata::<[&str; 0], &str>([]);
        let one = |command: Command| -> Value {
            let document: Value = serde_json::from_str(&done(command).out).expect("one document");
            document["records"][0].clone()
        };

        ip("link add roce1 type dummy");
        ip("link set roce1 mtu 4200 up");
        ip("address add 10.77.7.1/24 dev roce1");
        let added = Command::new("rdma")
            .args(["link", "add", "rxe1", "type", "rxe", "netdev", "roce1"])
            .status();
        assert!(added.expect("iproute2 is there").success());
        let words = "--op write --bs 4KiB --depth 4 --threads 2 --ops 50 --device rxe0,rxe1";
        let record = one(measure(plain(), words, "rails"));
        assert_eq!(record["status"], "ok", "{}", record["reason"]);
        let carried = |role: &str, device: &str| {
            let lines = record["proof"]["queue_pairs"].as_array().expect("lines");
            let line = lines
                .iter()
                .find(|l| l["role"] == role && l["device"] == device)
                .unwrap_or_else(|| panic!("no {device} of {role}: {lines:?}"));
            line["bytes"].as_u64().expect("bytes")
        };
        for device in ["rxe0", "rxe1"] {
            assert!(carried("measure", device) >= 50 * 4096, "{record}");
            assert_eq!(carried("peer", device), 0);
        }
        let gone = Command::new("rdma")
            .args(["link", "delete", "rxe1"])
            .status();
        assert!(gone.expect("iproute2 is there").success());
        ip("link delete roce1");

        let words = "--op write --bs 8MiB --ops 2";
        let record = one(measure(plain(), words, "large"));
        assert_eq!(record["status"], "ok", "{}", record["reason"]);
        assert_eq!(record["result"]["ops"], 2);
        // What was refused stands in the record, as any trial that failed.
        let refused = |command: Command, words: &[&str]| {
            let ran = run(command);
            assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
            let document: Value = serde_json::from_str(&ran.out).expect("one document");
            let why = document["records"][0]["reason"].as_str().expect("a reason");
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
        };
        let beyond = measure(plain(), "--op write --bs 1GiB --ops 1", "beyond");
        refused(
            beyond,
            &["a message of 1GiB does not go over rxe0/1", "8MiB", "--bs"],
        );

        // As somebody who may use the devices, and lock 64 KiB.
        let open_to_all = |path: &Path| {
            let all = fs::Permissions::from_mode(0o777);
            fs::set_permissions(path, all).expect("it may be changed");
        };
        open_to_all(folder.path());
        for entry in fs::read_dir("/dev/infiniband").expect("devices") {
            open_to_all(&entry.expect("an entry").path());
        }
        let unprivileged = || {
            let mut command = Command::new("bash");
            command.args(["-c", "ulimit -l 64; exec \"$0\" \"$@\""]);
            command.arg(program()).uid(65534).gid(65534);
            command
        };
        let words = "--op write --bs 64KiB --depth 16 --ops 1";
        let said = [
            "1MiB of memory are to be registered",
            "may lock 64KiB",
            "ulimit -l",
        ];
        refused(measure(unprivileged(), words, "locked"), &said);
        let words = "--op write --bs 64 --depth 1 --ops 10";
        let record = one(measure(unprivileged(), words, "within"));
        assert_eq!(record["status"], "ok", "{}", record["reason"]);
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
