//! Stopped at any moment: what was measured is kept, and the rest is made as it was drawn.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use serde_json::Value;

use crate::support::{
    Running, done, drawn, engines, lines, records, scratch, short, slow_to_fill, strata, told,
    until,
};

fn into(output: &Path, words: &str) -> Command {
    let mut command = strata(short(words));
    command.arg("--output").arg(output);
    command
}

fn resume(folder: &Path) -> Command {
    let mut command = strata(["run", "--quiet", "--resume"]);
    command.arg(folder);
    command
}

/// Processes that were started with `mark` in their environment, by themselves or by their parents.
fn marked(mark: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let entry = format!("STRATA_TEST_MARK={mark}");
    processes
        .flatten()
        .filter(|process| {
            // One that has just ended has nothing to read.
            fs::read(process.path().join("environ"))
                .is_ok_and(|text| text.split(|b| *b == 0).any(|e| e == entry.as_bytes()))
        })
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .filter(|line| !line.is_empty())
        .collect()
}

fn mark() -> String {
    RandomState::new().hash_one("mark").to_string()
}

/// Nothing is left of a command once it has ended; the other side notices within moments.
fn nothing_runs(mark: &str) {
    until("no process is left over", || {
        marked(mark).is_empty().then_some(())
    });
}

#[test]
fn ctrl_c_keeps_what_was_measured_and_the_rest_is_made_as_drawn() {
    let folder = scratch();
    let engines = engines("ctrl_c_keeps_what_was_measured_and_the_rest_is_made_as_drawn");
    let words =
        format!("block --engine {engines} --op randread,read --bs 4KiB,64KiB --repeats 3 --seed 7");
    let whole = folder.path().join("whole");
    done(into(&whole, &format!("{words} --quiet")));
    let expected = drawn(&records(&whole));
    let trials = 3 * 4 * engines.split(',').count();
    assert_eq!(expected.len(), trials);

    let output = folder.path().join("stopped");
    let run = Running::start(into(&output, &words));
    until("three trials", || (lines(&output) >= 3).then_some(()));
    kill(run.id(), Signal::SIGINT).expect("it runs");
    let ran = run.end();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("strata: interrupted; go on with `strata run --resume /"),
        "{}",
        ran.err
    );
    let kept = records(&output);
    assert!((3..trials).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().all(|r| r["status"] == "ok"));
    assert_eq!(drawn(&kept), expected[..kept.len()]);
    for name in ["report.md", "report.html"] {
        assert!(output.join(name).exists(), "{name}");
    }
    for name in ["target.dat", "target.dat.partial"] {
        assert!(!output.join(name).exists(), "{name} is left over");
    }
    done(resume(&output));
    let all = records(&output);
    assert_eq!(all[..kept.len()], kept, "what was measured stays");
    assert_eq!(drawn(&all), expected);
    assert!(
        !output.join("target.dat").exists(),
        "made again, and removed again"
    );
}

#[test]
fn a_plan_may_be_stopped_with_blocks_that_do_not_divide_one_another() {
    let folder = scratch();
    let output = folder.path().join("run");
    let words = "block --engine psync --bs 4KiB,96KiB --size 1MiB --repeats 3";
    let run = Running::start(into(&output, words));
    until("a trial", || (lines(&output) >= 1).then_some(()));
    kill(run.id(), Signal::SIGTERM).expect("it runs");
    assert_eq!(run.end().status.code(), Some(130));
    done(resume(&output));
    assert_eq!(drawn(&records(&output)).len(), 6);
}

#[test]
fn ctrl_c_while_the_file_is_filled_leaves_nothing() {
    let Some((folder, size)) = slow_to_fill("ctrl_c_while_the_file_is_filled_leaves_nothing")
    else {
        return;
    };
    let output = folder.path().join("run");
    let run = Running::start(into(&output, &format!("block --size {size}")));
    let partial = output.join("target.dat.partial");
    until("the filling", || {
        fs::metadata(&partial)
            .is_ok_and(|m| m.len() > 0)
            .then_some(())
    });
    kill(run.id(), Signal::SIGINT).expect("it runs");
    told(
        "filling",
        &run.end(),
        130,
        &["interrupted while filling", "target.dat", "removed"],
    );
    assert!(!output.exists(), "nothing was measured");
}

