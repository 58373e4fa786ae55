//! One request at a time: what is written is read back, by whoever comes, and what fails is told soon.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use strata_nvme::{Blocking, Controller, LARGEST, Namespace};
use strata_nvme_spec::NamespaceId;
use strata_units::{ByteOffset, Bytes};

use crate::emulator::Emulator;

fn namespace(controller: &Controller, id: u32) -> Namespace {
    controller.namespace(NamespaceId(id)).expect("usable")
}

fn blocking(controller: &Arc<Controller>, id: u32) -> Blocking {
    Blocking::new(controller, namespace(controller, id)).expect("a queue")
}

/// Bytes that are nowhere else the same.
fn pattern(at: u64, len: u64, salt: u64) -> Vec<u8> {
    (at / 8..(at + len) / 8)
        .flat_map(|word| {
            (word ^ salt << 40)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        })
        .collect()
}

#[test]
fn what_is_written_is_read_by_whoever_comes() {
    let toml = r#"
        transfer = "8KiB"
        boundary = "128KiB"
        [[namespace]]
        size = "4MiB"
        [[namespace]]
        size = "4MiB"
        block = 4096
        "#;
    let emulator = Emulator::new(toml);
    let places = |id: u64| {
        let block = if id == 1 { 512 } else { 4096 };
        // From one block to the largest, at and off the boundaries, up to the end.
        [
            (0, block),
            (128 * 1024 - block, 2 * block),
            (256 * 1024 + 3 * block, 5 * block),
            (1 << 20, LARGEST.0 - block),
            ((3 << 20) - block, LARGEST.0),
            ((4 << 20) - block, block),
        ]
    };
    let controller = emulator.controller();
    for id in [1, 2] {
        let mut blocking = blocking(&controller, id as u32);
        for (at, len) in places(id) {
            let bytes = pattern(at, len, id);
            blocking.write(ByteOffset(at), &bytes).expect("written");
        }
        blocking.flush().expect("flushed");
    }
    drop(controller);
    let controller = emulator.controller();
    for id in [1, 2] {
        let mut blocking = blocking(&controller, id as u32);
        for (at, len) in places(id) {
            let mut found = vec![0; len as usize];
            blocking.read(ByteOffset(at), &mut found).expect("read");
            assert!(found == pattern(at, len, id), "{len} at {at} of {id}");
        }
        // Nothing fell beside.
        let mut beside = vec![1; 4096];
        blocking
            .read(ByteOffset(64 * 1024), &mut beside)
            .expect("read");
        assert!(beside.iter().all(|byte| *byte == 0));
    }
    drop(controller);
    emulator.end();
}

#[test]
fn small_queues_take_the_largest_request_too() {
    let emulator =
        Emulator::new("entries = 16\ntransfer = \"8KiB\"\n[[namespace]]\nsize = \"2MiB\"");
    let controller = emulator.controller();
    let mut blocking = blocking(&controller, 1);
    let bytes = pattern(512, LARGEST.0, 7);
    blocking.write(ByteOffset(512), &bytes).expect("written");
    let mut found = vec![0; bytes.len()];
    blocking.read(ByteOffset(512), &mut found).expect("read");
    assert!(found == bytes);
    drop((blocking, controller));
    emulator.end();
}

#[test]
fn what_is_no_whole_blocks_of_the_namespace_is_refused_and_nothing_done() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"\nblock = 4096");
    let controller = emulator.controller();
    let mut blocking = blocking(&controller, 1);
    let end = 1 << 20;
    for (at, len) in [
        (0, 0),
        (0, 512),
        (512, 4096),
        (4096, 4097),
        (end, 4096),
        (end - 4096, 8192),
        (u64::MAX - 4095, 4096),
        (0, LARGEST.0 + 4096),
    ] {
        let mut bytes = vec![1; len as usize];
        let read = blocking.read(ByteOffset(at), &mut bytes);
        let why = read.expect_err("a part of a block");
        assert_eq!(why.kind(), ErrorKind::InvalidInput, "{at} {len}: {why}");
        let written = blocking.write(ByteOffset(at), &bytes);
        let why = written.expect_err("a part of a block");
        assert_eq!(why.kind(), ErrorKind::InvalidInput, "{at} {len}: {why}");
    }
    let smart = controller.smart().expect("health");
    assert_eq!((smart.host_writes.get(), smart.host_reads.get()), (0, 0));
    drop((blocking, controller));
    emulator.end();
}

