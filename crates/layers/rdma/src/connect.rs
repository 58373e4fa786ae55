//! How a thread's queue pairs come to those of the other side's thread: by what the two sides told each other over the
//! control channel, or by rdma_cm.

use std::net::SocketAddr;

use strata_measure::Fatal;
use strata_record::Connect;
use strata_units::Nanos;

use crate::address::{addresses, between};
use crate::meeting::{LaneEnd, Meeting, ThreadEnd};
use crate::port::{Agreed, OpenPort, PortEnd};
use crate::shape::{Shape, Side};
use crate::ticket::{Ticket, Way};
use crate::verbs::cm::{Established, EventChannel, Id, Listener, Patience};
use crate::verbs::{
    Access, Connection, Init, QueuePair, Ready, Receives, Reset, Route, Terms, VerbsError,
};

/// How long who has no receive lets the other side wait: 0.64 ms (ibv_modify_qp(3)).
const RNR_TIMER: u8 = 12;

/// How long a step of a connection may take: the address, the path, the other side's word.
const STEP: Nanos = Nanos(3 * Nanos::SECOND.0);

/// How long who listens waits for the next one: as long as all steps may take.
const COMES: Nanos = Nanos(3 * STEP.0);

/// What a thread has over its queue pairs of both ways.
#[derive(Debug)]
pub(crate) struct Both<T> {
    /// Those over which it begins.
    pub(crate) out: Vec<T>,
    /// Those over which it takes.
    pub(crate) into: Vec<T>,
}

impl<T> Both<T> {
    fn none() -> Both<T> {
        Both {
            out: Vec::new(),
            into: Vec::new(),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.out.iter().chain(&self.into)
    }

    fn of(&mut self, way: Way) -> &mut Vec<T> {
        match way {
            Way::Out => &mut self.out,
            Way::Into => &mut self.into,
        }
    }

    fn into_each(self) -> impl Iterator<Item = (Way, usize, T)> {
        let lanes = |way, all: Vec<T>| {
            let numbered = all.into_iter().enumerate();
            numbered.map(move |(lane, one)| (way, lane, one))
        };
        lanes(Way::Out, self.out).chain(lanes(Way::Into, self.into))
    }
}

/// A queue pair that is connected.
pub(crate) struct Lane {
    pub(crate) pair: QueuePair<Ready>,
    pub(crate) receives: Option<Receives>,
    /// The other side's.
    pub(crate) theirs: u32,
}

/// What connecting came to.
pub(crate) struct Connected {
    pub(crate) lanes: Both<Lane>,
    /// What holds them up with rdma_cm.
    pub(crate) connections: Vec<Id<Established>>,
}

/// What a thread's queue pairs are connected by.
pub(crate) struct Connector<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) side: Side,
    pub(crate) port: &'a OpenPort,
    pub(crate) meeting: &'a Meeting<'a>,
    pub(crate) thread: usize,
    /// What only the two sides of this trial know.
    pub(crate) secret: u64,
    /// What the other side may do with this side's memory.
    pub(crate) rights: Access,
}

/// Makes ready what a queue pair is to have before the other side may reach it.
pub(crate) type Prepare<'a> =
    &'a dyn Fn(Way, usize, &mut QueuePair<Init>) -> Result<Option<Receives>, Fatal>;

