//! A function of this machine, over Linux VFIO (Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h): its IOMMU group in
//! a container of its own, its configuration space and first BAR, and memory mapped for it. No interrupt of the device is ever
//! asked for: it is polled.

mod device;
mod error;
mod group;
mod info;
#[allow(unsafe_code, reason = "registers mapped into memory")]
mod map;
mod release;
#[allow(unsafe_code, reason = "the calls of linux/vfio.h")]
mod sys;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use strata_memory::{Region, memlock_limit};
use strata_nvme_spec::registers::offset;
use strata_topology::Root;
use strata_units::{ByteOffset, Bytes, Iova, PciAddress};
use vfio_bindings::bindings::vfio as uapi;

use crate::{Carrier, CarrierError, Doorbells};
use device::Device;
pub use error::{OddAnswer, VfioError};
pub use group::group_holder;
use info::{DeviceInfo, IommuInfo, RegionInfo};
use map::Map;
use release::Release;
use sys::Call;

/// What the device's calls fail of, when it is not what is asked for.
const LOOK: &str = "see the kernel's log (dmesg)";

/// The carrier to a function that is with vfio-pci.
pub struct Vfio {
    name: String,
    // In the order in which they have to go: the device is closed before its group, and that before the container, whose mappings
    // the queues have given back by then.
    _release: Option<Release>,
    registers: Option<Arc<Map>>,
    device: Arc<Device>,
    _group: File,
    container: File,
    bar: RegionInfo,
    config: RegionInfo,
    iommu: IommuInfo,
    resets: bool,
}

impl Drop for Vfio {
    fn drop(&mut self) {
        // Doorbells that somebody has still are of nothing from here on.
        self.device.let_go();
    }
}

impl Vfio {
    /// Opens a function of this machine that is with vfio-pci. It is this process's alone from then on.
    ///
    /// # Errors
    /// [`VfioError`]: it is absent, with another driver, without an IOMMU, held by another process, or out of reach.
    pub fn open(function: PciAddress) -> Result<Vfio, VfioError> {
        Vfio::open_under(&Root::live(), function)
    }

    /// The same with `sys`, `proc` and `dev` under another root.
    ///
    /// # Errors
    /// As [`Vfio::open`].
    pub fn open_under(root: &Root, function: PciAddress) -> Result<Vfio, VfioError> {
        let opened = group::open(root, function)?;
        let name = function.to_string();
        let facts = Facts::ask(&name, &opened.device, &opened.container)?;
        let device = Arc::new(Device::new(opened.device));
        let asked = released(&device, facts.interrupts);
        let release = asked.and_then(|asked| {
            asked
                .map(|asked| Release::on(asked, Arc::clone(&device)))
                .transpose()
        });
        let release = release.map_err(failed("VFIO_DEVICE_SET_IRQS", &name))?;
        let registers = match facts.bar.maps(0, offset::DOORBELLS) {
            true => device.map(facts.bar.offset, Bytes(offset::DOORBELLS)),
            false => Ok(None),
        };
        Ok(Vfio {
            registers: registers.map_err(failed("mmap(2)", &name))?,
            _release: release,
            device,
            _group: opened.group,
            container: opened.container,
            bar: facts.bar,
            config: facts.config,
            iommu: facts.iommu,
            resets: facts.resets,
            name,
        })
    }

