//! Verified writes against a target that keeps what it is given, and ones that lose, mix up or damage it.

use std::collections::HashMap;
use std::path::Path;

use strata_measure::{
    Buffers, Clock, Engine, FailCode, Fatal, Ledger, LedgerHead, Limits, Load, Op, OpKind, Outcome,
    Refused, Scratch, Slot, Step, Stream, Stuck, Tally, Tick, Wait, Window, drive, payload,
};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Completes, Op as Mix, TimedBy};
use strata_units::{ByteOffset, Bytes, Nanos, QueueDepth};

const BLOCK: Bytes = Bytes(4096);
const FROM: ByteOffset = ByteOffset(1 << 20);
const BLOCKS: u64 = 16;

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    /// A write in so many is acknowledged and thrown away.
    Lost(u64),
    /// A write in so many goes to the block behind its own too.
    Spilled(u64),
    /// A bit of a write in so many turns over.
    Damaged(u64),
    /// A write in so many fails, and is not made.
    Failing(u64),
}

/// A target in memory, at a depth of four, completing the older half in the reverse order.
struct Disk {
    buffers: Buffers,
    fate: Fate,
    writes: u64,
    blocks: HashMap<u64, Vec<u64>>,
    /// How often each block was written.
    times: HashMap<u64, u64>,
    held: Vec<(Slot, Op)>,
    /// Blocks with a write in flight: two at once would leave it open which of them stays.
    writing: Vec<u64>,
}

impl Disk {
    fn new(fate: Fate) -> Disk {
        let want = Want {
            bytes: Bytes(0),
            node: None,
            huge: Huge::Never,
            lock: Lock::Never,
        };
        Disk {
            buffers: Buffers::new(depth(), BLOCK, want).expect("four pages"),
            fate,
            writes: 0,
            blocks: HashMap::new(),
            times: HashMap::new(),
            held: Vec::new(),
            writing: Vec::new(),
        }
    }

    fn write(&mut self, slot: &Slot, op: Op) -> Outcome {
        let done = Outcome::Done(op.len);
        let buffer = self.buffers.of(slot);
        let mut words: Vec<u64> = (0..op.len.as_usize())
            .step_by(8)
            .map(|at| buffer.word(at).expect("inside"))
            .collect();
        self.writes += 1;
        let nth = |n: u64| self.writes.is_multiple_of(n);
        match self.fate {
            Fate::Lost(n) if nth(n) => return done,
            Fate::Failing(n) if nth(n) => return Outcome::Failed(FailCode(5)),
            Fate::Spilled(n) if nth(n) => {
                self.blocks.insert(op.at.0 + BLOCK.0, words.clone());
            }
            Fate::Damaged(n) if nth(n) => words[300] ^= 1 << 17,
            _ => {}
        }
        self.blocks.insert(op.at.0, words);
        *self.times.entry(op.at.0).or_default() += 1;
        done
    }
}

impl Engine for Disk {
    fn limits(&self) -> Limits {
        Limits {
            depth: 4,
            align: Bytes(512),
            completes: Completes::Device,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        if op.kind == OpKind::Write {
            assert!(!self.writing.contains(&op.at.0), "two writes at once");
            self.writing.push(op.at.0);
        }
        self.held.push((slot, op));
        Ok(())
    }

    fn ring(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        // Half of what is in flight, so that operations overlap.
        let n = self.held.len().div_ceil(2);
        for (slot, op) in self.held.drain(..n).rev().collect::<Vec<_>>() {
            let mut outcome = Outcome::Done(op.len);
            if op.kind == OpKind::Write {
                outcome = self.write(&slot, op);
                self.writing.retain(|at| *at != op.at.0);
            } else if let Some(words) = self.blocks.get(&op.at.0) {
                let buffer = self.buffers.of(&slot);
                for (n, word) in words.iter().enumerate() {
                    buffer.set_word(n * 8, *word);
                }
            }
            done(slot, outcome);
        }
        Ok(n)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.buffers)
    }

    fn explain(&self, code: FailCode) -> String {
        format!("code {}", code.0)
    }
}

fn depth() -> QueueDepth {
    QueueDepth::new(4).expect("a depth")
}

