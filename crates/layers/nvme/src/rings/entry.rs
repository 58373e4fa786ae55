//! Entries of a submission queue, from this side.
//!
//! A command is made beside the ring and stored there in one go with all others of its batch. The ring's lines are in the
//! controller's cache; a run of stores to them alone has many lines on their way at a time, where each line is waited for when
//! other stores stand between (on Zen 4 30 cycles a command instead of 120, and the more the farther the two CPUs are).

use std::ptr::NonNull;

use strata_nvme_spec::Sqe;

/// What a command is stored in at a time: fewer and wider stores.
#[cfg(target_arch = "x86_64")]
type Chunk = std::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Chunk = u64;

/// A command as it lies in the ring.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Entry([Chunk; size_of::<Sqe>() / size_of::<Chunk>()]);

impl Entry {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn of(sqe: Sqe) -> Entry {
        let words = sqe.words().map(u64::cast_signed);
        let chunk = |low, high| {
            // SAFETY: SSE2 is of every x86-64.
            unsafe { std::arch::x86_64::_mm_set_epi64x(high, low) }
        };
        let [a, b, c, d, e, f, g, h] = words;
        Entry([chunk(a, b), chunk(c, d), chunk(e, f), chunk(g, h)])
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    pub(super) fn of(sqe: Sqe) -> Entry {
        Entry(sqe.words())
    }
}

/// Stores commands one after the other. Volatile, since a controller reads what is stored.
///
/// # Safety
/// There is memory for so many entries, which nobody else reads or writes meanwhile.
#[inline(always)]
pub(super) unsafe fn store(entries: &[Entry], to: NonNull<Entry>) {
    for (n, Entry(chunks)) in entries.iter().enumerate() {
        for (m, chunk) in chunks.iter().enumerate() {
            // SAFETY: as this function's; aligned, since entries of 64 bytes begin at a page.
            unsafe { to.add(n).cast::<Chunk>().add(m).write_volatile(*chunk) };
        }
    }
}
