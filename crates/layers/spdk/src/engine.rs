//! `spdk`: a queue pair of SPDK's under the one loop.

use std::time::{Duration, Instant};

use strata_measure::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, OpKind, Outcome, Refusal, Refused, Slot, Stuck,
    Tick, Wait,
};
use strata_memory::Region;
use strata_nvme_spec::Status;
use strata_record::Completes;
use strata_units::{Bytes, NodeId, QueueDepth};

use crate::{Controller, Doing, Post, QueuePair, Queues, SpdkError};

/// How long the end of a trial waits for what is still in flight, before the queue pair is closed under it.
const DRAIN: Duration = Duration::from_secs(1);

/// What of a controller an engine works on, and with how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The namespace.
    pub namespace: u32,
    /// Its logical block.
    pub block: Bytes,
    /// The longest operation: whole blocks.
    pub len: Bytes,
    /// Operations in flight.
    pub depth: QueueDepth,
    /// Where their buffers lie.
    pub node: Option<NodeId>,
}

/// Polls a queue pair of its own.
pub struct SpdkEngine {
    /// None when it was closed under what never came back.
    pair: Option<QueuePair>,
    buffers: Buffers,
    /// What is in flight: the slot, and how many bytes it moves.
    slots: Box<[(Option<Slot>, u32)]>,
    block: Bytes,
}

impl SpdkEngine {
    /// On this thread.
    ///
    /// # Errors
    /// There is no memory, or no queue pair for it.
    pub fn new(controller: &Controller, part: &Part) -> Result<SpdkEngine, SpdkError> {
        let depth = part.depth.get();
        let room = Buffers::stride_of(part.len) * u64::from(depth);
        let memory = controller.spdk().memory(room, part.node)?;
        let largest = controller.largest().0.max(1);
        let queues = Queues {
            namespace: part.namespace,
            slots: depth,
            // What is split further, at a boundary of the device's, waits for room in SPDK.
            commands: u32::try_from(part.len.0.div_ceil(largest)).unwrap_or(u32::MAX),
            late_doorbell: true,
        };
        Ok(SpdkEngine {
            pair: Some(controller.queue_pair(&queues)?),
            buffers: Buffers::lent(part.depth, part.len, Region::lent(Box::new(memory), false)),
            slots: (0..depth).map(|_| (None, 0)).collect(),
            block: part.block,
        })
    }

    fn outstanding(&self) -> usize {
        self.slots.iter().filter(|(slot, _)| slot.is_some()).count()
    }
}

fn fatal(why: SpdkError) -> Fatal {
    Fatal(why.to_string())
}

impl Engine for SpdkEngine {
    fn limits(&self) -> Limits {
        Limits {
            depth: self.slots.len() as u16,
            align: self.block,
            completes: Completes::Device,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    #[inline(always)]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        let number = slot.index();
        let buffer = self.buffers.of(&slot).as_ptr();
        let Some(pair) = &mut self.pair else {
            let why = Refusal::Fatal(Fatal("the queue pair is closed".to_owned()));
            return Err(Refused { slot, op, why });
        };
        let post = Post {
            doing: match op.kind {
                OpKind::Write => Doing::Write,
                _ => Doing::Read,
            },
            slot: number as u16,
            block: op.at.0 / self.block.0,
            blocks: (op.len.0 / self.block.0) as u32,
            buffer,
        };
        // SAFETY: the buffer is the slot's, of SPDK's memory and as long as the longest operation; it outlives the queue pair,
        // which `drop` and `quiesce` close first. The slot is ours alone until its completion has come.
        unsafe { pair.post(post) };
        self.slots[number] = (Some(slot), op.len.0 as u32);
        Ok(())
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        let Some(pair) = &mut self.pair else {
            return Ok(());
        };
        pair.ring().map_err(fatal)
    }

    #[inline(always)]
    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let Some(pair) = &mut self.pair else {
            return Ok(0);
        };
        let came = pair.poll().map_err(fatal)?;
        let mut reaped = 0;
        for told in came {
            let (slot, len) = &mut self.slots[usize::from(told.slot)];
            let Some(slot) = slot.take() else { continue };
            reaped += 1;
            let outcome = if told.status.is_success() {
                Outcome::Done(Bytes(u64::from(*len)))
            } else {
                Outcome::Failed(FailCode(i32::from(told.status.field())))
            };
            done(slot, outcome);
        }
        Ok(reaped)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        let until = Instant::now() + DRAIN;
        while self.outstanding() > 0 && Instant::now() < until {
            let more = self.ring().and_then(|()| self.reap(Wait::Spin, |_, _| {}));
            if more.is_err() {
                break;
            }
        }
        if self.outstanding() > 0 {
            // SPDK ends what is in flight as it closes the queue pair, before the buffers go.
            self.pair = None;
        }
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.buffers)
    }

    fn explain(&self, code: FailCode) -> String {
        match u16::try_from(code.0) {
            Ok(field) => {
                let status = Status::from_field(field);
                format!("{status}: {}", status.next())
            }
            Err(_) => format!("code {}", code.0),
        }
    }
}
