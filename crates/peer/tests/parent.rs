//! A child process and its parent, both by this program: it starts itself again as the other side.

use std::env;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use strata_peer::{Child, Parent, PeerError};
use strata_units::Nanos;

/// The argument that makes this program say everything back.
const ECHO: &str = "say-everything-back";

/// The argument that makes it measure, listening to nobody, until its parent is lost.
const MEASURE: &str = "measure-until-lost";

/// How the latter ends when it was.
const LOST: u8 = 42;

const SOON: Nanos = Nanos(10_000_000_000);

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some(ECHO) => echo(),
        Some(MEASURE) => measure(),
        // The test harness's own arguments choose nothing here.
        _ => {
            let tests: [(&str, fn()); 2] = [
                ("messages_go_both_ways", messages_go_both_ways),
                (
                    "a_parent_that_ends_is_lost_though_nobody_listens",
                    a_parent_that_ends_is_lost_though_nobody_listens,
                ),
            ];
            for (name, test) in tests {
                test();
                println!("test {name} ... ok");
            }
            ExitCode::SUCCESS
        }
    }
}

fn this(argument: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg(argument);
    command
}

fn echo() -> ExitCode {
    let mut other = Parent::greet().expect("a parent");
    loop {
        match other.receive_within::<String>(Nanos::from_millis(50)) {
            Ok(text) => other.send(&text).expect("said"),
            Err(PeerError::Silent(_)) => {}
            Err(_) => return ExitCode::SUCCESS,
        }
    }
}

fn measure() -> ExitCode {
    let lost = Parent::greet().expect("a parent").lost();
    let begun = Instant::now();
    while !lost.load(Ordering::Relaxed) {
        if begun.elapsed() > SOON.as_duration() {
            return ExitCode::FAILURE;
        }
        thread::sleep(Duration::from_millis(5));
    }
    ExitCode::from(LOST)
}

fn messages_go_both_ways() {
    let mut other = Child::start(&mut this(ECHO)).expect("it says hello");
    // Several at once: what lies behind the first is not overlooked.
    let texts = ["", "one", &"½".repeat(20_000)];
    for text in texts {
        other.send(&text).expect("sent");
    }
    for text in texts {
        let back: String = other.receive_within(SOON).expect("sent back");
        assert!(back == text, "{} bytes came back", back.len());
    }
    assert!(!other.lost().load(Ordering::Relaxed));
}

fn a_parent_that_ends_is_lost_though_nobody_listens() {
    let mut child = this(MEASURE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut to = child.stdin.take().expect("piped");
    // Unread to the end.
    to.write_all(b"something").expect("said");
    thread::sleep(Duration::from_millis(200));
    let early = child.try_wait().expect("a child");
    drop(to);
    let end = child.wait().expect("ended").code();
    assert_eq!((early, end), (None, Some(i32::from(LOST))));
}
