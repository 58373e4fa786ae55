//! NVMe queue pairs that are polled, on the emulated controller: what is measured, what is said of it, what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::permission::{User, mode};
use crate::support::{
    Running, done, drawn, fails, lines, not_understood, on_one_cpu, records, run, scratch, short,
    strata, two_cpus, until,
};

/// The command, small; on an emulated controller where the words do not say otherwise.
fn words(words: &str) -> Vec<String> {
    let target = words.contains("--target") || words.contains("--emulated");
    let emulated = if target { "" } else { " --emulated" };
    let size = if words.contains("--size") {
        ""
    } else {
        " --size 8MiB"
    };
    short(&format!("nvme {words}{emulated}{size}"))
}

fn nvme(output: &Path, options: &str) -> Command {
    let mut command = strata(words(options));
    command.arg("--output").arg(output);
    command
}

fn measured(output: &Path, options: &str) -> Vec<Value> {
    done(nvme(output, &format!("--quiet {options}")));
    records(output)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn what_is_emulated_says_so_everywhere() {
    const TEST: &str = "what_is_emulated_says_so_everywhere";
    if !two_cpus(TEST) {
        return;
    }
    let folder = scratch();
    let output = folder.path().join("run");
    let ran = done(nvme(
        &output,
        "--bs 512,4KiB,1MiB --depth 1,32 --op randread,write --ops 300",
    ));
    let all = records(&output);
    assert_eq!(all.len(), 2 * 12);
    for record in &all {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["layer"], "nvme");
        assert_eq!(record["reality"], "emulated");
        assert_eq!(record["via"], "emulated#1");
        let result = &record["result"];
        assert_eq!(
            result["latency_ns"]["count"], result["ops"],
            "every latency"
        );
        let bytes = number(&record["workload"]["block_bytes"]) * number(&result["ops_per_s"]);
        let told = number(&result["bytes_per_s"]);
        assert!((0.99..1.01).contains(&(told / bytes)), "{told} of {bytes}");
        assert_eq!((&result["errors"], &result["lost"]), (&0.into(), &0.into()));
        // Driver and controller are on a CPU each, and both were watched.
        let threads = record["proof"]["threads"].as_array().expect("threads");
        let role = |role: &str| threads.iter().find(|t| t["role"] == role).expect(role);
        assert_ne!(role("measure")["asked"], role("peer")["asked"]);
    }
    let rows: Vec<&str> = ran
        .out
        .lines()
        .filter(|l| l.starts_with(" nvme "))
        .collect();
    assert_eq!(rows.len(), 12, "{}", ran.out);
    for row in rows {
        assert!(row.contains(" emulated "), "{row}");
    }
    for name in ["report.md", "report.html"] {
        let report = fs::read_to_string(output.join(name)).expect("a report");
        assert!(report.contains("our own emulated controller"), "{name}");
    }
}

#[test]
fn the_null_controller_counts_commands_and_moves_no_byte() {
    const TEST: &str = "the_null_controller_counts_commands_and_moves_no_byte";
    if !two_cpus(TEST) {
        return;
    }
    let folder = scratch();
    let output = folder.path().join("run");
    let ran = done(nvme(
        &output,
        "--no-data --depth 1,64 --op randread,randwrite --ops 5000",
    ));
    for record in records(&output) {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["reality"], "emulated");
        assert_eq!(record["via"], "emulated,no-data#1");
        let identity = record["target"]["identity"].as_str().expect("text");
        assert!(identity.ends_with(", which moves no data"), "{identity}");
        let result = &record["result"];
        assert!(number(&result["ops_per_s"]) > 0.0);
        assert_eq!(result["bytes_per_s"], Value::Null, "{record}");
        assert_eq!(result["latency_ns"]["count"], result["ops"]);
    }
    assert!(!ran.out.contains("iB/s"), "no bandwidth: {}", ran.out);
    let report = fs::read_to_string(output.join("report.md")).expect("a report");
    assert!(report.contains("moves no data"), "{report}");
}

