//! Checking later, from another process, what verified writes left on a target.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::Ledger;
use strata_measure::payload::{self, Fault};
use strata_units::{ByteOffset, Bytes};

use crate::target::{Prepared, TargetError, system};

/// How much is read at a time.
const CHUNK: Bytes = Bytes::MIB;

/// How many wrong sectors are named.
const NAMED: usize = 8;

/// What was found on a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Sectors that were looked at.
    pub sectors: u64,
    /// Those that are wrong.
    pub wrong: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
    /// Blocks of the ledger whose last write was acknowledged.
    pub acknowledged: u64,
    /// Blocks of the ledger with a write that was begun and never acknowledged.
    pub open: u64,
}

/// Reads the whole region of a target, or a ledger's, and checks every sector: that it is where it belongs, whole, and of
/// a write between the last that was acknowledged and the last that was begun.
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
        None => (target.from.0, target.region.0),
        Some(head) => (head.from.0, head.block.0 * head.blocks),
    };
    if from + length > target.size.0 {
        return Err(TargetError::OfAnother {
            path: path.to_owned(),
            found: target.size,
            wanted: Bytes(from + length),
        });
    }
    let mut found = Verified::default();
    if let Some(ledger) = ledger {
        found.count(ledger);
    }
    // The target is asked, not what somebody has read of it before.
    crate::sys::drop_cached(&file);
    let mut chunk = vec![0u8; CHUNK.as_usize()];
    let mut at = from;
    while at < from + length {
        if interrupted.load(Ordering::Relaxed) {
            return Err(TargetError::Stopped {
                path: path.to_owned(),
            });
        }
        let len = (from + length - at).min(CHUNK.0) as usize;
        read(&file, path, &mut chunk[..len], at)?;
        for (n, bytes) in (at / payload::SECTOR.0..).zip(chunk[..len].chunks_exact(512)) {
            found.look(n, bytes, ledger);
        }
        at += len as u64;
    }
    crate::sys::drop_cached(&file);
    Ok(found)
}

fn read(file: &File, path: &Path, into: &mut [u8], at: u64) -> Result<(), TargetError> {
    file.read_exact_at(into, at).map_err(system(
        "read",
        path,
        "the drive or its path failed; see dmesg",
    ))
}

impl Verified {
    fn count(&mut self, ledger: &Ledger) {
        let head = ledger.head();
        for block in 0..head.blocks {
            let at = ByteOffset(head.from.0 + block * head.block.0);
            let (posted, acknowledged) = ledger.entry(at).unwrap_or_default();
            self.open += u64::from(posted != acknowledged);
            self.acknowledged += u64::from(posted == acknowledged && posted > 0);
        }
    }

    fn look(&mut self, sector: u64, bytes: &[u8], ledger: Option<&Ledger>) {
        self.sectors += 1;
        let found = payload::stamp_of(bytes, sector);
        let looked = match ledger {
            None => found.map(drop),
            Some(ledger) => {
                let at = ByteOffset(sector * payload::SECTOR.0);
                let (posted, acknowledged) = ledger.entry(at).unwrap_or_default();
                ledger.allows(acknowledged, posted, found)
            }
        };
        if let Err(wrong) = looked {
            self.wrong += 1;
            if self.faults.len() < NAMED {
                self.faults.push(Fault { sector, wrong });
            }
        }
    }
}
