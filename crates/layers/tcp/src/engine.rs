//! The three engines: a sender and a receiver of blocks, and a client of requests.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;

use strata_measure::{
    Buffer, Buffers, Engine, FailCode, Fatal, Limits, Op, Outcome, Refusal, Refused, Slot, Stuck,
    Tick, Wait,
};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Completes, PagesProof};
use strata_units::{Bytes, Nanos, NodeId, QueueDepth};

use crate::sys::{Sleep, receive, send, wait_either, wait_readable};

/// The longest sleep in the kernel before the loop looks at its clock; also set on the sockets.
pub(crate) const SLEEP: Nanos = Nanos::from_millis(100);

/// How long a receiver waits for the sender's first byte.
const BEGIN: Nanos = Nanos(10_000_000_000);

/// One piece of memory of `len` bytes on `node`.
fn memory(len: Bytes, node: Option<NodeId>) -> Result<Buffers, Fatal> {
    let want = Want {
        bytes: len,
        node,
        huge: Huge::Never,
        lock: Lock::Prefer,
    };
    Buffers::new(QueueDepth::ONE, len, want).map_err(|e| Fatal(e.to_string()))
}

/// The posted operation, for engines that have one at a time.
type Held = Option<(Slot, Op)>;

fn hold(held: &mut Held, slot: Slot, op: Op) -> Result<(), Refused> {
    if held.is_some() {
        return Err(Refused {
            slot,
            op,
            why: Refusal::Full,
        });
    }
    *held = Some((slot, op));
    Ok(())
}

fn limits(depth: u16, completes: Completes, has_latency: bool) -> Limits {
    Limits {
        depth,
        align: Bytes(1),
        completes,
        has_latency,
        wait: Wait::Block { at_most: SLEEP },
    }
}

/// Sockets have no failures of single operations: what fails, fails the connection.
fn no_codes(code: FailCode) -> String {
    io::Error::from_raw_os_error(code.0).to_string()
}

fn broken(what: &str, error: &io::Error) -> Fatal {
    Fatal(format!(
        "the connection broke while {what}: {error}; look for the other side's last words above"
    ))
}

/// Sends blocks; one counts as complete when the kernel has accepted it.
pub(crate) struct Sender {
    socket: TcpStream,
    memory: Buffers,
    held: Held,
    sent: usize,
    closed: bool,
}

impl Sender {
    pub(crate) fn new(
        socket: TcpStream,
        block: Bytes,
        node: Option<NodeId>,
    ) -> Result<Sender, Fatal> {
        Ok(Sender {
            socket,
            memory: memory(block, node)?,
            held: None,
            sent: 0,
            closed: false,
        })
    }
}

impl Engine for Sender {
    fn limits(&self) -> Limits {
        limits(1, Completes::AcceptedLocally, false)
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        hold(&mut self.held, slot, op)
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        let Some((_, op)) = &self.held else {
            return Ok(());
        };
        if self.closed {
            return Ok(());
        }
        match send(
            &self.socket,
            &self.memory.first(),
            self.sent,
            op.len.as_usize(),
            Sleep::Yes,
        ) {
            Ok(n) => self.sent += n.unwrap_or(0),
            // The receiver's window is over before ours: it has closed, and says so on the control channel.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.closed = true
            }
            Err(e) => return Err(broken("sending", &e)),
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        if self.closed {
            std::thread::sleep(std::time::Duration::from_millis(1));
            return Ok(0);
        }
        match self.held.take() {
            Some((slot, op)) if self.sent == op.len.as_usize() => {
                self.sent = 0;
                done(slot, Outcome::Done(op.len));
                Ok(1)
            }
            unfinished => {
                self.held = unfinished;
                Ok(0)
            }
        }
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        self.held = None;
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.memory)
    }

    fn explain(&self, code: FailCode) -> String {
        no_codes(code)
    }
}

/// Receives whole blocks into memory.
pub(crate) struct Receiver {
    socket: TcpStream,
    memory: Buffers,
    held: Held,
    got: usize,
}

impl Receiver {
    pub(crate) fn new(
        socket: TcpStream,
        block: Bytes,
        node: Option<NodeId>,
    ) -> Result<Receiver, Fatal> {
        Ok(Receiver {
            socket,
            memory: memory(block, node)?,
            held: None,
            got: 0,
        })
    }
}

impl Engine for Receiver {
    fn limits(&self) -> Limits {
        limits(1, Completes::Received, false)
    }

