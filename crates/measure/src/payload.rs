//! What the suite writes: every sector carries its number, so that a read can be checked, and its body is random, so
//! that nothing below compresses or dedups it.
//!
//! A sector of 512 bytes begins with three little-endian words: the mark, the sector's number from the start of the
//! target, and the generation of the write (0 for the first filling).

use strata_stats::Rng;
use strata_units::{ByteOffset, Bytes};

use crate::Buffer;

/// Sectors that carry a number.
pub const SECTOR: Bytes = Bytes(512);

const SECTOR_USIZE: usize = 512;
const MARK: u64 = u64::from_le_bytes(*b"strata\x01\n");

/// Fills `block`, whose first byte stands at `at` on the target, with numbered sectors of random bytes.
pub fn fill(block: &mut [u8], at: ByteOffset, random: &mut Rng) {
    for word in block.chunks_exact_mut(8) {
        word.copy_from_slice(&random.next_u64().to_le_bytes());
    }
    let first = at.0 / SECTOR.0;
    for (n, sector) in (first..).zip(block.chunks_exact_mut(SECTOR_USIZE)) {
        sector[..8].copy_from_slice(&MARK.to_le_bytes());
        sector[8..16].copy_from_slice(&n.to_le_bytes());
        sector[16..24].copy_from_slice(&0u64.to_le_bytes());
    }
}

/// The number that a sector carries; none when the suite did not write it.
pub fn number(sector: &[u8]) -> Option<u64> {
    let word = |at: usize| {
        sector
            .get(at..at + 8)?
            .try_into()
            .ok()
            .map(u64::from_le_bytes)
    };
    (word(0)? == MARK).then(|| word(8)).flatten()
}

/// Random bytes for the bodies of sectors that are to be written later.
pub fn fill_body(buffer: &Buffer<'_>, random: &mut Rng) {
    for at in (0..buffer.len()).step_by(8) {
        buffer.set_word(at, random.next_u64());
    }
}

/// Numbers the sectors of the first `len` bytes of `buffer`, before they are written to `at`.
pub fn stamp(buffer: &Buffer<'_>, at: ByteOffset, len: Bytes, generation: u64) {
    let first = at.0 / SECTOR.0;
    for (n, start) in (first..).zip((0..len.as_usize()).step_by(SECTOR_USIZE)) {
        buffer.set_word(start, MARK.to_le());
        buffer.set_word(start + 8, n.to_le());
        buffer.set_word(start + 16, generation.to_le());
    }
}

/// Whether the first `len` bytes of `buffer`, read from `at`, are the numbered sectors that belong there; otherwise the
/// first sector that is not.
///
/// # Errors
/// The number of the sector that was expected.
pub fn check(buffer: &Buffer<'_>, at: ByteOffset, len: Bytes) -> Result<(), u64> {
    let first = at.0 / SECTOR.0;
    for (n, start) in (first..).zip((0..len.as_usize()).step_by(SECTOR_USIZE)) {
        if buffer.word(start) != Some(MARK.to_le()) || buffer.word(start + 8) != Some(n.to_le()) {
            return Err(n);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffers, Slot};
    use strata_memory::{Huge, Lock, Want};
    use strata_units::QueueDepth;

    #[test]
    fn filled_sectors_carry_their_numbers() {
        let mut block = vec![0u8; 4096];
        fill(&mut block, ByteOffset(1 << 20), &mut Rng::new(1));
        for (n, sector) in block.chunks(512).enumerate() {
            assert_eq!(number(sector), Some(2048 + n as u64));
        }
        assert_eq!(number(&[0; 512]), None);
        assert_eq!(number(&block[..4]), None);
        let zeros = block.iter().filter(|b| **b == 0).count();
        assert!(zeros < 300, "bodies are random, {zeros} zero bytes of 4096");
    }

    #[test]
    fn a_stamp_is_found_and_a_wrong_place_too() {
        let want = Want {
            bytes: Bytes(0),
            node: None,
            huge: Huge::Never,
            lock: Lock::Never,
        };
        let buffers = Buffers::new(QueueDepth::ONE, Bytes(4096), want).expect("a page");
        let slot = Slot::new(0);
        let buffer = buffers.of(&slot);
        stamp(&buffer, ByteOffset(8192), Bytes(4096), 3);
        assert_eq!(check(&buffer, ByteOffset(8192), Bytes(4096)), Ok(()));
        assert_eq!(check(&buffer, ByteOffset(4096), Bytes(4096)), Err(8));
        buffer.set_word(512 * 5 + 8, 99);
        assert_eq!(check(&buffer, ByteOffset(8192), Bytes(4096)), Err(21));
        assert_eq!(buffer.word(4096), None, "nothing outside");
    }
}
