//! `native`: our own driver under the one loop.

use std::time::{Duration, Instant};

use strata_measure::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, OpKind, Outcome, Refusal, Refused, Slot, Stuck,
    Tick, Wait,
};
use strata_record::Completes;
use strata_units::Bytes;

use crate::requests::{Requests, Unposted, explain};

/// How long the end of a trial waits for what is still in flight before it is called back.
const DRAIN: Duration = Duration::from_secs(1);

/// Polls a queue pair of its own.
pub(crate) struct Native {
    requests: Requests<Buffers>,
    /// What is in flight: the slot, and how many bytes it moves.
    slots: Box<[(Option<Slot>, u32)]>,
    /// All bits where the controller moves data; the null controller does not.
    moves: u32,
}

impl Native {
    /// As many slots as the requests have.
    pub(crate) fn new(requests: Requests<Buffers>, depth: u16, moves: bool) -> Native {
        Native {
            requests,
            slots: (0..depth).map(|_| (None, 0)).collect(),
            moves: if moves { u32::MAX } else { 0 },
        }
    }
}

impl Engine for Native {
    fn limits(&self) -> Limits {
        Limits {
            depth: self.slots.len() as u16,
            align: self.requests.namespace().block,
            completes: Completes::Device,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    #[inline(always)]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        let number = slot.index();
        let posted = self
            .requests
            .post(number, op.kind == OpKind::Write, op.at, op.len);
        match posted {
            Ok(()) => {
                self.slots[number] = (Some(slot), op.len.0 as u32);
                Ok(())
            }
            Err(why) => Err(self.refused(slot, op, why)),
        }
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        self.requests.ring().map_err(Fatal)
    }

    #[inline(always)]
    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let (slots, moves) = (&mut self.slots, self.moves);
        let reaped = self.requests.reap(|number, answer| {
            // Each request is answered once, by the identifiers of its commands.
            let (slot, len) = &mut slots[number];
            let (Some(slot), len) = (slot.take(), *len) else {
                return;
            };
            let outcome = match answer {
                Ok(()) => Outcome::Done(Bytes(u64::from(len & moves))),
                Err(failure) => Outcome::Failed(FailCode(failure.code())),
            };
            done(slot, outcome);
        });
        reaped.map_err(Fatal)
    }

    fn quiesce(&mut self, by: Tick) -> Result<(), Stuck> {
        let _ = by;
        self.requests.settle(Instant::now() + DRAIN);
        match self.requests.outstanding() {
            0 => Ok(()),
            operations => Err(Stuck {
                operations,
                why: self.requests.ended().unwrap_or_default().to_owned(),
            }),
        }
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(self.requests.memory())
    }

    fn explain(&self, code: FailCode) -> String {
        explain(code.0)
    }
}

impl Native {
    /// Slots that are out.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        let slots = self.slots.iter().filter(|(slot, _)| slot.is_some()).count();
        slots.max(self.requests.outstanding())
    }

    #[cold]
    fn refused(&self, slot: Slot, op: Op, why: Unposted) -> Refused {
        let why = match (why, self.requests.ended()) {
            (_, Some(why)) => Refusal::Fatal(Fatal(why.to_owned())),
            (Unposted::Full, None) => Refusal::Full,
            (Unposted::Misplaced, None) => Refusal::Fatal(Fatal(format!(
                "{} at {} lie not in whole blocks within the namespace; this is a bug of strata",
                op.len,
                Bytes(op.at.0)
            ))),
        };
        Refused { slot, op, why }
    }
}
