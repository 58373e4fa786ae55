//! What a run leaves in its folder: `run.json`, `trials.jsonl`, and the ledger of a verified write.

use std::fs;
use std::path::Path;

use strata_measure::{Ledger, LedgerError};
use strata_record::{read_run, read_trials};
use strata_units::ByteOffset;
use tempfile::TempDir;

/// The run whose trials are read.
const ID: &str = "20260102T030405Z-full";

/// The most blocks of a ledger that are looked at.
const LOOKED_AT: u64 = 64;

thread_local! {
    static FOLDER: TempDir = super::folder();
}

/// Gives `bytes` to `read` as the file `name` of a folder, which it is handed.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    FOLDER.with(|folder| {
        fs::write(folder.path().join(name), bytes).expect("room for a file");
        read(folder.path());
    });
}

/// A run that is read is written so that it is read again.
pub(crate) fn run(bytes: &[u8]) {
    with_file("run.json", bytes, |folder| {
        if let Ok(run) = read_run(folder) {
            let text = serde_json::to_string(&run).expect("plain data");
            fs::write(folder.join("run.json"), text).expect("room for a file");
            assert_eq!(read_run(folder).expect("what was written"), run);
        }
    });
}

/// So are records; what was cut off in mid-write is not counted.
pub(crate) fn trials(bytes: &[u8]) {
    with_file("trials.jsonl", bytes, |folder| {
        let Ok((records, whole)) = read_trials(folder, ID) else {
            return;
        };
        let whole = usize::try_from(whole).expect("no more than there is");
        assert!(bytes[whole..].iter().all(|byte| *byte != b'\n'));
        assert!(bytes[..whole].last().is_none_or(|byte| *byte == b'\n'));
        assert!(records.iter().all(|record| record.run == ID));
        let line = |record| serde_json::to_string(record).expect("plain data") + "\n";
        let text: String = records.iter().map(line).collect();
        fs::write(folder.join("trials.jsonl"), &text).expect("room for a file");
        let (again, length) = read_trials(folder, ID).expect("what was written");
        assert_eq!((again, length), (records, text.len() as u64));
    });
}

/// A ledger has an entry for each of its blocks, and for no place beside them.
pub(crate) fn ledger(bytes: &[u8]) {
    with_file("ledger", bytes, |folder| {
        let ledger = match Ledger::open(&folder.join("ledger"), false) {
            Ok(ledger) => ledger,
            Err(LedgerError::Foreign { .. }) => return,
            Err(other) => panic!("nothing is wrong with the file: {other}"),
        };
        let head = ledger.head();
        let at = |block: u64| {
            let from = block.checked_mul(head.block.0)?.checked_add(head.from.0)?;
            Some(ByteOffset(from))
        };
        for block in 0..head.blocks.min(LOOKED_AT) {
            if let Some(at) = at(block) {
                assert!(ledger.entry(at).is_some(), "block {block} of {head:?}");
            }
        }
        if let Some(at) = at(head.blocks) {
            assert_eq!(ledger.entry(at), None, "behind the end of {head:?}");
        }
        if let Some(before) = head.from.0.checked_sub(1) {
            assert_eq!(ledger.entry(ByteOffset(before)), None, "before {head:?}");
        }
    });
}
