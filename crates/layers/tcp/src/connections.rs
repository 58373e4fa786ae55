//! The engine: one thread's connections in one loop, whatever it does on them.
//!
//! It asks (an operation is a request until its reply is whole), or receives (an operation is a block received), or only
//! sends (an operation is a block that the kernel has accepted). One that receives may send over other connections at the
//! same time; those blocks are counted by their receiver. A single connection is waited for in recv(2) and send(2)
//! themselves; several, and sends without a copy, by epoll(7).

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strata_measure::two_sides::Begun;
use strata_measure::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, Outcome, Refusal, Refused, Slot, Stuck, Tick,
    Wait,
};
use strata_record::{Completes, Direction, PagesProof, Role};
use strata_units::{Bytes, Nanos, NodeId};

use crate::account::{Account, Ledger, sum};
use crate::half::{Moved, Rx, Tx, last_notifications};
use crate::info::Facts;
use crate::options::{SLEEP, Side};
use crate::ready::Ready;
use crate::shape::{Lane, Shape};
use crate::sys::{For, Sleep, wait};

/// How long a receiver waits for the sender's first byte.
const BEGIN: Duration = Duration::from_secs(10);

/// How long one that sends and receives goes on sending when its own window is over, so that the other's has its end.
const LINGER: Duration = Duration::from_secs(4);

/// After so many passes over connections that have something, the others are asked for.
const EACH: u32 = 4;

/// One connection and what is done on it.
struct Connection {
    socket: TcpStream,
    tx: Option<Tx>,
    rx: Option<Rx>,
    /// The operation whose block is being sent, of one that only sends.
    sending: Option<Slot>,
}

/// What counts as an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Exchanges,
    Receives,
    Sends,
}

/// What a loop does while nothing is to be done.
enum Waits {
    /// It sleeps in the call on its only connection.
    InCall,
    /// It looks again at its only connection.
    Looks,
    /// It asks epoll(7) which of its connections has something: with time, or with none when it spins.
    Epoll(Ready),
}

/// One thread's connections.
pub(crate) struct Connections<'a> {
    all: Vec<Connection>,
    /// The first of those that operations are posted to; those before it send beside.
    first: usize,
    in_flight: usize,
    /// Of an open loop: the connection whose turn it is, counted from the first of them.
    turn: Option<usize>,
    counts: Counts,
    block: u64,
    spin: bool,
    waits: Waits,
    role: Role,
    ledger: &'a Ledger,
    interrupted: &'a AtomicBool,
    /// Whether the last pass left out a connection that was not ready.
    unready: bool,
    passes: u32,
    /// What was received into, of connections that are closed.
    kept: Vec<Rx>,
    ready: Option<Instant>,
    begun: bool,
    all_closed: bool,
}

