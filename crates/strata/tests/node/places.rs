//! What is where, on a machine with two memory nodes, and that a wrong place is found out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use strata_virtual_node::on;

use crate::support::{Running, done, records, scratch, strata};

fn topology() -> Value {
    let told = done(strata(["topology", "--json"])).out;
    serde_json::from_str(&told).expect("one document")
}

#[test]
fn the_topology_has_both_nodes_and_each_drive_on_its_own() {
    on("usual", |node| {
        let found = topology();
        let found = &found["topology"];
        let functions = found["pci"].as_array().expect("functions");
        for (serial, at) in [("STRATA0", 0), ("STRATA1", 1)] {
            let address = node.function(serial);
            let function = functions.iter().find(|f| f["address"] == address.as_str());
            let function = function.unwrap_or_else(|| panic!("{address} is not in {functions:?}"));
            assert_eq!(function["node"], at, "{function}");
            assert_eq!(function["driver"], "nvme", "{function}");
        }
        let nodes = found["nodes"].as_array().expect("nodes");
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0]["distances"][1], json!({"to": 1, "distance": 21}));
    });
}

#[test]
fn four_drives_are_told_apart_by_block_node_link_and_group() {
    on("four", |node| {
        let found = topology();
        let found = &found["topology"];
        let disks = found["disks"].as_array().expect("disks");
        let functions = found["pci"].as_array().expect("functions");
        let mut groups = Vec::new();
        for (serial, at, block) in [
            ("SLOW", json!(1), 512),
            ("NOWHERE", Value::Null, 512),
            ("FIRST", json!(0), 512),
            ("SECOND", json!(0), 4096),
        ] {
            let disk = disks.iter().find(|d| d["serial"] == serial).expect(serial);
            assert_eq!(disk["node"], at, "{serial}");
            assert_eq!(disk["logical_block_bytes"], block, "{serial}");
            let address = node.function(serial);
            let function = functions.iter().find(|f| f["address"] == address.as_str());
            groups.push(
                function.expect("a function")["iommu_group"]
                    .as_u64()
                    .expect("a group"),
            );
        }
        // Two functions of one device cannot be told apart by the IOMMU.
        assert_eq!(groups[2], groups[3]);
        assert!(
            groups[0] != groups[1] && groups[1] != groups[2],
            "{groups:?}"
        );
        let slow = node.function("SLOW");
        let parent = functions
            .iter()
            .find(|f| f["address"] == slow.as_str())
            .expect("it")["parent"]
            .clone();
        let port = functions
            .iter()
            .find(|f| f["address"] == parent)
            .expect("its port");
        assert_eq!(
            port["link_best"],
            json!({"lane_bits_per_s": 8_000_000_000_u64, "width": 4})
        );
    });
}

/// `strata block` on the drive of the second node.
fn block(disk: &Path, words: &str, output: &Path) -> Command {
    let mut command = strata([
        "block",
        "--ramp",
        "0s",
        "--repeats",
        "1",
        "--engine",
        "io_uring",
    ]);
    command.args(words.split_whitespace());
    command
        .arg("--target")
        .arg(disk)
        .arg("--output")
        .arg(output);
    command
}

#[test]
fn threads_and_pages_go_to_the_drives_node_of_themselves_and_where_they_are_sent() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        for (name, words, cpus, pages) in [
            ("near", "", vec![2, 3], 1),
            ("far", "--cpus 0", vec![0], 0),
            ("apart", "--cpus 2 --mem-node 0", vec![2], 0),
        ] {
            let output = folder.path().join(name);
            done(block(&disk, &format!("--ops 100 {words}"), &output));
            let record = &records(&output)[0];
            assert_eq!(record["status"], "ok", "{name}: {}", record["reason"]);
            let proof = &record["proof"];
            assert_eq!(proof["contradictions"], json!([]), "{name}");
            for thread in proof["threads"].as_array().expect("threads") {
                for cpu in thread["seen"].as_array().expect("CPUs") {
                    assert!(
                        cpus.contains(&cpu.as_u64().expect("a number")),
                        "{name}: {thread}"
                    );
                }
            }
            let found = proof["pages"].as_array().expect("pages");
            assert!(!found.is_empty(), "{name}");
            for part in found {
                assert_eq!(part["node"], pages, "{name}: {found:?}");
            }
        }
    });
}

