//! The ways in which queue pairs are driven.

use std::fmt;
use std::str::FromStr;

/// An engine of the nvme layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NvmeEngine {
    /// Our own driver.
    Native,
}

impl fmt::Display for NvmeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NvmeEngine::Native => "native",
        })
    }
}

impl FromStr for NvmeEngine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "native" => Ok(NvmeEngine::Native),
            _ => Err(format!(
                "`{text}` is no engine of the nvme layer; expected native"
            )),
        }
    }
}
