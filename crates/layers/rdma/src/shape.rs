//! The shape of a trial: what each side does, with how much of what.

use strata_measure::{Load, LoadError, Window};
use strata_record::{Completes, Direction, Op, Transport, Verbs, Workload};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::engine::VerbsEngine;

/// What an atomic works on.
pub(crate) const WORD: Bytes = Bytes(8);

/// The largest datagram: the largest packet.
pub(crate) const PACKET: Bytes = Bytes(4096);

/// Memory of a thread beyond which its operations share places.
pub(crate) const BUDGET: Bytes = Bytes(64 << 20);

/// What stands before each datagram that is received, whether it has a global route or not (ibv_post_recv(3)).
pub(crate) const HEADER: Bytes = Bytes(40);

/// The fewest receives that a queue pair has posted.
const FEWEST_RECEIVES: usize = 128;

/// Which side of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that was asked to measure.
    Measuring,
    /// The other one.
    Other,
}

/// What a side's loop counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Operations that it began.
    Initiated,
    /// Messages that arrived.
    Received,
    /// Messages that came back.
    Exchanges,
}

/// What both sides know of a trial.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) workload: Workload,
    pub(crate) engine: VerbsEngine,
    pub(crate) verbs: Verbs,
}

/// Places in a region, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// From one's first byte to the next one's.
    pub(crate) stride: Bytes,
    /// How many there are.
    pub(crate) number: usize,
}

impl Places {
    /// For so many operations of `len` bytes: one each, or as many as the budget allows.
    fn of(len: Bytes, operations: usize) -> Places {
        // Whole lines, and of pages whole pages, so that no two share one.
        let unit = if len >= PACKET { 4096 } else { 64 };
        let stride = Bytes(len.0.max(1).next_multiple_of(unit));
        let most = usize::try_from(BUDGET.0 / stride.0).unwrap_or(usize::MAX);
        Places {
            stride,
            number: operations.min(most).max(1),
        }
    }

    /// Where the place of an operation begins.
    pub(crate) fn at(&self, n: usize) -> Bytes {
        self.stride * (n % self.number) as u64
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.stride * self.number as u64
    }
}

impl Shape {
    /// The shape of a workload.
    ///
    /// # Errors
    /// In words, what of it cannot be, and which option to change.
    pub(crate) fn new(workload: &Workload, engine: &str, verbs: &Verbs) -> Result<Shape, String> {
        let engine = engine
            .parse()
            .map_err(|e: crate::UnknownEngine| e.to_string())?;
        let shape = Shape {
            workload: workload.clone(),
            engine,
            verbs: verbs.clone(),
        };
        shape.check()?;
        shape.load(Side::Measuring).map_err(|e| e.to_string())?;
        Ok(shape)
    }

    fn direction(&self) -> Option<Direction> {
        (!self.workload.op.is_pingpong())
            .then(|| self.workload.direction.unwrap_or(Direction::Send))
    }

    /// Whether a side begins operations.
    pub(crate) fn initiates(&self, side: Side) -> bool {
        match (self.direction(), side) {
            (None, _) => side == Side::Measuring,
            (Some(Direction::Both), _) => true,
            (Some(Direction::Send), _) => side == Side::Measuring,
            (Some(Direction::Receive), _) => side == Side::Other,
        }
    }

    /// Whether a side's memory is what the other works on.
    pub(crate) fn is_target(&self, side: Side) -> bool {
        let other = match side {
            Side::Measuring => Side::Other,
            Side::Other => Side::Measuring,
        };
        self.initiates(other)
    }

    /// Whether operations take receives of the target's.
    pub(crate) fn takes_receives(&self) -> bool {
        matches!(
            self.workload.op,
            Op::Send | Op::WriteImm | Op::SendPingPong | Op::WriteImmPingPong
        )
    }

    /// Whether operations reach into the target's memory by its key.
    pub(crate) fn reaches_memory(&self) -> bool {
        !matches!(self.workload.op, Op::Send | Op::SendPingPong)
    }

