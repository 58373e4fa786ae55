//! The other side of a trial, in its own process.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use strata_measure::{
    Clock, Crew, CrewRun, Fatal, Load, Member, Stream, contradictions, thread_proof,
};
use strata_peer::{PeerError, hello_from_child};
use strata_record::{Op, Proof, Role, ThreadProof};
use strata_topology::{ThreadWatch, pin_current_thread};
use strata_units::{Bytes, CpuId, CpuList};

use crate::client::set_up;
use crate::engine::Receiver;
use crate::message::{Answer, Received, Report, Task};

/// How long connections are awaited.
pub(crate) const ACCEPT: Duration = Duration::from_secs(10);

/// Does one task told over standard input and answers over standard output. Ends this process as soon as its input does,
/// that is, when whoever started it is gone.
///
/// # Errors
/// In words, when the control channel breaks.
pub fn serve() -> Result<(), PeerError> {
    let mut channel = hello_from_child(io::stdin(), io::stdout())?;
    let task: Task = channel.receive()?;
    // Nothing more is said to us; what ends the read ends the trial.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let answer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let answer = match answer {
        Ok((port, listener)) => {
            channel.send(&Answer::Listening(port))?;
            match work(&listener, &task) {
                Ok(report) => Answer::Done(Box::new(report)),
                Err(why) => Answer::Failed(why.0),
            }
        }
        Err(e) => Answer::Failed(format!("cannot listen on 127.0.0.1: {e}")),
    };
    channel.send(&answer)?;
    // The reader's exit is this process's, so that no answer is cut off.
    loop {
        thread::park();
    }
}

fn work(listener: &TcpListener, task: &Task) -> Result<Report, Fatal> {
    let cpus: Vec<CpuId> = task.cpus.iter().collect();
    let sockets = accept(listener, task.token, cpus.len(), ACCEPT)?;
    match task.workload.op {
        Op::Stream => receive(sockets, &cpus, task),
        Op::ReqRep => reply(sockets, &cpus, task.workload.block_bytes),
        other => Err(Fatal(format!("`{other}` is no operation of the tcp layer"))),
    }
}

