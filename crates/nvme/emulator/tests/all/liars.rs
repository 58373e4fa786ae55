//! Clients that lie, die, or take away what they gave. The controller fails them, and the next one finds it well.

use std::os::fd::AsFd;
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::ftruncate;
use strata_nvme_spec::command::admin::LogPage;
use strata_nvme_spec::command::{CreateCompletionQueue, CreateSubmissionQueue, Priority};
use strata_nvme_spec::log::ErrorEntry;
use strata_nvme_spec::registers::{Csts, Doorbell, offset};
use strata_nvme_spec::{QueueId, QueueSize, Status};
use strata_units::{ByteOffset, Bytes, Iova};
use strata_vfio_user::region;
use zerocopy::FromBytes;

use crate::rig::{BASE, DATA, Host, LISTS, MEMORY, RINGS, Ring, memory, pattern};
use crate::served::Emulator;

/// The next client can do its work.
fn works(emulator: &Emulator) {
    let mut host = Host::new(emulator);
    let mut ring = host.pair(1, 8, None);
    let data = pattern(4096, 3);
    host.put(DATA, &data);
    for write in [true, false] {
        let at = if write { DATA } else { DATA + 8192 };
        let sqe = host.transfer(write, 1, 0, 512, at, 4096);
        assert!(host.run(&mut ring, sqe).status().is_success());
    }
    assert!(host.get(DATA + 8192, 4096) == data);
}

#[test]
fn pointers_to_nowhere_are_answered_and_nothing_is_touched() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"4MiB\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 16, None);
    let good = host.transfer(false, 1, 0, 512, DATA, 8192);
    let end = BASE + MEMORY;
    for (prp1, prp2, expected) in [
        (0, 0, Status::DATA_TRANSFER_ERROR),
        (BASE - 4096, BASE + DATA, Status::DATA_TRANSFER_ERROR),
        (end, BASE + DATA, Status::DATA_TRANSFER_ERROR),
        (BASE + DATA, end, Status::DATA_TRANSFER_ERROR),
        (u64::MAX - 3, BASE + DATA, Status::DATA_TRANSFER_ERROR),
        (BASE + DATA + 2, BASE + DATA, Status::PRP_OFFSET_INVALID),
        (BASE + DATA, BASE + DATA + 512, Status::PRP_OFFSET_INVALID),
        (
            BASE + DATA + 512,
            BASE + DATA + 4,
            Status::PRP_OFFSET_INVALID,
        ),
    ] {
        let mut sqe = good;
        (sqe.prp1, sqe.prp2) = (prp1.into(), prp2.into());
        let status = host.run(&mut ring, sqe).status();
        assert!(status.is(expected), "{prp1:#x} {prp2:#x}: {status}");
    }
    // Lists: outside, off a qword, in a circle, with entries outside and off a page.
    let mut long = host.transfer(false, 1, 0, 512, DATA, 128 << 10);
    let mut status = |prp2: u64, entry: u64| {
        for n in 0..512 {
            let at = ByteOffset(LISTS + 8 * n);
            host.memory.store_u64(at, entry).expect("inside");
        }
        long.prp2 = prp2.into();
        host.run(&mut ring, long).status()
    };
    let list = BASE + LISTS;
    assert!(status(end, 0).is(Status::DATA_TRANSFER_ERROR));
    assert!(status(end - 4096, 0).is(Status::DATA_TRANSFER_ERROR));
    assert!(status(list + 4, BASE + DATA).is(Status::PRP_OFFSET_INVALID));
    assert!(status(list, BASE + DATA + 8).is(Status::PRP_OFFSET_INVALID));
    assert!(status(list, end).is(Status::DATA_TRANSFER_ERROR));
    assert!(status(list, !4095).is(Status::DATA_TRANSFER_ERROR));
    assert!(status(list, BASE + DATA).is_success());
    // From the last entry of its page on the list points to itself. A read overwrites it on the way, a write sends it.
    assert!(status(list + 4088, list).is(Status::DATA_TRANSFER_ERROR));
    let mut circle = host.transfer(true, 1, 0, 512, DATA, 128 << 10);
    for n in 0..512 {
        let at = ByteOffset(LISTS + 8 * n);
        host.memory.store_u64(at, list).expect("inside");
    }
    circle.prp2 = (list + 4088).into();
    assert!(host.run(&mut ring, circle).status().is_success());
    let mut beyond = good;
    beyond.cdw12 = 256.into();
    let status = host.run(&mut ring, beyond).status();
    assert!(status.is(Status::INVALID_FIELD), "above MDTS: {status}");
    for (first, blocks) in [
        (8192, 0),
        (8191, 1),
        (u64::MAX, 0),
        (u64::MAX - 7, 7),
        (0, 0xffff),
    ] {
        let mut sqe = good;
        sqe.cdw10 = (first as u32).into();
        sqe.cdw11 = ((first >> 32) as u32).into();
        sqe.cdw12 = (blocks as u32).into();
        let status = host.run(&mut ring, sqe).status();
        assert!(
            status.is(Status::LBA_OUT_OF_RANGE),
            "{first} {blocks}: {status}"
        );
    }
    drop(host);
    works(&emulator);
    emulator.end();
}

