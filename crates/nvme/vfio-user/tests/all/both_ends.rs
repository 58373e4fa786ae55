//! Our client against our server.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{EventfdFlags, eventfd};
use strata_units::{ByteOffset, Bytes, Iova};
use strata_vfio_user::{Asked, ClientError, DeviceInfo, Left, MapError, Mapping, region};

use crate::rig::{COPY, DOORBELLS, SIGNAL, Served, memory};

const PAGE: Bytes = Bytes(4096);

#[test]
fn a_device_is_what_it_is_said_to_be() {
    let served = Served::new();
    let mut client = served.client();
    let info = DeviceInfo {
        regions: 9,
        interrupts: 5,
        resets: true,
    };
    assert_eq!(client.device().expect("told"), info);
    assert_eq!(client.vectors().expect("told"), 40);
    let bar = client.region(region::BAR0).expect("told");
    assert_eq!((bar.size, bar.read, bar.write), (Bytes(8192), true, true));
    assert_eq!(bar.share.expect("shared").areas, [DOORBELLS]);
    let config = client.region(region::CONFIG).expect("told");
    assert_eq!(config.size, Bytes(256));
    assert!(config.share.is_none());
    assert_eq!(client.region(8).expect("told").size, Bytes(0));
    let refused = client.region(9).expect_err("there is none");
    assert!(matches!(
        refused,
        ClientError::Refused {
            asked: Asked::Region(9),
            ..
        }
    ));
    client.reset().expect("reset");
    drop(client);
    assert!(matches!(served.left(), Left::Closed));
    let board = served.end();
    assert_eq!((board.resets, board.gone), (1, 1));
}

#[test]
fn registers_are_read_and_written_by_messages() {
    let served = Served::new();
    let mut client = served.client();
    for len in [1, 2, 4, 8, 3, 4096] {
        let mut bytes = vec![0; len];
        let at = 4096 - len as u64;
        client.read(0, ByteOffset(at), &mut bytes).expect("read");
        let expected: Vec<u8> = (at..4096).map(|n| (n % 251) as u8).collect();
        assert_eq!(bytes, expected, "{len}");
    }
    client
        .write(0, ByteOffset(0x14), &[1, 2, 3, 4])
        .expect("written");
    client.write(7, ByteOffset(4), &[6, 0]).expect("written");
    let mut back = [0; 8];
    client.read(0, ByteOffset(0x14), &mut back).expect("read");
    assert_eq!(back[..4], [1, 2, 3, 4]);
    // Where the region ends, and where there is none.
    for (region, at, len) in [
        (7, 255, 2),
        (7, 256, 1),
        (1, 0, 4),
        (77, 0, 4),
        (7, u64::MAX, 8),
    ] {
        let refused = client.read(region, ByteOffset(at), &mut vec![0; len]);
        let why = refused.expect_err("nothing is there").to_string();
        assert!(why.contains("refused: Invalid argument"), "{why}");
    }
    // What the device itself refuses: our board has no registers in the page of its doorbells.
    let refused = client
        .write(0, ByteOffset(4096), &[0; 4])
        .expect_err("refused");
    assert!(
        refused.to_string().contains("Input/output error"),
        "{refused}"
    );
    client
        .read(0, ByteOffset(0), &mut back)
        .expect("it goes on");
    drop(client);
    let board = served.end();
    let written: Vec<_> = board
        .writes
        .iter()
        .map(|(r, at, b)| (*r, *at, b.len()))
        .collect();
    assert_eq!(written, [(0, 0x14, 4), (7, 4, 2), (0, 4096, 4)]);
}

#[test]
fn doorbells_are_one_memory_on_both_ends() {
    let served = Served::new();
    let mut client = served.client();
    let bar = client.region(region::BAR0).expect("told");
    let doorbells = bar.map(DOORBELLS).expect("mapped");
    doorbells.store_u32(ByteOffset(8), 0xabcd).expect("inside");
    let mut below = DOORBELLS;
    below.at = ByteOffset(0);
    assert!(matches!(bar.map(below), Err(MapError::Outside { .. })));
    below = DOORBELLS;
    below.len = Bytes(4097);
    assert!(matches!(bar.map(below), Err(MapError::Outside { .. })));
    let config = client.region(region::CONFIG).expect("told");
    assert!(matches!(
        config.map(DOORBELLS),
        Err(MapError::Unshared { .. })
    ));
    drop(client);
    // The memory outlives the connection.
    doorbells.store_u32(ByteOffset(12), 7).expect("inside");
    let board = served.end();
    assert_eq!(board.doorbells.load_u32(ByteOffset(8)), Some(0xabcd));
    assert_eq!(board.doorbells.load_u32(ByteOffset(12)), Some(7));
}

