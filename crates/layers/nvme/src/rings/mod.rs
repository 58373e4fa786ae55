//! A submission queue and its completion queue: rings in memory that a controller reads and writes.
//!
//! Commands are stored behind the tail and told by one doorbell for all of them; completions are found by their phase tag,
//! which the controller inverts each time round (Base 3.3.1, 4.2.4). One command less than the submission queue has entries
//! is outstanding at most, counted until its completion is taken, so that a full ring differs from an empty one whether or
//! not the controller has fetched. The completion queue's head is told late: together with the next batch, once a part of
//! the queue has been taken, since each doorbell is a write over the bus.

mod entry;
mod order;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use strata_memory::{Huge, Lock, MemoryError, Region, Want};
use strata_nvme_spec::{CommandId, Cqe, PageSize, QueueSize, Sqe, Status};
use strata_units::{Bytes, Iova, NodeId};

use crate::{Bell, DmaError, Function, Mapped};
use entry::{Entry, store};
use order::after_phase;
pub(crate) use order::before_doorbell;

const SQE: u64 = size_of::<Sqe>() as u64;
const CQE: u64 = size_of::<Cqe>() as u64;

/// How a pair of rings is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries of the submission queue.
    pub submission: QueueSize,
    /// Entries of the completion queue; not fewer.
    pub completion: QueueSize,
    /// Memory beside them that the device sees too, for lists and data.
    pub scratch: Bytes,
    /// The memory node.
    pub node: Option<NodeId>,
}

impl Layout {
    /// Bytes of the completion queue, which comes first, and of the submission queue, which comes next, each in whole memory
    /// pages: both must begin at one (Base 3.1.4.9, 3.1.4.10; PRP 1 of 5.2.1, 5.2.2).
    fn parts(&self, page: PageSize) -> (u64, u64) {
        let whole = |entries: u32, entry: u64| {
            (u64::from(entries) * entry).next_multiple_of(page.bytes().0)
        };
        (
            whole(self.completion.entries(), CQE),
            whole(self.submission.entries(), SQE),
        )
    }
}

/// Why there are no rings.
#[derive(Debug, thiserror::Error)]
pub enum RingsError {
    /// There is no memory for them.
    #[error("no memory for an NVMe queue: {0}")]
    Memory(#[from] MemoryError),
    /// The device cannot see it.
    #[error(transparent)]
    Dma(#[from] DmaError),
}

/// A completed command, as its entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The entry's second word, which alone is needed of most.
    word: u64,
}

impl Completion {
    /// Which command.
    #[inline(always)]
    pub fn cid(self) -> CommandId {
        CommandId((self.word >> 32) as u16)
    }

    /// What became of it.
    #[inline(always)]
    pub fn status(self) -> Status {
        Status::from_field((self.word >> 49) as u16)
    }
}

/// The rings of a queue pair.
///
/// One thread has them at a time:
///
/// ```
/// fn moves<T: Send>() {}
/// moves::<strata_nvme::Rings>();
/// ```
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<strata_nvme::Rings>();
/// ```
pub struct Rings {
    submissions: NonNull<Entry>,
    completions: NonNull<[u64; 2]>,
    tail: u32,
    head: u32,
    /// The phase tag that a new entry has, in bit 48 of its second word.
    phase: u64,
    /// Commands that are posted and not yet in the ring, from the first on, and how many.
    ready: Box<[Entry]>,
    waiting: usize,
    /// How many more commands may be posted.
    room: u32,
    /// The head that was told last.
    head_told: u32,
    /// From so many on the head is told.
    lazy: u32,
    entries: u32,
    completion_entries: u32,
    tail_bell: Bell,
    head_bell: Bell,
    scratch: NonNull<u64>,
    /// Where the device sees that.
    scratch_iova: u64,
    layout: Layout,
    memory: Mapped<Region>,
}

// SAFETY: the pointers lead into `memory`, which goes with them and is of no thread.
unsafe impl Send for Rings {}

/// Rings whose doorbells are not known yet.
pub struct Unbound {
    layout: Layout,
    /// Where the submission queue and the memory beside the rings begin.
    submissions: u64,
    scratch: u64,
    memory: Mapped<Region>,
}

impl Unbound {
    /// Memory for a pair of rings, which a device whose memory pages (CC.MPS) are of that size sees.
    ///
    /// # Errors
    /// [`RingsError`]
    pub fn new(
        function: &std::sync::Arc<Function>,
        layout: Layout,
        page: PageSize,
    ) -> Result<Unbound, RingsError> {
        let (completions, submissions) = layout.parts(page);
        let scratch = completions + submissions;
        let bytes = scratch.saturating_add(layout.scratch.0);
        let region = Region::shared(&Want {
            bytes: Bytes(bytes),
            node: layout.node,
            huge: Huge::Never,
            lock: Lock::Prefer,
        })?;
        Ok(Unbound {
            layout,
            submissions: completions,
            scratch,
            memory: function.map(region)?,
        })
    }

