//! The other side on another machine (or on this one, as `strata serve`): one session for the whole run, lent to one trial
//! after the other.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strata_peer::{Key, Other, PeerError, Reach, Session, connect, resolve};
use strata_record::{Environment, Reality};
use strata_units::{CpuList, Nanos};

use crate::Usage;
use crate::rdma::rails::PortOffer;

/// The port of `strata serve`.
pub(crate) const PORT: u16 = 7471;

/// How long a server may take to say who it is: it reads its machine's topology first.
const WELCOME: Nanos = Nanos(10_000_000_000);

/// What a server says first to each client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Its machine.
    pub(crate) environment: Environment,
    /// The interface that the client has come in by.
    pub(crate) interface: Option<String>,
    /// What stands behind that.
    pub(crate) reality: Reality,
    /// The CPUs that the client may have.
    pub(crate) cpus: CpuList,
    /// The RDMA ports that it may have.
    pub(crate) rdma: Vec<PortOffer>,
}

impl Welcome {
    /// Whether who answers after a loss is who answered before: a run's figures are of one machine.
    fn same(&self, now: &Welcome) -> Result<(), String> {
        let of = |w: &Welcome| {
            format!(
                "{} of {}, CPUs {}",
                w.interface.as_deref().unwrap_or("an interface"),
                w.environment.hostname.as_deref().unwrap_or("unnamed"),
                w.cpus
            )
        };
        let (before, now) = (of(self), of(now));
        if before == now {
            Ok(())
        } else {
            Err(format!(
                "another one answers in its place: {now}, and the run was begun with {before}; start `strata serve` there as it was"
            ))
        }
    }
}

/// A peer that was reached.
pub(crate) struct Peer {
    /// As the user names it.
    pub(crate) name: String,
    /// What it said of itself.
    pub(crate) welcome: Welcome,
    /// This side's and its address.
    pub(crate) here: IpAddr,
    there: IpAddr,
    /// Whether it is this machine, perhaps by another network namespace.
    pub(crate) same_host: bool,
    key: Option<Key>,
    key_file: Option<PathBuf>,
    /// The session, when no trial has it.
    home: Mutex<Option<Session>>,
}

impl Peer {
    /// Comes to `strata serve` at `name`.
    pub(crate) fn reach(name: &str, key_file: Option<&Path>) -> Result<Arc<Peer>> {
        let key = key_file.map(Key::read).transpose().map_err(Usage::error)?;
        let (session, welcome) = begin(name, key.as_ref()).map_err(|e| match e {
            // What the user can mend by typing something else.
            e @ PeerError::NoKey(_) => Usage::error(format!("--peer {name}: {e}")),
            e => anyhow::Error::new(e).context(format!("--peer {name}")),
        })?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let same_host = session.there().ip().to_canonical().is_loopback()
            || boot_id.is_some_and(|id| Some(id.trim()) == welcome.environment.boot_id.as_deref());
        Ok(Arc::new(Peer {
            name: name.to_owned(),
            welcome,
            here: session.here().ip().to_canonical(),
            there: session.there().ip().to_canonical(),
            same_host,
            key,
            key_file: key_file.map(Path::to_owned),
            home: Mutex::new(Some(session)),
        }))
    }

    fn lend(&self) -> Result<Session, PeerError> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        match home.take() {
            Some(session) if session.why_lost().is_none() => Ok(session),
            // The last trial lost it; the server may be there again.
            _ => {
                let (session, welcome) = begin(&self.name, self.key.as_ref())?;
                self.welcome.same(&welcome).map_err(PeerError::Ended)?;
                Ok(session)
            }
        }
    }
}

fn begin(name: &str, key: Option<&Key>) -> Result<(Session, Welcome), PeerError> {
    let addresses = resolve(name, PORT)?;
    let mut session = connect(&addresses, key)?;
    let welcome = session.receive_within(WELCOME)?;
    Ok((session, welcome))
}

/// The way of one job to its peer.
pub(crate) struct Remote(pub(crate) Arc<Peer>);

impl Reach for Remote {
    type Side<'a> = Lent;

    fn reach(&mut self) -> Result<Lent, PeerError> {
        Ok(Lent {
            session: Some(self.0.lend()?),
            peer: Arc::clone(&self.0),
        })
    }

    fn address(&self) -> IpAddr {
        self.0.there
    }

    fn same_host(&self) -> bool {
        self.0.same_host
    }

    fn name(&self) -> String {
        self.0.name.clone()
    }
}

/// The session while a trial has it; it goes home after that.
pub(crate) struct Lent {
    session: Option<Session>,
    peer: Arc<Peer>,
}

impl Lent {
    fn session(&mut self) -> Result<&mut Session, PeerError> {
        self.session.as_mut().ok_or(PeerError::Gone)
    }
}

impl Other for Lent {
    fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        self.session()?.send(message)
    }

    fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        self.session()?.receive_within(span)
    }

    fn lost(&self) -> Option<PeerError> {
        self.session.as_ref().and_then(Other::lost)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(session) = self.session.take().filter(|s| s.why_lost().is_none()) {
            let mut home = self
                .peer
                .home
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *home = Some(session);
        }
    }
}

/// The peers of a run, each reached once.
#[derive(Default)]
pub(crate) struct Peers(Vec<Arc<Peer>>);

impl Peers {
    /// The key of the peers, which whoever goes on with the run must give again.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        self.0.iter().find_map(|p| p.key_file.as_deref())
    }

    /// The peer of that name.
    pub(crate) fn reach(&mut self, name: &str, key_file: Option<&Path>) -> Result<Arc<Peer>> {
        if let Some(known) = self.0.iter().find(|p| p.name == name) {
            return Ok(Arc::clone(known));
        }
        let peer = Peer::reach(name, key_file).context("cannot reach the other side")?;
        self.0.push(Arc::clone(&peer));
        Ok(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_topology::{Root, read_environment};

    #[test]
    fn another_one_that_answers_after_a_loss_is_not_taken_for_the_first() {
        let before = Welcome {
            environment: read_environment(&Root::live()).expect("this machine"),
            interface: Some("eth0".to_owned()),
            reality: Reality::Software,
            cpus: "0-3".parse().expect("a list"),
            rdma: Vec::new(),
        };
        assert_eq!(before.same(&before.clone()), Ok(()));
        let mut others = [before.clone(), before.clone(), before.clone()];
        others[0].environment.hostname = Some("another".to_owned());
        others[1].interface = Some("eth1".to_owned());
        others[2].cpus = "0-2".parse().expect("a list");
        for (other, word) in others.iter().zip(["another", "eth1", "CPUs 0-2"]) {
            let why = before.same(other).expect_err("another");
            assert!(why.contains(word), "{why}");
        }
    }
}
