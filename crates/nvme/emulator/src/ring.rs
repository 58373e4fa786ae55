//! Queues in the client's memory: entries of commands are loaded from it, entries of completions stored into it, word by word
//! and volatile, since the client may write them at any time.

use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use strata_nvme_spec::{CommandId, Cqe, QueueId, QueueSize, Status};
use strata_units::Iova;
use strata_vfio_user::Mapping;

use crate::dma::{Place, Shared};

/// A doorbell in the page that the client maps.
pub(crate) struct Bell {
    word: NonNull<u32>,
    _page: Rc<Mapping>,
}

impl Bell {
    /// The doorbell at this offset of the page; `None` outside.
    pub(crate) fn new(page: &Rc<Mapping>, offset: usize) -> Option<Bell> {
        let inside = offset.checked_add(4)? <= page.len().as_usize() && offset.is_multiple_of(4);
        let word = NonNull::new(page.as_ptr().wrapping_add(offset).cast())?;
        inside.then(|| Bell {
            word,
            _page: Rc::clone(page),
        })
    }

    /// What was written to it last; its upper half is reserved.
    #[inline(always)]
    fn load(&self) -> u32 {
        // SAFETY: the word is aligned and lies in the page, which stays mapped with `_page`. Acquire: the entries that the
        // client stored before it rang are seen.
        let value = unsafe { AtomicU32::from_ptr(self.word.as_ptr()) }.load(Ordering::Acquire);
        u32::from_le(value) & 0xffff
    }

    /// As if the client had written it.
    pub(crate) fn store(&self, value: u32) {
        // SAFETY: as in `load`; the page is mapped to be written.
        let word = unsafe { AtomicU32::from_ptr(self.word.as_ptr()) };
        word.store(value.to_le(), Ordering::Release);
    }
}

/// No doorbell has this value.
const NEVER: u32 = u32::MAX;

/// A submission queue.
pub(crate) struct Submissions {
    entries: NonNull<u64>,
    size: u32,
    head: u32,
    tail: u32,
    bell: Bell,
    /// The value of the doorbell that no tail can have and that was told of.
    told: u32,
    wrong: bool,
    pub(crate) id: QueueId,
    /// The number of its completion queue in the list.
    pub(crate) completions: usize,
    at: Iova,
    _memory: Rc<Shared>,
}

impl Submissions {
    /// An empty one at `place`, which has room for its entries and begins at a page.
    pub(crate) fn new(
        id: QueueId,
        size: QueueSize,
        place: Place,
        bell: Bell,
        completions: usize,
        at: Iova,
    ) -> Submissions {
        bell.store(0);
        Submissions {
            entries: place.start.cast(),
            size: size.entries(),
            head: 0,
            tail: 0,
            bell,
            told: NEVER,
            wrong: false,
            id,
            completions,
            at,
            _memory: place.memory,
        }
    }

    /// How many entries wait to be fetched.
    #[inline(always)]
    pub(crate) fn waiting(&mut self) -> u32 {
        let tail = self.bell.load();
        if tail != self.tail {
            self.turn(tail);
        }
        let ahead = self.tail.wrapping_sub(self.head);
        if self.tail < self.head {
            ahead.wrapping_add(self.size)
        } else {
            ahead
        }
    }

    /// A new tail, if it can be one.
    #[inline(always)]
    fn turn(&mut self, tail: u32) {
        if tail < self.size {
            self.tail = tail;
        } else if tail != self.told {
            self.told = tail;
            self.wrong = true;
        }
    }

    /// Whether the doorbell was given a value that no tail can have, since this was asked last.
    pub(crate) fn was_wrong(&mut self) -> bool {
        std::mem::take(&mut self.wrong)
    }

    /// Word `n` of 8 of the entry at the head.
    #[inline(always)]
    pub(crate) fn word(&self, n: usize) -> u64 {
        debug_assert!(n < 8);
        // SAFETY: the head is below the size, for which there is room; entries of 64 bytes begin at a page, so that their
        // words are aligned; the memory stays mapped with `_memory`.
        let word = unsafe { self.entries.add(self.head as usize * 8 + n).read_volatile() };
        u64::from_le(word)
    }

    /// All words of the entry at the head.
    pub(crate) fn words(&self) -> [u64; 8] {
        // As they lie in memory: the entry's own fields are little-endian.
        std::array::from_fn(|n| self.word(n).to_le())
    }

    /// The entry at the head was fetched.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        self.head += 1;
        if self.head == self.size {
            self.head = 0;
        }
    }

    /// Whether it lies in the memory from `start` to `end`.
    pub(crate) fn lies_in(&self, start: Iova, end: Iova) -> bool {
        (start..end).contains(&self.at)
    }

    /// It is deleted: its doorbell belongs to no queue any more.
    pub(crate) fn end(self) {
        self.bell.store(0);
    }

    /// The head, as completions tell it.
    #[inline(always)]
    pub(crate) fn head(&self) -> u16 {
        self.head as u16
    }
}