    /// Where the device finds the completion queue.
    pub fn completions(&self) -> Iova {
        self.memory.iova()
    }

    /// Where the device finds the submission queue.
    pub fn submissions(&self) -> Iova {
        Iova(self.memory.iova().0 + self.submissions)
    }

    /// The rings, empty, with the doorbells of a queue that was just created.
    pub fn bind(self, tail_bell: Bell, head_bell: Bell) -> Rings {
        let Unbound {
            layout,
            submissions,
            scratch,
            memory,
        } = self;
        let start = memory.as_ptr();
        let at = |offset: u64| {
            // SAFETY: the region was made for the sum of the three parts, at whose starts this is called.
            unsafe { start.byte_add(Bytes(offset).as_usize()) }
        };
        let (entries, completion_entries) =
            (layout.submission.entries(), layout.completion.entries());
        Rings {
            submissions: at(submissions).cast(),
            completions: start.cast(),
            tail: 0,
            head: 0,
            phase: 1 << 48,
            ready: vec![Entry::of(Sqe::default()); entries as usize].into(),
            waiting: 0,
            room: entries - 1,
            head_told: 0,
            // What was taken and not told, and what is outstanding, never fill the completion queue.
            lazy: (completion_entries.saturating_sub(entries) / 2).max(1),
            entries,
            completion_entries,
            tail_bell,
            head_bell,
            scratch: at(scratch).cast(),
            scratch_iova: memory.iova().0 + scratch,
            layout,
            memory,
        }
    }
}

impl Rings {
    /// How many more commands may be posted.
    #[inline(always)]
    pub fn room(&self) -> u32 {
        self.room
    }

    /// How many commands are outstanding.
    #[inline(always)]
    pub fn outstanding(&self) -> u32 {
        self.entries - 1 - self.room
    }

    /// The submission queue's entries.
    pub fn size(&self) -> QueueSize {
        self.layout.submission
    }

    /// The memory of the rings.
    pub fn memory(&self) -> &Region {
        &self.memory
    }

    /// Keeps a command for the next [`ring`](Rings::ring). Its identifier must be of no outstanding one, and there must be
    /// [`room`](Rings::room): without, it may take the place of one that was not yet fetched, or none.
    #[inline(always)]
    pub fn post(&mut self, sqe: Sqe) {
        debug_assert!(self.room() > 0, "a submission queue without room");
        let Some(entry) = self.ready.get_mut(self.waiting) else {
            return;
        };
        *entry = Entry::of(sqe);
        self.waiting += 1;
        self.room -= 1;
    }

    /// Stores all that was posted behind the tail and tells the controller of it by one doorbell; nothing when nothing was.
    #[inline(always)]
    pub fn ring(&mut self) {
        if self.waiting == 0 {
            return;
        }
        self.hand_over();
        if self.untold() >= self.lazy {
            // Before the tail: what will be fetched finds room for its completions.
            self.tell_head();
        }
        self.tail_bell.write(self.tail as u16);
    }

