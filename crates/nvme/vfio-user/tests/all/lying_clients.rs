//! Clients that lie, fall silent or die, against our server: it answers what can be answered, lets go of what cannot, and
//! serves the next one.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use strata_units::{ByteOffset, Nanos};
use strata_vfio_user::Left;

use crate::raw::{Raw, header, longs, words};
use crate::rig::{Served, memory};

const EINVAL: u32 = 22;
const EMSGSIZE: u32 = 90;
const ENOTSUP: u32 = 95;

/// The device is served to somebody else, whatever happened before.
fn serves_on(served: &Served) {
    let mut register = [0; 4];
    let mut client = served.client();
    client.read(0, ByteOffset(0), &mut register).expect("read");
    assert_eq!(register, [0, 1, 2, 3]);
}

/// A register, which shows that the stream is in step.
fn in_step(raw: &mut Raw) {
    let reply = raw.ask(9, &[longs(&[8]), words(&[0, 4])].concat());
    assert_eq!((reply.flags, &reply.body[16..]), (1, &[8, 9, 10, 11][..]));
}

#[test]
fn a_size_that_cannot_be_ends_the_connection() {
    let served = Served::new();
    for size in [0, 1, 15] {
        let mut raw = Raw::greeted(&served);
        raw.send(&header(1, 9, size, 0), &[]);
        assert!(raw.closed(), "{size}");
        let left = served.left();
        assert!(
            matches!(left, Left::Garbled { size: told } if told == size),
            "{left}"
        );
    }
    serves_on(&served);
    served.end();
}

#[test]
fn an_over_long_request_is_read_to_its_end_and_refused() {
    let served = Served::new();
    let mut raw = Raw::greeted(&served);
    let len = 3 << 20;
    raw.send(&header(7, 10, 16 + len, 0), &[]);
    raw.stream
        .write_all(&vec![9; len as usize])
        .expect("read to its end");
    let reply = raw.reply();
    assert_eq!(
        (reply.flags, reply.errno, reply.command),
        (0x21, EMSGSIZE, 10)
    );
    in_step(&mut raw);
    // 4 GiB are announced, some come, and the client goes.
    raw.send(&header(8, 10, u32::MAX, 0), &[]);
    raw.stream.write_all(&vec![9; len as usize]).expect("read");
    drop(raw);
    assert!(matches!(served.left(), Left::Cut));
    serves_on(&served);
    served.end();
}

