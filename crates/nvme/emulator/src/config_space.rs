//! PCI configuration space: an NVMe controller's header and capabilities (PCIe Base 7.5, PCI Code and ID Assignment 1.2).

use strata_nvme_spec::emulated::{DEVICE, NULL_DEVICE, VENDOR};

/// Bytes: PCI Express's, with no extended capability.
pub(crate) const LEN: usize = 4096;

/// BAR 0: registers, doorbells, the MSI-X table and its pending bits, a page each.
pub(crate) const BAR_LEN: u64 = 0x4000;
pub(crate) const MSIX_TABLE: u64 = 0x2000;
pub(crate) const MSIX_PENDING: u64 = 0x3000;

const COMMAND: usize = 0x04;
const MEMORY: u8 = 1 << 1;
const MASTER: u8 = 1 << 2;
const POWER: usize = 0x40;
const MSIX: usize = 0x50;
const EXPRESS: usize = 0x60;
const DEVICE_CONTROL: usize = EXPRESS + 8;

/// Configuration space, and which of its bits can be written.
pub(crate) struct ConfigSpace {
    bytes: Vec<u8>,
    mask: Vec<u8>,
}

/// What a write asks for beside being kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    /// A function-level reset.
    Reset,
}

impl ConfigSpace {
    /// That of a controller with so many MSI-X vectors, which moves data or does not.
    pub(crate) fn new(vectors: u16, moves_data: bool) -> ConfigSpace {
        let device = if moves_data { DEVICE } else { NULL_DEVICE };
        let mut it = ConfigSpace {
            bytes: vec![0; LEN],
            mask: vec![0; LEN],
        };
        it.put(0x00, &VENDOR.to_le_bytes(), &[]);
        it.put(0x02, &device.to_le_bytes(), &[]);
        // Memory is decoded from the start, as firmware leaves it; SPDK's client turns on nothing but bus mastering.
        it.put(COMMAND, &[MEMORY, 0], &[0x46, 0x05]);
        // There is a list of capabilities.
        it.put(0x06, &[0x10, 0], &[]);
        // Mass storage, non-volatile memory, NVMe I/O controller.
        it.put(0x08, &[0, 0x02, 0x08, 0x01], &[]);
        it.put(0x0c, &[0], &[0xff]);
        // 64 bits, not prefetchable.
        let size = (!(BAR_LEN - 1)).to_le_bytes();
        it.put(0x10, &[0x04, 0, 0, 0, 0, 0, 0, 0], &size);
        it.put(0x2c, &VENDOR.to_le_bytes(), &[]);
        it.put(0x2e, &device.to_le_bytes(), &[]);
        it.put(0x34, &[POWER as u8], &[]);
        it.put(0x3c, &[0], &[0xff]);
        // Power management: D0 and D3hot, which keeps its state (No_Soft_Reset).
        it.put(POWER, &[0x01, MSIX as u8, 0x03, 0], &[]);
        it.put(POWER + 4, &[0x08, 0], &[0x03, 0]);
        let [low, high] = vectors.saturating_sub(1).to_le_bytes();
        it.put(MSIX, &[0x11, EXPRESS as u8, low, high], &[0, 0, 0, 0xc0]);
        it.put(MSIX + 4, &(MSIX_TABLE as u32).to_le_bytes(), &[]);
        it.put(MSIX + 8, &(MSIX_PENDING as u32).to_le_bytes(), &[]);
        // An endpoint integrated in the root complex, which has no link whose speed could be told; resets by function.
        it.put(EXPRESS, &[0x10, 0, 0x92, 0], &[]);
        it.put(EXPRESS + 4, &(1u32 << 28 | 1 << 15).to_le_bytes(), &[]);
        it.put(DEVICE_CONTROL, &[0x10, 0x28], &[0xff, 0x7f]);
        it
    }

    fn put(&mut self, at: usize, bytes: &[u8], mask: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.mask[at..at + mask.len()].copy_from_slice(mask);
    }

    /// Reads from `at`; what lies outside reads as ones.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) {
        for (n, byte) in into.iter_mut().enumerate() {
            *byte = *self.bytes.get(at.saturating_add(n)).unwrap_or(&0xff);
        }
    }

    /// Writes the bits that can be written.
    pub(crate) fn write(&mut self, at: usize, from: &[u8]) -> Wish {
        let mut wish = Wish::Nothing;
        for (n, new) in from.iter().enumerate() {
            let at = at.saturating_add(n);
            let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.mask.get(at)) else {
                continue;
            };
            *byte = *byte & !mask | new & mask;
            if at == DEVICE_CONTROL + 1 && new & 0x80 != 0 {
                wish = Wish::Reset;
            }
        }
        wish
    }

    fn awake(&self) -> bool {
        self.bytes[POWER + 4] & 0x03 == 0
    }

    /// Whether BAR 0 answers: memory is decoded and the function is in D0.
    pub(crate) fn decodes(&self) -> bool {
        self.bytes[COMMAND] & MEMORY != 0 && self.awake()
    }

    /// Whether the function may touch the host's memory.
    pub(crate) fn masters(&self) -> bool {
        self.bytes[COMMAND] & MASTER != 0 && self.awake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(space: &ConfigSpace, at: usize) -> u32 {
        let mut bytes = [0; 4];
        space.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn a_host_finds_a_controller_and_its_capabilities() {
        let mut space = ConfigSpace::new(65, true);
        assert_eq!(word(&space, 8) >> 8, 0x01_08_02);
        let mut found = Vec::new();
        let mut at = word(&space, 0x34) as usize;
        while at != 0 {
            let head = word(&space, at);
            found.push(head as u8);
            at = (head >> 8 & 0xff) as usize;
        }
        assert_eq!(found, [0x01, 0x11, 0x10]);
        assert_eq!(word(&space, MSIX) >> 16 & 0x7ff, 64);
        // How long BAR 0 is, is asked by ones.
        space.write(0x10, &[0xff; 8]);
        assert_eq!(word(&space, 0x10), !(BAR_LEN as u32 - 1) | 0x4);
        assert_eq!(word(&space, 0x14), u32::MAX);
        space.write(0, &[0; 4]);
        assert_eq!(word(&space, 0) & 0xffff, u32::from(VENDOR));
        assert_eq!(word(&space, LEN - 2), 0xffff_0000);
    }

    #[test]
    fn memory_mastering_power_and_reset_are_the_hosts_to_turn() {
        let mut space = ConfigSpace::new(2, false);
        assert!(space.decodes() && !space.masters());
        assert_eq!(space.write(COMMAND, &[0x04, 0x04]), Wish::Nothing);
        assert!(!space.decodes() && space.masters());
        space.write(COMMAND, &[0x06]);
        space.write(POWER + 4, &[0x03]);
        assert!(!space.decodes() && !space.masters());
        space.write(POWER + 4, &[0x00]);
        assert!(space.decodes() && space.masters());
        assert_eq!(space.write(DEVICE_CONTROL, &[0, 0x80]), Wish::Reset);
        assert_eq!(word(&space, DEVICE_CONTROL) & 0x8000, 0, "it is not kept");
    }
}
