//! A command as the models see it.

use serde::{Deserialize, Serialize};
use strata_nvme_spec::{Lba, NamespaceId};
use strata_units::Bytes;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessKind {
    /// Read (NVM 3.2.4).
    Read,
    /// Write (NVM 3.2.6).
    Write,
    /// Flush (Base 7.2).
    Flush,
    /// Write Zeroes (NVM 3.2.8).
    WriteZeroes,
    /// Dataset Management that deallocates (NVM 3.2.3).
    Deallocate,
    /// Any other command that is asked about.
    Other,
}

/// A command as the models see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// What it does.
    pub kind: AccessKind,
    /// Its namespace.
    pub nsid: NamespaceId,
    /// Its first logical block; of no meaning where `blocks` is 0.
    pub first: Lba,
    /// Its logical blocks; 0 where it names none (Flush).
    pub blocks: u32,
    /// The bytes that it transfers; 0 where no data moves (Flush, Write Zeroes, Deallocate).
    pub bytes: Bytes,
}
