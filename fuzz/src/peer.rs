//! The control channel: who comes without the key, who has it and lies, and a child's pipe.

use std::io;

use strata_peer::{Channel, PeerError, fuzz};

/// Nobody gets in, or hears anything, without the key.
pub(crate) fn strangers(bytes: &[u8]) {
    assert!(!fuzz::strangers(bytes), "a stranger was answered");
}

/// No frame is taken for the other side's without its tag.
pub(crate) fn frames(bytes: &[u8]) {
    assert_eq!(fuzz::frames(bytes), 0, "a frame without its tag was taken");
}

/// Rightly sealed frames may hold anything.
pub(crate) fn liars(bytes: &[u8]) {
    assert!(fuzz::liars(bytes) <= bytes.len());
}

/// What a child's pipe says is read as messages, and they are sent as they were read.
pub(crate) fn channel(bytes: &[u8]) {
    let mut channel = Channel::new(bytes, io::sink());
    loop {
        match channel.receive::<serde_json::Value>() {
            Ok(message) => {
                let mut frame = Vec::new();
                Channel::new(io::empty(), &mut frame)
                    .send(&message)
                    .expect("no longer than it came");
                let again: serde_json::Value = Channel::new(frame.as_slice(), io::sink())
                    .receive()
                    .expect("what was sent");
                assert_eq!(again, message);
            }
            Err(PeerError::Gone | PeerError::Garbled(_)) => return,
            Err(other) => panic!("a pipe cannot fail so: {other}"),
        }
    }
}