    fn failed<T, E>(&self, what: impl Into<String>, found: Result<T, E>) -> Result<T, CarrierError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        found.map_err(|why| CarrierError::new(what, &self.name, why))
    }

    /// A register's bytes, where it is not mapped.
    fn load<const N: usize>(&self, at: ByteOffset) -> Result<[u8; N], CarrierError> {
        let mut bytes = [0; N];
        let found = self.device.read(self.bar.offset + at.0, &mut bytes);
        self.failed(format!("read the register at {:#x}", at.0), found)?;
        Ok(bytes)
    }

    fn store(&self, at: ByteOffset, bytes: &[u8]) -> Result<(), CarrierError> {
        let found = self.device.write(self.bar.offset + at.0, bytes);
        self.failed(format!("write the register at {:#x}", at.0), found)
    }

    /// Where bytes of the configuration space lie in the device's file.
    fn of_config(&self, at: ByteOffset, len: usize) -> Result<u64, CarrierError> {
        let inside = self.config.holds(at.0, len as u64);
        let why = "it is not so long; this is a bug of strata";
        self.failed(
            "look into the configuration space",
            inside.then_some(()).ok_or(why),
        )?;
        Ok(self.config.offset + at.0)
    }

    /// The mapped registers, where this one is among them.
    fn register<T>(&self, at: ByteOffset) -> Option<&Map> {
        let map = self.registers.as_deref()?;
        let end = at.0.checked_add(size_of::<T>() as u64)?;
        (end <= map.len().0 && at.0.is_multiple_of(size_of::<T>() as u64)).then_some(map)
    }

    fn map_doorbells(&self, len: Bytes) -> Result<Doorbells, VfioError> {
        let len = Bytes(len.0.next_multiple_of(4096));
        let refused = |found: String| VfioError::Doorbells { len, found };
        if !self.bar.writes || !self.bar.holds(offset::DOORBELLS, len.0) {
            return Err(refused(format!("it is {} long", Bytes(self.bar.size))));
        }
        if !self.bar.maps(offset::DOORBELLS, len.0) {
            let areas: Vec<String> = self.bar.areas.iter().map(|a| format!("{a:#x?}")).collect();
            return Err(refused(match &areas[..] {
                [] => "the kernel lets nothing of it be mapped".to_owned(),
                some => format!("the kernel lets {} of it be mapped", some.join(", ")),
            }));
        }
        let at = self.bar.offset + offset::DOORBELLS;
        let map = self.device.map(at, len);
        let map = map.map_err(|why| refused(why.to_string()))?;
        let map = map.ok_or(VfioError::GivenBack)?;
        Ok(map::doorbells(map))
    }

    fn map_memory(&self, region: &Region, iova: Iova) -> Result<(), VfioError> {
        let len = region.len();
        sys::map(&self.container, region, iova).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOMEM) => VfioError::Memlock {
                len,
                limit: memlock_limit(),
            },
            Some(libc::ENOSPC) => VfioError::Mappings {
                len,
                at_first: self.iommu.available,
            },
            _ => VfioError::System {
                call: "VFIO_IOMMU_MAP_DMA",
                object: format!("{len} at {iova} (pages {:#x})", self.iommu.pages),
                source,
                next: LOOK,
            },
        })
    }

    fn unmap_memory(&self, iova: Iova, len: Bytes) -> Result<(), VfioError> {
        let found = sys::unmap(&self.container, iova, len);
        let found = found.map_err(failed("VFIO_IOMMU_UNMAP_DMA", &self.name))?;
        if found != len {
            return Err(VfioError::Partly {
                iova,
                found,
                wanted: len,
            });
        }
        Ok(())
    }

    fn reset_function(&self) -> Result<(), VfioError> {
        if !self.resets {
            return Err(VfioError::NoReset);
        }
        let reset = self.device.reset();
        let reset = reset.map_err(failed("VFIO_DEVICE_RESET", &self.name))?;
        reset.ok_or(VfioError::GivenBack)
    }
}

/// A call that failed for a reason of the system's own.
fn failed<'a>(call: &'static str, object: &'a str) -> impl Fn(io::Error) -> VfioError + 'a {
    move |source| VfioError::System {
        call,
        object: object.to_owned(),
        source,
        next: LOOK,
    }
}

/// What is asked of the kernel once.
struct Facts {
    bar: RegionInfo,
    config: RegionInfo,
    iommu: IommuInfo,
    /// Kinds of interrupts, the kernel's own wishes among them.
    interrupts: u32,
    resets: bool,
}