/// A completion queue.
pub(crate) struct Completions {
    entries: NonNull<u64>,
    size: u32,
    tail: u32,
    /// The client's head, as it was looked at last.
    head: u32,
    phase: bool,
    bell: Bell,
    told: u32,
    wrong: bool,
    /// Completions that were promised to commands that were fetched.
    owed: u32,
    /// Completions that wait to be stored a second time, to which nothing was promised.
    again: u32,
    /// Whether there are completions that no interrupt told of.
    fresh: bool,
    pub(crate) id: QueueId,
    pub(crate) vector: Option<u16>,
    /// Submission queues that complete here.
    pub(crate) users: u32,
    at: Iova,
    _memory: Rc<Shared>,
}

impl Completions {
    /// An empty one at `place`, which has room for its entries, begins at a page and may be written.
    pub(crate) fn new(
        id: QueueId,
        size: QueueSize,
        place: Place,
        bell: Bell,
        vector: Option<u16>,
        at: Iova,
    ) -> Completions {
        bell.store(0);
        Completions {
            entries: place.start.cast(),
            size: size.entries(),
            tail: 0,
            head: 0,
            phase: true,
            bell,
            told: NEVER,
            wrong: false,
            owed: 0,
            again: 0,
            fresh: false,
            id,
            vector,
            users: 0,
            at,
            _memory: place.memory,
        }
    }

    /// How many completions may be stored beyond those that are owed. Looks at the client's head only when fewer than
    /// `wanted` are known of, since that is a cache line of the client's.
    #[inline(always)]
    pub(crate) fn room(&mut self, wanted: u32) -> u32 {
        let room = self.free().saturating_sub(self.owed);
        if room >= wanted {
            return room;
        }
        self.look();
        self.free().saturating_sub(self.owed)
    }

    #[inline(always)]
    fn free(&self) -> u32 {
        self.size - 1 - self.used(self.head)
    }

    /// Entries from `head` to the tail.
    #[inline(always)]
    fn used(&self, head: u32) -> u32 {
        if self.tail >= head {
            self.tail - head
        } else {
            self.tail + self.size - head
        }
    }

    /// Looks at the client's head: one of another place than from the last one to the tail is none.
    #[inline(always)]
    pub(crate) fn look(&mut self) {
        let head = self.bell.load();
        if head == self.head {
            return;
        }
        if head < self.size && self.used(head) <= self.used(self.head) {
            self.head = head;
        } else if head != self.told {
            self.told = head;
            self.wrong = true;
        }
    }

    /// Whether the doorbell was given a value that no head can have, since this was asked last.
    pub(crate) fn was_wrong(&mut self) -> bool {
        std::mem::take(&mut self.wrong)
    }

    /// Keeps room for a completion.
    pub(crate) fn owe(&mut self) {
        self.owed += 1;
    }

    /// Gives up room that was kept.
    pub(crate) fn forgive(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// Whether one more may wait to be stored a second time; it does then.
    pub(crate) fn repeats(&mut self) -> bool {
        let room = self.again < self.size;
        self.again += u32::from(room);
        room
    }

    /// One that waited to be stored a second time does so no more.
    pub(crate) fn repeated(&mut self) {
        self.again = self.again.saturating_sub(1);
    }

    /// Its entries.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Stores a completion, for which there must be room.
    #[inline(always)]
    pub(crate) fn post(&mut self, of: &Submissions, cid: CommandId, dw0: u32, status: Status) {
        self.store(of, cid, dw0, status, self.phase);
    }

    /// Stores a completion that looks like one of the round before.
    pub(crate) fn post_stale(&mut self, of: &Submissions, cid: CommandId, status: Status) {
        self.store(of, cid, 0, status, !self.phase);
    }

    #[inline(always)]
    fn store(&mut self, of: &Submissions, cid: CommandId, dw0: u32, status: Status, phase: bool) {
        let [first, second] = Cqe::new(cid, of.id, of.head(), dw0, status, phase).words();
        // SAFETY: the tail is below the size, for which there is room; entries of 16 bytes begin at a page, so that their
        // words are aligned; the memory stays mapped, to be written, with `_memory`. The second word, with the phase tag,
        // is stored after the first and after all data (Release), which the client's load of it waits for.
        unsafe {
            let entry = self.entries.add(self.tail as usize * 2);
            entry.write_volatile(first);
            AtomicU64::from_ptr(entry.add(1).as_ptr()).store(second, Ordering::Release);
        }
        self.tail += 1;
        if self.tail == self.size {
            self.tail = 0;
            self.phase = !self.phase;
        }
        self.fresh = true;
    }

    /// The interrupt that tells of completions that were stored since this was asked last, if any were.
    #[inline(always)]
    pub(crate) fn interrupt(&mut self) -> Option<u16> {
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        self.vector
    }

    /// It is deleted: its doorbell belongs to no queue any more.
    pub(crate) fn end(self) {
        self.bell.store(0);
    }

    /// Whether it lies in the memory from `start` to `end`.
    pub(crate) fn lies_in(&self, start: Iova, end: Iova) -> bool {
        (start..end).contains(&self.at)
    }
}
