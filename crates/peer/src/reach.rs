//! How a job comes to the other side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use crate::{Child, Other, PeerError};

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

    /// The address that it is reached at, by what is measured too.
    fn address(&self) -> IpAddr;

    /// Whether it is on this host, so that both sides may come to share a CPU.
    fn same_host(&self) -> bool {
        self.address().is_loopback()
    }

    /// What to call it in an error.
    fn name(&self) -> String;
}

/// The other side as a process of this machine, started for each trial and spoken to over its standard input and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What greets its [`Parent`](crate::Parent) and does a task.
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

/// This host's loopback address of one of the two kinds.
pub fn loopback(ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    }
}