    /// What the loop of a side counts; none has a side whose threads only attend.
    pub(crate) fn counts(&self, side: Side) -> Option<Counts> {
        if self.workload.op.is_pingpong() {
            return (side == Side::Measuring).then_some(Counts::Exchanges);
        }
        if self.verbs.transport.is_reliable() {
            return self.initiates(side).then_some(Counts::Initiated);
        }
        self.is_target(side).then_some(Counts::Received)
    }

    /// Whether a side only sends what the other one counts.
    pub(crate) fn only_sends(&self, side: Side) -> bool {
        self.initiates(side) && self.counts(side).is_none()
    }

    /// When an operation counts as complete.
    pub(crate) fn completes(&self, counts: Option<Counts>) -> Completes {
        match (counts, self.workload.op) {
            (None, _) => Completes::AcceptedLocally,
            (Some(Counts::Received), _) => Completes::Received,
            (Some(Counts::Exchanges), _) | (_, Op::Read | Op::FetchAdd) => Completes::RoundTrip,
            (Some(Counts::Initiated), _) => Completes::RemoteAcked,
        }
    }

    /// Queue pairs of a thread and direction.
    pub(crate) fn lanes(&self) -> usize {
        usize::from(self.workload.streams)
    }

    /// Operations that a queue pair has in flight.
    pub(crate) fn depth(&self) -> usize {
        usize::from(self.workload.depth.get())
    }

    /// Operations that a thread has in flight.
    pub(crate) fn slots(&self) -> usize {
        self.depth() * self.lanes()
    }

    /// Receives that a queue pair has posted, where operations take any.
    pub(crate) fn receives(&self) -> usize {
        if self.workload.op.is_pingpong() {
            // Also of one that looks into memory where it may: elsewhere it takes them.
            return 2;
        }
        if !self.takes_receives() {
            return 0;
        }
        let mut most = usize::from(QueueDepth::MAX.get());
        if self.workload.verify {
            // Each has a place of its own, so that none is written over before it is looked at.
            let places = BUDGET.0 / (self.bytes() + HEADER).0.next_multiple_of(4096);
            most = most.min(usize::try_from(places).unwrap_or(most));
        }
        let most = (most / self.lanes().max(1)).max(1);
        (2 * self.depth()).max(FEWEST_RECEIVES).min(most)
    }

    /// Where a thread's messages lie, and in its target's memory.
    pub(crate) fn places(&self) -> Places {
        match self.workload.op {
            // All queue pairs of a thread add to one word.
            Op::FetchAdd => Places::of(WORD, self.slots()),
            _ => Places::of(self.workload.block_bytes, self.slots()),
        }
    }

    /// Where a thread's receives lie; those of writes have no bytes.
    pub(crate) fn receive_places(&self) -> Places {
        let len = match (self.verbs.transport, self.workload.op) {
            (Transport::Ud, _) => self.workload.block_bytes + HEADER,
            (_, Op::WriteImm | Op::WriteImmPingPong | Op::WritePingPong) => Bytes(1),
            _ => self.workload.block_bytes,
        };
        Places::of(len, self.receives() * self.lanes())
    }

    /// Bytes of an operation.
    pub(crate) fn bytes(&self) -> Bytes {
        self.workload.block_bytes
    }

    /// Whether messages are copied into their requests, on queue pairs that may carry so much.
    pub(crate) fn inline(&self) -> bool {
        let reads = matches!(self.workload.op, Op::Read | Op::FetchAdd);
        !reads && self.bytes() <= self.verbs.inline_bytes
    }

