//! The bytes that are looked at.

use strata_units::Bytes;

/// How much of a target's start [`crate::guard`] reads: everything below looks within the first MiB, but for VMFS, whose
/// volume header lies at 1 MiB and whose file system at 2 MiB.
pub const FIRST: Bytes = Bytes((2 << 20) + (64 << 10));

/// How much of a target's end is read.
pub const LAST: Bytes = Bytes::MIB;

/// The first and the last bytes of a target, whatever read them: a block device, a queue pair, a file.
///
/// On a target shorter than both together they overlap. A slice longer than the target is looked at no further than
/// the target goes.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// From offset 0; 1 MiB at least, [`FIRST`] at best.
    pub first: &'a [u8],
    /// Up to the last byte; 1 MiB at least.
    pub last: &'a [u8],
    /// The whole length of the target.
    pub size: Bytes,
    /// The least that can be addressed.
    pub logical_block: Bytes,
}

impl<'a> Ends<'a> {
    /// Whether all that was read is zero: a blank drive, as far as its ends tell.
    pub fn are_zero(&self) -> bool {
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        zero(self.first) && zero(self.last)
    }

    /// `len` bytes at an absolute offset; `None` where they were not read.
    pub(crate) fn bytes(&self, at: u64, len: usize) -> Option<&'a [u8]> {
        let end = at.checked_add(u64::try_from(len).ok()?)?;
        if end > self.size.0 {
            return None;
        }
        let within = |slice: &'a [u8], start: u64| {
            let from = usize::try_from(at.checked_sub(start)?).ok()?;
            slice.get(from..from.checked_add(len)?)
        };
        let last_len = u64::try_from(self.last.len()).ok()?;
        within(self.first, 0).or_else(|| within(self.last, self.size.0.checked_sub(last_len)?))
    }

    /// Whether these bytes stand there.
    pub(crate) fn has(&self, at: u64, bytes: &[u8]) -> bool {
        self.bytes(at, bytes.len()) == Some(bytes)
    }

    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.bytes(at, N)?.try_into().ok()
    }

    pub(crate) fn u8(&self, at: u64) -> Option<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    pub(crate) fn le16(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn be16(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(crate) fn le32(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn be32(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(crate) fn le64(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(crate) fn be64(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
}