#[test]
fn what_was_written_is_checked_by_what_reads() {
    const TEST: &str = "what_was_written_is_checked_by_what_reads";
    if !two_cpus(TEST) {
        return;
    }
    let folder = scratch();
    for (n, words) in [
        "--verify --op randrw:50,randread --bs 512,64KiB --depth 16",
        "--verify --op write,read --bs 4KiB --threads 2 --depth 4",
        "--verify --op randwrite --random-map --ops 2048 --depth 8",
        "--op randread --rate 2000 --depth 8 --duration 200ms",
        "--op randread --ops 5000 --timed-by batch --depth 32",
        "--op randread --offset 1MiB --size 2MiB",
    ]
    .into_iter()
    .enumerate()
    {
        let output = folder.path().join(n.to_string());
        for record in measured(&output, words) {
            assert_eq!(record["status"], "ok", "{words}: {record}");
            if let Some(ops) = record["workload"]["ops"].as_u64() {
                // What is reaped with the last of them belongs to the window.
                let depth = record["workload"]["depth"].as_u64().expect("a depth");
                let done = record["result"]["ops"].as_u64().expect("a count");
                assert!((ops..ops + depth).contains(&done), "{words}: {done}");
            }
            let shared = record["warnings"]
                .as_array()
                .expect("a list")
                .iter()
                .any(|w| w["code"] == "shared_cpu");
            let placed = &record["placement"];
            let cpus = placed["cpus"].as_array().expect("a list");
            let theirs = placed["peer_cpus"].as_array().expect("a list");
            let both = cpus.iter().any(|cpu| theirs.contains(cpu));
            assert_eq!(shared, both, "{words}: what is shared is told: {record}");
        }
    }
}

/// Nobody needs to be root, to lock memory, or to have huge pages.
#[test]
fn an_ordinary_user_without_locked_memory_measures() {
    const TEST: &str = "an_ordinary_user_without_locked_memory_measures";
    let Some(user) = User::new(TEST).filter(|_| two_cpus(TEST)) else {
        return;
    };
    let open = user.path("open");
    fs::create_dir(&open).expect("made");
    mode(&open, 0o777);
    let inner = user.strata(&words(
        "--verify --op randread,randwrite --depth 1,16 --ops 500",
    ));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -l 0 && exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg("--output").arg(open.join("run"));
    command.current_dir(&open);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    done(command);
    let found = records(&open.join("run"));
    assert_eq!(found.len(), 8);
    assert!(found.iter().all(|r| r["status"] == "ok"), "{found:?}");
}

#[test]
fn one_cpu_is_too_few() {
    const TEST: &str = "one_cpu_is_too_few";
    let folder = scratch();
    if let Some(mut command) = on_one_cpu(TEST) {
        command.args(words("")).current_dir(folder.path());
        fails(command, 2, &["both on CPU", "may use no other", "taskset"]);
    }
    if two_cpus(TEST) {
        let status = fs::read_to_string("/proc/self/status").expect("readable");
        let cpu = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .and_then(|list| list.trim().split([',', '-']).next())
            .expect("a CPU");
        let mut command = strata(words(&format!("--cpus {cpu} --peer-cpus {cpu}")));
        command.current_dir(folder.path());
        fails(command, 2, &["both on CPU", "--cpus or --peer-cpus"]);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 0);
}

#[test]
fn mistakes_are_named_and_leave_nothing() {
    const TEST: &str = "mistakes_are_named_and_leave_nothing";
    let folder = scratch();
    let command = |options: &str| {
        let mut command = strata(short(&format!("nvme {options}")));
        command.current_dir(folder.path());
        command
    };
    let not = |options: &str, expected: &[&str]| not_understood(command(options), expected);
    not("--emulated --target x", &["--emulated", "--target"]);
    not("--no-data", &["--emulated"]);
    not("--emulated --destroy X", &["--emulated", "--destroy"]);
    not("--target x --peer-cpus 1", &["--target", "--peer-cpus"]);
    not("--emulated --namespace 0", &["--namespace"]);
    not("--emulated --depth 0", &["--depth"]);
    not("--emulated --engine spdk", &["--engine"]);
    let refused = |options: &str, expected: &[&str]| {
        fails(command(options), 2, expected);
    };
    refused("", &["no controller is named", "--emulated", "--target"]);
    refused("--emulated --op stream", &["stream", "give randread"]);
    refused("--emulated --bs 1000", &["--bs 1000B", "give 512, 4KiB"]);
    refused("--emulated --bs 0", &["--bs"]);
    refused("--emulated --timeout 0s", &["--timeout 0s"]);
    refused("--emulated --size 1000B", &["--size 1000B", "4KiB"]);
    refused("--emulated --cpus 4095", &["--cpus 4095", "does not exist"]);
    refused("--emulated --peer-cpus 4095", &["--peer-cpus 4095"]);
    fails(
        command("--target no/such/folder"),
        1,
        &[
            "no/such/folder/cntrl",
            "No such file",
            "is a controller served",
        ],
    );
    if two_cpus(TEST) {
        let small = |options: &str| format!("--emulated --size 8MiB {options}");
        refused(&small("--peer-cpus 0,1"), &["one thread", "give one CPU"]);
        refused(&small("--offset 100"), &["--offset of 100B", "4KiB"]);
        refused(
            &small("--namespace 2"),
            &["namespace 2", "active ones are 1"],
        );
        let deep = [
            "4096 requests of 4KiB",
            "the emulated controller",
            "--depth",
        ];
        refused(&small("--depth 4096"), &deep);
        refused(&small("--depth 512 --bs 4MiB"), &["--depth", "--bs"]);
        refused(
            &small("--no-data --verify"),
            &["moves no data", "--no-data"],
        );
        refused("--emulated --size 64TiB", &["64TiB of memory", "--size"]);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 0);
}

