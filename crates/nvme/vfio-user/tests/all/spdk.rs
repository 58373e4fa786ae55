//! What SPDK's client does, byte by byte: no JSON, requests longer than need be, a descriptor with an unmap too.

use std::os::fd::AsFd;

use strata_units::{ByteOffset, Bytes};
use strata_vfio_user::Mapping;

use crate::raw::{Raw, longs, words};
use crate::rig::{Served, memory};

#[test]
fn its_questions_are_answered() {
    let served = Served::new();
    let mut raw = Raw::connect(&served);
    let version = raw.ask(1, &[0, 0, 1, 0]);
    let json = String::from_utf8(version.body[4..].to_vec()).expect("text");
    assert!(
        json.starts_with("{\"capabilities\":{") && json.ends_with("}}\0"),
        "{json}"
    );
    let info = raw.ask(4, &words(&[16, 0, 0, 0]));
    assert_eq!(info.body, words(&[16, 3, 9, 5]));
    // The whole buffer goes as the request, and its size as what a reply may take.
    let mut asked = words(&[4064, 0, 0, 0]);
    asked.resize(4064, 0);
    let bar = raw.ask(5, &asked);
    assert_eq!(
        bar.body[..32],
        [words(&[64, 0xf, 0, 32]), longs(&[8192, 0])].concat()
    );
    assert_eq!(
        bar.body[32..],
        [words(&[1 << 16 | 1, 0, 1, 0]), longs(&[4096, 4096])].concat()
    );
    assert_eq!(bar.fds.len(), 1);
    let doorbells = Mapping::new(bar.fds[0].as_fd(), ByteOffset(4096), Bytes(4096), true);
    let doorbells = doorbells.expect("mapped");
    // A 4- and an 8-byte register, and the command register of PCI.
    let cap = raw.ask(9, &[longs(&[0]), words(&[0, 8])].concat());
    assert_eq!(cap.body[16..], [0, 1, 2, 3, 4, 5, 6, 7]);
    let cc = [longs(&[0x14]), words(&[0, 4]), vec![1, 0, 0x46, 0]].concat();
    assert_eq!(raw.ask(10, &cc).body, cc[..16]);
    let command = [longs(&[4]), words(&[7, 2]), vec![6, 0]].concat();
    assert_eq!(raw.ask(10, &command).body.len(), 16);
    // Memory at its own address; a descriptor comes with the unmap as well.
    let file = memory(1 << 21);
    let map = [words(&[32, 3]), longs(&[0, 0x7f12_3460_0000, 1 << 21])].concat();
    let mapped = raw.ask_with(2, &map, &[file.as_fd()]);
    assert_eq!((mapped.flags, mapped.command), (1, 2));
    doorbells.store_u32(ByteOffset(0), 5).expect("inside");
    let unmap = [words(&[24, 0]), longs(&[0x7f12_3460_0000, 1 << 21])].concat();
    let unmapped = raw.ask_with(3, &unmap, &[file.as_fd()]);
    assert_eq!((unmapped.flags, unmapped.body), (1, unmap));
    drop(raw);
    let board = served.end();
    assert_eq!(board.doorbells.load_u32(ByteOffset(0)), Some(5));
    assert_eq!(board.writes.len(), 2);
}
