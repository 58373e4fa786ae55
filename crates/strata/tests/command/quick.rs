//! The main job, once, as short as it goes.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{
    Running, done, json, on_one_cpu, records, schema, scratch, strata, two_cpus, until, valid,
};

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
    let of = |layer: &str| records.iter().filter(|r| r["layer"] == layer).count();
    assert_eq!((of("block"), of("tcp")), (4, 2));
    let polled = two_cpus("quick_leaves_a_run_and_its_report");
    assert_eq!(of("nvme"), if polled { 3 } else { 0 });
    for record in records.iter().filter(|r| r["layer"] == "nvme") {
        assert_eq!(record["reality"], "emulated", "{record}");
        assert!(record["result"]["bytes_per_s"].as_f64() > Some(0.0));
    }
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
    let mut told = vec!["block io_uring", "tcp reqrep", "tcp stream"];
    if polled {
        told.extend(["nvme native", "our own emulated controller"]);
    }
    for what in told {
        assert!(markdown.contains(what) && html.contains(what), "{what}");
    }
    let mut report = strata(["report", "--json"]);
    report.arg(&output);
    let document: Value = serde_json::from_str(&done(report).out).expect("one document");
    let contrasts = document["contrasts"].as_array().expect("a list");
    for contrast in contrasts {
        let keys = [&contrast["base"], &contrast["other"]].map(|k| k.as_str().expect("a cell"));
        let layers = keys.map(|key| key.split('/').next());
        assert_eq!(layers[0], layers[1], "{contrast}");
    }
}

/// What it says of itself: three minutes at most, from a forecast that holds.
#[test]
fn quick_forecasts_what_it_promises() {
    let folder = scratch();
    let output = folder.path().join("run");
    let mut command = strata(["run", "quick", "--size", "16MiB", "--output"]);
    command.arg(&output);
    let mut run = Running::start(command);
    let line = until("a forecast", || {
        let said = run.said();
        let line = said.lines().find(|line| line.contains(" rounds: "))?;
        Some(line.to_owned())
    });
    kill(run.id(), Signal::SIGINT).expect("it runs");
    assert_eq!(run.end().status.code(), Some(130));
    let plan = &json(&output.join("run.json"))["plan"];
    assert_eq!(plan["rounds"], 10);
    assert!(
        line.contains("about 2 min") || line.contains("about 1 min"),
        "{line}"
    );
}

/// With one CPU nothing polls for anything, and the rest is measured.
#[test]
fn quick_on_one_cpu_skips_what_polls() {
    const TEST: &str = "quick_on_one_cpu_skips_what_polls";
    let folder = scratch();
    let output = folder.path().join("run");
    let Some(mut command) = on_one_cpu(TEST) else {
        return;
    };
    command.args(["run", "quick", "--repeats", "1", "--size", "16MiB"]);
    command.args(["--duration", "200ms", "--ramp", "50ms"]);
    command.arg("--output").arg(&output);
    let ran = done(command);
    let skipped = ran.err.lines().find(|line| line.contains("SKIP nvme: "));
    assert!(
        skipped.is_some_and(|line| line.contains("may use one")),
        "{}",
        ran.err
    );
    let found = records(&output);
    for record in &found {
        let window = &record["workload"];
        assert_eq!(window["duration_ns"], 200_000_000, "{window}");
        assert_eq!(window["ramp_ns"], 50_000_000, "{window}");
    }
    let layers: BTreeSet<String> = found
        .iter()
        .map(|r| r["layer"].as_str().expect("a layer").to_owned())
        .collect();
    assert_eq!(layers, BTreeSet::from(["block", "tcp"].map(str::to_owned)));
}