#[test]
fn models_that_make_no_sense_are_told_with_file_and_key() {
    let folder = scratch();
    let path = folder.path().join("model.toml");
    for (text, expected) in [
        (
            "\ncolour = 1",
            &["line 2, `colour = 1`", "unknown field", "`serial`"][..],
        ),
        (
            "queues = \"a\"",
            &["line 1, `queues = \"a\"`", "expected u16"],
        ),
        ("x = [", &["line 1", "unclosed array"]),
        (
            "[[namespace]]\nblock = 1024",
            &["namespace 1: block", "512 or 4096"],
        ),
        (
            "[performance]\niops = 0",
            &["[performance], iops", "found 0"],
        ),
        (
            "[[faults.rule]]\nfault = \"lost\"\nrate = 2.0",
            &["[[faults.rule]] number 1, rate", "found 2"],
        ),
        (
            "[[faults.rule]]\nfault = \"status\"\nstatus = \"Nope\"",
            &["number 1", "Nope", "Unrecovered Read Error"],
        ),
    ] {
        fs::write(&path, text).expect("written");
        for command in [
            strata(words("--emulated model.toml")),
            strata(["emu", "served", "--model", "model.toml"]),
        ] {
            let mut command = command;
            command.current_dir(folder.path());
            let line = fails(command, 2, expected);
            assert!(line.contains("model.toml"), "{line}");
        }
    }
    fs::write(&path, b"\xff").expect("written");
    for name in ["model.toml", "none.toml", "."] {
        let mut command = strata(words(&format!("--emulated {name}")));
        command.current_dir(folder.path());
        fails(command, 2, &["cannot read the model", "name a TOML file"]);
    }
    if two_cpus("models_that_make_no_sense_are_told_with_file_and_key") {
        let of = |text: &str, options: &str, expected: &[&str]| {
            fs::write(&path, text).expect("written");
            let mut command = strata(words(&format!("--emulated model.toml {options}")));
            command.current_dir(folder.path());
            fails(command, 2, expected);
        };
        let large = "[[namespace]]\nblock = 4096";
        of(large, "--bs 512", &["blocks of 4KiB", "--bs of 512B"]);
        of(
            "queues = 1",
            "--threads 2",
            &["2 threads", "give fewer --threads"],
        );
    }
    assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 1);
}

/// The help text's own example is a model, and a controller is as it says.
#[test]
fn the_model_of_the_help_text_is_one() {
    const TEST: &str = "the_model_of_the_help_text_is_one";
    if !two_cpus(TEST) {
        return;
    }
    let help = done(strata(["emu", "--help"])).out;
    let (_, example) = help.split_once("A model.").expect("an example");
    let model: Vec<&str> = example
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .collect();
    assert!(model.len() > 10, "{example}");
    let folder = scratch();
    let path = folder.path().join("model.toml");
    fs::write(&path, model.join("\n")).expect("written");
    let output = folder.path().join("run");
    let emulated = format!("--emulated {}", path.display());
    for record in measured(&output, &format!("{emulated} --ops 300")) {
        let identity = record["target"]["identity"].as_str().expect("text");
        assert!(identity.contains("NODE7-0"), "{identity}");
        // One in ten thousand fails, so that a trial may.
        if record["status"] == "ok" {
            assert!(number(&record["result"]["latency_ns"]["min"]) > 79_000.0);
        }
    }
}

