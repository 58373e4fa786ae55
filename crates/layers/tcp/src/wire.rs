//! Making the connections of a trial: each begins with the trial's token and its own number, which are said back.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect as connect_to,
    listen as listen_on, setsockopt, socket as new_socket, sockopt,
};
use strata_measure::Fatal;
use strata_record::Sockets;
use strata_units::Nanos;

use crate::options::{Side, after, before, timeout, without_copy};

/// How long connections are awaited.
pub(crate) const ACCEPT: Duration = Duration::from_secs(10);

/// How long a connection may take until it is said back.
const CONNECT: Nanos = Nanos(4_000_000_000);

/// How long one that has been accepted may take to say what it is, and how many may be at it at once: beyond, the oldest
/// is sent away.
const STRANGER: Duration = Duration::from_secs(1);
const STRANGERS: usize = 64;

/// Descriptors that a side has beside its connections: strangers, watchers, its control channel and its files.
const BESIDE: u64 = STRANGERS as u64 + 192;

/// Raises this process's limit of descriptors to the most that it may have, where so many connections would not fit: shells
/// give 1024 (getrlimit(2)). What does not fit then either fails where it is made.
pub(crate) fn make_room(connections: usize) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < hard && soft < connections as u64 + BESIDE {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// What a connection begins with: the token, its number, little-endian, and zeros up to a cache line.
///
/// What a thread sends is copied to where its last bytes ended in a page of the kernel's (`sk_page_frag`), so that a greeting
/// of 12 bytes put every block of a stream 12 bytes behind its own place in its page: `rep movsb`, by which the kernel copies,
/// takes fifteen times as long on a Zen 3 where the destination lies 1 to 15 bytes behind the source modulo 4096, and streams
/// had a third of their rate.
const GREETING: usize = 64;
const TOKEN: usize = size_of::<u64>();
const NUMBER: usize = size_of::<u32>();

fn greeting(token: u64, number: u32) -> [u8; GREETING] {
    let mut said = [0; GREETING];
    said[..TOKEN].copy_from_slice(&token.to_le_bytes());
    said[TOKEN..TOKEN + NUMBER].copy_from_slice(&number.to_le_bytes());
    said
}

fn socket_for(ip: IpAddr) -> Result<OwnedFd, Errno> {
    let family = if ip.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    new_socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// Whether this machine's sockets can be set so, and send without a copy; an interface and a congestion control must be
/// there.
///
/// # Errors
/// In words, with the option that cannot be met and the next step.
pub fn settable(options: &Sockets, zerocopy: bool) -> Result<(), String> {
    match lacking(options, zerocopy) {
        Ok(None) => Ok(()),
        Ok(Some(why)) | Err(Fatal(why)) => Err(why),
    }
}

/// What of these settings this machine's sockets cannot have, if anything.
pub(crate) fn lacking(options: &Sockets, zerocopy: bool) -> Result<Option<String>, Fatal> {
    let fd = socket_for(IpAddr::from([0, 0, 0, 0])).map_err(|e| {
        Fatal(format!(
            "cannot make a socket: {e}; {}",
            next(e, "see dmesg")
        ))
    })?;
    let set = before(&fd, options, Side::Measuring)
        .and_then(|()| if zerocopy { without_copy(&fd) } else { Ok(()) });
    Ok(set.err().map(|why| why.0))
}

/// What to do about a system call's error: where descriptors have run out nothing else helps.
fn next(error: Errno, otherwise: &'static str) -> &'static str {
    match error {
        Errno::EMFILE => {
            "this process has no descriptors left: raise their number (ulimit -n), or lower --streams or --threads"
        }
        Errno::ENFILE => {
            "this machine has no descriptors left: raise fs.file-max (sysctl; `ulimit -n` is of a process), or lower --streams or --threads"
        }
        _ => otherwise,
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Connects to the other side and waits until the greeting is said back: what is sent before the other side has taken the
/// connection (it may be busy with a stranger's) would stand in the first latency.
pub(crate) fn connect(
    to: SocketAddr,
    token: u64,
    number: u32,
    options: &Sockets,
    zerocopy: bool,
) -> Result<TcpStream, Fatal> {
    let fatal = |e: io::Error| {
        Fatal(format!(
            "cannot connect to the other side on {to}: {e}; {}",
            next(errno(&e), "a firewall must let its data port through")
        ))
    };
    let fd = socket_for(to.ip()).map_err(|e| fatal(e.into()))?;
    before(&fd, options, Side::Measuring)?;
    timeout(&fd, CONNECT).map_err(|e| fatal(e.into()))?;
    connect_to(fd.as_raw_fd(), &SockaddrStorage::from(to)).map_err(|e| match e {
        Errno::EINPROGRESS => fatal(io::ErrorKind::TimedOut.into()),
        other => fatal(other.into()),
    })?;
    let mut socket = TcpStream::from(fd);
    let said = greeting(token, number);
    let mut heard = [0; GREETING];
    socket.write_all(&said).map_err(fatal)?;
    socket.read_exact(&mut heard).map_err(fatal)?;
    if said != heard {
        return Err(fatal(io::Error::other("something else answers there")));
    }
    after(&socket, options, zerocopy)?;
    Ok(socket)
}

/// Listens on the first free port of the range; 0 is any.
pub(crate) fn listen(
    ip: IpAddr,
    ports: &RangeInclusive<u16>,
    options: &Sockets,
) -> Result<(TcpListener, SocketAddr), Fatal> {
    let mut last = Errno::EADDRINUSE;
    for port in ports.clone() {
        let fatal = |e: Errno| {
            Fatal(format!(
                "cannot listen on {ip}: {e}; {}",
                next(e, "it must be an address of this machine")
            ))
        };
        let fd = socket_for(ip).map_err(fatal)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(fatal)?;
        // What is accepted inherits it.
        before(&fd, options, Side::Other)?;
        let address = SocketAddr::new(ip, port);
        match bind(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Err(e @ (Errno::EADDRINUSE | Errno::EACCES)) => last = e,
            Err(e) => return Err(fatal(e)),
            Ok(()) => {
                listen_on(&fd, Backlog::MAXCONN).map_err(fatal)?;
                let listener = TcpListener::from(fd);
                let bound = listener
                    .local_addr()
                    .map_err(|e| Fatal(format!("cannot listen on {ip}: {e}; see dmesg")))?;
                return Ok((listener, bound));
            }
        }
    }
    Err(Fatal(format!(
        "cannot listen on {ip}, ports {} to {}: {last}; free one of them or give others",
        ports.start(),
        ports.end()
    )))
}

/// A connection that has not said all of its greeting yet.
struct Stranger {
    socket: TcpStream,
    since: Instant,
    said: [u8; GREETING],
    len: usize,
}

/// What a stranger turned out to be.
enum Found {
    Ours(u32),
    Waiting,
    Nobody,
}

impl Stranger {
    fn look(&mut self, token: u64) -> Found {
        match self.socket.read(&mut self.said[self.len..]) {
            Ok(0) => return Found::Nobody,
            Ok(n) => self.len += n,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => return Found::Nobody,
        }
        if self.len < GREETING {
            return Found::Waiting;
        }
        let mut number = [0; NUMBER];
        number.copy_from_slice(&self.said[TOKEN..TOKEN + NUMBER]);
        let number = u32::from_le_bytes(number);
        if self.said == greeting(token, number) {
            Found::Ours(number)
        } else {
            Found::Nobody
        }
    }
}

/// Takes as many connections as are awaited, in the order of their numbers. One that does not begin with the token is none
/// of ours, and is closed without a word; none of them is waited for alone.
pub(crate) fn accept(
    listener: &TcpListener,
    token: u64,
    wanted: usize,
    within: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<TcpStream>, Fatal> {
    const LOOK: Duration = Duration::from_millis(50);
    let fatal = |e: io::Error| {
        Fatal(format!(
            "cannot accept a connection: {e}; {}",
            next(errno(&e), "see dmesg")
        ))
    };
    listener.set_nonblocking(true).map_err(fatal)?;
    let begun = Instant::now();
    let mut taken: Vec<Option<TcpStream>> = (0..wanted).map(|_| None).collect();
    let mut missing = wanted;
    let mut refused: Option<io::Error> = None;
    let mut strangers: Vec<Stranger> = Vec::new();
    while missing > 0 {
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let came = wanted - missing;
            return Err(Fatal(match refused {
                None => format!(
                    "{came} of {wanted} connections came within {within:?}; a firewall must let the data port through"
                ),
                Some(e) => format!(
                    "{came} of {wanted} connections could be taken within {within:?}, the last error was: {e}; {}",
                    next(errno(&e), "look for the other side's last words")
                ),
            }));
        }
        if stopped() {
            return Err(Fatal("stopped before its connections came".to_owned()));
        }
        let mut waiting: Vec<PollFd<'_>> = strangers
            .iter()
            .map(|s| PollFd::new(s.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        waiting.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        let wait = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut waiting, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(fatal(e.into())),
        }
        // Not more than there is room for: each is heard once before it may have to go.
        for _ in 0..STRANGERS {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    refused = Some(e);
                    // It was gone before it was taken, or there are no descriptors: asking at once again would only burn
                    // the core.
                    thread::sleep(Duration::from_millis(1));
                    break;
                }
            };
            socket.set_nonblocking(true).map_err(fatal)?;
            if strangers.len() == STRANGERS {
                strangers.remove(0);
            }
            strangers.push(Stranger {
                socket,
                since: Instant::now(),
                said: [0; GREETING],
                len: 0,
            });
        }
        let mut still = Vec::new();
        for mut stranger in strangers {
            match stranger.look(token) {
                Found::Ours(number) => {
                    let place = taken.get_mut(number as usize).filter(|t| t.is_none());
                    // A number that is not awaited, or twice: it cannot be ours.
                    if let Some(place) = place
                        && let Ok(socket) = welcome(stranger)
                    {
                        *place = Some(socket);
                        missing -= 1;
                    }
                }
                Found::Waiting if stranger.since.elapsed() < STRANGER => still.push(stranger),
                Found::Waiting | Found::Nobody => {}
            }
        }
        strangers = still;
    }
    Ok(taken.into_iter().flatten().collect())
}

/// Says the greeting back. The few bytes always find room in a new connection's buffer.
fn welcome(mut stranger: Stranger) -> io::Result<TcpStream> {
    stranger.socket.set_nonblocking(false)?;
    timeout(&stranger.socket, CONNECT)?;
    stranger.socket.write_all(&stranger.said)?;
    Ok(stranger.socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const OURS: u64 = 0x5eed;

    fn listening() -> (TcpListener, SocketAddr) {
        listen(Ipv4Addr::LOCALHOST.into(), &(0..=0), &Sockets::default()).expect("a port")
    }

    fn never() -> bool {
        false
    }

    /// What a stranger says before it falls silent, and whether it hangs up then.
    fn stranger(to: SocketAddr, says: &[u8], hangs_up: bool) -> Option<TcpStream> {
        let mut socket = TcpStream::connect(to).expect("it listens");
        socket.write_all(says).expect("into the kernel's buffer");
        (!hangs_up).then_some(socket)
    }

    #[test]
    fn strangers_are_neither_taken_nor_answered_nor_waited_for() {
        let (listener, to) = listening();
        let waiting = [
            stranger(to, &[], false),
            stranger(to, b"GET / HTTP/1.1\r\n\r\n", false),
            stranger(to, &greeting(OURS + 1, 0), false),
            stranger(to, &greeting(OURS, 2), false),
            stranger(to, &TOKEN.to_le_bytes()[..3], true),
            stranger(to, &[], true),
        ];
        let silent: Vec<_> = (0..100).map(|_| stranger(to, &[], false)).collect();
        thread::scope(|scope| {
            let ours: Vec<_> = [1, 0]
                .into_iter()
                .map(|n| {
                    scope.spawn(move || {
                        connect(to, OURS, n, &Sockets::default(), false).expect("taken")
                    })
                })
                .collect();
            let taken = accept(&listener, OURS, 2, ACCEPT, &never).expect("both came");
            let theirs: Vec<_> = taken.iter().map(|s| s.peer_addr().ok()).collect();
            let mut addresses: Vec<_> = ours
                .into_iter()
                .map(|t| t.join().expect("no panic").local_addr().ok())
                .collect();
            addresses.reverse();
            assert_eq!(theirs, addresses, "in the order of their numbers");
        });
        for mut socket in waiting.into_iter().chain(silent).flatten() {
            let mut heard = Vec::new();
            // Closed, or reset when it had said more than was read.
            let _ = socket.read_to_end(&mut heard);
            assert_eq!(heard, b"", "nothing is said to a stranger");
        }
    }

    #[test]
    fn connections_that_do_not_come_are_told() {
        let (listener, _) = listening();
        let none = accept(&listener, OURS, 1, Duration::from_millis(50), &never);
        let why = none.map(|_| ()).expect_err("nobody came").0;
        assert!(why.contains("0 of 1 connections"), "{why}");
        let stopped = accept(&listener, OURS, 1, ACCEPT, &|| true);
        assert!(stopped.is_err());
    }

    #[test]
    fn a_range_of_ports_is_kept_to_and_its_end_is_told() {
        let (_held, at) = listening();
        let port = at.port();
        let why = listen(at.ip(), &(port..=port), &Sockets::default())
            .map(|_| ())
            .expect_err("taken")
            .0;
        assert!(why.contains(&port.to_string()), "{why}");
    }
}
