//! The driver against the emulated controller, over its socket.

use std::sync::Arc;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use strata_nvme::{Aborted, Controller, NvmeError, Options, QueuePair, Unusable};
use strata_nvme_spec::command::admin::SetFeatures;
use strata_nvme_spec::command::nvm::ReadWrite;
use strata_nvme_spec::feature::{FeatureId, TemperatureThreshold};
use strata_nvme_spec::identify::Deallocated;
use strata_nvme_spec::log::CriticalWarning;
use strata_nvme_spec::prp::Pointers;
use strata_nvme_spec::{BlockCount, CommandId, Kelvin, Lba, NamespaceId, QueueId, Sqe, Status};
use strata_units::{Bytes, Iova, Nanos};

use crate::emulator::{Emulator, LONG, long};
use crate::layout;

const ONE: NamespaceId = NamespaceId(1);

/// One block to or from the start of the memory beside the rings.
fn block(pair: &QueuePair, write: bool, nsid: NamespaceId, first: u64, cid: u16) -> Sqe {
    let command = ReadWrite {
        write,
        nsid,
        first: Lba(first),
        blocks: BlockCount::ONE,
        fua: false,
    };
    let data = Pointers {
        prp1: pair.scratch(0),
        prp2: Iova(0),
    };
    command.sqe().with_data(data).with_cid(CommandId(cid))
}

fn give(pair: &mut QueuePair, sqe: Sqe) {
    pair.post(sqe);
    pair.ring();
}

/// The next completion.
fn reap(pair: &mut QueuePair) -> (CommandId, Status) {
    let begin = Instant::now();
    loop {
        if let Some(found) = pair.take() {
            pair.answered();
            return (found.cid(), found.status());
        }
        assert!(begin.elapsed() < LONG, "no completion");
        yield_now();
    }
}

#[test]
fn it_says_what_it_is() {
    let emulator = Emulator::new(
        "serial = \"E1\"\nmodel = \"Emulated\"\nfirmware = \"9\"\nqueues = 3\nentries = 256\ntransfer = \"64KiB\"\nready_after = \"20ms\"",
    );
    let controller = emulator.controller();
    let identity = controller.identity();
    assert_eq!((&*identity.serial, &*identity.model), ("E1", "Emulated"));
    assert_eq!(identity.firmware, "9");
    assert_eq!(
        (identity.queue_pairs, identity.most_entries.entries()),
        (3, 256)
    );
    assert_eq!(identity.max_transfer, Some(Bytes(64 << 10)));
    assert!(identity.deallocates && identity.writes_zeroes && !identity.was_enabled);
    controller.health().expect("it runs");
    assert_eq!(controller.namespaces(), [ONE]);
    let namespace = controller.namespace(ONE).expect("usable");
    assert_eq!((namespace.block, namespace.size), (Bytes(512), Bytes::GIB));
    assert_eq!(namespace.deallocated, Deallocated::Zeroes);
    assert_eq!(namespace.most, Bytes(64 << 10));
    let pairs = [(); 3].map(|()| controller.queue_pair(layout(256, 256)).expect("a pair"));
    let why = controller.queue_pair(layout(2, 2)).err().expect("three");
    assert!(matches!(why, NvmeError::Limit { most: 3, .. }), "{why}");
    drop(pairs);
    let again = controller.queue_pair(layout(2, 2)).expect("a pair");
    assert_eq!(again.id(), QueueId(1));
    drop((again, controller));
    emulator.end();
}

#[test]
fn namespaces_are_refused_by_what_is_wrong_with_them() {
    let emulator = Emulator::new(
        r#"
        [[namespace]]
        size = "1MiB"
        block = 4096
        [[namespace]]
        size = "1MiB"
        metadata = 8
        [[namespace]]
        size = "1MiB"
        metadata = 8
        protection = 1
        [[namespace]]
        size = "1MiB"
        write_protected = true
        [[namespace]]
        size = "1MiB"
        locked = true
        "#,
    );
    let controller = emulator.controller();
    assert_eq!(controller.namespaces().len(), 5);
    let of = |id| controller.namespace(NamespaceId(id));
    assert_eq!(of(1).expect("usable").blocks, 256);
    assert!(matches!(
        of(2),
        Err(Unusable::Metadata {
            metadata: Bytes(8),
            ..
        })
    ));
    assert!(matches!(of(3), Err(Unusable::Protection { kind: 1, .. })));
    assert!(of(4).expect("readable").write_protected);
    assert!(matches!(of(6), Err(Unusable::Inactive { .. })));
    // A lock shows only in what is answered.
    let locked = of(5).expect("it does not say").id;
    let mut pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    let command = block(&pair, false, locked, 0, 1);
    give(&mut pair, command);
    assert!(reap(&mut pair).1.is(Status::ACCESS_DENIED));
    drop((pair, controller));
    emulator.end();
}

