//! Reads are checked where they can be, and nothing is written but what the suite wrote.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::support::{done, engines, fails, records, run, scratch, short, strata};

const SIZE: u64 = 2 << 20;
const SECTOR: u64 = 512;
const BLOCK: u64 = 4096;

fn on(target: &Path, words: &str) -> Command {
    let mut command = strata(short(words));
    let folder = target.parent().expect("a folder");
    let taken = fs::read_dir(folder).expect("a folder").count();
    command.arg("--target").arg(target);
    command
        .arg("--output")
        .arg(folder.join(format!("run-{taken}")));
    command
}

#[test]
fn what_the_suite_wrote_is_read_again() {
    let folder = scratch();
    let target = folder.path().join("own.dat");
    let engines = engines("what_the_suite_wrote_is_read_again");
    let then = |words: &str| {
        done(on(
            &target,
            &format!("block --size 2MiB --quiet --repeats 1 {words}"),
        ));
    };
    then(&format!(
        "--verify --engine {engines} --op randread,read --bs 512,64KiB"
    ));
    assert_eq!(fs::metadata(&target).expect("it is kept").len(), SIZE);
    then(&format!(
        "--engine {engines} --op randwrite,write,randrw:50"
    ));
    then(&format!("--engine {engines} --op randread,read --verify"));
    if engines.contains("io_uring") {
        then("--engine io_uring --depth 8 --op randwrite,write");
        then("--engine io_uring --depth 4 --op randrw:50,randread --verify");
    }
}

/// The sectors that the suite looks at before it believes a file to be its own; the rest is met by reads alone.
fn is_sampled(sector: u64) -> bool {
    let sectors = SIZE / SECTOR;
    (0..256).any(|n| n * (sectors - 1) / 255 == sector)
}

#[test]
fn wrong_data_fails_the_trial() {
    let folder = scratch();
    let target = folder.path().join("own.dat");
    done(on(&target, "block --size 2MiB --quiet --repeats 1"));
    let file = OpenOptions::new().write(true).open(&target).expect("ours");
    for block in 0..SIZE / BLOCK {
        let first = block * (BLOCK / SECTOR);
        let sector = (first..first + BLOCK / SECTOR)
            .find(|s| !is_sampled(*s))
            .expect("one in 16 is sampled");
        file.write_all_at(&(sector + 1).to_le_bytes(), sector * SECTOR + 8)
            .expect("written");
    }
    for engine in engines("wrong_data_fails_the_trial").split(',') {
        let command = on(
            &target,
            &format!("block --size 2MiB --json --verify --engine {engine}"),
        );
        let output = command
            .get_args()
            .last()
            .map(|a| Path::new(a).to_owned())
            .expect("an output");
        let ran = run(command);
        assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
        let wrong = "did not hold what was written there";
        assert!(
            ran.err
                .lines()
                .any(|l| l.starts_with("strata: ") && l.contains(wrong)),
            "{}",
            ran.err
        );
        let records = records(&output);
        assert_eq!(records.len(), 2);
        for record in records {
            assert_eq!(record["status"], "failed");
            assert!(
                record["reason"]
                    .as_str()
                    .is_some_and(|why| why.contains(wrong)),
                "{record}"
            );
            assert!(
                record["result"]["errors"].as_u64().is_some_and(|n| n > 0),
                "{record}"
            );
        }
        done(on(
            &target,
            &format!("block --size 2MiB --quiet --repeats 1 --engine {engine}"),
        ));
    }
}

#[test]
fn a_strangers_file_is_never_written() {
    let folder = scratch();
    let target = folder.path().join("letters");
    let text: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(&target, &text).expect("written");
    for op in ["randwrite", "write", "randrw:99"] {
        fails(
            on(&target, &format!("block --size 1MiB --op {op}")),
            2,
            &[
                "was not written by strata",
                "is not written to",
                "name a file that does not exist yet",
            ],
        );
        assert_eq!(fs::read(&target).expect("readable"), text, "{op}");
    }
    fails(
        on(&target, "block --size 1MiB --verify"),
        2,
        &["cannot be checked", "leave out --verify"],
    );
    // Reading it is nobody's harm, and it stays when the run ends.
    done(on(&target, "block --size 1MiB --quiet"));
    assert_eq!(fs::read(&target).expect("readable"), text);
}

#[test]
fn a_file_in_the_runs_folder_is_not_taken_for_the_runs_own() {
    let folder = scratch();
    let text = vec![b'x'; 1 << 20];
    let target = folder.path().join("target.dat");
    fs::write(&target, &text).expect("written");
    let mut command = strata(short("block --size 1MiB --quiet"));
    command.arg("--output").arg(folder.path());
    fails(command, 2, &["holds target.dat and no run"]);
    assert_eq!(fs::read(&target).expect("it is still there"), text);

    let partial = folder.path().join("own.dat.partial");
    fs::write(&partial, &text).expect("written");
    fails(
        on(&folder.path().join("own.dat"), "block"),
        2,
        &["own.dat.partial was not written by strata"],
    );
    assert_eq!(fs::read(&partial).expect("it is still there"), text);
}