    fn ready(&mut self) -> Result<(), Fatal> {
        if wait_readable(&self.socket, BEGIN) {
            Ok(())
        } else {
            Err(Fatal(format!(
                "the sender sent nothing for {BEGIN}; its CPUs may be taken by other work"
            )))
        }
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        hold(&mut self.held, slot, op)
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        let Some((_, op)) = &self.held else {
            return Ok(());
        };
        match receive(
            &self.socket,
            &self.memory.first(),
            self.got,
            op.len.as_usize(),
            Sleep::Yes,
            true,
        ) {
            Ok(Some(0)) => return Err(Fatal("the sender ended before the window did".to_owned())),
            Ok(n) => self.got += n.unwrap_or(0),
            Err(e) => return Err(broken("receiving", &e)),
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        match self.held.take() {
            Some((slot, op)) if self.got == op.len.as_usize() => {
                self.got = 0;
                done(slot, Outcome::Done(op.len));
                Ok(1)
            }
            unfinished => {
                self.held = unfinished;
                Ok(0)
            }
        }
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        self.held = None;
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.memory)
    }

    fn explain(&self, code: FailCode) -> String {
        no_codes(code)
    }
}

/// Sends requests and takes replies of the same size, in order.
pub(crate) struct Requester {
    socket: TcpStream,
    /// As many requests as the depth, one behind the other, so that a batch is one send; they all look alike.
    requests: Buffers,
    replies: Buffers,
    size: usize,
    awaited: VecDeque<Slot>,
    depth: u16,
    unsent: usize,
    got: usize,
}

impl Requester {
    pub(crate) fn new(
        socket: TcpStream,
        block: Bytes,
        depth: QueueDepth,
        node: Option<NodeId>,
    ) -> Result<Requester, Fatal> {
        let all = block * u64::from(depth.get());
        Ok(Requester {
            socket,
            requests: memory(all, node)?,
            replies: memory(all, node)?,
            size: block.as_usize(),
            awaited: VecDeque::with_capacity(usize::from(depth.get())),
            depth: depth.get(),
            unsent: 0,
            got: 0,
        })
    }

    /// Never sleeps: the other side may be waiting for us to take replies before it takes requests.
    #[inline]
    fn send_unsent(&mut self) -> Result<(), Fatal> {
        match send(
            &self.socket,
            &self.requests.first(),
            0,
            self.unsent,
            Sleep::No,
        ) {
            Ok(n) => self.unsent -= n.unwrap_or(0),
            Err(e) => return Err(broken("sending a request", &e)),
        }
        Ok(())
    }
}

impl Engine for Requester {
    fn limits(&self) -> Limits {
        limits(self.depth, Completes::RoundTrip, true)
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        if self.awaited.len() == usize::from(self.depth) {
            return Err(Refused {
                slot,
                op,
                why: Refusal::Full,
            });
        }
        self.awaited.push_back(slot);
        self.unsent += self.size;
        Ok(())
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        if self.unsent > 0 {
            self.send_unsent()
        } else {
            Ok(())
        }
    }

    #[inline]
    fn reap(&mut self, wait: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let mut sleep = if wait == Wait::Spin {
            Sleep::No
        } else {
            Sleep::Yes
        };
        if self.unsent > 0 {
            wait_either(&self.socket, SLEEP);
            self.send_unsent()?;
            sleep = Sleep::No;
        }
        let replies = self.replies.first();
        match receive(&self.socket, &replies, 0, replies.len(), sleep, false) {
            Ok(None) => return Ok(0),
            Ok(Some(0)) => {
                return Err(Fatal(
                    "the answering side closed the connection in mid-trial".to_owned(),
                ));
            }
            Ok(Some(n)) => self.got += n,
            Err(e) => return Err(broken("waiting for a reply", &e)),
        }
        let mut n = 0;
        while self.got >= self.size {
            let Some(slot) = self.awaited.pop_front() else {
                return Err(Fatal(
                    "the answering side sent more than was asked for".to_owned(),
                ));
            };
            self.got -= self.size;
            n += 1;
            done(slot, Outcome::Done(Bytes(self.size as u64)));
        }
        Ok(n)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        self.awaited.clear();
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.requests)
    }

    fn buffer(&self, _: &Slot) -> Buffer<'_> {
        self.requests.first()
    }

    fn explain(&self, code: FailCode) -> String {
        no_codes(code)
    }

    fn pages(&self) -> Result<Vec<PagesProof>, String> {
        let mut pages = self.requests.pages()?;
        pages.extend(self.replies.pages()?);
        Ok(pages)
    }
}
