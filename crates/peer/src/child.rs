//! The other side as a child process on this machine.

use std::io::{self, Read, Write};
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

    #[test]
    fn a_dropped_child_is_gone() {
        // It says hello (four bytes of length, then `1`) and sleeps.
        let mut command = Command::new("sh");
        command.args(["-c", r"printf '\001\000\000\0001'; exec sleep 600"]);
        let child = Child::start(&mut command).expect("it says hello");
        let pid = child.process.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
