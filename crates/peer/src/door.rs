//! Where connections wait until they have proved that they hold the key.
//!
//! All are served by one thread that never waits for any of them. There is room for few, and when it is full the one that has
//! stood there longest goes: a crowd of strangers that say nothing cannot keep out a client, who is in within a moment.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::PROTOCOL;
use crate::connect::HANDSHAKE;
use crate::handshake::{Answerer, Refusal, SessionKeys, Step, nonce};
use crate::key::Key;

/// How many may stand at the door, and of these from one address.
const ROOM: usize = 32;
const ROOM_OF_ONE: usize = 8;

/// What became of somebody at the door.
pub(crate) enum Fate {
    /// Holds the key.
    In(Trusted),
    /// Does not, said nothing in time, or had to make room.
    Stranger(SocketAddr),
    /// Holds the key and speaks this version.
    Foreign(SocketAddr, u32),
}

/// A client that has proved itself.
pub(crate) struct Trusted {
    pub(crate) stream: TcpStream,
    pub(crate) from: SocketAddr,
    pub(crate) keys: SessionKeys,
}

struct Caller {
    stream: TcpStream,
    from: SocketAddr,
    since: Instant,
    answerer: Answerer,
}

/// The door of a server.
#[derive(Default)]
pub(crate) struct Door {
    /// The longest-standing first.
    callers: Vec<Caller>,
}

impl Door {
    /// What to wait for, in order; see [`Door::hear`].
    pub(crate) fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.callers.iter().map(|caller| caller.stream.as_fd())
    }

    /// Somebody knocks. Who had to go for it is told.
    pub(crate) fn knock(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> io::Result<Option<Fate>> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let answerer = Answerer::new(PROTOCOL, nonce()?);
        let of_one = |one: IpAddr| {
            self.callers
                .iter()
                .filter(|caller| origin(caller.from.ip()) == one)
                .count()
        };
        let one = origin(from.ip());
        let goes = if of_one(one) >= ROOM_OF_ONE {
            self.callers
                .iter()
                .position(|caller| origin(caller.from.ip()) == one)
        } else if self.callers.len() >= ROOM {
            // The longest-standing of those who come from where most come from.
            let most = self
                .callers
                .iter()
                .map(|caller| of_one(origin(caller.from.ip())))
                .max();
            self.callers
                .iter()
                .position(|caller| Some(of_one(origin(caller.from.ip()))) == most)
        } else {
            None
        };
        let gone = goes.map(|at| Fate::Stranger(self.callers.remove(at).from));
        self.callers.push(Caller {
            stream,
            from,
            since: Instant::now(),
            answerer,
        });
        Ok(gone)
    }

    /// Hears those who have something to say (by their place in [`Door::waiting`]), and closes the door to those who have
    /// stood there too long.
    pub(crate) fn hear(&mut self, key: &Key, speaks: &[bool]) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut staying = Vec::new();
        for (n, mut caller) in std::mem::take(&mut self.callers).into_iter().enumerate() {
            let said = match speaks.get(n) {
                Some(true) => caller.hear(key),
                _ => Said::Nothing,
            };
            match said {
                Said::Nothing if caller.since.elapsed() < HANDSHAKE => staying.push(caller),
                Said::Nothing | Said::Wrong => fates.push(Fate::Stranger(caller.from)),
                Said::Foreign(theirs) => fates.push(Fate::Foreign(caller.from, theirs)),
                Said::Right(keys) => fates.push(Fate::In(Trusted {
                    stream: caller.stream,
                    from: caller.from,
                    keys,
                })),
            }
        }
        self.callers = staying;
        fates
    }
}

enum Said {
    /// Not all yet.
    Nothing,
    Wrong,
    Foreign(u32),
    Right(SessionKeys),
}

impl Caller {
    /// Reads as much as the handshake wants, and no byte of what follows it.
    fn hear(&mut self, key: &Key) -> Said {
        let mut bytes = vec![0; self.answerer.wanted()];
        let got = match self.stream.read(&mut bytes) {
            Ok(0) => return Said::Wrong,
            Ok(n) => n,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Said::Nothing;
            }
            Err(_) => return Said::Wrong,
        };
        match self.answerer.take(key, &bytes[..got]) {
            Step::Read => Said::Nothing,
            // Fits the empty buffer of a new connection, or its other end is gone.
            Step::Say(answer) => match self.stream.write_all(&answer) {
                Ok(()) => Said::Nothing,
                Err(_) => Said::Wrong,
            },
            Step::Trust(keys) => Said::Right(keys),
            Step::Close(answer, refusal) => {
                if let Some(answer) = answer {
                    // It is told if it still listens.
                    let _ = self.stream.write_all(&answer);
                }
                match refusal {
                    Refusal::Stranger => Said::Wrong,
                    Refusal::Foreign(theirs) => Said::Foreign(theirs),
                }
            }
        }
    }
}

/// What counts as one address: an IPv6 host has a whole /64 to call from (RFC 4291 §2.5.4).
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        (listener.accept().expect("accepted").0, far)
    }

    #[test]
    fn a_crowd_makes_room_and_the_longest_standing_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut door = Door::default();
        let mut far = Vec::new();
        let mut knock = |door: &mut Door, from: &str| {
            let (near, other) = pair(&listener);
            far.push(other);
            match door
                .knock(near, from.parse().expect("an address"))
                .expect("a place")
            {
                Some(Fate::Stranger(gone)) => Some(gone.to_string()),
                None => None,
                Some(_) => panic!("nobody said anything"),
            }
        };
        assert_eq!(knock(&mut door, "10.0.0.9:1"), None);
        for n in 1..=8 {
            assert_eq!(knock(&mut door, &format!("[2001:db8::{n}]:1")), None);
        }
        // A ninth of one network pushes out its own first, not the one who was there before.
        assert_eq!(
            knock(&mut door, "[2001:db8::9]:1").as_deref(),
            Some("[2001:db8::1]:1")
        );
        for n in 0..ROOM - 9 {
            assert_eq!(knock(&mut door, &format!("10.0.1.{n}:1")), None);
        }
        assert_eq!(
            knock(&mut door, "10.0.0.8:1").as_deref(),
            Some("[2001:db8::2]:1")
        );
        assert_eq!(door.waiting().count(), ROOM);
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        let of = |text: &str| origin(text.parse().expect("an address"));
        assert_eq!(of("::ffff:10.1.2.3"), of("10.1.2.3"));
        assert_ne!(of("10.1.2.3"), of("10.1.2.4"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
