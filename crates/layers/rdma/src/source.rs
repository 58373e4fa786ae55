//! The queue pairs over which a thread begins operations.

use std::rc::Rc;

use strata_measure::Fatal;
use strata_units::Bytes;

use crate::content::{Content, Key, Wrong};
use crate::meeting::Deeds;
use crate::shape::Places;
use crate::verbs::{MemoryRegion, QueuePair, Ready, Remote, Request, Requests, Verb};

/// Where in a request's number its queue pair stands; below it, and below the bit of a receive, stands its operation.
const LANE: u32 = 48;

/// The operation of the request that does nothing but complete, so that those before it are known to have.
const FLUSH: u32 = u32::MAX;

/// One queue pair.
struct Lane {
    pair: QueuePair<Ready>,
    requests: Requests,
    /// The operation of its first request.
    first: u32,
    /// Operations by when they were taken, round and round: those to be rung, and before them those in flight.
    order: Box<[u32]>,
    taken: u64,
    rung: u64,
    over: u64,
    /// How many of those in flight will have a completion of their own.
    signalled: usize,
    /// To be rung until the next of those, which is counted too.
    left: usize,
    flushes: u64,
    flushed: u64,
}

/// How operations are begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) verb: Verb,
    pub(crate) bytes: Bytes,
    pub(crate) inline: bool,
    /// In flight a queue pair.
    pub(crate) depth: usize,
    pub(crate) batch: usize,
    pub(crate) signal_every: usize,
    /// Whether operations go to the queue pairs in turn, as they do that come by a schedule.
    pub(crate) in_turn: bool,
}

/// What is checked, and against what.
pub(crate) struct Checked {
    pub(crate) content: Content,
    /// A queue pair's, of messages that the other side takes from each in turn.
    pub(crate) lanes: Vec<Key>,
    /// The thread's, of what goes to and comes from places.
    pub(crate) places: Key,
    /// The last message to each place.
    last: Vec<Option<u64>>,
}

impl Checked {
    pub(crate) fn new(bytes: Bytes, lanes: Vec<Key>, places: Key, slots: usize) -> Checked {
        Checked {
            content: Content::of(bytes),
            lanes,
            places,
            last: vec![None; slots],
        }
    }

    /// Whether what was read is what is there.
    #[cold]
    fn read(&mut self, region: &MemoryRegion, places: Places, all: &[u32]) -> Result<(), Wrong> {
        let region = region.buffers().region();
        all.iter().try_for_each(|n| {
            let at = places.at(*n as usize);
            self.content.check(region, at, self.places, u64::from(*n))
        })
    }
}

pub(crate) struct Source {
    lanes: Vec<Lane>,
    how: How,
    slots: usize,
    /// Whose turn it is, where they take turns.
    turn: usize,
    places: Places,
    region: Rc<MemoryRegion>,
    checked: Option<Checked>,
    /// Of those that are checked.
    begun: u64,
}

impl Source {
    /// For these queue pairs, which reach `to` where operations reach memory.
    pub(crate) fn new(
        pairs: Vec<QueuePair<Ready>>,
        how: How,
        region: &Rc<MemoryRegion>,
        places: Places,
        to: Option<Remote>,
        checked: Option<Checked>,
    ) -> Source {
        let slots = how.depth * pairs.len();
        // Who takes turns may have any of them.
        let each = if how.in_turn { slots } else { how.depth };
        let lanes = pairs.into_iter().enumerate().map(|(lane, pair)| {
            let mut requests = Requests::new(region, each + 1);
            let first = if how.in_turn { 0 } else { lane * how.depth };
            for n in 0..each {
                let at = places.at(first + n);
                // All additions are to one word.
                let there = match how.verb {
                    Verb::FetchAdd(_) => Bytes(0),
                    _ => at,
                };
                requests.set(
                    n,
                    Request {
                        verb: how.verb,
                        at,
                        len: how.bytes,
                        remote: to.map(|to| (to.address + there.0, to.key)),
                        inline: how.inline && how.bytes.0 <= pair.inline().into(),
                        id: (lane as u64) << LANE | (first + n) as u64,
                    },
                );
            }
            // A write of no bytes needs no key (InfiniBand Architecture Specification, C9-88).
            requests.set(
                each,
                Request {
                    verb: Verb::Write,
                    at: Bytes(0),
                    len: Bytes(0),
                    remote: None,
                    inline: false,
                    id: (lane as u64) << LANE | u64::from(FLUSH),
                },
            );
            Lane {
                pair,
                requests,
                first: first as u32,
                order: vec![0; (each + 1).next_power_of_two()].into_boxed_slice(),
                taken: 0,
                rung: 0,
                over: 0,
                signalled: 0,
                left: how.signal_every,
                flushes: 0,
                flushed: 0,
            }
        });
        Source {
            lanes: lanes.collect(),
            how,
            slots,
            turn: 0,
            places,
            region: Rc::clone(region),
            checked,
            begun: 0,
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

    /// Requests that a queue pair has room for.
    pub(crate) fn room(how: &How, pairs: usize) -> u32 {
        let each = if how.in_turn {
            how.depth * pairs
        } else {
            how.depth
        };
        u32::try_from(each + 1).unwrap_or(u32::MAX)
    }

    /// Operations in flight at most.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Operations that have completed.
    pub(crate) fn done(&self) -> u64 {
        let lanes = self.lanes.iter();
        lanes.map(|lane| lane.over - lane.flushed).sum()
    }

    /// Whether none is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.over == lane.taken)
    }

    /// Takes operations into the current batch.
    #[inline(always)]
    pub(crate) fn post(&mut self, operations: &[u32]) {
        match &mut self.lanes[..] {
            [lane] if self.checked.is_none() => lane.take(operations),
            _ => self.post_each(operations),
        }
    }

    #[inline(never)]
    fn post_each(&mut self, operations: &[u32]) {
        for n in operations {
            let lane = self.choose(*n);
            self.put(*n, lane);
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.take(&[*n]);
            }
        }
    }

