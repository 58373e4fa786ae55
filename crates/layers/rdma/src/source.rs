//! The queue pairs over which a thread begins operations.

use std::collections::VecDeque;
use std::rc::Rc;

use strata_measure::Fatal;
use strata_units::Bytes;

use crate::content::{Content, Key, Wrong};
use crate::meeting::Deeds;
use crate::shape::Places;
use crate::verbs::{MemoryRegion, QueuePair, Ready, Remote, Request, Requests, Verb};

/// The bit of the request that does nothing but complete, so that those before it are known to have; below it stands its
/// queue pair.
const FLUSH: u64 = 1 << 41;

/// The same among operations.
const NO_OPERATION: u32 = u32::MAX;

/// One queue pair.
struct Lane {
    pair: QueuePair<Ready>,
    requests: Requests,
    /// The operation of its first request.
    first: u32,
    /// Requests that wait for the next doorbell.
    pending: Vec<u32>,
    /// Rung and not completed.
    in_flight: usize,
    /// Those of them that will have a completion of their own.
    signalled: usize,
    /// Rung since the last of those.
    since: usize,
    /// The operations in flight in their order, where not each is signalled.
    order: VecDeque<u32>,
    sent: u64,
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
}

pub(crate) struct Source {
    lanes: Vec<Lane>,
    how: How,
    /// Whose turn it is, where they take turns.
    turn: usize,
    /// The queue pair that each operation went to.
    lane_of: Box<[u16]>,
    places: Places,
    region: Rc<MemoryRegion>,
    checked: Option<Checked>,
    begun: u64,
    done: u64,
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
                        id: (first + n) as u64,
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
                    id: FLUSH | lane as u64,
                },
            );
            Lane {
                pair,
                requests,
                first: first as u32,
                pending: Vec::with_capacity(each + 1),
                in_flight: 0,
                signalled: 0,
                since: 0,
                order: VecDeque::with_capacity(each + 1),
                sent: 0,
            }
        });
        Source {
            lanes: lanes.collect(),
            how,
            turn: 0,
            lane_of: vec![0; slots].into_boxed_slice(),
            places,
            region: Rc::clone(region),
            checked,
            begun: 0,
            done: 0,
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
        self.lane_of.len()
    }

    /// Operations that have completed.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Whether none is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.in_flight == 0 && lane.pending.is_empty())
    }

    /// Takes operation `n` into the current batch.
    #[inline]
    pub(crate) fn post(&mut self, n: u32) {
        let (lane, at) = if self.lanes.len() == 1 {
            (0, n)
        } else {
            self.choose(n)
        };
        if self.checked.is_some() {
            self.put(n, lane);
        }
        self.begun += 1;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.pending.push(at);
        }
    }

    /// The queue pair that an operation goes to, and its number there.
    #[inline]
    fn choose(&mut self, n: u32) -> (usize, u32) {
        if self.how.in_turn {
            let lane = self.turn;
            self.turn = (lane + 1) % self.lanes.len();
            self.lane_of[n as usize] = lane as u16;
            return (lane, n);
        }
        // Fewer than 65536, as the slots are.
        let lane = n as usize / self.how.depth;
        self.lane_of[n as usize] = lane as u16;
        (lane, n - (lane * self.how.depth) as u32)
    }

    #[cold]
    fn put(&mut self, n: u32, lane: usize) {
        let Some(checked) = &mut self.checked else {
            return;
        };
        let (region, at) = (self.region.buffers().region(), self.places.at(n as usize));
        match self.how.verb {
            Verb::Send => {
                let (key, sent) = (checked.lanes[lane], self.lanes[lane].sent);
                let waiting = self.lanes[lane].pending.len() as u64;
                checked.content.put(region, at, key, sent + waiting);
            }
            Verb::Write | Verb::WriteImm(_) => {
                checked.content.put(region, at, checked.places, self.begun);
                checked.last[n as usize] = Some(self.begun);
            }
            Verb::Read => checked.content.spoil(region, at),
            Verb::FetchAdd(_) => {}
        }
    }

    /// Sends off what is to go.
    #[inline]
    pub(crate) fn ring(&mut self) -> Result<(), Fatal> {
        let (batch, every) = (self.how.batch, self.how.signal_every);
        for lane in &mut self.lanes {
            if lane.pending.is_empty() {
                if every > 1 && lane.signalled == 0 && lane.in_flight > 0 {
                    lane.flush()?;
                }
            // Who waits for more must know that something will come back.
            } else if lane.pending.len() >= batch || lane.signalled == 0 {
                lane.go(every)?;
            }
        }
        Ok(())
    }

    /// Takes a completion, and hands out the operations that it completes.
    #[inline]
    pub(crate) fn completed(&mut self, id: u64, mut done: impl FnMut(u32, Result<(), Wrong>)) {
        let n = id as u32;
        let flushed = id & FLUSH != 0;
        let lane = match self.lanes.len() {
            1 => 0,
            _ if flushed => n as usize,
            _ => usize::from(self.lane_of[n as usize]),
        };
        if self.how.signal_every == 1 {
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.in_flight -= 1;
                lane.signalled -= 1;
            }
            self.done += 1;
            let checked = self.check(n);
            done(n, checked);
            return;
        }
        let last = if flushed { NO_OPERATION } else { n };
        self.lanes[lane].signalled -= 1;
        while let Some(first) = self.lanes[lane].order.pop_front() {
            self.lanes[lane].in_flight -= 1;
            if first != NO_OPERATION {
                self.done += 1;
                let checked = self.check(first);
                done(first, checked);
            }
            if first == last {
                break;
            }
        }
    }

    /// Whether what was read is what is there.
    #[inline]
    fn check(&mut self, n: u32) -> Result<(), Wrong> {
        match (&mut self.checked, self.how.verb) {
            (Some(checked), Verb::Read) => checked.content.check(
                self.region.buffers().region(),
                self.places.at(n as usize),
                checked.places,
                u64::from(n),
            ),
            _ => Ok(()),
        }
    }

    /// What it has done.
    pub(crate) fn deeds(&self) -> Deeds {
        Deeds {
            sent: self.lanes.iter().map(|lane| lane.sent).collect(),
            last: match (&self.checked, self.how.verb) {
                (Some(checked), Verb::Write | Verb::WriteImm(_)) => checked.last.clone(),
                _ => Vec::new(),
            },
            added: match self.how.verb {
                Verb::FetchAdd(each) => self.done * each,
                _ => 0,
            },
        }
    }
}

impl Lane {
    #[inline]
    fn go(&mut self, every: usize) -> Result<(), Fatal> {
        let mut batch = self.pair.batch(&mut self.requests);
        if every == 1 {
            for n in &self.pending {
                batch.push(*n as usize, true);
            }
            self.signalled += self.pending.len();
        } else {
            for n in &self.pending {
                self.since += 1;
                let signalled = self.since == every;
                if signalled {
                    self.since = 0;
                    self.signalled += 1;
                }
                batch.push(*n as usize, signalled);
                self.order.push_back(self.first + n);
            }
        }
        batch.ring().map_err(|e| Fatal(e.to_string()))?;
        self.in_flight += self.pending.len();
        self.sent += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Nothing more comes, and what is in flight has no completion: one that does nothing says that all before it has.
    #[cold]
    fn flush(&mut self) -> Result<(), Fatal> {
        let last = self.requests.len() - 1;
        let mut batch = self.pair.batch(&mut self.requests);
        batch.push(last, true);
        batch.ring().map_err(|e| Fatal(e.to_string()))?;
        self.in_flight += 1;
        self.signalled += 1;
        self.since = 0;
        self.order.push_back(NO_OPERATION);
        Ok(())
    }
}
