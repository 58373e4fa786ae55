//! Runs the command as a user does, and looks at what it leaves.

pub(crate) mod loops;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use jsonschema::Validator;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a machine that does other things; what is not done by then hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until `condition` gives something.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(LOOK);
    }
}

/// A folder in memory where there is one: the drive's speed is none of these tests' business.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).expect("a folder in memory")
    } else {
        tempfile::tempdir().expect("a folder")
    }
}

/// The program that is tested: the one that STRATA_TESTED names, or that of this build.
pub(crate) fn program() -> PathBuf {
    let named = std::env::var_os("STRATA_TESTED").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_strata").into())
}

/// The command with these arguments.
pub(crate) fn strata<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(
    arguments: I,
) -> Command {
    let mut command = Command::new(program());
    command.args(arguments);
    command
}

/// `words`, split at spaces, with what makes a measuring command short wherever the words do not say otherwise.
pub(crate) fn short(words: &str) -> Vec<String> {
    let mut all: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    // Every kernel has psync.
    let file = [("--size", "8MiB"), ("--engine", "psync")];
    let common = [
        ("--ramp", "0s"),
        ("--repeats", "2"),
        ("--duration", "100ms"),
    ];
    let file = file.iter().filter(|_| words.starts_with("block"));
    for (option, value) in file.chain(&common) {
        let other = *option == "--duration" && all.iter().any(|w| w == "--ops");
        if !other && !all.iter().any(|w| w == option) {
            all.extend([(*option).to_owned(), (*value).to_owned()]);
        }
    }
    all
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command under way.
pub(crate) struct Running {
    child: Child,
    out: File,
    err: File,
    what: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let (out, err) = (tempfile::tempfile(), tempfile::tempfile());
        let (out, err) = (out.expect("a file"), err.expect("a file"));
        let copy = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
        let child = command
            .stdin(Stdio::null())
            .stdout(copy(&out))
            .stderr(copy(&err))
            .spawn()
            .expect("it starts");
        Running {
            child,
            out,
            err,
            what: format!("{command:?}"),
        }
    }

    pub(crate) fn id(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().try_into().expect("an id"))
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&mut self) -> String {
        whole(&mut self.err)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waited for").is_some()
    }

    /// Waits for it; in no case may it panic.
    pub(crate) fn end(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let said = self.said();
                panic!("{} hangs; it said: {said}", self.what);
            }
            thread::sleep(LOOK);
        };
        let ran = Ran {
            status,
            out: whole(&mut self.out),
            err: whole(&mut self.err),
        };
        assert!(!ran.err.contains("panicked"), "{}: {}", self.what, ran.err);
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of a test that has failed. One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("a file");
    file.read_to_end(&mut bytes).expect("readable");
    String::from_utf8(bytes).expect("UTF-8")
}

/// Runs the command to its end.
pub(crate) fn run(command: Command) -> Ran {
    Running::start(command).end()
}

/// Runs the command, which must end well.
pub(crate) fn done(command: Command) -> Ran {
    let what = format!("{command:?}");
    let ran = run(command);
    assert_eq!(ran.status.code(), Some(0), "{what}: {}", ran.err);
    ran
}

/// Runs the command, which must end with `code` and one line on standard error that holds each of `words`. What it says
/// before it fails (that it fills a file, how long it will take) begins with its name too.
pub(crate) fn fails(command: Command, code: i32, words: &[&str]) -> String {
    let what = format!("{command:?}");
    told(&what, &run(command), code, words)
}

/// The line with which a command failed.
pub(crate) fn told(what: &str, ran: &Ran, code: i32, words: &[&str]) -> String {
    assert_eq!(ran.status.code(), Some(code), "{what}: {}", ran.err);
    assert_eq!(ran.out, "", "{what}: nothing on standard output");
    let lines: Vec<&str> = ran.err.lines().collect();
    for line in &lines {
        assert!(line.starts_with("strata: "), "{what}: {line}");
    }
    let last = lines.last().copied().unwrap_or_default().to_owned();
    for word in words {
        assert!(last.contains(word), "{what}: no {word:?} in: {last}");
    }
    last
}