#[test]
fn memory_is_given_and_taken_back() {
    let served = Served::new();
    let mut client = served.client();
    let file = memory(4 * PAGE.0);
    let iova = Iova(0x7f00_0000_0000);
    let next = Iova(iova.0 + 2 * PAGE.0);
    client
        .dma_map(file.as_fd(), ByteOffset(PAGE.0), iova, PAGE * 2)
        .expect("mapped");
    client
        .dma_map(file.as_fd(), ByteOffset(0), next, PAGE)
        .expect("mapped");
    let why = |r: Result<(), ClientError>| r.expect_err("refused").to_string();
    let twice = why(client.dma_map(file.as_fd(), ByteOffset(0), Iova(iova.0 + PAGE.0), PAGE));
    assert!(
        twice.contains("File exists") && twice.contains("to map 4KiB at 0x7f0000001000"),
        "{twice}"
    );
    let behind = why(client.dma_map(file.as_fd(), ByteOffset(4 * PAGE.0), Iova(0), PAGE));
    assert!(behind.contains("Invalid argument"), "{behind}");
    let between = why(client.dma_map(file.as_fd(), ByteOffset(512), Iova(0), PAGE));
    assert!(between.contains("Invalid argument"), "{between}");
    let other = why(client.dma_unmap(iova, PAGE));
    assert!(other.contains("No such file"), "{other}");
    client.dma_unmap(next, PAGE).expect("unmapped");
    let why = why(client.dma_unmap(next, PAGE));
    assert!(why.contains("No such file"), "{why}");
    drop(client);
    assert!(matches!(served.left(), Left::Closed));
    let board = served.end();
    assert_eq!(
        (board.memory.len(), board.gone),
        (0, 1),
        "taken back when it left"
    );
}

#[test]
fn the_device_reads_and_writes_the_memory_that_it_was_given() {
    let served = Served::new();
    let mut client = served.client();
    let file = memory(2 * PAGE.0);
    let ours = Mapping::new(file.as_fd(), ByteOffset(PAGE.0), PAGE, true).expect("mapped");
    let iova = Iova(0x7f00_0000_0000);
    client
        .dma_map(file.as_fd(), ByteOffset(PAGE.0), iova, PAGE)
        .expect("mapped");
    ours.store_u64(ByteOffset(0), 41).expect("inside");
    let start = iova.0.to_le_bytes();
    client.write(0, COPY, &start).expect("copied");
    assert_eq!(ours.load_u64(ByteOffset(8)), Some(42));
    client.dma_unmap(iova, PAGE).expect("unmapped");
    let absent = client.write(0, COPY, &start).expect_err("taken back");
    assert!(absent.to_string().contains("No such file"), "{absent}");
    drop(client);
    served.end();
}

#[test]
fn more_interrupts_are_set_than_fit_one_message() {
    let served = Served::new();
    let mut client = served.client();
    let fds: Vec<_> = (0..37)
        .map(|_| eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd"))
        .collect();
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    client.set_vectors(3, &borrowed).expect("set");
    for vector in [3u64, 18, 19, 39] {
        client
            .write(0, SIGNAL, &vector.to_le_bytes())
            .expect("signalled");
        let mut count = [0; 8];
        rustix::io::read(&fds[vector as usize - 3], &mut count).expect("it came");
        assert_eq!(u64::from_le_bytes(count), 1, "{vector}");
    }
    let refused = client
        .set_vectors(39, &borrowed[..2])
        .expect_err("there are 40");
    let told = refused.to_string();
    assert!(
        told.contains("to set 2 interrupts from number 39"),
        "{told}"
    );
    client.clear_vectors().expect("cleared");
    let unset = client.write(0, SIGNAL, &3u64.to_le_bytes());
    assert!(unset.is_err(), "taken away");
    client.set_vectors(0, &borrowed[..1]).expect("set");
    drop(client);
    let board = served.end();
    let none = board.vectors.iter().all(Option::is_none);
    assert!(none, "taken away when it left");
}

#[test]
fn a_client_follows_the_other() {
    let served = Served::new();
    for n in 0..3u8 {
        let mut client = served.client();
        let mut register = [9];
        client.read(7, ByteOffset(0), &mut register).expect("read");
        assert_eq!(register, [n], "the device keeps its state");
        client.write(7, ByteOffset(0), &[n + 1]).expect("written");
        drop(client);
        assert!(matches!(served.left(), Left::Closed));
    }
    assert_eq!(served.end().gone, 3);
}
