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
            other: None,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::OpKind;
    use strata_record::{Layer, Op, Placement, Reality, Target, TargetKind, Workload};
    use strata_units::{CpuList, QueueDepth};

    const BLOCK: Bytes = Bytes(4096);
    const FROM: ByteOffset = ByteOffset(1 << 20);
    const BLOCKS: u64 = 10;

    fn target(state: WrittenState) -> StorageTarget<'static> {
        StorageTarget {
            kind: "namespace",
            name: "0000:81:00.0 namespace 1",
            from: FROM,
            region: BLOCK * BLOCKS,
            state,
        }
    }

    fn cell(op: Op, threads: u16) -> Cell {
        Cell {
            layer: Layer::Nvme,
            engine: "native".to_owned(),
            reality: Reality::Emulated,
            target: Target {
                kind: TargetKind::Drive,
                identity: "a test's namespace".to_owned(),
                region_from_bytes: FROM,
                region_bytes: Some(BLOCK * BLOCKS),
                node: None,
            },
            via: "0000:81:00.0".to_owned(),
            workload: Workload {
                threads,
                ..Workload::plain(op, BLOCK)
            },
            timeout_ns: None,
            sockets: None,
            verbs: None,
            binding: None,
            placement: Placement {
                cpus: (0..u32::from(threads)).map(CpuId).collect(),
                peer_cpus: CpuList::default(),
                poll_cpus: CpuList::default(),
                mem_node: None,
            },
        }
    }

    fn verified(op: Op, threads: u16) -> Cell {
        let mut cell = cell(op, threads);
        cell.workload.verify = true;
        cell
    }

    fn ours(cell: Cell) -> StorageCell {
        StorageCell::new(cell, &target(WrittenState::Ours)).expect("a cell that can be")
    }

    #[test]
    fn what_cannot_be_is_told_with_the_target_and_what_to_give() {
        let odd = |change: fn(&mut Workload)| {
            let mut cell = cell(Op::RandRead, 1);
            change(&mut cell.workload);
            cell
        };
        for (cell, state, expected) in [
            (
                cell(Op::Stream, 1),
                WrittenState::Ours,
                "`stream` is no operation of the nvme layer; expected randread",
            ),
            (
                odd(|w| w.block_bytes = Bytes(1000)),
                WrittenState::Ours,
                "no multiple of the sector of 512B",
            ),
            (
                odd(|w| w.block_bytes = BLOCK * (BLOCKS + 1)),
                WrittenState::Ours,
                "does not fit the namespace's 40KiB; give a smaller --bs",
            ),
            (
                odd(|w| w.threads = 2),
                WrittenState::Ours,
                "2 threads need as many CPUs, and 1 are given",
            ),
            (
                verified(Op::Read, 1),
                WrittenState::Written,
                "0000:81:00.0 namespace 1 was not written by strata",
            ),
            (
                verified(Op::RandWrite, 11),
                WrittenState::Written,
                "the region of 40KiB has 10 of 4KiB; give fewer --threads",
            ),
            (odd(|w| w.ops = Some(1)), WrittenState::Ours, "--ops"),
        ] {
            let why = StorageCell::new(cell, &target(state)).expect_err(expected);
            assert!(why.contains(expected) && !why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn threads_of_verified_writes_share_no_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.bin");
        let cell = ours(verified(Op::RandWrite, 3)).with_ledger(path.clone());
        cell.begin_ledger().expect("made");
        let head = Ledger::open(&path, false).expect("opened").head();
        assert_eq!(
            (head.block, head.from, head.blocks),
            (BLOCK, FROM, BLOCKS),
            "the whole region"
        );
        let mut all = BTreeSet::new();
        for thread in 0..3 {
            let mut stream = cell.stream(thread, 5).expect("the ledger is there");
            let own: BTreeSet<ByteOffset> = (0..500).map(|_| stream.next_op().at).collect();
            assert_eq!(own.len(), 3, "a third of ten blocks");
            let before = all.len();
            all.extend(own);
            assert_eq!(all.len(), before + 3, "thread {thread}");
        }
        assert!(all.iter().all(|at| at.0.is_multiple_of(BLOCK.0)));
        assert_eq!(all.first(), Some(&FROM));
    }

    #[test]
    fn only_verified_writes_have_a_ledger() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.bin");
        for cell in [cell(Op::RandWrite, 1), verified(Op::RandRead, 1)] {
            ours(cell)
                .with_ledger(path.clone())
                .begin_ledger()
                .expect("nothing to make");
            assert!(!path.exists());
        }
        let nowhere = folder.path().join("no/ledger.bin");
        let cell = ours(verified(Op::RandWrite, 1)).with_ledger(nowhere);
        assert!(matches!(cell.begin_ledger(), Err(JobError::Failed(_))));
        assert!(cell.stream(0, 1).is_err());
    }

    #[test]
    fn sequential_threads_begin_at_their_parts_of_the_whole() {
        let cell = ours(cell(Op::Read, 2));
        for (thread, block) in [(0, 0), (1, BLOCKS / 2)] {
            let first = cell.stream(thread, 5).expect("a stream").next_op();
            let begins = ByteOffset(FROM.0 + block * BLOCK.0);
            assert_eq!((first.kind, first.at), (OpKind::Read, begins));
        }
    }

    #[test]
    fn writes_send_random_bytes_and_reads_begin_with_what_is_there() {
        for (op, filled) in [(Op::RandWrite, true), (Op::RandRead, false)] {
            let cell = ours(cell(op, 1));
            let buffers = Buffers::new(QueueDepth::ONE, BLOCK, cell.want()).expect("a page");
            cell.fill(&buffers, 1);
            let words: BTreeSet<_> = (0..4096)
                .step_by(8)
                .map(|at| buffers.first().word(at))
                .collect();
            assert_eq!(words.len(), if filled { 512 } else { 1 }, "{op}");
        }
    }

    #[test]
    fn huge_pages_are_wanted_where_they_would_be_full() {
        let mut small = cell(Op::RandRead, 1);
        small.workload.depth = QueueDepth::new(511).expect("a depth");
        let mut large = small.clone();
        large.workload.depth = QueueDepth::new(512).expect("a depth");
        assert_eq!(ours(small).want().huge, Huge::Never);
        assert_eq!(ours(large).want().huge, Huge::Prefer);
    }

    #[test]
    fn only_reads_are_warned_of_what_was_never_written() {
        for (op, state, warned) in [
            (Op::RandRead, WrittenState::Unwritten, true),
            (Op::RandRead, WrittenState::Written, false),
            (Op::RandWrite, WrittenState::Unwritten, false),
        ] {
            let cell = StorageCell::new(cell(op, 1), &target(state)).expect("a cell");
            let warning = cell.unwritten("no medium").map(|w| (w.code, w.text));
            let expected = (WarningCode::Unwritten, "no medium".to_owned());
            assert_eq!(warning, warned.then_some(expected), "{op} {state:?}");
        }
    }

    #[test]
    fn a_crew_has_a_cpu_a_thread_and_the_load_of_the_cell() {
        let cell = ours(cell(Op::Read, 2));
        let stop = AtomicBool::new(false);
        let trial = Trial {
            seed: 1,
            interrupted: &stop,
        };
        let crew = cell.crew(&trial, None);
        assert_eq!(crew.cpus, [CpuId(0), CpuId(1)]);
        assert_eq!((crew.load, crew.role), (cell.load(), Role::Measure));
    }
}
