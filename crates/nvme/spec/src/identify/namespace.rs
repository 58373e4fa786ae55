//! A namespace's data structure of the NVM command set, CNS 00h.

use std::mem::offset_of;

use strata_units::Bytes;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An LBA format (NVM 4.1.5.1, "LBA Format Data Structure").
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
pub struct LbaFormat {
    /// Bytes of metadata of each block, MS.
    pub ms: U16,
    /// The block's size as a power of two, LBADS; 0 is no format.
    pub lbads: u8,
    /// Relative performance, RP, in bits 1:0: 0 best to 3 degraded.
    pub rp: u8,
}

impl LbaFormat {
    /// The logical block's size: 512 bytes or a larger power of two; `None` where it is none.
    pub fn block(self) -> Option<Bytes> {
        match self.lbads {
            9..=63 => Some(Bytes(1 << self.lbads)),
            _ => None,
        }
    }

    /// Metadata of each block.
    pub fn metadata(self) -> Bytes {
        Bytes(self.ms.get().into())
    }
}

const _: () = assert!(size_of::<LbaFormat>() == 4 && offset_of!(LbaFormat, lbads) == 2);

/// What a deallocated block reads as, DLFEAT bits 2:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deallocated {
    /// 000b: not reported.
    NotReported,
    /// 001b: zeroes.
    Zeroes,
    /// 010b: ones.
    Ones,
    /// What the specification reserves.
    Reserved,
}

/// The Identify Namespace data structure of the NVM command set (NVM 4.1.5.1).
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// Size in blocks; 0 for a namespace that is not active.
    pub nsze: U64,
    /// Most blocks that may be allocated at a time.
    pub ncap: U64,
    /// Blocks allocated now.
    pub nuse: U64,
    /// Thin provisioning in bit 0, own atomic units in bit 1, deallocated error in bit 2, optimal sizes in bit 4 and on.
    pub nsfeat: u8,
    /// LBA formats that every namespace may have, counted from 0.
    pub nlbaf: u8,
    /// The format: index in bits 3:0 and 6:5, metadata behind each block's data in bit 4.
    pub flbas: u8,
    /// Where metadata may go.
    pub mc: u8,
    /// Types of protection information that it can have.
    pub dpc: u8,
    /// Type of protection information that it has in bits 2:0 (0 is none); at the metadata's start in bit 3.
    pub dps: u8,
    /// Shared by several controllers in bit 0.
    pub nmic: u8,
    /// Types of reservations.
    pub rescap: u8,
    /// Format's progress: percent left in bits 6:0, supported in bit 7.
    pub fpi: u8,
    /// Deallocation: what blocks read as in bits 2:0, by Write Zeroes too in bit 3.
    pub dlfeat: u8,
    /// Blocks written atomically in normal operation, counted from 0.
    pub nawun: U16,
    /// Blocks written atomically across a power failure, counted from 0.
    pub nawupf: U16,
    /// Blocks compared and written atomically, counted from 0.
    pub nacwu: U16,
    /// Atomic boundary in normal operation, blocks, counted from 0.
    pub nabsn: U16,
    /// Atomic boundary's offset, blocks.
    pub nabo: U16,
    /// Atomic boundary across a power failure, blocks, counted from 0.
    pub nabspf: U16,
    /// Optimal I/O boundary, blocks; 0 is not reported.
    pub noiob: U16,
    /// Capacity of media behind it, bytes.
    pub nvmcap: U128,
    /// Preferred write granularity, blocks, counted from 0; where NSFEAT says so.
    pub npwg: U16,
    /// Preferred write alignment, blocks, counted from 0.
    pub npwa: U16,
    /// Preferred deallocation granularity, blocks, counted from 0.
    pub npdg: U16,
    /// Preferred deallocation alignment, blocks, counted from 0.
    pub npda: U16,
    /// Optimal write size, blocks, counted from 0.
    pub nows: U16,
    /// Copy: most blocks of one source range.
    pub mssrl: U16,
    /// Copy: most blocks.
    pub mcl: U32,
    /// Copy: most source ranges, counted from 0.
    pub msrc: u8,
    reserved81: u8,
    /// LBA formats that only some namespaces may have, behind those of NLBAF.
    pub nulbaf: u8,
    reserved83: [u8; 9],
    /// Asymmetric access group.
    pub anagrpid: U32,
    reserved96: [u8; 3],
    /// Write protected now in bit 0.
    pub nsattr: u8,
    /// NVM set.
    pub nvmsetid: U16,
    /// Endurance group.
    pub endgid: U16,
    /// Globally unique identifier, big-endian; 0 where there is none.
    pub nguid: [u8; 16],
    /// IEEE extended unique identifier, big-endian; 0 where there is none.
    pub eui64: [u8; 8],
    /// LBA formats.
    pub lbaf: [LbaFormat; 64],
    /// The vendor's own.
    pub vs: [u8; 3712],
}

