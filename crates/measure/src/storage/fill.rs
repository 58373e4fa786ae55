//! Filling a target before it is read: with random bytes that carry the numbers of their sectors.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_stats::Rng;
use strata_units::{ByteOffset, Bytes};

use super::CHUNK;
use crate::payload;

/// Fills `size` bytes from `from` on, in order; whether it came to the end before it was interrupted. `write` puts the
/// memory that it is given to the place that it is told: a MiB at a time, and at the end what is left.
///
/// # Errors
/// Those of `write`.
pub fn fill(
    mut write: impl FnMut(ByteOffset, &[u8]) -> io::Result<()>,
    from: ByteOffset,
    size: Bytes,
    seed: u64,
    interrupted: &AtomicBool,
) -> io::Result<bool> {
    let mut random = Rng::new(seed);
    let epoch = payload::epoch();
    let mut chunk = vec![0u8; CHUNK.as_usize()];
    let (mut at, end) = (from.0, from.0 + size.0);
    while at < end {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let len = (end - at).min(CHUNK.0) as usize;
        payload::fill(&mut chunk[..len], ByteOffset(at), epoch, &mut random);
        write(ByteOffset(at), &chunk[..len])?;
        at += len as u64;
    }
    Ok(true)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Where the region of a [`Target`] begins.
    pub(crate) const FROM: ByteOffset = ByteOffset(3 << 20);

    /// A region in memory that keeps what it is given, and remembers what of it was read.
    pub(crate) struct Target {
        pub(crate) bytes: Vec<u8>,
        pub(crate) reads: Vec<(ByteOffset, Bytes)>,
    }

    impl Target {
        pub(crate) fn of(size: Bytes) -> Target {
            Target {
                bytes: vec![0; size.as_usize()],
                reads: Vec::new(),
            }
        }

        pub(crate) fn region(&self) -> Bytes {
            Bytes(self.bytes.len() as u64)
        }

        pub(crate) fn read(&mut self, at: ByteOffset, into: &mut [u8]) -> io::Result<()> {
            self.reads.push((at, Bytes(into.len() as u64)));
            let start = (at.0 - FROM.0) as usize;
            into.copy_from_slice(&self.bytes[start..start + into.len()]);
            Ok(())
        }

        fn write(&mut self, at: ByteOffset, bytes: &[u8]) -> io::Result<()> {
            let start = (at.0 - FROM.0) as usize;
            self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    pub(crate) fn filled(size: Bytes) -> Target {
        let mut target = Target::of(size);
        let go = AtomicBool::new(false);
        let done = fill(|at, bytes| target.write(at, bytes), FROM, size, 7, &go);
        assert!(done.expect("written"), "nobody stopped it");
        target
    }

    #[test]
    fn every_sector_is_filled_with_its_own_number() {
        let target = filled(Bytes(Bytes::MIB.0 * 2 + 512 * 3));
        let first = FROM.0 / 512;
        for (number, sector) in (first..).zip(target.bytes.chunks(512)) {
            let stamp = payload::stamp_of(sector, number).expect("ours");
            assert_eq!(stamp.generation, 0, "sector {number}");
        }
    }

    #[test]
    fn a_filling_stops_between_two_writes_and_at_one_that_fails() {
        let stop = AtomicBool::new(false);
        let mut writes = 0;
        let stopping = |_, _: &[u8]| {
            writes += 1;
            stop.store(writes == 2, Ordering::Relaxed);
            Ok(())
        };
        let done = fill(stopping, FROM, Bytes::MIB * 5, 7, &stop);
        assert!(matches!(done, Ok(false)), "{done:?}");
        assert_eq!(writes, 2);

        let go = AtomicBool::new(false);
        let failing = |_, _: &[u8]| Err(io::ErrorKind::StorageFull.into());
        let failed = fill(failing, FROM, Bytes::MIB, 7, &go).map_err(|e| e.kind());
        assert_eq!(failed, Err(io::ErrorKind::StorageFull));
    }
}
