//! Where a controller is, in SPDK's words.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use strata_units::PciAddress;

/// A transport identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A drive of this node, with vfio-pci or a driver of uio.
    Pcie(PciAddress),
    /// A controller behind a vfio-user socket, in the folder that holds it as `cntrl`.
    VfioUser {
        /// The folder.
        folder: PathBuf,
        /// The subsystem: without it SPDK would look in the discovery subsystem, and find nothing.
        subsystem: String,
    },
    /// One behind a network, by SPDK's own words.
    Fabric {
        /// `TCP` or `RDMA`.
        kind: &'static str,
        /// All of them.
        words: String,
    },
}

/// Why words are no transport identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// A word has no value.
    #[error(
        "`{0}` is no KEY:VALUE; expected such as `trtype:TCP traddr:192.0.2.1 trsvcid:4420 subnqn:NQN`"
    )]
    Word(String),
    /// It is missing.
    #[error("a transport identifier without {0} names no controller")]
    Missing(&'static str),
    /// SPDK falls back to the discovery subsystem then, and says nothing.
    #[error(
        "a transport identifier of {0} without subnqn would be looked for in the discovery subsystem; add subnqn:NQN"
    )]
    Subsystem(&'static str),
    /// It is not known here.
    #[error("`{0}` is no transport; expected PCIe, VFIOUSER, TCP or RDMA")]
    Kind(String),
    /// It is no address.
    #[error("`{0}` is no PCI address; expected such as 0000:81:00.0")]
    Address(String),
}

impl FromStr for Transport {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Transport, TransportError> {
        if let Ok(address) = text.parse() {
            return Ok(Transport::Pcie(address));
        }
        let words: Vec<(&str, &str)> = text
            .split_whitespace()
            .map(|word| {
                word.split_once(':')
                    .ok_or_else(|| TransportError::Word(word.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let of = |key: &str| {
            let found = words.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
            found
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        };
        let kind = of("trtype").ok_or(TransportError::Missing("trtype"))?;
        let address = of("traddr").ok_or(TransportError::Missing("traddr"))?;
        match kind.to_ascii_uppercase().as_str() {
            "PCIE" => {
                let pci = address.parse();
                pci.map(Transport::Pcie)
                    .map_err(|_| TransportError::Address(address.to_owned()))
            }
            "VFIOUSER" => Ok(Transport::VfioUser {
                folder: address.into(),
                subsystem: of("subnqn")
                    .ok_or(TransportError::Subsystem("VFIOUSER"))?
                    .to_owned(),
            }),
            upper @ ("TCP" | "RDMA") => {
                let kind = if upper == "TCP" { "TCP" } else { "RDMA" };
                of("subnqn").ok_or(TransportError::Subsystem(kind))?;
                Ok(Transport::Fabric {
                    kind,
                    words: text.split_whitespace().collect::<Vec<_>>().join(" "),
                })
            }
            _ => Err(TransportError::Kind(kind.to_owned())),
        }
    }
}

/// As SPDK parses it.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Pcie(address) => write!(f, "trtype:PCIe traddr:{address}"),
            Transport::VfioUser { folder, subsystem } => write!(
                f,
                "trtype:VFIOUSER traddr:{} subnqn:{subsystem}",
                folder.display()
            ),
            Transport::Fabric { words, .. } => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_controller_is_told_from_what_names_none() {
        for (text, expected) in [
            ("0000:81:00.0", "trtype:PCIe traddr:0000:81:00.0"),
            (
                "trtype:pcie traddr:0000:81:00.0",
                "trtype:PCIe traddr:0000:81:00.0",
            ),
            (
                "trtype:VFIOUSER  traddr:/run/emu subnqn:nqn.2014-08.org.nvmexpress:x",
                "trtype:VFIOUSER traddr:/run/emu subnqn:nqn.2014-08.org.nvmexpress:x",
            ),
            (
                "trtype:TCP traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.x",
                "trtype:TCP traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.x",
            ),
        ] {
            let found: Transport = text.parse().expect(text);
            assert_eq!(found.to_string(), expected);
        }
        for (text, word) in [
            ("trtype:VFIOUSER traddr:/run/emu", "discovery"),
            ("trtype:TCP traddr:127.0.0.1", "subnqn"),
            ("trtype:FC traddr:nn-0x1", "no transport"),
            ("traddr:0000:81:00.0", "trtype"),
            ("trtype:PCIe", "traddr"),
            ("trtype:PCIe traddr:81", "no PCI address"),
            ("nvme0", "KEY:VALUE"),
        ] {
            let why = text.parse::<Transport>().expect_err(text).to_string();
            assert!(why.contains(word), "{why}");
        }
    }
}
