//! A function in another process, by the vfio-user protocol.

use std::ops::Range;
use std::path::Path;
use std::ptr::NonNull;

use strata_memory::Region;
use strata_nvme_spec::registers::offset;
use strata_units::{ByteOffset, Bytes, Iova, Nanos};
use strata_vfio_user::region::{BAR0, CONFIG};
use strata_vfio_user::{Area, Client};

use crate::{Carrier, CarrierError, Doorbells};

/// What addresses are given to: any are, so that the first page is left out to find null pointers.
const ADDRESSES: &[Range<Iova>] = &[Iova(1 << 32)..Iova(1 << 47)];

/// The carrier to a controller in another process.
pub struct VfioUser {
    client: Client,
    name: String,
}

impl VfioUser {
    /// Connects to `cntrl` in `folder`; that and each register access may take so long.
    ///
    /// # Errors
    /// Nobody listens there, it serves another client, or speaks something else.
    pub fn connect(folder: &Path, within: Nanos) -> Result<VfioUser, CarrierError> {
        let name = format!("the controller at {}", folder.display());
        match Client::connect(folder, within) {
            Ok(client) => Ok(VfioUser { client, name }),
            Err(why) => Err(CarrierError {
                what: "reach the registers".to_owned(),
                name,
                why: why.into(),
            }),
        }
    }

    /// The same under another name, where its folder's says nothing to the user.
    #[must_use]
    pub fn called(self, name: &str) -> VfioUser {
        VfioUser {
            name: name.to_owned(),
            ..self
        }
    }

    fn failed<T, E>(&self, what: impl Into<String>, found: Result<T, E>) -> Result<T, CarrierError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        found.map_err(|why| CarrierError::new(what, &self.name, why))
    }

    fn load<const N: usize>(&mut self, at: ByteOffset) -> Result<[u8; N], CarrierError> {
        let mut bytes = [0; N];
        let found = self.client.read(BAR0, at, &mut bytes);
        self.failed(format!("read the register at {:#x}", at.0), found)?;
        Ok(bytes)
    }

    fn store(&mut self, at: ByteOffset, bytes: &[u8]) -> Result<(), CarrierError> {
        let found = self.client.write(BAR0, at, bytes);
        self.failed(format!("write the register at {:#x}", at.0), found)
    }
}

impl Carrier for VfioUser {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_config(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), CarrierError> {
        let found = self.client.read(CONFIG, at, into);
        self.failed("read the configuration space", found)
    }

    fn write_config(&mut self, at: ByteOffset, from: &[u8]) -> Result<(), CarrierError> {
        let found = self.client.write(CONFIG, at, from);
        self.failed("write the configuration space", found)
    }

    fn read32(&mut self, at: ByteOffset) -> Result<u32, CarrierError> {
        self.load(at).map(u32::from_le_bytes)
    }

    fn read64(&mut self, at: ByteOffset) -> Result<u64, CarrierError> {
        self.load(at).map(u64::from_le_bytes)
    }

    fn write32(&mut self, at: ByteOffset, value: u32) -> Result<(), CarrierError> {
        self.store(at, &value.to_le_bytes())
    }

    fn write64(&mut self, at: ByteOffset, value: u64) -> Result<(), CarrierError> {
        self.store(at, &value.to_le_bytes())
    }

    fn doorbells(&mut self, len: Bytes) -> Result<Doorbells, CarrierError> {
        let region = self.client.region(BAR0);
        let region = self.failed("look for the doorbells", region)?;
        if !region.write {
            let why = Err("its registers may not be written");
            return self.failed("ring the doorbells", why);
        }
        let part = Area {
            at: ByteOffset(offset::DOORBELLS),
            len: Bytes(len.0.next_multiple_of(4096)),
        };
        let map = self.failed("map the doorbells", region.map(part))?;
        let at = NonNull::new(map.as_ptr().cast::<u32>());
        let at = self.failed("map the doorbells", at.ok_or("they lie at address 0"))?;
        let len = map.len();
        // SAFETY: the mapping has so many bytes for as long as it lives, makes no references, and was mapped to be written
        // where the region may be.
        Ok(unsafe { Doorbells::new(at, len, Box::new(map)) })
    }

    fn addresses(&self) -> &[Range<Iova>] {
        ADDRESSES
    }

    fn map(&mut self, region: &Region, iova: Iova) -> Result<(), CarrierError> {
        let what = "give it memory";
        let file = region.file();
        let file = self.failed(
            what,
            file.ok_or("its region is not shared; this is a bug of strata"),
        )?;
        let found = self.client.dma_map(file, ByteOffset(0), iova, region.len());
        self.failed(what, found)
    }

    fn unmap(&mut self, iova: Iova, len: Bytes) -> Result<(), CarrierError> {
        let found = self.client.dma_unmap(iova, len);
        self.failed("take its memory back", found)
    }

    fn reset(&mut self) -> Result<(), CarrierError> {
        let found = self.client.reset();
        self.failed("reset it", found)
    }
}
