//! Whole trials of the tcp layer between two processes: this program, and itself again as the other side.

mod engines;
mod faults;
mod figures;
mod support;

use std::env;
use std::panic::catch_unwind;
use std::process::ExitCode;

use strata_peer::{Parent, PeerError, next_task};
use strata_tcp::{Listen, serve_task};

/// The argument that makes this program the other side.
const SERVE: &str = "serve-the-other-side";

/// The argument that makes this program a client that is to be killed.
const LONG_TRIAL: &str = "run-a-long-trial";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == SERVE) {
        return match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("{e}");
                ExitCode::FAILURE
            }
        };
    }
    if arguments.first().is_some_and(|a| a == LONG_TRIAL) {
        faults::long_trial();
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let tests: Vec<(&str, fn())> = figures::TESTS
        .into_iter()
        .chain(engines::TESTS)
        .chain(faults::TESTS)
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(&**w)))
        .collect();
    if arguments.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", tests.len());
    // One after the other: they measure on the same CPUs, and look which children this process has.
    let failed: Vec<&str> = tests
        .iter()
        .filter(|(name, test)| {
            let failed = catch_unwind(test).is_err();
            println!("test {name} ... {}", if failed { "FAILED" } else { "ok" });
            failed
        })
        .map(|(name, _)| *name)
        .collect();
    println!(
        "\ntest result: {}. {} passed; {} failed",
        if failed.is_empty() { "ok" } else { "FAILED" },
        tests.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

fn serve() -> Result<(), PeerError> {
    let mut parent = Parent::greet()?;
    let task = next_task(&mut parent)?;
    serve_task(&mut parent, &task, &Listen::default())
}
