//! A thread's bench: its memory, its queue pairs, and their connection to those of the other side's thread.

use std::cell::RefCell;
use std::rc::Rc;

use strata_measure::{Buffers, Fatal};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Op, PagesProof, Transport};
use strata_units::{Bytes, NodeId, QueueDepth};

use crate::account::Account;
use crate::content::{Content, Key};
use crate::meeting::{Deeds, LaneEnd, Meeting, ThreadEnd};
use crate::pingpong::{self, PingPong, Seen};
use crate::port::{Agreed, OpenPort, PortEnd, fits};
use crate::shape::{HEADER, Shape, Side};
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::verbs::{
    Access, AddressHandle, CompletionQueue, Completions, Connection, Init, MemoryRegion, QueuePair,
    Ready, Receives, Remote, Route, SharedQueue, Verb, Wanted,
};

/// From here on pages of 2 MiB are asked for.
const HUGE: Bytes = Bytes(2 << 20);

/// How long who has no receive lets the other side wait: 0.64 ms (ibv_modify_qp(3)).
const RNR_TIMER: u8 = 12;

/// What a bench is made by.
#[derive(Clone, Copy)]
pub(crate) struct Maker<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) side: Side,
    pub(crate) ports: &'a [OpenPort],
    pub(crate) node: Option<NodeId>,
    pub(crate) meeting: &'a Meeting<'a>,
    /// What only the two sides of this trial know.
    pub(crate) secret: u64,
    pub(crate) faults: Faults,
}

/// What is done wrong on purpose, to see what comes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Operations name a key that is none.
    pub wrong_key: bool,
    /// The completion queue has room for one.
    pub small_queue: bool,
    /// The receiver posts no receive.
    pub no_receives: bool,
}

/// All that a thread has.
pub(crate) struct Bench {
    pub(crate) queue: SharedQueue,
    pub(crate) source: Option<Source>,
    pub(crate) sink: Option<Sink>,
    pub(crate) pingpong: Option<PingPong>,
    /// Those that the other side works over alone.
    held: Vec<QueuePair<Ready>>,
    /// What the other side works on.
    target: Option<Rc<MemoryRegion>>,
    /// All of its memory.
    regions: Vec<Rc<MemoryRegion>>,
    thread: usize,
    rail: usize,
    agreed: Agreed,
    inline: u32,
    queue_pairs: u64,
    /// The key of what comes to and goes from its own memory's places.
    places_key: Key,
    op: Op,
    shape: Shape,
}

