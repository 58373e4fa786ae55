//! Names of drivers and modules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest module name (MODULE_NAME_LEN of include/linux/moduleparam.h, on 64 bits).
const LONGEST: usize = 55;

/// The name of a driver (`vfio-pci`) or of a module (`vfio_pci`), which may become part of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no name of a driver or module: expected letters, digits, - and _, {LONGEST} at most"
)]
pub struct NotAName {
    text: String,
}

impl Name {
    /// The kernel's driver of NVMe controllers.
    pub fn nvme() -> Name {
        Name("nvme".to_owned())
    }

    /// The driver that hands PCI functions to user space (`Documentation/driver-api/vfio.rst`).
    pub fn vfio_pci() -> Name {
        Name("vfio-pci".to_owned())
    }

    /// The kernel's driver of Volume Management Devices.
    pub fn vmd() -> Name {
        Name("vmd".to_owned())
    }

    /// The module by which VFIO uses an IOMMU.
    pub fn vfio_iommu_type1() -> Name {
        Name("vfio_iommu_type1".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a module is named below `sys/module`: with underscores.
    #[must_use]
    pub fn as_module(&self) -> Name {
        Name(self.0.replace('-', "_"))
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Name, NotAName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Name(text.to_owned()));
        }
        Err(NotAName {
            text: text.chars().take(100).collect(),
        })
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Name, NotAName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_stay_in_their_folder() {
        for good in ["nvme", "vfio-pci", "vfio_iommu_type1", "8250"] {
            assert_eq!(good.parse::<Name>().expect(good).as_str(), good);
        }
        let long = "x".repeat(56);
        for bad in ["", ".", "..", "a/b", "a b", "nvme\n", "(null)", "é", &long] {
            let told = bad.parse::<Name>().expect_err(bad).to_string();
            assert!(told.contains("expected letters"), "{told}");
        }
    }
}
