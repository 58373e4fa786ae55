//! The end that has the device.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use strata_units::Nanos;

use crate::device::Device;
use crate::folder::Place;
use crate::link::{Link, any_ready};
use crate::session::{Session, turn_away};
use crate::{Left, ServerError};

/// How long the rest of a message may take, or a reply to be fetched, before the client is given up.
const PATIENCE: Nanos = Nanos(5_000_000_000);

/// How often a server that waits looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// How many that are not served may stand there until they have spoken and been told.
const CROWD: usize = 8;

/// What a turn of a server did.
#[derive(Debug)]
pub enum Polled {
    /// There was nothing to do.
    Idle,
    /// Something was received or sent.
    Busy,
    /// A client has connected.
    Joined,
    /// The client has left; the device was told ([`Device::gone`]).
    Left(Left),
}

struct Client {
    link: Link,
    session: Session,
}

/// Serves a device to one client at a time.
///
/// Only this user and root are listened to (`SO_PEERCRED`, unix(7)). A second client is not left to wait without a word, as
/// SPDK's server does: its first message is answered with `EBUSY`, and a driver can say who is in its way. One that
/// connects while the first one leaves is served.
pub struct Server {
    place: Place,
    client: Option<Client>,
    crowd: Vec<Link>,
    patience: Nanos,
}

impl Server {
    /// Listens at `cntrl` in a folder of this user's with mode 0700, which is made if it is missing. A socket left over by a
    /// server that died is replaced.
    ///
    /// # Errors
    /// [`ServerError`] when others may enter the folder, something else is there, or the system refuses.
    pub fn bind(folder: &Path) -> Result<Server, ServerError> {
        Ok(Server {
            place: Place::take(folder)?,
            client: None,
            crowd: Vec::new(),
            patience: PATIENCE,
        })
    }

