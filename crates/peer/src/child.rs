//! The other side as a child process on this machine.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::{Channel, PeerError};

/// The protocol that both sides must speak; raised with every change of a message.
const PROTOCOL: u32 = 1;

/// How long a child may take until it has said hello: starting a program from a cold disk takes seconds.
const HELLO: Nanos = Nanos(10_000_000_000);

/// A child process that does one trial's other side. Dropping it ends it.
pub struct Child {
    process: process::Child,
    channel: Channel<ChildStdout, ChildStdin>,
}

impl Child {
    /// Starts `command`, which must answer with [`hello_from_child`]. Its standard error is ours.
    ///
    /// # Errors
    /// [`PeerError`] when it does not start, or is something else.
    pub fn start(command: &mut Command) -> Result<Child, PeerError> {
        let mut process = command
            // A Ctrl-C at the terminal is for whoever started it, who then ends it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(PeerError::System(io::Error::other(
                "the child has no pipes",
            )));
        };
        let mut child = Child {
            process,
            channel: Channel::new(from, to),
        };
        let theirs: u32 = child.channel.receive_within(HELLO)?;
        if theirs != PROTOCOL {
            return Err(PeerError::Garbled(format!(
                "protocol {theirs}, expected {PROTOCOL}"
            )));
        }
        Ok(child)
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Those of [`Channel::send`].
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        self.channel.send(message)
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// Those of [`Channel::receive_within`].
    pub fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        self.channel.receive_within(span)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It has nothing to lose: what it measured has been sent, or is void. An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a child says first, on its standard output; gives the channel to whoever started it.
///
/// # Errors
/// Those of [`Channel::send`].
pub fn hello_from_child<R: Read, W: Write>(from: R, to: W) -> Result<Channel<R, W>, PeerError> {
    let mut channel = Channel::new(from, to);
    channel.send(&PROTOCOL)?;
    Ok(channel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_stranger_is_told_apart() {
        let mut stranger = Command::new("echo");
        let found = Child::start(stranger.arg("hello")).map(|_| ());
        assert!(
            matches!(found, Err(PeerError::Garbled(_) | PeerError::Gone)),
            "{found:?}"
        );
        let none = Child::start(&mut Command::new("/no/such/program")).map(|_| ());
        assert!(matches!(none, Err(PeerError::System(_))), "{none:?}");
    }

    /// A shell that says hello (four bytes of length, then the protocol's number) and then does as told.
    fn shell(protocol: u32, then: &str) -> Command {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!(r"printf '\001\000\000\000%s' {protocol}; {then}"),
        ]);
        command
    }

    #[test]
    fn messages_go_both_ways() {
        let mut child = Child::start(&mut shell(PROTOCOL, "exec cat")).expect("it says hello");
        for message in ["", "one", &"x".repeat(30_000)] {
            child.send(&message).expect("sent");
            let back: String = child.receive_within(HELLO).expect("sent back");
            assert_eq!(back, message);
        }
    }

    #[test]
    fn another_protocol_is_told_apart() {
        let found = Child::start(&mut shell(PROTOCOL + 1, "exec cat")).map(|_| ());
        let Err(PeerError::Garbled(why)) = found else {
            panic!("{found:?}");
        };
        assert!(why.contains("protocol 2, expected 1"), "{why}");
    }

    #[test]
    fn a_child_that_is_killed_or_silent_is_told_apart() {
        let mut dying = Child::start(&mut shell(PROTOCOL, "sleep 0.1; kill -9 $$")).expect("alive");
        let found = dying.receive_within::<String>(HELLO);
        assert!(matches!(found, Err(PeerError::Gone)), "{found:?}");
        // Another test's child, forked and not yet executed, may hold the pipe's end for a moment.
        let begun = Instant::now();
        let found = loop {
            match dying.send(&"are you there?") {
                Ok(()) if begun.elapsed().as_secs() < 10 => {}
                found => break found,
            }
        };
        assert!(matches!(found, Err(PeerError::Gone)), "{found:?}");

        let mut silent = Child::start(&mut shell(PROTOCOL, "exec sleep 600")).expect("alive");
        let span = Nanos::from_millis(30);
        let found = silent.receive_within::<String>(span);
        assert!(
            matches!(found, Err(PeerError::Silent(s)) if s == span),
            "{found:?}"
        );
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = Child::start(&mut shell(PROTOCOL, "exec sleep 600")).expect("it says hello");
        let pid = child.process.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