impl<'a> Connections<'a> {
    /// For the connections of one thread of a side, in the order of their numbers.
    pub(crate) fn new(
        sockets: Vec<TcpStream>,
        shape: &Shape,
        side: Side,
        node: Option<NodeId>,
        ledger: &'a Ledger,
        interrupted: &'a AtomicBool,
    ) -> Result<Connections<'a>, Fatal> {
        let w = &shape.workload;
        let in_flight = shape.in_flight(side);
        let block = w.block_bytes.as_usize();
        let tx = |most| Tx::new(block, most, shape.engine.zerocopy, w.verify, node);
        let mut all = Vec::new();
        for (socket, lane) in sockets.into_iter().zip(shape.lanes_of(side)) {
            let (tx, rx) = match lane {
                Lane::Sends => (Some(tx(1)?), None),
                Lane::Receives => (None, Some(Rx::new(block, in_flight, w.verify, node)?)),
                Lane::Asks | Lane::Answers => {
                    let reply = shape.reply().as_usize();
                    let rx = Rx::new(reply, in_flight, w.verify, node)?;
                    (Some(tx(in_flight)?), Some(rx))
                }
            };
            all.push(Connection {
                socket,
                tx,
                rx,
                sending: None,
            });
        }
        let counts = match shape.direction() {
            None => Counts::Exchanges,
            Some(_) if shape.only_sends(side) => Counts::Sends,
            Some(_) => Counts::Receives,
        };
        // Receivers first, so that what is posted to begins at one place.
        all.sort_by_key(|c| c.rx.is_some());
        let first = match counts {
            Counts::Receives => all.iter().filter(|c| c.rx.is_none()).count(),
            Counts::Exchanges | Counts::Sends => 0,
        };
        let waits = if all.len() > 1 || (shape.engine.zerocopy && !shape.engine.spin) {
            Waits::Epoll(Ready::of(
                all.iter()
                    .map(|c| (&c.socket, c.rx.is_some(), c.tx.is_some())),
            )?)
        } else if shape.engine.spin {
            Waits::Looks
        } else {
            Waits::InCall
        };
        Ok(Connections {
            all,
            first,
            in_flight,
            turn: w.rate.is_some().then_some(0),
            counts,
            block: w.block_bytes.0,
            spin: shape.engine.spin,
            waits,
            role: match side {
                Side::Measuring => Role::Measure,
                Side::Other => Role::Peer,
            },
            ledger,
            interrupted,
            unready: false,
            passes: 0,
            kept: Vec::new(),
            ready: None,
            begun: false,
            all_closed: false,
        })
    }

    fn unwanted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.ledger.enough.load(Ordering::Relaxed)
    }

    /// The connection, counted from the first of those that are posted to, that an operation goes to.
    #[inline]
    fn connection_for(&mut self, slot: &Slot) -> usize {
        if let Some(turn) = self.turn {
            return self.next_in_turn(turn);
        }
        // In a closed loop all slots are taken, so that each connection has its share.
        slot.index() / self.in_flight
    }

    /// The next connection with room. In an open loop a slot that came back is the first to be posted again: by slots, few
    /// requests would all go over one connection.
    fn next_in_turn(&mut self, turn: usize) -> usize {
        let of = &self.all[self.first..];
        let has_room = |n: &usize| {
            let rx = of[*n].rx.as_ref();
            rx.is_some_and(|rx| rx.awaited.len() < self.in_flight)
        };
        // There is one: not all slots are taken.
        let n = (turn..of.len()).chain(0..turn).find(has_room);
        let n = n.unwrap_or(turn);
        self.turn = Some((n + 1) % of.len());
        n
    }

    /// Sends what the connections beside have room for: a block follows the other without end.
    fn send_beside(&mut self) -> Result<bool, Fatal> {
        let mut moved = false;
        for n in 0..self.first {
            let connection = &mut self.all[n];
            let Some(tx) = &mut connection.tx else {
                continue;
            };
            if tx.closed {
                continue;
            }
            if let Waits::Epoll(ready) = &mut self.waits
                && !ready.state(n).room
            {
                continue;
            }
            if tx.owed() == 0 {
                tx.owe(self.block);
            }
            let went = tx.push(&connection.socket, Sleep::No)?;
            moved |= went.any();
            if went != Moved::All
                && let Waits::Epoll(ready) = &mut self.waits
            {
                ready.state(n).room = false;
                self.unready = true;
            }
        }
        Ok(moved)
    }

    /// Looks at each connection once; how many operations completed, and whether any byte moved.
    #[inline]
    fn pass(
        &mut self,
        sleep: Sleep,
        done: &mut impl FnMut(Slot, Outcome),
    ) -> Result<(usize, bool), Fatal> {
        let mut completed = 0;
        self.unready = false;
        let mut moved = self.first > 0 && self.send_beside()?;
        for n in self.first..self.all.len() {
            let connection = &mut self.all[n];
            let (mut bytes, mut room) = match &mut self.waits {
                Waits::Epoll(ready) => (ready.state(n).bytes, ready.state(n).room),
                _ => (true, true),
            };
            if let Some(tx) = &mut connection.tx
                && room
                && tx.owed() > 0
            {
                let sleep = if self.counts == Counts::Sends {
                    sleep
                } else {
                    // The other side may be waiting for us to take replies before it takes requests.
                    Sleep::No
                };
                let went = tx.push(&connection.socket, sleep)?;
                moved |= went.any();
                room = went == Moved::All;
                if self.counts == Counts::Sends
                    && tx.owed() == 0
                    && let Some(slot) = connection.sending.take()
                {
                    completed += 1;
                    done(slot, Outcome::Done(Bytes(self.block)));
                }
            }
            if let Some(rx) = &mut connection.rx
                && bytes
                && !rx.awaited.is_empty()
            {
                let messages = rx.awaited.len();
                let whole = messages == 1 && self.counts == Counts::Receives;
                match rx.pull(
                    &connection.socket,
                    messages,
                    sleep,
                    whole && sleep == Sleep::Yes,
                )? {
                    Moved::All => moved = true,
                    Moved::Some => (moved, bytes) = (true, false),
                    Moved::Nothing => bytes = false,
                    Moved::End => return Err(ended(self.counts)),
                }
                while !rx.awaited.is_empty() && rx.take() {
                    if let Some(slot) = rx.awaited.pop_front() {
                        completed += 1;
                        done(slot, Outcome::Done(rx.size()));
                    }
                }
            }
            if let Waits::Epoll(ready) = &mut self.waits {
                let state = ready.state(n);
                (state.bytes, state.room) = (bytes || state.ended, room);
                self.unready |= match self.counts {
                    Counts::Sends => !room,
                    Counts::Receives | Counts::Exchanges => !bytes,
                };
            }
        }
        Ok((completed, moved))
    }

    /// Waits for the only connection, for less than its time-out or for something that no call on it sleeps for.
    fn wait_for_one(&self, at_most: Nanos) -> bool {
        let Some(only) = self.all.first() else {
            return false;
        };
        let owed = only.tx.as_ref().is_some_and(|tx| tx.owed() > 0);
        let awaited = only.rx.as_ref().is_some_and(|rx| !rx.awaited.is_empty());
        let what = match (awaited, owed) {
            (true, true) => For::BytesOrRoom,
            (true, false) => For::Bytes,
            (false, true) => For::Room,
            (false, false) => For::Trouble,
        };
        wait(&only.socket, what, at_most)
    }

    /// Whether a call on the only connection may sleep until its work is done.
    fn may_sleep_in_call(&self, at_most: Nanos) -> bool {
        at_most >= SLEEP
            && match self.counts {
                Counts::Sends => true,
                Counts::Receives | Counts::Exchanges => self.all.first().is_some_and(|c| {
                    c.tx.as_ref().is_none_or(|tx| tx.owed() == 0)
                        && c.rx.as_ref().is_some_and(|rx| !rx.awaited.is_empty())
                }),
            }
    }

    /// Whether all receivers have closed; the first time the ledger is told.
    #[cold]
    fn note_closed(&mut self) -> bool {
        if !self.all_closed
            && self
                .all
                .iter()
                .all(|c| c.tx.as_ref().is_some_and(|tx| tx.closed))
        {
            self.all_closed = true;
            self.ledger.sent_all();
        }
        self.all_closed
    }

    /// Leaves behind what the kernel says about the connections from `from` on, which are of one kind.
    fn account(&mut self, from: usize) {
        let Some(of) = self.all.get(from..).filter(|of| !of.is_empty()) else {
            return;
        };
        let direction = match (self.counts, from < self.first) {
            (Counts::Exchanges, _) => None,
            (Counts::Sends, _) | (Counts::Receives, true) => Some(Direction::Send),
            (Counts::Receives, false) => Some(Direction::Receive),
        };
        self.ledger.add(Account {
            role: self.role,
            direction,
            facts: of.iter().map(|c| Facts::of(&c.socket)).collect(),
            zerocopy: sum(of.iter().filter_map(|c| c.tx.as_ref()?.zerocopy())),
        });
    }

    /// Goes on sending beside until the other side has closed all of it.
    fn linger(&mut self) {
        let begun = Instant::now();
        let open = |c: &Connection| c.tx.as_ref().is_some_and(|tx| !tx.closed);
        while self.all.iter().any(open) && begun.elapsed() < LINGER && !self.unwanted() {
            let went = match (self.send_beside(), &mut self.waits) {
                (Ok(false), Waits::Epoll(ready)) => ready.wait(Nanos::from_millis(10)),
                (went, _) => went.map(|_| ()),
            };
            if went.is_err() {
                return;
            }
        }
    }
}