#[test]
fn a_thread_that_is_put_on_the_other_node_is_found_out() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        let output = folder.path().join("moved");
        let mut running = Running::start(block(&disk, "--duration 4s --cpus 2", &output));
        let pid = running.id();
        let mut moved = false;
        // Somebody moves the measuring thread once it is where it should be.
        node.within(Duration::from_secs(60), "a thread on CPU 2", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten();
            for task in tasks {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                if status
                    .lines()
                    .any(|l| l.split_whitespace().eq(["Cpus_allowed_list:", "2"]))
                {
                    std::thread::sleep(Duration::from_secs(1));
                    let tid = task.file_name();
                    let ran = Command::new("taskset")
                        .args(["-p", "1"])
                        .arg(tid)
                        .output()
                        .expect("taskset");
                    moved = ran.status.success();
                    return true;
                }
            }
            running.has_ended()
        });
        assert!(moved, "{}", running.said());
        running.end();
        let record = &records(&output)[0];
        let told = record["proof"]["contradictions"]
            .as_array()
            .expect("contradictions");
        assert!(!told.is_empty(), "{}", record["proof"]["threads"]);
    });
}

#[test]
fn huge_pages_are_taken_of_the_node_that_has_them() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        let pool = |at: u32| {
            format!("/sys/devices/system/node/node{at}/hugepages/hugepages-2048kB/nr_hugepages")
        };
        fs::write(pool(1), "32").expect("reserved");
        for (name, words, bytes, at) in [
            ("node1", "--cpus 2", 2 << 20, 1),
            ("node0", "--cpus 0", 4096, 0),
        ] {
            let output = folder.path().join(name);
            done(block(
                &disk,
                &format!("--ops 20 --depth 4 --bs 1MiB {words}"),
                &output,
            ));
            let record = &records(&output)[0];
            let pages = record["proof"]["pages"].as_array().expect("pages");
            assert!(!pages.is_empty());
            for part in pages {
                assert_eq!(part["node"], at, "{name}: {pages:?}");
                assert_eq!(part["page_bytes"], bytes, "{name}: {pages:?}");
            }
        }
        fs::write(pool(1), "0").expect("given back");
    });
}

#[test]
fn a_drive_that_claims_the_wrong_node_is_measured_from_there_and_shown_as_it_says() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        // What firmware gets right, the kernel lets root say otherwise; it only taints itself.
        let file = format!(
            "/sys/bus/pci/devices/{}/numa_node",
            node.function("STRATA1")
        );
        fs::write(&file, "0").expect("overridden");
        let ran = [("by itself", ""), ("elsewhere", "--cpus 2")].map(|(name, words)| {
            let output = folder.path().join(name);
            let ran = crate::support::run(block(&disk, &format!("--ops 50 {words}"), &output));
            (name, output, ran)
        });
        fs::write(&file, "1").expect("set back");
        for (name, output, ran) in ran {
            assert_eq!(ran.status.code(), Some(0), "{name}: {}", ran.err);
            let record = &records(&output)[0];
            assert_eq!(record["target"]["node"], 0, "{name}: as it says");
            let cpu = record["placement"]["cpus"][0].as_u64().expect("a CPU");
            let (expected, at) = if name == "by itself" {
                (0..2, 0)
            } else {
                (2..3, 1)
            };
            assert!(expected.contains(&cpu), "{name}: CPU {cpu}");
            // Each CPU has a queue of its own, whose interrupts come to it: they show where it was measured from, and their
            // node is the CPU's, whatever the drive says of itself.
            let fired = record["proof"]["host"]["fired"]
                .as_array()
                .expect("what fired");
            let counts: Vec<&Value> = fired
                .iter()
                .filter(|v| v["name"].as_str().is_some_and(|n| n.starts_with("nvme")))
                .flat_map(|v| v["counts"].as_array().expect("counts"))
                .collect();
            let all: u64 = counts.iter().filter_map(|c| c["count"].as_u64()).sum();
            assert!(all > 0, "{name}: {fired:?}");
            for count in counts {
                assert_eq!(count["cpu"], cpu, "{name}: {fired:?}");
                assert_eq!(count["node"], at, "{name}: {fired:?}");
            }
        }
    });
}
