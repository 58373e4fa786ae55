//! Plan files: what the command line can say, in tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Running, done, drawn, engines, fails, json, lines, records, run, scratch, strata, until,
};

/// A folder with a plan in it.
struct Plan {
    folder: TempDir,
}

impl Plan {
    fn new(text: &str) -> Plan {
        let plan = Plan { folder: scratch() };
        plan.put(text.as_bytes());
        plan
    }

    fn put(&self, bytes: &[u8]) {
        fs::write(self.path("plan.toml"), bytes).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, output: &str) -> Command {
        let mut command = strata(["run"]);
        command.arg(self.path("plan.toml"));
        command.arg("--output").arg(self.path(output));
        command
    }

    /// The line with which it is refused; nothing is left of it.
    fn refused(&self, code: i32, words: &[&str]) -> String {
        let line = fails(self.run("refused"), code, words);
        assert!(!self.path("refused").exists(), "{line}");
        line
    }
}

/// Storage, read and written, and a network.
fn mixed(engines: &str) -> String {
    let engines: Vec<String> = engines.split(',').map(|e| format!("{e:?}")).collect();
    format!(
        "name = \"mixed\"
rounds = 3
seed = 5
[[tcp]]
op = \"reqrep\"
duration = \"50ms\"
ramp = \"0s\"
[[block]]
size = \"1MiB\"
engine = [{}]
op = [\"randread\", \"randwrite\"]
bs = [\"4KiB\", 8192]
duration = \"50ms\"
ramp = \"0s\"
",
        engines.join(", ")
    )
}

fn writes(record: &Value) -> bool {
    record["workload"]["op"] == "randwrite"
}

#[test]
fn a_plan_of_two_layers_reads_before_it_writes() {
    let engines = engines("a_plan_of_two_layers_reads_before_it_writes");
    let plan = Plan::new(&mixed(engines));
    done(plan.run("run"));
    let found = records(&plan.path("run"));
    let cells = 1 + 4 * engines.split(',').count();
    assert_eq!(drawn(&found).len(), 3 * cells);
    assert!(found.iter().all(|r| r["status"] == "ok"));
    assert!(found.iter().any(|r| r["layer"] == "tcp"));
    let first = found.iter().position(writes).expect("a write");
    assert!(first > 0 && found[first..].iter().all(writes), "METHOD 3");
    let kept = json(&plan.path("run/run.json"));
    assert_eq!(
        (
            &kept["plan"]["name"],
            &kept["plan"]["rounds"],
            &kept["plan"]["seed"]
        ),
        (&"mixed".into(), &3.into(), &5.into())
    );
    for name in ["target-0.dat", "target-1.dat"] {
        assert!(!plan.path("run").join(name).exists(), "{name} is left over");
    }

    let mut fewer = plan.run("fewer");
    fewer.args(["--quiet", "--repeats", "1", "--seed", "6"]);
    done(fewer);
    assert_eq!(drawn(&records(&plan.path("fewer"))).len(), cells);
    assert_eq!(json(&plan.path("fewer/run.json"))["plan"]["seed"], 6);
}

#[test]
fn a_plan_that_was_stopped_goes_on_as_it_was_drawn() {
    let plan = Plan::new(&mixed("psync"));
    let mut whole = plan.run("whole");
    whole.arg("--quiet");
    done(whole);
    let expected = drawn(&records(&plan.path("whole")));
    let output = plan.path("stopped");
    let running = Running::start(plan.run("stopped"));
    until("two trials", || (lines(&output) >= 2).then_some(()));
    kill(running.id(), Signal::SIGINT).expect("it runs");
    let ran = running.end();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
    let kept = records(&output);
    assert!((2..expected.len()).contains(&kept.len()));
    let mut resume = strata(["run", "--quiet", "--resume"]);
    resume.arg(&output);
    done(resume);
    let all = records(&output);
    assert_eq!(all[..kept.len()], kept);
    assert_eq!(drawn(&all), expected);
}

#[test]
fn what_is_wrong_in_a_plan_is_told_with_file_table_and_key() {
    let plan = Plan::new("");
    let refused = |tables: &str, words: &[&str]| {
        plan.put(format!("name = \"x\"\n{tables}").as_bytes());
        let line = plan.refused(2, words);
        assert!(line.contains("plan.toml: "), "{line}");
    };
    refused("cells = 3", &["`cells`", "expected name, rounds"]);
    refused("rounds = 0\n[[tcp]]", &["rounds: found 0"]);
    refused("[[spdk]]", &["`spdk`", "[[block]], [[nvme]] and [[tcp]]"]);
    refused(
        "",
        &["no tables", "[[block]], [[nvme]], [[tcp]] or [[rdma]]"],
    );
    refused(
        "[[block]]\nsises = 4",
        &["[[block]] number 1", "--sises", "--size"],
    );
    refused("[[block]]\nquiet = true", &["[[block]] number 1, quiet"]);
    refused(
        "[[block]]\nengine = \"foo\"",
        &["[[block]] number 1", "`foo`", "--engine"],
    );
    refused(
        "[[tcp]]\n[[block]]\n[[block]]\nop = \"stream\"",
        &["[[block]] number 2", "--op stream"],
    );
    refused(
        "[[nvme]]",
        &["[[nvme]] number 1", "no controller is named", "--emulated"],
    );
    refused(
        "[[block]]\n[[nvme]]\nemulated = true\nno-data = \"x\"",
        &["[[nvme]] number 1", "--no-data"],
    );
    refused(
        "[[nvme]]\nemulated = \"none.toml\"",
        &["[[nvme]] number 1", "cannot read the model", "none.toml"],
    );
    // Counted among those of its own kind.
    refused(
        "[[block]]\n[[tcp]]\nop = \"randread\"",
        &["[[tcp]] number 1", "--op randread"],
    );
    refused(
        "[[block]]\nbs = -4",
        &["[[block]] number 1", "`-4`", "--bs"],
    );
    refused(
        "[[block]]\nbs = 1000",
        &["[[block]] number 1", "--bs 1000B"],
    );
    refused(
        "[[block]]\nbs = {}",
        &["[[block]] number 1, bs", "found table"],
    );
    refused(
        "[[block]]\nduration = \"1s\"\nops = 5",
        &["[[block]] number 1", "--duration", "--ops"],
    );
    let line = "required arguments were not provided: --rate";
    refused("[[block]]\npoisson = true", &["[[block]] number 1", line]);
    refused(
        "[[block]]\nverify = \"yes\"",
        &["[[block]] number 1", "--verify", "yes"],
    );
    refused(
        "[[block]]\ndepth = 4\nengine = \"psync\"",
        &["[[block]] number 1", "--depth 4 with psync"],
    );
    // What is found wrong only at the machine has its place too.
    refused(
        "[[tcp]]\n[[block]]\ntarget = \"/dev/null\"",
        &["[[block]] number 1", "/dev/null is"],
    );
    refused(
        "[[tcp]]\ncpus = \"4000\"",
        &["[[tcp]] number 1", "--cpus 4000"],
    );
    refused(
        "[[block]]\ntarget = 3\n[[block]]\ntarget = 4 5",
        &["no TOML", "line"],
    );
    // Records could not be told apart.
    refused(
        "[[tcp]]\nduration = \"50ms\"\n[[tcp]]\nduration = \"50ms\"\ndepth = [1, 2]",
        &["[[tcp]] number 2", "in a table before it too"],
    );
}

#[test]
fn what_is_no_plan_is_refused() {
    let plan = Plan::new("");
    plan.put(&[b'#'; (1 << 20) + 1]);
    plan.refused(2, &["plan.toml", "longer than 1 MiB"]);
    // The limit falls into a letter.
    plan.put(format!("#{}", "é".repeat(1 << 20)).as_bytes());
    plan.refused(2, &["plan.toml", "longer than 1 MiB"]);
    plan.put(b"name = \"x\"\n\xff\xfe\0");
    plan.refused(2, &["plan.toml", "no text in UTF-8 (byte 11)"]);
    plan.put(b"name = \"x\"\0");
    plan.refused(2, &["plan.toml", "no TOML"]);
    fs::remove_file(plan.path("plan.toml")).expect("ours");
    plan.refused(1, &["plan.toml", "No such file", "name a plan file"]);
    fs::create_dir(plan.path("plan.toml")).expect("a folder");
    plan.refused(1, &["plan.toml", "Is a directory", "name a plan file"]);
    let mut quick = strata(["run", "x.toml", "--size", "1MiB", "--output"]);
    quick.arg(plan.path("refused"));
    fails(quick, 2, &["--size are of quick"]);
}

/// A plan is for many machines; what one of them cannot run has not failed.
#[test]
fn what_the_machine_cannot_run_is_skipped_with_a_reason() {
    let test = "what_the_machine_cannot_run_is_skipped_with_a_reason";
    let sysctl = Path::new("/proc/sys/kernel/io_uring_disabled");
    let before = fs::read_to_string(sysctl).unwrap_or_default();
    let before = before.trim();
    if before == "2" {
        return skipped_on(&Plan::new(&mixed("psync,io_uring")));
    }
    // A file has no polled queue, and no commands of its own: engines that are asked for and cannot be.
    let engines = ["io_uring+iopoll", "io_uring_cmd"];
    let Some(engine) = engines.into_iter().find(|engine| {
        let folder = scratch();
        let mut command = strata(["block", "--quiet", "--size", "1MiB", "--repeats", "1"]);
        command.args(["--ops", "1", "--engine", engine, "--output"]);
        {
            command.arg(folder.path().join("run"));
            run(command)
        }
        .status
        .code()
            != Some(0)
    }) else {
        println!("SKIP {test}: this machine runs {engines:?} on a file in memory");
        return;
    };
    skipped_on(&Plan::new(&mixed(&format!("psync,{engine}"))));
}

fn skipped_on(plan: &Plan) {
    let ran = done(plan.run("run"));
    let found = records(&plan.path("run"));
    let (skipped, made): (Vec<&Value>, Vec<&Value>) =
        found.iter().partition(|r| r["status"] == "skipped");
    assert!(!skipped.is_empty(), "{}", ran.err);
    for record in skipped {
        assert_ne!(record["engine"], "psync");
        assert_eq!(record["result"], Value::Null);
        assert!(
            record["reason"].as_str().is_some_and(|why| why.len() > 20),
            "{record}"
        );
    }
    assert!(made.iter().all(|r| r["status"] == "ok"));
    assert!(made.iter().any(|r| r["engine"] == "psync"));
    assert!(made.iter().any(|r| r["layer"] == "tcp"));
}