#[cold]
fn ended(counts: Counts) -> Fatal {
    Fatal(
        match counts {
            Counts::Exchanges => "the answering side closed the connection in mid-trial",
            Counts::Receives | Counts::Sends => "the sender ended before the window did",
        }
        .to_owned(),
    )
}

impl Engine for Connections<'_> {
    fn limits(&self) -> Limits {
        let posted_to = self.all.len() - self.first;
        Limits {
            depth: u16::try_from(posted_to * self.in_flight).unwrap_or(u16::MAX),
            align: Bytes(1),
            completes: match self.counts {
                Counts::Exchanges => Completes::RoundTrip,
                Counts::Receives => Completes::Received,
                Counts::Sends => Completes::AcceptedLocally,
            },
            has_latency: self.counts == Counts::Exchanges,
            wait: if self.spin {
                Wait::Spin
            } else {
                Wait::Block { at_most: SLEEP }
            },
        }
    }

    fn ready(&mut self) -> Result<(), Fatal> {
        let begun = Instant::now();
        if self.counts == Counts::Receives {
            // One that sends too begins here: the other side waits for it as we do.
            for n in self.first..self.all.len() {
                loop {
                    self.send_beside()?;
                    if wait(&self.all[n].socket, For::Bytes, Nanos::from_millis(10)) {
                        break;
                    }
                    if self.unwanted() {
                        return Err(Fatal("stopped before the sender began".to_owned()));
                    }
                    if begun.elapsed() > BEGIN {
                        return Err(Fatal(format!(
                            "the sender sent nothing for {BEGIN:?}; its CPUs may be taken by other work"
                        )));
                    }
                    if let Waits::Epoll(ready) = &mut self.waits {
                        ready.wait(Nanos(0))?;
                    }
                }
            }
        }
        self.ready = Some(Instant::now());
        Ok(())
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        if !self.begun {
            self.begun = true;
            if let Some(ready) = self.ready {
                let posted = Instant::now();
                self.ledger.begins.add(Begun { ready, posted });
            }
        }
        let n = self.first + self.connection_for(&slot);
        let Some(connection) = self.all.get_mut(n) else {
            return Err(Refused {
                slot,
                op,
                why: Refusal::Full,
            });
        };
        if let Some(tx) = &mut connection.tx {
            tx.owe(self.block);
        }
        match &mut connection.rx {
            Some(rx) => rx.awaited.push_back(slot),
            None => connection.sending = Some(slot),
        }
        Ok(())
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        if self.counts != Counts::Exchanges {
            return Ok(());
        }
        for n in 0..self.all.len() {
            let connection = &mut self.all[n];
            if let Some(tx) = &mut connection.tx {
                // Room may come before anybody waits for it; the next pass tries once more.
                let mut went = Moved::All;
                while went == Moved::All && tx.owed() > 0 {
                    went = tx.push(&connection.socket, Sleep::No)?;
                }
                if went == Moved::End {
                    return Err(ended(self.counts));
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, how: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let at_most = match how {
            Wait::Spin => Nanos(0),
            Wait::Block { at_most } => at_most,
        };
        if self.counts == Counts::Sends && self.note_closed() {
            // The receivers' windows are over before we are told: they say so on the control channel.
            std::thread::sleep(Duration::from_millis(1));
            return Ok(0);
        }
        let in_call = matches!(self.waits, Waits::InCall);
        if in_call && self.may_sleep_in_call(at_most) {
            return self.pass(Sleep::Yes, &mut done).map(|(n, _)| n);
        }
        let (n, moved) = self.pass(Sleep::No, &mut done)?;
        if n > 0 || moved {
            // One that always has something shall not keep the others from being heard of.
            self.passes = self.passes.wrapping_add(1);
            if self.unready
                && self.passes.is_multiple_of(EACH)
                && let Waits::Epoll(ready) = &mut self.waits
            {
                ready.wait(Nanos(0))?;
            }
            return Ok(n);
        }
        match &mut self.waits {
            Waits::Epoll(ready) => ready.wait(at_most)?,
            // The pass has just looked.
            Waits::Looks | Waits::InCall if at_most == Nanos(0) => return Ok(0),
            Waits::Looks | Waits::InCall => {
                self.wait_for_one(at_most);
            }
        }
        self.pass(Sleep::No, &mut done).map(|(n, _)| n)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        if self.first > 0 {
            self.account(self.first);
            // Our window is over: nobody need send to us any more. Theirs may not be.
            let received = self.all.drain(self.first..).filter_map(|c| c.rx);
            self.kept.extend(received);
            self.linger();
        }
        let mut senders: Vec<(&TcpStream, &mut Tx)> = self
            .all
            .iter_mut()
            .filter_map(|c| Some((&c.socket, c.tx.as_mut()?)))
            .collect();
        // That one is missing shows in the counts.
        let _ = last_notifications(&mut senders);
        self.account(0);
        for c in &mut self.all {
            c.sending = None;
            if let Some(rx) = &mut c.rx {
                rx.awaited.clear();
            }
        }
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        None
    }

    fn explain(&self, code: FailCode) -> String {
        // Sockets have no failures of single operations: what fails, fails the connection.
        std::io::Error::from_raw_os_error(code.0).to_string()
    }

    fn pages(&self) -> Result<Vec<PagesProof>, String> {
        let mut pages = Vec::new();
        for memory in self.memories() {
            pages.extend(memory.pages()?);
        }
        Ok(pages)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.memories().flat_map(Buffers::notes).collect();
        notes.sort();
        notes.dedup();
        notes
    }
}

impl Connections<'_> {
    fn memories(&self) -> impl Iterator<Item = &Buffers> {
        let open = self.all.iter().flat_map(|c| {
            let tx = c.tx.as_ref().map(Tx::memory);
            tx.into_iter().chain(c.rx.as_ref().map(Rx::memory))
        });
        open.chain(self.kept.iter().map(Rx::memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use strata_measure::{Clock, Scratch, Step, Stream, drive};
    use strata_record::{Arrivals, Op, Rate, Workload};

    #[test]
    fn an_open_loop_asks_over_all_of_its_connections() {
        let workload = Workload {
            streams: 4,
            rate: Some(Rate {
                ops_per_s: 500,
                arrivals: Arrivals::Fixed,
            }),
            duration_ns: Some(Nanos::from_millis(200)),
            ramp_ns: Nanos(0),
            ..Workload::plain(Op::ReqRep, Bytes(64))
        };
        let shape = Shape::new(&workload, "tcp", None).expect("a shape");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("its address");
        let (mut sockets, mut answering) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            sockets.push(TcpStream::connect(to).expect("it listens"));
            let (mut there, _) = listener.accept().expect("it came");
            answering.push(thread::spawn(move || {
                let (mut request, mut answered) = ([0; 64], 0u64);
                while there.read_exact(&mut request).is_ok() && there.write_all(&request).is_ok() {
                    answered += 1;
                }
                answered
            }));
        }
        let (ledger, go) = (Ledger::new(0), AtomicBool::new(false));
        let mut engine = Connections::new(sockets, &shape, Side::Measuring, None, &ledger, &go)
            .expect("an engine");
        engine.ready().expect("nothing to wait for");
        let load = shape.load(Side::Measuring).expect("a load");
        let mut stream = Stream::new(Op::ReqRep, Bytes(64), 1, 0x5eed);
        let scratch = Scratch::new(&load, &mut stream);
        let clock = Clock::get();
        let tally = drive(
            &mut engine,
            &mut stream,
            &load,
            clock,
            scratch,
            clock.now(),
            &mut |_| Step::Go,
        );
        assert_eq!(tally.broken(), None);
        drop(engine);
        let answered: Vec<u64> = answering
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .collect();
        let all: u64 = answered.iter().sum();
        assert!(all > 20, "{answered:?}");
        assert!(answered.iter().all(|n| *n >= all / 8), "{answered:?}");
    }
}