/// A folder with a plan of both ways to storage, and a model beside it.
fn both_ways(folder: &Path, rounds: u32) -> Command {
    let model = folder.join("model.toml");
    fs::write(&model, "[performance.read]\nlatency = \"50us\"").expect("written");
    let common = "bs = \"4KiB\"\nsize = \"8MiB\"\nops = 500\nramp = \"0s\"\n";
    let plan = format!(
        "name = \"both\"\nrounds = {rounds}\nseed = 3
[[block]]\nengine = \"psync\"\n{common}
[[nvme]]\nemulated = true\ndepth = [1, 4]\n{common}
[[nvme]]\nemulated = {model:?}\ntimeout = \"7s\"\n{common}"
    );
    fs::write(folder.join("plan.toml"), plan).expect("written");
    let mut command = strata(["run"]);
    command.arg(folder.join("plan.toml"));
    command.arg("--output").arg(folder.join("run"));
    command
}

#[test]
fn no_ratio_stands_between_a_layer_and_another() {
    const TEST: &str = "no_ratio_stands_between_a_layer_and_another";
    if !two_cpus(TEST) {
        return;
    }
    let folder = scratch();
    let mut command = both_ways(folder.path(), 6);
    command.arg("--json");
    let document: Value = serde_json::from_str(&done(command).out).expect("one document");
    let contrasts = document["contrasts"].as_array().expect("a list");
    let named: BTreeSet<&str> = contrasts
        .iter()
        .flat_map(|c| [&c["base"], &c["other"]])
        .map(|key| key.as_str().expect("a cell"))
        .collect();
    // The depths on one controller are compared, and nothing else.
    assert_eq!(named.len(), 2, "{contrasts:#?}");
    for key in named {
        assert!(
            key.starts_with("nvme/native/emulated/") && !key.contains("model.toml"),
            "{key}"
        );
    }
    let report = fs::read_to_string(folder.path().join("run/report.md")).expect("a report");
    assert!(report.contains("our own emulated controller"), "{report}");
}

#[test]
fn a_stopped_run_goes_on_with_the_controller_that_it_was_begun_on() {
    const TEST: &str = "a_stopped_run_goes_on_with_the_controller_that_it_was_begun_on";
    if !two_cpus(TEST) {
        return;
    }
    let folder = scratch();
    let output = folder.path().join("run");
    let stopped = Running::start(both_ways(folder.path(), 5));
    until("two trials", || (lines(&output) >= 2).then_some(()));
    kill(stopped.id(), Signal::SIGINT).expect("it runs");
    let ran = stopped.end();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
    let kept = records(&output);
    assert!(kept.len() < 20 && kept.iter().all(|r| r["status"] == "ok"));

    let resume = || {
        let mut command = strata(["run", "--resume"]);
        command.arg(&output);
        command
    };
    let model = folder.path().join("model.toml");
    let text = fs::read_to_string(&model).expect("readable");
    fs::write(&model, format!("{text}\niops = 100000")).expect("written");
    fails(
        resume(),
        2,
        &["model.toml", "is now", "the run was begun on"],
    );
    fs::remove_file(&model).expect("ours");
    fails(resume(), 2, &["cannot read the model", "model.toml"]);
    assert_eq!(records(&output), kept, "and nothing was touched");
    fs::write(&model, text).expect("written");
    done(resume());
    let all = records(&output);
    assert_eq!(all[..kept.len()], kept, "what was measured stays");
    assert_eq!(drawn(&all).len(), 20);
    for record in &all {
        assert_eq!(record["status"], "ok");
        let timeout = match record["layer"] == "nvme" {
            true if record["via"].to_string().contains("model.toml") => {
                Value::from(7_000_000_000_u64)
            }
            true => Value::from(5_000_000_000_u64),
            false => Value::Null,
        };
        assert_eq!(record["timeout_ns"], timeout);
    }
}

#[test]
fn a_controller_that_never_becomes_ready_is_told_in_time() {
    const TEST: &str = "a_controller_that_never_becomes_ready_is_told_in_time";
    if !two_cpus(TEST) {
        return;
    }
    let folder = scratch();
    fs::write(
        folder.path().join("model.toml"),
        "[faults]\nnever_ready = true",
    )
    .expect("written");
    let mut command = strata(words("--emulated model.toml"));
    command.current_dir(folder.path());
    let ran = run(command);
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    assert!(ran.err.contains("did not become ready"), "{}", ran.err);
    assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 1);
}
