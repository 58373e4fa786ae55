//! What a trial on real data adds to the loop: a stamp before a write, a check after a read, and the ledger of both.
//!
//! Nothing here is inlined into the loop: a trial that looks into no buffer pays one predictable branch for it.

use std::collections::{HashSet, VecDeque};

use strata_units::ByteOffset;

use crate::payload::{self, Fault, Stamper, Wrong};
use crate::{Engine, Ledger, Op, OpKind, Slot, Stream};

/// Why a ledger takes no more.
pub(crate) const FULL: &str = "a thread made 4294967295 verified writes, which is what a ledger holds; give a shorter --duration";

/// So many operations on blocks that are being written are put off until one of them is free.
const MOST_PUT_OFF: usize = 64;

/// What is in the blocks, of one thread of a trial.
pub(crate) struct Content {
    stamper: Option<Stamper>,
    ledger: Option<Ledger>,
    checked: bool,
    /// What each slot is at, and the last acknowledged write of its block when it was posted; kept only where reads are
    /// checked.
    posted: Vec<Option<(Op, u32)>>,
    /// Drawn, but on a block with a write in flight.
    put_off: VecDeque<Op>,
    /// The blocks whose last write failed: none is in flight, though it was never acknowledged.
    failed: HashSet<ByteOffset>,
}

impl Content {
    /// Of one trial of `stream` with `depth` slots; none where nobody looks into the blocks.
    pub(crate) fn of(stream: &mut Stream, depth: usize) -> Option<Content> {
        if !stream.is_stamped() && !stream.is_checked() {
            return None;
        }
        Some(Content {
            stamper: stream
                .is_stamped()
                .then(|| Stamper::new(depth, stream.len(), stream.epoch(), stream.seed())),
            checked: stream.is_checked(),
            posted: vec![None; if stream.is_checked() { depth } else { 0 }],
            put_off: VecDeque::with_capacity(MOST_PUT_OFF),
            failed: HashSet::new(),
            ledger: stream.take_ledger(),
        })
    }

    /// Whether reads are checked and writes acknowledged: then [`Content::reaped`] wants to see what came back.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked
    }

    /// The next operation, that was `refused` or is drawn, ready to be posted in `slot`; none until something completes.
    ///
    /// A write is stamped, and stands in the ledger before the engine has it, so that no write is on the target that was
    /// not posted.
    ///
    /// # Errors
    /// [`FULL`].
    #[inline(never)]
    pub(crate) fn next<E: Engine>(
        &mut self,
        refused: Option<Op>,
        stream: &mut Stream,
        engine: &E,
        slot: &Slot,
    ) -> Result<Option<Op>, &'static str> {
        let Some(op) = refused.or_else(|| self.draw(stream)) else {
            return Ok(None);
        };
        if let Some(stamper) = &mut self.stamper {
            if op.kind == OpKind::Write {
                let generation = stamper.stamp(slot.index(), &engine.buffer(slot), op.at);
                if let Some(ledger) = &self.ledger {
                    ledger.post(op.at, u32::try_from(generation).map_err(|_| FULL)?);
                    self.failed.remove(&op.at);
                }
            } else {
                stamper.spoiled(slot.index());
            }
        }
        if let Some(posted) = self.posted.get_mut(slot.index()) {
            let entry = self.ledger.as_ref().and_then(|ledger| ledger.entry(op.at));
            *posted = Some((op, entry.map_or(0, |(_, acknowledged)| acknowledged)));
        }
        Ok(Some(op))
    }

    /// An operation on a block without a write in flight, those that were put off first; none while there are too many
    /// of these. None is left out.
    fn draw(&mut self, stream: &mut Stream) -> Option<Op> {
        let Some(ledger) = &self.ledger else {
            return Some(stream.next_op());
        };
        let busy = |op: &Op| ledger.is_open(op.at) && !self.failed.contains(&op.at);
        if let Some(n) = self.put_off.iter().position(|op| !busy(op)) {
            return self.put_off.remove(n);
        }
        while self.put_off.len() < MOST_PUT_OFF {
            let op = stream.next_op();
            if !busy(&op) {
                return Some(op);
            }
            self.put_off.push_back(op);
        }
        None
    }

    /// The operation of the slot `index` failed.
    #[cold]
    pub(crate) fn failed(&mut self, index: usize) {
        let op = self.posted.get_mut(index).and_then(Option::take);
        if let Some((op, _)) = op
            && op.kind == OpKind::Write
        {
            self.failed.insert(op.at);
        }
    }

    /// The slots `indices` came back, those that failed among them: writes are acknowledged, reads checked. Each fault is
    /// given to `tell`.
    #[inline(never)]
    pub(crate) fn reaped<E: Engine>(
        &mut self,
        engine: &E,
        indices: &[u16],
        mut tell: impl FnMut(Fault),
    ) {
        for index in indices {
            let Some((op, acknowledged)) = self.posted[usize::from(*index)].take() else {
                continue;
            };
            if op.kind != OpKind::Read {
                if let Some(ledger) = &self.ledger {
                    ledger.acknowledge(op.at);
                }
                continue;
            }
            let recorded = self
                .ledger
                .as_ref()
                .and_then(|ledger| Some((ledger, ledger.entry(op.at)?.0)));
            let buffer = engine.buffer(&Slot::new(*index));
            let checked = payload::check(&buffer, op.at, op.len, |found| match recorded {
                Some((ledger, posted)) => ledger.allows(acknowledged, posted, found),
                None => found.map(drop),
            });
            // A block that was written while it was read may be of both writes, in the midst of a sector too.
            let torn = recorded.is_some_and(|(_, posted)| posted != acknowledged);
            if let Err(fault) = checked
                && !(torn && fault.wrong == Wrong::Corrupt)
            {
                tell(fault);
            }
        }
    }
}
