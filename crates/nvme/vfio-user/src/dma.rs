//! What a client has mapped for DMA: which addresses, no more than so many, none twice.

use std::collections::BTreeMap;

use crate::Refusal;
use strata_units::{Bytes, Iova};

/// The most that may be mapped at a time; SPDK maps at most 16, QEMU a guest's slots of memory.
pub(crate) const MOST_MAPS: usize = 256;

/// Addresses and lengths are multiples of this; the protocol's default for `pgsizes`.
pub(crate) const PAGE: u64 = 4096;

/// Addresses mapped, with their lengths.
#[derive(Debug, Default)]
pub(crate) struct Maps(BTreeMap<u64, u64>);

impl Maps {
    /// Whether this may be mapped.
    pub(crate) fn allows(&self, iova: Iova, len: Bytes) -> Result<(), Refusal> {
        let aligned = iova.0.is_multiple_of(PAGE) && len.is_multiple_of(Bytes(PAGE));
        let end = iova.0.checked_add(len.0);
        let (true, Some(end)) = (aligned, end) else {
            return Err(Refusal::Invalid);
        };
        let before = self.0.range(..end).next_back();
        if before.is_some_and(|(start, len)| start + len > iova.0) {
            return Err(Refusal::Exists);
        }
        if self.0.len() >= MOST_MAPS {
            return Err(Refusal::NoRoom);
        }
        Ok(())
    }

    /// It is mapped; asked of [`Maps::allows`] before.
    pub(crate) fn add(&mut self, iova: Iova, len: Bytes) {
        self.0.insert(iova.0, len.0);
    }

    /// It is mapped no more.
    pub(crate) fn remove(&mut self, iova: Iova, len: Bytes) -> Result<(), Refusal> {
        if self.0.get(&iova.0) != Some(&len.0) {
            return Err(Refusal::Absent);
        }
        self.0.remove(&iova.0);
        Ok(())
    }

    /// Nothing is mapped any more; what was.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = (Iova, Bytes)> + use<> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|(iova, len)| (Iova(iova), Bytes(len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let maps = Maps::default();
        for (iova, len) in [
            (0, 0),
            (1, PAGE),
            (0, PAGE + 1),
            (u64::MAX - PAGE + 1, PAGE),
            (PAGE, u64::MAX - PAGE + 1),
        ] {
            let found = maps.allows(Iova(iova), Bytes(len));
            assert_eq!(found, Err(Refusal::Invalid), "{iova:#x} {len:#x}");
        }
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut maps = Maps::default();
        for n in 0..MOST_MAPS as u64 {
            let iova = Iova(n * PAGE);
            assert_eq!(maps.allows(iova, Bytes(PAGE)), Ok(()));
            maps.add(iova, Bytes(PAGE));
        }
        let next = Iova(1 << 40);
        assert_eq!(maps.allows(next, Bytes(PAGE)), Err(Refusal::NoRoom));
        assert_eq!(maps.remove(Iova(0), Bytes(2 * PAGE)), Err(Refusal::Absent));
        assert_eq!(maps.remove(Iova(0), Bytes(PAGE)), Ok(()));
        assert_eq!(maps.remove(Iova(0), Bytes(PAGE)), Err(Refusal::Absent));
        assert_eq!(maps.allows(next, Bytes(PAGE)), Ok(()));
        assert_eq!(maps.clear().count(), MOST_MAPS - 1);
        assert_eq!(maps.clear().count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_mapped_twice(wishes in proptest::collection::vec((0u64..40, 1u64..9), 1..40)) {
            let mut maps = Maps::default();
            let mut pages = std::collections::BTreeSet::new();
            for (page, count) in wishes {
                let (iova, len) = (Iova(page * PAGE), Bytes(count * PAGE));
                let free = (page..page + count).all(|page| !pages.contains(&page));
                prop_assert_eq!(maps.allows(iova, len).is_ok(), free);
                if free {
                    maps.add(iova, len);
                    pages.extend(page..page + count);
                }
            }
        }
    }
}