    /// The queue pair that an operation goes to.
    fn choose(&mut self, n: u32) -> usize {
        if !self.how.in_turn {
            return n as usize / self.how.depth;
        }
        let lane = self.turn;
        self.turn = (lane + 1) % self.lanes.len();
        lane
    }

    #[cold]
    fn put(&mut self, n: u32, lane: usize) {
        let Some(checked) = &mut self.checked else {
            return;
        };
        let (region, at) = (self.region.buffers().region(), self.places.at(n as usize));
        match self.how.verb {
            Verb::Send => {
                let (key, lane) = (checked.lanes[lane], &self.lanes[lane]);
                checked
                    .content
                    .put(region, at, key, lane.taken - lane.flushes);
            }
            Verb::Write | Verb::WriteImm(_) => {
                checked.content.put(region, at, checked.places, self.begun);
                checked.last[n as usize] = Some(self.begun);
            }
            Verb::Read => checked.content.spoil(region, at),
            Verb::FetchAdd(_) => {}
        }
        self.begun += 1;
    }

    /// Sends off what is to go.
    #[inline(always)]
    pub(crate) fn ring(&mut self) -> Result<(), Fatal> {
        let (batch, every) = (self.how.batch as u64, self.how.signal_every);
        for lane in &mut self.lanes {
            let pending = lane.taken - lane.rung;
            if pending == 0 {
                if lane.signalled == 0 && lane.over < lane.rung {
                    lane.flush(every)?;
                }
            // Who waits for more must know that something will come back.
            } else if pending >= batch || lane.signalled == 0 {
                lane.go(every)?;
            }
        }
        Ok(())
    }

    /// Takes a completion, and adds to `done` the operations that it completes: its own, and those before it, since the
    /// requests of a queue pair complete in their order.
    ///
    /// # Errors
    /// What was read is not what is there.
    #[inline(always)]
    pub(crate) fn completed(&mut self, id: u64, done: &mut Vec<u32>) -> Result<(), Wrong> {
        let Some(lane) = self.lanes.get_mut((id >> LANE) as usize) else {
            return Ok(());
        };
        let before = done.len();
        lane.complete(id as u32, done);
        match &mut self.checked {
            Some(checked) if self.how.verb == Verb::Read => {
                checked.read(&self.region, self.places, &done[before..])
            }
            _ => Ok(()),
        }
    }

    /// What it has done.
    pub(crate) fn deeds(&self) -> Deeds {
        Deeds {
            sent: self.lanes.iter().map(Lane::sent).collect(),
            last: match (&self.checked, self.how.verb) {
                (Some(checked), Verb::Write | Verb::WriteImm(_)) => checked.last.clone(),
                _ => Vec::new(),
            },
            added: match self.how.verb {
                Verb::FetchAdd(each) if self.is_idle() => Some(self.done() * each),
                _ => None,
            },
        }
    }
}

impl Lane {
    #[inline(always)]
    fn take(&mut self, operations: &[u32]) {
        let order = &mut self.order[..];
        let mask = order.len() - 1;
        for n in operations {
            order[self.taken as usize & mask] = *n;
            self.taken += 1;
        }
    }

    #[inline(always)]
    fn complete(&mut self, last: u32, done: &mut Vec<u32>) {
        let order = &self.order[..];
        let mask = order.len() - 1;
        let mut end = self.over;
        while end < self.rung {
            end += 1;
            if order[(end - 1) as usize & mask] == last {
                break;
            }
        }
        let (from, mut count) = (self.over as usize & mask, (end - self.over) as usize);
        (self.over, self.signalled) = (end, self.signalled.saturating_sub(1));
        if last == FLUSH {
            // It is the last of those that it stands behind, and no operation.
            self.flushed += 1;
            count = count.saturating_sub(1);
        }
        if count == 1 {
            done.push(order[from]);
        } else {
            // Round the end of the order they go on at its beginning.
            let (wrapped, straight) = order.split_at(from);
            let straight = &straight[..count.min(straight.len())];
            done.extend_from_slice(straight);
            done.extend_from_slice(&wrapped[..count - straight.len()]);
        }
    }

    /// Operations that went off.
    fn sent(&self) -> u64 {
        self.rung - self.flushes
    }

    #[inline(always)]
    fn go(&mut self, every: usize) -> Result<(), Fatal> {
        let (order, first) = (&self.order[..], self.first);
        let mask = order.len() - 1;
        let (mut left, mut signalled) = (self.left, self.signalled);
        let mut batch = self.pair.batch(&mut self.requests);
        batch.extend((self.rung..self.taken).map(|position| {
            left -= 1;
            let tells = left == 0;
            if tells {
                left = every;
                signalled += 1;
            }
            ((order[position as usize & mask] - first) as usize, tells)
        }));
        batch.ring().map_err(|e| Fatal(e.to_string()))?;
        (self.left, self.signalled) = (left, signalled);
        self.rung = self.taken;
        Ok(())
    }

    /// Nothing more comes, and what is in flight has no completion: one that does nothing says that all before it has.
    #[cold]
    fn flush(&mut self, every: usize) -> Result<(), Fatal> {
        let last = self.requests.len() - 1;
        let mut batch = self.pair.batch(&mut self.requests);
        batch.push(last, true);
        batch.ring().map_err(|e| Fatal(e.to_string()))?;
        self.take(&[FLUSH]);
        self.rung = self.taken;
        self.signalled += 1;
        self.left = every;
        self.flushes += 1;
        Ok(())
    }
}