#[test]
fn what_is_not_known_or_makes_no_sense_is_refused() {
    let served = Served::new();
    let mut raw = Raw::connect(&served);
    assert_eq!(
        raw.ask(4, &words(&[16, 0, 0, 0])).errno,
        EINVAL,
        "before the version"
    );
    assert_eq!(raw.ask(1, &[0, 0]).errno, EINVAL, "half a version");
    assert_eq!(raw.ask(1, &[0, 0, 1, 0]).flags, 1);
    assert_eq!(raw.ask(1, &[0, 0, 1, 0]).errno, EINVAL, "twice");
    for command in [0, 6, 11, 12, 14, 16, 99, u16::MAX] {
        let reply = raw.ask(command, &[0; 40]);
        assert_eq!((reply.flags, reply.errno), (0x21, ENOTSUP), "{command}");
    }
    let access = |at, region, count| [longs(&[at]), words(&[region, count])].concat();
    let irqs = |flags, index, start, count| words(&[20, flags, index, start, count]);
    let map = |flags, offset, at, len| [words(&[32, flags]), longs(&[offset, at, len])].concat();
    for (command, body, errno) in [
        (2, vec![], EINVAL),
        (2, map(3, 0, 0, 0), EINVAL),
        (2, map(3, 0, 0, 4095), EINVAL),
        (2, map(3, 0, u64::MAX - 4095, 4096), EINVAL),
        (2, map(3, u64::MAX, 0, 4096), EINVAL),
        (2, map(0, 0, 0, 4096), EINVAL),
        // Without a descriptor, which this device cannot use.
        (2, map(3, 0, 0, 4096), EINVAL),
        (3, [words(&[24, 0]), longs(&[0, 4096])].concat(), 2),
        (3, [words(&[24, 1]), longs(&[0, 4096])].concat(), ENOTSUP),
        (3, [words(&[24, 2]), longs(&[0, 4096])].concat(), EINVAL),
        (5, words(&[31, 0, 0, 0, 0, 0, 0, 0]), EINVAL),
        (5, words(&[32, 0, 9, 0, 0, 0, 0, 0]), EINVAL),
        (5, words(&[32, 0, 0]), EINVAL),
        (7, words(&[16, 0, 5, 0]), EINVAL),
        (8, irqs(0x24, 2, 0, 1), 0),
        (8, irqs(0x24, 2, 40, 1), EINVAL),
        (8, irqs(0x24, 2, u32::MAX, u32::MAX), EINVAL),
        (8, irqs(0x24, 0, 0, 1), EINVAL),
        (8, irqs(0x24, 5, 0, 0), EINVAL),
        (8, irqs(0, 2, 0, 1), EINVAL),
        (8, irqs(0x22, 2, 0, 1), ENOTSUP),
        (8, irqs(0x21, 2, 0, 0), 0),
        (9, access(0, 0, 0), EINVAL),
        (9, access(0, 0, u32::MAX), EINVAL),
        (9, access(u64::MAX, 0, 2), EINVAL),
        (9, access(0, u32::MAX, 4), EINVAL),
        (10, access(0, 0, 4), EINVAL),
        (10, [access(0, 0, 4), vec![0; 5]].concat(), EINVAL),
        (15, longs(&[u64::MAX]), EINVAL),
        (
            15,
            [longs(&[1]), access(0, 0, 9), vec![0; 8]].concat(),
            EINVAL,
        ),
        (
            15,
            [longs(&[2]), access(0, 0, 4), vec![0; 8]].concat(),
            EINVAL,
        ),
    ] {
        let reply = raw.ask(command, &body);
        let found = (reply.errno, reply.flags);
        let expected = (errno, if errno == 0 { 1 } else { 0x21 });
        assert_eq!(found, expected, "{command} {body:?}");
    }
    in_step(&mut raw);
    drop(raw);
    assert!(
        served.end().writes.is_empty(),
        "nothing of it reached the device"
    );
}

#[test]
fn several_writes_come_in_one_message_and_some_want_no_answer() {
    let served = Served::new();
    let mut raw = Raw::greeted(&served);
    let access = |at, count| [longs(&[at]), words(&[7, count])].concat();
    let one = [access(0, 2), vec![1, 2, 9, 9, 9, 9, 9, 9]].concat();
    let two = [access(8, 8), vec![3; 8]].concat();
    let reply = raw.ask(15, &[longs(&[2]), one, two].concat());
    assert_eq!((reply.flags, reply.body), (1, longs(&[2])));
    let quiet = [access(16, 1), vec![5]].concat();
    raw.send(&[header(1, 10, 33, 0x10), quiet].concat(), &[]);
    raw.send(&header(2, 99, 16, 0x10), &[]);
    // A reply to what nobody asked.
    raw.send(&header(3, 11, 16, 1), &[]);
    in_step(&mut raw);
    drop(raw);
    let writes = served.end().writes;
    let expected = [(7, 0, vec![1, 2]), (7, 8, vec![3; 8]), (7, 16, vec![5])];
    assert_eq!(writes, expected);
}