    #[inline(always)]
    fn hand_over(&mut self) {
        let posted = self.ready.get(..self.waiting).unwrap_or_default();
        let until_end = (self.entries - self.tail) as usize;
        let (first, second) = posted.split_at(posted.len().min(until_end));
        self.waiting = 0;
        // SAFETY: what follows the tail, and what then begins at the start, is within the queue's entries, for which the
        // region has room; the controller does not read it before the doorbell.
        unsafe {
            store(first, self.submissions.add(self.tail as usize));
            store(second, self.submissions);
        }
        self.tail += posted.len() as u32;
        if self.tail >= self.entries {
            self.tail -= self.entries;
        }
    }

    /// Entries that were taken since the head was told.
    #[inline(always)]
    fn untold(&self) -> u32 {
        let ahead = self.head.wrapping_sub(self.head_told);
        if self.head < self.head_told {
            ahead.wrapping_add(self.completion_entries)
        } else {
            ahead
        }
    }

    #[inline(always)]
    fn tell_head(&mut self) {
        self.head_told = self.head;
        self.head_bell.write(self.head as u16);
    }

    /// The next completion, if there is one; whether it is of a command that was given, its identifier tells
    /// ([`Rings::answered`]).
    #[inline(always)]
    pub fn take(&mut self) -> Option<Completion> {
        // SAFETY: `head` is below the queue's entries, for which the region has room; entries of 16 bytes begin at a page, so
        // that their words are aligned. The controller may store at the same time: the word is loaded in one.
        let word = unsafe {
            let entry = self.completions.add(self.head as usize).cast::<u64>();
            AtomicU64::from_ptr(entry.add(1).as_ptr()).load(Ordering::Relaxed)
        };
        let word = u64::from_le(word);
        if word & 1 << 48 != self.phase {
            return None;
        }
        after_phase();
        self.head += 1;
        if self.head == self.completion_entries {
            self.head = 0;
            self.phase ^= 1 << 48;
        }
        Some(Completion { word })
    }

    /// What was taken was of a command that was outstanding, and is no more: there is room for another.
    #[inline(always)]
    pub fn answered(&mut self) {
        self.room += 1;
    }

    /// Command specific dword 0 of the completion that was just taken.
    pub fn dword0(&self) -> u32 {
        let last = self
            .head
            .checked_sub(1)
            .unwrap_or(self.completion_entries - 1);
        // SAFETY: as in `take`; the controller does not store here before it is told that the entry was taken.
        let word = unsafe {
            let entry = self.completions.add(last as usize).cast::<u64>();
            entry.read_volatile()
        };
        u64::from_le(word) as u32
    }

    /// Where the device finds byte `at` of the memory beside the rings.
    #[inline(always)]
    pub fn scratch(&self, at: u64) -> Iova {
        Iova(self.scratch_iova + at)
    }

    /// Stores word `index` of the memory beside the rings, as 8 bytes of little-endian order.
    ///
    /// # Panics
    /// Behind its end.
    #[inline(always)]
    pub fn store(&mut self, index: u64, word: u64) {
        let at = self.scratch_word(index);
        // SAFETY: inside of the memory beside the rings, and aligned (by `scratch_word`); volatile, since the controller reads.
        unsafe { at.write_volatile(word.to_le()) }
    }

    /// Loads word `index` of the memory beside the rings, as [`Rings::store`] stores it.
    ///
    /// # Panics
    /// Behind its end.
    pub fn load(&self, index: u64) -> u64 {
        let at = self.scratch_word(index);
        // SAFETY: as in `store`.
        u64::from_le(unsafe { at.read_volatile() })
    }

    #[inline(always)]
    fn scratch_word(&self, index: u64) -> NonNull<u64> {
        assert!(
            index < self.layout.scratch.0 / 8,
            "word {index} beside the rings"
        );
        // SAFETY: the region was made for so many bytes from `scratch` on.
        unsafe { self.scratch.add(index as usize) }
    }
}
