//! The queue pairs over which a thread receives.

use std::rc::Rc;

use strata_measure::Fatal;
use strata_units::Bytes;

use crate::content::{Content, Key};
use crate::shape::Places;
use crate::verbs::{MemoryRegion, QueuePair, Ready, Receives};

/// The bit that tells a receive's number from an operation's.
pub(crate) const RECEIVED: u64 = 1 << 40;

struct Lane {
    pair: QueuePair<Ready>,
    receives: Receives,
    /// Those that wait for the next call.
    pending: Vec<u32>,
    /// Which are with the device, or will be with the next call.
    posted: Box<[bool]>,
    arrived: u64,
}

/// What is checked of messages that are received, and against what.
pub(crate) struct Checked {
    pub(crate) content: Content,
    pub(crate) lanes: Vec<Key>,
    /// Whether none may be missing: else each says its number.
    pub(crate) in_order: bool,
}

pub(crate) struct Sink {
    lanes: Vec<Lane>,
    each: usize,
    places: Places,
    /// What stands before each message.
    header: Bytes,
    region: Rc<MemoryRegion>,
    checked: Option<Checked>,
    wrong: Option<String>,
}

impl Sink {
    /// Receives of `len` bytes of each of these queue pairs, `each` a pair; its receives are from its place on.
    pub(crate) fn receives(
        region: &Rc<MemoryRegion>,
        places: Places,
        len: Bytes,
        lane: usize,
        each: usize,
    ) -> Receives {
        let first = lane * each;
        let of = (first..first + each).map(|n| (places.at(n), len));
        Receives::new(region, RECEIVED | first as u64, of)
    }

    /// For these queue pairs, whose receives are posted already.
    pub(crate) fn new(
        pairs: Vec<(QueuePair<Ready>, Receives)>,
        places: Places,
        header: Bytes,
        region: &Rc<MemoryRegion>,
        checked: Option<Checked>,
    ) -> Sink {
        let each = pairs.first().map_or(0, |(_, receives)| receives.len());
        let lanes = pairs.into_iter().map(|(pair, receives)| Lane {
            pair,
            pending: Vec::with_capacity(receives.len()),
            posted: vec![true; receives.len()].into_boxed_slice(),
            receives,
            arrived: 0,
        });
        Sink {
            lanes: lanes.collect(),
            each: each.max(1),
            places,
            header,
            region: Rc::clone(region),
            checked,
            wrong: None,
        }
    }

    /// Receives of all queue pairs.
    pub(crate) fn slots(&self) -> usize {
        self.each * self.lanes.len()
    }

    /// Posts receive `n` with the next call, where it is not posted: what comes between windows finds one too.
    #[inline]
    pub(crate) fn post(&mut self, n: u32) {
        let (lane, at) = if self.lanes.len() == 1 {
            (0, n)
        } else {
            let lane = n as usize / self.each;
            (lane, n - (lane * self.each) as u32)
        };
        if let Some(lane) = self.lanes.get_mut(lane)
            && !std::mem::replace(&mut lane.posted[at as usize], true)
        {
            lane.pending.push(at);
        }
    }

    #[inline]
    pub(crate) fn ring(&mut self) -> Result<(), Fatal> {
        for lane in &mut self.lanes {
            if !lane.pending.is_empty() {
                lane.pair
                    .receive(&mut lane.receives, &lane.pending)
                    .map_err(|e| Fatal(e.to_string()))?;
                lane.pending.clear();
            }
        }
        Ok(())
    }

    /// Takes the completion of a receive: its number.
    #[inline]
    pub(crate) fn arrived(&mut self, id: u64, bytes: u32) -> u32 {
        let n = (id & !RECEIVED) as u32;
        let lane = if self.lanes.len() == 1 {
            0
        } else {
            n as usize / self.each
        };
        if self.checked.is_some() {
            self.check(n, lane, bytes);
        }
        let each = self.each;
        if let Some(of) = self.lanes.get_mut(lane) {
            of.arrived += 1;
            of.posted[n as usize - lane * each] = false;
        }
        n
    }

    #[cold]
    fn check(&mut self, n: u32, lane: usize, bytes: u32) {
        let Some(checked) = &mut self.checked else {
            return;
        };
        let at = self.places.at(n as usize) + self.header;
        let (region, key) = (self.region.buffers().region(), checked.lanes[lane]);
        let number = if checked.in_order {
            self.lanes[lane].arrived
        } else {
            checked.content.number(region, at, key)
        };
        let found = checked.content.check(region, at, key, number);
        // A completion without its bytes shall not find those of the message before.
        checked.content.spoil(region, at);
        let length = checked.content.len() + self.header;
        if Bytes(bytes.into()) != length {
            self.wrong.get_or_insert_with(|| {
                format!("message {number} has {bytes} bytes rather than {length}")
            });
        }
        if let Err(wrong) = found {
            self.wrong.get_or_insert_with(|| wrong.to_string());
        }
    }

    /// Messages that came over each queue pair.
    pub(crate) fn all_arrived(&self) -> impl Iterator<Item = u64> + '_ {
        self.lanes.iter().map(|lane| lane.arrived)
    }

    /// What was wrong about one.
    pub(crate) fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }
}
