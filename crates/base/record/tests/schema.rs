//! The committed JSON Schemas are those of the types, and what the types write is what the schemas say.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use strata_record::{
    Contrast, Document, Estimate, Op, Record, Run, SCHEMA, Status, SummaryLine, Verdict, schemas,
};
use support::{record, run};

/// Objects whose keys are names of the machine rather than fields of the schema.
const MAPS: [&str; 7] = [
    "vulnerabilities",
    "governors",
    "frequency_drivers",
    "sysctls",
    "statistics",
    "errors",
    "hw_counters",
];

const UPDATE: &str = "STRATA_UPDATE_SCHEMA=1 cargo test -p strata-record --test schema";

fn document() -> Document {
    let record = record();
    let estimate = Some(Estimate {
        median: 123_456.7,
        ci95_low: Some(120_000.25),
        ci95_high: Some(130_000.5),
    });
    Document {
        schema: SCHEMA,
        run: Some("results/20260102T030405Z-full".to_owned()),
        summary: vec![SummaryLine {
            key: record.cell.clone(),
            cell: record.what.clone(),
            rounds: 8,
            left_out: vec!["1 × unwritten".to_owned()],
            ops_per_s: estimate,
            ops_per_s_with_left_out: estimate,
            bytes_per_s: estimate,
            mean_ns: estimate,
            p50_ns: estimate,
            p99_ns: estimate,
            p999_ns: estimate,
            cpu_ns_per_op: estimate,
            harness_ns_per_op: estimate,
        }],
        contrasts: vec![Contrast {
            base: record.cell.clone(),
            other: "another".to_owned(),
            name: "io_uring ÷ psync".to_owned(),
            response: "ops_per_s".to_owned(),
            rounds: 8,
            ratio: 1.25,
            ci95_low: Some(1.2),
            ci95_high: Some(1.3),
            p_holm: Some(0.007_812_5),
            verdict: Verdict::Higher,
            words: "io_uring is 25 % higher".to_owned(),
        }],
        doubts: vec!["two cores".to_owned()],
        records: vec![record],
    }
}

fn validator(file: &str) -> Validator {
    let (_, text) = schemas()
        .into_iter()
        .find(|(name, _)| *name == file)
        .expect("a schema of that name");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a valid JSON Schema")
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("JSON")
}

#[track_caller]
fn assert_valid(schema: &Validator, value: &Value) {
    let errors: Vec<String> = schema
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(errors, Vec::<String>::new());
}

/// JSON pointers of every value below `value`, and whether each is a field (rather than an item or a map's entry).
fn places(value: &Value, at: &str, in_map: bool, found: &mut Vec<(String, bool)>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                let here = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                places(inner, &here, MAPS.contains(&key.as_str()), found);
                found.push((here, !in_map));
            }
        }
        Value::Array(items) => {
            for (n, inner) in items.iter().enumerate() {
                let here = format!("{at}/{n}");
                places(inner, &here, false, found);
                found.push((here, false));
            }
        }
        Value::Null => panic!("{at} is null, so that nothing below it is tested"),
        _ => {}
    }
}

/// The whole is valid and stays so with a key more; with any field gone or any value of another type it is not.
fn every_field_matters(file: &str, whole: &Value) {
    let schema = validator(file);
    assert_valid(&schema, whole);
    let mut more = whole.clone();
    more["a_later_key"] = json!(1);
    assert_valid(&schema, &more);

    let mut found = Vec::new();
    places(whole, "", false, &mut found);
    assert!(found.len() > 50, "{file}: {} places", found.len());
    for (place, is_field) in &found {
        let mut wrong = whole.clone();
        let value = wrong.pointer_mut(place).expect("a value");
        *value = if value.is_object() {
            json!("text")
        } else {
            json!({})
        };
        assert!(!schema.is_valid(&wrong), "{file}: {place} of another type");
        if *is_field {
            let (above, key) = place.rsplit_once('/').expect("a pointer");
            let mut less = whole.clone();
            less.pointer_mut(above)
                .and_then(Value::as_object_mut)
                .and_then(|fields| fields.remove(key))
                .expect("a field");
            assert!(!schema.is_valid(&less), "{file}: without {place}");
        }
    }
    let mut newer = whole.clone();
    newer["schema"] = json!(SCHEMA + 1);
    assert!(!schema.is_valid(&newer), "{file}: a newer schema");
}

#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_string(value).expect("JSON");
    assert_eq!(
        &serde_json::from_str::<T>(&text).expect("what was written"),
        value
    );
}

#[test]
fn committed_schemas_are_those_of_the_types() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../results/schema"
    ));
    let wanted = schemas();
    if std::env::var_os("STRATA_UPDATE_SCHEMA").is_some_and(|v| v == "1") {
        fs::create_dir_all(folder).expect("results can be written");
        for (name, text) in &wanted {
            fs::write(folder.join(name), text).expect("results/schema can be written");
        }
    }
    for (name, text) in &wanted {
        let committed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        let line = committed
            .lines()
            .zip(text.lines())
            .take_while(|(a, b)| a == b)
            .count()
            + 1;
        assert!(
            committed == *text,
            "results/schema/{name} is not the schema of the types, from line {line} on; run `{UPDATE}`, look at the \
             difference, and raise strata_record::SCHEMA where old files would no longer be read"
        );
    }
    let names: BTreeSet<&str> = wanted.iter().map(|(name, _)| *name).collect();
    for entry in fs::read_dir(folder).expect("results/schema") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        assert!(
            !name.ends_with(".schema.json") || names.contains(&*name),
            "results/schema/{name} is the schema of nothing; remove it"
        );
    }
}