#[test]
fn doorbells_that_cannot_be_change_nothing() {
    let emulator = Emulator::new("queues = 2\n[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 8, None);
    for value in [8, 9, 0xffff] {
        host.bell(Doorbell::Tail(ring.id), value);
        host.silent(&mut ring, Duration::from_millis(3));
        // Heads beyond the tail.
        host.bell(Doorbell::Head(ring.id), value - 1);
        host.silent(&mut ring, Duration::from_millis(3));
        for _ in 0..9 {
            let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
            assert!(host.run(&mut ring, sqe).status().is_success());
        }
    }
    // Three tails and three heads, each told once.
    let log = host.log(LogPage::Errors, 64, true);
    let entry = ErrorEntry::read_from_bytes(&log).expect("64 bytes");
    assert_eq!((entry.error_count.get(), entry.sqid.get()), (6, 1));
    // Of queues that are not there, and between doorbells, all over the page.
    let own = Doorbell::Tail(QueueId(2)).offset(host.cap.doorbell_stride()) - offset::DOORBELLS;
    for at in (own..4096).step_by(4) {
        host.bells
            .store_u32(ByteOffset(at), u32::MAX)
            .expect("inside");
    }
    for at in (offset::DOORBELLS + own..0x2000).step_by(4) {
        host.write32(at, 3);
    }
    // A queue that is made after its doorbells were written begins empty.
    let mut second = host.pair(2, 8, None);
    host.silent(&mut second, Duration::from_millis(3));
    for ring in [&mut ring, &mut second] {
        let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
        assert!(host.run(ring, sqe).status().is_success());
    }
    drop(host);
    works(&emulator);
    emulator.end();
}

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
fn clients_that_die_in_the_middle_leave_nothing() {
    let emulator = Emulator::new("queues = 3\n[[namespace]]\nsize = \"1MiB\"");
    let folder = "/proc/self/fd";
    let open = || std::fs::read_dir(folder).map_or(0, Iterator::count);
    let mut counts = Vec::new();
    for round in 0..12 {
        let mut host = Host::new(&emulator);
        let mut rings: Vec<Ring> = (1..=3).map(|id| host.pair(id, 64, None)).collect();
        for ring in &mut rings {
            for _ in 0..63 {
                let sqe = host.transfer(true, 1, 0, 512, DATA, 64 << 10);
                host.push(ring, sqe);
            }
            host.ring(ring);
        }
        if round % 2 == 0 {
            // In the middle of a message too.
            let half = host.client.write(region::BAR0, ByteOffset(0x3000), &[0; 4]);
            half.expect("written");
        }
        drop(host);
        works(&emulator);
        counts.push(open());
    }
    // Other tests of this process open descriptors too, but none opens them for good.
    assert!(counts[11] <= counts[0] + 60, "{counts:?}");
    emulator.end();
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

#[test]
fn many_queues_on_one_memory_are_the_clients_own_harm() {
    let emulator = Emulator::new("queues = 3\n[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    // Completions over commands over the admin queues: what comes of it is garbage, and nobody else's.
    for id in 1..=3 {
        let size = QueueSize::new(64).expect("a size");
        let completions = CreateCompletionQueue {
            id: QueueId(id),
            size,
            at: Iova(BASE + RINGS),
            contiguous: true,
            vector: None,
        };
        assert!(host.admin_status(completions.sqe()).is_success());
        let submissions = CreateSubmissionQueue {
            id: QueueId(id),
            size,
            at: Iova(BASE + RINGS),
            contiguous: true,
            priority: Priority::Urgent,
            completions: QueueId(id),
        };
        assert!(host.admin_status(submissions.sqe()).is_success());
    }
    for round in 0..20 {
        for id in 1..=3 {
            host.bell(
                Doorbell::Tail(QueueId(id)),
                (round * 13 + u32::from(id)) % 64,
            );
            host.bell(
                Doorbell::Head(QueueId(id)),
                (round * 7 + u32::from(id)) % 64,
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(host);
    works(&emulator);
    emulator.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is written where, each message has its answer and the next client finds a controller that works.
    #[test]
    fn registers_take_anything(writes in proptest::collection::vec(
        (prop_oneof![Just(0u32), Just(0), Just(7)], 0u64..0x4000, any::<u64>(), prop_oneof![Just(4usize), Just(8), Just(1), Just(2)], any::<bool>()),
        1..120,
    )) {
        let emulator = Emulator::new("queues = 4\n[[namespace]]\nsize = \"1MiB\"");
        let mut host = Host::cold(&emulator);
        for (region, at, value, len, enabled) in writes {
            // Half of the accesses go where something is, whole words of it.
            let at = match (region, value % 4) {
                (0, 0) => (at % 0x40) & !7,
                (0, 1) => offset::CC,
                (0, 2) => at & !7,
                (7, _) => at % 0x100,
                _ => at,
            };
            let value = if at == offset::CC && enabled { value & !0x3ff0 | 0x0046_0001 } else { value };
            let bytes = value.to_le_bytes();
            let _ = host.client.write(region, ByteOffset(at), &bytes[..len]);
            let _ = host.client.read(region, ByteOffset(at), &mut [0; 8][..len]);
        }
        drop(host);
        works(&emulator);
        emulator.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Each command, whatever it is, has one answer; what it may not touch is not touched.
    #[test]
    fn commands_of_any_kind_are_answered(commands in proptest::collection::vec(
        (proptest::array::uniform8(any::<u64>()), any::<bool>(), 0u64..64), 1..40,
    )) {
        let emulator = Emulator::new("queues = 4\n[[namespace]]\nsize = \"1MiB\"");
        let mut host = Host::new(&emulator);
        let mut ring = host.pair(1, 16, None);
        for (mut words, admin, page) in commands {
            // Mostly commands that there are, of a namespace that there is, with data that is somewhere.
            if words[7] % 4 != 0 {
                words[0] = words[0] & 0x0f | 1 << 32;
                words[3] = BASE + DATA + page * 4096;
                words[4] = BASE + DATA + page * 8192;
                words[6] &= 0xff;
                words[5] &= 0x7ff;
            }
            let sqe = strata_nvme_spec::Sqe::from_words(words);
            let deletes = admin && matches!(sqe.opcode, 0 | 1 | 4 | 5);
            let waits = admin && sqe.opcode == 0x0c && sqe.flags & 0xc3 == 0;
            if deletes || waits {
                continue;
            }
            match admin {
                true => drop(host.admin(sqe)),
                false => drop(host.run(&mut ring, sqe)),
            }
            prop_assert_eq!(host.poll(&mut ring), None);
        }
        drop(host);
        works(&emulator);
        emulator.end();
    }
}