impl Facts {
    fn ask(name: &str, device: &File, container: &File) -> Result<Facts, VfioError> {
        let odd = |call| {
            move |source: info::Odd| VfioError::Odd {
                call,
                object: name.to_owned(),
                source: source.into(),
            }
        };
        let region = |index| {
            const CALL: &str = "VFIO_DEVICE_GET_REGION_INFO";
            let found = sys::info(device, Call::REGION, Some(index), RegionInfo::LEN);
            RegionInfo::parse(&found.map_err(failed(CALL, name))?).map_err(odd(CALL))
        };
        const DEVICE: &str = "VFIO_DEVICE_GET_INFO";
        let about = sys::info(device, Call::DEVICE, None, DeviceInfo::LEN);
        let about = about.map_err(failed(DEVICE, name))?;
        let about = DeviceInfo::parse(&about).map_err(odd(DEVICE))?;
        const IOMMU: &str = "VFIO_IOMMU_GET_INFO";
        let iommu = sys::info(container, Call::IOMMU, None, IommuInfo::LEN);
        let iommu = iommu.map_err(failed(IOMMU, name))?;
        Ok(Facts {
            bar: region(uapi::VFIO_PCI_BAR0_REGION_INDEX)?,
            config: region(uapi::VFIO_PCI_CONFIG_REGION_INDEX)?,
            iommu: IommuInfo::parse(&iommu).map_err(odd(IOMMU))?,
            interrupts: about.interrupts,
            resets: about.resets,
        })
    }
}

/// The event of the kernel's wish to have the device back; none where it has no such wish (before Linux 4.0).
fn released(device: &Device, interrupts: u32) -> io::Result<Option<OwnedFd>> {
    const WISH: u32 = uapi::VFIO_PCI_REQ_IRQ_INDEX;
    if interrupts <= WISH {
        return Ok(None);
    }
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    device.with(|file| sys::signals(file, WISH, event.as_fd()))?;
    Ok(Some(event))
}

impl Carrier for Vfio {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_config(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), CarrierError> {
        let at = self.of_config(at, into.len())?;
        let found = self.device.read(at, into);
        self.failed("read the configuration space", found)
    }

    fn write_config(&mut self, at: ByteOffset, from: &[u8]) -> Result<(), CarrierError> {
        let at = self.of_config(at, from.len())?;
        let found = self.device.write(at, from);
        self.failed("write the configuration space", found)
    }

    fn read32(&mut self, at: ByteOffset) -> Result<u32, CarrierError> {
        match self.register::<u32>(at) {
            Some(map) => Ok(map.read32(at.0)),
            None => self.load(at).map(u32::from_le_bytes),
        }
    }

    fn read64(&mut self, at: ByteOffset) -> Result<u64, CarrierError> {
        match self.register::<u64>(at) {
            Some(map) => Ok(map.read64(at.0)),
            None => self.load(at).map(u64::from_le_bytes),
        }
    }

    fn write32(&mut self, at: ByteOffset, value: u32) -> Result<(), CarrierError> {
        match self.register::<u32>(at) {
            Some(map) => {
                map.write32(at.0, value);
                Ok(())
            }
            None => self.store(at, &value.to_le_bytes()),
        }
    }

    fn write64(&mut self, at: ByteOffset, value: u64) -> Result<(), CarrierError> {
        match self.register::<u64>(at) {
            Some(map) => {
                map.write64(at.0, value);
                Ok(())
            }
            None => self.store(at, &value.to_le_bytes()),
        }
    }

    fn doorbells(&mut self, len: Bytes) -> Result<Doorbells, CarrierError> {
        let found = self.map_doorbells(len);
        self.failed("map the doorbells", found)
    }

    fn addresses(&self) -> &[Range<Iova>] {
        &self.iommu.addresses
    }

    fn map(&mut self, region: &Region, iova: Iova) -> Result<(), CarrierError> {
        let found = self.map_memory(region, iova);
        self.failed("map memory for DMA", found)
    }

    fn unmap(&mut self, iova: Iova, len: Bytes) -> Result<(), CarrierError> {
        let found = self.unmap_memory(iova, len);
        self.failed("take its memory back", found)
    }

    fn reset(&mut self) -> Result<(), CarrierError> {
        let found = self.reset_function();
        self.failed("reset it", found)
    }

    fn gone(&self) -> Option<&'static str> {
        self.device.is_let_go().then_some(
            "the kernel asked for it back, to unbind it or because it is pulled, and it was let go of",
        )
    }
}
