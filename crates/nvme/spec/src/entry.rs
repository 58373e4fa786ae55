//! Queue entries: 64 bytes of a command, 16 bytes of its completion.

use std::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::prp::Pointers;
use crate::{CommandId, NamespaceId, QueueId, Status};
use strata_units::Iova;

/// A submission queue entry (Base 4.1.1, Common Command Format).
///
/// The kernel's `struct nvme_passthru_cmd` (linux/nvme_ioctl.h) has the same fields at the same places, but for the command
/// identifier, which it chooses itself, and for bytes 24 to 39: a pointer and two lengths in place of the PRP entries.
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
pub struct Sqe {
    /// Opcode, OPC.
    pub opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// Command identifier, CID.
    pub cid: U16,
    /// Namespace identifier, NSID.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer, MPTR.
    pub mptr: U64,
    /// First PRP entry of the data pointer, DPTR.
    pub prp1: U64,
    /// Second PRP entry, or the PRP list's address.
    pub prp2: U64,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

const _: () = assert!(
    size_of::<Sqe>() == 64
        && offset_of!(Sqe, cid) == 2
        && offset_of!(Sqe, nsid) == 4
        && offset_of!(Sqe, mptr) == 16
        && offset_of!(Sqe, prp1) == 24
        && offset_of!(Sqe, prp2) == 32
        && offset_of!(Sqe, cdw10) == 40
        && offset_of!(Sqe, cdw15) == 60
);

impl Sqe {
    /// A command of `opcode` for `nsid`, all else 0.
    pub(crate) fn of(opcode: u8, nsid: NamespaceId) -> Sqe {
        Sqe {
            opcode,
            nsid: nsid.0.into(),
            ..Sqe::default()
        }
    }

    /// The same command under this identifier.
    #[inline]
    #[must_use]
    pub fn with_cid(mut self, cid: CommandId) -> Sqe {
        self.cid = cid.0.into();
        self
    }

    /// The same command with its data there.
    #[inline]
    #[must_use]
    pub fn with_data(mut self, data: Pointers) -> Sqe {
        self.prp1 = data.prp1.0.into();
        self.prp2 = data.prp2.0.into();
        self
    }

    /// Its identifier.
    #[inline]
    pub fn cid(&self) -> CommandId {
        CommandId(self.cid.get())
    }

    /// The namespace that it is for.
    #[inline]
    pub fn nsid(&self) -> NamespaceId {
        NamespaceId(self.nsid.get())
    }

    /// Where its data is, if [`Sqe::uses_prp`].
    #[inline]
    pub fn data(&self) -> Pointers {
        Pointers {
            prp1: Iova(self.prp1.get()),
            prp2: Iova(self.prp2.get()),
        }
    }

    /// Whether its data is pointed to by PRP entries, not by a scatter-gather list (PSDT is 0).
    #[inline]
    pub fn uses_prp(&self) -> bool {
        self.flags >> 6 == 0
    }

    /// Whether it is one of a pair of fused commands (FUSE is not 0).
    #[inline]
    pub fn is_fused(&self) -> bool {
        self.flags & 0b11 != 0
    }

    /// Its 64 bytes as words of the machine's order, to be stored one by one into memory shared with a device.
    #[inline]
    pub fn words(self) -> [u64; 8] {
        zerocopy::transmute!(self)
    }

    /// From words as [`Sqe::words`] gives them, loaded one by one.
    #[inline]
    pub fn from_words(words: [u64; 8]) -> Sqe {
        zerocopy::transmute!(words)
    }
}

/// A completion queue entry (Base 4.2.1, Common Completion Queue Entry Layout).
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
pub struct Cqe {
    /// Command specific.
    pub dw0: U32,
    /// Command specific.
    pub dw1: U32,
    /// Submission queue head pointer, SQHD: the controller has fetched all entries before it.
    pub sqhd: U16,
    /// Submission queue identifier, SQID.
    pub sqid: U16,
    /// Command identifier, CID.
    pub cid: U16,
    /// Phase tag in bit 0, status in bits 15:1.
    pub status_phase: U16,
}

const _: () = assert!(
    size_of::<Cqe>() == 16
        && offset_of!(Cqe, sqhd) == 8
        && offset_of!(Cqe, sqid) == 10
        && offset_of!(Cqe, cid) == 12
        && offset_of!(Cqe, status_phase) == 14
);

impl Cqe {
    /// The completion of a command of queue `sqid` whose head is now at `sqhd`.
    #[inline]
    pub fn new(
        cid: CommandId,
        sqid: QueueId,
        sqhd: u16,
        dw0: u32,
        status: Status,
        phase: bool,
    ) -> Cqe {
        Cqe {
            dw0: dw0.into(),
            dw1: U32::ZERO,
            sqhd: sqhd.into(),
            sqid: sqid.0.into(),
            cid: cid.0.into(),
            status_phase: (status.field() << 1 | u16::from(phase)).into(),
        }
    }

    /// The phase tag, which tells a new entry from one of the round before (Base 4.2.4).
    #[inline]
    pub fn phase(&self) -> bool {
        self.status_phase.get() & 1 == 1
    }

    /// What became of the command.
    #[inline]
    pub fn status(&self) -> Status {
        Status::from_field(self.status_phase.get() >> 1)
    }

    /// Which command.
    #[inline]
    pub fn cid(&self) -> CommandId {
        CommandId(self.cid.get())
    }

    /// Of which queue.
    #[inline]
    pub fn sqid(&self) -> QueueId {
        QueueId(self.sqid.get())
    }

    /// Its 16 bytes as words of the machine's order. The second holds the phase tag, so it is stored last and loaded first.
    #[inline]
    pub fn words(self) -> [u64; 2] {
        zerocopy::transmute!(self)
    }

    /// From words as [`Cqe::words`] gives them.
    #[inline]
    pub fn from_words(words: [u64; 2]) -> Cqe {
        zerocopy::transmute!(words)
    }
}