#[test]
fn data_is_written_and_read_by_whoever_comes() {
    let emulator = Emulator::new("");
    let controller = emulator.controller();
    let mut pair = controller.queue_pair(layout(4, 8)).expect("a pair");
    // More commands than either ring has entries.
    for n in 0..20 {
        for word in 0..64 {
            pair.store(word, n << 32 | word);
        }
        let command = block(&pair, true, ONE, n, n as u16);
        give(&mut pair, command);
        assert_eq!(reap(&mut pair), (CommandId(n as u16), Status::SUCCESS));
    }
    let smart = controller.smart().expect("health");
    assert_eq!((smart.host_writes.get(), smart.host_reads.get()), (20, 0));
    drop((pair, controller));
    // The next client finds a controller that is not enabled, and the data.
    let controller = emulator.controller();
    assert!(!controller.identity().was_enabled);
    let mut pair = controller.queue_pair(layout(4, 8)).expect("a pair");
    for n in 0..20 {
        let command = block(&pair, false, ONE, n, 7);
        give(&mut pair, command);
        assert_eq!(reap(&mut pair), (CommandId(7), Status::SUCCESS));
        for word in 0..64 {
            assert_eq!(pair.load(word), n << 32 | word);
        }
    }
    drop((pair, controller));
    emulator.end();
}

#[test]
fn a_queue_of_a_number_that_was_used_begins_at_its_start() {
    let emulator = Emulator::new("");
    let controller = emulator.controller();
    for round in 0..4 {
        let mut pair = controller.queue_pair(layout(8, 8)).expect("a pair");
        assert_eq!(pair.id(), QueueId(1));
        for n in 0..3 + round {
            let command = block(&pair, false, ONE, 0, n);
            give(&mut pair, command);
            assert_eq!(reap(&mut pair), (CommandId(n), Status::SUCCESS));
        }
    }
    drop(controller);
    emulator.end();
}

#[test]
fn errors_and_events_are_told() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"");
    let controller = emulator.controller();
    assert!(controller.errors(10).expect("a log").is_empty());
    let mut pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    let beyond = block(&pair, false, ONE, 1 << 20, 9);
    give(&mut pair, beyond);
    assert!(reap(&mut pair).1.is(Status::LBA_OUT_OF_RANGE));
    let errors = controller.errors(10).expect("a log");
    assert_eq!(errors[0].command(), Some((pair.id(), CommandId(9))));
    assert!(errors[0].status().is(Status::LBA_OUT_OF_RANGE));
    controller.firmware_slots().expect("slots");
    // A limit far below any temperature is crossed at once.
    let limit = TemperatureThreshold {
        at: Kelvin(200),
        sensor: 0,
        under: false,
    };
    let set = SetFeatures {
        feature: FeatureId::TEMPERATURE_THRESHOLD,
        nsid: NamespaceId::NONE,
        value: limit.dword(),
        save: false,
    };
    controller.set_feature(set).expect("taken");
    let begin = Instant::now();
    let events = loop {
        let events = controller.events();
        if !events.is_empty() {
            break events;
        }
        assert!(begin.elapsed() < LONG, "no event");
        sleep(Duration::from_millis(1));
    };
    assert_eq!((events[0].kind, events[0].info), (1, 1), "{}", events[0]);
    let smart = controller.smart().expect("health");
    assert!(smart.warning().has(CriticalWarning::TEMPERATURE));
    drop((pair, controller));
    emulator.end();
}

