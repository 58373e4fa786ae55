//! What goes to standard output and standard error, and what each record holds.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::support::{
    done, engines, json, records, run, schema, scratch, short, strata, told, valid,
};

fn into(folder: &Path, words: &str) -> Command {
    let mut command = strata(short(words));
    command.arg("--output").arg(folder.join("run"));
    command
}

/// One document and nothing else.
fn document(text: &str) -> Value {
    assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    let document = serde_json::from_str(text).expect("one document");
    valid(&schema("document"), &document);
    document
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

/// What holds for every trial that measured something.
fn bears_out(record: &Value) {
    let number = |value: &Value| {
        value
            .as_f64()
            .unwrap_or_else(|| panic!("a number: {record}"))
    };
    assert_eq!(record["status"], "ok", "{record}");
    assert_eq!(record["reason"], Value::Null);
    let result = &record["result"];
    let ops = number(&result["ops"]);
    assert!(ops > 0.0 && number(&result["window_s"]) > 0.0, "{result}");
    assert!(
        near(
            ops / number(&result["window_s"]),
            number(&result["ops_per_s"])
        ),
        "{result}"
    );
    let block = number(&record["workload"]["block_bytes"]);
    assert!(
        near(
            number(&result["ops_per_s"]) * block,
            number(&result["bytes_per_s"])
        ),
        "{result}"
    );
    assert_eq!(
        (&result["errors"], &result["lost"]),
        (&Value::from(0), &Value::from(0))
    );
    let series: f64 = result["series"]["ops"]
        .as_array()
        .expect("a series")
        .iter()
        .map(number)
        .sum();
    assert!(series <= ops, "{result}");
    if record["workload"]["op"] == "stream" {
        assert_eq!(
            result["latency_ns"],
            Value::Null,
            "what is received has no latency"
        );
    } else {
        let latency = &result["latency_ns"];
        assert_eq!(latency["count"], result["ops"]);
        let text = latency["histogram"].as_str().expect("a histogram");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("base64");
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .expect("a histogram");
        assert_eq!(histogram.len() as f64, ops, "every operation is in it");
        for (low, high) in [("min", "mean"), ("mean", "max")] {
            assert!(number(&latency[low]) <= number(&latency[high]), "{latency}");
        }
    }
    assert!(number(&record["cost"]["cpu_ns_per_op"]) >= 0.0);
    assert!(number(&record["harness"]["ns_per_op"]) > 0.0);
    assert!(number(&record["ceiling"]["ops_per_s"]) > 0.0);
    assert!(
        record["ceiling"]["bound_by"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
    );
    let proof = &record["proof"];
    assert_eq!(proof["contradictions"], Value::Array(Vec::new()), "{proof}");
    let threads = proof["threads"].as_array().expect("threads");
    for (role, placed) in [("measure", "cpus"), ("peer", "peer_cpus")] {
        let mut asked: Vec<&Value> = Vec::new();
        for thread in threads.iter().filter(|t| t["role"] == role) {
            assert_eq!(thread["seen"], thread["asked"], "{thread}");
            assert_eq!(thread["mask"], thread["asked"], "{thread}");
            assert!(number(&thread["samples"]) > 0.0, "{thread}");
            asked.extend(thread["asked"].as_array().expect("CPUs"));
        }
        let placed: Vec<&Value> = record["placement"][placed]
            .as_array()
            .expect("CPUs")
            .iter()
            .collect();
        assert_eq!(asked, placed, "each CPU has its thread");
    }
    let pages: f64 = proof["pages"]
        .as_array()
        .expect("pages")
        .iter()
        .map(|p| number(&p["pages"]))
        .sum();
    assert!(pages > 0.0, "buffers have pages: {proof}");
}

#[test]
fn json_of_block_is_one_valid_document_and_each_record_bears_itself_out() {
    let folder = scratch();
    let engines = engines("json_of_block_is_one_valid_document_and_each_record_bears_itself_out");
    let words = format!("block --json --engine {engines} --op randread,read --timed-by batch");
    let ran = done(into(folder.path(), &words));
    let cells = 2 * engines.split(',').count();
    let found = document(&ran.out);
    let all = found["records"].as_array().expect("records");
    assert_eq!(all.len(), 2 * cells);
    assert_eq!(
        *all,
        records(&folder.path().join("run")),
        "what is printed is what is kept"
    );
    for record in all {
        bears_out(record);
        let memory = folder.path().starts_with("/dev/shm");
        assert!(!memory || record["reality"] == "memory", "{record}");
    }
    assert_eq!(found["summary"].as_array().expect("lines").len(), cells);
    assert!(
        ran.err.lines().all(|line| line.starts_with("strata: ")),
        "{}",
        ran.err
    );
    assert!(
        ran.err
            .lines()
            .last()
            .is_some_and(|line| line.contains(&format!("{cells} cells × 2 rounds: about"))),
        "the estimate comes first: {}",
        ran.err
    );
    valid(&schema("run"), &json(&folder.path().join("run/run.json")));
    assert!(
        !folder.path().join("run/target.dat").exists(),
        "the run's own file is gone"
    );
    let report = strata(["report", "--json"]);
    let mut report = report;
    report.arg(folder.path().join("run"));
    assert_eq!(
        document(&done(report).out)["records"],
        found["records"],
        "a report is of the same records"
    );
}

#[test]
fn json_of_tcp_is_one_valid_document_and_each_record_bears_itself_out() {
    let folder = scratch();
    let ran = done(into(
        folder.path(),
        "tcp --json --op reqrep,stream --repeats 1",
    ));
    let found = document(&ran.out);
    let all = found["records"].as_array().expect("records");
    assert_eq!(all.len(), 2);
    for record in all {
        bears_out(record);
        assert_eq!(record["reality"], "software", "loopback is no wire");
    }
}

#[test]
fn a_window_by_count_has_that_many_operations() {
    let folder = scratch();
    let engines = engines("a_window_by_count_has_that_many_operations");
    let ran = done(into(
        folder.path(),
        &format!("block --json --ops 500 --engine {engines}"),
    ));
    for record in document(&ran.out)["records"].as_array().expect("records") {
        bears_out(record);
        assert_eq!(record["result"]["ops"], 500);
    }
}

#[test]
fn quiet_is_silent() {
    let folder = scratch();
    for (n, words) in ["block --quiet --repeats 1", "tcp --quiet --repeats 1"]
        .into_iter()
        .enumerate()
    {
        let folder = folder.path().join(n.to_string());
        let ran = done(into(&folder, words));
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
        let mut report = strata(["report", "--quiet"]);
        report.arg(folder.join("run"));
        let ran = done(report);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    }
}

#[test]
fn the_table_names_cells_and_report() {
    let folder = scratch();
    let ran = done(into(
        folder.path(),
        "block --engine psync --repeats 6 --duration 20ms",
    ));
    assert!(
        ran.out.contains("block psync randread 4KiB qd1"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("report.html"), "{}", ran.out);
    assert!(
        !ran.out.contains('\x1b') && !ran.err.contains('\x1b'),
        "no colours off a terminal"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = scratch();
    for (n, words) in ["block --json --repeats 1", "block --repeats 1"]
        .into_iter()
        .enumerate()
    {
        let run_folder = folder.path().join(n.to_string());
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = into(&run_folder, words);
        let err = tempfile::NamedTempFile::new().expect("a file");
        command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(err.reopen().expect("a file"));
        let status = command.status().expect("it runs");
        let said = fs::read_to_string(err.path()).expect("readable");
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(records(&run_folder.join("run")).len(), 1);
    }
    // The same of standard error, and of both on a full disk.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = into(&folder.path().join("err"), "block --repeats 1");
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .status();
    assert_eq!(status.expect("it runs").code(), Some(0));
    let mut command = strata(["report", "/nowhere/at/all"]);
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("it is always there")
    };
    let status = command
        .stdin(Stdio::null())
        .stdout(full())
        .stderr(full())
        .status();
    assert_eq!(status.expect("it runs").code(), Some(1));
}

#[test]
fn a_full_standard_output_fails_and_the_run_is_kept() {
    let folder = scratch();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("it is always there");
    let mut command = into(folder.path(), "block --json --repeats 1");
    let output = command
        .stdin(Stdio::null())
        .stdout(full)
        .output()
        .expect("it runs");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.lines()
            .last()
            .is_some_and(|l| l.starts_with("strata: cannot write to standard output")),
        "{err}"
    );
    assert_eq!(records(&folder.path().join("run")).len(), 1);
}

#[test]
fn the_other_side_alone_says_what_it_is() {
    let ran = run(strata(["peer"]));
    // Its protocol's greeting goes to standard output, and then its input ends.
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    told(
        "peer",
        &crate::support::Ran {
            out: String::new(),
            ..ran
        },
        1,
        &[],
    );
}
