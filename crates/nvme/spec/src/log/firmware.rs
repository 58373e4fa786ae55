//! The Firmware Slot Information log page, LID 03h.

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Text;

/// Firmware Slot Information (Base 5.1.12.1.4).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FirmwareSlots {
    /// Active slot in bits 2:0, the one after the next reset in bits 6:4 (0: the active one).
    pub afi: u8,
    reserved1: [u8; 7],
    /// Revisions of slots 1 to 7; zeroes where there is none.
    pub frs: [[u8; 8]; 7],
    reserved64: [u8; 448],
}

const _: () = assert!(size_of::<FirmwareSlots>() == 512 && offset_of!(FirmwareSlots, frs) == 8);

impl FirmwareSlots {
    /// The slot that runs, 1 to 7; `None` for the 0 that the specification forbids.
    pub fn active(&self) -> Option<u8> {
        Some(self.afi & 0b111).filter(|slot| *slot > 0)
    }

    /// The slot that the next reset activates, if that is another.
    pub fn next(&self) -> Option<u8> {
        Some(self.afi >> 4 & 0b111).filter(|slot| *slot > 0)
    }

    /// The revision in a slot of 1 to 7, if there is one.
    pub fn revision(&self, slot: u8) -> Option<Text<'_>> {
        let field = self.frs.get(usize::from(slot.checked_sub(1)?))?;
        Some(Text::new(field)).filter(|text| !text.is_empty())
    }
}