impl Maker<'_> {
    /// Makes the bench of a thread, and connects it to the other side's.
    ///
    /// # Errors
    /// What of it cannot be had, and why the two sides do not fit.
    pub(crate) fn make(&self, thread: usize) -> Result<Bench, Fatal> {
        let (shape, side) = (self.shape, self.side);
        let rail = thread % self.ports.len().max(1);
        let Some(port) = self.ports.get(rail) else {
            return Err(Fatal(
                "there is no port; this is a bug of strata".to_owned(),
            ));
        };
        let fatal = |e: crate::verbs::VerbsError| Fatal(e.to_string());
        let pingpong = shape.workload.op.is_pingpong();
        let begins = shape.initiates(side);
        let target = shape.is_target(side) || pingpong;
        let takes = target && (shape.takes_receives() || pingpong);
        let reached = target && shape.reaches_memory();

        let rights = if reached {
            self.rights()
        } else {
            Access::LOCAL
        };
        let places = shape.places();
        let memory = |len, access| self.memory(port, len, access);
        let ours = (begins || pingpong)
            .then(|| {
                memory(
                    places.bytes(),
                    Access {
                        relaxed: rights.relaxed,
                        ..Access::LOCAL
                    },
                )
            })
            .transpose()?;
        let theirs = reached
            .then(|| memory(places.bytes(), rights))
            .transpose()?;
        let receive_places = shape.receive_places();
        let received = takes
            .then(|| memory(receive_places.bytes(), Access::LOCAL))
            .transpose()?;

        let how = self.how();
        let lanes = shape.lanes();
        let (out, into) = match (pingpong, side) {
            (true, Side::Measuring) => (lanes, 0),
            (true, Side::Other) => (0, lanes),
            (false, _) => (
                if begins { lanes } else { 0 },
                if target { lanes } else { 0 },
            ),
        };
        let sends = if pingpong {
            pingpong::ROOM
        } else {
            Source::room(&how, lanes)
        };
        let receives = if takes {
            u32::try_from(shape.receives()).unwrap_or(u32::MAX)
        } else {
            0
        };
        let (begun, taken) = (
            if pingpong { out + into } else { out },
            if pingpong { out + into } else { into },
        );
        let room = begun as u32 * sends + taken as u32 * receives;
        let want = Completions {
            room: if self.faults.small_queue {
                1
            } else {
                room.max(1)
            },
            interface: shape.engine.interface,
            sleeps: shape.engine.events,
            receives: takes,
        };
        let queue = CompletionQueue::new(&port.context, want).map_err(fatal)?;
        let queue: SharedQueue = Rc::new(RefCell::new(queue));

        let pair = |begins: bool, takes: bool| -> Result<QueuePair<Init>, Fatal> {
            let wanted = Wanted {
                transport: shape.verbs.transport,
                sends: if begins { sends } else { 1 },
                receives: if takes { receives } else { 1 },
                inline: if begins && shape.inline() {
                    u32::try_from(shape.bytes().0).unwrap_or(u32::MAX)
                } else {
                    0
                },
                interface: shape.engine.interface,
            };
            QueuePair::new(&port.domain, wanted, &queue, &queue)
                .and_then(|pair| pair.init(port.end.port, shape.verbs.pkey_index, rights))
                .map_err(fatal)
        };
        let out_pairs: Vec<QueuePair<Init>> = (0..out)
            .map(|_| pair(true, pingpong))
            .collect::<Result<_, _>>()?;
        let in_pairs: Vec<QueuePair<Init>> = (0..into)
            .map(|_| pair(pingpong, takes))
            .collect::<Result<_, _>>()?;

        let in_order = port.context.is_rxe()
            || out_pairs
                .iter()
                .chain(&in_pairs)
                .all(QueuePair::places_in_order);
        let end = |pair: &QueuePair<Init>, n: usize| LaneEnd {
            queue_pair: pair.number(),
            psn: self.psn(thread, n),
        };
        let told = ThreadEnd {
            port: port.told.clone(),
            out: out_pairs
                .iter()
                .enumerate()
                .map(|(n, p)| end(p, n))
                .collect(),
            into: in_pairs
                .iter()
                .enumerate()
                .map(|(n, p)| end(p, out + n))
                .collect(),
            memory: theirs.as_ref().map(|region| region.remote()),
            in_order,
        };
        let there = self.meeting.exchange(thread, told.clone())?;
        if (there.into.len(), there.out.len()) != (out, into) {
            return Err(Fatal(format!(
                "the other side has {} queue pairs to take and {} to begin, where {out} and {into} were awaited; both must be one version of strata",
                there.into.len(),
                there.out.len()
            )));
        }
        let agreed = port.agree(&there.port, &shape.verbs).map_err(Fatal)?;
        fits(
            &port.end,
            &port.port,
            shape.verbs.transport,
            agreed.mtu,
            shape.bytes(),
        )
        .map_err(Fatal)?;
        let remote = self.remote(there.memory, places.bytes())?;

        let each = shape.receives();
        let receive_len = match shape.verbs.transport {
            Transport::Ud => shape.bytes() + HEADER,
            _ if matches!(shape.workload.op, Op::Send | Op::SendPingPong) => shape.bytes(),
            _ => Bytes(1),
        };
        let listens = |mut pair: QueuePair<Init>, lane: usize| -> Result<_, Fatal> {
            let Some(region) = &received else {
                return Ok((pair, None));
            };
            let mut receives = Sink::receives(region, receive_places, receive_len, lane, each);
            // A loop that counts what comes posts its receives itself.
            let counted = shape.counts(side) == Some(crate::shape::Counts::Received);
            if !counted && !self.faults.no_receives {
                let all: Vec<u32> = (0..each as u32).collect();
                pair.receive(&mut receives, &all)
                    .map_err(|e| Fatal(e.to_string()))?;
            }
            Ok((pair, Some(receives)))
        };
        let connects = |pair: QueuePair<Init>, our: &LaneEnd, their: &LaneEnd| {
            let to = self.connection(port, &there.port, agreed, our, their);
            pair.connect(&to).map_err(fatal)
        };
        let mut out_ready = Vec::with_capacity(out);
        for (lane, pair) in out_pairs.into_iter().enumerate() {
            let (pair, receives) = if pingpong {
                listens(pair, lane)?
            } else {
                (pair, None)
            };
            let pair = connects(pair, &told.out[lane], &there.into[lane])?;
            out_ready.push((pair, receives, there.into[lane].queue_pair));
        }
        let mut in_ready = Vec::with_capacity(into);
        for (lane, pair) in in_pairs.into_iter().enumerate() {
            let (pair, receives) = listens(pair, lane)?;
            let pair = connects(pair, &told.into[lane], &there.out[lane])?;
            in_ready.push((pair, receives, there.out[lane].queue_pair));
        }
        let inline = out_ready
            .iter()
            .chain(&in_ready)
            .map(|(pair, ..)| pair.inline())
            .min()
            .unwrap_or(0);

        let numbers: Vec<u32> = if pingpong && side == Side::Other {
            in_ready.iter().map(|(.., n)| *n).collect()
        } else {
            out_ready.iter().map(|(.., n)| *n).collect()
        };
        let measuring_begins = |by_us: bool| (side == Side::Measuring) == by_us;
        let key = |lane, by_us| Key::of(self.secret, thread, lane, measuring_begins(by_us));
        let lane_keys = |by_us| (0..lanes).map(|lane| key(lane, by_us)).collect::<Vec<_>>();
        let verify = shape.workload.verify;
        let content = || Content::of(shape.bytes());

        let mut bench = Bench {
            queue: Rc::clone(&queue),
            source: None,
            sink: None,
            pingpong: None,
            held: Vec::new(),
            target: theirs.clone(),
            regions: [&ours, &theirs, &received]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            thread,
            rail,
            agreed,
            inline,
            queue_pairs: (out + into) as u64,
            places_key: key(0, false),
            op: shape.workload.op,
            shape: shape.clone(),
        };
        if pingpong {
            let seen = match shape.workload.op {
                Op::WritePingPong if in_order && there.in_order => Seen::InMemory,
                _ => Seen::ByReceive,
            };
            let verb = match (shape.workload.op, seen) {
                (Op::SendPingPong, _) => Verb::Send,
                (_, Seen::InMemory) => Verb::Write,
                (_, Seen::ByReceive) => Verb::WriteImm(0),
            };
            let how = pingpong::How {
                seen,
                verb,
                bytes: shape.bytes(),
                inline: shape.inline(),
                places,
            };
            let ends = out_ready
                .into_iter()
                .chain(in_ready)
                .filter_map(|(pair, receives, _)| {
                    let receives = receives?;
                    Some(pingpong::Ends { pair, receives })
                })
                .collect();
            let Some(ours) = ours else {
                return Err(Fatal(
                    "a ping-pong has no memory; this is a bug of strata".to_owned(),
                ));
            };
            // Sends come into receives, and there is nothing else to look into.
            let into = theirs.unwrap_or_else(|| Rc::clone(&ours));
            bench.pingpong = Some(PingPong::new(ends, queue, &how, ours, into, remote));
        } else {
            if let Some(region) = &ours {
                let pairs: Vec<QueuePair<Ready>> =
                    out_ready.into_iter().map(|(pair, ..)| pair).collect();
                let checked = verify.then(|| {
                    source::Checked::new(
                        shape.bytes(),
                        lane_keys(true),
                        key(0, true),
                        shape.slots(),
                    )
                });
                bench.source = Some(Source::new(pairs, how, region, places, remote, checked));
            }
            if let Some(region) = &received {
                let pairs: Vec<(QueuePair<Ready>, Receives)> = in_ready
                    .into_iter()
                    .filter_map(|(pair, receives, _)| Some((pair, receives?)))
                    .collect();
                let checked = (verify && shape.workload.op == Op::Send).then(|| sink::Checked {
                    content: content(),
                    lanes: lane_keys(false),
                    in_order: shape.verbs.transport.is_reliable(),
                });
                let header = match shape.verbs.transport {
                    Transport::Ud => HEADER,
                    _ => Bytes(0),
                };
                bench.sink = Some(Sink::new(pairs, receive_places, header, region, checked));
            } else if let Some(target) = &theirs {
                bench.held = in_ready.into_iter().map(|(pair, ..)| pair).collect();
                if verify && shape.workload.op == Op::Read {
                    bench.fill(target, key(0, false));
                }
            }
        }
        if shape.verbs.transport == Transport::Ud {
            let route = self.route(port, &there.port);
            let handle = AddressHandle::new(&port.domain, &route).map_err(fatal)?;
            bench.address(&Rc::new(handle), &numbers);
        }
        self.meeting.connected();
        Ok(bench)
    }
}

