//! What the suite writes: every sector says where it belongs, which write it is of and what its body sums up to, so that
//! a read can be checked by any process; and its body is random and another one in each write, so that nothing below
//! compresses or dedups it.
//!
//! A sector of 512 bytes begins with five little-endian words: the mark, the sector's number from the start of the
//! target, the epoch of the trial that wrote it (nanoseconds since 1970), the generation of the write within its trial
//! and thread (0 for a filling), and the checksum. The checksum is linear over GF(2) in the body, so that a body that is
//! changed by adding one key to each of its words needs no second look.

use strata_stats::{Rng, split_mix};
use strata_units::{ByteOffset, Bytes};

use crate::Buffer;

/// Sectors that carry a number.
pub const SECTOR: Bytes = Bytes(512);

const SECTOR_USIZE: usize = 512;
const MARK: u64 = u64::from_le_bytes(*b"strata\x02\n");

/// Words of a sector, and those before its body.
const WORDS: usize = SECTOR_USIZE / 8;
const HEADER: usize = 5;

/// Which write a sector is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The trial, or the filling: when it began, in nanoseconds since 1970.
    pub epoch: u64,
    /// The write within it, from 1; 0 for a filling.
    pub generation: u64,
}

/// An epoch that begins now.
pub fn epoch() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // Before 1970 or after 2554 no machine's clock is right.
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Why a sector does not hold what belongs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The suite did not write it.
    #[error("does not carry the suite's mark")]
    Foreign,
    /// It belongs elsewhere.
    #[error("holds what belongs to sector {0}")]
    Misplaced(u64),
    /// Its checksum is another one.
    #[error("has a checksum that does not fit its contents")]
    Corrupt,
    /// It is older than what was acknowledged.
    #[error("holds an older write than the one that was acknowledged")]
    Stale,
    /// It is of a write that was never made.
    #[error("holds a write that was never made")]
    Unmade,
}

/// A sector that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its number on the target.
    pub sector: u64,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// The sum of a body: each word, turned by its place.
fn sum(words: impl Iterator<Item = u64>) -> u64 {
    (0..).zip(words).fold(0, |sum, (place, word): (u32, u64)| {
        sum ^ word.rotate_left(place)
    })
}

/// What `key`, added to every word of a body, adds to its sum.
fn sum_of_key(key: u64) -> u64 {
    sum(std::iter::repeat_n(key, WORDS - HEADER))
}

fn checksum(number: u64, stamp: Stamp, body: u64) -> u64 {
    let mut state = number;
    for part in [stamp.epoch, stamp.generation, body] {
        state = split_mix(&mut state) ^ part;
    }
    split_mix(&mut state)
}

/// A sector's stamp, if it is one of ours, belongs to `number` and is whole.
fn judge(number: u64, word: impl Fn(usize) -> u64) -> Result<Stamp, Wrong> {
    if word(0) != MARK {
        return Err(Wrong::Foreign);
    }
    let stamp = Stamp {
        epoch: word(2),
        generation: word(3),
    };
    if word(4) != checksum(word(1), stamp, sum((HEADER..WORDS).map(&word))) {
        return Err(Wrong::Corrupt);
    }
    if word(1) != number {
        return Err(Wrong::Misplaced(word(1)));
    }
    Ok(stamp)
}

