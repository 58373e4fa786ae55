//! The client's way to `strata serve`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use serde::{Deserialize, Serialize};
use strata_units::Nanos;

use crate::error::gone;
use crate::handshake::{Asker, GREETING, Refusal, nonce};
use crate::key::Key;
use crate::seal::{Frame, Opener};
use crate::session::Session;
use crate::wait::ready;
use crate::{LARGEST, PROTOCOL, PeerError};

/// How long a connection, and then a whole handshake, may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);

/// What the server says first to a client that holds the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The cores are yours.
    Welcome,
    /// They are somebody else's.
    Taken { by: IpAddr, since_ns: Nanos },
}

impl Verdict {
    /// As the frame that carries it.
    pub(crate) fn frame(&self) -> Result<Frame, PeerError> {
        serde_json::to_vec(self)
            .map(Frame::Message)
            .map_err(|e| PeerError::Garbled(e.to_string()))
    }

    /// What a frame says, when it is a verdict.
    pub(crate) fn of(frame: &Frame) -> Result<Verdict, PeerError> {
        match frame {
            Frame::Message(text) => serde_json::from_slice(text)
                .map_err(|e| PeerError::Garbled(format!("something else than a verdict ({e})"))),
            Frame::End(why) => Err(PeerError::Ended(why.clone())),
            Frame::Alive => Err(PeerError::Garbled("no verdict".to_owned())),
        }
    }
}

/// Refuses an address off this host to those who have no key.
pub(crate) fn may_reach(address: IpAddr, key: Option<&Key>) -> Result<(), PeerError> {
    match key.is_some() || address.to_canonical().is_loopback() {
        true => Ok(()),
        false => Err(PeerError::NoKey(address)),
    }
}

/// The addresses that `HOST`, `HOST:PORT`, `ADDRESS` or `[ADDRESS]:PORT` means, with this port when it names none.
/// `getaddrinfo(3)`
///
/// # Errors
/// [`PeerError::NoAddress`].
pub fn resolve(peer: &str, port: u16) -> Result<Vec<SocketAddr>, PeerError> {
    let fail = |why: String| PeerError::NoAddress {
        name: peer.to_owned(),
        why,
    };
    let bracketed = peer.strip_prefix('[').map(|rest| {
        rest.split_once(']')
            .ok_or_else(|| fail("a bracket stays open".to_owned()))
    });
    let (host, after) = match bracketed.transpose()? {
        Some((host, after)) => (host, after),
        // An IPv6 address has more than one colon, and needs its brackets to carry a port.
        None => match peer.find(':') {
            Some(at) if peer.rfind(':') == Some(at) => peer.split_at(at),
            _ => (peer, ""),
        },
    };
    let port = match after.strip_prefix(':') {
        Some(port) => port
            .parse()
            .map_err(|e| fail(format!("port `{port}`: {e}")))?,
        None if after.is_empty() => port,
        None => return Err(fail(format!("`{after}` follows the address"))),
    };
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|e| fail(e.to_string()))?
        .collect();
    match found.is_empty() {
        true => Err(fail("it has none".to_owned())),
        false => Ok(found),
    }
}

/// Opens a session with the `strata serve` at the first of these addresses that can be connected to, without a key on this
/// host's loopback only. Takes at most five seconds an address to connect, and five for the handshake.
///
/// # Errors
/// [`PeerError::NoKey`], [`PeerError::Unreachable`], [`PeerError::Stranger`], [`PeerError::Version`], [`PeerError::Taken`].
pub fn connect(to: &[SocketAddr], key: Option<&Key>) -> Result<Session, PeerError> {
    speak(to, key, PROTOCOL)
}

fn speak(to: &[SocketAddr], key: Option<&Key>, version: u32) -> Result<Session, PeerError> {
    for address in to {
        may_reach(address.ip(), key)?;
    }
    let mut failed = PeerError::NoAddress {
        name: "the other side".to_owned(),
        why: "none was given".to_owned(),
    };
    for address in to {
        match TcpStream::connect_timeout(address, HANDSHAKE) {
            Ok(stream) => {
                let known = Key::known();
                return greet(stream, *address, key.unwrap_or(&known), version);
            }
            Err(why) => {
                failed = PeerError::Unreachable {
                    to: *address,
                    why: Arc::new(why),
                };
            }
        }
    }
    Err(failed)
}

fn greet(
    mut stream: TcpStream,
    server: SocketAddr,
    key: &Key,
    version: u32,
) -> Result<Session, PeerError> {
    // Whatever a stranger does (closes, says nothing, says something else) means the same to the user.
    let stranger = |e: PeerError| match e {
        PeerError::Gone | PeerError::Silent(_) => PeerError::Stranger(server),
        other => other,
    };
    let until = Instant::now() + HANDSHAKE;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let asker = Asker::new(key, version, &nonce()?);
    // Fits the empty buffer of a new connection.
    stream
        .write_all(asker.hello())
        .map_err(gone)
        .map_err(stranger)?;
    let mut answer = [0; GREETING];
    let mut rest = answer.as_mut_slice();
    while !rest.is_empty() {
        let got = read_some(&mut stream, rest, until).map_err(stranger)?;
        rest = &mut rest[got..];
    }
    let (proof, keys) = asker.prove(&answer).map_err(|refusal| match refusal {
        Refusal::Stranger => PeerError::Stranger(server),
        Refusal::Foreign(theirs) => PeerError::Version {
            ours: version,
            theirs,
        },
    })?;
    stream.write_all(&proof).map_err(gone)?;
    let (sealer, mut opener) = keys.for_client();
    match Verdict::of(&first(&mut stream, &mut opener, until)?)? {
        Verdict::Welcome => {
            opener.allow(LARGEST);
            Session::begin(stream, sealer, opener)
        }
        Verdict::Taken { by, since_ns } => Err(PeerError::Taken {
            by,
            since: since_ns,
        }),
    }
}

