//! What stands behind a controller, as its PCI identifiers tell.

use strata_nvme_spec::emulated::{DEVICE, NULL_DEVICE, VENDOR};
use strata_units::ByteOffset;

use crate::{Controller, NvmeError};

/// What a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// The suite's emulated controller, which moves and keeps data.
    Emulated,
    /// The same as one that only answers.
    Null,
    /// Another one.
    Foreign,
}

impl Controller {
    /// What it is, by vendor and device (PCI Local Bus 3.0, 6.2.1).
    ///
    /// # Errors
    /// Its configuration space cannot be read.
    pub fn stands(&self) -> Result<Stands, NvmeError> {
        let mut id = [0; 4];
        self.function()
            .carrier()
            .read_config(ByteOffset(0), &mut id)?;
        let [vendor, device] = [[id[0], id[1]], [id[2], id[3]]].map(u16::from_le_bytes);
        Ok(match (vendor, device) {
            (VENDOR, DEVICE) => Stands::Emulated,
            (VENDOR, NULL_DEVICE) => Stands::Null,
            _ => Stands::Foreign,
        })
    }
}
