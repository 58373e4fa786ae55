//! The engine that does nothing: what is left is what measuring itself costs.

use strata_record::Completes;
use strata_units::{Bytes, QueueDepth};

use crate::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, Outcome, Refused, Slot, Stuck, Tick, Wait,
};

/// Completes each operation at the next `reap`, in order.
pub struct NullEngine {
    held: Vec<(Slot, Bytes)>,
}

impl NullEngine {
    /// For `depth` operations in flight.
    pub fn new(depth: QueueDepth) -> NullEngine {
        NullEngine {
            held: Vec::with_capacity(usize::from(depth.get())),
        }
    }
}

impl Engine for NullEngine {
    fn limits(&self) -> Limits {
        Limits {
            depth: QueueDepth::MAX.get(),
            align: Bytes(1),
            completes: Completes::AcceptedLocally,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        self.held.push((slot, op.len));
        Ok(())
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    #[inline]
    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let n = self.held.len();
        for (slot, len) in self.held.drain(..) {
            done(slot, Outcome::Done(len));
        }
        Ok(n)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        self.held.clear();
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        None
    }

    fn explain(&self, code: FailCode) -> String {
        format!("the null engine has no failures, and yet code {}", code.0)
    }
}
