//! Controller Capabilities.

use strata_units::{Bytes, Nanos};

use super::HALF_SECOND;
use crate::bits::{get, is_set, put};
use crate::{PageSize, QueueSize};

/// Controller Capabilities, CAP (Base 3.1.4.1, figure "Offset 0h: CAP – Controller Capabilities").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cap(pub u64);

/// Which command sets a controller takes, CAP.CSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandSets {
    /// The NVM command set, NCSS.
    pub nvm: bool,
    /// One or more by CC.CSS 110b, IOCSS.
    pub all: bool,
    /// None: admin commands only, NOIOCSS.
    pub none: bool,
}

impl Cap {
    /// The largest I/O queue, MQES; `None` for the 0 that the specification forbids.
    pub fn queue_size(self) -> Option<QueueSize> {
        QueueSize::from_field(get(self.0, 0, 16) as u16)
    }

    /// Whether I/O queues must lie in contiguous memory, CQR.
    pub fn contiguous_queues(self) -> bool {
        is_set(self.0, 16)
    }

    /// Whether weighted round robin with an urgent class is there, bit 0 of AMS.
    pub fn weighted_arbitration(self) -> bool {
        is_set(self.0, 17)
    }

    /// The longest that CSTS.RDY takes to follow CC.EN, TO. [`super::ready_timeout`] tells which timeout counts.
    pub fn timeout(self) -> Nanos {
        HALF_SECOND * get(self.0, 24, 8)
    }

    /// From one doorbell to the next, by DSTRD: 4 bytes to 128 KiB.
    pub fn doorbell_stride(self) -> Bytes {
        Bytes(4 << get(self.0, 32, 4))
    }

    /// Whether NSSR is there, NSSRS.
    pub fn subsystem_reset(self) -> bool {
        is_set(self.0, 36)
    }

    /// Command sets, CSS.
    pub fn command_sets(self) -> CommandSets {
        CommandSets {
            nvm: is_set(self.0, 37),
            all: is_set(self.0, 43),
            none: is_set(self.0, 44),
        }
    }

    /// The smallest memory page that CC.MPS may name, MPSMIN; the unit of MDTS.
    pub fn smallest_page(self) -> PageSize {
        PageSize::from_field(get(self.0, 48, 4) as u8)
    }

    /// The largest memory page that CC.MPS may name, MPSMAX.
    pub fn largest_page(self) -> PageSize {
        PageSize::from_field(get(self.0, 52, 4) as u8)
    }

    /// Whether CC.MPS may name this page size.
    pub fn takes_page(self, page: PageSize) -> bool {
        (self.smallest_page()..=self.largest_page()).contains(&page)
    }

    /// Whether the mode "ready with media" is there, CRMS.CRWMS.
    pub fn ready_with_media(self) -> bool {
        is_set(self.0, 59)
    }

    /// Whether the mode "ready independent of media" is there, CRMS.CRIMS.
    pub fn ready_independent_of_media(self) -> bool {
        is_set(self.0, 60)
    }

    /// With this largest queue.
    #[must_use]
    pub const fn with_queue_size(self, size: QueueSize) -> Cap {
        Cap(put(self.0, 0, 16, size.field() as u64))
    }

    /// With queues contiguous or not.
    #[must_use]
    pub const fn with_contiguous_queues(self, required: bool) -> Cap {
        Cap(put(self.0, 16, 1, required as u64))
    }

