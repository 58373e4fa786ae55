//! What `strata serve` stands on: one client at a time has the cores, and nothing that a client or a stranger does ends it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use strata_units::Nanos;

use crate::connect::{Verdict, may_reach};
use crate::door::{Door, Fate, Trusted};
use crate::key::Key;
use crate::session::{Ender, Session};
use crate::wait::any_ready;
use crate::{PROTOCOL, PeerError};

/// How often the server looks whether it shall stop; rarely, since the host is measured meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// How often it looks while a client waits for the cores.
const LOOK_SOON: Duration = Duration::from_millis(10);

/// How long a client waits for cores that may just be coming free: a client that opens one session after another shall not be
/// told of its own last one.
const COMING_FREE: Duration = Duration::from_millis(500);

/// How long it waits when the last session is over and its handler not yet done; below what the client waits.
const CLEARING: Duration = Duration::from_secs(3);

/// How many clients may wait so.
const QUEUE: usize = 8;

/// How often strangers are told of: a crowd of them shall not fill a log.
const STRANGERS: Duration = Duration::from_secs(1);

/// Something that the server's user may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client has the cores.
    Began(SocketAddr),
    /// Its session is over and the cores are free.
    Ended(SocketAddr),
    /// The handler panicked over its session.
    Panicked(SocketAddr),
    /// The cores were a client's, but no session came of it.
    Missed(SocketAddr, String),
    /// A client was told that the cores are taken.
    Taken(SocketAddr),
    /// A client speaks this version of the protocol.
    Version(SocketAddr, u32),
    /// So many connections did not prove that they hold the key; the last came from there.
    Strangers(usize, SocketAddr),
    /// Connections cannot be taken for now.
    Hindered(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Began(from) => write!(f, "{from} has the cores"),
            Event::Ended(from) => write!(f, "{from} is done"),
            Event::Panicked(from) => {
                write!(f, "serving {from} panicked; this is a bug of strata")
            }
            Event::Missed(from, why) => write!(f, "{from} got no session: {why}"),
            Event::Taken(from) => write!(f, "{from} was told that the cores are taken"),
            Event::Version(from, theirs) => write!(
                f,
                "{from} speaks version {theirs} of the protocol, this side {PROTOCOL}; both must be one version of strata"
            ),
            Event::Strangers(1, from) => {
                write!(
                    f,
                    "{from} was turned away: it did not prove that it holds the key"
                )
            }
            Event::Strangers(count, from) => write!(
                f,
                "{count} connections, the last from {from}, were turned away: they did not prove that they hold the key"
            ),
            Event::Hindered(why) => write!(f, "cannot take connections for now: {why}"),
        }
    }
}

/// Listens for clients.
pub struct Server {
    listeners: Vec<TcpListener>,
    key: Key,
}

/// The client that has the cores.
struct Owner {
    from: SocketAddr,
    since: Instant,
    ender: Ender,
}

impl Server {
    /// Listens on these addresses, without a key on this host's loopback only. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`PeerError::NoKey`], [`PeerError::Unbound`].
    pub fn bind(addresses: &[SocketAddr], key: Option<Key>) -> Result<Server, PeerError> {
        for address in addresses {
            may_reach(address.ip(), key.as_ref())?;
        }
        let listeners = addresses
            .iter()
            .map(|at| {
                TcpListener::bind(at)
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                    .map_err(|why| PeerError::Unbound {
                        at: *at,
                        why: Arc::new(why),
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Server {
            listeners,
            key: key.unwrap_or_else(Key::known),
        })
    }

    /// Where it listens, in the order of what was bound.
    ///
    /// # Errors
    /// [`PeerError::System`], see `getsockname(2)`.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, PeerError> {
        let all = self.listeners.iter().map(TcpListener::local_addr);
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// Gives one client after another to `handler`, on a thread of its own, until `stop`; tells what happens by `tell`. A
    /// handler has the cores until it returns, and must do so soon after [`Session::lost`]; then the next client has them.
    /// `stop` ends a session that runs, and this call with it.
    ///
    /// # Errors
    /// [`PeerError::System`] when the system does not let it listen any more.
    pub fn run(
        &self,
        stop: &AtomicBool,
        mut handler: impl FnMut(Session) + Send,
        mut tell: impl FnMut(Event),
    ) -> Result<(), PeerError> {
        thread::scope(|scope| {
            let (give, sessions) = mpsc::channel::<Session>();
            let (freed, free) = mpsc::channel();
            scope.spawn(move || {
                for session in sessions {
                    // Its state is the next session's too: a handler keeps none that a panic can leave half done.
                    let whole = catch_unwind(AssertUnwindSafe(|| handler(session))).is_ok();
                    if freed.send(whole).is_err() {
                        break;
                    }
                }
            });
            let mut hall = Hall {
                give,
                free,
                owner: None,
                queue: VecDeque::new(),
            };
            let served = self.serve(stop, &mut hall, &mut tell);
            if let Some(owner) = &hall.owner {
                owner.ender.end("`strata serve` was told to stop");
            }
            served
        })
    }

    fn serve(
        &self,
        stop: &AtomicBool,
        hall: &mut Hall,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), PeerError> {
        let mut door = Door::default();
        let mut crowd = Crowd::default();
        while !stop.load(Ordering::Relaxed) {
            let (knocks, speaks) = self.wait(&door, hall.patience())?;
            for fate in door.hear(&self.key, &speaks) {
                match fate {
                    Fate::In(trusted) => hall.enter(trusted, tell),
                    Fate::Stranger(from) => crowd.add(from),
                    Fate::Foreign(from, theirs) => tell(Event::Version(from, theirs)),
                }
            }
            for listener in self
                .listeners
                .iter()
                .zip(knocks)
                .filter(|(_, k)| *k)
                .map(|(l, _)| l)
            {
                match listener
                    .accept()
                    .and_then(|(stream, from)| door.knock(stream, from))
                {
                    Ok(Some(Fate::Stranger(from))) => crowd.add(from),
                    Ok(_) => {}
                    Err(e) if passes(&e) => {}
                    Err(e) => {
                        // No descriptors or no memory: asking at once again would only burn the cores.
                        tell(Event::Hindered(e.to_string()));
                        thread::sleep(LOOK);
                    }
                }
            }
            hall.move_up(tell)?;
            crowd.tell(tell);
        }
        Ok(())
    }

    /// Waits until somebody knocks or speaks: which listeners, and which of those at the door.
    fn wait(&self, door: &Door, span: Duration) -> io::Result<(Vec<bool>, Vec<bool>)> {
        let listeners = self.listeners.iter().map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> = listeners
            .chain(door.waiting())
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        any_ready(&mut fds, span)?;
        // An error or an end is ready too: reading tells it.
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let knocks = ready.by_ref().take(self.listeners.len()).collect();
        Ok((knocks, ready.collect()))
    }
}

/// Whether a connection was only gone before it was taken (`accept(2)` lists these as such), or somebody else's.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        WouldBlock
            | Interrupted
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | NetworkDown
            | NotConnected
            | InvalidInput
    )
}

/// Strangers since they were last told of.
#[derive(Default)]
struct Crowd {
    count: usize,
    last: Option<SocketAddr>,
    told: Option<Instant>,
}

impl Crowd {
    fn add(&mut self, from: SocketAddr) {
        self.count += 1;
        self.last = Some(from);
    }

