//! The shape of a trial: which connections there are, and what each side does on each of them.

use strata_measure::{Load, LoadError, Window};
use strata_record::{Direction, Op, Sockets, Workload};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::engine::TcpEngine;
use crate::half::Rx;
use crate::options::Side;

/// The largest message.
const MOST: u64 = 16 << 20;

/// The most connections of one side.
const MOST_CONNECTIONS: u64 = 4096;

/// What one side does on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Sends,
    Receives,
    Asks,
    Answers,
}

/// What both sides know of a trial.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) workload: Workload,
    pub(crate) engine: TcpEngine,
    pub(crate) sockets: Sockets,
}

impl Shape {
    /// The shape of a workload.
    ///
    /// # Errors
    /// In words, what of it cannot be, and which option to change.
    pub(crate) fn new(
        workload: &Workload,
        engine: &str,
        sockets: Option<&Sockets>,
    ) -> Result<Shape, String> {
        let w = workload;
        let engine = engine
            .parse()
            .map_err(|e: crate::UnknownEngine| e.to_string())?;
        let size = |what: &str, option: &str, bytes: Bytes| {
            if (1..=MOST).contains(&bytes.0) {
                Ok(())
            } else {
                Err(format!(
                    "a {what} of {bytes} is none; give a {option} from 1 to 16MiB"
                ))
            }
        };
        size("message", "--bs", w.block_bytes)?;
        match w.op {
            Op::Stream => {
                if w.depth.get() > 1 {
                    return Err(format!(
                        "a stream has no depth, {} was given; leave --depth out, or give --op reqrep",
                        w.depth
                    ));
                }
                if w.reply_bytes.is_some() {
                    return Err(
                        "a stream has no replies; leave --reply-bs out, or give --op reqrep"
                            .to_owned(),
                    );
                }
                if w.rate.is_some() {
                    return Err("a stream is sent as fast as it is taken; leave --rate out, or give --op reqrep".to_owned());
                }
                if w.direction == Some(Direction::Both) && w.duration_ns.is_none() {
                    return Err(
                        "both directions are measured over equal times; give --duration, not --ops"
                            .to_owned(),
                    );
                }
            }
            Op::ReqRep => {
                if let Some(reply) = w.reply_bytes {
                    size("reply", "--reply-bs", reply)?;
                }
                if w.direction.is_some() {
                    return Err("requests and replies go both ways; leave --direction out, or give --op stream".to_owned());
                }
            }
            other => {
                return Err(format!(
                    "`{other}` is no operation of the tcp layer; expected stream or reqrep"
                ));
            }
        }
        let shape = Shape {
            workload: w.clone(),
            engine,
            sockets: sockets.cloned().unwrap_or_default(),
        };
        if w.streams == 0 || w.threads == 0 {
            return Err("there must be a connection and a thread; give --streams and --threads of at least 1".to_owned());
        }
        let slots = u64::from(w.depth.get()) * u64::from(w.streams);
        if slots > u64::from(QueueDepth::MAX.get()) {
            return Err(format!(
                "{} connections at depth {} are {slots} requests in flight on a thread, and the most is {}; lower --streams or --depth",
                w.streams,
                w.depth,
                QueueDepth::MAX
            ));
        }
        let all = shape.lanes().len() as u64 * u64::from(w.threads);
        if all > MOST_CONNECTIONS {
            return Err(format!(
                "{all} connections are more than {MOST_CONNECTIONS}; lower --streams or --threads"
            ));
        }
        shape.load(Side::Measuring).map_err(|e| e.to_string())?;
        Ok(shape)
    }

    /// Which way bytes go, seen from the side that measures; none for requests.
    pub(crate) fn direction(&self) -> Option<Direction> {
        (self.workload.op == Op::Stream).then(|| self.workload.direction.unwrap_or(Direction::Send))
    }

    /// What the measuring side does on the connections of one thread, in the order of their numbers.
    fn lanes(&self) -> Vec<Lane> {
        let each = |lane| std::iter::repeat_n(lane, usize::from(self.workload.streams));
        match self.direction() {
            None => each(Lane::Asks).collect(),
            Some(Direction::Send) => each(Lane::Sends).collect(),
            Some(Direction::Receive) => each(Lane::Receives).collect(),
            Some(Direction::Both) => each(Lane::Sends).chain(each(Lane::Receives)).collect(),
        }
    }

    /// What a side does on the connections of one thread.
    pub(crate) fn lanes_of(&self, side: Side) -> Vec<Lane> {
        let mut lanes = self.lanes();
        if side == Side::Other {
            for lane in &mut lanes {
                *lane = match lane {
                    Lane::Sends => Lane::Receives,
                    Lane::Receives => Lane::Sends,
                    Lane::Asks | Lane::Answers => Lane::Answers,
                };
            }
        }
        lanes
    }

    /// Connections of all threads.
    pub(crate) fn connections(&self) -> usize {
        self.lanes().len() * usize::from(self.workload.threads)
    }

    /// Threads of a side that send and receive nothing: they go on until their receivers close.
    pub(crate) fn senders(&self, side: Side) -> usize {
        if self.only_sends(side) {
            usize::from(self.workload.threads)
        } else {
            0
        }
    }

    /// Whether a side measures nothing itself but sends.
    pub(crate) fn only_sends(&self, side: Side) -> bool {
        self.lanes_of(side).iter().all(|lane| *lane == Lane::Sends)
    }

    /// How many operations a connection has in flight in its loop.
    pub(crate) fn in_flight(&self, side: Side) -> usize {
        match self.direction() {
            None => usize::from(self.workload.depth.get()),
            Some(_) if self.only_sends(side) => 1,
            Some(_) => Rx::ahead(
                self.workload.block_bytes.as_usize(),
                usize::from(self.workload.streams),
            ),
        }
    }

    /// The load of each thread of a side. A sender has no window of its own: the receiver's is the trial's, and its patience
    /// too.
    pub(crate) fn load(&self, side: Side) -> Result<Load, LoadError> {
        let load = Load::of(&self.workload)?;
        let slots = self.in_flight(side) * usize::from(self.workload.streams);
        let depth = QueueDepth::new(slots as u64).unwrap_or(QueueDepth::MAX);
        if self.only_sends(side) {
            return Ok(Load {
                depth,
                ramp: Nanos(0),
                window: Window::Ops(u64::MAX),
                patience: Nanos(u64::MAX),
                ..load
            });
        }
        Ok(Load { depth, ..load })
    }

    /// Bytes of a reply.
    pub(crate) fn reply(&self) -> Bytes {
        self.workload
            .reply_bytes
            .unwrap_or(self.workload.block_bytes)
    }
}