    /// The load of each thread of a side. Who only sends has no window of its own: the receiver's is the trial's.
    pub(crate) fn load(&self, side: Side) -> Result<Load, LoadError> {
        let load = Load::of(&self.workload)?;
        let slots = match self.counts(side) {
            Some(Counts::Received) => self.receives() * self.lanes(),
            _ => self.slots(),
        };
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_record::{Arrivals, Connect, Rail, Rate, RdmaEnd};

    fn verbs() -> Verbs {
        let end = RdmaEnd {
            device: "rxe0".to_owned(),
            port: 1,
            gid_index: Some(1),
        };
        Verbs::over(vec![Rail {
            ours: end.clone(),
            theirs: end,
        }])
    }

    fn workload(op: Op) -> Workload {
        Workload {
            depth: QueueDepth::new(if op.is_pingpong() { 1 } else { 16 }).expect("a depth"),
            ..Workload::plain(op, Bytes(if op == Op::FetchAdd { 8 } else { 64 }))
        }
    }

    fn refused(workload: &Workload, verbs: &Verbs) -> String {
        Shape::new(workload, "verbs", verbs).expect_err("refused")
    }

    #[test]
    fn who_does_what() {
        let shape = |op, transport, direction| {
            let workload = Workload {
                direction,
                ..workload(op)
            };
            let verbs = Verbs {
                transport,
                ..verbs()
            };
            Shape::new(&workload, "verbs", &verbs).expect("a shape")
        };
        let both = Some(Direction::Both);
        let there = Some(Direction::Send);
        let back = Some(Direction::Receive);
        use Counts::{Exchanges, Initiated, Received};
        for (op, transport, direction, ours, theirs) in [
            (Op::Write, Transport::Rc, there, Some(Initiated), None),
            (Op::Read, Transport::Rc, back, None, Some(Initiated)),
            (
                Op::Send,
                Transport::Rc,
                both,
                Some(Initiated),
                Some(Initiated),
            ),
            (Op::Send, Transport::Ud, there, None, Some(Received)),
            (Op::WriteImm, Transport::Uc, back, Some(Received), None),
            (
                Op::Send,
                Transport::Uc,
                both,
                Some(Received),
                Some(Received),
            ),
            (
                Op::WritePingPong,
                Transport::Rc,
                None,
                Some(Exchanges),
                None,
            ),
        ] {
            let shape = shape(op, transport, direction);
            let what = format!("{op} {transport} {direction:?}");
            assert_eq!(shape.counts(Side::Measuring), ours, "{what}");
            assert_eq!(shape.counts(Side::Other), theirs, "{what}");
        }
        let alone = shape(Op::Send, Transport::Ud, there);
        assert!(alone.only_sends(Side::Measuring) && !alone.only_sends(Side::Other));
        let load = alone.load(Side::Other).expect("a load");
        assert_eq!(load.depth.get(), 128, "the receiver's");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_change() {
        let uc = Verbs {
            transport: Transport::Uc,
            ..verbs()
        };
        let ud = Verbs {
            transport: Transport::Ud,
            ..verbs()
        };
        let batch = Verbs {
            batch: 32,
            ..verbs()
        };
        let cm = Verbs {
            connect: Connect::Cm,
            ..ud.clone()
        };
        let relaxed = Verbs {
            relaxed_ordering: true,
            ..verbs()
        };
        let long = Workload {
            block_bytes: Bytes(5000),
            ..workload(Op::Send)
        };
        let rate = Workload {
            rate: Some(Rate {
                ops_per_s: 1,
                arrivals: Arrivals::Fixed,
            }),
            ..workload(Op::Send)
        };
        let short = Workload {
            verify: true,
            block_bytes: Bytes(4),
            ..workload(Op::Send)
        };
        for (workload, verbs, word) in [
            (workload(Op::Read), &uc, "--transport rc"),
            (workload(Op::FetchAdd), &ud, "--transport rc"),
            (workload(Op::Write), &uc, "write-imm"),
            (workload(Op::Write), &ud, "--op send"),
            (long, &ud, "4KiB"),
            (workload(Op::Write), &batch, "--batch"),
            (workload(Op::Send), &cm, "--connect control"),
            (workload(Op::WritePingPong), &relaxed, "write-imm-pingpong"),
            (workload(Op::Stream), &verbs(), "no operation"),
            (rate, &ud, "--rate"),
            (short, &ud, "--verify"),
        ] {
            let why = refused(&workload, verbs);
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn places_are_apart_and_within_the_budget() {
        let small = Places::of(Bytes(1), 100);
        assert_eq!((small.stride, small.number), (Bytes(64), 100));
        assert_eq!(small.at(101), Bytes(64));
        let large = Places::of(Bytes(1 << 30), 16);
        assert_eq!((large.number, large.bytes()), (1, Bytes(1 << 30)));
    }
}