    fn tell(&mut self, tell: &mut impl FnMut(Event)) {
        let due = self.told.is_none_or(|told| told.elapsed() >= STRANGERS);
        if due && let Some(last) = self.last.take() {
            tell(Event::Strangers(self.count, last));
            self.count = 0;
            self.told = Some(Instant::now());
        }
    }
}

/// Where those who hold the key get the cores, or wait for them.
struct Hall {
    give: mpsc::Sender<Session>,
    free: mpsc::Receiver<bool>,
    owner: Option<Owner>,
    queue: VecDeque<(Trusted, Instant)>,
}

impl Hall {
    fn patience(&self) -> Duration {
        match self.queue.is_empty() {
            true => LOOK,
            false => LOOK_SOON,
        }
    }

    fn enter(&mut self, client: Trusted, tell: &mut impl FnMut(Event)) {
        match self.queue.len() < QUEUE {
            true => self.queue.push_back((client, Instant::now())),
            false => self.turn_away(client, tell),
        }
    }

    /// Lets the next one in when the cores are free, and turns away who has waited long enough.
    fn move_up(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), PeerError> {
        if let Ok(whole) = self.free.try_recv()
            && let Some(owner) = self.owner.take()
        {
            tell(match whole {
                true => Event::Ended(owner.from),
                false => Event::Panicked(owner.from),
            });
        }
        while self.owner.is_none() {
            let Some((client, _)) = self.queue.pop_front() else {
                return Ok(());
            };
            self.let_in(client, tell)?;
        }
        let clearing = self
            .owner
            .as_ref()
            .is_some_and(|owner| owner.ender.is_over());
        let patience = if clearing { CLEARING } else { COMING_FREE };
        while self
            .queue
            .front()
            .is_some_and(|(_, since)| since.elapsed() >= patience)
        {
            if let Some((client, _)) = self.queue.pop_front() {
                self.turn_away(client, tell);
            }
        }
        Ok(())
    }

    fn let_in(&mut self, client: Trusted, tell: &mut impl FnMut(Event)) -> Result<(), PeerError> {
        let (sealer, opener) = client.keys.for_server();
        let begun = Session::begin(client.stream, sealer, opener).and_then(|mut session| {
            session.send(&Verdict::Welcome)?;
            Ok(session)
        });
        let session = match begun {
            Ok(session) => session,
            // Who is gone by now is no owner; and this host may have no room for a thread.
            Err(why) => {
                tell(Event::Missed(client.from, why.to_string()));
                return Ok(());
            }
        };
        self.owner = Some(Owner {
            from: client.from,
            since: Instant::now(),
            ender: session.ender(),
        });
        tell(Event::Began(client.from));
        self.give.send(session).map_err(|_| {
            io::Error::other("the handler's thread has ended; this is a bug of strata").into()
        })
    }

    fn turn_away(&self, mut client: Trusted, tell: &mut impl FnMut(Event)) {
        let (mut sealer, _) = client.keys.for_server();
        let said = self.owner.as_ref().and_then(|owner| {
            let verdict = Verdict::Taken {
                by: owner.from.ip().to_canonical(),
                since_ns: Nanos::SECOND * owner.since.elapsed().as_secs(),
            };
            sealer.seal(&verdict.frame().ok()?).ok()
        });
        if let Some(said) = said {
            // Fits the empty buffer; who has gone need not hear it.
            let _ = client.stream.write_all(&said);
            let _ = client.stream.shutdown(Shutdown::Write);
        }
        tell(Event::Taken(client.from));
    }
}
