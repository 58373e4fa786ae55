//! Whether a target's blocks were ever written, and by whom: reading what was not measures no medium.

use std::io;

use strata_units::{ByteOffset, Bytes};

use super::CHUNK;
use crate::payload;

/// How many places of a target that is only read are looked at, to tell whether it was written, and by whom.
const SAMPLES: u64 = 256;

/// What is known of a target's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenState {
    /// The suite wrote each of them.
    Ours,
    /// Somebody wrote them.
    Written,
    /// Some were never written: reading those measures no medium.
    Unwritten,
}

/// What a target's sectors show.
#[derive(Debug, Default)]
pub struct Seen {
    sectors: u64,
    zeros: u64,
    /// The first that does not carry its number.
    foreign: Option<u64>,
    /// How many places could not be read, and the first of them.
    bad: u64,
    first_bad: Option<ByteOffset>,
}

impl Seen {
    /// Looks at every sector of a region that begins at `from`. `read` fills the memory that it is given with what lies at
    /// the place that it is told: a MiB at a time, and at the end what is left.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn whole(
        mut read: impl FnMut(ByteOffset, &mut [u8]) -> io::Result<()>,
        from: ByteOffset,
        region: Bytes,
    ) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut chunk = vec![0u8; CHUNK.as_usize()];
        let (mut at, end) = (from.0, from.0 + region.0);
        while at < end {
            let len = (end - at).min(CHUNK.0) as usize;
            read(ByteOffset(at), &mut chunk[..len])?;
            seen.look(&chunk[..len], ByteOffset(at));
            at += len as u64;
        }
        Ok(seen)
    }

    /// Samples blocks of `unit` bytes evenly over a region that begins at `from`, first and last among them; `read` as for
    /// [`Seen::whole`]. The unit is the least that the target reads: sectors, one at least, of which region and place are
    /// multiples. A bad block among them says nothing of whether it was written, and does not keep a drive from being measured.
    ///
    /// # Errors
    /// Those of `read`, where more than a tenth of the places cannot be read.
    pub fn sample(
        mut read: impl FnMut(ByteOffset, &mut [u8]) -> io::Result<()>,
        unit: Bytes,
        from: ByteOffset,
        region: Bytes,
    ) -> io::Result<Seen> {
        let (first, units) = (from.0 / unit.0, region.0 / unit.0);
        let mut block = vec![0u8; unit.as_usize()];
        let mut seen = Seen::default();
        let samples = SAMPLES.min(units);
        for n in 0..samples {
            let number = first
                + if samples > 1 {
                    // In 128 bits, so that no size overflows.
                    (u128::from(n) * u128::from(units - 1) / u128::from(samples - 1)) as u64
                } else {
                    0
                };
            let at = ByteOffset(number * unit.0);
            match read(at, &mut block) {
                Ok(()) => seen.look(&block, at),
                Err(why) => {
                    seen.bad += 1;
                    seen.first_bad = seen.first_bad.or(Some(at));
                    if seen.bad * 10 > samples {
                        return Err(why);
                    }
                }
            }
        }
        Ok(seen)
    }

    /// Looks at the whole sectors among `bytes`, which lie at `at`.
    fn look(&mut self, bytes: &[u8], at: ByteOffset) {
        let sectors = bytes.chunks_exact(payload::SECTOR.as_usize());
        for (number, sector) in (at.0 / payload::SECTOR.0..).zip(sectors) {
            self.sectors += 1;
            if payload::stamp_of(sector, number).is_err() {
                self.foreign = self.foreign.or(Some(number));
                self.zeros += u64::from(sector.iter().all(|b| *b == 0));
            }
        }
    }

    /// What could not be read of the places looked at, in words; none when all could.
    pub fn unreadable(&self) -> Option<String> {
        let first = self.first_bad?;
        Some(format!(
            "{} of the places looked at (no more than {SAMPLES}) cannot be read, the first at {}: its medium has errors; look at its health and error log (nvme smart-log, smartctl)",
            self.bad,
            Bytes(first.0)
        ))
    }

    /// The first sector that is not ours; a region without a whole sector shows nothing of ours.
    pub fn foreign(&self) -> Option<u64> {
        self.foreign.or((self.sectors == 0).then_some(0))
    }

    /// A tenth are zeros: more than the data of people and programs has, and a target that was never written has.
    fn mostly_zeros(&self) -> bool {
        self.sectors > 0 && self.zeros * 10 >= self.sectors
    }

    /// What it says of the region that it was seen on; `has_hole` where it is known that some of its blocks were never
    /// written.
    pub fn state(&self, has_hole: bool) -> WrittenState {
        if has_hole || self.mostly_zeros() {
            WrittenState::Unwritten
        } else if self.foreign().is_none() {
            WrittenState::Ours
        } else {
            WrittenState::Written
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fill::tests::{FROM, Target, filled};

    const UNIT: Bytes = Bytes(4096);

    fn sampled(target: &mut Target, unit: Bytes) -> Seen {
        let region = target.region();
        Seen::sample(|at, into| target.read(at, into), unit, FROM, region).expect("read")
    }

    #[test]
    fn what_was_filled_is_ours_in_units_of_each_size() {
        let mut target = filled(Bytes::MIB * 3);
        let region = target.region();
        let whole = Seen::whole(|at, into| target.read(at, into), FROM, region).expect("read");
        assert_eq!((whole.sectors, whole.foreign()), (3 << 11, None));
        for unit in [payload::SECTOR, UNIT] {
            target.reads.clear();
            let seen = sampled(&mut target, unit);
            assert_eq!(seen.foreign(), None);
            assert_eq!(seen.state(false), WrittenState::Ours);
            assert_eq!(seen.state(true), WrittenState::Unwritten);
            let last = ByteOffset(FROM.0 + region.0 - unit.0);
            assert_eq!(target.reads.len(), 256);
            assert_eq!(target.reads.first(), Some(&(FROM, unit)));
            assert_eq!(target.reads.last(), Some(&(last, unit)));
            let whole_units =
                |(at, len): &(ByteOffset, Bytes)| at.0.is_multiple_of(unit.0) && *len == unit;
            assert!(target.reads.iter().all(whole_units), "{:?}", target.reads);
        }
    }

    #[test]
    fn bad_blocks_do_not_keep_a_drive_from_being_looked_at_and_a_bad_drive_does() {
        for (bad, told) in [(0, false), (25, false), (26, true), (256, true)] {
            let mut target = filled(Bytes::MIB * 3);
            let region = target.region();
            let mut asked = 0;
            let read = |at, into: &mut [u8]| {
                asked += 1;
                match asked > bad {
                    true => target.read(at, into),
                    false => Err(io::Error::from_raw_os_error(5)),
                }
            };
            let found = Seen::sample(read, UNIT, FROM, region);
            assert_eq!(found.is_err(), told, "{bad} bad places");
            if let Ok(seen) = found {
                assert_eq!(seen.unreadable().is_some(), bad > 0);
                assert_eq!(seen.sectors, (256 - bad) * 8);
                assert_eq!(seen.state(false), WrittenState::Ours);
            }
        }
    }

    #[test]
    fn a_foreign_sector_within_a_sampled_unit_is_found() {
        let mut target = filled(Bytes(UNIT.0 * 16));
        // The last sector but one of the third unit.
        target.bytes[2 * 4096 + 6 * 512] ^= 1;
        let wrong = FROM.0 / 512 + 2 * 8 + 6;
        assert_eq!(sampled(&mut target, UNIT).foreign(), Some(wrong));
        assert_eq!(
            sampled(&mut target, UNIT).state(false),
            WrittenState::Written
        );
    }

    #[test]
    fn a_tenth_of_zeros_was_never_written() {
        for (zeros, state) in [(9, WrittenState::Written), (10, WrittenState::Unwritten)] {
            let mut target = filled(Bytes(512 * 100));
            target.bytes[..zeros * 512].fill(0);
            let seen = sampled(&mut target, payload::SECTOR);
            assert_eq!(seen.state(false), state, "{zeros} of 100");
        }
    }

    #[test]
    fn a_region_without_a_sector_shows_nothing_of_ours() {
        let mut target = Target::of(Bytes(256));
        let seen = sampled(&mut target, payload::SECTOR);
        assert_eq!((seen.foreign(), target.reads.len()), (Some(0), 0));
        let failing = |_, _: &mut [u8]| Err(io::ErrorKind::BrokenPipe.into());
        let failed = Seen::whole(failing, FROM, UNIT).map_err(|e| e.kind());
        assert!(matches!(failed, Err(io::ErrorKind::BrokenPipe)));
    }
}