#[test]
fn every_field_of_a_record_matters() {
    every_field_matters("record.schema.json", &json_of(&record()));
}

#[test]
fn every_field_of_a_run_matters() {
    every_field_matters("run.schema.json", &json_of(&run()));
}

#[test]
fn every_field_of_a_document_matters() {
    every_field_matters("document.schema.json", &json_of(&document()));
}

#[test]
fn records_with_nothing_but_nulls_are_valid() {
    let schema = validator("record.schema.json");
    let mut bare = Record::new(support::RUN, record().what);
    for status in [Status::Skipped, Status::Failed] {
        bare.status = status;
        assert_valid(&schema, &json_of(&bare));
        round_trip(&bare);
    }
    let mut cell = record().what;
    cell.target.region_bytes = None;
    cell.target.node = None;
    cell.workload.duration_ns = None;
    cell.workload.ops = None;
    cell.placement.mem_node = None;
    for op in [Op::RandRead, Op::Stream, Op::RandRw { read_percent: 100 }] {
        cell.workload.op = op;
        let bare = Record::new(support::RUN, cell.clone());
        assert_valid(&schema, &json_of(&bare));
        round_trip(&bare);
    }
}

#[test]
fn values_out_of_range_are_invalid() {
    let schema = validator("record.schema.json");
    for (place, wrong) in [
        ("/schema", json!(0)),
        ("/trial", json!(-1)),
        ("/trial", json!(1.5)),
        ("/status", json!("OK")),
        ("/reality", json!("declared")),
        ("/workload/depth", json!(0)),
        ("/workload/op", json!("trim")),
        ("/result/completes", json!("never")),
        ("/result/latency_ns/p99", json!("1 ms")),
        ("/proof/threads/0/seen", json!("0-3")),
        ("/binding/driver", json!("vfio_pci")),
        ("/binding/function", json!("81:00.0")),
    ] {
        let mut value = json_of(&record());
        *value.pointer_mut(place).expect("a value") = wrong.clone();
        assert!(!schema.is_valid(&value), "{place} = {wrong}");
    }
}

#[test]
fn what_is_written_is_read_back_equal() {
    round_trip::<Record>(&record());
    round_trip::<Run>(&run());
    round_trip::<Document>(&document());
}

#[test]
fn a_record_from_before_hosts_were_watched_is_read() {
    let mut older = json_of(&record());
    let proof = older["proof"].as_object_mut().expect("a proof");
    assert!(proof.remove("host").is_some());
    let read: Record = serde_json::from_value(older).expect("still a record");
    let mut expected = record();
    expected.proof.as_mut().expect("a proof").host = None;
    assert_eq!(read, expected);
}

#[test]
fn a_record_from_before_drives_changed_their_driver_is_read_and_keeps_its_key() {
    let mut older = json_of(&record());
    let fields = older.as_object_mut().expect("an object");
    for later in ["binding", "switch_s", "verbs"] {
        assert!(fields.remove(later).is_some(), "{later}");
    }
    let host = older.pointer_mut("/proof/host").expect("a host");
    let functions = host.as_object_mut().expect("an object").remove("functions");
    assert!(functions.is_some());
    let read: Record = serde_json::from_value(older).expect("still a record");
    assert_eq!((read.what.binding, read.switch_s), (None, None));
    let (bound, unbound) = (record().what.key(), read.what.key());
    let without = bound.replace("/on-nvme", "");
    assert_eq!(without.replace("/uc/cm/mtu=1KiB/reads=4", ""), unbound);
    assert_ne!(bound, unbound);
    // As it was written before there were bindings.
    assert_eq!(
        unbound,
        "block/io_uring/hardware/randrw:70/4KiB/qd32/x2/reply64B/streams4/both/each-once/poisson10000/nagle/sndbuf=1MiB\
         /rcvbuf=1MiB/cubic/busy-poll=50\u{b5}s/dev=eth0/1s/ramp100ms/by-batch/verify/cpus2,3/poll4/peer1/mem0/xfs on nvme0n1p2, \
         serial S\u{2192}1@4KiB+1GiB"
    );
    let mut elsewhere = record().what;
    let binding = elsewhere.binding.as_mut().expect("a binding");
    binding.function = "0000:01:00.0".parse().expect("an address");
    assert_eq!(elsewhere.key(), bound, "a slot is no identity");
}

#[test]
fn latencies_and_cells_stand_flat() {
    let value = json_of(&record());
    assert_eq!(value["layer"], "block");
    assert_eq!(value["workload"]["op"], "randrw:70");
    assert_eq!(value["result"]["latency_ns"]["p999"], 1_204_223.0);
    assert!(value.get("what").is_none());
    assert!(value["result"]["latency_ns"].get("percentiles").is_none());
}

proptest! {
    /// serde_json's quick parser of floats errs in the last bit, so that a figure would change when read; the crate asks
    /// for the exact one. (jsonschema asks for it too, so a test cannot notice when the crate no longer does.)
    #[test]
    fn figures_do_not_change_when_read(
        rate in prop::num::f64::NORMAL | prop::num::f64::ZERO,
        slope in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL,
        seed: u64,
    ) {
        let mut record = record();
        record.seed = seed;
        let result = record.result.as_mut().expect("a result");
        result.ops_per_s = rate;
        result.bytes_per_s = Some(slope);
        if let Some(latency) = &mut result.latency_ns {
            latency.mean = rate;
            latency.percentiles.p99 = Some(slope);
        }
        round_trip(&record);
    }
}