    /// With this timeout, rounded up to half seconds; at most 127.5 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Nanos) -> Cap {
        Cap(put(
            self.0,
            24,
            8,
            timeout.0.div_ceil(HALF_SECOND.0).min(0xff),
        ))
    }

    /// With doorbells so far apart: the next power of two of 4 bytes to 128 KiB.
    #[must_use]
    pub fn with_doorbell_stride(self, stride: Bytes) -> Cap {
        let stride = stride.0.clamp(4, 4 << 15).next_power_of_two();
        Cap(put(self.0, 32, 4, u64::from(stride.trailing_zeros() - 2)))
    }

    /// With these command sets.
    #[must_use]
    pub const fn with_command_sets(self, sets: CommandSets) -> Cap {
        let cap = put(self.0, 37, 1, sets.nvm as u64);
        let cap = put(cap, 43, 1, sets.all as u64);
        Cap(put(cap, 44, 1, sets.none as u64))
    }

    /// With memory pages from `smallest` to `largest`.
    #[must_use]
    pub const fn with_pages(self, smallest: PageSize, largest: PageSize) -> Cap {
        let cap = put(self.0, 48, 4, smallest.field() as u64);
        Cap(put(cap, 52, 4, largest.field() as u64))
    }

    /// With these ready modes.
    #[must_use]
    pub const fn with_ready_modes(self, with_media: bool, independent: bool) -> Cap {
        let cap = put(self.0, 59, 1, with_media as u64);
        Cap(put(cap, 60, 1, independent as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Put together by hand from the figure: MPSMAX 4, NVM command set, DSTRD 2, TO 40 (20 s), CQR, MQES 1023.
    const BY_HAND: u64 = 0x0040_0022_2801_03ff;

    #[test]
    fn a_register_by_hand_is_read() {
        let cap = Cap(BY_HAND);
        assert_eq!(cap.queue_size().map(QueueSize::entries), Some(1024));
        assert!(cap.contiguous_queues() && !cap.weighted_arbitration());
        assert_eq!(cap.timeout(), Nanos::SECOND * 20);
        assert_eq!(cap.doorbell_stride(), Bytes(16));
        assert!(cap.command_sets().nvm && !cap.command_sets().all && !cap.command_sets().none);
        assert_eq!(cap.smallest_page(), PageSize::FOUR_KIB);
        assert_eq!(cap.largest_page().bytes(), Bytes(65_536));
        let page = |bytes| PageSize::new(Bytes(bytes)).expect("a page size");
        assert!(cap.takes_page(page(65_536)) && !cap.takes_page(page(131_072)));
        assert!(!cap.subsystem_reset() && !cap.ready_with_media());
        assert!(Cap(3 << 59).ready_with_media() && Cap(3 << 59).ready_independent_of_media());
        assert!(Cap(1 << 36).subsystem_reset());
        assert_eq!(Cap(0).queue_size(), None);
    }

    #[test]
    fn what_is_built_is_the_same_as_by_hand() {
        let sets = CommandSets {
            nvm: true,
            all: false,
            none: false,
        };
        let cap = Cap::default()
            .with_queue_size(QueueSize::new(1024).expect("a size"))
            .with_contiguous_queues(true)
            .with_timeout(Nanos::SECOND * 20)
            .with_doorbell_stride(Bytes(16))
            .with_command_sets(sets)
            .with_pages(PageSize::FOUR_KIB, PageSize::from_field(4));
        assert_eq!(cap, Cap(BY_HAND));
        assert_eq!(
            cap.with_timeout(Nanos(1)).timeout(),
            Nanos::from_millis(500)
        );
        assert_eq!(
            cap.with_timeout(Nanos(u64::MAX)).timeout(),
            Nanos::from_millis(127_500)
        );
        assert_eq!(cap.with_ready_modes(true, true).0, BY_HAND | 3 << 59);
    }

    proptest! {
        #[test]
        fn no_register_panics(value in any::<u64>(), stride in any::<u64>()) {
            let cap = Cap(value);
            prop_assert!(cap.timeout() <= Nanos::from_millis(127_500));
            prop_assert!(cap.doorbell_stride() >= Bytes(4));
            prop_assert_eq!(cap.with_doorbell_stride(cap.doorbell_stride()), cap);
            let stride = cap.with_doorbell_stride(Bytes(stride)).doorbell_stride();
            prop_assert!(stride.0.is_power_of_two() && stride <= Bytes(128 << 10));
        }
    }
}
