//! Memory, files and clients that go away: what is gone is not taken for what is there.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::ftruncate;
use strata_nvme_spec::command::admin::LogPage;
use strata_nvme_spec::log::ErrorEntry;
use strata_nvme_spec::registers::{Csts, Doorbell, offset};
use strata_nvme_spec::{QueueId, Status};
use strata_units::{ByteOffset, Bytes, Iova};
use zerocopy::FromBytes;

use crate::liars::works;
use crate::rig::{BASE, DATA, Host, MEMORY, RINGS, memory};
use crate::served::Emulator;

#[test]
fn taking_the_memory_of_queues_away_is_fatal() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    let ring = host.pair(1, 8, None);
    host.push(&mut { ring }, host.transfer(false, 1, 0, 512, DATA, 512));
    host.client
        .dma_unmap(Iova(BASE), Bytes(MEMORY))
        .expect("unmapped");
    assert!(Csts(host.read32(offset::CSTS)).cfs());
    host.bell(Doorbell::Tail(QueueId(1)), 3);
    host.bell(Doorbell::Tail(QueueId(0)), 3);
    assert!(Csts(host.read32(offset::CSTS)).cfs());
    // Memory that no queue lies in comes and goes without harm.
    host.write32(offset::CC, 0);
    let map = host
        .client
        .dma_map(host.file.as_fd(), ByteOffset(0), Iova(BASE), Bytes(MEMORY));
    map.expect("mapped");
    host.enable();
    host.wait_csts(Csts::rdy);
    let mut ring = host.pair(1, 8, None);
    let other = memory(1 << 20);
    for _ in 0..3 {
        let at = Iova(1 << 50);
        let len = Bytes(1 << 20);
        let map = host.client.dma_map(other.as_fd(), ByteOffset(0), at, len);
        map.expect("mapped");
        let mut sqe = host.transfer(false, 1, 0, 512, DATA, 512);
        sqe.prp1 = at.0.into();
        assert!(host.run(&mut ring, sqe).status().is_success());
        host.client.dma_unmap(at, len).expect("unmapped");
        assert!(
            host.run(&mut ring, sqe)
                .status()
                .is(Status::DATA_TRANSFER_ERROR)
        );
    }
    assert!(!Csts(host.read32(offset::CSTS)).cfs());
    drop(host);
    works(&emulator);
    emulator.end();
}

/// A client makes its memory shorter, so that whoever touches the rest gets SIGBUS.
#[test]
fn memory_that_shrinks_behind_our_back_is_fatal_and_kills_nobody() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"");
    for len in [DATA, RINGS, 0] {
        let mut host = Host::new(&emulator);
        let mut ring = host.pair(1, 8, None);
        let sqe = host.transfer(false, 1, 0, 512, DATA, 4096);
        if len >= DATA {
            // Data alone is gone: a command finds it.
            ftruncate(&host.file, len).expect("shorter");
            host.push(&mut ring, sqe);
            host.ring(&ring);
        } else {
            // Queues are gone, which polling finds; this side must not touch them either.
            host.push(&mut ring, sqe);
            ftruncate(&host.file, len).expect("shorter");
            host.ring(&ring);
        }
        let csts = host.wait_csts(Csts::cfs);
        assert!(csts.cfs(), "{len}");
        // Zeroes that nobody else sees took its place: it is refused until it is mapped anew.
        ftruncate(&host.file, MEMORY).expect("as long as before");
        host.write32(offset::CC, 0);
        host.enable();
        let csts = host.wait_csts(|csts| csts.rdy() || csts.cfs());
        assert!(csts.cfs() && !csts.rdy(), "{len}: {csts:?}");
        host.write32(offset::CC, 0);
        let (at, whole) = (Iova(BASE), Bytes(MEMORY));
        host.client.dma_unmap(at, whole).expect("unmapped");
        let map = host
            .client
            .dma_map(host.file.as_fd(), ByteOffset(0), at, whole);
        map.expect("mapped");
        host.enable();
        host.wait_csts(Csts::rdy);
        drop(host);
        works(&emulator);
    }
    emulator.end();
}

/// A file of a namespace that somebody else makes shorter.
#[test]
fn a_file_that_shrinks_is_fatal_and_kills_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blocks");
    std::fs::write(&path, vec![3; 1 << 20]).expect("written");
    let emulator = Emulator::new(&format!(
        "[[namespace]]\nsize = \"1MiB\"\nmemory = {{ file = {:?} }}",
        path.display().to_string()
    ));
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 8, None);
    let file = std::fs::File::options().write(true).open(&path);
    file.expect("opened").set_len(4096).expect("shorter");
    let sqe = host.transfer(true, 1, 64, 512, DATA, 4096);
    host.push(&mut ring, sqe);
    host.ring(&ring);
    host.wait_csts(Csts::cfs);
    assert_eq!(
        host.poll(&mut ring),
        None,
        "what was not kept is not acknowledged"
    );
    // No reset brings back what is gone, nor does another client find other blocks there than were written.
    host.write32(offset::CC, 0);
    host.enable();
    let csts = host.wait_csts(|csts| csts.rdy() || csts.cfs());
    assert!(csts.cfs() && !csts.rdy(), "{csts:?}");
    drop(host);
    let mut next = Host::cold(&emulator);
    next.enable();
    let csts = next.wait_csts(|csts| csts.rdy() || csts.cfs());
    assert!(csts.cfs() && !csts.rdy(), "{csts:?}");
    drop(next);
    let why = emulator.ends_badly();
    assert!(
        why.contains("blocks") && why.contains("namespace 1"),
        "{why}"
    );
}

#[test]
fn a_client_that_left_rings_nobodys_doorbells() {
    let emulator = Emulator::new("queues = 1\n[[namespace]]\nsize = \"1MiB\"");
    let former = Host::new(&emulator);
    let Host { client, bells, .. } = former;
    drop(client);
    let mut host = Host::new(&emulator);
    let _ring = host.pair(1, 8, None);
    for word in (0..4096).step_by(4) {
        bells.store_u32(ByteOffset(word), 0xffff).expect("inside");
    }
    std::thread::sleep(Duration::from_millis(20));
    let log = host.log(LogPage::Errors, 64, true);
    let latest = ErrorEntry::read_from_bytes(&log).expect("64 bytes");
    assert_eq!(latest.error_count.get(), 0, "{latest:?}");
    drop(host);
    works(&emulator);
    emulator.end();
}
