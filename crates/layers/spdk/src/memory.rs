//! Memory that SPDK's devices see.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use strata_memory::Lent;
use strata_units::{Bytes, NodeId};

use crate::{Pages, Spdk, SpdkError};

/// It begins at a page, as buffers do.
const ALIGN: usize = 4096;

/// Zeroed memory of SPDK's, given back when it is dropped.
pub struct Memory {
    spdk: Spdk,
    start: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: it belongs to the process, not to a thread, and has one owner; SPDK's allocator is of all threads.
unsafe impl Send for Memory {}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Memory {
    pub(crate) fn new(
        spdk: &Spdk,
        bytes: Bytes,
        node: Option<NodeId>,
    ) -> Result<Memory, SpdkError> {
        let none = || SpdkError::Memory {
            bytes,
            node,
            next: match spdk.environment().pages {
                Pages::Huge => {
                    "reserve more huge pages there (/sys/devices/system/node/node*/hugepages)"
                }
                Pages::Small(_) => "give less --depth, --bs or --threads",
            },
        };
        let len = usize::try_from(bytes.0.max(1).next_multiple_of(ALIGN as u64));
        let len = len.ok().and_then(NonZeroUsize::new).ok_or_else(none)?;
        let on = node.map_or(-1, |node| i32::try_from(node.0).unwrap_or(-1));
        // Without huge pages its memory is of no node.
        let on = match spdk.environment().pages {
            Pages::Huge => on,
            Pages::Small(_) => -1,
        };
        // SAFETY: the environment has been started.
        let start = unsafe { (spdk.table().allocate)(len.get(), ALIGN, on) };
        let start = NonNull::new(start.cast()).ok_or_else(none)?;
        Ok(Memory {
            spdk: spdk.clone(),
            start,
            len,
        })
    }
}

// SAFETY: it is all there, zeroed, until it is given back by `drop`; it is handed out once, and no reference is made into it.
unsafe impl Lent for Memory {
    fn start(&self) -> NonNull<u8> {
        self.start
    }

    fn bytes(&self) -> NonZeroUsize {
        self.len
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.spdk.keeps_memory() {
            return;
        }
        // SAFETY: it is of `allocate`, and nothing of it is in flight: queue pairs are closed before their buffers go, and where
        // one could not be, nothing is given back.
        unsafe { (self.spdk.table().release)(self.start.as_ptr().cast()) };
    }
}
