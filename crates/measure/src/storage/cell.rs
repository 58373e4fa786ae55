//! A cell on a region of a target: what can be, each thread's operations and buffers, and what its trials leave.

use std::path::PathBuf;

use strata_memory::{Huge, Lock, Want};
use strata_record::{Cell, Measured, Role, Warning, WarningCode};
use strata_stats::Rng;
use strata_topology::WatchList;
use strata_units::{ByteOffset, Bytes, CpuId};

use super::WrittenState;
use crate::{
    Buffers, Crew, DeviceWork, Fatal, JobError, Ledger, LedgerHead, Load, Stream, Trial, payload,
};

/// From here on buffers lie on pages of 2 MiB where such are free: below, one would be mostly empty.
const HUGE: Bytes = Bytes(2 << 20);

/// What a cell is measured on.
#[derive(Debug, Clone, Copy)]
pub struct StorageTarget<'a> {
    /// What it is, in a word: `file`, `namespace`.
    pub kind: &'a str,
    /// What its user calls it: a path, an address.
    pub name: &'a str,
    /// Where the region that is used begins.
    pub from: ByteOffset,
    /// How much of it is used: whole blocks.
    pub region: Bytes,
    /// What is known of its blocks.
    pub state: WrittenState,
}

/// A cell on the region of a target, whatever engine is to carry it out.
#[derive(Debug, Clone)]
pub struct StorageCell {
    cell: Cell,
    from: ByteOffset,
    region: Bytes,
    state: WrittenState,
    load: Load,
    cpus: Vec<CpuId>,
    ledger: Option<PathBuf>,
}

impl StorageCell {
    /// `cell` on `target`.
    ///
    /// # Errors
    /// In words, what of the cell cannot be: its operation, window, block size, CPUs, or the verification of its blocks.
    pub fn new(cell: Cell, target: &StorageTarget<'_>) -> Result<StorageCell, String> {
        let w = &cell.workload;
        if !w.op.is_storage() {
            return Err(format!(
                "`{}` is no operation of the {} layer; expected randread, randwrite, randrw:PERCENT, read or write",
                w.op, cell.layer
            ));
        }
        if !w.block_bytes.is_multiple_of(payload::SECTOR) {
            return Err(format!(
                "a block of {} is no multiple of the sector of {}; give a --bs of 512, 4KiB, …",
                w.block_bytes,
                payload::SECTOR
            ));
        }
        if w.block_bytes > target.region {
            return Err(format!(
                "a block of {} does not fit the {}'s {}; give a smaller --bs",
                w.block_bytes, target.kind, target.region
            ));
        }
        let cpus: Vec<CpuId> = cell.placement.cpus.iter().collect();
        if cpus.len() != usize::from(w.threads) {
            return Err(format!(
                "{} threads need as many CPUs, and {} are given; change --threads or --cpus",
                w.threads,
                cpus.len()
            ));
        }
        if w.verify && w.op.reads() && target.state != WrittenState::Ours {
            return Err(format!(
                "{} was not written by strata, so its reads cannot be checked; leave out --verify",
                target.name
            ));
        }
        let blocks = target.region.0 / w.block_bytes.0;
        if w.verify && w.op.writes() && blocks < u64::from(w.threads) {
            return Err(format!(
                "{} threads of verified writes need a block each, and the region of {} has {blocks} of {}; give fewer --threads, a larger --size or a smaller --bs",
                w.threads, target.region, w.block_bytes
            ));
        }
        let load = Load::of(w).map_err(|e| e.to_string())?;
        Ok(StorageCell {
            cell,
            from: target.from,
            region: target.region,
            state: target.state,
            load,
            cpus,
            ledger: None,
        })
    }

    /// Verified writes are kept in a ledger at `path`, a new one each trial ([`StorageCell::begin_ledger`]).
    #[must_use]
    pub fn with_ledger(self, path: PathBuf) -> StorageCell {
        let verified = self.cell.workload.verify && self.cell.workload.op.writes();
        StorageCell {
            ledger: verified.then_some(path),
            ..self
        }
    }

    /// What is measured.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Its load, of all threads together.
    pub fn load(&self) -> Load {
        self.load
    }