/// A terminal sends Ctrl-C to both sides of a trial.
#[test]
fn ctrl_c_of_a_terminal_is_no_failed_trial() {
    let folder = scratch();
    for (n, op) in ["reqrep", "stream"].into_iter().enumerate() {
        let output = folder.path().join(op);
        let mark = mark();
        let mut command = into(&output, &format!("tcp --op {op} --repeats 8"));
        command.process_group(0).env("STRATA_TEST_MARK", &mark);
        let run = Running::start(command);
        until("a trial", || (lines(&output) > n).then_some(()));
        killpg(run.id(), Signal::SIGINT).expect("it runs");
        let ran = run.end();
        assert_eq!(ran.status.code(), Some(130), "{}", ran.err);
        nothing_runs(&mark);
        let kept = records(&output);
        assert!(
            kept.len() < 8 && kept.iter().all(|r| r["status"] == "ok"),
            "{kept:?}"
        );
        done(resume(&output));
        assert_eq!(drawn(&records(&output)).len(), 8);
    }
}

/// Kills the command at `tries` moments between its start and its end, each drawn at random from its part of that time.
fn killed_at_any_moment(words: &str, tries: u32) {
    let folder = scratch();
    let begun = Instant::now();
    let whole = folder.path().join("whole");
    done(into(&whole, words));
    let takes = begun.elapsed();
    let expected = drawn(&records(&whole));
    for n in 0..tries {
        let part = f64::from(n) + RandomState::new().hash_one(n) as f64 / u64::MAX as f64;
        let moment = takes.mul_f64(part / f64::from(tries));
        let told = format!("{words}, killed after {moment:?} of {takes:?}");
        let output = folder.path().join(n.to_string());
        killed(&output, words, moment, &told);
        if output.join("run.json").exists() {
            let kept = records(&output);
            assert!(kept.iter().all(|r| r["status"] == "ok"), "{told}: {kept:?}");
            let mut report = strata(["report", "--json"]);
            report.arg(&output);
            let document: Value = serde_json::from_str(&done(report).out).expect("one document");
            assert_eq!(
                document["records"].as_array().map(Vec::len),
                Some(kept.len()),
                "{told}"
            );
            done(resume(&output));
            let all = records(&output);
            assert_eq!(all[..kept.len()], kept, "{told}: nothing lost");
            assert!(!output.join("target.dat").exists(), "{told}");
        } else {
            // It had not begun; the same command begins it, whatever lies there.
            done(into(&output, words));
        }
        assert_eq!(drawn(&records(&output)), expected, "{told}");
        assert!(!output.join("target.dat.partial").exists(), "{told}");
    }
}

fn killed(output: &Path, words: &str, moment: Duration, told: &str) {
    let mark = mark();
    let mut command = into(output, words);
    command.env("STRATA_TEST_MARK", &mark);
    let run = Running::start(command);
    thread::sleep(moment);
    // One that was faster this time has ended already, and shall be as whole.
    let _ = kill(run.id(), Signal::SIGKILL);
    let ran = run.end();
    assert!(
        ran.status.code().is_none_or(|code| code == 0),
        "{told}: {}",
        ran.err
    );
    nothing_runs(&mark);
}

#[test]
fn killed_at_any_moment_of_a_block_run() {
    killed_at_any_moment(
        "block --quiet --engine psync --op randread,read --duration 50ms --seed 5",
        4,
    );
}

#[test]
fn killed_at_any_moment_of_a_tcp_run() {
    killed_at_any_moment(
        "tcp --quiet --op reqrep,stream --duration 50ms --repeats 1 --seed 5",
        4,
    );
}
