//! A drive that goes in mid-run. The last by name, since the node is of no use to others afterwards.

use std::path::Path;
use std::time::Duration;

use strata_virtual_node::{Node, on};

use crate::block::block;
use crate::native::{Taken, polled};
use crate::support::{Running, done, lines, records, scratch, strata};

/// Pulls a drive out from under a run once it has a record; gives why the last trial failed.
fn pull(node: &Node, serial: &str, running: Running, output: &Path) -> String {
    node.within(Duration::from_secs(120), "a record", || lines(output) > 0);
    node.pull(serial);
    let ran = running.end();
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    let found = records(output);
    assert_eq!(found[0]["status"], "ok", "{}", found[0]["reason"]);
    let last = found.last().expect("a record");
    assert_eq!(last["status"], "failed");
    // What was measured is kept, and told.
    assert!(output.join("report.html").exists());
    last["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn a_drive_that_is_pulled_out_ends_the_run_with_its_name() {
    on("usual", |node| {
        let folder = scratch();
        let words = "--depth 4 --duration 500ms --repeats 100";

        let output = folder.path().join("kernel");
        let disk = node.disk("STRATA0");
        let running = Running::start(block(&disk, &format!("--engine io_uring {words}"), &output));
        let why = pull(node, "STRATA0", running, &output);
        assert!(why.contains("nvme"), "{why}");

        let output = folder.path().join("past");
        let function = node.function("STRATA1");
        let _gone = Taken::take(node, "STRATA1");
        let running = Running::start(polled("STRATA1", words, &output));
        let why = pull(node, "STRATA1", running, &output);
        assert!(why.contains(&function), "{why}");
        assert!(
            ["removed", "taken away", "gone"]
                .iter()
                .any(|word| why.contains(word)),
            "{why}"
        );
        // What is gone cannot be given back, and says so without hanging.
        let restored = done(strata(["restore"]));
        assert!(
            restored.out.contains("gone from the host"),
            "{}",
            restored.out
        );
        let again = done(strata(["restore"]));
        assert!(again.out.starts_with("Nothing"), "{}", again.out);
    });
}