    /// The CPUs of the threads, one each.
    pub fn cpus(&self) -> &[CpuId] {
        &self.cpus
    }

    /// How many blocks the region has.
    fn blocks(&self) -> u64 {
        self.region.0 / self.cell.workload.block_bytes.0
    }

    /// A new ledger for a trial of verified writes; nothing where there is to be none.
    ///
    /// # Errors
    /// [`JobError::Failed`] when the file cannot be made.
    pub fn begin_ledger(&self) -> Result<(), JobError> {
        let Some(path) = &self.ledger else {
            return Ok(());
        };
        let head = LedgerHead {
            epoch: payload::epoch(),
            block: self.cell.workload.block_bytes,
            from: self.from,
            blocks: self.blocks(),
        };
        Ledger::create(path, &head).map_err(|e| JobError::Failed(e.to_string()))
    }

    /// The operations of one thread in a trial of `seed`: sequential ones begin at its part of the region, and verified
    /// writes stay there, so that each block is of one thread.
    ///
    /// # Errors
    /// [`Fatal`] when the ledger cannot be opened.
    pub fn stream(&self, thread: usize, seed: u64) -> Result<Stream, Fatal> {
        let w = &self.cell.workload;
        let threads = self.cpus.len();
        let blocks = self.blocks();
        let own = seed.wrapping_add(thread as u64);
        let stream = |blocks, from| {
            Stream::new(w.op, w.block_bytes, blocks, own)
                .from(from)
                .checked(w.verify)
        };
        let Some(path) = &self.ledger else {
            let all = stream(blocks, self.from).starting_at(thread as f64 / threads as f64);
            return Ok(if w.random_map {
                all.each_once(seed, thread, threads)
            } else {
                all
            });
        };
        let part = blocks / threads as u64;
        let begins = ByteOffset(self.from.0 + part * thread as u64 * w.block_bytes.0);
        let own_part = stream(part, begins);
        let own_part = if w.random_map {
            own_part.each_once(seed, 0, 1)
        } else {
            own_part
        };
        let ledger = Ledger::open(path, true).map_err(|e| Fatal(e.to_string()))?;
        Ok(own_part.recorded(ledger))
    }

    /// Where and how one thread's buffers are wanted; [`Buffers::new`] and [`Buffers::shared`] set the size.
    pub fn want(&self) -> Want {
        let w = &self.cell.workload;
        Want {
            bytes: Bytes(0),
            node: self.cell.placement.mem_node,
            huge: if w.block_bytes * u64::from(w.depth.get()) >= HUGE {
                Huge::Prefer
            } else {
                Huge::Never
            },
            lock: Lock::Prefer,
        }
    }

    /// Fills one thread's buffers with what its writes send, if it writes; before anything is in flight.
    pub fn fill(&self, buffers: &Buffers, seed: u64) {
        if self.cell.workload.op.writes() {
            let mut random = Rng::new(seed);
            buffers.each(|buffer| payload::fill_body(&buffer, &mut random));
        }
    }

    /// The threads of a trial; `watch` as in [`Crew::watch`].
    pub fn crew<'a>(&'a self, trial: &Trial<'a>, watch: Option<&'a WatchList>) -> Crew<'a> {
        Crew {
            cpus: &self.cpus,
            role: Role::Measure,
            load: self.load,
            mem_node: self.cell.placement.mem_node,
            interrupted: trial.interrupted,
            enough: None,
            watch,
        }
    }

    /// That reads measure no medium, where blocks were never written; `text` says what was found and what to do.
    pub fn unwritten(&self, text: &str) -> Option<Warning> {
        let reads = self.cell.workload.op.reads();
        (self.state == WrittenState::Unwritten && reads).then(|| Warning {
            code: WarningCode::Unwritten,
            text: text.to_owned(),
        })
    }

    /// What the window of a trial ought to have left in the counters of the device.
    pub fn device_work(&self, measured: &Measured) -> DeviceWork {
        let w = &self.cell.workload;
        DeviceWork {
            bytes: w.block_bytes * measured.ops,
            window_s: measured.window_s,
            reads: w.op.reads(),
            writes: w.op.writes(),
        }
    }
}