    /// With so long for the rest of a message to come, or a reply to be taken; 5 s else.
    pub fn with_patience(self, patience: Nanos) -> Server {
        Server { patience, ..self }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Whether there is a client.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Does what there is to do now, at most one request, without waiting: one system call when there is nothing.
    ///
    /// # Errors
    /// The system does not let it poll or accept; a client cannot cause this.
    pub fn poll<D: Device + ?Sized>(&mut self, device: &mut D) -> Result<Polled, ServerError> {
        let ready = self.ready(Duration::ZERO)? > 0;
        if ready {
            // Its end is seen before the next one is accepted, who then has the device.
            match self.client.as_mut().map(|client| client.turn(device)) {
                None | Some(Ok(false)) => {}
                Some(Ok(true)) => return Ok(Polled::Busy),
                Some(Err(why)) => return Ok(self.leave(device, why)),
            }
            if self.door()? {
                return Ok(Polled::Joined);
            }
        }
        // After what has come was taken, so that nobody is given up for our own delay.
        self.crowd.retain(|link| !link.stuck(self.patience));
        Ok(match &self.client {
            Some(client) if client.link.stuck(self.patience) => {
                self.leave(device, Left::Stuck(self.patience))
            }
            _ if ready => Polled::Busy,
            _ => Polled::Idle,
        })
    }

    /// Lets in who knocks, if the device is free, and tells the others; whether there is a client now who was none before.
    fn door(&mut self) -> Result<bool, ServerError> {
        if let Some(stream) = self.accept()? {
            let link = Link::new(stream).map_err(|why| self.system("speak at", why))?;
            if self.crowd.len() >= CROWD {
                self.crowd.remove(0);
            }
            self.crowd.push(link);
        }
        if self.client.is_none() && !self.crowd.is_empty() {
            self.client = Some(Client {
                link: self.crowd.remove(0),
                session: Session::default(),
            });
            return Ok(true);
        }
        self.crowd.retain_mut(|link| match link.receive() {
            Ok(None) => true,
            Ok(Some(message)) => {
                // It is told if it still listens.
                let _ = turn_away(&message.header).map(|frame| link.send(frame));
                false
            }
            Err(_) => false,
        });
        Ok(false)
    }

    /// Waits at most so long until there is something to do; whether there is.
    ///
    /// # Errors
    /// The system does not let it poll.
    pub fn wait(&self, span: Nanos) -> Result<bool, ServerError> {
        Ok(self.ready(span.as_duration())? > 0)
    }

    /// Serves one client until it leaves, or until `stop` is set, which is seen within 50 ms.
    ///
    /// # Errors
    /// As [`Server::poll`].
    pub fn serve<D: Device + ?Sized>(
        &mut self,
        device: &mut D,
        stop: &AtomicBool,
    ) -> Result<Left, ServerError> {
        while !stop.load(Ordering::Relaxed) {
            match self.poll(device)? {
                Polled::Left(why) => return Ok(why),
                Polled::Busy | Polled::Joined => {}
                Polled::Idle => {
                    self.ready(LOOK)?;
                }
            }
        }
        self.dismiss(device);
        Ok(Left::Dismissed)
    }

    /// Sends the client away, if there is one: its memory and interrupts are taken from the device.
    pub fn dismiss<D: Device + ?Sized>(&mut self, device: &mut D) {
        if self.client.is_some() {
            self.leave(device, Left::Dismissed);
        }
    }

    fn leave<D: Device + ?Sized>(&mut self, device: &mut D, why: Left) -> Polled {
        if let Some(mut client) = self.client.take() {
            client.session.end(device);
        }
        Polled::Left(why)
    }

    fn ready(&self, span: Duration) -> Result<usize, ServerError> {
        let listener = self.place.listener.as_fd();
        let listener = || PollFd::from_borrowed_fd(listener, PollFlags::IN);
        let client = self.client.as_ref().map(|client| client.link.waits());
        // What an emulator does between its polling allocates nothing.
        let mut two = [listener(), client.clone().unwrap_or_else(listener)];
        let mut all: Vec<PollFd<'_>>;
        let fds = match &self.crowd[..] {
            [] => &mut two[..],
            crowd => {
                all = two
                    .into_iter()
                    .chain(crowd.iter().map(Link::waits))
                    .collect();
                &mut all[..]
            }
        };
        any_ready(fds, span).map_err(|why| self.system("wait at", why))
    }

    /// The next that may be listened to, if somebody knocks.
    fn accept(&self) -> Result<Option<UnixStream>, ServerError> {
        match self.place.listener.accept() {
            Ok((stream, _)) => {
                let peer = socket_peercred(&stream)
                    .map_err(|why| self.system("look who is at", why.into()))?;
                Ok(trusted(peer.uid.as_raw(), geteuid().as_raw()).then_some(stream))
            }
            Err(why) => match why.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(self.system("accept at", why)),
            },
        }
    }

    fn system(&self, what: &'static str, why: io::Error) -> ServerError {
        ServerError::System {
            what,
            path: self.place.path.clone(),
            why,
        }
    }
}

/// Whether one of this user may be listened to.
fn trusted(user: u32, own: u32) -> bool {
    user == own || user == 0
}

impl Client {
    /// At most one request; whether anything was done.
    fn turn<D: Device + ?Sized>(&mut self, device: &mut D) -> Result<bool, Left> {
        // The reply before: who does not take it is not asked for more.
        if self.link.sends() {
            self.link.flush()?;
            return Ok(!self.link.sends());
        }
        let Some(message) = self.link.receive()? else {
            return Ok(false);
        };
        if let Some(reply) = self.session.answer(device, message) {
            self.link.send(reply)?;
        }
        match self.session.foreign {
            true => Err(Left::Foreign),
            false => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::trusted;

    #[test]
    fn only_this_user_and_root_are_listened_to() {
        assert!(trusted(1000, 1000) && trusted(0, 1000) && trusted(0, 0));
        assert!(!trusted(1001, 1000) && !trusted(1000, 0));
    }
}
