//! An entry of the journal, as it stands in its file.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strata_units::PciAddress;

use crate::{Change, Name, Process};

/// The format of entries; a later one is not understood.
pub const FORMAT: u64 = 1;

/// Changes that were written down together, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`FORMAT`]
    pub format: u64,
    /// The life of the machine in which it was written.
    pub boot_id: String,
    /// The process that wrote it.
    pub process: Process,
    /// When, RFC 3339.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub at: Timestamp,
    /// What for: the command.
    pub what_for: String,
    /// The changes.
    pub changes: Vec<Change>,
}

impl Entry {
    /// Whether it changes this function.
    pub fn covers(&self, function: PciAddress) -> bool {
        self.functions().any(|of| of == function)
    }

    /// Whether it gives this function this driver.
    pub(crate) fn gives(&self, function: PciAddress, driver: &Name) -> bool {
        self.changes.iter().any(|change| {
            matches!(change, Change::Driver(of) if of.function == function && of.after.driver.as_ref() == Some(driver))
        })
    }

    /// Whether it is the same one, whatever is left of its changes: the number of a removed entry is given again.
    pub(crate) fn is(&self, other: &Entry) -> bool {
        (&self.boot_id, self.process, self.at) == (&other.boot_id, other.process, other.at)
    }

    /// The functions that it changes.
    pub fn functions(&self) -> impl Iterator<Item = PciAddress> {
        self.changes.iter().filter_map(Change::function)
    }
}

/// Why a file is no entry.
#[derive(Debug)]
pub(crate) enum NoEntry {
    Newer(u64),
    Garbled(String),
}

impl Entry {
    /// What a file says.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Entry, NoEntry> {
        let garbled = |why: String| NoEntry::Garbled(why);
        if bytes.is_empty() {
            return Err(garbled("it is empty".to_owned()));
        }
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|why| garbled(format!("it is no JSON: {why}")))?;
        // Of another format nothing else is known.
        match value["format"].as_u64() {
            None => return Err(garbled("it tells no format".to_owned())),
            Some(FORMAT) => {}
            Some(format) if format > FORMAT => return Err(NoEntry::Newer(format)),
            Some(format) => {
                return Err(garbled(format!(
                    "its format is {format}, from 1 on there is one"
                )));
            }
        }
        serde_json::from_value(value).map_err(|why| garbled(why.to_string()))
    }
}

fn as_text<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

fn from_text<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    String::deserialize(from)?
        .parse()
        .map_err(serde::de::Error::custom)
}