/// Reads until it fails: why, and how long the last one took.
fn fails(blocking: &mut Blocking) -> (String, Duration) {
    let mut bytes = [0; 512];
    loop {
        let begin = Instant::now();
        if let Err(why) = blocking.read(ByteOffset(0), &mut bytes) {
            return (why.to_string(), begin.elapsed());
        }
    }
}

fn struck(fault: &str) -> (Emulator, Arc<Controller>, Blocking) {
    let toml = format!("[[faults.rule]]\nfault = \"{fault}\"\nnth = 3\ntimes = 1");
    let emulator = Emulator::new(&toml);
    let controller = emulator.controller();
    let blocking = blocking(&controller, 1);
    (emulator, controller, blocking)
}

#[test]
fn a_lost_request_is_told_at_its_deadline() {
    let (emulator, controller, mut one) = struck("lost");
    let (why, took) = fails(&mut one);
    assert!(
        why.contains("did not complete within its deadline"),
        "{why}"
    );
    // Five seconds, and what an abort and a reset take of a busy machine.
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(9)).contains(&took),
        "{took:?}"
    );
    // It is of no more use, and says why; another one is.
    let (again, took) = fails(&mut one);
    assert!(
        again.contains("did not complete") && took.as_secs() < 2,
        "{again}"
    );
    drop(one);
    let mut bytes = [1; 512];
    let read = blocking(&controller, 1).read(ByteOffset(0), &mut bytes);
    read.expect("the controller was reset");
    assert_eq!(bytes, [0; 512]);
    drop(controller);
    emulator.end();
}

#[test]
fn a_controller_that_fails_is_told_before_the_deadline() {
    for (fault, words) in [("removed", "is gone"), ("fatal", "fatal status")] {
        let (emulator, controller, mut one) = struck(fault);
        let (why, took) = fails(&mut one);
        assert!(why.contains(words), "{why}");
        assert!(took < Duration::from_secs(3), "{fault}: {took:?}");
        drop((one, controller));
        emulator.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The controller cuts nothing, so that only the driver does, at any boundary that a specification allows: NOIOB counts
    /// blocks and needs to be no power of two.
    #[test]
    fn every_byte_lands_where_it_belongs(
        id in 1u32..=2,
        requests in proptest::collection::vec((0u64..4 << 11, 1u64..=2048, 13u32..=25, 0u64..700), 1..6),
    ) {
        let emulator = Emulator::new(
            "transfer = \"none\"\n[[namespace]]\nsize = \"5MiB\"\n[[namespace]]\nsize = \"5MiB\"\nblock = 4096",
        );
        let controller = emulator.controller();
        let plain = namespace(&controller, id);
        let block = plain.block.0;
        let mut expected = vec![0u8; 5 << 20];
        for (salt, (at, len, most, boundary)) in (1..).zip(requests) {
            let cut = Namespace {
                most: Bytes(1 << most),
                boundary: (boundary > 0).then_some(Bytes(boundary * block)),
                ..plain.clone()
            };
            let at = (at * 512) / block * block;
            let len = (len * 512).next_multiple_of(block);
            let bytes = pattern(at, len, salt);
            let mut one = Blocking::new(&controller, cut).expect("a queue");
            one.write(ByteOffset(at), &bytes).expect("written");
            expected[at as usize..][..bytes.len()].copy_from_slice(&bytes);
            let mut found = vec![0; bytes.len()];
            one.read(ByteOffset(at), &mut found).expect("read");
            prop_assert!(found == bytes, "{} at {}", len, at);
        }
        let mut one = Blocking::new(&controller, plain).expect("a queue");
        let mut found = vec![0; LARGEST.as_usize()];
        for (at, expected) in (0..).step_by(LARGEST.as_usize()).zip(expected.chunks(LARGEST.as_usize())) {
            one.read(ByteOffset(at), &mut found).expect("read");
            prop_assert!(found == expected, "the MiB at {}", at);
        }
        drop((one, controller));
        emulator.end();
    }
}
