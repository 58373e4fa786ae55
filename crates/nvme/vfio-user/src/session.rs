//! What a server answers: one client's requests, one after the other, against a device. No socket is seen from here.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::device::{Device, Dma, Region};
use crate::dma::{Maps, PAGE};
use crate::frame::{Frame, MOST_DATA, Message};
use crate::region::COUNT;
use crate::version::{hear, say};
use crate::wire::{
    Access, CAP_SPARSE_MMAP, Cap, DEVICE_PCI, DEVICE_RESETS, DMA_READ, DMA_WRITE, DeviceInfo,
    DmaMap, DmaUnmap, Header, IRQ_EVENTFD, IRQ_MSIX, IRQ_NORESIZE, IRQ_TYPES, IrqInfo, IrqSet,
    MAJOR, NO_REPLY, REGION_CAPS, REGION_MAPS, REGION_READS, REGION_WRITES, RegionInfo, SET_BOOL,
    SET_EVENTFD, SET_MASK, SET_NONE, SET_TRIGGER, SET_UNMASK, SmallWrite, Span, Sparse, UNMAP_ALL,
    UNMAP_DIRTY_BITMAP, Writes, command, split,
};
use crate::{Refusal, wire};
use strata_units::{ByteOffset, Bytes, Iova};

/// What stands behind the header of a reply.
#[derive(Default)]
struct Payload {
    bytes: Vec<u8>,
    file: Option<Arc<OwnedFd>>,
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload { bytes, file: None }
    }
}

/// One client's state.
#[derive(Default)]
pub(crate) struct Session {
    greeted: bool,
    /// It speaks another major version and is sent away once it has been told.
    pub(crate) foreign: bool,
    maps: Maps,
}

/// A structure at the start of a request, and what follows it.
fn need<T: FromBytes>(body: &[u8]) -> Result<(T, &[u8]), Refusal> {
    split(body).ok_or(Refusal::Invalid)
}

fn region<D: Device + ?Sized>(device: &D, index: u32) -> Result<Region, Refusal> {
    let index = usize::try_from(index).map_err(|_| Refusal::Invalid)?;
    if index >= COUNT {
        return Err(Refusal::Invalid);
    }
    // One that the device does not name is one that is not there.
    Ok(device.regions().get(index).cloned().unwrap_or_default())
}

impl Session {
    /// Does what is asked; the reply, unless none is wanted.
    pub(crate) fn answer<D: Device + ?Sized>(
        &mut self,
        device: &mut D,
        message: Message,
    ) -> Option<Frame> {
        let header = message.header;
        // We ask a client nothing, so it has nothing to reply to.
        if header.is_reply() {
            return None;
        }
        let answer = self.handle(device, message);
        if header.has(NO_REPLY) {
            return None;
        }
        Some(match answer {
            Ok(Payload { bytes, file }) => Frame {
                fds: file.into_iter().collect(),
                ..Frame::new(header.reply(bytes.len()), &[&bytes])
            },
            Err(why) => Frame::refusal(&header, why),
        })
    }

    /// The client is gone, or sent away: its memory and interrupts are taken from the device.
    pub(crate) fn end<D: Device + ?Sized>(&mut self, device: &mut D) {
        for (iova, len) in self.maps.clear() {
            device.unmap(iova, len);
        }
        silence(device, 0, device.vectors());
        device.gone();
    }