impl Maker<'_> {
    /// What the other side may do with this side's memory.
    fn rights(&self) -> Access {
        let relaxed = self.shape.verbs.relaxed_ordering;
        let access = Access {
            relaxed,
            ..Access::LOCAL
        };
        match self.shape.workload.op {
            Op::Read => Access {
                read: true,
                ..access
            },
            Op::FetchAdd => Access {
                atomic: true,
                ..access
            },
            _ => Access {
                write: true,
                ..access
            },
        }
    }

    fn memory(
        &self,
        port: &OpenPort,
        bytes: Bytes,
        access: Access,
    ) -> Result<Rc<MemoryRegion>, Fatal> {
        let want = Want {
            bytes,
            node: self.node,
            huge: if bytes >= HUGE {
                Huge::Prefer
            } else {
                Huge::Never
            },
            // Registration pins them.
            lock: Lock::Never,
        };
        let buffers =
            Buffers::new(QueueDepth::ONE, bytes, want).map_err(|e| Fatal(e.to_string()))?;
        let region =
            MemoryRegion::new(&port.domain, buffers, access).map_err(|e| Fatal(e.to_string()))?;
        Ok(Rc::new(region))
    }

    fn how(&self) -> source::How {
        let (w, v) = (&self.shape.workload, &self.shape.verbs);
        source::How {
            verb: match w.op {
                Op::WriteImm => Verb::WriteImm(0),
                Op::Read => Verb::Read,
                Op::Send => Verb::Send,
                Op::FetchAdd => Verb::FetchAdd(1),
                _ => Verb::Write,
            },
            bytes: self.shape.bytes(),
            inline: self.shape.inline(),
            depth: self.shape.depth(),
            batch: usize::from(v.batch),
            signal_every: usize::from(v.signal_every),
            in_turn: w.rate.is_some(),
        }
    }

    /// The number of a queue pair's first packet: 24 bits that a stale packet of another trial hardly has.
    fn psn(&self, thread: usize, lane: usize) -> u32 {
        let mut state = self.secret ^ (thread as u64) << 40 ^ (lane as u64) << 20;
        if self.side == Side::Other {
            state = !state;
        }
        (strata_stats::split_mix(&mut state) & 0x00ff_ffff) as u32
    }

    /// The other side's memory, where operations reach it.
    fn remote(&self, told: Option<Remote>, bytes: Bytes) -> Result<Option<Remote>, Fatal> {
        let begins = self.shape.initiates(self.side) || self.shape.workload.op.is_pingpong();
        if !begins || !self.shape.reaches_memory() {
            return Ok(None);
        }
        let Some(there) = told else {
            return Err(Fatal(
                "the other side told of no memory; both must be one version of strata".to_owned(),
            ));
        };
        if there.bytes < bytes {
            return Err(Fatal(format!(
                "the other side has {} of memory where {bytes} are needed; both must be one version of strata",
                there.bytes
            )));
        }
        Ok(Some(Remote {
            key: if self.faults.wrong_key {
                there.key.wrong()
            } else {
                there.key
            },
            ..there
        }))
    }

    fn route(&self, port: &OpenPort, theirs: &PortEnd) -> Route {
        let v = &self.shape.verbs;
        Route {
            port: port.end.port,
            gid_index: port.end.gid_index.unwrap_or(0),
            gid: theirs.gid.filter(|_| port.told.gid.is_some()),
            lid: theirs.lid,
            service_level: v.service_level,
            traffic_class: v.traffic_class,
        }
    }

    fn connection(
        &self,
        port: &OpenPort,
        theirs: &PortEnd,
        agreed: Agreed,
        our: &LaneEnd,
        their: &LaneEnd,
    ) -> Connection {
        let v = &self.shape.verbs;
        Connection {
            route: self.route(port, theirs),
            queue_pair: their.queue_pair,
            their_psn: their.psn,
            our_psn: our.psn,
            mtu: agreed.mtu,
            reads: agreed.reads,
            answers: agreed.answers,
            timeout: v.timeout,
            retries: v.retries,
            rnr_retries: v.rnr_retries,
            rnr_timer: RNR_TIMER,
        }
    }
}

impl Bench {
    fn address(&mut self, to: &Rc<AddressHandle>, numbers: &[u32]) {
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
    fn fill(&self, region: &MemoryRegion, key: Key) {
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
            let sum = u64::from_ne_bytes(word);
            return (sum != theirs.added).then(|| {
                format!(
                    "{} was added and the sum is {sum}: additions were lost or doubled; the device's atomics are none",
                    theirs.added
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

    pub(crate) fn thread(&self) -> usize {
        self.thread
    }
}
