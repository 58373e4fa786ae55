//! Clients that hold the key, one at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use strata_peer::{Event, PeerError, connect};

use crate::rig::{KeyFile, NOTICED, Rig, SOON, talks, within};

#[test]
fn messages_go_both_ways_with_a_key_and_without() {
    for key in [None, Some(KeyFile::new(1).key())] {
        let rig = Rig::start(key.clone());
        let mut session = connect(&[rig.address], key.as_ref()).expect("a session");
        assert_eq!(session.there(), rig.address);
        assert_eq!(session.here().ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        for text in ["", "one", &"½".repeat(1 << 20)] {
            talks(&mut session, text);
        }
        assert!(!session.lost().load(Ordering::Relaxed));
        drop(session);
        let why = rig.end(0);
        assert!(
            matches!(&why, PeerError::Ended(w) if w == "the other side is done"),
            "{why:?}"
        );
    }
}

#[test]
fn ipv6_is_as_good() {
    let rig = match Rig::at((Ipv6Addr::LOCALHOST, 0).into(), None) {
        Ok(rig) => rig,
        Err(why) => {
            println!("SKIP ipv6_is_as_good: {why}");
            return;
        }
    };
    talks(
        &mut connect(&[rig.address], None).expect("a session"),
        "six",
    );
}

#[test]
fn a_session_in_which_nobody_speaks_lives_on() {
    let rig = Rig::start(None);
    let mut session = connect(&[rig.address], None).expect("a session");
    // Longer than silence may last, and nobody listens.
    thread::sleep(Duration::from_secs(6));
    assert!(
        !session.lost().load(Ordering::Relaxed),
        "{:?}",
        session.why_lost()
    );
    talks(&mut session, "still there");
}

#[test]
fn a_second_client_is_told_who_has_the_cores() {
    let key = KeyFile::new(2).key();
    let rig = Rig::start(Some(key.clone()));
    let mut first = connect(&[rig.address], Some(&key)).expect("a session");
    let why = connect(&[rig.address], Some(&key))
        .err()
        .expect("turned away");
    let PeerError::Taken { by, since } = why else {
        panic!("{why}");
    };
    assert_eq!(by, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert!(since.as_duration() < Duration::from_secs(60), "{since}");
    talks(&mut first, "mine");
    first.end("that was all");
    let why = rig.end(0);
    assert!(
        matches!(&why, PeerError::Ended(w) if w == "that was all"),
        "{why:?}"
    );
    talks(
        &mut connect(&[rig.address], Some(&key)).expect("its turn"),
        "mine now",
    );
    let taken = |event: &Event| matches!(event, Event::Taken(_));
    assert_eq!(rig.events().iter().filter(|event| taken(event)).count(), 1);
}

#[test]
fn nobody_is_told_of_their_own_last_session() {
    let rig = Rig::start(None);
    for n in 0..20 {
        let mut session = connect(&[rig.address], None).expect("the cores are free again");
        talks(&mut session, &n.to_string());
    }
}

#[test]
fn a_panic_of_the_handler_ends_its_session_only() {
    let rig = Rig::start(None);
    let mut session = connect(&[rig.address], None).expect("a session");
    session.send(&"panic").expect("sent");
    let why = session
        .receive_within::<String>(SOON)
        .expect_err("it panicked");
    assert!(
        matches!(&why, PeerError::Ended(w) if w.contains("panicked")),
        "{why:?}"
    );
    talks(
        &mut connect(&[rig.address], None).expect("it serves on"),
        "next",
    );
    let panicked = |event: &Event| matches!(event, Event::Panicked(_));
    assert!(rig.events().iter().any(panicked), "{:?}", rig.events());
}

#[test]
fn a_server_that_is_stopped_tells_its_client() {
    let mut rig = Rig::start(None);
    let session = connect(&[rig.address], None).expect("a session");
    let lost = session.lost();
    let took = rig.stop();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let begun = Instant::now();
    within(NOTICED, || lost.load(Ordering::Relaxed).then_some(()));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "told rather than found"
    );
    let why = session.why_lost().expect("over");
    assert!(
        matches!(&why, PeerError::Ended(w) if w.contains("told to stop")),
        "{why:?}"
    );
}
