//! Data that is written and read.

use std::os::unix::fs::FileExt;

use strata_nvme_spec::command::nvm::{DatasetManagement, DatasetRange, WriteZeroes, flush};
use strata_nvme_spec::prp::contiguous;
use strata_nvme_spec::{BlockCount, Lba, NamespaceId, PageSize, Status};
use strata_units::{Bytes, Iova};
use zerocopy::IntoBytes;

use crate::rig::{ANSWER, BASE, DATA, Host, Ring, pattern};
use crate::served::Emulator;

fn write(host: &Host, ring: &mut Ring, (nsid, first, block): (u32, u64, u64), at: u64, len: u64) {
    let cqe = host.run(ring, host.transfer(true, nsid, first, block, at, len));
    assert!(cqe.status().is_success(), "{}", cqe.status());
}

fn read(host: &Host, ring: &mut Ring, (nsid, first, block): (u32, u64, u64), at: u64, len: u64) {
    let cqe = host.run(ring, host.transfer(false, nsid, first, block, at, len));
    assert!(cqe.status().is_success(), "{}", cqe.status());
}

#[test]
fn what_is_written_is_read() {
    let emulator = Emulator::new(
        "transfer = \"4MiB\"\n[[namespace]]\nsize = \"32MiB\"\n[[namespace]]\nsize = \"32MiB\"\nblock = 4096",
    );
    for page in [0, 1, 4] {
        let mut host = Host::cold(&emulator);
        host.page = PageSize::from_field(page);
        host.enable();
        host.wait_csts(|csts| csts.rdy());
        let mut ring = host.pair(1, 64, None);
        // The largest once, since the host of a test is slow.
        let large = if page == 0 { 4 << 20 } else { 256 << 10 };
        for (n, len) in [512, 1024, 4096, 12 << 10, 60 << 10, large]
            .into_iter()
            .enumerate()
        {
            let shifts = if len <= 60 << 10 {
                &[0, 4, 508, 2048][..]
            } else {
                &[4]
            };
            for &shift in shifts {
                for (nsid, block) in [(1, 512), (2, 4096)] {
                    if len % block != 0 {
                        continue;
                    }
                    let data = pattern(len as usize, n as u32 + shift as u32);
                    host.put(DATA + shift, &data);
                    let place = (nsid, 40 + n as u64, block);
                    write(&host, &mut ring, place, DATA + shift, len);
                    let back = DATA + (6 << 20) + 2048 - shift;
                    host.zero(DATA + (6 << 20), len + 4096);
                    read(&host, &mut ring, place, back, len);
                    assert!(
                        host.get(back, len as usize) == data,
                        "{len} {shift} {nsid} {page}"
                    );
                    let around = [host.get(back - 4, 4), host.get(back + len, 4)];
                    assert_eq!(around, [[0; 4], [0; 4]], "nothing else is touched");
                }
            }
        }
        drop(host);
    }
    emulator.end();
}

#[test]
fn batches_of_any_size_come_back_once_each() {
    let emulator = Emulator::new("queues = 2\n[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    let mut rings = [host.pair(1, 16, None), host.pair(2, 7, None)];
    for batch in (1..=15).chain([15; 40]) {
        for ring in &mut rings {
            let batch = batch.min(ring.size - 1);
            let given: Vec<_> = (0..batch)
                .map(|n| host.push(ring, host.transfer(false, 1, n.into(), 512, DATA, 512)))
                .collect();
            host.ring(ring);
            let taken: Vec<_> = given.iter().map(|_| host.wait(ring)).collect();
            assert!(taken.iter().all(|cqe| cqe.status().is_success()));
            assert_eq!(taken.iter().map(|cqe| cqe.cid()).collect::<Vec<_>>(), given);
            assert_eq!(host.poll(ring), None);
        }
    }
    emulator.end();
}

#[test]
fn a_completion_queue_that_is_full_holds_its_commands_back() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 8, None);
    // The second batch has no room until the first is taken.
    for _ in 0..2 {
        for _ in 0..7 {
            host.push(&mut ring, host.transfer(false, 1, 0, 512, DATA, 512));
        }
        host.ring(&ring);
        let end = std::time::Instant::now() + std::time::Duration::from_millis(20);
        while std::time::Instant::now() < end {
            std::thread::yield_now();
        }
    }
    for _ in 0..14 {
        assert!(host.wait(&mut ring).status().is_success());
    }
    assert_eq!(host.poll(&mut ring), None);
    emulator.end();
}

