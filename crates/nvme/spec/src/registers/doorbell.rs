//! Doorbells.

use strata_units::Bytes;

use super::offset::DOORBELLS;
use crate::QueueId;

/// A doorbell of 4 bytes, into whose lower 16 bits a queue's new tail or head is written (PCIe 3.1.2.1, 3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doorbell {
    /// SQyTDBL: a submission queue's tail, behind the last new entry.
    Tail(QueueId),
    /// CQyHDBL: a completion queue's head, behind the last entry taken.
    Head(QueueId),
}

impl Doorbell {
    /// Its offset from the start of the properties, in bytes: 1000h + ((2y + 1 for a head) × stride).
    pub const fn offset(self, stride: Bytes) -> u64 {
        let index = match self {
            Doorbell::Tail(QueueId(y)) => 2 * y as u64,
            Doorbell::Head(QueueId(y)) => 2 * y as u64 + 1,
        };
        DOORBELLS + index * stride.0
    }

    /// The doorbell at this offset; `None` where there is none.
    pub fn at(offset: u64, stride: Bytes) -> Option<Doorbell> {
        let from = offset.checked_sub(DOORBELLS)?;
        if from.checked_rem(stride.0)? != 0 {
            return None;
        }
        let index = from / stride.0;
        let id = QueueId(u16::try_from(index / 2).ok()?);
        Some(match index % 2 {
            0 => Doorbell::Tail(id),
            _ => Doorbell::Head(id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doorbells_lie_as_the_figure_says() {
        let four = Bytes(4);
        assert_eq!(Doorbell::Tail(QueueId::ADMIN).offset(four), 0x1000);
        assert_eq!(Doorbell::Head(QueueId::ADMIN).offset(four), 0x1004);
        assert_eq!(Doorbell::Tail(QueueId(1)).offset(four), 0x1008);
        assert_eq!(Doorbell::Head(QueueId(3)).offset(Bytes(64)), 0x11c0);
        assert_eq!(
            Doorbell::Head(QueueId(u16::MAX)).offset(Bytes(128 << 10)),
            0x1000 + 131_071 * 131_072
        );
        for (offset, stride) in [(0xffc, 4), (0x1002, 4), (0x1004, 8), (0x1000, 0)] {
            assert_eq!(Doorbell::at(offset, Bytes(stride)), None, "{offset:#x}");
        }
        assert_eq!(Doorbell::at(u64::MAX - 3, four), None);
    }

    proptest! {
        #[test]
        fn offsets_and_doorbells_are_one_to_one(id in any::<u16>(), head in any::<bool>(), dstrd in 0u32..16) {
            let id = QueueId(id);
            let doorbell = if head { Doorbell::Head(id) } else { Doorbell::Tail(id) };
            let stride = Bytes(4 << dstrd);
            prop_assert_eq!(Doorbell::at(doorbell.offset(stride), stride), Some(doorbell));
        }

        #[test]
        fn no_offset_panics(offset in any::<u64>(), stride in any::<u64>()) {
            if let Some(doorbell) = Doorbell::at(offset, Bytes(stride)) {
                prop_assert_eq!(doorbell.offset(Bytes(stride)), offset);
            }
        }
    }
}