/// Takes as many connections as are awaited, and says the token back to each; one that does not begin with it is none of
/// ours, and is closed without a word.
fn accept(
    listener: &TcpListener,
    token: u64,
    wanted: usize,
    within: Duration,
) -> Result<Vec<TcpStream>, Fatal> {
    let fatal = |e: io::Error| Fatal(format!("cannot accept a connection: {e}"));
    let begun = Instant::now();
    let mut sockets = Vec::new();
    while sockets.len() < wanted {
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(Fatal(format!(
                "{} of {wanted} connections came within {within:?}",
                sockets.len()
            )));
        }
        if !readable(listener, left).map_err(fatal)? {
            continue;
        }
        let (mut socket, _) = listener.accept().map_err(fatal)?;
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .map_err(fatal)?;
        let mut said = [0; 8];
        if socket.read_exact(&mut said).is_ok() && u64::from_le_bytes(said) == token {
            socket.write_all(&said).map_err(fatal)?;
            set_up(&socket).map_err(fatal)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

fn readable(listener: &TcpListener, within: Duration) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let wait = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    match poll(
        &mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)],
        wait,
    ) {
        Ok(n) => Ok(n > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The receiving end of a stream: its window is the trial's.
fn receive(sockets: Vec<TcpStream>, cpus: &[CpuId], task: &Task) -> Result<Report, Fatal> {
    let load = Load::of(&task.workload).map_err(|e| Fatal(e.to_string()))?;
    let block = task.workload.block_bytes;
    let never = AtomicBool::new(false);
    let sockets = Mutex::new(sockets.into_iter().map(Some).collect::<Vec<_>>());
    let crew = Crew {
        cpus,
        role: Role::Peer,
        load,
        mem_node: None,
        interrupted: &never,
        enough: None,
        watch: None,
    };
    let run: CrewRun = crew
        .run(|n| {
            let socket = sockets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_mut(n)
                .and_then(Option::take)
                .ok_or_else(|| {
                    Fatal("a connection is missing; this is a bug of strata".to_owned())
                })?;
            Ok(Member {
                engine: Receiver::new(socket, block, None)?,
                stream: Stream::receiving(block),
            })
        })
        .map_err(|e| Fatal(e.to_string()))?;
    let result = run.into_result(Vec::new());
    Ok(Report {
        cpu_ns_per_op: result.cost.cpu_ns_per_op,
        proof: result.proof,
        failed: result.failed,
        received: Some(Received {
            measured: result.measured,
            harness: result.harness,
            ceiling: result.ceiling,
        }),
    })
}

/// What one answering thread brings home.
struct Answered {
    thread: ThreadProof,
    missing: Option<String>,
    replies: u64,
}

/// The answering side: each whole request is sent back, until the client closes.
fn reply(sockets: Vec<TcpStream>, cpus: &[CpuId], size: Bytes) -> Result<Report, Fatal> {
    let answered: Vec<Answered> = thread::scope(|scope| {
        let threads: Vec<_> = sockets
            .into_iter()
            .zip(cpus)
            .map(|(socket, cpu)| scope.spawn(move || echo(socket, *cpu, size.as_usize())))
            .collect();
        threads
            .into_iter()
            .map(|t| {
                t.join().unwrap_or_else(|_| {
                    Err(Fatal(
                        "an answering thread panicked; this is a bug of strata".to_owned(),
                    ))
                })
            })
            .collect::<Result<_, _>>()
    })?;
    let cpu_ns: u64 = answered
        .iter()
        .map(|a| (a.thread.user_ns + a.thread.system_ns).0)
        .sum();
    let replies: u64 = answered.iter().map(|a| a.replies).sum();
    let missing = answered.iter().filter_map(|a| a.missing.clone()).collect();
    let threads: Vec<ThreadProof> = answered.into_iter().map(|a| a.thread).collect();
    Ok(Report {
        cpu_ns_per_op: cpu_ns as f64 / replies.max(1) as f64,
        proof: Proof {
            host: None,
            contradictions: contradictions(&threads, &[], None),
            threads,
            pages: Vec::new(),
            clock: Clock::get().proof(),
            missing,
        },
        received: None,
        failed: None,
    })
}

fn echo(mut socket: TcpStream, cpu: CpuId, size: usize) -> Result<Answered, Fatal> {
    let asked: CpuList = [cpu].into_iter().collect();
    pin_current_thread(&asked).map_err(|e| Fatal(e.to_string()))?;
    let mut watch = ThreadWatch::start();
    // Room for many requests, so that one read takes what has come.
    let mut buffer = vec![0u8; size.max(64 << 10).next_multiple_of(size)];
    let (mut held, mut replies, mut reads) = (0, 0u64, 0u64);
    loop {
        reads += 1;
        if reads.is_multiple_of(512) {
            watch.sample();
        }
        match socket.read(&mut buffer[held..]) {
            Ok(0) => break,
            Ok(n) => held += n,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break,
            Err(e) => return Err(Fatal(format!("cannot read requests: {e}"))),
        }
        let whole = held / size * size;
        if !send_all(&mut socket, &buffer[..whole])? {
            break;
        }
        replies += (whole / size) as u64;
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
    let (thread, missing) = thread_proof(Role::Peer, asked, watch.finish());
    Ok(Answered {
        thread,
        missing,
        replies,
    })
}

/// Whether the client was there to take it all.
fn send_all(socket: &mut TcpStream, mut bytes: &[u8]) -> Result<bool, Fatal> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(Fatal(format!("cannot send replies: {e}"))),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::connect;

    const TOKEN: u64 = 0x5eed;

    /// What a stranger says before it falls silent, and whether it hangs up then.
    fn stranger(port: u16, says: &[u8], hangs_up: bool) -> Option<TcpStream> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        socket.write_all(says).expect("into the kernel's buffer");
        (!hangs_up).then_some(socket)
    }

    #[test]
    fn strangers_are_neither_taken_nor_answered() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let waiting = [
            stranger(port, &[], false),
            stranger(port, b"GET / HTTP/1.1\r\n\r\n", false),
            stranger(port, &(TOKEN + 1).to_le_bytes(), false),
            stranger(port, &TOKEN.to_le_bytes()[..3], true),
            stranger(port, &[], true),
        ];
        thread::scope(|scope| {
            let ours: Vec<_> = (0..2)
                .map(|_| scope.spawn(move || connect(port, TOKEN).expect("taken")))
                .collect();
            let taken = accept(&listener, TOKEN, 2, ACCEPT).expect("both came");
            let mut theirs: Vec<_> = taken.iter().map(|s| s.peer_addr().ok()).collect();
            let mut addresses: Vec<_> = ours
                .into_iter()
                .map(|t| t.join().expect("no panic").local_addr().ok())
                .collect();
            theirs.sort();
            addresses.sort();
            assert_eq!(theirs, addresses);
        });
        for mut socket in waiting.into_iter().flatten() {
            let mut heard = Vec::new();
            // Closed, or reset when it had said more than was read.
            let _ = socket.read_to_end(&mut heard);
            assert_eq!(heard, b"", "nothing is said to a stranger");
        }
    }

    #[test]
    fn connections_that_do_not_come_are_told() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let none = accept(&listener, TOKEN, 1, Duration::from_millis(50));
        let why = none.map(|_| ()).expect_err("nobody came").0;
        assert!(why.contains("0 of 1 connections"), "{why}");
    }
}
