//! A controller in this process, as wrong as a test wants it. It works when CSTS is read, which a driver that waits does, so
//! that no thread is needed and nothing depends on time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_memory::{Huge, Lock, Region, Want};
use strata_nvme::{Carrier, CarrierError};
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::registers::{Aqa, Cap, Cc, Csts, Doorbell, Shutdown, ShutdownStatus, offset};
use strata_nvme_spec::{Cqe, QueueId, Sqe, Status};
use strata_units::{ByteOffset, Bytes};
use strata_vfio_user::Mapping;

use crate::answers::{self, Reply};
use crate::carrier::error;

/// Queue pairs that it grants.
pub(crate) const PAIRS: u32 = 2;
/// Its doorbells' memory: enough for [`PAIRS`] at the largest stride.
pub(crate) const BAR: u64 = 1 << 20;

type Answer = Box<dyn FnMut(&Sqe) -> Option<Reply> + Send>;

/// What it is, what it does wrong, and what it saw.
pub(crate) struct Model {
    pub(crate) cap: u64,
    pub(crate) version: u32,
    pub(crate) crto: u32,
    pub(crate) config: [u8; 64],
    /// Bits of the command register that cannot be set.
    pub(crate) stuck: u16,
    pub(crate) serial: String,
    pub(crate) cc: Cc,
    pub(crate) csts: Csts,
    /// Looks at CSTS until RDY follows CC.EN; never where it is the largest number.
    pub(crate) looks_to_rise: u32,
    pub(crate) looks_to_fall: u32,
    /// CSTS.CFS once it is enabled.
    pub(crate) fatal: bool,
    /// All registers read as ones.
    pub(crate) gone: bool,
    /// The same once it is enabled.
    pub(crate) goes: bool,
    /// Why it was let go of.
    pub(crate) let_go: Option<&'static str>,
    /// Shutdowns, and whether it never completes one.
    pub(crate) shutdowns: u32,
    pub(crate) stays_up: bool,
    /// Whether the function can be reset, and whether that stops it.
    pub(crate) resettable: bool,
    /// Accesses until the carrier fails for good.
    pub(crate) accesses: Option<u32>,
    /// Bytes of doorbells.
    pub(crate) bar: u64,
    /// Answers instead of the right ones.
    pub(crate) answer: Answer,
    /// What was given, by opcode and dword 10.
    pub(crate) seen: Vec<(u8, u32)>,
    /// Controller resets and resets of the function.
    pub(crate) stops: u32,
    pub(crate) resets: u32,
    /// What a driver may never do.
    pub(crate) violations: Vec<String>,
    pub(crate) aqa: u32,
    pub(crate) asq: u64,
    pub(crate) acq: u64,
    looks: u32,
    head: u32,
    tail: u32,
    phase: bool,
    bells: Mapping,
    pub(crate) bells_file: Region,
    pub(crate) maps: BTreeMap<u64, Mapping>,
    /// I/O queues: where they lie, by completion (false) or submission (true) and number.
    pub(crate) queues: BTreeMap<(bool, u16), u64>,
}

/// The test's end.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<Model>>);

impl Fake {
    /// A sound controller with one namespace.
    pub(crate) fn new() -> Fake {
        let bells_file = Region::shared(&Want {
            bytes: Bytes(BAR),
            node: None,
            huge: Huge::Never,
            lock: Lock::Never,
        })
        .expect("memory");
        let mut config = [0; 64];
        config[..4].copy_from_slice(&0x0001_fff0_u32.to_le_bytes());
        config[8..12].copy_from_slice(&0x0108_0200_u32.to_le_bytes());
        Fake(Arc::new(Mutex::new(Model {
            // NVM command set, TO 500 ms, contiguous, 1024 entries.
            cap: 1 << 37 | 1 << 24 | 1 << 16 | 1023,
            version: 0x0001_0400,
            crto: 0,
            config,
            stuck: 0,
            serial: "FAKE1".to_owned(),
            cc: Cc(0),
            csts: Csts(0),
            looks_to_rise: 1,
            looks_to_fall: 1,
            fatal: false,
            gone: false,
            goes: false,
            let_go: None,
            shutdowns: 0,
            stays_up: false,
            resettable: true,
            accesses: None,
            bar: BAR,
            answer: Box::new(|_| None),
            seen: Vec::new(),
            stops: 0,
            resets: 0,
            violations: Vec::new(),
            aqa: 0,
            asq: 0,
            acq: 0,
            looks: 0,
            head: 0,
            tail: 0,
            phase: true,
            bells: map(&bells_file, Bytes(BAR)),
            bells_file,
            maps: BTreeMap::new(),
            queues: BTreeMap::new(),
        })))
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut Model)) -> Fake {
        change(&mut self.lock());
        self
    }

    /// Answers commands otherwise, where `answer` has one.
    pub(crate) fn answers(&self, answer: impl FnMut(&Sqe) -> Option<Reply> + Send + 'static) {
        self.lock().answer = Box::new(answer);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn carrier(&self) -> Box<dyn Carrier> {
        Box::new(self.clone())
    }

    /// How many commands of an opcode were given.
    pub(crate) fn count(&self, opcode: u8) -> usize {
        let model = self.lock();
        model.seen.iter().filter(|(op, _)| *op == opcode).count()
    }

    /// That the driver did nothing that it may not, and left nothing behind.
    pub(crate) fn is_left_clean(&self) {
        let model = self.lock();
        assert!(model.violations.is_empty(), "{:#?}", model.violations);
        assert!(model.maps.is_empty(), "memory is still mapped");
        assert!(!model.cc.en(), "it is still enabled");
    }
}

