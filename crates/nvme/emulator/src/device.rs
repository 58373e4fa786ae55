//! The controller as a PCI function: what a client's messages do to it.

use std::os::fd::OwnedFd;

use strata_nvme_spec::registers::{Cc, offset};
use strata_units::{ByteOffset, Bytes, Iova};
use strata_vfio_user::{Device, Dma, Refusal, Region, region};

use crate::config_space::{MSIX_PENDING, MSIX_TABLE, Wish};
use crate::controller::Controller;

/// A read that nobody completes is all ones (PCIe Base 2.3.2).
const ONES: u8 = 0xff;

impl Device for Controller {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn vectors(&self) -> u32 {
        self.vectors.len() as u32
    }

    fn read(&mut self, region: u32, at: ByteOffset, into: &mut [u8]) -> Result<(), Refusal> {
        if self.removed {
            into.fill(ONES);
            return Ok(());
        }
        match region {
            region::CONFIG => {
                self.config_space.read(at.0 as usize, into);
                Ok(())
            }
            region::BAR0 => self.read_bar(at.0, into),
            _ => Err(Refusal::Invalid),
        }
    }

    fn write(&mut self, region: u32, at: ByteOffset, from: &[u8]) -> Result<(), Refusal> {
        if self.removed {
            return Ok(());
        }
        match region {
            region::CONFIG => {
                match self.config_space.write(at.0 as usize, from) {
                    Wish::Reset => self.reset_function(),
                    Wish::Nothing => self.refresh(),
                }
                Ok(())
            }
            region::BAR0 => self.write_bar(at.0, from),
            _ => Err(Refusal::Invalid),
        }
    }

    fn map(&mut self, dma: Dma) -> Result<(), Refusal> {
        self.io.space.add(&dma)
    }

    fn unmap(&mut self, iova: Iova, len: Bytes) {
        self.lose(iova, len);
    }

    fn set_vectors(&mut self, first: u32, eventfds: Vec<Option<OwnedFd>>) {
        let slots = self.vectors.iter_mut().skip(first as usize);
        for (slot, eventfd) in slots.zip(eventfds) {
            *slot = eventfd;
        }
    }

    fn reset(&mut self) -> Result<(), Refusal> {
        if !self.removed {
            self.reset_function();
        }
        Ok(())
    }

    fn gone(&mut self) {
        self.power_down();
    }
}

/// An access of registers is one of 4 or 8 bytes at a multiple of its length (PCIe Transport 3.1).
fn whole(at: u64, len: usize) -> Result<(), Refusal> {
    if matches!(len, 4 | 8) && at.is_multiple_of(len as u64) {
        return Ok(());
    }
    Err(Refusal::Invalid)
}

impl Controller {
    fn read_bar(&mut self, at: u64, into: &mut [u8]) -> Result<(), Refusal> {
        whole(at, into.len())?;
        if !self.config_space.decodes() {
            into.fill(ONES);
            return Ok(());
        }
        self.become_ready();
        for (n, word) in (0u64..).zip(into.chunks_exact_mut(4)) {
            let at = at + 4 * n;
            match at {
                0..offset::DOORBELLS => {
                    word.copy_from_slice(&self.registers.read(at).to_le_bytes())
                }
                MSIX_TABLE..MSIX_PENDING => word.copy_from_slice(self.table(at)?),
                // Doorbells are only written; no interrupt is ever pending, since none is masked here.
                _ => word.fill(0),
            }
        }
        Ok(())
    }

    fn write_bar(&mut self, at: u64, from: &[u8]) -> Result<(), Refusal> {
        whole(at, from.len())?;
        if !self.config_space.decodes() {
            return Ok(());
        }
        for (n, word) in (0u64..).zip(from.chunks_exact(4)) {
            let at = at + 4 * n;
            let value = word.try_into().map_or(0, u32::from_le_bytes);
            match at {
                offset::CC => self.configure(Cc(value)),
                0..offset::DOORBELLS => self.registers.write(at, value),
                MSIX_TABLE..MSIX_PENDING => self.table(at)?.copy_from_slice(word),
                MSIX_PENDING.. => {}
                _ => self.ring(at, value),
            }
        }
        Ok(())
    }

    /// The word of the MSI-X table at this offset of BAR 0. It is only kept: interrupts are signalled as the protocol says, by
    /// eventfds, whatever stands in the table.
    fn table(&mut self, at: u64) -> Result<&mut [u8], Refusal> {
        let at = (at - MSIX_TABLE) as usize;
        self.msix.get_mut(at..at + 4).ok_or(Refusal::Invalid)
    }
}
