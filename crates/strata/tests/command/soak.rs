//! Ten minutes at full rate: memory stays as it is, in the driver and in the emulated controller.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Running, records, scratch, strata, until};

/// How long it runs at full rate.
const SPAN: Duration = Duration::from_secs(600);

/// How long what is taken at the start has to be taken.
const SETTLED: Duration = Duration::from_secs(20);

/// By how much memory may differ after that.
const FLAT: u64 = 1 << 20;

/// Bytes of a process that are in memory (proc_pid_statm(5)); none when it has ended.
fn resident(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// The first child of a process (proc_pid_task(5), children).
fn child(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[test]
fn ten_minutes_of_polled_nvme_take_no_memory() {
    let test = "soak::ten_minutes_of_polled_nvme_take_no_memory";
    if std::env::var_os("STRATA_SOAK").is_none_or(|value| value != "1") {
        println!("SKIP {test}: set STRATA_SOAK=1 (make soak)");
        return;
    }
    for model in ["--emulated --no-data", "--emulated"] {
        let (folder, span) = (scratch(), SPAN.as_secs() / 2);
        let mut command = strata(["nvme", "--depth", "32", "--repeats", "1"]);
        command.args(model.split(' '));
        command.arg("--duration").arg(format!("{span}s"));
        let run = folder.path().join("run");
        command.arg("--output").arg(&run);
        let mut running = Running::start(command);
        let driver = running.id().as_raw();
        let controller = until("the controller's process", || child(driver));
        sleep(SETTLED);
        let begun = Instant::now();
        let pids = [driver, controller];
        let first = pids.map(|pid| resident(pid).expect("it runs"));
        let mut samples = 0;
        // Until shortly before the window closes: what the report takes is not of the loop.
        while begun.elapsed() + SETTLED * 2 < Duration::from_secs(span) {
            for (pid, first) in pids.iter().zip(first) {
                let now = resident(*pid).expect("it runs");
                assert!(
                    now.abs_diff(first) <= FLAT,
                    "{model}: process {pid} had {first} bytes, and {now} after {:?}",
                    begun.elapsed()
                );
            }
            samples += 1;
            sleep(Duration::from_secs(1));
        }
        assert!(samples > 60 && !running.has_ended(), "{samples} samples");
        running.end();
        let records = records(&run);
        let rate = records[0]["result"]["ops_per_s"].as_f64().expect("a rate");
        println!("{model}: {rate:.0}/s over {span} s, {first:?} bytes resident");
    }
}
