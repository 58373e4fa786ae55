//! Checking later, from another process, what verified writes left on a target.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_units::{ByteOffset, Bytes};

use super::CHUNK;
use crate::Ledger;
use crate::payload::{self, Fault};

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

/// Reads `length` bytes from `from` on and checks every sector: that it is where it belongs, whole, and, with a ledger,
/// whose blocks these bytes are ([`crate::LedgerHead::length`]), of a write between the last that was acknowledged and the
/// last that was begun. None when it is interrupted. `read` fills the memory that it is given with what lies at the place
/// that it is told: a MiB at a time, and at the end what is left.
///
/// # Errors
/// Those of `read`.
pub fn verify(
    mut read: impl FnMut(ByteOffset, &mut [u8]) -> io::Result<()>,
    from: ByteOffset,
    length: Bytes,
    ledger: Option<&Ledger>,
    interrupted: &AtomicBool,
) -> io::Result<Option<Verified>> {
    let mut found = Verified::default();
    if let Some(ledger) = ledger {
        found.count(ledger);
    }
    let mut chunk = vec![0u8; CHUNK.as_usize()];
    let (mut at, end) = (from.0, from.0 + length.0);
    while at < end {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let len = (end - at).min(CHUNK.0) as usize;
        read(ByteOffset(at), &mut chunk[..len])?;
        let sectors = chunk[..len].chunks_exact(payload::SECTOR.as_usize());
        for (number, bytes) in (at / payload::SECTOR.0..).zip(sectors) {
            found.look(number, bytes, ledger);
        }
        at += len as u64;
    }
    Ok(Some(found))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LedgerHead;
    use crate::payload::Wrong;
    use crate::storage::fill::tests::{FROM, Target, filled};

    const BLOCK: Bytes = Bytes(4096);

    fn checked(target: &mut Target, ledger: Option<&Ledger>) -> Option<Verified> {
        let (length, go) = (target.region(), AtomicBool::new(false));
        let read = |at, into: &mut [u8]| target.read(at, into);
        verify(read, FROM, length, ledger, &go).expect("read")
    }

    #[test]
    fn each_wrong_sector_is_counted_and_the_first_are_named() {
        let mut target = filled(Bytes::MIB * 2);
        let good = checked(&mut target, None).expect("nobody stopped it");
        assert_eq!((good.sectors, good.wrong), (4096, 0));
        let first = FROM.0 / 512;
        target.bytes.copy_within(..512, 7 * 512);
        for n in 0..NAMED {
            target.bytes[(2100 + n) * 512 + 300] ^= 4;
        }
        let bad = checked(&mut target, None).expect("nobody stopped it");
        assert_eq!((bad.sectors, bad.wrong), (4096, NAMED as u64 + 1));
        assert_eq!(bad.faults.len(), NAMED);
        let misplaced = Fault {
            sector: first + 7,
            wrong: Wrong::Misplaced(first),
        };
        let corrupt = Fault {
            sector: first + 2100,
            wrong: Wrong::Corrupt,
        };
        assert_eq!(bad.faults[..2], [misplaced, corrupt]);
    }

    #[test]
    fn a_ledger_says_which_writes_a_block_may_be_of() {
        let mut target = filled(BLOCK * 4);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.bin");
        let head = LedgerHead {
            epoch: payload::epoch(),
            block: BLOCK,
            from: FROM,
            blocks: 4,
        };
        assert_eq!(head.length(), target.region());
        Ledger::create(&path, &head).expect("made");
        let ledger = Ledger::open(&path, true).expect("opened");
        // One write was acknowledged and one was begun; the target has neither.
        ledger.post(FROM, 1);
        ledger.acknowledge(FROM);
        ledger.post(ByteOffset(FROM.0 + BLOCK.0), 2);
        let found = checked(&mut target, Some(&ledger)).expect("nobody stopped it");
        assert_eq!((found.acknowledged, found.open), (1, 1));
        assert_eq!((found.sectors, found.wrong), (32, 8));
        let stale = |fault: &Fault| fault.wrong == Wrong::Stale;
        assert!(found.faults.iter().all(stale), "{:?}", found.faults);
    }

    #[test]
    fn a_check_that_is_stopped_finds_nothing() {
        let (stop, mut reads) = (AtomicBool::new(false), 0);
        let stopping = |_, _: &mut [u8]| {
            reads += 1;
            stop.store(true, Ordering::Relaxed);
            Ok(())
        };
        let found = verify(stopping, FROM, Bytes::MIB * 3, None, &stop);
        assert!(matches!(found, Ok(None)), "{found:?}");
        assert_eq!(reads, 1);
    }
}
