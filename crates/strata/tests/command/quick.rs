//! The main job, once, as short as it goes.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{done, json, records, schema, scratch, strata, valid};

#[test]
fn quick_leaves_a_run_and_its_report() {
    let folder = scratch();
    let output = folder.path().join("run");
    let mut command = strata([
        "run",
        "quick",
        "--repeats",
        "1",
        "--size",
        "64MiB",
        "--output",
    ]);
    command.arg(&output);
    let ran = done(command);
    assert!(ran.out.contains("report.html"), "{}", ran.out);
    let run = json(&output.join("run.json"));
    valid(&schema("run"), &run);
    assert_eq!(run["plan"]["name"], "quick");
    let records = records(&output);
    let layers: BTreeSet<&str> = records.iter().filter_map(|r| r["layer"].as_str()).collect();
    assert_eq!(layers, BTreeSet::from(["block", "tcp"]));
    assert_eq!(
        records.len(),
        run["plan"]["cells"].as_array().expect("cells").len()
    );
    for record in &records {
        assert!(
            record["status"] == "ok" || record["status"] == "skipped",
            "{record}"
        );
    }
    assert!(
        !output.join("target.dat").exists(),
        "the run's own file is gone"
    );

    let html = fs::read_to_string(output.join("report.html")).expect("a report");
    assert!(
        html.contains("</html>") && html.contains("<svg"),
        "whole, with plots"
    );
    for outside in [
        "src=\"http",
        "href=\"http",
        "src=\"//",
        "url(",
        "@import",
        "<link",
        "<script src",
    ] {
        assert!(!html.contains(outside), "{outside} in the report");
    }
    let markdown = fs::read_to_string(output.join("report.md")).expect("a report");
    for layer in ["block io_uring", "tcp reqrep", "tcp stream"] {
        assert!(markdown.contains(layer) && html.contains(layer), "{layer}");
    }
}
