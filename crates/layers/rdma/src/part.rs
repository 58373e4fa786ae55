//! What a thread's part in a trial needs of the device: memory, queue pairs, receives.

use std::cell::RefCell;
use std::rc::Rc;

use strata_measure::{Buffers, Fatal};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Op, Transport};
use strata_units::{Bytes, QueueDepth};

use crate::connect::Both;
use crate::maker::{Maker, fatal};
use crate::pingpong;
use crate::port::OpenPort;
use crate::shape::{HEADER, Places, Shape, Side};
use crate::sink::Sink;
use crate::source::Source;
use crate::ticket::Way;
use crate::verbs::{
    Access, CompletionQueue, Completions, Init, MemoryRegion, QueuePair, Receives, Reset,
    SharedQueue, Wanted,
};

/// From here on pages of 2 MiB are asked for.
const HUGE: Bytes = Bytes(2 << 20);

/// What a side's threads have to do with each other's memory and messages.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) pingpong: bool,
    /// What comes to it may take receives.
    pub(crate) takes: bool,
    /// What comes to it reaches its memory.
    pub(crate) reached: bool,
    /// Queue pairs over which it begins, and over which it takes.
    pub(crate) out: usize,
    pub(crate) into: usize,
}

impl Part {
    pub(crate) fn of(shape: &Shape, side: Side) -> Part {
        let pingpong = shape.workload.op.is_pingpong();
        let target = shape.is_target(side) || pingpong;
        let lanes = |has| if has { shape.lanes() } else { 0 };
        let (out, into) = match (pingpong, side) {
            (true, Side::Measuring) => (lanes(true), 0),
            (true, Side::Other) => (0, lanes(true)),
            (false, _) => (lanes(shape.initiates(side)), lanes(target)),
        };
        Part {
            pingpong,
            takes: target && (shape.takes_receives() || pingpong),
            reached: target && shape.reaches_memory(),
            out,
            into,
        }
    }
}

/// A thread's memory: what it begins with, what the other side reaches, and what messages come into.
pub(crate) struct Memory {
    pub(crate) ours: Option<Rc<MemoryRegion>>,
    pub(crate) theirs: Option<Rc<MemoryRegion>>,
    pub(crate) received: Option<Rc<MemoryRegion>>,
}

impl Maker<'_> {
    /// What the other side may do with this side's memory.
    pub(crate) fn rights(&self) -> Access {
        let access = Access {
            relaxed: self.shape.verbs.relaxed_ordering,
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

    /// The thread's memory, on its node.
    pub(crate) fn memory(
        &self,
        port: &OpenPort,
        part: Part,
        rights: Access,
    ) -> Result<Memory, Fatal> {
        let region = |wanted: bool, places: Places, access| {
            wanted
                .then(|| self.region(port, places.bytes(), access))
                .transpose()
        };
        let (places, receives) = (self.shape.places(), self.shape.receive_places());
        // What the own device writes for itself may come out of order too.
        let own = Access {
            relaxed: self.shape.verbs.relaxed_ordering,
            ..Access::LOCAL
        };
        Ok(Memory {
            ours: region(part.pingpong || part.out > 0, places, own)?,
            theirs: region(part.reached, places, rights)?,
            received: region(part.takes, receives, own)?,
        })
    }

    fn region(
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
        let region = MemoryRegion::new(&port.domain, buffers, access).map_err(fatal)?;
        Ok(Rc::new(region))
    }

    /// The thread's queue pairs, and the queue that all of them complete to.
    pub(crate) fn pairs(
        &self,
        port: &OpenPort,
        part: Part,
    ) -> Result<(SharedQueue, Both<QueuePair<Reset>>), Fatal> {
        let shape = self.shape;
        let sends = if part.pingpong {
            pingpong::ROOM
        } else {
            Source::room(&self.how(), shape.lanes())
        };
        let receives = if part.takes {
            u32::try_from(shape.receives()).unwrap_or(u32::MAX)
        } else {
            0
        };
        let (begun, taken) = if part.pingpong {
            (part.out + part.into, part.out + part.into)
        } else {
            (part.out, part.into)
        };
        // Operations that take their queue pairs in turn have room in each, and are no more for that.
        let in_flight = if part.pingpong {
            begun as u32 * sends
        } else {
            (shape.slots() + begun) as u32
        };
        let room = in_flight + taken as u32 * receives;
        let want = Completions {
            room: if self.faults.small_queue {
                1
            } else {
                room.max(1)
            },
            interface: shape.engine.interface,
            sleeps: shape.engine.events,
            receives: part.takes,
        };
        let queue = CompletionQueue::new(&port.context, want).map_err(fatal)?;
        let queue: SharedQueue = Rc::new(RefCell::new(queue));
        let inline = if shape.inline() {
            u32::try_from(shape.bytes().0).unwrap_or(u32::MAX)
        } else {
            0
        };
        let pair = |begins: bool, takes: bool| -> Result<QueuePair<Reset>, Fatal> {
            let wanted = Wanted {
                transport: shape.verbs.transport,
                sends: if begins { sends } else { 1 },
                receives: if takes { receives } else { 1 },
                inline: if begins { inline } else { 0 },
                interface: shape.engine.interface,
            };
            QueuePair::new(&port.domain, wanted, &queue, &queue).map_err(fatal)
        };
        let out = (0..part.out).map(|_| pair(true, part.pingpong));
        let into = (0..part.into).map(|_| pair(part.pingpong, part.takes));
        let pairs = Both {
            out: out.collect::<Result<_, _>>()?,
            into: into.collect::<Result<_, _>>()?,
        };
        Ok((queue, pairs))
    }

    /// Posts the receives of a queue pair that takes any, before the other side may reach it.
    pub(crate) fn receives(
        &self,
        memory: &Memory,
        part: Part,
        way: Way,
        lane: usize,
        pair: &mut QueuePair<Init>,
    ) -> Result<Option<Receives>, Fatal> {
        let shape = self.shape;
        let Some(region) = memory.received.as_ref() else {
            return Ok(None);
        };
        if way == Way::Out && !part.pingpong {
            return Ok(None);
        }
        let (places, each) = (shape.receive_places(), shape.receives());
        let len = match shape.verbs.transport {
            Transport::Ud => shape.bytes() + HEADER,
            _ if matches!(shape.workload.op, Op::Send | Op::SendPingPong) => shape.bytes(),
            _ => Bytes(1),
        };
        let mut receives = Sink::receives(region, places, len, lane, each);
        if !self.faults.no_receives {
            let all: Vec<u32> = (0..each as u32).collect();
            pair.receive(&mut receives, &all)
                .map_err(|e| Fatal(e.to_string()))?;
        }
        Ok(Some(receives))
    }
}
