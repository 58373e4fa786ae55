//! A host that drives a controller: as small a driver as there can be.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use strata_nvme_spec::command::admin::{Cns, GetLogPage, Identify, LogPage};
use strata_nvme_spec::command::nvm::ReadWrite;
use strata_nvme_spec::command::{CreateCompletionQueue, CreateSubmissionQueue, Priority};
use strata_nvme_spec::prp::contiguous;
use strata_nvme_spec::registers::{Aqa, Cap, Cc, Csts, Doorbell, offset};
use strata_nvme_spec::{
    BlockCount, CommandId, Cqe, Lba, NamespaceId, PageSize, QueueId, QueueSize, Sqe, Status,
};
use strata_units::{ByteOffset, Bytes, Iova};
use strata_vfio_user::{Area, Client, Mapping, region};

use crate::served::{Emulator, LONG};

/// Where the host's memory begins for the device, and how long it is.
pub(crate) const BASE: u64 = 0x10_0000_0000;
pub(crate) const MEMORY: u64 = 16 << 20;

/// Offsets in the host's memory.
const ASQ: u64 = 0;
const ACQ: u64 = 0x1000;
/// Where I/O queues may lie: 64 KiB each.
pub(crate) const RINGS: u64 = 0x1_0000;
/// A page for answers of admin commands.
pub(crate) const ANSWER: u64 = 0x8000;
/// Pages for PRP lists.
pub(crate) const LISTS: u64 = 0x20_0000;
/// Data.
pub(crate) const DATA: u64 = 0x40_0000;

pub(crate) fn memory(len: u64) -> OwnedFd {
    let fd = memfd_create("host", MemfdFlags::CLOEXEC).expect("a memory object");
    ftruncate(&fd, len).expect("a length");
    fd
}

/// A pair of rings.
pub(crate) struct Ring {
    pub(crate) id: QueueId,
    pub(crate) sq: u64,
    pub(crate) cq: u64,
    pub(crate) size: u32,
    tail: u32,
    head: u32,
    phase: bool,
    next: u16,
}

impl Ring {
    fn new(id: u16, sq: u64, cq: u64, size: u32) -> Ring {
        Ring {
            id: QueueId(id),
            sq,
            cq,
            size,
            tail: 0,
            head: 0,
            phase: true,
            next: 0,
        }
    }
}

/// A host that has the controller.
pub(crate) struct Host {
    pub(crate) client: Client,
    pub(crate) file: OwnedFd,
    pub(crate) memory: Mapping,
    pub(crate) bells: Mapping,
    pub(crate) cap: Cap,
    pub(crate) page: PageSize,
    pub(crate) admin: Ring,
}

impl Host {
    /// With memory mapped and bus mastering on; nothing is enabled.
    pub(crate) fn cold(emulator: &Emulator) -> Host {
        let mut client = emulator.client();
        let bar = client.region(region::BAR0).expect("BAR 0");
        let bells = Area {
            at: ByteOffset(0x1000),
            len: Bytes(0x1000),
        };
        let bells = bar.map(bells).expect("doorbells");
        let file = memory(MEMORY);
        let len = Bytes(MEMORY);
        let map = client.dma_map(file.as_fd(), ByteOffset(0), Iova(BASE), len);
        map.expect("mapped");
        let memory = Mapping::new(file.as_fd(), ByteOffset(0), len, true).expect("mapped");
        client
            .write(region::CONFIG, ByteOffset(4), &[6, 0])
            .expect("bus mastering");
        let mut host = Host {
            client,
            file,
            memory,
            bells,
            cap: Cap(0),
            page: PageSize::FOUR_KIB,
            admin: Ring::new(0, ASQ, ACQ, 32),
        };
        host.cap = Cap(host.read64(offset::CAP));
        host
    }

    /// With the controller enabled.
    pub(crate) fn new(emulator: &Emulator) -> Host {
        let mut host = Host::cold(emulator);
        host.enable();
        let csts = host.wait_csts(|csts| csts.rdy() || csts.cfs());
        assert!(csts.rdy() && !csts.cfs(), "{csts:?}");
        host
    }

    pub(crate) fn enable(&mut self) {
        let size = QueueSize::new(self.admin.size).expect("a size");
        self.write32(offset::AQA, Aqa::new(size, size).expect("small").0);
        self.write64(offset::ASQ, BASE + ASQ);
        self.write64(offset::ACQ, BASE + ACQ);
        self.admin = Ring::new(0, ASQ, ACQ, self.admin.size);
        self.zero(ACQ, 0x1000);
        self.write32(offset::CC, Cc::enabling(self.page).0);
    }