/// What clap itself refuses: a few lines with code 2, the first of which holds each of `words`.
pub(crate) fn not_understood(command: Command, words: &[&str]) {
    let what = format!("{command:?}");
    let ran = run(command);
    assert_eq!(ran.status.code(), Some(2), "{what}: {}", ran.err);
    assert_eq!(ran.out, "", "{what}");
    let first = ran.err.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{what}: {}", ran.err);
    for word in words {
        assert!(
            ran.err.contains(word),
            "{what}: no {word:?} in: {}",
            ran.err
        );
    }
}

/// One of the committed schemas.
pub(crate) fn schema(name: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../results/schema")
        .join(format!("{name}.schema.json"));
    let text = fs::read_to_string(&path).expect("a committed schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn record_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| schema("record"))
}

/// Asserts that a value is as a schema says.
pub(crate) fn valid(schema: &Validator, value: &Value) {
    let errors: Vec<String> = schema
        .iter_errors(value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The whole records of a run's folder, each valid; a last line without its newline is what a kill leaves.
pub(crate) fn records(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("trials.jsonl")).expect("trials.jsonl");
    let records: Vec<Value> = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("a record a line"))
        .collect();
    for record in &records {
        valid(record_schema(), record);
    }
    records
}

/// How many whole lines `trials.jsonl` has; 0 while there is none.
pub(crate) fn lines(folder: &Path) -> usize {
    fs::read(folder.join("trials.jsonl"))
        .map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
}

/// What is drawn from a plan's seed: round, cell and seed of each trial, in order. Rounds that were repeated, since
/// something disturbed them, are no part of it.
pub(crate) fn drawn(records: &[Value]) -> Vec<(u64, String, u64)> {
    records
        .iter()
        .filter(|r| r["attempt"] == 0)
        .map(|r| {
            (
                r["round"].as_u64().expect("a round"),
                r["cell"].as_str().expect("a cell").to_owned(),
                r["seed"].as_u64().expect("a seed"),
            )
        })
        .collect()
}

/// Whether this test may do what only root may; prints why not.
pub(crate) fn root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIP {test}: only root may mount, and have drives of its own");
    }
    root
}

/// Whether driver and emulated controller can have a CPU each; prints that they cannot.
pub(crate) fn two_cpus(test: &str) -> bool {
    let enough = thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if !enough {
        println!(
            "SKIP {test}: driver and emulated controller poll on a CPU each, and there is one"
        );
    }
    enough
}

/// The command without arguments on one CPU; prints why that cannot be.
pub(crate) fn on_one_cpu(test: &str) -> Option<Command> {
    let of = |cpu: &str| {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(cpu).arg(program());
        command
    };
    // Those that this process may use are not always from 0 on.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed.and_then(|list| list.trim().split([',', '-']).next());
    let tried = first.map(|cpu| of(cpu).arg("--version").output());
    match (first, tried) {
        (Some(cpu), Some(Ok(output))) if output.status.success() => Some(of(cpu)),
        (_, why) => {
            println!("SKIP {test}: taskset does not start it: {why:?}");
            None
        }
    }
}

/// The engines that this kernel lets us use, with commas between; prints which it does not.
pub(crate) fn engines(test: &str) -> &'static str {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(|| {
        let folder = scratch();
        let words = "block --quiet --engine io_uring --size 1MiB --ops 1 --repeats 1";
        let mut command = strata(short(words));
        command.arg("--output").arg(folder.path().join("run"));
        let ran = run(command);
        let refused = ran.err.strip_prefix("strata: --engine io_uring: ");
        assert!(refused.is_some() || ran.status.success(), "{}", ran.err);
        refused.map(|why| why.trim_end().to_owned())
    });
    match why_not {
        None => "psync,io_uring",
        Some(why) => {
            println!("SKIP {test}: with psync alone: {why}");
            "psync"
        }
    }
}

/// A folder on a drive, and the size of a file that takes a while to fill there and has room; prints why there is none.
pub(crate) fn slow_to_fill(test: &str) -> Option<(TempDir, String)> {
    const GIB: u64 = 1 << 30;
    let folder = tempfile::tempdir().expect("a folder");
    let found = nix::sys::statvfs::statvfs(folder.path()).expect("a file system");
    let room = found
        .blocks_available()
        .saturating_mul(found.fragment_size())
        / GIB;
    if room < 2 {
        println!(
            "SKIP {test}: less than 2 GiB free in {}",
            folder.path().display()
        );
        return None;
    }
    Some((folder, format!("{}GiB", (room / 2).min(4))))
}