    fn handle<D: Device + ?Sized>(
        &mut self,
        device: &mut D,
        message: Message,
    ) -> Result<Payload, Refusal> {
        let Message {
            header, body, fds, ..
        } = message;
        if message.too_long {
            return Err(Refusal::TooLong);
        }
        if message.too_many {
            return Err(Refusal::Invalid);
        }
        let what = header.command.get();
        if (what == command::VERSION) == self.greeted {
            return Err(Refusal::Invalid);
        }
        // Descriptors that no one asked for (SPDK's client sends one with DMA_UNMAP) are closed unseen.
        match what {
            command::VERSION => self.version(&body),
            command::DMA_MAP => self.map(device, &body, fds),
            command::DMA_UNMAP => self.unmap(device, &body),
            command::DEVICE_GET_INFO => Ok(device_info()),
            command::DEVICE_GET_REGION_INFO => region_info(device, &body),
            command::DEVICE_GET_IRQ_INFO => irq_info(device, &body),
            command::DEVICE_SET_IRQS => set_irqs(device, &body, fds),
            command::REGION_READ => read(device, &body),
            command::REGION_WRITE => write(device, &body),
            command::REGION_WRITE_MULTI => write_multi(device, &body),
            command::DEVICE_RESET => device.reset().map(|()| Payload::default()),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn version(&mut self, body: &[u8]) -> Result<Payload, Refusal> {
        let (major, minor, theirs) = hear(body).ok_or(Refusal::Invalid)?;
        if major != MAJOR {
            self.foreign = true;
            return Err(Refusal::Unsupported);
        }
        self.greeted = true;
        Ok(say(minor, theirs.write_multiple).into())
    }

    fn map<D: Device + ?Sized>(
        &mut self,
        device: &mut D,
        body: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Payload, Refusal> {
        let (asked, _) = need::<DmaMap>(body)?;
        let (iova, len) = (Iova(asked.address.get()), Bytes(asked.size.get()));
        let (read, write) = (
            asked.flags.get() & DMA_READ != 0,
            asked.flags.get() & DMA_WRITE != 0,
        );
        let offset = asked.offset.get();
        // Between two pages of a file, what is aligned for the device would not be where it is mapped.
        let aligned = fds.is_empty() || offset.is_multiple_of(PAGE);
        let sound = (read || write) && aligned && offset.checked_add(len.0).is_some();
        if !sound || fds.len() > 1 {
            return Err(Refusal::Invalid);
        }
        self.maps.allows(iova, len)?;
        device.map(Dma {
            iova,
            len,
            read,
            write,
            file: fds.into_iter().next().map(|fd| (fd, ByteOffset(offset))),
        })?;
        self.maps.add(iova, len);
        Ok(Payload::default())
    }

    fn unmap<D: Device + ?Sized>(
        &mut self,
        device: &mut D,
        body: &[u8],
    ) -> Result<Payload, Refusal> {
        let (asked, _) = need::<DmaUnmap>(body)?;
        let (iova, len) = (Iova(asked.address.get()), Bytes(asked.size.get()));
        match asked.flags.get() {
            0 => {
                self.maps.remove(iova, len)?;
                device.unmap(iova, len);
            }
            // As of VFIO (`VFIO_DMA_UNMAP_FLAG_ALL`): then there is no address. QEMU's client uses it.
            UNMAP_ALL if iova.0 == 0 && len.0 == 0 => {
                for (iova, len) in self.maps.clear() {
                    device.unmap(iova, len);
                }
            }
            flags if flags & UNMAP_DIRTY_BITMAP != 0 => return Err(Refusal::Unsupported),
            _ => return Err(Refusal::Invalid),
        }
        Ok(asked.as_bytes().to_vec().into())
    }
}

fn device_info() -> Payload {
    let info = DeviceInfo {
        argsz: bytes_of::<DeviceInfo>().into(),
        flags: (DEVICE_PCI | DEVICE_RESETS).into(),
        regions: (COUNT as u32).into(),
        irqs: IRQ_TYPES.into(),
    };
    info.as_bytes().to_vec().into()
}

/// The size of a structure, for an `argsz`.
fn bytes_of<T>() -> u32 {
    const { size_of::<T>() as u32 }
}

fn region_info<D: Device + ?Sized>(device: &D, body: &[u8]) -> Result<Payload, Refusal> {
    let (asked, _) = need::<RegionInfo>(body)?;
    if asked.argsz.get() < bytes_of::<RegionInfo>() {
        return Err(Refusal::Invalid);
    }
    let region = region(device, asked.index.get())?;
    let share = region.share.filter(|_| region.size.0 > 0);
    let areas = share.as_ref().map_or(&[][..], |share| &share.areas);
    let mut caps = Vec::new();
    if !areas.is_empty() {
        let cap = Cap {
            id: CAP_SPARSE_MMAP.into(),
            version: 1.into(),
            next: 0.into(),
        };
        let sparse = Sparse {
            areas: u32::try_from(areas.len()).unwrap_or(u32::MAX).into(),
            reserved: 0.into(),
        };
        caps.extend_from_slice(cap.as_bytes());
        caps.extend_from_slice(sparse.as_bytes());
        for area in areas {
            let span = Span {
                offset: area.at.0.into(),
                size: area.len.0.into(),
            };
            caps.extend_from_slice(span.as_bytes());
        }
    }
    let full = size_of::<RegionInfo>() + caps.len();
    let flags = [
        (region.read, REGION_READS),
        (region.write, REGION_WRITES),
        (share.is_some(), REGION_MAPS),
        (!caps.is_empty(), REGION_CAPS),
    ];
    let flags = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag);
    let info = RegionInfo {
        argsz: u32::try_from(full).unwrap_or(u32::MAX).into(),
        flags: flags.sum::<u32>().into(),
        index: asked.index,
        // Said also where the capabilities are left out for lack of room: QEMU's client looks at it before it asks anew.
        cap_offset: if caps.is_empty() {
            0
        } else {
            bytes_of::<RegionInfo>()
        }
        .into(),
        size: region.size.0.into(),
        offset: share.as_ref().map_or(0, |share| share.offset.0).into(),
    };
    let mut bytes = info.as_bytes().to_vec();
    if (asked.argsz.get() as usize) < full {
        // No descriptor either: it would come again with the whole answer.
        return Ok(bytes.into());
    }
    bytes.extend(caps);
    // One, since the protocol says one; SPDK's client takes the n-th for the n-th area, which is the same while there is one.
    let file = share.map(|share| share.file);
    Ok(Payload { bytes, file })
}

fn irq_info<D: Device + ?Sized>(device: &D, body: &[u8]) -> Result<Payload, Refusal> {
    let (asked, _) = need::<IrqInfo>(body)?;
    let (flags, count) = match asked.index.get() {
        IRQ_MSIX => (IRQ_EVENTFD | IRQ_NORESIZE, device.vectors()),
        other if other < IRQ_TYPES => (0, 0),
        _ => return Err(Refusal::Invalid),
    };
    let info = IrqInfo {
        argsz: bytes_of::<IrqInfo>().into(),
        flags: flags.into(),
        index: asked.index,
        count: count.into(),
    };
    Ok(info.as_bytes().to_vec().into())
}

fn silence<D: Device + ?Sized>(device: &mut D, first: u32, count: u32) {
    device.set_vectors(first, (0..count).map(|_| None).collect());
}

fn set_irqs<D: Device + ?Sized>(
    device: &mut D,
    body: &[u8],
    fds: Vec<OwnedFd>,
) -> Result<Payload, Refusal> {
    let (asked, _) = need::<IrqSet>(body)?;
    let (first, count) = (asked.start.get(), asked.count.get());
    let (flags, index) = (asked.flags.get(), asked.index.get());
    let known = index < IRQ_TYPES;
    let there = match index {
        IRQ_MSIX => device.vectors(),
        _ => 0,
    };
    let end = first.checked_add(count).filter(|end| *end <= there);
    if !known || end.is_none() {
        return Err(Refusal::Invalid);
    }
    const DATA: u32 = SET_NONE | SET_BOOL | SET_EVENTFD;
    const ACTION: u32 = SET_MASK | SET_UNMASK | SET_TRIGGER;
    match (flags & DATA, flags & ACTION) {
        (SET_NONE, SET_TRIGGER) if count == 0 => silence(device, 0, there),
        (SET_EVENTFD, SET_TRIGGER) if fds.is_empty() => silence(device, first, count),
        (SET_EVENTFD, SET_TRIGGER) if fds.len() == count as usize => {
            device.set_vectors(first, fds.into_iter().map(Some).collect());
        }
        // Masking is done in the MSI-X table, and an interrupt for its own sake nobody needs.
        (SET_NONE | SET_BOOL, SET_MASK | SET_UNMASK | SET_TRIGGER) => {
            return Err(Refusal::Unsupported);
        }
        _ => return Err(Refusal::Invalid),
    }
    Ok(Payload::default())
}

/// What an access asks for, when the region allows it; a write or a read.
fn reach<D: Device + ?Sized>(
    device: &D,
    asked: &Access,
    writes: bool,
) -> Result<(u32, ByteOffset), Refusal> {
    let region = region(device, asked.region.get())?;
    let count = asked.count.get();
    let at = ByteOffset(asked.offset.get());
    let may = if writes { region.write } else { region.read };
    let sound = may && count > 0 && region.holds(at, Bytes(count.into()));
    if !sound {
        return Err(Refusal::Invalid);
    }
    if count > MOST_DATA {
        return Err(Refusal::TooLong);
    }
    Ok((asked.region.get(), at))
}

fn read<D: Device + ?Sized>(device: &mut D, body: &[u8]) -> Result<Payload, Refusal> {
    let (asked, _) = need::<Access>(body)?;
    let (region, at) = reach(device, &asked, false)?;
    let mut bytes = asked.as_bytes().to_vec();
    bytes.resize(size_of::<Access>() + asked.count.get() as usize, 0);
    device.read(region, at, &mut bytes[size_of::<Access>()..])?;
    Ok(bytes.into())
}

fn write<D: Device + ?Sized>(device: &mut D, body: &[u8]) -> Result<Payload, Refusal> {
    let (asked, data) = need::<Access>(body)?;
    let (region, at) = reach(device, &asked, true)?;
    if data.len() != asked.count.get() as usize {
        return Err(Refusal::Invalid);
    }
    device.write(region, at, data)?;
    Ok(asked.as_bytes().to_vec().into())
}

/// Several writes of up to 8 bytes each; all are looked at before the first is done.
fn write_multi<D: Device + ?Sized>(device: &mut D, body: &[u8]) -> Result<Payload, Refusal> {
    let (asked, rest) = need::<Writes>(body)?;
    let size = size_of::<SmallWrite>();
    let fits = usize::try_from(asked.count.get())
        .ok()
        .and_then(|count| count.checked_mul(size));
    if fits != Some(rest.len()) {
        return Err(Refusal::Invalid);
    }
    let mut writes = Vec::new();
    for each in rest.chunks_exact(size) {
        let (one, _) = need::<SmallWrite>(each)?;
        let access = Access {
            offset: one.offset,
            region: one.region,
            count: one.count,
        };
        let (region, at) = reach(device, &access, true)?;
        let len = access.count.get() as usize;
        if len > one.data.len() {
            return Err(Refusal::Invalid);
        }
        writes.push((region, at, one.data, len));
    }
    for (region, at, data, len) in &writes {
        device.write(*region, *at, &data[..*len])?;
    }
    Ok(asked.as_bytes().to_vec().into())
}

/// The refusal of a client that is not served, which is told so in answer to its first message.
pub(crate) fn turn_away(request: &Header) -> Option<Frame> {
    let wants = !request.is_reply() && !request.has(wire::NO_REPLY);
    wants.then(|| Frame::refusal(request, Refusal::Busy))
}
