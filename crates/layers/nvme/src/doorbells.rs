//! Doorbells: registers of a device that are mapped as memory.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use strata_nvme_spec::registers::{Doorbell, offset};
use strata_units::Bytes;

/// The doorbells of a controller, from offset 1000h of its first BAR on; unmapped with the last [`Bell`].
pub struct Doorbells {
    at: NonNull<u32>,
    len: Bytes,
    _owner: Box<dyn Send>,
}

// SAFETY: the memory is reached by volatile accesses of 4 bytes only, each a store that says no more than its own value; the
// owner is never touched, and dropped by whoever comes last, for which it need only be Send.
unsafe impl Send for Doorbells {}
// SAFETY: as above.
unsafe impl Sync for Doorbells {}

impl fmt::Debug for Doorbells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doorbells({})", self.len)
    }
}

impl Doorbells {
    /// Doorbells at `at`, which `owner` keeps mapped.
    ///
    /// # Safety
    /// The `len` bytes from `at` on are mapped for writing until `owner` is dropped, and nobody in this process holds a
    /// reference into them.
    pub unsafe fn new(at: NonNull<u32>, len: Bytes, owner: Box<dyn Send>) -> Doorbells {
        Doorbells {
            at,
            len,
            _owner: owner,
        }
    }

    /// One of them; none when it lies behind the end.
    pub fn bell(self: &Arc<Self>, which: Doorbell, stride: Bytes) -> Option<Bell> {
        let at = which.offset(stride) - offset::DOORBELLS;
        let inside = at + size_of::<u32>() as u64 <= self.len.0 && at.is_multiple_of(4);
        inside.then(|| Bell {
            // SAFETY: the four bytes lie inside of the map.
            at: unsafe { self.at.byte_add(Bytes(at).as_usize()) },
            _all: Arc::clone(self),
        })
    }
}

/// One doorbell. It may move to another thread, and belongs to one at a time.
#[derive(Debug)]
pub struct Bell {
    at: NonNull<u32>,
    _all: Arc<Doorbells>,
}

// SAFETY: the map is kept by `_all` and is of no thread.
unsafe impl Send for Bell {}

impl Bell {
    /// Writes a queue's new tail or head. What was stored before in memory is seen by the device that sees this.
    #[inline(always)]
    pub fn write(&mut self, value: u16) {
        crate::rings::before_doorbell();
        // SAFETY: the four bytes are mapped, since `_all` lives, and aligned, since offsets are multiples of 4 from an
        // aligned start; volatile, since a device reads them.
        unsafe { self.at.write_volatile(u32::from(value).to_le()) }
    }
}
