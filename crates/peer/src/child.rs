//! The other side as a child process on this machine.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::wait::hung_up;
use crate::{Channel, PROTOCOL, PeerError};

/// How long a child may take until it has said hello: starting a program from a cold disk takes seconds.
const HELLO: Nanos = Nanos(10_000_000_000);

/// A child process that does one trial's other side. Dropping it ends it.
pub struct Child {
    process: process::Child,
    channel: Channel<ChildStdout, ChildStdin>,
    lost: Arc<AtomicBool>,
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
            return Err(io::Error::other("the child has no pipes").into());
        };
        let watched = from.as_fd().try_clone_to_owned();
        let mut child = Child {
            process,
            channel: Channel::new(from, to),
            lost: Arc::default(),
        };
        watch(watched?, &child.lost)?;
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

    /// True from the moment on that the child has ended or closed its output. One that is stopped is known by its silence
    /// only.
    pub fn lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lost)
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

/// Whoever started this process, seen from here.
pub struct Parent {
    channel: Channel<File, File>,
    lost: Arc<AtomicBool>,
}

impl Parent {
    /// Says hello over standard output, and listens to standard input.
    ///
    /// # Errors
    /// Those of [`Channel::send`]; [`PeerError::System`] when this process has no such descriptors left.
    pub fn greet() -> Result<Parent, PeerError> {
        // Not through `Stdin`, whose buffer would hold what is then waited for.
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        let (from, to) = (own(io::stdin().as_fd())?, own(io::stdout().as_fd())?);
        let lost = Arc::default();
        watch(from.try_clone()?, &lost)?;
        Ok(Parent {
            channel: hello_from_child(File::from(from), File::from(to))?,
            lost,
        })
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

    /// True from the moment on that whoever started this process has ended or closed its input.
    pub fn lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lost)
    }
}

/// Sets `lost` as soon as nobody holds the other end of the pipe `from`, whatever lies unread in it.
fn watch(from: OwnedFd, lost: &Arc<AtomicBool>) -> io::Result<()> {
    let lost = Arc::clone(lost);
    thread::Builder::new()
        .name("strata-peer".to_owned())
        .spawn(move || {
            // Where that cannot be told, the end is still found by who reads.
            if hung_up(from.as_fd()).is_ok() {
                lost.store(true, Ordering::Relaxed);
            }
        })?;
    Ok(())
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
        let told = format!("protocol {}, expected {PROTOCOL}", PROTOCOL + 1);
        assert!(why.contains(&told), "{why}");
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
    fn a_child_that_ends_is_lost_though_nobody_listens() {
        let child = Child::start(&mut shell(PROTOCOL, "read line")).expect("it says hello");
        let lost = child.lost();
        thread::sleep(std::time::Duration::from_millis(50));
        assert!(!lost.load(Ordering::Relaxed), "it waits for a line");
        let pid = i32::try_from(child.process.id()).expect("a pid");
        let kill = nix::sys::signal::Signal::SIGKILL;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), kill).expect("killed");
        let begun = Instant::now();
        while !lost.load(Ordering::Relaxed) {
            assert!(begun.elapsed().as_secs() < 8, "not noticed");
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = Child::start(&mut shell(PROTOCOL, "exec sleep 600")).expect("it says hello");
        let pid = child.process.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
