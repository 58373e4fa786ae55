//! Messages that go to and fro: one under way on each queue pair.

use std::rc::Rc;

use strata_measure::{Buffers, Fatal};
use strata_units::Bytes;

use crate::shape::Places;
use crate::sink::RECEIVED;
use crate::verbs::{
    MemoryRegion, QueuePair, Ready, Receives, Remote, Request, Requests, SharedQueue, Verb,
};

/// By what it is seen that a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its last byte has changed in memory.
    InMemory,
    /// It has taken a receive.
    ByReceive,
}

struct Lane {
    pair: QueuePair<Ready>,
    requests: Requests,
    receives: Receives,
    /// Of the next message out, and of the next one in: never 0, which memory is at first.
    out: u8,
    into: u8,
    /// Whether one is awaited.
    awaits: bool,
}

pub(crate) struct PingPong {
    lanes: Vec<Lane>,
    queue: SharedQueue,
    seen: Seen,
    ours: Rc<MemoryRegion>,
    theirs: Rc<MemoryRegion>,
    places: Places,
    bytes: Bytes,
    exchanges: u64,
}

/// What a queue pair of it is made of.
pub(crate) struct Ends {
    pub(crate) pair: QueuePair<Ready>,
    pub(crate) receives: Receives,
}

/// How messages go.
pub(crate) struct How {
    pub(crate) seen: Seen,
    pub(crate) verb: Verb,
    pub(crate) bytes: Bytes,
    pub(crate) inline: bool,
    pub(crate) places: Places,
}

/// Requests that may not have been seen to complete when the answer to them has come.
pub(crate) const ROOM: u32 = 64;

fn next(n: u8) -> u8 {
    n.checked_add(1).unwrap_or(1)
}

/// The byte at `at`, as it is now.
#[inline]
fn byte(buffers: &Buffers, at: usize) -> u8 {
    let word = buffers.first().word(at & !7).unwrap_or(0);
    word.to_ne_bytes()[at & 7]
}

fn set_byte(buffers: &Buffers, at: usize, value: u8) {
    let buffer = buffers.first();
    let mut bytes = buffer.word(at & !7).unwrap_or(0).to_ne_bytes();
    bytes[at & 7] = value;
    buffer.set_word(at & !7, u64::from_ne_bytes(bytes));
}

impl PingPong {
    /// Over these queue pairs, out of `ours` into the other side's memory at `to`, and back into `theirs`.
    pub(crate) fn new(
        ends: Vec<Ends>,
        queue: SharedQueue,
        how: &How,
        ours: Rc<MemoryRegion>,
        theirs: Rc<MemoryRegion>,
        to: Option<Remote>,
    ) -> PingPong {
        let lanes = ends.into_iter().enumerate().map(|(n, end)| {
            let at = how.places.at(n);
            let mut requests = Requests::new(&ours, 1);
            requests.set(
                0,
                Request {
                    verb: how.verb,
                    at,
                    len: how.bytes,
                    remote: to.map(|to| (to.address + at.0, to.key)),
                    inline: how.inline && how.bytes.0 <= end.pair.inline().into(),
                    id: n as u64,
                },
            );
            Lane {
                pair: end.pair,
                requests,
                receives: end.receives,
                out: 1,
                into: 1,
                awaits: false,
            }
        });
        PingPong {
            lanes: lanes.collect(),
            queue,
            seen: how.seen,
            ours,
            theirs,
            places: how.places,
            bytes: how.bytes,
            exchanges: 0,
        }
    }

    /// Datagrams of queue pair `lane` go there.
    pub(crate) fn address(
        &mut self,
        lane: usize,
        to: &Rc<crate::verbs::AddressHandle>,
        queue_pair: u32,
    ) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.requests.address(to, queue_pair);
        }
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Messages that came.
    pub(crate) fn exchanges(&self) -> u64 {
        self.exchanges
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// The other side may begin.
    pub(crate) fn await_all(&mut self) {
        for lane in &mut self.lanes {
            lane.awaits = true;
        }
    }

    /// Sends the next message over a queue pair, and awaits one.
    #[inline]
    pub(crate) fn send(&mut self, n: usize) -> Result<(), Fatal> {
        let last = (self.places.at(n) + self.bytes).as_usize() - 1;
        let lane = &mut self.lanes[n];
        if self.seen == Seen::InMemory {
            set_byte(self.ours.buffers(), last, lane.out);
            lane.out = next(lane.out);
        }
        lane.awaits = true;
        let mut batch = lane.pair.batch(&mut lane.requests);
        batch.push(0, true);
        batch.ring().map_err(|e| Fatal(e.to_string()))
    }

    /// Hands out the queue pairs over which a message has come; how many completions and messages it saw.
    #[inline]
    pub(crate) fn poll(&mut self, mut came: impl FnMut(usize)) -> Result<usize, Fatal> {
        let (mut found, mut polled) = (0, 0);
        let mut queue = self.queue.borrow_mut();
        for c in queue.poll().map_err(|e| Fatal(e.to_string()))? {
            polled += 1;
            if !c.status.is_success() {
                // The first says why; those after it were flushed.
                return Err(Fatal(c.status.explain()));
            }
            if c.id & RECEIVED == 0 {
                continue;
            }
            let at = (c.id & !RECEIVED) as usize;
            // Two receives a queue pair.
            let (n, place) = (at / 2, at % 2);
            let Some(lane) = self.lanes.get_mut(n) else {
                continue;
            };
            lane.pair
                .receive(&mut lane.receives, &[place as u32])
                .map_err(|e| Fatal(e.to_string()))?;
            lane.awaits = false;
            found += 1;
            came(n);
        }
        drop(queue);
        if self.seen == Seen::InMemory {
            for (n, lane) in self.lanes.iter_mut().enumerate().filter(|(_, l)| l.awaits) {
                let last = (self.places.at(n) + self.bytes).as_usize() - 1;
                if byte(self.theirs.buffers(), last) == lane.into {
                    lane.into = next(lane.into);
                    lane.awaits = false;
                    found += 1;
                    came(n);
                }
            }
        }
        self.exchanges += found as u64;
        Ok(polled.max(found))
    }
}
