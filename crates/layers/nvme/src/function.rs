//! A PCI function that several threads use, and the memory that it sees.

use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_measure::Buffers;
use strata_memory::Region;
use strata_units::{Bytes, Iova};

use crate::{Carrier, CarrierError};

/// Mappings begin at multiples of this, so that pages of 2 MiB stay whole for an IOMMU.
const ALIGN: u64 = 2 << 20;

/// Why memory could not be given to a device.
#[derive(Debug, thiserror::Error)]
pub enum DmaError {
    /// The carrier refuses.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// No address is free.
    #[error(
        "there is no free address for {len} more of memory behind {name}; give smaller buffers, or fewer threads"
    )]
    NoRoom {
        /// The function.
        name: String,
        /// The memory.
        len: Bytes,
    },
}

/// A PCI function, shared by those who use it.
pub struct Function {
    carrier: Mutex<Box<dyn Carrier>>,
    /// Addresses in use, in order.
    used: Mutex<Vec<(u64, u64)>>,
    /// Whether the device may still use addresses that were taken back from it.
    distrusted: AtomicBool,
}

impl Function {
    /// Shares what a carrier reaches.
    pub fn new(carrier: Box<dyn Carrier>) -> Arc<Function> {
        Arc::new(Function {
            carrier: Mutex::new(carrier),
            used: Mutex::new(Vec::new()),
            distrusted: AtomicBool::new(false),
        })
    }

    /// The carrier, for as long as the guard lives.
    pub fn carrier(&self) -> MutexGuard<'_, Box<dyn Carrier>> {
        // A panic of another thread leaves no half-done access behind: each is one call.
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the device see memory until the mapping is dropped.
    ///
    /// # Errors
    /// [`DmaError`]
    pub fn map<M: Memory>(self: &Arc<Self>, memory: M) -> Result<Mapped<M>, DmaError> {
        let region = memory.region();
        let len = region.len();
        let mut carrier = self.carrier();
        let iova = self.take(&**carrier, len)?;
        if let Err(why) = carrier.map(region, iova) {
            self.give_back(iova);
            return Err(why.into());
        }
        drop(carrier);
        Ok(Mapped {
            memory: ManuallyDrop::new(memory),
            iova,
            function: Arc::clone(self),
        })
    }

    /// Takes the first gap that is long enough.
    fn take(&self, carrier: &dyn Carrier, len: Bytes) -> Result<Iova, DmaError> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((place, start)) = gap(carrier.addresses(), &used, len.0) else {
            return Err(DmaError::NoRoom {
                name: carrier.name().to_owned(),
                len,
            });
        };
        used.insert(place, (start, len.0));
        Ok(Iova(start))
    }

    /// From now on no address is given out twice: the device could not be stopped, and a late write of its goes nowhere
    /// rather than into what was mapped there since.
    pub(crate) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    fn give_back(&self, iova: Iova) {
        if self.distrusted.load(Ordering::Relaxed) {
            return;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|(from, _)| *from != iova.0);
    }
}

/// The first aligned gap of `len` bytes within one of the ranges and outside of what is used, which is in order: its place in
/// that order, and where it begins.
fn gap(ranges: &[Range<Iova>], used: &[(u64, u64)], len: u64) -> Option<(usize, u64)> {
    ranges.iter().find_map(|range| {
        let mut start = range.start.0.checked_next_multiple_of(ALIGN)?;
        let mut place = 0;
        for (from, length) in used {
            if start.checked_add(len)? <= *from {
                break;
            }
            place += 1;
            // What lies before this range does not move its beginning.
            start = start.max((from + length).checked_next_multiple_of(ALIGN)?);
        }
        (start.checked_add(len)? <= range.end.0).then_some((place, start))
    })
}

/// Memory of one shared region.
pub trait Memory {
    /// The region.
    fn region(&self) -> &Region;
}

impl Memory for Region {
    fn region(&self) -> &Region {
        self
    }
}

impl Memory for Buffers {
    fn region(&self) -> &Region {
        Buffers::region(self)
    }
}

/// Memory that a device sees. Dropped, it is taken back from the device first; where that fails it is never freed, since
/// the device may still write to it.
pub struct Mapped<M: Memory> {
    memory: ManuallyDrop<M>,
    iova: Iova,
    function: Arc<Function>,
}

impl<M: Memory> Mapped<M> {
    /// Where the device sees its first byte.
    pub fn iova(&self) -> Iova {
        self.iova
    }
}

impl<M: Memory> Deref for Mapped<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.memory
    }
}

impl<M: Memory> Drop for Mapped<M> {
    fn drop(&mut self) {
        let len = self.memory.region().len();
        if self.function.carrier().unmap(self.iova, len).is_ok() {
            self.function.give_back(self.iova);
            // SAFETY: the value is dropped here alone, and nobody can use it afterwards, since its owner is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.memory) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(of: &[(u64, u64)]) -> Vec<Range<Iova>> {
        of.iter()
            .map(|(start, end)| Iova(*start)..Iova(*end))
            .collect()
    }

    #[test]
    fn gaps_are_first_fit_aligned_and_never_across_a_hole() {
        // As an IOMMU of x86 tells: the window of interrupt messages is a hole below 4 GiB.
        let x86 = ranges(&[(1 << 20, 0xfee0_0000), (0xfef0_0000, 1 << 39)]);
        assert_eq!(gap(&x86, &[], 4096), Some((0, ALIGN)));
        let full = [(ALIGN, 0xfee0_0000 - ALIGN)];
        assert_eq!(gap(&x86, &full, 4096), Some((1, 0xff00_0000)));
        // Too long for what is left below the hole.
        let most = [(ALIGN, 0xfe00_0000 - ALIGN)];
        assert_eq!(gap(&x86, &most, 0xe0_0000), Some((1, 0xfe00_0000)));
        assert_eq!(gap(&x86, &most, 0xe0_1000), Some((1, 0xff00_0000)));
        let held = [(ALIGN, 4096), (3 * ALIGN, 4096)];
        assert_eq!(gap(&x86, &held, ALIGN), Some((1, 2 * ALIGN)));
        assert_eq!(gap(&x86, &held, ALIGN + 1), Some((2, 4 * ALIGN)));
        assert_eq!(gap(&x86, &held, 1 << 39), None);
        assert_eq!(gap(&ranges(&[(0, 4096)]), &[], 8192), None);
        assert_eq!(
            gap(&ranges(&[(u64::MAX - 4096, u64::MAX)]), &[], 4096),
            None
        );
        assert_eq!(gap(&[], &[], 4096), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_lies_in_a_range_and_overlaps_with_nothing(
            edges in prop::collection::btree_set(0u64..200, 2..8),
            lens in prop::collection::vec(1u64..40, 1..30),
            back in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            const UNIT: u64 = ALIGN / 4;
            let edges: Vec<u64> = edges.into_iter().map(|n| n * UNIT).collect();
            let ranges = ranges(&edges.chunks_exact(2).map(|p| (p[0], p[1])).collect::<Vec<_>>());
            let mut used: Vec<(u64, u64)> = Vec::new();
            let mut back = back.iter();
            for len in lens.iter().map(|n| n * UNIT) {
                if let Some((place, start)) = gap(&ranges, &used, len) {
                    prop_assert!(start.is_multiple_of(ALIGN));
                    prop_assert!(ranges.iter().any(|r| r.start.0 <= start && start + len <= r.end.0));
                    used.insert(place, (start, len));
                    prop_assert!(used.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "{used:?}");
                } else if let Some(index) = back.next() && !used.is_empty() {
                    used.remove(index.index(used.len()));
                }
            }
        }
    }
}
