//! Verified writes: whatever became of the writer, another process tells what is right and what is not.

use std::collections::hash_map::RandomState;
use std::fs::{self, OpenOptions};
use std::hash::BuildHasher;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{Ran, Running, done, engines, fails, run, scratch, short, strata, until};

const SECTOR: u64 = 512;
const BLOCK: u64 = 4096;

/// Verified random writes to `target`, the ledger of which lies in `output`.
fn writes(target: &Path, words: &str, output: &Path) -> Command {
    let mut command = strata(short(&format!(
        "block --quiet --op randwrite --verify --size 2MiB --repeats 1 {words}"
    )));
    command.arg("--target").arg(target);
    command.arg("--output").arg(output);
    command
}

fn verify(target: &Path, output: &Path, more: &[&str]) -> Ran {
    let mut command = strata(["verify", "--target"]);
    command.arg(target).arg("--ledger");
    command.arg(output.join("ledger.bin")).args(more);
    run(command)
}

/// The document of a check that must have found nothing wrong.
fn right(target: &Path, output: &Path, told: &str) -> Value {
    let ran = verify(target, output, &["--json"]);
    assert_eq!(
        ran.status.code(),
        Some(0),
        "{told}: {} {}",
        ran.out,
        ran.err
    );
    serde_json::from_str(&ran.out).expect("one document")
}

/// Whether a write stands in the ledger, behind its header.
fn begun(output: &Path) -> bool {
    fs::read(output.join("ledger.bin"))
        .is_ok_and(|bytes| bytes.iter().skip(BLOCK as usize).any(|b| *b != 0))
}

#[test]
fn writes_outlive_a_killed_writer() {
    let folder = scratch();
    let target = folder.path().join("own.dat");
    let engines = engines("writes_outlive_a_killed_writer");
    let mut shapes = vec![("psync", 1), ("libaio", 1), ("libaio", 32)];
    if engines.contains("io_uring") {
        shapes.extend([("io_uring", 1), ("io_uring", 32)]);
    }
    let (mut acknowledged, mut open) = (0, 0);
    for n in 0..2 * shapes.len() {
        let (engine, depth) = shapes[n % shapes.len()];
        let output = folder.path().join(n.to_string());
        let words = format!("--engine {engine} --depth {depth} --duration 60s");
        let writer = Running::start(writes(&target, &words, &output));
        until("a write", || begun(&output).then_some(()));
        let moment = Duration::from_millis(RandomState::new().hash_one(n) % 400);
        thread::sleep(moment);
        kill(writer.id(), Signal::SIGKILL).expect("it runs");
        let ran = writer.end();
        let told = format!("{engine} at depth {depth}, killed after {moment:?}");
        assert_eq!(ran.status.code(), None, "{told}: {}", ran.err);
        let found = right(&target, &output, &told);
        assert_eq!(found["sectors"], (2 << 20) / SECTOR, "{told}");
        acknowledged += found["acknowledged_blocks"].as_u64().expect("a count");
        let left = found["open_blocks"].as_u64().expect("a count");
        assert!(left <= depth, "{told}: {found}");
        open += left;
    }
    assert!(acknowledged > 0, "{acknowledged} acknowledged, {open} open");
}

#[test]
fn a_lap_writes_each_block_once() {
    let folder = scratch();
    let target = folder.path().join("own.dat");
    let blocks = (2 << 20) / BLOCK;
    let mut shapes = vec!["--engine psync", "--engine libaio --depth 7"];
    if engines("a_lap_writes_each_block_once").contains("io_uring") {
        shapes.push("--engine io_uring --depth 16");
    }
    for (n, shape) in shapes.into_iter().enumerate() {
        let output = folder.path().join(n.to_string());
        let words = format!("{shape} --random-map --ops {blocks}");
        done(writes(&target, &words, &output));
        let found = right(&target, &output, shape);
        assert_eq!(found["acknowledged_blocks"], blocks, "{shape}");
        assert_eq!(found["open_blocks"], 0, "{shape}");
    }
    // As many writes to random places miss a third of them.
    let output = folder.path().join("unmapped");
    done(writes(&target, &format!("--ops {blocks}"), &output));
    let found = right(&target, &output, "without a map");
    assert!(found["acknowledged_blocks"].as_u64() < Some(blocks * 9 / 10));
}