pub(crate) fn map(region: &Region, len: Bytes) -> Mapping {
    let file = region.file().expect("a shared region");
    Mapping::new(file, ByteOffset(0), len, true).expect("mapped")
}

impl Model {
    pub(crate) fn access(&mut self, what: &str) -> Result<(), CarrierError> {
        match &mut self.accesses {
            Some(0) => Err(error(what)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Where a word of the driver's memory lies.
    fn memory(&self, at: u64) -> Option<(&Mapping, ByteOffset)> {
        let (start, map) = self.maps.range(..=at).next_back()?;
        Some((map, ByteOffset(at - start)))
    }

    fn load(&mut self, at: u64) -> u64 {
        let word = self.memory(at).and_then(|(map, at)| map.load_u64(at));
        word.unwrap_or_else(|| {
            self.violations
                .push(format!("{at:#x} is read, and not mapped"));
            0
        })
    }

    fn store(&mut self, at: u64, word: u64) {
        let stored = self
            .memory(at)
            .and_then(|(map, at)| map.store_u64(at, word));
        if stored.is_none() {
            self.violations
                .push(format!("{at:#x} is written, and not mapped"));
        }
    }

    pub(crate) fn look(&mut self) {
        self.looks += 1;
        let (en, rdy) = (self.cc.en(), self.csts.rdy());
        if en && self.cc.shutdown() != Shutdown::None && !self.stays_up {
            self.csts = self.csts.with_shutdown(ShutdownStatus::Complete);
            return;
        }
        if en && !rdy && self.looks > self.looks_to_rise {
            self.csts = self.csts.with_rdy(true);
        }
        if !en && rdy && self.looks > self.looks_to_fall {
            self.stopped();
        }
        if en && self.csts.rdy() && !self.csts.cfs() && self.cc.shutdown() == Shutdown::None {
            self.work();
        }
    }

    pub(crate) fn stopped(&mut self) {
        self.csts = Csts(0);
        self.queues.clear();
        let stride = Cap(self.cap).doorbell_stride();
        for n in 0..2 * (u64::from(PAIRS) + 1) {
            self.bells.store_u32(ByteOffset(n * stride.0), 0);
        }
    }

    pub(crate) fn configure(&mut self, cc: Cc) {
        let before = std::mem::replace(&mut self.cc, cc);
        self.looks = 0;
        if cc.en() && !before.en() {
            (self.head, self.tail, self.phase) = (0, 0, true);
            let page = cc.page().bytes().0;
            if !self.asq.is_multiple_of(page) || !self.acq.is_multiple_of(page) {
                self.violations.push("admin queues off a page".to_owned());
            }
            if self.config[4] & 0b110 != 0b110 {
                self.violations
                    .push("enabled without bus master".to_owned());
            }
            self.csts = self.csts.with_cfs(self.fatal);
            self.gone |= self.goes;
        }
        if before.shutdown() != cc.shutdown() && cc.shutdown() == Shutdown::Normal {
            self.shutdowns += 1;
        }
        if before.en() && !cc.en() {
            self.stops += 1;
        }
    }

    fn work(&mut self) {
        let aqa = Aqa(self.aqa);
        let (Some(submissions), Some(_)) = (aqa.submission(), aqa.completion()) else {
            self.violations
                .push("enabled without admin queues".to_owned());
            return;
        };
        let tail = self.bell(Doorbell::Tail(QueueId::ADMIN)).unwrap_or(0);
        if tail >= submissions.entries() {
            self.violations.push(format!("a tail of {tail}"));
            return;
        }
        while self.head != tail {
            let at = self.asq + 64 * u64::from(self.head);
            let words = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| self.load(at + 8 * n));
            self.head = (self.head + 1) % submissions.entries();
            self.execute(&Sqe::from_words(words));
        }
    }

    fn bell(&self, which: Doorbell) -> Option<u32> {
        let stride = Cap(self.cap).doorbell_stride();
        self.bells
            .load_u32(ByteOffset(which.offset(stride) - offset::DOORBELLS))
    }

    fn execute(&mut self, sqe: &Sqe) {
        let cdw10 = sqe.cdw10.get();
        self.seen.push((sqe.opcode, cdw10));
        if sqe.cid.get() == u16::MAX {
            self.violations.push("identifier FFFFh".to_owned());
        }
        let reply = (self.answer)(sqe).unwrap_or_else(|| answers::right(sqe, &self.serial));
        if reply.status.is_success() {
            let id = cdw10 as u16;
            match sqe.opcode {
                opcode::CREATE_COMPLETION_QUEUE => self.create(false, id, sqe),
                opcode::CREATE_SUBMISSION_QUEUE => self.create(true, id, sqe),
                opcode::DELETE_COMPLETION_QUEUE => self.delete(false, id),
                opcode::DELETE_SUBMISSION_QUEUE => self.delete(true, id),
                _ => {}
            }
        }
        self.give(sqe, &reply.data);
        for cid in &reply.completions {
            self.complete(
                cid.unwrap_or(sqe.cid.get()),
                reply.dword,
                reply.status,
                reply.phase,
            );
        }
    }

    fn create(&mut self, submission: bool, id: u16, sqe: &Sqe) {
        let page = self.cc.page().bytes().0;
        let at = sqe.prp1.get();
        if !at.is_multiple_of(page) || sqe.cdw11.get() & 1 != 1 || id == 0 {
            self.violations.push(format!("queue {id} at {at:#x}"));
        }
        if submission && !self.queues.contains_key(&(false, id)) {
            self.violations
                .push(format!("queue {id} without completions"));
        }
        if self.queues.insert((submission, id), at).is_some() {
            self.violations.push(format!("queue {id} twice"));
        }
    }

    fn delete(&mut self, submission: bool, id: u16) {
        if self.queues.remove(&(submission, id)).is_none() {
            self.violations.push(format!("no queue {id} to delete"));
        }
        if !submission && self.queues.contains_key(&(true, id)) {
            self.violations.push(format!("completions of {id} first"));
        }
    }

    /// Writes an answer by its PRP entries.
    fn give(&mut self, sqe: &Sqe, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let mut lists = Vec::new();
        let len = Bytes(data.len() as u64);
        let pieces: Vec<_> = strata_nvme_spec::prp::walk(self.cc.page(), sqe.data(), len, |at| {
            lists.push(at.0);
            self.memory(at.0).and_then(|(map, at)| map.load_u64(at))
        })
        .collect();
        let mut data = data;
        for piece in pieces {
            let Ok((at, len)) = piece else {
                self.violations
                    .push(format!("a wrong PRP entry: {piece:?}"));
                return;
            };
            let (now, then) = data.split_at(len.as_usize());
            for (n, word) in now.chunks(8).enumerate() {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                self.store(at.0 + 8 * n as u64, u64::from_le_bytes(bytes));
            }
            data = then;
        }
    }

    fn complete(&mut self, cid: u16, dword: u32, status: Status, phase: bool) {
        let Some(entries) = Aqa(self.aqa).completion() else {
            return;
        };
        let cid = strata_nvme_spec::CommandId(cid);
        let phase = self.phase == phase;
        let cqe = Cqe::new(cid, QueueId::ADMIN, self.head as u16, dword, status, phase);
        let at = self.acq + 16 * u64::from(self.tail);
        let [first, second] = cqe.words();
        self.store(at, first);
        self.store(at + 8, second);
        self.tail = (self.tail + 1) % entries.entries();
        if self.tail == 0 {
            self.phase = !self.phase;
        }
    }
}
