//! The end that drives the device.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::call::Line;
use crate::device::Region;
use crate::error::{Asked, ClientError};
use crate::frame::{MOST_DATA, MOST_FDS};
use crate::reply::{DeviceInfo, device, interrupts, region};
use crate::version::{Capabilities, hear, say};
use crate::wire;
use crate::wire::{
    Access, DMA_READ, DMA_WRITE, DmaMap, DmaUnmap, IRQ_MSIX, IrqInfo, IrqSet, MAJOR, MINOR,
    RegionInfo, SET_EVENTFD, SET_NONE, SET_TRIGGER, command,
};
use strata_units::{ByteOffset, Bytes, Iova, Nanos};

/// Room for a region's capabilities: more areas than descriptors can come.
const REGION_REPLY: u32 = 4096;

/// Drives a device that a server has, one question at a time.
///
/// Every question has the deadline that was given at [`Client::connect`]. After one that was not answered rightly in time the
/// connection is of no more use ([`ClientError::Failed`]), since a late answer would be taken for the next one's; a refusal
/// ([`ClientError::Refused`]) leaves it as it was. What the server may ask (`DMA_READ`, `DMA_WRITE`) is refused with
/// `ENOTSUP`: all memory is shared by descriptors.
pub struct Client {
    line: Line,
    theirs: Capabilities,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("path", &self.line.path)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to `cntrl` in a folder and agrees on the protocol's version; that, and each question later, may take so long.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when nobody listens there; [`ClientError::Refused`] when it serves another client;
    /// [`ClientError::Garbled`] when it speaks something else, or another major version.
    pub fn connect(folder: &Path, within: Nanos) -> Result<Client, ClientError> {
        let mut client = Client {
            line: Line::connect(folder, within)?,
            theirs: Capabilities::default(),
        };
        let asked = Asked::Version;
        let reply = client
            .line
            .ask(asked, command::VERSION, &[&say(MINOR, true)], Vec::new())?;
        client.theirs = match hear(&reply.body) {
            Some((MAJOR, _, theirs)) => theirs,
            Some((major, ..)) => {
                let wrong = (format!("version {major}.x"), "version 0.x");
                return Err(client.line.garbled(asked, wrong));
            }
            None => {
                let wrong = (format!("{} bytes", reply.body.len()), "a version");
                return Err(client.line.garbled(asked, wrong));
            }
        };
        Ok(client)
    }

    /// What device it is.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Garbled`] also when it is no PCI function.
    pub fn device(&mut self) -> Result<DeviceInfo, ClientError> {
        let info = wire::DeviceInfo {
            argsz: bytes_of::<wire::DeviceInfo>().into(),
            flags: 0.into(),
            regions: 0.into(),
            irqs: 0.into(),
        };
        let asked = Asked::Device;
        let body = [info.as_bytes()];
        let reply = self
            .line
            .ask(asked, command::DEVICE_GET_INFO, &body, Vec::new())?;
        device(&reply.body).map_err(|wrong| self.line.garbled(asked, wrong))
    }

    /// What a region is, and what of it may be mapped ([`Region::map`]).
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn region(&mut self, index: u32) -> Result<Region, ClientError> {
        let info = RegionInfo {
            argsz: REGION_REPLY.into(),
            flags: 0.into(),
            index: index.into(),
            cap_offset: 0.into(),
            size: 0.into(),
            offset: 0.into(),
        };
        let asked = Asked::Region(index);
        let body = [info.as_bytes()];
        let reply = self
            .line
            .ask(asked, command::DEVICE_GET_REGION_INFO, &body, Vec::new())?;
        // Servers that send one for each area send the same one.
        let file = reply.fds.into_iter().next();
        region(&reply.body, index, file).map_err(|wrong| self.line.garbled(asked, wrong))
    }