#[test]
fn descriptors_too_many_are_refused() {
    let served = Served::new();
    let mut raw = Raw::greeted(&served);
    let file = memory(1 << 20);
    let map = |at: u64| [words(&[32, 3]), longs(&[0, at, 4096])].concat();
    for count in [2, 16, 17, 253] {
        let fds: Vec<BorrowedFd<'_>> = (0..count).map(|_| file.as_fd()).collect();
        let reply = raw.ask_with(2, &map(0), &fds);
        assert_eq!(reply.errno, EINVAL, "{count}");
    }
    assert_eq!(raw.ask_with(2, &map(0), &[file.as_fd()]).flags, 1);
    let irqs = words(&[20, 0x24, 2, 0, 3]);
    let two = [file.as_fd(), file.as_fd()];
    assert_eq!(
        raw.ask_with(8, &irqs, &two).errno,
        EINVAL,
        "three are announced"
    );
    // On a later piece of the message they are taken too.
    let body = map(1 << 30);
    raw.send(&[&header(9, 2, 48, 0), &body[..10]].concat(), &[]);
    raw.send(&body[10..], &[file.as_fd()]);
    let reply = raw.reply();
    assert_eq!((reply.command, reply.flags), (2, 1));
    in_step(&mut raw);
    drop(raw);
    served.end();
}

#[test]
fn as_much_is_mapped_as_may_be() {
    let served = Served::new();
    let mut raw = Raw::greeted(&served);
    let file = memory(4096);
    let mut map = |at: u64| {
        let body = [words(&[32, 1]), longs(&[0, at * 4096, 4096])].concat();
        raw.ask_with(2, &body, &[file.as_fd()]).errno
    };
    assert!((0..256).all(|at| map(at) == 0));
    assert_eq!(map(256), 28, "ENOSPC");
    let all = [words(&[24, 2]), longs(&[0, 0])].concat();
    assert_eq!(raw.ask(3, &all).flags, 1, "all at once are unmapped");
    drop(raw);
    served.end();
}

#[test]
fn half_a_message_then_silence_does_not_hold_the_device() {
    let served = Served::with_patience(Nanos::from_millis(100));
    for half in [5, 16, 20] {
        let mut raw = Raw::greeted(&served);
        let whole = [header(1, 9, 32, 0), vec![0; 16]].concat();
        raw.send(&whole[..half], &[]);
        let left = served.left();
        assert!(matches!(left, Left::Stuck(_)), "{half}: {left}");
        assert!(raw.closed());
    }
    serves_on(&served);
    // Between messages a client may be silent as long as it likes.
    let mut raw = Raw::greeted(&served);
    std::thread::sleep(std::time::Duration::from_millis(300));
    in_step(&mut raw);
    drop(raw);
    served.end();
}

#[test]
fn death_in_the_middle_of_a_message_is_seen() {
    let served = Served::new();
    for half in [1, 15, 16, 31] {
        let mut raw = Raw::greeted(&served);
        let whole = [header(1, 9, 32, 0), vec![0; 16]].concat();
        raw.send(&whole[..half], &[]);
        drop(raw);
        let left = served.left();
        assert!(matches!(left, Left::Cut), "{half}: {left}");
    }
    serves_on(&served);
    served.end();
}

#[test]
fn one_who_does_not_take_its_replies_is_given_up() {
    let served = Served::with_patience(Nanos::from_millis(200));
    let mut raw = Raw::greeted(&served);
    // Each asks for a page: their replies do not fit the socket's buffer, and none is fetched.
    let read = [header(1, 9, 32, 0), longs(&[0]), words(&[0, 4096])].concat();
    raw.stream
        .set_write_timeout(Some(std::time::Duration::from_millis(50)))
        .expect("set");
    while raw.stream.write_all(&read).is_ok() {}
    let left = served.left();
    assert!(matches!(left, Left::Stuck(_)), "{left}");
    serves_on(&served);
    served.end();
}

#[test]
fn another_major_version_is_told_and_sent_away() {
    let served = Served::new();
    let mut raw = Raw::connect(&served);
    let reply = raw.ask(1, &[1, 0, 0, 0]);
    assert_eq!((reply.flags, reply.errno), (0x21, ENOTSUP));
    assert!(raw.closed());
    assert!(matches!(served.left(), Left::Foreign));
    let mut older = Raw::connect(&served);
    let reply = older.ask(1, b"\0\0\0\0{\"capabilities\":{\"write_multiple\":true}}\0");
    assert_eq!(reply.body[..4], [0, 0, 0, 0], "no more than it proposed");
    assert!(String::from_utf8_lossy(&reply.body).contains("\"write_multiple\":true"));
    drop(older);
    served.end();
}