/// Fills `block`, whose first byte stands at `at` on the target, with sectors of random bytes that carry their numbers.
pub fn fill(block: &mut [u8], at: ByteOffset, epoch: u64, random: &mut Rng) {
    let stamp = Stamp {
        epoch,
        generation: 0,
    };
    let first = at.0 / SECTOR.0;
    for (n, sector) in (first..).zip(block.chunks_exact_mut(SECTOR_USIZE)) {
        let (header, body) = sector.split_at_mut(HEADER * 8);
        let mut words = [0; WORDS - HEADER];
        for (word, bytes) in words.iter_mut().zip(body.chunks_exact_mut(8)) {
            *word = random.next_u64();
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let check = checksum(n, stamp, sum(words.into_iter()));
        let words = [MARK, n, stamp.epoch, stamp.generation, check];
        for (word, bytes) in words.into_iter().zip(header.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// The stamp of a sector in memory that nobody else writes to.
///
/// # Errors
/// What is wrong with it; one that is cut short is foreign.
pub fn stamp_of(sector: &[u8], number: u64) -> Result<Stamp, Wrong> {
    let mut words = [0; WORDS];
    let bytes = sector.get(..SECTOR_USIZE).ok_or(Wrong::Foreign)?;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut exact = [0; 8];
        exact.copy_from_slice(bytes);
        *word = u64::from_le_bytes(exact);
    }
    judge(number, |at| words[at])
}

/// Random bytes for the bodies of sectors that are to be written later.
pub fn fill_body(buffer: &Buffer<'_>, random: &mut Rng) {
    for at in (0..buffer.len()).step_by(8) {
        buffer.set_word(at, random.next_u64());
    }
}

/// The first `len` bytes of `buffer`, read from `at`: the stamp of each sector in turn, or what is wrong with it by itself,
/// is given to `see`.
///
/// # Errors
/// The first sector that is wrong by what `see` says.
pub fn check(
    buffer: &Buffer<'_>,
    at: ByteOffset,
    len: Bytes,
    mut see: impl FnMut(Result<Stamp, Wrong>) -> Result<(), Wrong>,
) -> Result<(), Fault> {
    let first = at.0 / SECTOR.0;
    for (sector, start) in (first..).zip((0..len.as_usize()).step_by(SECTOR_USIZE)) {
        // A place outside of the buffer carries no mark.
        let word = |n: usize| buffer.word(start + n * 8).map_or(0, u64::from_le);
        see(judge(sector, word)).map_err(|wrong| Fault { sector, wrong })?;
    }
    Ok(())
}

/// Stamps what is about to be written, for one thread of a trial.
pub(crate) struct Stamper {
    epoch: u64,
    generation: u64,
    /// Draws the keys.
    random: u64,
    /// The sums of the bodies of each slot's sectors, one slot after the other, and whether they are known.
    sums: Vec<u64>,
    known: Vec<bool>,
    sectors: usize,
}

impl Stamper {
    /// For `depth` slots with blocks of `len` bytes; none for a trial that stamps nothing.
    pub(crate) fn new(depth: usize, len: Bytes, epoch: u64, random: u64) -> Stamper {
        let sectors = len.as_usize() / SECTOR_USIZE;
        Stamper {
            epoch,
            generation: 0,
            random,
            sums: vec![0; depth * sectors],
            known: vec![false; depth],
            sectors,
        }
    }

    /// A read brings other bodies into a slot's buffer.
    #[inline]
    pub(crate) fn spoiled(&mut self, slot: usize) {
        if let Some(known) = self.known.get_mut(slot) {
            *known = false;
        }
    }

    /// Makes what is in a slot's `buffer` another block, which belongs to `at`; its generation.
    ///
    /// Nothing may be in flight on the buffer.
    #[inline]
    pub(crate) fn stamp(&mut self, slot: usize, buffer: &Buffer<'_>, at: ByteOffset) -> u64 {
        self.generation += 1;
        let stamp = Stamp {
            epoch: self.epoch,
            generation: self.generation,
        };
        let first = at.0 / SECTOR.0;
        let Some(sums) = self
            .sums
            .get_mut(slot * self.sectors..(slot + 1) * self.sectors)
        else {
            return self.generation;
        };
        if !std::mem::replace(&mut self.known[slot], true) {
            for (sector, body) in sums.iter_mut().enumerate() {
                let start = sector * SECTOR_USIZE;
                let word = |n: usize| buffer.word(start + n * 8).map_or(0, u64::from_le);
                *body = sum((HEADER..WORDS).map(word));
            }
        }
        let key = split_mix(&mut self.random);
        buffer.add_key(key.to_le(), sums.len() * SECTOR_USIZE);
        let more = sum_of_key(key);
        for (sector, body) in sums.iter_mut().enumerate() {
            *body ^= more;
            let number = first + sector as u64;
            let check = checksum(number, stamp, *body);
            let start = sector * SECTOR_USIZE;
            for (n, word) in [MARK, number, stamp.epoch, stamp.generation, check]
                .into_iter()
                .enumerate()
            {
                buffer.set_word(start + n * 8, word.to_le());
            }
        }
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffers, Slot};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_assume, proptest};
    use strata_memory::{Huge, Lock, Want};
    use strata_units::QueueDepth;

    const EPOCH: u64 = 1_700_000_000_000_000_000;

    fn page() -> Buffers {
        let want = Want {
            bytes: Bytes(0),
            node: None,
            huge: Huge::Never,
            lock: Lock::Never,
        };
        Buffers::new(QueueDepth::ONE, Bytes(4096), want).expect("a page")
    }

    fn bytes(buffer: &Buffer<'_>) -> Vec<u8> {
        (0..4096)
            .step_by(8)
            .flat_map(|at| buffer.word(at).expect("inside").to_ne_bytes())
            .collect()
    }

    #[test]
    fn filled_sectors_carry_their_numbers() {
        let mut block = vec![0u8; 4096];
        fill(&mut block, ByteOffset(1 << 20), EPOCH, &mut Rng::new(1));
        let stamp = Stamp {
            epoch: EPOCH,
            generation: 0,
        };
        for (n, sector) in (2048..).zip(block.chunks(512)) {
            assert_eq!(stamp_of(sector, n), Ok(stamp));
            assert_eq!(stamp_of(sector, n + 1), Err(Wrong::Misplaced(n)));
        }
        assert_eq!(stamp_of(&[0; 512], 0), Err(Wrong::Foreign));
        assert_eq!(stamp_of(&block[..511], 2048), Err(Wrong::Foreign));
        let zeros = block.iter().filter(|b| **b == 0).count();
        assert!(zeros < 300, "bodies are random, {zeros} zero bytes of 4096");
    }

    #[test]
    fn a_stamp_is_found_and_a_wrong_place_too() {
        let buffers = page();
        let slot = Slot::new(0);
        let buffer = buffers.of(&slot);
        fill_body(&buffer, &mut Rng::new(3));
        let mut stamper = Stamper::new(1, Bytes(4096), EPOCH, 9);
        let mut seen = Vec::new();
        for generation in 1..=3 {
            assert_eq!(stamper.stamp(0, &buffer, ByteOffset(8192)), generation);
            let found = check(&buffer, ByteOffset(8192), Bytes(4096), |s| {
                seen.push(s?.generation);
                Ok(())
            });
            assert_eq!(found, Ok(()));
        }
        assert_eq!(seen, [[1; 8], [2; 8], [3; 8]].concat());
        let at = |at: u64| check(&buffer, ByteOffset(at), Bytes(4096), |s| s.map(drop));
        let misplaced = Fault {
            sector: 8,
            wrong: Wrong::Misplaced(16),
        };
        assert_eq!(at(4096), Err(misplaced));
        let beyond = check(&buffer, ByteOffset(8192), Bytes(8192), |s| s.map(drop));
        let foreign = Fault {
            sector: 24,
            wrong: Wrong::Foreign,
        };
        assert_eq!(beyond, Err(foreign), "nothing outside");
        let stale = check(&buffer, ByteOffset(8192), Bytes(4096), |_| {
            Err(Wrong::Stale)
        });
        assert_eq!(stale.map_err(|f| f.wrong), Err(Wrong::Stale));
    }

    #[test]
    fn what_a_read_brought_is_summed_up_again() {
        let buffers = page();
        let slot = Slot::new(0);
        let buffer = buffers.of(&slot);
        let mut stamper = Stamper::new(1, Bytes(4096), EPOCH, 9);
        fill_body(&buffer, &mut Rng::new(1));
        stamper.stamp(0, &buffer, ByteOffset(0));
        fill_body(&buffer, &mut Rng::new(2));
        stamper.spoiled(0);
        stamper.stamp(0, &buffer, ByteOffset(0));
        assert_eq!(
            check(&buffer, ByteOffset(0), Bytes(4096), |s| s.map(drop)),
            Ok(())
        );
    }

    #[test]
    fn no_two_writes_have_a_word_of_their_bodies_in_common() {
        let buffers = page();
        let slot = Slot::new(0);
        let buffer = buffers.of(&slot);
        fill_body(&buffer, &mut Rng::new(5));
        let mut stamper = Stamper::new(1, Bytes(4096), EPOCH, 9);
        let mut words = std::collections::BTreeSet::new();
        let (writes, sectors) = (64, 8);
        for n in 0..writes {
            stamper.stamp(0, &buffer, ByteOffset(4096 * n));
            for sector in bytes(&buffer).chunks(512) {
                for word in sector[HEADER * 8..].chunks(8) {
                    words.insert(word.to_owned());
                }
            }
        }
        assert_eq!(
            words.len() as u64,
            writes * sectors * (WORDS - HEADER) as u64
        );
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(bit in 0usize..4096, seed in any::<u64>()) {
            let mut sector = vec![0u8; 512];
            fill(&mut sector, ByteOffset(512 * 7), EPOCH, &mut Rng::new(seed));
            prop_assert!(stamp_of(&sector, 7).is_ok());
            sector[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(stamp_of(&sector, 7).is_err());
        }

        #[test]
        fn two_words_of_a_body_in_turned_places_are_found(a in HEADER..WORDS, b in HEADER..WORDS) {
            prop_assume!(a != b);
            let mut sector = vec![0u8; 512];
            fill(&mut sector, ByteOffset(0), EPOCH, &mut Rng::new(1));
            for n in 0..8 {
                sector.swap(a * 8 + n, b * 8 + n);
            }
            prop_assert_eq!(stamp_of(&sector, 0), Err(Wrong::Corrupt));
        }

        #[test]
        fn a_key_adds_to_the_sum_what_it_is_told_to(words in proptest::collection::vec(any::<u64>(), WORDS - HEADER), key in any::<u64>()) {
            let turned = sum(words.iter().map(|w| w ^ key));
            prop_assert_eq!(turned, sum(words.into_iter()) ^ sum_of_key(key));
        }
    }
}
