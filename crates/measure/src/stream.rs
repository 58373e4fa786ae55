//! The stream of operations: which kind, where, how long. One concrete type for every layer and pattern.

use strata_record::Op as Mix;
use strata_stats::{Rng, split_mix};
use strata_units::{ByteOffset, Bytes};

use crate::{Ledger, Op, OpKind, payload};

/// In which order places are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Each block of the region is as likely as any other, every time.
    Random,
    /// Each block of the region once, in an order that looks random, and then all of them again in another one.
    EachOnce,
    /// Block after block, from the start again after the end.
    Sequential,
}

/// The order of a lap in which each block comes once: a permutation of the numbers below the next power of two, of which
/// those that are no block are passed over. It takes no memory, where a map of visited blocks takes a bit each and ever
/// longer searches.
#[derive(Debug, Clone, Copy)]
struct Lap {
    mask: u64,
    shift: u32,
    /// Of the threads that share the laps, each takes every so manyeth number, from its own on.
    step: u64,
    own: u64,
    /// Draws the keys of each lap; equal on all threads.
    keys: u64,
    key: (u64, u64),
    next: u64,
}

impl Lap {
    fn new(blocks: u64, seed: u64, thread: u64, threads: u64) -> Lap {
        let size = blocks.next_power_of_two();
        let mut lap = Lap {
            mask: size - 1,
            shift: (size.trailing_zeros() / 2).max(1),
            step: threads,
            // More threads than blocks have some in common.
            own: thread & (size - 1),
            keys: seed,
            key: (0, 0),
            next: thread,
        };
        lap.turn();
        lap
    }

    #[cold]
    fn turn(&mut self) {
        self.key = (split_mix(&mut self.keys), split_mix(&mut self.keys));
        self.next = self.own;
    }

    /// Multiplying by an odd number, adding, and adding the upper half to the lower one can each be undone below a power
    /// of two, and so can their chain: no number comes twice.
    #[inline(always)]
    fn permuted(&self, n: u64) -> u64 {
        let (a, b) = self.key;
        let mut x = n.wrapping_add(a) & self.mask;
        for factor in [
            0x9e37_79b9_7f4a_7c15,
            0xbf58_476d_1ce4_e5b9 ^ (b << 1),
            0x94d0_49bb_1331_11eb,
        ] {
            x = x.wrapping_mul(factor | 1) & self.mask;
            x ^= x >> self.shift;
            x = x.wrapping_add(b) & self.mask;
        }
        x
    }

    /// Not inlined: the registers that it takes are the other patterns' too.
    #[inline(never)]
    fn next(&mut self, blocks: u64) -> u64 {
        loop {
            if self.next > self.mask {
                self.turn();
                continue;
            }
            let x = self.permuted(self.next);
            self.next += self.step;
            if x < blocks {
                return x;
            }
        }
    }
}

