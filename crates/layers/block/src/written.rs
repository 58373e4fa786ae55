//! Whether a target's blocks were ever written, and by whom: reading what was not measures no medium.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use strata_measure::payload;
use strata_units::{ByteOffset, Bytes};

/// How much is read at a time.
const CHUNK: Bytes = Bytes::MIB;

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
#[derive(Default)]
pub(crate) struct Seen {
    sectors: u64,
    zeros: u64,
    /// The first that does not carry its number.
    foreign: Option<u64>,
}

impl Seen {
    fn look(&mut self, sector: &[u8], at: u64) {
        self.sectors += 1;
        if payload::stamp_of(sector, at).is_err() {
            self.foreign = self.foreign.or(Some(at));
            self.zeros += u64::from(sector.iter().all(|b| *b == 0));
        }
    }

    /// The first sector that is not ours; a region without a whole sector shows nothing of ours.
    pub(crate) fn foreign(&self) -> Option<u64> {
        self.foreign.or((self.sectors == 0).then_some(0))
    }

    /// A tenth are zeros: more than the data of people and programs has, and a file that was never written has.
    fn mostly_zeros(&self) -> bool {
        self.sectors > 0 && self.zeros * 10 >= self.sectors
    }
}

/// Looks at every sector of a region that begins at `from`.
pub(crate) fn whole(file: &File, from: ByteOffset, region: Bytes) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut chunk = vec![0u8; CHUNK.as_usize()];
    let (mut at, end) = (from.0, from.0 + region.0);
    while at < end {
        let len = (end - at).min(CHUNK.0) as usize;
        file.read_exact_at(&mut chunk[..len], at)?;
        for (n, sector) in (at / payload::SECTOR.0..).zip(chunk[..len].chunks_exact(512)) {
            seen.look(sector, n);
        }
        at += len as u64;
    }
    crate::sys::drop_cached(file);
    Ok(seen)
}

/// Samples sectors evenly over a region that begins at `from`, first and last among them.
pub(crate) fn sample(file: &File, from: ByteOffset, region: Bytes) -> io::Result<Seen> {
    let first = from.0 / payload::SECTOR.0;
    let sectors = region.0 / payload::SECTOR.0;
    let mut sector = [0u8; 512];
    let mut seen = Seen::default();
    let samples = SAMPLES.min(sectors);
    for n in 0..samples {
        let at = first
            + if samples > 1 {
                // In 128 bits, so that no size overflows.
                (u128::from(n) * u128::from(sectors - 1) / u128::from(samples - 1)) as u64
            } else {
                0
            };
        file.read_exact_at(&mut sector, at * payload::SECTOR.0)?;
        seen.look(&sector, at);
    }
    // What NVMe commands write later goes past the cache without its knowledge.
    crate::sys::drop_cached(file);
    Ok(seen)
}

/// Whether the region has a hole, or blocks that are allocated and not written (lseek(2), SEEK_HOLE). A file system that
/// does not know says that there is none.
fn has_hole(file: &File, from: ByteOffset, region: Bytes) -> bool {
    crate::sys::first_hole(file, from.0).is_some_and(|at| at < from.0 + region.0)
}

impl Seen {
    /// What it says of the region of `file` that it was seen on.
    pub(crate) fn state(&self, file: &File, from: ByteOffset, region: Bytes) -> WrittenState {
        if self.mostly_zeros() || has_hole(file, from, region) {
            WrittenState::Unwritten
        } else if self.foreign().is_none() {
            WrittenState::Ours
        } else {
            WrittenState::Written
        }
    }
}
