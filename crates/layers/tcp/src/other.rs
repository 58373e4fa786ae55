//! The other side, as this layer needs it: somebody who takes messages and sends them, here or on another machine.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_peer::{Channel, Child, PeerError, Session};
use strata_units::Nanos;

/// Whoever is at the other end of a control channel.
pub trait Other: Send {
    /// Sends one message.
    ///
    /// # Errors
    /// [`PeerError`] when nobody takes it.
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError>;

    /// Waits for one message, at most so long for it to begin.
    ///
    /// # Errors
    /// [`PeerError::Silent`] when none begins in time, others when none can come any more.
    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError>;

    /// Why it is lost, where the channel knows before anybody waits for a message.
    fn lost(&self) -> Option<String> {
        None
    }
}

impl<O: Other + ?Sized> Other for &mut O {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        (**self).send(message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        (**self).receive_within(span)
    }

    fn lost(&self) -> Option<String> {
        (**self).lost()
    }
}

impl Other for Child {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Child::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Child::receive_within(self, span)
    }
}

impl Other for Session {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Session::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Session::receive_within(self, span)
    }

    fn lost(&self) -> Option<String> {
        self.why_lost().map(|why| why.to_string())
    }
}

impl<R: Read + AsFd + Send, W: Write + Send> Other for Channel<R, W> {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        Channel::send(self, message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        Channel::receive_within(self, span)
    }
}

/// How a job comes to the other side of each of its trials.
pub trait Reach {
    /// Who is reached.
    type Side<'a>: Other
    where
        Self: 'a;

    /// Comes to it, for one trial.
    ///
    /// # Errors
    /// [`PeerError`] when it is not there.
    fn reach(&mut self) -> Result<Self::Side<'_>, PeerError>;

    /// The address that its data sockets listen on.
    fn address(&self) -> IpAddr;

    /// What to call it in an error.
    fn name(&self) -> String;
}

/// The other side as a process of this machine, started for each trial and spoken to over its standard input and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What calls [`crate::serve`].
    pub program: PathBuf,
    /// And is told to by these.
    pub arguments: Vec<String>,
    /// Whether the two speak over `::1` rather than 127.0.0.1.
    pub ipv6: bool,
}

impl Reach for Local {
    type Side<'a> = Child;

    fn reach(&mut self) -> Result<Child, PeerError> {
        Child::start(Command::new(&self.program).args(&self.arguments))
    }

    fn address(&self) -> IpAddr {
        loopback(self.ipv6)
    }

    fn name(&self) -> String {
        self.program.display().to_string()
    }
}

pub(crate) fn loopback(ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    }
}

/// How often each side says that it is there, and after how long a silence it is taken for lost.
const BEAT: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_secs(4);

/// When something was last heard and said in a trial.
pub(crate) struct Pulse {
    heard: Instant,
    said: Instant,
}

impl Pulse {
    pub(crate) fn new() -> Pulse {
        let now = Instant::now();
        Pulse {
            heard: now,
            said: now,
        }
    }

    /// The other side's next message, if one comes within `span`. Says now and then, by `alive`, that we are here.
    ///
    /// # Errors
    /// Why it is lost: it ended, fell silent, or sent what nobody sends.
    pub(crate) fn next<T: DeserializeOwned, A: Serialize>(
        &mut self,
        other: &mut impl Other,
        span: Nanos,
        alive: &A,
    ) -> Result<Option<T>, PeerError> {
        let mut said = Ok(());
        if self.said.elapsed() >= BEAT {
            self.said = Instant::now();
            said = other.send(alive);
        }
        let begun = Instant::now();
        let found = other.receive_within(span);
        if let Some(why) = other.lost() {
            return Err(io::Error::other(why).into());
        }
        match found {
            Ok(message) => {
                self.heard = Instant::now();
                Ok(Some(message))
            }
            // Who has ended may have said all there is to say before: it is heard first.
            Err(PeerError::Silent(_)) if said.is_err() => said.map(|()| None),
            Err(PeerError::Silent(_)) => {
                // Who was stopped itself has not listened: what it slept is no silence of the other side's.
                let slept = begun.elapsed().saturating_sub(span.as_duration() * 2);
                self.heard += slept;
                if self.heard.elapsed() > STALL {
                    return Err(PeerError::Silent(Nanos::from(STALL)));
                }
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}
