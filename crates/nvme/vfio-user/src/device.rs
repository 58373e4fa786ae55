//! What is served: a device, its regions, and the memory that a client gives it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use strata_units::{ByteOffset, Bytes, Iova};

use crate::{MapError, Mapping, Refusal};

/// A region of a device: a BAR, or configuration space.
#[derive(Debug, Clone, Default)]
pub struct Region {
    /// Bytes; 0 where there is no such region.
    pub size: Bytes,
    /// Whether it may be read.
    pub read: bool,
    /// Whether it may be written.
    pub write: bool,
    /// What of it may be mapped, if anything.
    pub share: Option<Share>,
}

/// The memory behind a region.
#[derive(Debug, Clone)]
pub struct Share {
    /// The file or memory object.
    pub file: Arc<OwnedFd>,
    /// Where in it the region begins; a multiple of the page.
    pub offset: ByteOffset,
    /// The parts that may be mapped; none means the whole region.
    pub areas: Vec<Area>,
}

/// A part of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// From the region's start.
    pub at: ByteOffset,
    /// Bytes.
    pub len: Bytes,
}

impl Area {
    /// Whether `other` lies in it.
    fn holds(&self, other: &Area) -> bool {
        let end = |area: &Area| area.at.0.checked_add(area.len.0);
        self.at <= other.at && end(other).is_some_and(|theirs| Some(theirs) <= end(self))
    }
}

impl Region {
    /// A region that is read and written by messages alone.
    pub fn plain(size: Bytes) -> Region {
        Region {
            size,
            read: true,
            write: true,
            share: None,
        }
    }

    /// Whether `len` bytes from `at` lie in it.
    pub(crate) fn holds(&self, at: ByteOffset, len: Bytes) -> bool {
        self.whole().holds(&Area { at, len })
    }

    fn whole(&self) -> Area {
        Area {
            at: ByteOffset(0),
            len: self.size,
        }
    }

    /// Maps a part that is shared.
    ///
    /// # Errors
    /// [`MapError::Unshared`] or [`MapError::Outside`] when it may not be mapped, else as [`Mapping::new`].
    pub fn map(&self, part: Area) -> Result<Mapping, MapError> {
        let Area { at, len } = part;
        let share = self.share.as_ref().ok_or(MapError::Unshared { at, len })?;
        let whole = [self.whole()];
        let areas = match &share.areas[..] {
            [] => &whole[..],
            areas => areas,
        };
        let outside = || MapError::Outside { at, len };
        if !areas.iter().any(|area| area.holds(&part)) {
            return Err(outside());
        }
        let start = share.offset.0.checked_add(at.0).ok_or_else(outside)?;
        Mapping::new(share.file.as_fd(), ByteOffset(start), len, self.write)
    }
}

/// Memory of the client that the device may use for DMA.
#[derive(Debug)]
pub struct Dma {
    /// Where the device finds it.
    pub iova: Iova,
    /// Bytes.
    pub len: Bytes,
    /// Whether the device may read it.
    pub read: bool,
    /// Whether the device may write it.
    pub write: bool,
    /// The file or memory object behind it and where in it this begins; without, the device cannot reach it.
    pub file: Option<(OwnedFd, ByteOffset)>,
}

impl Dma {
    /// Maps it.
    ///
    /// # Errors
    /// [`MapError::Unshared`] without a descriptor, else as [`Mapping::new`].
    pub fn map(&self) -> Result<Mapping, MapError> {
        match &self.file {
            Some((file, at)) => Mapping::new(file.as_fd(), *at, self.len, self.write),
            None => Err(MapError::Unshared {
                at: ByteOffset(self.iova.0),
                len: self.len,
            }),
        }
    }
}

/// A PCI function that a [`Server`](crate::Server) serves.
///
/// What reaches it has been checked: accesses lie in regions that may be accessed so, memory overlaps with none mapped before
/// and is unmapped exactly as it was mapped, interrupts are ones that it has.
pub trait Device {
    /// Its regions by their number ([`region`](crate::region)); missing ones at the end are absent. The same at every call.
    fn regions(&self) -> &[Region];

    /// How many MSI-X interrupts it has; it has no others.
    fn vectors(&self) -> u32;

    /// Reads a region.
    ///
    /// # Errors
    /// What the client is told.
    fn read(&mut self, region: u32, at: ByteOffset, into: &mut [u8]) -> Result<(), Refusal>;

    /// Writes a region.
    ///
    /// # Errors
    /// What the client is told.
    fn write(&mut self, region: u32, at: ByteOffset, from: &[u8]) -> Result<(), Refusal>;

    /// The client gives memory.
    ///
    /// # Errors
    /// What the client is told; the memory then is not the device's.
    fn map(&mut self, dma: Dma) -> Result<(), Refusal>;

    /// The client takes memory back; when this returns nothing touches it any more.
    fn unmap(&mut self, iova: Iova, len: Bytes);

    /// From number `first` on, each interrupt is signalled by writing 1 to its eventfd (eventfd(2)), or not at all.
    fn set_vectors(&mut self, first: u32, eventfds: Vec<Option<OwnedFd>>);

    /// Resets it as a function-level reset does.
    ///
    /// # Errors
    /// What the client is told.
    fn reset(&mut self) -> Result<(), Refusal>;

    /// The client has left; its memory is unmapped and its interrupts are taken away before. The device keeps its state.
    fn gone(&mut self);
}