    /// Reads a region by messages: a register of 1, 2, 4 or 8 bytes by one, what is longer than the server takes by several.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn read(
        &mut self,
        region: u32,
        at: ByteOffset,
        into: &mut [u8],
    ) -> Result<(), ClientError> {
        let most = self.most();
        let mut at = at.0;
        for part in into.chunks_mut(most) {
            let (access, asked) = access(region, at, part.len(), false);
            let body = [access.as_bytes()];
            let reply = self
                .line
                .ask(asked, command::REGION_READ, &body, Vec::new())?;
            let (_, data) = self.echoed(asked, &access, &reply.body)?;
            if data.len() != part.len() {
                let wrong = (
                    format!("{} bytes of data", data.len()),
                    "as many as asked for",
                );
                return Err(self.line.garbled(asked, wrong));
            }
            part.copy_from_slice(data);
            at = at.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Writes a region by messages, as [`Client::read`] reads it. When this returns the device has taken it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn write(&mut self, region: u32, at: ByteOffset, from: &[u8]) -> Result<(), ClientError> {
        let most = self.most();
        let mut at = at.0;
        for part in from.chunks(most) {
            let (access, asked) = access(region, at, part.len(), true);
            let body = [access.as_bytes(), part];
            let reply = self
                .line
                .ask(asked, command::REGION_WRITE, &body, Vec::new())?;
            self.echoed(asked, &access, &reply.body)?;
            at = at.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Gives the device `len` bytes from `offset` of a file or memory object, to be read and written at `iova`. All three are
    /// multiples of 4 KiB.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it overlaps with what is mapped, or is one too many; or another [`ClientError`].
    pub fn dma_map(
        &mut self,
        file: BorrowedFd<'_>,
        offset: ByteOffset,
        iova: Iova,
        len: Bytes,
    ) -> Result<(), ClientError> {
        let map = DmaMap {
            argsz: bytes_of::<DmaMap>().into(),
            flags: (DMA_READ | DMA_WRITE).into(),
            offset: offset.0.into(),
            address: iova.0.into(),
            size: len.0.into(),
        };
        let asked = Asked::Map { iova, len };
        let file = self.own(asked, file)?;
        self.line
            .ask(asked, command::DMA_MAP, &[map.as_bytes()], vec![file])?;
        Ok(())
    }

    /// Takes back what [`Client::dma_map`] gave; when this returns the device does not touch it any more.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when nothing was mapped exactly so; or another [`ClientError`].
    pub fn dma_unmap(&mut self, iova: Iova, len: Bytes) -> Result<(), ClientError> {
        let unmap = DmaUnmap {
            argsz: bytes_of::<DmaUnmap>().into(),
            flags: 0.into(),
            address: iova.0.into(),
            size: len.0.into(),
        };
        let asked = Asked::Unmap { iova, len };
        self.line
            .ask(asked, command::DMA_UNMAP, &[unmap.as_bytes()], Vec::new())?;
        Ok(())
    }

    /// How many MSI-X interrupts the device has.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn vectors(&mut self) -> Result<u32, ClientError> {
        let info = IrqInfo {
            argsz: bytes_of::<IrqInfo>().into(),
            flags: 0.into(),
            index: IRQ_MSIX.into(),
            count: 0.into(),
        };
        let asked = Asked::Interrupts;
        let body = [info.as_bytes()];
        let reply = self
            .line
            .ask(asked, command::DEVICE_GET_IRQ_INFO, &body, Vec::new())?;
        interrupts(&reply.body, IRQ_MSIX).map_err(|wrong| self.line.garbled(asked, wrong))
    }

    /// Lets MSI-X interrupts from number `first` on be signalled by these eventfds, one each (eventfd(2)).
    ///
    /// # Errors
    /// [`ClientError`]; those before the one refused are set.
    pub fn set_vectors(
        &mut self,
        first: u32,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let mut first = first;
        for some in eventfds.chunks(self.theirs.fds.clamp(1, MOST_FDS)) {
            let count = u32::try_from(some.len()).unwrap_or(u32::MAX);
            let asked = Asked::Vectors { first, count };
            let own = some.iter().map(|fd| self.own(asked, *fd));
            let fds = own.collect::<Result<Vec<_>, _>>()?;
            self.set(asked, SET_EVENTFD, first, count, fds)?;
            first = first.saturating_add(count);
        }
        Ok(())
    }

    /// Takes all MSI-X interrupts away.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn clear_vectors(&mut self) -> Result<(), ClientError> {
        let asked = Asked::Vectors { first: 0, count: 0 };
        self.set(asked, SET_NONE, 0, 0, Vec::new())
    }

    /// Resets the device, as a function-level reset does.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.line
            .ask(Asked::Reset, command::DEVICE_RESET, &[], Vec::new())?;
        Ok(())
    }

    fn set(
        &mut self,
        asked: Asked,
        data: u32,
        first: u32,
        count: u32,
        fds: Vec<Arc<OwnedFd>>,
    ) -> Result<(), ClientError> {
        let set = IrqSet {
            argsz: bytes_of::<IrqSet>().into(),
            flags: (data | SET_TRIGGER).into(),
            index: IRQ_MSIX.into(),
            start: first.into(),
            count: count.into(),
        };
        self.line
            .ask(asked, command::DEVICE_SET_IRQS, &[set.as_bytes()], fds)?;
        Ok(())
    }

    /// The most data of one message, by what both sides take.
    fn most(&self) -> usize {
        self.theirs.data.clamp(1, MOST_DATA) as usize
    }

    fn own(&self, asked: Asked, fd: BorrowedFd<'_>) -> Result<Arc<OwnedFd>, ClientError> {
        let own = fd.try_clone_to_owned();
        own.map(Arc::new)
            .map_err(|why| self.line.system(asked, why))
    }

    /// The reply to a read or write says again what it is of.
    fn echoed<'a>(
        &mut self,
        asked: Asked,
        access: &Access,
        body: &'a [u8],
    ) -> Result<(Access, &'a [u8]), ClientError> {
        match Access::read_from_prefix(body) {
            Ok((echo, data)) if echo.as_bytes() == access.as_bytes() => Ok((echo, data)),
            Ok((echo, _)) => {
                let found = format!(
                    "{} bytes at {:#x} of region {}",
                    echo.count, echo.offset, echo.region
                );
                Err(self.line.garbled(asked, (found, "what was asked for")))
            }
            Err(_) => {
                let found = format!("{} bytes", body.len());
                Err(self
                    .line
                    .garbled(asked, (found, "where the data is of, in 16 bytes")))
            }
        }
    }
}

fn bytes_of<T>() -> u32 {
    const { size_of::<T>() as u32 }
}

fn access(region: u32, at: u64, len: usize, write: bool) -> (Access, Asked) {
    let access = Access {
        offset: at.into(),
        region: region.into(),
        count: u32::try_from(len).unwrap_or(u32::MAX).into(),
    };
    let (at, len) = (ByteOffset(at), Bytes(len as u64));
    let asked = match write {
        true => Asked::Write { region, at, len },
        false => Asked::Read { region, at, len },
    };
    (access, asked)
}