#[test]
fn held_commands_are_aborted_and_a_reset_ends_the_rest() {
    let emulator = Emulator::new("[performance]\nlatency = \"1h\"");
    let controller = emulator.controller();
    let mut pair = controller.queue_pair(layout(8, 8)).expect("a pair");
    for cid in 1..=3 {
        let command = block(&pair, false, ONE, 0, cid);
        give(&mut pair, command);
    }
    let begin = Instant::now();
    // Until it has been fetched there is nothing to abort.
    while pair.abort(CommandId(2)).expect("an answer") == Aborted::No {
        assert!(begin.elapsed() < LONG, "never aborted");
    }
    let (cid, status) = reap(&mut pair);
    assert!(
        cid == CommandId(2) && status.is(Status::ABORT_REQUESTED),
        "{status}"
    );
    assert_eq!(pair.abort(CommandId(77)).expect("an answer"), Aborted::No);
    assert!(pair.is_alive());
    controller.reset().expect("a reset");
    assert!(!pair.is_alive() && pair.is_quiet());
    // Nothing comes of it any more.
    sleep(Duration::from_millis(20));
    assert!(pair.take().is_none());
    assert_eq!(pair.outstanding(), 2);
    let new = controller.queue_pair(layout(8, 8)).expect("a pair");
    drop((pair, new, controller));
    emulator.end();
}

#[test]
fn one_that_never_rises_is_told() {
    let emulator = Emulator::new("[faults]\nnever_ready = true");
    let options = Options {
        ready_at_most: Nanos::from_millis(50),
        ..long()
    };
    let why = emulator.open(&options).err().expect("never ready");
    assert!(
        matches!(why, NvmeError::NotReady { ready: true, .. }),
        "{why}"
    );
    emulator.end();
}

fn struck(fault: &str) -> (Emulator, Arc<Controller>, QueuePair) {
    let toml = format!("[[faults.rule]]\nfault = \"{fault}\"\ntimes = 1");
    let emulator = Emulator::new(&toml);
    let controller = emulator.controller();
    let mut pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    let command = block(&pair, false, ONE, 0, 1);
    give(&mut pair, command);
    (emulator, controller, pair)
}

/// What health finds in the end.
fn unwell(controller: &Controller) -> NvmeError {
    let begin = Instant::now();
    loop {
        if let Err(why) = controller.health() {
            return why;
        }
        assert!(begin.elapsed() < LONG, "it stays well");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn fatal_status_is_found_and_reset() {
    let (emulator, controller, mut pair) = struck("fatal");
    let why = unwell(&controller);
    assert!(matches!(why, NvmeError::Fatal { .. }), "{why}");
    assert!(!pair.is_alive() && !pair.is_quiet());
    pair.reset().expect("a reset helps");
    assert!(pair.is_quiet() && pair.take().is_none());
    let mut pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    let command = block(&pair, false, ONE, 0, 2);
    give(&mut pair, command);
    assert_eq!(reap(&mut pair), (CommandId(2), Status::SUCCESS));
    drop((pair, controller));
    emulator.end();
}

#[test]
fn removal_is_found() {
    let (emulator, controller, mut pair) = struck("removed");
    let why = unwell(&controller);
    assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
    assert!(!pair.is_alive() && pair.take().is_none());
    // Whether a reset of the function brings it back is the controller's affair; either way it is told, and soon.
    match pair.reset() {
        Ok(()) => controller.health().expect("back"),
        Err(why) => assert!(matches!(why, NvmeError::Removed { .. }), "{why}"),
    }
    drop((pair, controller));
    emulator.end();
}

#[test]
fn a_lost_command_is_ended_by_a_reset() {
    for fault in ["lost", "wrong-phase"] {
        let (emulator, controller, mut pair) = struck(fault);
        sleep(Duration::from_millis(10));
        assert!(pair.take().is_none() && pair.outstanding() == 1);
        controller.health().expect("it does not know");
        pair.reset().expect("a reset");
        assert!(pair.is_quiet());
        drop((pair, controller));
        emulator.end();
    }
}

#[test]
fn an_emulator_that_ends_is_told_before_any_deadline() {
    let emulator = Emulator::new("");
    let controller = emulator.controller();
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    emulator.end();
    let begin = Instant::now();
    let why = controller.health().expect_err("nobody answers");
    assert!(matches!(why, NvmeError::Carrier(_)), "{why}");
    assert!(!pair.is_alive() && !pair.is_quiet());
    let why = controller.reset().expect_err("nobody answers");
    assert!(matches!(why, NvmeError::Lost { .. }), "{why}");
    let why = controller.smart().expect_err("lost");
    assert!(matches!(why, NvmeError::Lost { .. }), "{why}");
    drop((pair, controller));
    assert!(begin.elapsed() < LONG / 2, "it was waited for");
}