#[test]
fn what_is_wrong_is_named() {
    let folder = scratch();
    let target = folder.path().join("own.dat");
    let output = folder.path().join("run");
    let blocks = (2 << 20) / BLOCK;
    let words = format!("--random-map --ops {blocks}");
    done(writes(&target, &words, &folder.path().join("older")));
    let older = fs::read(&target).expect("readable");
    done(writes(&target, &words, &output));
    let newer = fs::read(&target).expect("readable");
    let file = OpenOptions::new().write(true).open(&target).expect("ours");
    let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).expect("written");
    let wrong = |expected: &[&str]| {
        let ran = verify(&target, &output, &[]);
        assert_eq!(ran.status.code(), Some(3), "{} {}", ran.out, ran.err);
        for word in expected {
            assert!(ran.out.contains(word), "no {word:?} in: {}", ran.out);
        }
        let found: Value =
            serde_json::from_str(&verify(&target, &output, &["--json"]).out).expect("JSON");
        found["faults"].as_array().expect("faults").clone()
    };
    // One bit of one sector.
    let at = 777 * SECTOR;
    let byte = newer[at as usize + 300];
    put(&[byte ^ 4], at + 300);
    let faults = wrong(&[
        "1 of 4096 sectors are wrong",
        "sector 777 has a checksum that does not fit its contents",
    ]);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0]["sector"], 777);
    put(&[byte], at + 300);
    right(&target, &output, "mended");

    // A write that was acknowledged and lost.
    let block = 5 * BLOCK as usize..6 * BLOCK as usize;
    put(&older[block.clone()], 5 * BLOCK);
    wrong(&["8 of 4096", "sector 40 holds an older write"]);
    // Which nobody can know without the ledger.
    let alone = || {
        let mut command = strata(["verify", "--target"]);
        command.arg(&target);
        command
    };
    let ran = done(alone());
    assert!(ran.out.contains("all 4096 sectors"), "{}", ran.out);
    assert!(ran.out.contains("without a --ledger"), "{}", ran.out);
    put(&newer[block], 5 * BLOCK);

    // A block where another belongs, which is seen without it.
    put(&newer[..BLOCK as usize], 9 * BLOCK);
    wrong(&["sector 72 holds what belongs to sector 0"]);
    assert_eq!(run(alone()).status.code(), Some(3));
    put(&newer[9 * BLOCK as usize..10 * BLOCK as usize], 9 * BLOCK);
    right(&target, &output, "mended again");
}

#[test]
fn what_is_no_ledger_or_of_another_target_is_refused() {
    let folder = scratch();
    let target = folder.path().join("own.dat");
    let output = folder.path().join("run");
    done(writes(&target, "", &output));
    let with = |ledger: &Path| {
        let mut command = strata(["verify", "--target"]);
        command.arg(&target).arg("--ledger").arg(ledger);
        command
    };
    let next = "ledger.bin";
    fails(with(&folder.path().join("none")), 1, &["none", next]);
    fails(
        with(&target),
        1,
        &["own.dat is no ledger", "the mark of one"],
    );
    let ledger = fs::read(output.join("ledger.bin")).expect("readable");
    let forged = folder.path().join("forged");
    for (len, at, word) in [
        (8, 0, None),
        (ledger.len() - 8, 0, None),
        (ledger.len(), 16, Some(0)),
        (ledger.len(), 16, Some(u64::MAX / 512 * 512)),
        (ledger.len(), 16, Some(1000)),
        (ledger.len(), 24, Some(u64::MAX / 512 * 512)),
        (ledger.len(), 32, Some(u64::MAX)),
    ] {
        let mut bytes = ledger[..len].to_vec();
        if let Some(word) = word {
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
        }
        fs::write(&forged, bytes).expect("written");
        fails(with(&forged), 1, &["forged is no ledger"]);
    }
    // A target that is shorter than what was written to it.
    OpenOptions::new()
        .write(true)
        .open(&target)
        .and_then(|file| file.set_len(1 << 20))
        .expect("ours");
    let short = with(&output.join("ledger.bin"));
    fails(short, 2, &["own.dat holds 1MiB", "the ledger goes to 2MiB"]);
    let mut folder_itself = strata(["verify", "--target"]);
    folder_itself.arg(folder.path());
    fails(folder_itself, 2, &["is a folder"]);
}
