//! What the host counted beside a trial, held against what the trial did.

use strata_block::BlockEngine::Psync;
use strata_block::BlockJob;
use strata_measure::{Job, Trial, TrialResult};
use strata_record::{Op, WarningCode};
use strata_topology::{Root, Topology, WatchList, file_device};
use strata_units::{Bytes, Nanos};

use crate::support::{GO, cell, disk, filled, timed};

/// A trial of 4 KiB operations on a file below `disk()`, watched; none where no disk is known under it.
fn watched(op: Op, test: &str) -> Option<TrialResult> {
    let file = filled(disk(), Bytes::MIB * 8, Bytes(4096));
    let topology = Topology::read(&Root::live()).expect("this machine");
    let device = file_device(&topology, &file.path).expect("a device");
    if device.disk.is_none() || !file.direct {
        println!(
            "SKIP {test}: {} lies on no disk of this machine",
            file.path.display()
        );
        return None;
    }
    let cell = timed(
        cell(Psync, op, Bytes(4096), 1, &file),
        Nanos::from_millis(300),
    );
    let list = WatchList::of_file(&topology, &device, cell.placement.cpus.clone());
    let mut job = BlockJob::new(cell, file.prepared.clone())
        .expect("a cell that can be")
        .watching(list);
    let trial = Trial {
        seed: 3,
        interrupted: &GO,
    };
    Some(job.run(&trial).expect("a result"))
}

#[test]
fn the_disk_counts_what_was_read_from_it() {
    let test = "the_disk_counts_what_was_read_from_it";
    let Some(result) = watched(Op::RandRead, test) else {
        return;
    };
    let host = result.proof.host.as_ref().expect("watched");
    let Some(device) = host.devices.first() else {
        println!("SKIP {test}: {:?}", result.proof.missing);
        return;
    };
    let ops = result.measured.ops;
    assert!(ops > 0);
    // Others may use the disk too: at least ours are there, each as one request of its size.
    assert!(device.reads >= ops, "{} of {ops}: {device:?}", device.reads);
    assert!(device.read_bytes.0 >= ops * 4096, "{device:?}");
    assert!(
        device.queue_ns.0 > 0 && device.mean_depth > 0.0,
        "{device:?}"
    );
    let [cpu] = &host.cpus[..] else {
        panic!("one CPU: {host:?}")
    };
    if let (Some(took), Some(1..)) = (cpu.interrupts, host.vectors) {
        let fired: u64 = host
            .fired
            .iter()
            .flat_map(|v| &v.counts)
            .map(|c| c.count)
            .sum();
        assert!(fired > 0, "reads end by interrupts here: {:?}", host.fired);
        assert!(
            took.device <= fired && took.total >= took.device,
            "{took:?}"
        );
    } else {
        println!(
            "SKIP {test}: the disk's interrupts: {:?}",
            result.proof.missing
        );
    }
    let answered = |w: &&strata_record::Warning| w.text.contains("answered");
    assert_eq!(result.warnings.iter().find(answered), None);
}

#[test]
fn a_disk_that_did_not_read_is_found_out() {
    let test = "a_disk_that_did_not_read_is_found_out";
    let file = filled(disk(), Bytes::MIB * 8, Bytes(4096));
    let topology = Topology::read(&Root::live()).expect("this machine");
    let Some(idle) = topology
        .disks
        .iter()
        .find(|d| d.name.starts_with("loop") && d.backing_file.is_none())
    else {
        println!("SKIP {test}: no idle loop device");
        return;
    };
    let cell = timed(
        cell(Psync, Op::RandRead, Bytes(4096), 1, &file),
        Nanos::from_millis(100),
    );
    // As if something above the disk had answered: the disk on the list is one that nobody reads.
    let list = WatchList {
        cpus: cell.placement.cpus.clone(),
        disks: vec![idle.name.clone()],
        ..WatchList::default()
    };
    let mut job = BlockJob::new(cell, file.prepared.clone())
        .expect("a cell that can be")
        .watching(list);
    let trial = Trial {
        seed: 3,
        interrupted: &GO,
    };
    let result = job.run(&trial).expect("a result");
    let found = result
        .warnings
        .iter()
        .any(|w| w.code == WarningCode::DeviceCounters);
    let counted = result.proof.host.is_some_and(|h| !h.devices.is_empty());
    assert_eq!(found, file.direct && counted, "{:?}", result.warnings);
}

#[test]
fn the_disk_counts_what_was_written_to_it() {
    let test = "the_disk_counts_what_was_written_to_it";
    let Some(result) = watched(Op::RandWrite, test) else {
        return;
    };
    let host = result.proof.host.as_ref().expect("watched");
    let Some(device) = host.devices.first() else {
        println!("SKIP {test}: {:?}", result.proof.missing);
        return;
    };
    let ops = result.measured.ops;
    assert!(
        ops > 0 && device.write_bytes.0 >= ops * 4096,
        "{ops}: {device:?}"
    );
    let answered = |w: &&strata_record::Warning| w.text.contains("answered");
    assert_eq!(result.warnings.iter().find(answered), None);
}
