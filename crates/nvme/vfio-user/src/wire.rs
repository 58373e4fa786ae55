//! Messages as they lie on the wire (QEMU's docs/interop/vfio-user; structures shared with VFIO are those of
//! `<linux/vfio.h>`). The protocol has the host's byte order; ours are little-endian, as every host with NVMe over PCIe in use.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The protocol's version, major and minor.
pub(crate) const MAJOR: u16 = 0;
pub(crate) const MINOR: u16 = 1;

/// What a message asks for.
pub(crate) mod command {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const DMA_MAP: u16 = 2;
    pub(crate) const DMA_UNMAP: u16 = 3;
    pub(crate) const DEVICE_GET_INFO: u16 = 4;
    pub(crate) const DEVICE_GET_REGION_INFO: u16 = 5;
    pub(crate) const DEVICE_GET_IRQ_INFO: u16 = 7;
    pub(crate) const DEVICE_SET_IRQS: u16 = 8;
    pub(crate) const REGION_READ: u16 = 9;
    pub(crate) const REGION_WRITE: u16 = 10;
    pub(crate) const DEVICE_RESET: u16 = 13;
    pub(crate) const REGION_WRITE_MULTI: u16 = 15;
}

/// Flags of a header.
pub(crate) const TYPE: u32 = 0xf;
pub(crate) const REPLY: u32 = 1;
pub(crate) const NO_REPLY: u32 = 1 << 4;
pub(crate) const ERROR: u32 = 1 << 5;

/// `DMA_MAP` and `DMA_UNMAP`.
pub(crate) const DMA_READ: u32 = 1 << 0;
pub(crate) const DMA_WRITE: u32 = 1 << 1;
pub(crate) const UNMAP_DIRTY_BITMAP: u32 = 1 << 0;
pub(crate) const UNMAP_ALL: u32 = 1 << 1;

/// `DEVICE_GET_INFO`.
pub(crate) const DEVICE_RESETS: u32 = 1 << 0;
pub(crate) const DEVICE_PCI: u32 = 1 << 1;

/// `DEVICE_GET_REGION_INFO`.
pub(crate) const REGION_READS: u32 = 1 << 0;
pub(crate) const REGION_WRITES: u32 = 1 << 1;
pub(crate) const REGION_MAPS: u32 = 1 << 2;
pub(crate) const REGION_CAPS: u32 = 1 << 3;
pub(crate) const CAP_SPARSE_MMAP: u16 = 1;

/// `DEVICE_GET_IRQ_INFO`.
pub(crate) const IRQ_EVENTFD: u32 = 1 << 0;
pub(crate) const IRQ_NORESIZE: u32 = 1 << 3;
/// Which of the five types (INTx, MSI, MSI-X, error, request) is MSI-X.
pub(crate) const IRQ_MSIX: u32 = 2;
pub(crate) const IRQ_TYPES: u32 = 5;

/// `DEVICE_SET_IRQS`.
pub(crate) const SET_NONE: u32 = 1 << 0;
pub(crate) const SET_BOOL: u32 = 1 << 1;
pub(crate) const SET_EVENTFD: u32 = 1 << 2;
pub(crate) const SET_MASK: u32 = 1 << 3;
pub(crate) const SET_UNMASK: u32 = 1 << 4;
pub(crate) const SET_TRIGGER: u32 = 1 << 5;

macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident of $bytes:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }
        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}

wire! {
    /// Before every message.
    Header of 16 { id: U16, command: U16, size: U32, flags: U32, error: U32, }
    /// Before the capabilities in JSON, which may be absent.
    Version of 4 { major: U16, minor: U16, }
    DmaMap of 32 { argsz: U32, flags: U32, offset: U64, address: U64, size: U64, }
    DmaUnmap of 24 { argsz: U32, flags: U32, address: U64, size: U64, }
    DeviceInfo of 16 { argsz: U32, flags: U32, regions: U32, irqs: U32, }
    RegionInfo of 32 { argsz: U32, flags: U32, index: U32, cap_offset: U32, size: U64, offset: U64, }
    /// Before each capability of a region; `next` counts from the start of [`RegionInfo`], 0 ends the list.
    Cap of 8 { id: U16, version: U16, next: U32, }
    /// Behind the [`Cap`] of sparse areas, before so many [`Span`]s.
    Sparse of 8 { areas: U32, reserved: U32, }
    Span of 16 { offset: U64, size: U64, }
    IrqInfo of 16 { argsz: U32, flags: U32, index: U32, count: U32, }
    IrqSet of 20 { argsz: U32, flags: U32, index: U32, start: U32, count: U32, }
    /// Of `REGION_READ` and `REGION_WRITE`, before the data.
    Access of 16 { offset: U64, region: U32, count: U32, }
    /// Of `REGION_WRITE_MULTI`, before so many [`SmallWrite`]s.
    Writes of 8 { count: U64, }
    SmallWrite of 24 { offset: U64, region: U32, count: U32, data: [u8; 8], }
}

/// Bytes before every message.
pub(crate) const HEADER: usize = size_of::<Header>();

impl Header {
    /// Of a request with so many bytes behind it.
    pub(crate) fn request(id: u16, command: u16, body: usize) -> Header {
        Header {
            id: id.into(),
            command: command.into(),
            size: whole(body),
            flags: U32::ZERO,
            error: U32::ZERO,
        }
    }

    /// Of the reply to this request with so many bytes behind it.
    pub(crate) fn reply(&self, body: usize) -> Header {
        Header {
            size: whole(body),
            flags: REPLY.into(),
            error: U32::ZERO,
            ..*self
        }
    }

    /// Of the reply that refuses this request.
    pub(crate) fn refusal(&self, errno: u32) -> Header {
        Header {
            flags: (REPLY | ERROR).into(),
            error: errno.into(),
            ..self.reply(0)
        }
    }

    /// Whether a flag is set.
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }

    /// Whether this is no request but a reply, or of a type that there is not.
    pub(crate) fn is_reply(&self) -> bool {
        self.flags.get() & TYPE != 0
    }
}

/// The size of a message with so many bytes behind its header; far below the field's end, since both sides have limits.
fn whole(body: usize) -> U32 {
    U32::new(u32::try_from(HEADER + body).unwrap_or(u32::MAX))
}

/// The structure at the start of `bytes`, and what follows it; none when there are too few.
pub(crate) fn split<T: FromBytes>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_document_says() {
        let access = Access {
            offset: 0x14.into(),
            region: 0.into(),
            count: 4.into(),
        };
        let header = Header::request(0x0201, command::REGION_READ, size_of::<Access>());
        assert_eq!(
            header.as_bytes(),
            [1, 2, 9, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            access.as_bytes()[..12],
            [0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let refused = header.refusal(22);
        assert_eq!(
            refused.as_bytes(),
            [1, 2, 9, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0]
        );
        assert!(refused.is_reply() && refused.has(ERROR) && !header.is_reply());
    }
}