fn recorded(mix: Mix, ledger: &Path) -> Stream {
    let head = LedgerHead {
        epoch: payload::epoch(),
        block: BLOCK,
        from: FROM,
        blocks: BLOCKS,
    };
    Ledger::create(ledger, &head).expect("made");
    let kept = Ledger::open(ledger, true).expect("opened");
    Stream::new(mix, BLOCK, BLOCKS, 5).from(FROM).recorded(kept)
}

fn go(disk: &mut Disk, mix: Mix, ops: u64, ledger: &Path) -> Tally {
    of(disk, recorded(mix, ledger), ops)
}

fn of(disk: &mut Disk, mut stream: Stream, ops: u64) -> Tally {
    let load = Load {
        depth: depth(),
        offer: None,
        ramp: Nanos(0),
        window: Window::Ops(ops),
        timed_by: TimedBy::Operation,
        patience: Nanos::SECOND,
    };
    let clock = Clock::get();
    let scratch = Scratch::new(&load, &mut stream);
    drive(
        disk,
        &mut stream,
        &load,
        clock,
        scratch,
        clock.now(),
        &mut |_| Step::Go,
    )
}

const MIXED: Mix = Mix::RandRw { read_percent: 50 };

#[test]
fn a_target_that_keeps_what_it_is_given_is_right_and_its_ledger_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger");
    let mut disk = Disk::new(Fate::Kept);
    // Every block is written once, so that reads find what is ours; then reads and writes overlap.
    for (mix, ops) in [(Mix::Write, BLOCKS), (MIXED, 5_000)] {
        let tally = go(&mut disk, mix, ops, &path);
        assert_eq!(tally.broken(), None);
        assert_eq!(tally.errors(), 0);
    }
    let ledger = Ledger::open(&path, false).expect("left there");
    for (at, words) in &disk.blocks {
        let (posted, acknowledged) = ledger.entry(ByteOffset(*at)).expect("of the region");
        assert_eq!(posted, acknowledged, "all came back");
        let generation = u32::try_from(words[3]).expect("small");
        assert_eq!(generation, posted, "block at {at}");
    }
}

#[test]
fn what_a_target_loses_mixes_up_or_damages_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    for (fate, said) in [
        (Fate::Lost(50), "holds an older write"),
        (Fate::Spilled(50), "holds what belongs to sector"),
        (Fate::Damaged(50), "has a checksum that does not fit"),
    ] {
        let path = folder.path().join("ledger");
        let mut disk = Disk::new(Fate::Kept);
        assert_eq!(go(&mut disk, Mix::Write, BLOCKS, &path).broken(), None);
        disk.fate = fate;
        let tally = go(&mut disk, MIXED, 5_000, &path);
        let mismatch = tally.failures().next().map(|f| f.0);
        assert_eq!(mismatch, Some(FailCode::MISMATCH), "{said}");
        let why = tally.broken().unwrap_or_default();
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn a_block_whose_write_failed_is_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger");
    let mut disk = Disk::new(Fate::Kept);
    assert_eq!(go(&mut disk, Mix::Write, BLOCKS, &path).broken(), None);
    disk.fate = Fate::Failing(7);
    let tally = go(&mut disk, MIXED, 2_000, &path);
    assert_eq!(tally.broken(), None, "it went on to its end");
    let codes: Vec<FailCode> = tally.failures().map(|f| f.0).collect();
    assert_eq!(codes, [FailCode(5)], "no read is wrong for it");
    assert!(tally.errors() > 100, "{} failed", tally.errors());
}

#[test]
fn no_block_of_a_lap_is_left_out_because_it_was_busy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger");
    let mut disk = Disk::new(Fate::Kept);
    let stream = recorded(Mix::RandWrite, &path).each_once(9, 0, 1);
    let tally = of(&mut disk, stream, 40 * BLOCKS);
    assert_eq!(tally.broken(), None);
    let times: Vec<u64> = disk.times.values().copied().collect();
    assert_eq!(times.len() as u64, BLOCKS);
    // What is put off at the end, and the next lap's beginning, are of four blocks at most.
    let missed: u64 = times.iter().map(|n| n.abs_diff(40)).sum();
    assert!(missed <= 8, "{times:?}");
}