/// The first frame after the handshake; what follows it stays in the opener.
fn first(stream: &mut TcpStream, opener: &mut Opener, until: Instant) -> Result<Frame, PeerError> {
    let mut piece = [0; 512];
    loop {
        if let Some(frame) = opener.next().map_err(PeerError::Garbled)? {
            return Ok(frame);
        }
        let got = read_some(stream, &mut piece, until)?;
        opener.push(&piece[..got]);
    }
}

/// Reads at least one byte.
fn read_some(stream: &mut TcpStream, into: &mut [u8], until: Instant) -> Result<usize, PeerError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !ready(stream.as_fd(), PollFlags::POLLIN, left)? {
            return Err(PeerError::Silent(HANDSHAKE.into()));
        }
        match stream.read(into) {
            Ok(0) => return Err(PeerError::Gone),
            Ok(n) => return Ok(n),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(gone(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::{Event, Server};

    #[test]
    fn peers_are_named_in_four_ways() {
        let one = |text: &str| resolve(text, 7).expect(text)[0].to_string();
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:7"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("::1", "[::1]:7"),
            ("[::1]", "[::1]:7"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(one(text), address);
        }
        let names = resolve("localhost:80", 7).expect("every host has this name");
        assert!(
            names.iter().all(|a| a.ip().is_loopback() && a.port() == 80),
            "{names:?}"
        );
        for (text, found) in [
            ("127.0.0.1:80x", "port `80x`"),
            ("127.0.0.1:70000", "port `70000`"),
            ("[::1", "a bracket stays open"),
            ("[::1]80", "`80` follows the address"),
            ("", ""),
        ] {
            let why = resolve(text, 7).expect_err(text).to_string();
            assert!(why.contains(found) && why.contains("--peer"), "{why}");
        }
    }

    #[test]
    fn without_a_key_only_loopback_is_spoken_to() {
        for address in [
            "127.0.0.1:1",
            "127.9.8.7:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert!(may_reach(address.ip(), None).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let address: SocketAddr = address.parse().expect("an address");
            let near: SocketAddr = "127.0.0.1:1".parse().expect("an address");
            let tried = connect(&[near, address], None).err();
            let bound = Server::bind(&[address], None).err();
            for why in [tried, bound] {
                let why = why.expect("refused");
                assert!(matches!(why, PeerError::NoKey(_)), "{why}");
                assert!(why.to_string().contains("--key-file"), "{why}");
            }
            may_reach(address.ip(), Some(&Key::known())).expect("with a key");
        }
    }

    #[test]
    fn nobody_there_is_told() {
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a port");
        let why = connect(&[free], None).err().expect("nobody");
        assert!(
            matches!(why, PeerError::Unreachable { to, .. } if to == free),
            "{why}"
        );
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = taken.local_addr().expect("bound");
        let why = Server::bind(&[at], None).err().expect("taken");
        assert!(
            matches!(why, PeerError::Unbound { at: a, .. } if a == at),
            "{why}"
        );
    }

    #[test]
    fn a_server_that_is_none_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let web = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            stream.write_all(&[b'x'; 200]).expect("sent");
        });
        let why = connect(&[address], None).err().expect("no strata");
        assert!(
            matches!(why, PeerError::Stranger(a) if a == address),
            "{why}"
        );
        web.join().expect("no panic");
    }

    #[test]
    fn another_version_is_told_in_words_on_both_sides() {
        let near: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(&[near], None).expect("bound");
        let address = server.addresses().expect("bound")[0];
        let stop = AtomicBool::new(false);
        let mut events = Vec::new();
        thread::scope(|scope| {
            let serving = scope.spawn(|| server.run(&stop, drop, |event| events.push(event)));
            let why = speak(&[address], None, PROTOCOL + 1)
                .err()
                .expect("no session");
            stop.store(true, Ordering::Relaxed);
            serving.join().expect("no panic").expect("served");
            assert_eq!(
                why.to_string(),
                format!(
                    "the other side speaks version {PROTOCOL} of the protocol, this side {}; both must be one version of strata",
                    PROTOCOL + 1
                )
            );
        });
        let [Event::Version(_, theirs)] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(theirs, PROTOCOL + 1);
        let told = format!("version {theirs} of the protocol, this side {PROTOCOL}");
        assert!(events[0].to_string().contains(&told), "{}", events[0]);
    }
}
