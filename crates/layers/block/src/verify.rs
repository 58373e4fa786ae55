//! Checking later, from another process, what verified writes left on a target.

use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;

use strata_measure::Ledger;
use strata_measure::storage::{self, Verified};
use strata_units::{ByteOffset, Bytes};

use crate::target::{Prepared, TargetError, system};

/// Reads the whole region of a target, or a ledger's, and checks every sector ([`storage::verify`]).
///
/// # Errors
/// [`TargetError`] when it cannot be read, or the user stops it.
pub fn verify(
    target: &Prepared,
    ledger: Option<&Ledger>,
    interrupted: &AtomicBool,
) -> Result<Verified, TargetError> {
    let path = target.path.as_path();
    let file = target.open_plain().map_err(system(
        "open",
        path,
        "name a file or drive that you may read",
    ))?;
    let (from, length) = match ledger.map(Ledger::head) {
        None => (target.from, target.region),
        Some(head) => (head.from, head.length()),
    };
    let end = Bytes(from.0 + length.0);
    if end > target.size {
        return Err(TargetError::OfAnother {
            path: path.to_owned(),
            found: target.size,
            wanted: end,
        });
    }
    // The target is asked, not what somebody has read of it before.
    crate::sys::drop_cached(&file);
    let read = |at: ByteOffset, into: &mut [u8]| file.read_exact_at(into, at.0);
    let found = storage::verify(read, from, length, ledger, interrupted).map_err(system(
        "read",
        path,
        "the drive or its path failed; see dmesg",
    ))?;
    let Some(found) = found else {
        return Err(TargetError::Stopped {
            path: path.to_owned(),
        });
    };
    crate::sys::drop_cached(&file);
    Ok(found)
}
