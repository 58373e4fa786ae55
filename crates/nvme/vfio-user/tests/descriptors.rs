//! No descriptor is left behind, counted in this process: alone in its binary, since tests beside it would have theirs.

#[path = "all/raw.rs"]
#[allow(dead_code, reason = "of the other tests")]
mod raw;
#[path = "all/rig.rs"]
#[allow(dead_code, reason = "of the other tests")]
mod rig;

use std::os::fd::{AsFd, BorrowedFd};

use strata_units::{ByteOffset, Bytes, Iova};

use crate::raw::{Raw, header, longs, words};
use crate::rig::{Served, memory};

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

fn honest(served: &Served) {
    let mut client = served.client();
    let file = memory(8192);
    let bar = client.region(0).expect("told");
    bar.map(rig::DOORBELLS).expect("mapped");
    for n in 0..20 {
        let (iova, len) = (Iova(n << 20), Bytes(8192));
        client
            .dma_map(file.as_fd(), ByteOffset(0), iova, len)
            .expect("mapped");
    }
    let fds = [file.as_fd(); 20];
    client.set_vectors(0, &fds).expect("set");
    client.set_vectors(0, &fds).expect("set again");
    client.dma_unmap(Iova(0), Bytes(8192)).expect("unmapped");
}

fn liar(served: &Served) {
    let mut raw = Raw::greeted(served);
    let file = memory(8192);
    let many = |count| -> Vec<BorrowedFd<'_>> { (0..count).map(|_| file.as_fd()).collect() };
    // With what takes none, with what takes one, more than are taken, and with what is refused for its length.
    for (command, count) in [(4, 3), (2, 2), (2, 253), (99, 16), (8, 5)] {
        raw.ask_with(command, &[0; 40], &many(count));
    }
    raw.send(&header(1, 10, 16 + (2 << 20), 0), &many(4));
    for _ in 0..32 {
        raw.send(&[0; 1 << 16], &many(100));
    }
    raw.reply();
    // What is mapped when it goes, and what came with half a message.
    let map = [words(&[32, 3]), longs(&[0, 1 << 30, 8192])].concat();
    assert_eq!(raw.ask_with(2, &map, &many(1)).flags, 1);
    raw.send(&header(2, 2, 48, 0)[..9], &many(16));
}

#[test]
fn none_is_left_behind() {
    let before = open();
    let served = Served::new();
    let serving = open();
    for _ in 0..10 {
        for client in [honest, liar] {
            client(&served);
            served.left();
            assert_eq!(open(), serving, "beside {before} without a server");
        }
    }
    drop(served.end());
    assert_eq!(open(), before);
}
