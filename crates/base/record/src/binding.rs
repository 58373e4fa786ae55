//! Which driver a drive is on: a factor that is hard to change.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::PciAddress;

/// A driver that a drive's PCI function is put on to be measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The kernel's NVMe driver, which makes block devices of its namespaces.
    Nvme,
    /// vfio-pci, which hands the function to a program (`Documentation/driver-api/vfio.rst` of the kernel).
    VfioPci,
}

impl Driver {
    /// Its name as the kernel has it, below `/sys/bus/pci/drivers`.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Nvme => "nvme",
            Driver::VfioPci => "vfio-pci",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The level of a hard-to-change factor that a cell is measured under: the factor is the drive's function, the level its
/// driver. The level is entered once a round, and never changed from trial to trial.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Binding {
    /// The drive's PCI function.
    pub function: PciAddress,
    /// The driver that is to hold it.
    pub driver: Driver,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} on {}", self.function, self.driver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_written_as_the_kernel_names_it() {
        for driver in [Driver::Nvme, Driver::VfioPci] {
            let written = serde_json::to_value(driver).expect("JSON");
            assert_eq!(written, driver.name());
        }
    }
}
