//! Reading a target's ends from an open device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use strata_units::Bytes;

use crate::device::Device;
use crate::signatures::{Ends, FIRST, LAST};

/// What O_DIRECT needs of a buffer and a length at most (a logical block, and Linux knows none above 64 KiB).
const ALIGN: usize = 64 << 10;

/// The bytes of both ends, in memory that O_DIRECT takes.
pub(crate) struct Read {
    first: Aligned,
    last: Aligned,
}

struct Aligned {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    fn read(file: &File, at: u64, len: u64) -> io::Result<Aligned> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len + ALIGN];
        let from = bytes.as_ptr().align_offset(ALIGN);
        file.read_exact_at(&mut bytes[from..from + len], at)?;
        Ok(Aligned { bytes, from, len })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.len]
    }
}

impl Read {
    /// # Errors
    /// The drive's, or the device is shorter than sysfs says.
    pub(crate) fn from(file: &File, device: &Device) -> io::Result<Read> {
        let block = device.logical_block.0.max(1);
        // In whole blocks, as O_DIRECT wants.
        let last = LAST.0.min(device.size.0) / block * block;
        Ok(Read {
            first: Aligned::read(file, 0, FIRST.0.min(device.size.0) / block * block)?,
            last: Aligned::read(file, device.size.0 - last, last)?,
        })
    }

    pub(crate) fn ends(&self, size: Bytes, logical_block: Bytes) -> Ends<'_> {
        Ends {
            first: self.first.bytes(),
            last: self.last.bytes(),
            size,
            logical_block,
        }
    }
}
