//! Commands of the NVM command set.

use std::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::nvm_opcode as opcode;
use crate::bits::is_set;
use crate::{BlockCount, CommandId, Lba, NamespaceId, Sqe};

/// Read (NVM 3.2.4) or Write (NVM 3.2.6), without metadata and protection information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadWrite {
    /// Whether it writes.
    pub write: bool,
    /// The namespace.
    pub nsid: NamespaceId,
    /// The first block, SLBA.
    pub first: Lba,
    /// How many, NLB.
    pub blocks: BlockCount,
    /// Whether it completes only once the blocks are on (or come from) the medium, FUA.
    pub fua: bool,
}

impl ReadWrite {
    /// As an entry without its data pointer.
    #[inline]
    pub fn sqe(self) -> Sqe {
        let opcode = if self.write {
            opcode::WRITE
        } else {
            opcode::READ
        };
        let mut sqe = ranged(opcode, self.nsid, self.first);
        sqe.cdw12 = (u32::from(self.blocks.field()) | u32::from(self.fua) << 30).into();
        sqe
    }

    /// From an entry whose opcode is one of these two.
    #[inline]
    pub fn of(sqe: &Sqe) -> ReadWrite {
        let cdw12 = sqe.cdw12.get();
        ReadWrite {
            write: sqe.opcode == opcode::WRITE,
            nsid: sqe.nsid(),
            first: first(sqe),
            blocks: BlockCount::from_field(cdw12 as u16),
            fua: is_set(cdw12.into(), 30),
        }
    }
}

/// What reads and writes of one namespace have in common, reckoned once: each is an entry with a few instructions then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfers {
    /// Opcode and namespace, the first 8 bytes of an entry.
    read: u64,
    write: u64,
}

impl Transfers {
    /// Of this namespace.
    pub fn of(nsid: NamespaceId) -> Transfers {
        let first = |opcode| u64::from_le(Sqe::of(opcode, nsid).words()[0]);
        Transfers {
            read: first(opcode::READ),
            write: first(opcode::WRITE),
        }
    }

    /// The entry that [`ReadWrite::sqe`] makes of these, without FUA, under this identifier.
    #[inline]
    pub fn sqe(self, cid: CommandId, write: bool, first: Lba, blocks: BlockCount) -> Sqe {
        let own = if write { self.write } else { self.read } | u64::from(cid.0) << 16;
        let words = [own, 0, 0, 0, 0, first.0, blocks.field().into(), 0];
        Sqe::from_words(words.map(u64::to_le))
    }
}

/// Write Zeroes (NVM 3.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteZeroes {
    /// The namespace.
    pub nsid: NamespaceId,
    /// The first block, SLBA.
    pub first: Lba,
    /// How many, NLB.
    pub blocks: BlockCount,
    /// Whether the blocks may be deallocated, DEAC.
    pub deallocate: bool,
    /// Whether it completes only once the zeroes are on the medium, FUA.
    pub fua: bool,
}

impl WriteZeroes {
    /// As an entry.
    pub fn sqe(self) -> Sqe {
        let mut sqe = ranged(opcode::WRITE_ZEROES, self.nsid, self.first);
        let flags = u32::from(self.deallocate) << 25 | u32::from(self.fua) << 30;
        sqe.cdw12 = (u32::from(self.blocks.field()) | flags).into();
        sqe
    }

    /// From an entry.
    pub fn of(sqe: &Sqe) -> WriteZeroes {
        let cdw12 = sqe.cdw12.get();
        WriteZeroes {
            nsid: sqe.nsid(),
            first: first(sqe),
            blocks: BlockCount::from_field(cdw12 as u16),
            deallocate: is_set(cdw12.into(), 25),
            fua: is_set(cdw12.into(), 30),
        }
    }
}

/// Flush (Base 7.2): what was written before is on the medium when it completes.
pub fn flush(nsid: NamespaceId) -> Sqe {
    Sqe::of(opcode::FLUSH, nsid)
}

/// Dataset Management (NVM 3.2.3); its data are [`DatasetRange`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatasetManagement {
    /// The namespace.
    pub nsid: NamespaceId,
    /// Ranges, 1 to 256; counted from 0 in NR.
    pub ranges: u16,
    /// Whether the ranges are deallocated, AD; else all are hints.
    pub deallocate: bool,
}

impl DatasetManagement {
    /// As an entry without its data pointer; `None` unless there are 1 to 256 ranges.
    pub fn sqe(self) -> Option<Sqe> {
        let count = u8::try_from(self.ranges.checked_sub(1)?).ok()?;
        let mut sqe = Sqe::of(opcode::DATASET_MANAGEMENT, self.nsid);
        sqe.cdw10 = u32::from(count).into();
        sqe.cdw11 = (u32::from(self.deallocate) << 2).into();
        Some(sqe)
    }

    /// From an entry.
    pub fn of(sqe: &Sqe) -> DatasetManagement {
        DatasetManagement {
            nsid: sqe.nsid(),
            ranges: u16::from(sqe.cdw10.get() as u8) + 1,
            deallocate: is_set(sqe.cdw11.get().into(), 2),
        }
    }
}

/// A range of Dataset Management (NVM 3.2.3, "Range Definition").
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct DatasetRange {
    /// Hints on how it will be used, CATTR.
    pub attributes: U32,
    /// Its blocks; not counted from 0.
    pub blocks: U32,
    /// Its first block.
    pub first: U64,
}

const _: () = assert!(
    size_of::<DatasetRange>() == 16
        && offset_of!(DatasetRange, blocks) == 4
        && offset_of!(DatasetRange, first) == 8
);

#[inline]
fn ranged(opcode: u8, nsid: NamespaceId, first: Lba) -> Sqe {
    let mut sqe = Sqe::of(opcode, nsid);
    sqe.cdw10 = (first.0 as u32).into();
    sqe.cdw11 = ((first.0 >> 32) as u32).into();
    sqe
}

#[inline]
fn first(sqe: &Sqe) -> Lba {
    Lba(u64::from(sqe.cdw11.get()) << 32 | u64::from(sqe.cdw10.get()))
}