impl Connector<'_> {
    /// Where the other side finds this one with rdma_cm: the measuring side comes to the other one.
    pub(crate) fn listen(&self) -> Result<Option<Listener>, Fatal> {
        if self.shape.verbs.connect == Connect::Control || self.side == Side::Measuring {
            return Ok(None);
        }
        let ours = addresses(self.port).map_err(Fatal)?;
        let Some(first) = ours.first() else {
            return Ok(None);
        };
        let waiting = 2 * self.shape.lanes();
        let listener = Listener::bind(*first, u16::try_from(waiting).unwrap_or(u16::MAX));
        listener.map(Some).map_err(|e| self.fatal(e))
    }

    /// What the other side must know of queue pairs.
    pub(crate) fn ends(&self, pairs: &Both<QueuePair<Reset>>) -> Both<LaneEnd> {
        let end = |(n, pair): (usize, &QueuePair<Reset>)| LaneEnd {
            queue_pair: pair.number(),
            psn: self.psn(n),
        };
        let (out, into) = (pairs.out.iter(), pairs.into.iter());
        let first = pairs.out.len();
        Both {
            out: out.enumerate().map(end).collect(),
            into: into
                .enumerate()
                .map(|(n, pair)| end((first + n, pair)))
                .collect(),
        }
    }

    /// Connects all of them.
    pub(crate) fn connect(
        &self,
        pairs: Both<QueuePair<Reset>>,
        listener: Option<Listener>,
        ends: (&ThreadEnd, &ThreadEnd),
        agreed: Agreed,
        prepare: Prepare<'_>,
    ) -> Result<Connected, Fatal> {
        let terms = self.terms(agreed);
        match (self.shape.verbs.connect, listener, ends.1.listens) {
            (Connect::Control, ..) => self.by_control(pairs, ends, terms, prepare),
            (Connect::Cm, Some(listener), _) => self.await_all(pairs, listener, ends, terms, prepare),
            (Connect::Cm, None, Some(at)) => self.come_to(pairs, at, ends, terms, prepare),
            (Connect::Cm, None, None) => Err(Fatal(
                "the other side does not listen for connections by rdma_cm; both must be one version of strata".to_owned(),
            )),
        }
    }

    fn by_control(
        &self,
        pairs: Both<QueuePair<Reset>>,
        (ours, theirs): (&ThreadEnd, &ThreadEnd),
        terms: Terms,
        prepare: Prepare<'_>,
    ) -> Result<Connected, Fatal> {
        let mut lanes = Both::none();
        let (port, verbs) = (&self.port.end, &self.shape.verbs);
        for (way, lane, pair) in pairs.into_each() {
            let (our, their) = match way {
                Way::Out => (&ours.out[lane], &theirs.into[lane]),
                Way::Into => (&ours.into[lane], &theirs.out[lane]),
            };
            let pair = pair.init(port.port, verbs.pkey_index, self.rights);
            let mut pair = pair.map_err(|e| self.fatal(e))?;
            let receives = prepare(way, lane, &mut pair)?;
            let to = Connection {
                route: self.route(&theirs.port),
                queue_pair: their.queue_pair,
                their_psn: their.psn,
                our_psn: our.psn,
                terms,
            };
            let pair = pair.connect(&to).map_err(|e| self.fatal(e))?;
            lanes.of(way).push(Lane {
                pair,
                receives,
                theirs: their.queue_pair,
            });
        }
        Ok(Connected {
            lanes,
            connections: Vec::new(),
        })
    }

    /// Connects to who listens there.
    fn come_to(
        &self,
        pairs: Both<QueuePair<Reset>>,
        at: SocketAddr,
        (_, theirs): (&ThreadEnd, &ThreadEnd),
        terms: Terms,
        prepare: Prepare<'_>,
    ) -> Result<Connected, Fatal> {
        let (mut lanes, mut connections) = (Both::none(), Vec::new());
        let fatal = |e| self.fatal(e);
        let is_off = || self.meeting.is_off();
        let patience = Patience {
            within: STEP,
            is_off: &is_off,
        };
        let (port, verbs) = (&self.port.end, &self.shape.verbs);
        let ours = addresses(self.port).map_err(Fatal)?;
        let (from, to) = between(&ours, at).map_err(Fatal)?;
        let channel = EventChannel::open().map_err(fatal)?;
        for (way, lane, pair) in pairs.into_each() {
            let id = Id::resolve(&channel, from, to, verbs.traffic_class, &patience);
            let id = id.map_err(fatal)?;
            let pair = pair.init_by(&id, port.port, verbs.pkey_index, self.rights);
            let mut pair = pair.map_err(fatal)?;
            let receives = prepare(way, lane, &mut pair)?;
            let ticket = self.ticket(way, lane).to_bytes();
            let id = id.connect(&pair, &terms, &ticket, &patience);
            let id = id.map_err(fatal)?;
            let pair = pair.connect_by(&id, port.gid_index, verbs.service_level, &terms);
            let pair = pair.map_err(fatal)?;
            connections.push(id.establish(&pair).map_err(fatal)?);
            lanes.of(way).push(Lane {
                pair,
                receives,
                theirs: facing(theirs, way, lane),
            });
        }
        Ok(Connected { lanes, connections })
    }

    /// Waits until the other side has come to each.
    fn await_all(
        &self,
        pairs: Both<QueuePair<Reset>>,
        mut listener: Listener,
        (_, theirs): (&ThreadEnd, &ThreadEnd),
        terms: Terms,
        prepare: Prepare<'_>,
    ) -> Result<Connected, Fatal> {
        let fatal = |e| self.fatal(e);
        let is_off = || self.meeting.is_off();
        let patience = Patience {
            within: COMES,
            is_off: &is_off,
        };
        let (port, verbs) = (&self.port.end, &self.shape.verbs);
        let mut waiting: Vec<(Way, usize, QueuePair<Reset>)> = pairs.into_each().collect();
        let (mut came, mut connections) = (Vec::new(), Vec::new());
        while !waiting.is_empty() {
            let id = listener.request(&patience).map_err(fatal)?;
            let asked = Ticket::of_bytes(id.private());
            let place = waiting.iter().position(|(way, lane, _)| {
                // What the one begins the other takes.
                asked == Some(self.ticket(way.facing(), *lane))
            });
            let Some(place) = place else {
                // Somebody else's, or an older trial's: whether it hears so is its own affair.
                let _ = id.reject();
                continue;
            };
            let (way, lane, pair) = waiting.swap_remove(place);
            let pair = pair.init_by(&id, port.port, verbs.pkey_index, self.rights);
            let mut pair = pair.map_err(fatal)?;
            let receives = prepare(way, lane, &mut pair)?;
            let pair = pair.connect_by(&id, port.gid_index, verbs.service_level, &terms);
            let pair = pair.map_err(fatal)?;
            let id = id.accept(&pair, &terms).map_err(fatal)?;
            connections.push(listener.established(id, &patience).map_err(fatal)?);
            let connected = Lane {
                pair,
                receives,
                theirs: facing(theirs, way, lane),
            };
            came.push((way, lane, connected));
        }
        came.sort_by_key(|(_, lane, _)| *lane);
        let mut lanes = Both::none();
        for (way, _, lane) in came {
            lanes.of(way).push(lane);
        }
        Ok(Connected { lanes, connections })
    }

    /// What a connection says that it is.
    fn ticket(&self, way: Way, lane: usize) -> Ticket {
        Ticket {
            secret: self.secret,
            thread: self.thread,
            lane,
            way,
        }
    }

    /// The number of a queue pair's first packet: 24 bits that a stale packet of another trial hardly has.
    fn psn(&self, lane: usize) -> u32 {
        let mut state = self.secret ^ (self.thread as u64) << 40 ^ (lane as u64) << 20;
        if self.side == Side::Other {
            state = !state;
        }
        (strata_stats::split_mix(&mut state) & 0x00ff_ffff) as u32
    }

    /// The way to the other side's port.
    pub(crate) fn route(&self, theirs: &PortEnd) -> Route {
        let v = &self.shape.verbs;
        Route {
            port: self.port.end.port,
            gid_index: self.port.end.gid_index.unwrap_or(0),
            gid: theirs.gid.filter(|_| self.port.told.gid.is_some()),
            lid: theirs.lid,
            service_level: v.service_level,
            traffic_class: v.traffic_class,
        }
    }

    fn terms(&self, agreed: Agreed) -> Terms {
        let v = &self.shape.verbs;
        Terms {
            mtu: agreed.mtu,
            reads: agreed.reads,
            answers: agreed.answers,
            timeout: v.timeout,
            retries: v.retries,
            rnr_retries: v.rnr_retries,
            rnr_timer: RNR_TIMER,
        }
    }

    /// Whoever was broken off says why.
    fn fatal(&self, error: VerbsError) -> Fatal {
        let VerbsError::BrokenOff { .. } = error else {
            return Fatal(error.to_string());
        };
        Fatal(self.meeting.why_off())
    }
}

/// The other side's queue pair of a lane.
fn facing(theirs: &ThreadEnd, way: Way, lane: usize) -> u32 {
    match way {
        Way::Out => theirs.into[lane].queue_pair,
        Way::Into => theirs.out[lane].queue_pair,
    }
}
