//! How a thread's bench comes about: memory, queue pairs, the other side's word, and what works over them.

use std::rc::Rc;

use strata_measure::Fatal;
use strata_record::{Op, Transport};
use strata_units::{Bytes, NodeId};

use crate::bench::Bench;
use crate::connect::{Both, Connected, Connector, Lane};
use crate::content::{Content, Key};
use crate::meeting::{Meeting, ThreadEnd};
use crate::part::{Memory, Part};
use crate::pingpong::{self, PingPong, Seen};
use crate::port::{Agreed, OpenPort, fits};
use crate::shape::{HEADER, Shape, Side};
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::verbs::{
    Access, AddressHandle, Init, QueuePair, Ready, Receives, Remote, SharedQueue, Verb, VerbsError,
};

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

/// What the parts of a bench are made of.
struct Made {
    queue: SharedQueue,
    memory: Memory,
    lanes: Both<Lane>,
    /// The other side's memory, where operations reach it.
    remote: Option<Remote>,
    /// Whether both sides' devices place bytes in their order.
    in_order: bool,
}

pub(crate) fn fatal(error: VerbsError) -> Fatal {
    Fatal(error.to_string())
}

impl Maker<'_> {
    /// Makes the bench of a thread, and connects it to the other side's.
    ///
    /// # Errors
    /// What of it cannot be had, and why the two sides do not fit.
    pub(crate) fn make(&self, thread: usize) -> Result<Bench, Fatal> {
        let shape = self.shape;
        let rail = thread % self.ports.len().max(1);
        let Some(port) = self.ports.get(rail) else {
            return Err(Fatal(
                "there is no port; this is a bug of strata".to_owned(),
            ));
        };
        let part = Part::of(shape, self.side);
        let rights = if part.reached {
            self.rights()
        } else {
            Access::LOCAL
        };
        let connector = Connector {
            shape,
            side: self.side,
            port,
            meeting: self.meeting,
            thread,
            secret: self.secret,
            // What tells that all before it has completed is a write of no bytes, which the queue pair must take.
            rights: Access {
                write: rights.write || shape.verbs.signal_every > 1,
                ..rights
            },
        };
        let memory = self.memory(port, part, rights)?;
        let (queue, pairs) = self.pairs(port, part)?;
        let in_order = port.context.is_rxe() || pairs.all().all(QueuePair::places_in_order);
        let listener = connector.listen()?;
        let ends = connector.ends(&pairs);
        let told = ThreadEnd {
            port: port.told.clone(),
            out: ends.out,
            into: ends.into,
            listens: listener.as_ref().map(|listener| listener.address()),
            memory: memory.theirs.as_ref().map(|region| region.remote()),
            in_order,
        };
        let there = self.meeting.exchange(thread, told.clone())?;
        let agreed = self.agree(port, &there, part)?;
        let remote = self.remote(there.memory)?;
        let prepare =
            |way, lane, pair: &mut QueuePair<Init>| self.receives(&memory, part, way, lane, pair);
        let ends = (&told, &there);
        let Connected { lanes, connections } =
            connector.connect(pairs, listener, ends, agreed, &prepare)?;

        let inline = lanes.all().map(|lane| lane.pair.inline()).min();
        // Of a ping-pong one side begins over what the other takes.
        let begun = if part.out > 0 {
            &lanes.out
        } else {
            &lanes.into
        };
        let numbers: Vec<u32> = begun.iter().map(|lane| lane.theirs).collect();
        let all = [&memory.ours, &memory.theirs, &memory.received];
        let mut bench = Bench {
            queue: Rc::clone(&queue),
            source: None,
            sink: None,
            pingpong: None,
            held: Vec::new(),
            target: memory.theirs.clone(),
            regions: all.into_iter().flatten().cloned().collect(),
            thread,
            rail,
            agreed,
            inline: inline.unwrap_or(0),
            queue_pairs: (part.out + part.into) as u64,
            places_key: self.key(thread, 0, false),
            op: shape.workload.op,
            shape: shape.clone(),
            _connections: connections,
        };
        let made = Made {
            queue,
            memory,
            lanes,
            remote,
            in_order: in_order && there.in_order,
        };
        if part.pingpong {
            bench.pingpong = Some(self.pingpong(made)?);
        } else {
            self.fit_out(&mut bench, made);
        }
        if shape.verbs.transport == Transport::Ud {
            let route = connector.route(&there.port);
            let handle = AddressHandle::new(&port.domain, &route).map_err(fatal)?;
            bench.address(&Rc::new(handle), &numbers);
        }
        self.meeting.connected();
        Ok(bench)
    }

    /// Whether the two sides fit, and with which packets.
    fn agree(&self, port: &OpenPort, there: &ThreadEnd, part: Part) -> Result<Agreed, Fatal> {
        let Part { out, into, .. } = part;
        if (there.into.len(), there.out.len()) != (out, into) {
            return Err(Fatal(format!(
                "the other side has {} queue pairs to take and {} to begin, where {out} and {into} were awaited; both must be one version of strata",
                there.into.len(),
                there.out.len()
            )));
        }
        let verbs = &self.shape.verbs;
        let agreed = port.agree(&there.port, verbs).map_err(Fatal)?;
        let (transport, bytes) = (verbs.transport, self.shape.bytes());
        fits(&port.end, &port.port, transport, agreed.mtu, bytes).map_err(Fatal)?;
        Ok(agreed)
    }

    /// What works over the queue pairs of all but a ping-pong.
    fn fit_out(&self, bench: &mut Bench, made: Made) {
        let (shape, thread) = (self.shape, bench.thread);
        let key = |lane, by_us| self.key(thread, lane, by_us);
        let keys = |by_us| (0..shape.lanes()).map(|lane| key(lane, by_us)).collect();
        let verify = shape.workload.verify;
        let Made { memory, lanes, .. } = made;
        if let Some(region) = &memory.ours {
            let pairs: Vec<QueuePair<Ready>> = lanes.out.into_iter().map(|l| l.pair).collect();
            let checked = verify.then(|| {
                source::Checked::new(shape.bytes(), keys(true), key(0, true), shape.slots())
            });
            let (how, places) = (self.how(), shape.places());
            let source = Source::new(pairs, how, region, places, made.remote, checked);
            bench.source = Some(source);
        }
        if let Some(region) = &memory.received {
            let pairs: Vec<(QueuePair<Ready>, Receives)> = lanes
                .into
                .into_iter()
                .filter_map(|lane| Some((lane.pair, lane.receives?)))
                .collect();
            let checked = (verify && shape.workload.op == Op::Send).then(|| sink::Checked {
                content: Content::of(shape.bytes()),
                lanes: keys(false),
                in_order: shape.verbs.transport.is_reliable(),
            });
            let header = match shape.verbs.transport {
                Transport::Ud => HEADER,
                _ => Bytes(0),
            };
            let places = shape.receive_places();
            bench.sink = Some(Sink::new(pairs, places, header, region, checked));
        } else if let Some(target) = &memory.theirs {
            bench.held = lanes.into.into_iter().map(|lane| lane.pair).collect();
            if verify && shape.workload.op == Op::Read {
                bench.fill(target, key(0, false));
            }
        }
    }

    fn pingpong(&self, made: Made) -> Result<PingPong, Fatal> {
        let shape = self.shape;
        let seen = match shape.workload.op {
            // Who sleeps is woken by a completion, and a plain write gives its target none.
            Op::WritePingPong if made.in_order && !shape.engine.events => Seen::InMemory,
            _ => Seen::ByReceive,
        };
        let how = pingpong::How {
            seen,
            verb: match (shape.workload.op, seen) {
                (Op::SendPingPong, _) => Verb::Send,
                (_, Seen::InMemory) => Verb::Write,
                (_, Seen::ByReceive) => Verb::WriteImm(0),
            },
            bytes: shape.bytes(),
            inline: shape.inline(),
            places: shape.places(),
        };
        let Both { out, into } = made.lanes;
        let ends = out.into_iter().chain(into).filter_map(|lane| {
            Some(pingpong::Ends {
                pair: lane.pair,
                receives: lane.receives?,
            })
        });
        let Some(ours) = made.memory.ours else {
            return Err(Fatal(
                "a ping-pong has no memory; this is a bug of strata".to_owned(),
            ));
        };
        // Sends come into receives, and there is nothing else to look into.
        let into = made.memory.theirs.unwrap_or_else(|| Rc::clone(&ours));
        let ends = ends.collect();
        Ok(PingPong::new(
            ends,
            made.queue,
            &how,
            ours,
            into,
            made.remote,
        ))
    }

    /// The key of what a lane's messages have in them, of this side's or of the other's.
    fn key(&self, thread: usize, lane: usize, by_us: bool) -> Key {
        let by_measuring = (self.side == Side::Measuring) == by_us;
        Key::of(self.secret, thread, lane, by_measuring)
    }

    /// How operations are begun.
    pub(crate) fn how(&self) -> source::How {
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

    /// The other side's memory, where operations reach it.
    fn remote(&self, told: Option<Remote>) -> Result<Option<Remote>, Fatal> {
        let begins = self.shape.initiates(self.side) || self.shape.workload.op.is_pingpong();
        if !begins || !self.shape.reaches_memory() {
            return Ok(None);
        }
        let Some(there) = told else {
            return Err(Fatal(
                "the other side told of no memory; both must be one version of strata".to_owned(),
            ));
        };
        let bytes = self.shape.places().bytes();
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
}
