//! The ways to a controller, as records name them.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use strata_units::PciAddress;

/// How a controller is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// One of the run's own, emulated: its model's file, and whether it only answers.
    Emulated {
        path: Option<PathBuf>,
        no_data: bool,
    },
    /// One behind a socket in this folder.
    Socket(PathBuf),
    /// A PCI function of this machine that is with vfio-pci.
    Function(PciAddress),
}

/// A namespace of a controller, as records have it: `emulated#1`, `emulated,no-data:/path/model.toml#1`,
/// `vfio-user:/path#1`, `vfio:0000:81:00.0#1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Via {
    pub(super) way: Way,
    pub(super) namespace: u32,
}

const EMULATED: &str = "emulated";
const NO_DATA: &str = "emulated,no-data";
const SOCKET: &str = "vfio-user:";
const FUNCTION: &str = "vfio:";

impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Emulated { path, no_data } => {
                f.write_str(if *no_data { NO_DATA } else { EMULATED })?;
                if let Some(path) = path {
                    write!(f, ":{}", path.display())?;
                }
            }
            Way::Socket(folder) => write!(f, "{SOCKET}{}", folder.display())?,
            Way::Function(at) => write!(f, "{FUNCTION}{at}")?,
        }
        write!(f, "#{}", self.namespace)
    }
}

impl std::str::FromStr for Via {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Via> {
        let wrong = || anyhow!("`{text}` is no way to a controller");
        let (way, namespace) = text.rsplit_once('#').ok_or_else(wrong)?;
        let path = |rest: &str| match rest.strip_prefix(':') {
            Some(path) => Ok(Some(PathBuf::from(path))),
            None if rest.is_empty() => Ok(None),
            None => Err(wrong()),
        };
        let way = if let Some(folder) = way.strip_prefix(SOCKET) {
            Way::Socket(PathBuf::from(folder))
        } else if let Some(at) = way.strip_prefix(FUNCTION) {
            Way::Function(at.parse().map_err(|_| wrong())?)
        } else {
            let (rest, no_data) = match way.strip_prefix(NO_DATA) {
                Some(rest) => (rest, true),
                None => (way.strip_prefix(EMULATED).ok_or_else(wrong)?, false),
            };
            Way::Emulated {
                path: path(rest)?,
                no_data,
            }
        };
        Ok(Via {
            way,
            namespace: namespace.parse().map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_read_as_they_are_written() {
        for text in [
            "emulated#1",
            "emulated,no-data#1",
            "emulated:/a/model#2.toml#3",
            "vfio-user:/run/emu#1",
            "vfio:0000:81:00.0#1",
            "vfio:10000:01:00.0#4294967295",
        ] {
            let via: Via = text.parse().expect(text);
            assert_eq!(via.to_string(), text);
        }
        for text in [
            "vfio:/run/emu#1",
            "vfio:0000:81:00.0",
            "vfio:#1",
            "pci:0#1",
            "vfio:81:00.0#x",
        ] {
            assert!(text.parse::<Via>().is_err(), "{text}");
        }
    }
}
