//! The stream of operations: which kind, where, how long. One concrete type for every layer and pattern.

use strata_record::Op as Mix;
use strata_stats::{Rng, split_mix};
use strata_units::{ByteOffset, Bytes};

use crate::{Op, OpKind};

/// In which order places are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Each block of the region is as likely as any other, every time.
    Random,
    /// Block after block, from the start again after the end.
    Sequential,
}

/// An endless stream of operations of one size. Seeded: the same seed gives the same stream.
#[derive(Debug, Clone)]
pub struct Stream {
    random: u64,
    pattern: Pattern,
    blocks: u64,
    len: Bytes,
    next: u64,
    kind: OpKind,
    other: OpKind,
    /// Below it, of 2³², `kind` is drawn, else `other`.
    threshold: u64,
    checked: bool,
    stamped: bool,
}

impl Stream {
    /// Operations of `mix` on the first `blocks` blocks of `len` bytes of a target (1 block at least).
    pub fn new(mix: Mix, len: Bytes, blocks: u64, seed: u64) -> Stream {
        let whole = 1u64 << 32;
        let (pattern, kind, other, threshold) = match mix {
            Mix::RandRead => (Pattern::Random, OpKind::Read, OpKind::Read, whole),
            Mix::RandWrite => (Pattern::Random, OpKind::Write, OpKind::Write, whole),
            Mix::RandRw { read_percent } => {
                let threshold = whole * u64::from(read_percent) / 100;
                (Pattern::Random, OpKind::Read, OpKind::Write, threshold)
            }
            Mix::Read => (Pattern::Sequential, OpKind::Read, OpKind::Read, whole),
            Mix::Write => (Pattern::Sequential, OpKind::Write, OpKind::Write, whole),
            Mix::Stream => (Pattern::Sequential, OpKind::Send, OpKind::Send, whole),
            Mix::ReqRep => (
                Pattern::Sequential,
                OpKind::Exchange,
                OpKind::Exchange,
                whole,
            ),
        };
        Stream {
            // Neighbouring seeds shall not give neighbouring streams.
            random: Rng::new(seed).next_u64(),
            pattern,
            blocks: blocks.max(1),
            len,
            next: 0,
            kind,
            other,
            threshold,
            checked: false,
            stamped: mix.is_storage() && mix.writes(),
        }
    }

    /// The receiving end of a stream: reads of up to `len` bytes from the other side.
    pub fn receiving(len: Bytes) -> Stream {
        let mut stream = Stream::new(Mix::Stream, len, 1, 0);
        stream.kind = OpKind::Receive;
        stream.other = OpKind::Receive;
        stream
    }

    /// Each read is checked against the numbers that its sectors carry.
    #[must_use]
    pub fn checked(mut self, checked: bool) -> Stream {
        self.checked = checked;
        self
    }

    /// The same operations without looking into any buffer: for an engine that has none.
    #[must_use]
    pub(crate) fn unchecked(mut self) -> Stream {
        self.checked = false;
        self.stamped = false;
        self
    }

    /// A sequential stream begins at this part of the region, from 0 to 1, so that threads do not walk in step.
    #[must_use]
    pub fn starting_at(mut self, part: f64) -> Stream {
        self.next = ((self.blocks as f64 * part.clamp(0.0, 1.0)) as u64).min(self.blocks - 1);
        self
    }

    /// Whether the loop is to check reads.
    #[inline(always)]
    pub(crate) fn is_checked(&self) -> bool {
        self.checked
    }

    /// Whether the loop is to number the sectors of writes.
    #[inline(always)]
    pub(crate) fn is_stamped(&self) -> bool {
        self.stamped
    }

    /// The next operation. No division: a random block is the high half of a product.
    #[inline(always)]
    pub fn next_op(&mut self) -> Op {
        let (block, kind) = match self.pattern {
            Pattern::Random => {
                let bits = split_mix(&mut self.random);
                let block = ((u128::from(bits) * u128::from(self.blocks)) >> 64) as u64;
                // The low half is independent of the high half, which chose the block.
                let kind = if (bits & 0xffff_ffff) < self.threshold {
                    self.kind
                } else {
                    self.other
                };
                (block, kind)
            }
            Pattern::Sequential => {
                let block = self.next;
                self.next = if block + 1 == self.blocks {
                    0
                } else {
                    block + 1
                };
                (block, self.kind)
            }
        };
        Op {
            kind,
            at: ByteOffset(block * self.len.0),
            len: self.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequential_visits_each_block_once_a_lap() {
        let mut stream = Stream::new(Mix::Read, Bytes(4096), 5, 0).starting_at(0.4);
        let places: Vec<u64> = (0..10).map(|_| stream.next_op().at.0 / 4096).collect();
        assert_eq!(places, [2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
    }

    #[test]
    fn random_reaches_every_block_evenly() {
        let mut stream = Stream::new(Mix::RandRead, Bytes(512), 16, 7);
        let mut seen = [0u32; 16];
        for _ in 0..16_000 {
            seen[(stream.next_op().at.0 / 512) as usize] += 1;
        }
        // 1000 each, standard deviation about 31: six of them.
        assert!(seen.iter().all(|n| (810..1190).contains(n)), "{seen:?}");
    }

    #[test]
    fn a_mix_has_its_share_of_reads() {
        for (percent, low, high) in [(0, 0, 0), (70, 6_700, 7_300), (100, 10_000, 10_000)] {
            let mix = Mix::RandRw {
                read_percent: percent,
            };
            let mut stream = Stream::new(mix, Bytes(4096), 1000, 3);
            let reads = (0..10_000)
                .filter(|_| stream.next_op().kind == OpKind::Read)
                .count();
            assert!(
                (low..=high).contains(&reads),
                "{percent} %: {reads} of 10000"
            );
        }
    }

    proptest! {
        #[test]
        fn no_operation_leaves_the_region(blocks in 0u64..1 << 40, seed in any::<u64>(), part in -1.0f64..2.0) {
            for mix in [Mix::RandRead, Mix::Write] {
                let mut stream = Stream::new(mix, Bytes(4096), blocks, seed).starting_at(part);
                for _ in 0..50 {
                    let op = stream.next_op();
                    prop_assert!(op.at.0 + op.len.0 <= blocks.max(1) * 4096);
                    prop_assert_eq!(op.at.0 % 4096, 0);
                }
            }
        }
    }
}
