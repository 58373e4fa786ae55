//! Open loops: operations start when they are to, and what could not start is told.

use std::path::Path;

use serde_json::Value;

use crate::support::{done, not_understood, records, scratch, short, strata};

fn at(folder: &Path, words: &str) -> Vec<Value> {
    let output = folder.join(words.replace(' ', "_"));
    let mut command = strata(short(&format!(
        "block --quiet --size 1MiB --repeats 1 --engine libaio {words}"
    )));
    command.arg("--output").arg(&output);
    done(command);
    records(&output)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn a_rate_that_can_be_kept_is_kept() {
    let folder = scratch();
    for (arrivals, words) in [("fixed", ""), ("poisson", " --poisson")] {
        let words = format!("--rate 200 --depth 32 --duration 1s{words}");
        for record in at(folder.path(), &words) {
            assert_eq!(record["workload"]["rate"]["ops_per_s"], 200);
            assert_eq!(record["workload"]["rate"]["arrivals"], arrivals);
            let open = &record["result"]["open"];
            assert_eq!(number(&open["offered_ops_per_s"]), 200.0);
            // A Poisson process of 200 has a deviation of 14; a machine that does other things may be late with some.
            let started = number(&record["result"]["ops"]) + number(&open["unstarted"]);
            assert!((100.0..300.0).contains(&started), "{words}: {record}");
            let achieved = number(&record["result"]["ops_per_s"]);
            assert!((50.0..300.0).contains(&achieved), "{words}: {achieved}");
            assert!(number(&open["mean_wait_ns"]) >= 0.0);
        }
    }
}

#[test]
fn a_rate_that_cannot_be_kept_leaves_operations_unstarted() {
    let folder = scratch();
    for words in ["--rate 100000000", "--rate 100000000 --poisson --depth 4"] {
        for record in at(folder.path(), &format!("{words} --duration 100ms")) {
            let open = &record["result"]["open"];
            let (offered, done) = (1e7, number(&record["result"]["ops"]));
            let unstarted = number(&open["unstarted"]);
            assert!(done > 0.0 && unstarted > 0.0, "{words}: {record}");
            let all = done + unstarted;
            assert!(
                (0.9 * offered..1.1 * offered).contains(&all),
                "{words}: {all}"
            );
            // Late operations are counted from when they were to start.
            let mean = number(&record["result"]["latency_ns"]["mean"]);
            assert!(
                mean > number(&open["mean_wait_ns"]) * 0.9,
                "{words}: {record}"
            );
        }
    }
}

#[test]
fn a_closed_loop_has_no_schedule() {
    let folder = scratch();
    for record in at(folder.path(), "--depth 2") {
        assert_eq!(record["workload"]["rate"], Value::Null);
        assert_eq!(record["result"]["open"], Value::Null);
    }
}

#[test]
fn a_rate_that_is_none_is_not_understood() {
    let refused = |words: &str, expected: &[&str]| {
        not_understood(strata(words.split_whitespace()), expected);
    };
    refused("block --poisson", &["--rate <OPS_PER_S>"]);
    refused("tcp --poisson", &["--rate <OPS_PER_S>"]);
    refused("block --rate 0", &["--rate", "1..=1000000000"]);
    refused("block --rate fast", &["--rate", "fast"]);
}
