//! Controller properties: where they lie in BAR 0 and what their bits mean (Base 3.1.4; PCIe 3.1).

mod cap;
mod config;
mod doorbell;
mod queues;
mod ready;

pub use cap::{Cap, CommandSets};
pub use config::{Cc, CommandSet, Csts, Shutdown, ShutdownStatus};
pub use doorbell::Doorbell;
pub use queues::Aqa;
pub use ready::{Crto, ready_timeout};

use std::fmt;

use strata_units::Nanos;

/// Offsets in bytes from the start of the properties (Base 3.1.4, figure "Property Definition").
pub mod offset {
    /// Controller Capabilities, 8 bytes.
    pub const CAP: u64 = 0x00;
    /// Version, 4 bytes.
    pub const VS: u64 = 0x08;
    /// Interrupt Mask Set, 4 bytes; not to be touched under MSI-X.
    pub const INTMS: u64 = 0x0c;
    /// Interrupt Mask Clear, 4 bytes; not to be touched under MSI-X.
    pub const INTMC: u64 = 0x10;
    /// Controller Configuration, 4 bytes.
    pub const CC: u64 = 0x14;
    /// Controller Status, 4 bytes.
    pub const CSTS: u64 = 0x1c;
    /// NVM Subsystem Reset, 4 bytes; optional.
    pub const NSSR: u64 = 0x20;
    /// Admin Queue Attributes, 4 bytes.
    pub const AQA: u64 = 0x24;
    /// Admin Submission Queue Base Address, 8 bytes.
    pub const ASQ: u64 = 0x28;
    /// Admin Completion Queue Base Address, 8 bytes.
    pub const ACQ: u64 = 0x30;
    /// Controller Memory Buffer Location, 4 bytes; optional.
    pub const CMBLOC: u64 = 0x38;
    /// Controller Memory Buffer Size, 4 bytes; optional.
    pub const CMBSZ: u64 = 0x3c;
    /// Boot Partition Information, 4 bytes; optional.
    pub const BPINFO: u64 = 0x40;
    /// NVM Subsystem Shutdown, 4 bytes; optional.
    pub const NSSD: u64 = 0x64;
    /// Controller Ready Timeouts, 4 bytes; where CAP.CRMS is not 0.
    pub const CRTO: u64 = 0x68;
    /// Persistent Memory Region Capabilities, 4 bytes; optional.
    pub const PMRCAP: u64 = 0xe00;
    /// The first doorbell (PCIe 3.1.2).
    pub const DOORBELLS: u64 = 0x1000;
}

/// What written to NSSR resets the whole subsystem: "NVMe" (Base 3.1.4.7).
pub const NSSR_RESET: u32 = 0x4e56_4d65;

/// What a register of 4 bytes reads when the function is gone: PCIe's answer to a read that nobody completes.
pub const GONE: u32 = u32::MAX;

/// The unit of all ready timeouts.
const HALF_SECOND: Nanos = Nanos::from_millis(500);

/// The version of the specification that a controller follows, VS (Base 3.1.4.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    /// A version by its numbers.
    pub const fn new(major: u16, minor: u8, tertiary: u8) -> Version {
        Version((major as u32) << 16 | (minor as u32) << 8 | tertiary as u32)
    }
}

/// `2.1`, and `1.2.1` where there is a third number.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, [tertiary, minor, ..]) = (self.0 >> 16, self.0.to_le_bytes());
        match tertiary {
            0 => f.pad(&format!("{major}.{minor}")),
            _ => f.pad(&format!("{major}.{minor}.{tertiary}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_print_and_compare() {
        assert_eq!(Version(0x0002_0100).to_string(), "2.1");
        assert_eq!(Version(0x0001_0201).to_string(), "1.2.1");
        assert_eq!(Version(GONE).to_string(), "65535.255.255");
        assert_eq!(Version::new(1, 4, 0), Version(0x0001_0400));
        assert!(Version::new(1, 3, 0) < Version::new(1, 4, 0));
    }
}