/// An endless stream of operations of one size. Seeded: the same seed gives the same stream.
#[derive(Debug)]
pub struct Stream {
    random: u64,
    pattern: Pattern,
    blocks: u64,
    len: Bytes,
    /// Where the first block begins.
    from: ByteOffset,
    next: u64,
    lap: Lap,
    kind: OpKind,
    other: OpKind,
    /// Below it, of 2³², `kind` is drawn, else `other`.
    threshold: u64,
    checked: bool,
    stamped: bool,
    ledger: Option<Ledger>,
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
            Mix::Stream | Mix::WriteImm | Mix::Send | Mix::FetchAdd => {
                (Pattern::Sequential, OpKind::Send, OpKind::Send, whole)
            }
            Mix::ReqRep | Mix::WritePingPong | Mix::WriteImmPingPong | Mix::SendPingPong => (
                Pattern::Sequential,
                OpKind::Exchange,
                OpKind::Exchange,
                whole,
            ),
        };
        let blocks = blocks.max(1);
        Stream {
            // Neighbouring seeds shall not give neighbouring streams.
            random: Rng::new(seed).next_u64(),
            pattern,
            blocks,
            len,
            from: ByteOffset(0),
            next: 0,
            lap: Lap::new(blocks, seed, 0, 1),
            kind,
            other,
            threshold,
            checked: false,
            stamped: mix.is_storage() && mix.writes(),
            ledger: None,
        }
    }

    /// The first block begins here on the target, rather than at its start.
    #[must_use]
    pub fn from(mut self, from: ByteOffset) -> Stream {
        self.from = from;
        self
    }

    /// Random places come each once before any comes again: `threads` threads with one `seed` share the laps, of which
    /// this is number `thread`. A sequential stream stays as it is.
    #[must_use]
    pub fn each_once(mut self, seed: u64, thread: usize, threads: usize) -> Stream {
        if self.pattern == Pattern::Random {
            self.pattern = Pattern::EachOnce;
            self.lap = Lap::new(self.blocks, seed, thread as u64, threads.max(1) as u64);
        }
        self
    }

    /// Its writes are kept in this ledger, whose blocks are those of the stream, and its reads checked against it.
    #[must_use]
    pub fn recorded(mut self, ledger: Ledger) -> Stream {
        self.ledger = Some(ledger);
        self.checked = true;
        self
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
    pub(crate) fn unchecked(&self) -> Stream {
        Stream {
            checked: false,
            stamped: false,
            ledger: None,
            ..*self
        }
    }

    /// The epoch of its writes: the ledger's, or now.
    pub(crate) fn epoch(&self) -> u64 {
        self.ledger
            .as_ref()
            .map_or_else(payload::epoch, |ledger| ledger.head().epoch)
    }

    /// The ledger, for the loop.
    pub(crate) fn take_ledger(&mut self) -> Option<Ledger> {
        self.ledger.take()
    }

    /// Size of an operation.
    pub(crate) fn len(&self) -> Bytes {
        self.len
    }

    /// A number of this stream alone.
    pub(crate) fn seed(&self) -> u64 {
        self.random
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
            Pattern::EachOnce => {
                let bits = split_mix(&mut self.random);
                let kind = if (bits & 0xffff_ffff) < self.threshold {
                    self.kind
                } else {
                    self.other
                };
                (self.lap.next(self.blocks), kind)
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
            at: ByteOffset(self.from.0 + block * self.len.0),
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
    fn each_block_comes_once_a_lap_over_all_threads() {
        for (blocks, threads) in [(1, 1), (2, 1), (3, 2), (16, 1), (1000, 3), (4097, 4)] {
            let mut streams: Vec<Stream> = (0..threads)
                .map(|n| {
                    Stream::new(Mix::RandRead, Bytes(512), blocks, n as u64)
                        .each_once(11, n, threads)
                })
                .collect();
            for lap in 0..3u32 {
                let mut seen = vec![0u32; blocks as usize];
                let mut order = Vec::new();
                for stream in &mut streams {
                    // What a thread draws of one lap, before its keys turn: seen by looking ahead.
                    let mut turns = 0;
                    loop {
                        let mut ahead = stream.unchecked();
                        let block = ahead.next_op().at.0 / 512;
                        turns += u32::from(ahead.lap.key != stream.lap.key);
                        if turns > u32::from(lap > 0) {
                            break;
                        }
                        seen[block as usize] += 1;
                        order.push(block);
                        *stream = ahead;
                    }
                }
                assert!(seen.iter().all(|n| *n == 1), "{blocks} blocks: {seen:?}");
                let steps = order.windows(2).filter(|w| w[1] == w[0] + 1).count();
                assert!(
                    blocks < 1000 || steps < 20,
                    "{steps} steps of one in {blocks}"
                );
            }
        }
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
            for (mix, once) in [(Mix::RandRead, false), (Mix::RandRead, true), (Mix::Write, false)] {
                let from = ByteOffset(1 << 20);
                let mut stream = Stream::new(mix, Bytes(4096), blocks, seed).starting_at(part).from(from);
                if once {
                    stream = stream.each_once(seed, 1, 2);
                }
                for _ in 0..50 {
                    let op = stream.next_op();
                    prop_assert!(op.at >= from && op.at.0 + op.len.0 <= from.0 + blocks.max(1) * 4096);
                    prop_assert_eq!(op.at.0 % 4096, 0);
                }
            }
        }
    }
}