#[test]
fn zeroes_are_written_and_deallocated_blocks_read_as_zeroes() {
    let emulator = Emulator::new("transfer = \"1MiB\"\n[[namespace]]\nsize = \"4MiB\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 16, None);
    let data = pattern(1 << 20, 1);
    host.put(DATA, &data);
    let zeroes = |first, blocks, deallocate| WriteZeroes {
        nsid: NamespaceId(1),
        first: Lba(first),
        blocks: BlockCount::new(blocks).expect("blocks"),
        deallocate,
        fua: false,
    };
    for deallocate in [false, true] {
        write(&host, &mut ring, (1, 0, 512), DATA, 1 << 20);
        let cqe = host.run(&mut ring, zeroes(3, 1000, deallocate).sqe());
        assert!(cqe.status().is_success());
        read(&host, &mut ring, (1, 0, 512), DATA + (2 << 20), 1 << 20);
        let mut expected = data.clone();
        expected[3 * 512..1003 * 512].fill(0);
        assert!(host.get(DATA + (2 << 20), 1 << 20) == expected);
    }
    write(&host, &mut ring, (1, 0, 512), DATA, 1 << 20);
    let ranges = [(1, 2), (500, 1500), (7, 0)].map(|(first, blocks): (u64, u32)| DatasetRange {
        attributes: 0.into(),
        blocks: blocks.into(),
        first: first.into(),
    });
    host.put(ANSWER, ranges.as_bytes());
    let mut manage = |deallocate, nsid| {
        let command = DatasetManagement {
            nsid: NamespaceId(nsid),
            ranges: 3,
            deallocate,
        };
        let at = Iova(BASE + ANSWER);
        let data = contiguous(PageSize::FOUR_KIB, at, Bytes(48), |_| at, |_, _, _| {});
        let sqe = command
            .sqe()
            .expect("three")
            .with_data(data.expect("one page"));
        host.run(&mut ring, sqe).status()
    };
    assert!(manage(false, 1).is_success(), "a hint");
    assert!(manage(true, 1).is_success());
    assert!(manage(true, 2).is(Status::INVALID_NAMESPACE));
    read(&host, &mut ring, (1, 0, 512), DATA + (2 << 20), 1 << 20);
    let mut expected = data.clone();
    expected[512..3 * 512].fill(0);
    expected[500 * 512..2000 * 512].fill(0);
    assert!(host.get(DATA + (2 << 20), 1 << 20) == expected);
    // One range beyond the end: none is done.
    write(&host, &mut ring, (1, 0, 512), DATA, 4096);
    let beyond = DatasetRange {
        first: 8190.into(),
        blocks: 3.into(),
        ..ranges[0]
    };
    host.put(ANSWER + 32, beyond.as_bytes());
    let command = DatasetManagement {
        nsid: NamespaceId(1),
        ranges: 3,
        deallocate: true,
    };
    let sqe = command.sqe().expect("three");
    let sqe = sqe.with_data(strata_nvme_spec::prp::Pointers {
        prp1: Iova(BASE + ANSWER),
        prp2: Iova(0),
    });
    assert!(
        host.run(&mut ring, sqe)
            .status()
            .is(Status::LBA_OUT_OF_RANGE)
    );
    read(&host, &mut ring, (1, 0, 512), DATA + (2 << 20), 4096);
    assert!(host.get(DATA + (2 << 20), 4096) == data[..4096]);
    emulator.end();
}

#[test]
fn a_file_has_what_was_written_and_flushed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blocks");
    std::fs::write(&path, vec![3; 1 << 20]).expect("written");
    let emulator = Emulator::new(&format!(
        "[[namespace]]\nsize = \"1MiB\"\nmemory = {{ file = {:?} }}",
        path.display().to_string()
    ));
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 16, None);
    read(&host, &mut ring, (1, 9, 512), DATA, 512);
    assert_eq!(host.get(DATA, 512), [3; 512]);
    let data = pattern(8192, 5);
    host.put(DATA, &data);
    write(&host, &mut ring, (1, 100, 512), DATA, 8192);
    for nsid in [NamespaceId(1), NamespaceId::ALL] {
        assert!(host.run(&mut ring, flush(nsid)).status().is_success());
    }
    let file = std::fs::File::open(&path).expect("there");
    let mut found = vec![0; 8192];
    file.read_exact_at(&mut found, 51_200).expect("read");
    assert!(found == data);
    assert_eq!(file.metadata().expect("told").len(), 1 << 20);
    drop(host);
    emulator.end();
}

#[test]
fn the_next_client_finds_the_data_and_a_reset_controller() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 16, None);
    let data = pattern(4096, 9);
    host.put(DATA, &data);
    write(&host, &mut ring, (1, 8, 512), DATA, 4096);
    // It dies with commands that nobody will take.
    for _ in 0..15 {
        host.push(&mut ring, host.transfer(true, 1, 16, 512, DATA, 4096));
    }
    host.ring(&ring);
    drop(host);
    let mut host = Host::cold(&emulator);
    assert_eq!(host.read32(0x1c), 0);
    assert_eq!(host.read64(0x28), 0);
    assert_eq!(host.bells.load_u32(strata_units::ByteOffset(0)), Some(0));
    host.enable();
    host.wait_csts(|csts| csts.rdy());
    let mut ring = host.pair(1, 16, None);
    read(&host, &mut ring, (1, 8, 512), DATA, 4096);
    assert!(host.get(DATA, 4096) == data);
    emulator.end();
}

#[test]
fn the_null_model_touches_nothing_and_checks_blocks() {
    let emulator =
        Emulator::new("moves_data = false\n[[namespace]]\nsize = \"1TiB\"\nblock = 4096");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 64, None);
    host.put(DATA, &[7; 4096]);
    read(&host, &mut ring, (1, (1 << 28) - 1, 4096), DATA, 4096);
    assert_eq!(host.get(DATA, 4096), [7; 4096]);
    let mut beyond = host.transfer(false, 1, 1 << 28, 4096, DATA, 4096);
    assert!(
        host.run(&mut ring, beyond)
            .status()
            .is(Status::LBA_OUT_OF_RANGE)
    );
    // Pointers to nowhere are not followed.
    beyond.cdw10 = 0.into();
    beyond.cdw11 = 0.into();
    beyond.prp1 = 3.into();
    assert!(host.run(&mut ring, beyond).status().is_success());
    let zeroes = WriteZeroes {
        nsid: NamespaceId(1),
        first: Lba(0),
        blocks: BlockCount::ONE,
        deallocate: false,
        fua: false,
    };
    assert!(host.run(&mut ring, zeroes.sqe()).status().is_success());
    assert!(
        host.run(&mut ring, flush(NamespaceId(1)))
            .status()
            .is_success()
    );
    emulator.end();
}
