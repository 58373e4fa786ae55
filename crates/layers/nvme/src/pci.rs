//! Configuration space: that a function is an NVMe controller, and may be reached and reach memory.

use strata_units::ByteOffset;

use crate::registers::ALL_ONES;
use crate::{Carrier, NvmeError};

/// Vendor and device (PCI Local Bus 3.0, 6.1).
const ID: ByteOffset = ByteOffset(0x00);
/// Command (6.2.2).
const COMMAND: ByteOffset = ByteOffset(0x04);
/// Revision, and the class above it (6.2.1).
const CLASS: ByteOffset = ByteOffset(0x08);
/// Memory Space and Bus Master.
const MEMORY_AND_MASTER: u16 = 0b110;
/// Mass storage, non-volatile memory, NVM Express I/O controller (PCIe 3.8.1.6, "Class Code").
const NVME: u32 = 0x01_08_02;

/// Checks a function's class and enables its memory and its way to ours.
pub(crate) fn enable(carrier: &mut dyn Carrier) -> Result<(), NvmeError> {
    let mut id = [0; 4];
    carrier.read_config(ID, &mut id)?;
    if id == [0xff; 4] {
        return Err(NvmeError::Removed {
            name: carrier.name().to_owned(),
            what: "tell what it is",
            found: carrier.gone().unwrap_or(ALL_ONES),
        });
    }
    let mut class = [0; 4];
    carrier.read_config(CLASS, &mut class)?;
    let found = u32::from_le_bytes(class) >> 8;
    if found != NVME {
        return Err(NvmeError::NotNvme {
            name: carrier.name().to_owned(),
            found,
        });
    }
    let command = read_command(carrier)?;
    if command & MEMORY_AND_MASTER != MEMORY_AND_MASTER {
        let wanted = command | MEMORY_AND_MASTER;
        carrier.write_config(COMMAND, &wanted.to_le_bytes())?;
        let found = read_command(carrier)?;
        if found & MEMORY_AND_MASTER != MEMORY_AND_MASTER {
            return Err(NvmeError::Unfit {
                name: carrier.name().to_owned(),
                found: format!("its PCI command register stays at {found:#06x}"),
                expected: "memory space and bus master (bits 1 and 2) have to be set; look for what holds the function back",
            });
        }
    }
    Ok(())
}

fn read_command(carrier: &mut dyn Carrier) -> Result<u16, NvmeError> {
    let mut command = [0; 2];
    carrier.read_config(COMMAND, &mut command)?;
    Ok(u16::from_le_bytes(command))
}
