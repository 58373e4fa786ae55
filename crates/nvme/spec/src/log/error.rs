//! The Error Information log page, LID 01h.

use std::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{CommandId, Lba, NamespaceId, QueueId, Status};

/// An Error Information log entry (Base 5.1.12.1.2). The page lists the latest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ErrorEntry {
    /// The error's number, from 1 and over the controller's life; 0 is an entry without error.
    pub error_count: U64,
    /// Submission queue, FFFFh for none.
    pub sqid: U16,
    /// Command identifier, FFFFh for none.
    pub cid: U16,
    /// Status in bits 15:1; bit 0 may be the phase tag.
    pub status_phase: U16,
    /// The command's first wrong bit: byte in bits 7:0, bit in bits 10:8; FFFFh for none.
    pub parameter: U16,
    /// The first block in error.
    pub lba: U64,
    /// The namespace.
    pub nsid: U32,
    /// The log page that has the vendor's own on it, 80h to ffh; 0 for none.
    pub vendor_page: u8,
    /// Transport; 0 is not reported.
    pub trtype: u8,
    /// Command set; reserved in older versions.
    pub csi: u8,
    /// Opcode; reserved in older versions.
    pub opcode: u8,
    /// Command specific.
    pub cs: U64,
    /// Transport specific.
    pub transport: U16,
    reserved42: [u8; 21],
    /// This structure's version, LPVER; 0 in older versions.
    pub lpver: u8,
}

const _: () = assert!(
    size_of::<ErrorEntry>() == 64
        && offset_of!(ErrorEntry, sqid) == 8
        && offset_of!(ErrorEntry, status_phase) == 12
        && offset_of!(ErrorEntry, parameter) == 14
        && offset_of!(ErrorEntry, lba) == 16
        && offset_of!(ErrorEntry, nsid) == 24
        && offset_of!(ErrorEntry, opcode) == 31
        && offset_of!(ErrorEntry, cs) == 32
        && offset_of!(ErrorEntry, transport) == 40
        && offset_of!(ErrorEntry, lpver) == 63
);

impl ErrorEntry {
    /// Whether it holds an error.
    pub fn is_used(&self) -> bool {
        self.error_count.get() > 0
    }

    /// The command, by its queue and identifier; `None` where the error is no particular command's.
    pub fn command(&self) -> Option<(QueueId, CommandId)> {
        match (self.sqid.get(), self.cid.get()) {
            (u16::MAX, _) | (_, u16::MAX) => None,
            (queue, command) => Some((QueueId(queue), CommandId(command))),
        }
    }

    /// What became of it.
    pub fn status(&self) -> Status {
        Status::from_field(self.status_phase.get() >> 1)
    }

    /// The command's byte and bit in error, if it is about one.
    pub fn parameter(&self) -> Option<(u8, u8)> {
        let at = self.parameter.get();
        (at != u16::MAX).then_some((at as u8, (at >> 8 & 0b111) as u8))
    }

    /// The first block in error, of which namespace; meaningless for errors that are about no block.
    pub fn block(&self) -> (NamespaceId, Lba) {
        (NamespaceId(self.nsid.get()), Lba(self.lba.get()))
    }
}