const _: () = assert!(
    size_of::<IdentifyNamespace>() == 4096
        && offset_of!(IdentifyNamespace, nuse) == 16
        && offset_of!(IdentifyNamespace, nsfeat) == 24
        && offset_of!(IdentifyNamespace, nlbaf) == 25
        && offset_of!(IdentifyNamespace, flbas) == 26
        && offset_of!(IdentifyNamespace, mc) == 27
        && offset_of!(IdentifyNamespace, dpc) == 28
        && offset_of!(IdentifyNamespace, dps) == 29
        && offset_of!(IdentifyNamespace, nmic) == 30
        && offset_of!(IdentifyNamespace, rescap) == 31
        && offset_of!(IdentifyNamespace, dlfeat) == 33
        && offset_of!(IdentifyNamespace, nawun) == 34
        && offset_of!(IdentifyNamespace, noiob) == 46
        && offset_of!(IdentifyNamespace, nvmcap) == 48
        && offset_of!(IdentifyNamespace, npwg) == 64
        && offset_of!(IdentifyNamespace, nows) == 72
        && offset_of!(IdentifyNamespace, mcl) == 76
        && offset_of!(IdentifyNamespace, nulbaf) == 82
        && offset_of!(IdentifyNamespace, anagrpid) == 92
        && offset_of!(IdentifyNamespace, nsattr) == 99
        && offset_of!(IdentifyNamespace, endgid) == 102
        && offset_of!(IdentifyNamespace, nguid) == 104
        && offset_of!(IdentifyNamespace, eui64) == 120
        && offset_of!(IdentifyNamespace, lbaf) == 128
        && offset_of!(IdentifyNamespace, vs) == 384
);

impl IdentifyNamespace {
    /// Whether the namespace is there: one that is not active reads as zeroes.
    pub fn is_active(&self) -> bool {
        self.nsze.get() > 0
    }

    /// LBA formats that are listed: 1 to 64.
    pub fn formats(&self) -> &[LbaFormat] {
        let count = usize::from(self.nlbaf) + 1 + usize::from(self.nulbaf);
        &self.lbaf[..count.min(self.lbaf.len())]
    }

    /// The LBA format that it has; `None` where FLBAS names one that is not listed. FLBAS's upper bits count only among more
    /// than 16 formats.
    pub fn format(&self) -> Option<LbaFormat> {
        let lower = usize::from(self.flbas & 0xf);
        let upper = usize::from(self.flbas >> 1 & 0x30);
        let formats = self.formats();
        let index = if formats.len() > 16 {
            upper | lower
        } else {
            lower
        };
        formats.get(index).copied()
    }

    /// Its size in bytes; `None` where it has no valid format or more than 64 bits count.
    pub fn size(&self) -> Option<Bytes> {
        self.in_bytes(self.nsze.get())
    }

    /// What is allocated of it, in bytes; `None` as for [`IdentifyNamespace::size`].
    pub fn used(&self) -> Option<Bytes> {
        self.in_bytes(self.nuse.get())
    }

    /// The boundary that an I/O should not cross; `None` where none is reported.
    pub fn boundary(&self) -> Option<Bytes> {
        self.in_bytes(self.noiob.get().into())
            .filter(|boundary| boundary.0 > 0)
    }

    fn in_bytes(&self, blocks: u64) -> Option<Bytes> {
        blocks.checked_mul(self.format()?.block()?.0).map(Bytes)
    }

    /// The type of protection information that it has, 1 to 3; `None` without.
    pub fn protection(&self) -> Option<u8> {
        Some(self.dps & 0b111).filter(|kind| *kind > 0)
    }

    /// Whether metadata lies behind each block's data, in the same buffer.
    pub fn metadata_in_line(&self) -> bool {
        self.flbas >> 4 & 1 == 1
    }

    /// Whether it is write protected now.
    pub fn is_write_protected(&self) -> bool {
        self.nsattr & 1 == 1
    }

    /// Whether it may have fewer blocks than its size (thin provisioning), so that NUSE tells what was written.
    pub fn is_thin(&self) -> bool {
        self.nsfeat & 1 == 1
    }

    /// What a deallocated block reads as.
    pub fn deallocated(&self) -> Deallocated {
        match self.dlfeat & 0b111 {
            0 => Deallocated::NotReported,
            1 => Deallocated::Zeroes,
            2 => Deallocated::Ones,
            _ => Deallocated::Reserved,
        }
    }
}