    pub(crate) fn wait_csts(&mut self, until: impl Fn(Csts) -> bool) -> Csts {
        let end = Instant::now() + LONG.as_duration();
        loop {
            let csts = Csts(self.read32(offset::CSTS));
            if until(csts) {
                return csts;
            }
            assert!(Instant::now() < end, "{csts:?} for too long");
            sleep(Duration::from_micros(200));
        }
    }

    pub(crate) fn read32(&mut self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.client
            .read(0, ByteOffset(at), &mut bytes)
            .expect("read");
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn read64(&mut self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.client
            .read(0, ByteOffset(at), &mut bytes)
            .expect("read");
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn write32(&mut self, at: u64, value: u32) {
        let written = self.client.write(0, ByteOffset(at), &value.to_le_bytes());
        written.expect("written");
    }

    pub(crate) fn write64(&mut self, at: u64, value: u64) {
        let written = self.client.write(0, ByteOffset(at), &value.to_le_bytes());
        written.expect("written");
    }

    pub(crate) fn zero(&self, at: u64, len: u64) {
        for word in (at..at + len).step_by(8) {
            self.memory.store_u64(ByteOffset(word), 0).expect("inside");
        }
    }

    /// Puts bytes into the host's memory, whole words of them.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        for (n, word) in bytes.chunks_exact(4).enumerate() {
            let word = u32::from_le_bytes(word.try_into().expect("four"));
            let at = ByteOffset(at + 4 * n as u64);
            self.memory.store_u32(at, word).expect("inside");
        }
    }

