//! A thread's bench: its memory, its connected queue pairs, and what it knows of them when all is over.

use std::rc::Rc;

use strata_record::{Op, PagesProof};
use strata_units::Bytes;

use crate::account::Account;
use crate::content::{Content, Key};
use crate::meeting::Deeds;
use crate::pingpong::{PingPong, Seen};
use crate::port::Agreed;
use crate::shape::Shape;
use crate::sink::Sink;
use crate::source::Source;
use crate::verbs::cm::{Established, Id};
use crate::verbs::{AddressHandle, MemoryRegion, QueuePair, Ready, SharedQueue};

/// All that a thread has.
pub(crate) struct Bench {
    pub(crate) queue: SharedQueue,
    pub(crate) source: Option<Source>,
    pub(crate) sink: Option<Sink>,
    pub(crate) pingpong: Option<PingPong>,
    /// Those that the other side works over alone.
    pub(crate) held: Vec<QueuePair<Ready>>,
    /// What the other side works on.
    pub(crate) target: Option<Rc<MemoryRegion>>,
    /// All of its memory.
    pub(crate) regions: Vec<Rc<MemoryRegion>>,
    pub(crate) thread: usize,
    pub(crate) rail: usize,
    pub(crate) agreed: Agreed,
    pub(crate) inline: u32,
    pub(crate) queue_pairs: u64,
    /// The key of what comes to and goes from its own memory's places.
    pub(crate) places_key: Key,
    pub(crate) op: Op,
    pub(crate) shape: Shape,
    /// What holds the queue pairs up with rdma_cm.
    pub(crate) _connections: Vec<Id<Established>>,
}

impl Bench {
    /// Datagrams of each queue pair go there.
    pub(crate) fn address(&mut self, to: &Rc<AddressHandle>, numbers: &[u32]) {
        for (lane, number) in numbers.iter().enumerate() {
            if let Some(source) = &mut self.source {
                source.address(lane, to, *number);
            }
            if let Some(pingpong) = &mut self.pingpong {
                pingpong.address(lane, to, *number);
            }
        }
    }

    /// Puts into each place of `region` what whoever reads it awaits.
    pub(crate) fn fill(&self, region: &MemoryRegion, key: Key) {
        let mut content = Content::of(self.shape.bytes());
        let places = self.shape.places();
        for n in 0..self.shape.slots() {
            content.put(region.buffers().region(), places.at(n), key, n as u64);
        }
    }

    /// What this thread has done.
    pub(crate) fn deeds(&self) -> Deeds {
        self.source.as_ref().map(Source::deeds).unwrap_or_default()
    }

    /// Holds what came against what the other side says that it has done.
    fn hold(&self, theirs: &Deeds) -> Option<String> {
        let target = self.target.as_ref()?;
        let region = target.buffers().region();
        if self.op == Op::FetchAdd {
            let mut word = [0; 8];
            region.copy_out(Bytes(0), &mut word);
            let (sum, added) = (u64::from_ne_bytes(word), theirs.added?);
            return (sum != added).then(|| {
                format!(
                    "{added} was added and the sum is {sum}: additions were lost or doubled; the device's atomics are none"
                )
            });
        }
        let mut content = Content::of(self.shape.bytes());
        let places = self.shape.places();
        let mut all = theirs.last.iter().enumerate();
        all.find_map(|(n, last)| {
            let number = (*last)?;
            let found = content.check(region, places.at(n), self.places_key, number);
            found.err().map(|wrong| wrong.to_string())
        })
    }

    /// What it leaves behind, `theirs` being what the other side has done.
    pub(crate) fn account(&self, theirs: Option<&Deeds>) -> Account {
        let received: Vec<u64> = self
            .sink
            .as_ref()
            .map(|sink| sink.all_arrived().collect())
            .unwrap_or_default();
        let arrived = received.iter().sum();
        let sent: u64 = theirs.map_or(0, |deeds| deeds.sent.iter().sum());
        let wrong = theirs.and_then(|deeds| self.hold(deeds));
        let exchanges = self.pingpong.as_ref().map_or(0, PingPong::exchanges);
        let done = self.source.as_ref().map_or(0, Source::done) + exchanges;
        let mut notes: Vec<String> = Vec::new();
        let mut pages: Vec<PagesProof> = Vec::new();
        for region in &self.regions {
            notes.extend(region.buffers().notes());
            match region.buffers().pages() {
                Ok(found) => pages.extend(found),
                Err(why) => notes.push(why),
            }
        }
        notes.sort();
        notes.dedup();
        Account {
            rail: self.rail,
            queue_pairs: self.queue_pairs,
            mtu: self.agreed.mtu.bytes(),
            inline: Bytes(self.inline.into()),
            reads: self.agreed.reads,
            ops: done,
            bytes: self.shape.bytes() * done,
            received: arrived,
            lost: if self.sink.is_some() && theirs.is_some() {
                sent.saturating_sub(arrived)
            } else {
                0
            },
            memory: self
                .regions
                .iter()
                .fold(Bytes(0), |sum, r| sum + r.buffers().region().len()),
            seen_by: self.seen_by(),
            pages,
            notes,
            wrong: wrong.or_else(|| self.sink.as_ref()?.wrong().map(str::to_owned)),
        }
    }

    fn seen_by(&self) -> Option<&'static str> {
        match (self.op, self.pingpong.as_ref()?.seen()) {
            (Op::SendPingPong, _) => None,
            (_, Seen::InMemory) => Some("memory"),
            (_, Seen::ByReceive) => Some("immediate"),
        }
    }
}
