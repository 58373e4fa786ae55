//! Whether a file's blocks were ever written, and by whom.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use strata_measure::payload;
use strata_measure::storage::{Seen, WrittenState};
use strata_units::{ByteOffset, Bytes};

/// Looks at every sector of a region that begins at `from`.
pub(crate) fn whole(file: &File, from: ByteOffset, region: Bytes) -> io::Result<Seen> {
    let seen = Seen::whole(|at, into| file.read_exact_at(into, at.0), from, region)?;
    crate::sys::drop_cached(file);
    Ok(seen)
}

/// Samples sectors evenly over a region that begins at `from`, first and last among them.
pub(crate) fn sample(file: &File, from: ByteOffset, region: Bytes) -> io::Result<Seen> {
    let read = |at: ByteOffset, into: &mut [u8]| file.read_exact_at(into, at.0);
    let seen = Seen::sample(read, payload::SECTOR, from, region)?;
    // What NVMe commands write later goes past the cache without its knowledge.
    crate::sys::drop_cached(file);
    Ok(seen)
}

/// What was seen says of the region of `file` that it was seen on.
pub(crate) fn state(seen: &Seen, file: &File, from: ByteOffset, region: Bytes) -> WrittenState {
    seen.state(has_hole(file, from, region))
}

/// Whether the region has a hole, or blocks that are allocated and not written (lseek(2), SEEK_HOLE). A file system that
/// does not know says that there is none.
fn has_hole(file: &File, from: ByteOffset, region: Bytes) -> bool {
    crate::sys::first_hole(file, from.0).is_some_and(|at| at < from.0 + region.0)
}