    pub(crate) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        (0..len as u64 / 4)
            .flat_map(|n| {
                let word = self.memory.load_u32(ByteOffset(at + 4 * n));
                word.expect("inside").to_le_bytes()
            })
            .collect()
    }

    /// Writes a doorbell in the shared page.
    pub(crate) fn bell(&self, doorbell: Doorbell, value: u32) {
        let at = doorbell.offset(self.cap.doorbell_stride()) - offset::DOORBELLS;
        self.bells.store_u32(ByteOffset(at), value).expect("inside");
    }

    /// Puts a command behind the tail, under a new identifier.
    pub(crate) fn push(&self, ring: &mut Ring, sqe: Sqe) -> CommandId {
        let cid = CommandId(ring.next);
        ring.next = (ring.next + 1) % 0xffff;
        let at = ring.sq + u64::from(ring.tail) * 64;
        for (n, word) in (0u64..).zip(sqe.with_cid(cid).words()) {
            let at = ByteOffset(at + 8 * n);
            self.memory
                .store_u64(at, u64::from_le(word))
                .expect("inside");
        }
        ring.tail = (ring.tail + 1) % ring.size;
        cid
    }

    pub(crate) fn ring(&self, ring: &Ring) {
        std::sync::atomic::fence(Ordering::SeqCst);
        self.bell(Doorbell::Tail(ring.id), ring.tail);
    }

    /// The next completion, if it is there; its place is given back.
    pub(crate) fn poll(&self, ring: &mut Ring) -> Option<Cqe> {
        let at = ring.cq + u64::from(ring.head) * 16;
        let second = self.memory.load_u64(ByteOffset(at + 8)).expect("inside");
        let cqe = Cqe::from_words([0, second.to_le()]);
        if cqe.phase() != ring.phase {
            return None;
        }
        std::sync::atomic::fence(Ordering::SeqCst);
        let first = self.memory.load_u64(ByteOffset(at)).expect("inside");
        ring.head += 1;
        if ring.head == ring.size {
            ring.head = 0;
            ring.phase = !ring.phase;
        }
        self.bell(Doorbell::Head(ring.id), ring.head);
        Some(Cqe::from_words([first.to_le(), second.to_le()]))
    }

    pub(crate) fn wait(&self, ring: &mut Ring) -> Cqe {
        let end = Instant::now() + LONG.as_duration();
        loop {
            if let Some(cqe) = self.poll(ring) {
                return cqe;
            }
            assert!(Instant::now() < end, "no completion in queue {}", ring.id);
            yield_now();
        }
    }

    /// Nothing completes for a while that is long for the emulator.
    pub(crate) fn silent(&self, ring: &mut Ring, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            assert_eq!(self.poll(ring), None);
            sleep(Duration::from_micros(500));
        }
    }

    /// Carries a command out.
    pub(crate) fn run(&self, ring: &mut Ring, sqe: Sqe) -> Cqe {
        let cid = self.push(ring, sqe);
        self.ring(ring);
        let cqe = self.wait(ring);
        assert_eq!((cqe.cid(), cqe.sqid()), (cid, ring.id));
        cqe
    }

    /// The admin rings, to be put back.
    pub(crate) fn take_admin(&mut self) -> Ring {
        std::mem::replace(&mut self.admin, Ring::new(0, 0, 0, 2))
    }

    /// Carries an admin command out.
    pub(crate) fn admin(&mut self, sqe: Sqe) -> Cqe {
        let mut ring = self.take_admin();
        let cqe = self.run(&mut ring, sqe);
        self.admin = ring;
        cqe
    }

    pub(crate) fn admin_status(&mut self, sqe: Sqe) -> Status {
        self.admin(sqe).status()
    }

    /// Carries an admin command out that answers into a page.
    pub(crate) fn ask(&mut self, sqe: Sqe, len: u64) -> Vec<u8> {
        let at = Iova(BASE + ANSWER);
        let data = contiguous(self.page, at, Bytes(len), |_| Iova(0), |_, _, _| {});
        let cqe = self.admin(sqe.with_data(data.expect("two pages")));
        assert!(cqe.status().is_success(), "{}", cqe.status());
        self.get(ANSWER, len as usize)
    }

    pub(crate) fn identify(&mut self, cns: Cns, nsid: u32) -> Vec<u8> {
        let nsid = NamespaceId(nsid);
        self.ask(Identify { cns, nsid }.sqe(), 4096)
    }

    pub(crate) fn log(&mut self, page: LogPage, len: u64, retain_event: bool) -> Vec<u8> {
        let get = GetLogPage {
            page,
            nsid: NamespaceId::ALL,
            len: Bytes(len),
            from: Bytes(0),
            retain_event,
        };
        self.ask(get.sqe(), len)
    }

    /// Makes I/O queue pair `id` with so many entries.
    pub(crate) fn pair(&mut self, id: u16, size: u32, vector: Option<u16>) -> Ring {
        let place = RINGS + u64::from(id - 1) * 0x2_0000;
        let (sq, cq) = (place, place + 0x1_0000);
        self.zero(cq, u64::from(size) * 16);
        let entries = QueueSize::new(size).expect("a size");
        let completions = CreateCompletionQueue {
            id: QueueId(id),
            size: entries,
            at: Iova(BASE + cq),
            contiguous: true,
            vector,
        };
        let status = self.admin_status(completions.sqe());
        assert!(status.is_success(), "{status}");
        let submissions = CreateSubmissionQueue {
            id: QueueId(id),
            size: entries,
            at: Iova(BASE + sq),
            contiguous: true,
            priority: Priority::Urgent,
            completions: QueueId(id),
        };
        let status = self.admin_status(submissions.sqe());
        assert!(status.is_success(), "{status}");
        Ring::new(id, sq, cq, size)
    }

    /// A read or write of `len` bytes from offset `at` of the host's memory.
    pub(crate) fn transfer(
        &self,
        write: bool,
        nsid: u32,
        first: u64,
        block: u64,
        at: u64,
        len: u64,
    ) -> Sqe {
        let command = ReadWrite {
            write,
            nsid: NamespaceId(nsid),
            first: Lba(first),
            blocks: BlockCount::new((len / block) as u32).expect("blocks"),
            fua: false,
        };
        let page = self.page.bytes().0;
        let list = |n: u64| Iova(BASE + LISTS + n * page);
        let put = |n: u64, entry: u64, value: Iova| {
            let at = ByteOffset(LISTS + n * page + 8 * entry);
            self.memory.store_u64(at, value.0).expect("inside");
        };
        let data = contiguous(self.page, Iova(BASE + at), Bytes(len), list, put);
        command.sqe().with_data(data.expect("pointers"))
    }
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|n| {
            (n.wrapping_mul(0x9e37_79b9)
                .wrapping_add(seed.wrapping_mul(0x85eb_ca6b))
                >> 24) as u8
        })
        .collect()
}
