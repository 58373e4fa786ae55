//! Those who do not hold the key learn nothing, and keep nobody out.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use strata_peer::{PeerError, connect};

use crate::rig::{KeyFile, NOTICED, Rig, talks, within};

/// All that a server says until it closes the connection, which it must within the handshake's five seconds.
fn heard(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(NOTICED)).expect("set");
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        // It closed with something unread.
        Err(e) if e.kind() == ErrorKind::ConnectionReset => bytes,
        Err(e) => panic!("not closed: {e}"),
    }
}

#[test]
fn another_key_or_none_is_turned_away() {
    let (ours, theirs) = (KeyFile::new(3).key(), KeyFile::new(4).key());
    for (server, client) in [
        (Some(&ours), Some(&theirs)),
        (Some(&ours), None),
        (None, Some(&theirs)),
    ] {
        let rig = Rig::start(server.cloned());
        let begun = Instant::now();
        let why = connect(&[rig.address], client).err().expect("a stranger");
        assert!(
            matches!(why, PeerError::Stranger(at) if at == rig.address),
            "{why}"
        );
        assert!(why.to_string().contains("--key-file"), "{why}");
        assert!(begun.elapsed() < NOTICED);
        within(NOTICED, || (rig.strangers() == 1).then_some(()));
        talks(
            &mut connect(&[rig.address], server).expect("the right key"),
            "mine",
        );
    }
}

#[test]
fn a_stranger_learns_nothing_whether_the_cores_are_taken_or_not() {
    let key = KeyFile::new(5).key();
    let rig = Rig::start(Some(key.clone()));
    let request = b"GET /a/path/that/is/longer/than/a/hello HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    let ask = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(rig.address).expect("connected");
        stream.write_all(bytes).expect("sent");
        stream
    };
    for taken in [false, true] {
        let owner = taken.then(|| connect(&[rig.address], Some(&key)).expect("a session"));
        for bytes in [request.as_slice(), &[0; 68], &[0xff; 4096]] {
            let begun = Instant::now();
            assert_eq!(heard(ask(bytes)), b"", "taken: {taken}");
            assert!(
                begun.elapsed() < Duration::from_secs(4),
                "at once, not by the deadline"
            );
        }
        drop(owner);
    }
}

#[test]
fn a_silent_crowd_keeps_nobody_out_and_is_sent_away() {
    let key = KeyFile::new(6).key();
    let rig = Rig::start(Some(key.clone()));
    let begun = Instant::now();
    let mut crowd: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(rig.address).expect("connected"))
        .collect();
    // Among the last, who still stand there: one that begins and one that goes on dripping.
    crowd[99]
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("sent");
    let mut dripping = crowd[98].try_clone().expect("a second handle");
    let drip = thread::spawn(move || {
        while begun.elapsed() < NOTICED && dripping.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(150));
        }
    });
    let mut session = connect(&[rig.address], Some(&key)).expect("who holds the key is let in");
    talks(&mut session, "in spite of them");
    for stranger in crowd {
        assert_eq!(heard(stranger), b"");
    }
    drip.join().expect("no panic");
    talks(&mut session, "they are gone");
    within(NOTICED, || (rig.strangers() == 100).then_some(()));
}
