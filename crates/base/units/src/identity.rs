//! Names of processors, memory nodes, PCI functions and what they address.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ParseError;

macro_rules! number_identity {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                text.trim()
                    .parse()
                    .map($name)
                    .map_err(|_| ParseError::new($what, text, "expected a number"))
            }
        }

        impl From<u32> for $name {
            fn from(id: u32) -> Self {
                $name(id)
            }
        }

        impl From<$name> for u32 {
            fn from(id: $name) -> u32 {
                id.0
            }
        }
    };
}

number_identity!(
    /// A logical CPU, as the kernel numbers them (`/sys/devices/system/cpu/cpuN`).
    CpuId,
    "CPU"
);
number_identity!(
    /// A NUMA node, as the kernel numbers them (`/sys/devices/system/node/nodeN`).
    NodeId,
    "NUMA node"
);

/// A PCI function: domain, bus, device, function, printed as `0000:81:00.0`.
///
/// VMD domains have more than four hexadecimal digits (`10000:01:00.0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// Its domain (segment): 0 on most machines, above 0xffff below an Intel VMD.
    #[must_use]
    pub fn domain(self) -> u32 {
        self.domain
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!(
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        ))
    }
}

impl FromStr for PciAddress {
    type Err = ParseError;

    /// Takes `DDDD:BB:DD.F` and, as `lspci` prints it, `BB:DD.F` of domain 0.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        fn hex(part: &str, most: u32) -> Option<u32> {
            if !(1..=8).contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            u32::from_str_radix(part, 16).ok().filter(|n| *n <= most)
        }
        let parse = || {
            let (rest, function) = text.trim().rsplit_once('.')?;
            let mut parts = rest.rsplit(':');
            let device = hex(parts.next()?, 0x1f)?;
            let bus = hex(parts.next()?, 0xff)?;
            let domain = parts.next().map_or(Some(0), |d| hex(d, u32::MAX))?;
            if parts.next().is_some() {
                return None;
            }
            Some(PciAddress {
                domain,
                bus: u8::try_from(bus).ok()?,
                device: u8::try_from(device).ok()?,
                function: u8::try_from(hex(function, 7)?).ok()?,
            })
        };
        parse().ok_or_else(|| {
            ParseError::new(
                "PCI address",
                text,
                "expected DDDD:BB:DD.F, such as 0000:81:00.0",
            )
        })
    }
}

impl Serialize for PciAddress {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PciAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PciAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$",
        })
    }
}

/// An address as a device sees it: what DMA goes to, after an IOMMU or a map of the vfio-user protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(pub u64);

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#x}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_devices_are_printed_in_hexadecimal() {
        assert_eq!(format!("{:>8}", Iova(0x1000)), "  0x1000");
    }

    #[test]
    fn pci_addresses() {
        let vmd: PciAddress = "10000:01:00.0".parse().expect("a VMD domain");
        assert_eq!(vmd.to_string(), "10000:01:00.0");
        assert_eq!(
            "81:00.1".parse::<PciAddress>().expect("short").to_string(),
            "0000:81:00.1"
        );
        for bad in [
            "",
            "81:00",
            "0000:81:20.0",
            "0000:81:00.8",
            "x:81:00.0",
            "0:0:81:00.0",
            "+1:00.0",
        ] {
            assert!(bad.parse::<PciAddress>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn addresses_round_trip(domain in any::<u32>(), bus in any::<u8>(), device in 0u8..32, function in 0u8..8) {
            let address = PciAddress { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
