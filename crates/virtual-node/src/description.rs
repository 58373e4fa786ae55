//! What a node is made of, as a small file says.
//!
//! ```toml
//! distance = 21            # between memory nodes (ACPI SLIT; 10 is near)
//! kernel = ["quiet"]       # more words for the kernel's command line
//! iommu = true             # an Intel IOMMU (default)
//! soft_roce = true         # rxe0, an RDMA device of software: over the wire, or else over an interface of its own
//!
//! [[node]]                 # a memory node with its CPUs, one at least
//! cpus = 2
//! memory = "1GiB"
//!
//! [[drive]]                # an NVMe controller with one namespace
//! serial = "STRATA0"
//! node = 0                 # left out: it hangs on no node's bus, and firmware tells none
//! size = "256MiB"
//! block = 512              # or 4096
//! keeps = true             # false: writes go nowhere, and everything reads as zeros
//! iops = 2000              # the most operations a second; left out: as many as there come
//! link = "8GT/s x4"        # of the port that it hangs on
//! bad = "1MiB"             # reads that touch the block there fail
//! shares = "STRATA1"       # a further function of that drive's device, and of its IOMMU group
//!
//! [wire]                   # a network card, and a second guest at the other end of its wire
//! mtu = 4200
//! cpus = 1
//! memory = "512MiB"
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use strata_units::Bytes;

/// A virtual node, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its memory nodes, by number.
    #[serde(rename = "node")]
    pub nodes: Vec<MemoryNode>,
    /// The distance between any two of them, as the firmware tells it (ACPI 6.5 §5.2.17: 10 is a node's to itself).
    #[serde(default = "far")]
    pub distance: u8,
    /// Its drives.
    #[serde(default, rename = "drive")]
    pub drives: Vec<Drive>,
    /// What hangs on its network card.
    pub wire: Option<Wire>,
    /// Whether it has an IOMMU.
    #[serde(default = "yes")]
    pub iommu: bool,
    /// Whether it has `rxe0`, an RDMA device of software (Soft-RoCE): over its network card, or else over an interface of its
    /// own, by which processes of one guest reach each other. The second guest has one too.
    #[serde(default)]
    pub soft_roce: bool,
    /// More words for its kernel's command line.
    #[serde(default)]
    pub kernel: Vec<String>,
}

/// A memory node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryNode {
    /// Its CPUs.
    pub cpus: u16,
    /// Its memory.
    #[serde(deserialize_with = "size")]
    pub memory: Bytes,
}

/// An NVMe controller with one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Its serial number; by this tests know it, since the kernel's numbers change from boot to boot.
    pub serial: String,
    /// The memory node that its bus belongs to; none when firmware is to tell none.
    pub node: Option<u32>,
    /// The namespace's size.
    #[serde(deserialize_with = "size")]
    pub size: Bytes,
    /// Its logical block, in bytes.
    #[serde(default = "sector")]
    pub block: u32,
    /// Whether it keeps what is written to it.
    #[serde(default = "yes")]
    pub keeps: bool,
    /// The most operations a second that it does.
    pub iops: Option<u32>,
    /// Speed and width of the link of its port, such as `8GT/s x4`.
    pub link: Option<String>,
    /// Where the block lies that cannot be read.
    #[serde(default, deserialize_with = "maybe_size")]
    pub bad: Option<Bytes>,
    /// The drive whose device it is one more function of; both then are of one IOMMU group.
    pub shares: Option<String>,
}

/// A network card, and a second guest at the other end of its wire.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// The largest packet.
    #[serde(default = "mtu")]
    pub mtu: u16,
    /// The second guest's CPUs.
    pub cpus: u16,
    /// Its memory.
    #[serde(deserialize_with = "size")]
    pub memory: Bytes,
}

/// `256MiB`, where records have plain numbers.
fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn maybe_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
    size(from).map(Some)
}

fn yes() -> bool {
    true
}

fn far() -> u8 {
    20
}

fn sector() -> u32 {
    512
}

fn mtu() -> u16 {
    1500
}

/// Why a text describes no node.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// It is no TOML, or has unknown keys.
    #[error("the node's description cannot be understood: {0}")]
    Syntax(#[from] toml::de::Error),
    /// It describes what cannot be made.
    #[error("the node's description: {place} is {found}, expected {expected}")]
    Wrong {
        /// Where.
        place: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
}

/// The largest node: more would not run on the machines that this is for.
const MOST: usize = 8;

impl Description {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// [`DescriptionError`]
    pub fn parse(text: &str) -> Result<Description, DescriptionError> {
        let it: Description = toml::from_str(text)?;
        let wrong = |place: String, found: String, expected| {
            Err(DescriptionError::Wrong {
                place,
                found,
                expected,
            })
        };
        if it.nodes.is_empty() || it.nodes.len() > MOST {
            let found = format!("{} times there", it.nodes.len());
            return wrong("[[node]]".to_owned(), found, "1 to 8 memory nodes");
        }
        if it.distance < 10 {
            return wrong("distance".to_owned(), it.distance.to_string(), "10 or more");
        }
        for (n, node) in it.nodes.iter().enumerate() {
            if node.cpus == 0 {
                let place = format!("cpus of [[node]] {n}");
                return wrong(place, "0".to_owned(), "1 or more");
            }
            if node.memory < Bytes(64 << 20) {
                let place = format!("memory of [[node]] {n}");
                return wrong(place, node.memory.to_string(), "64MiB or more");
            }
        }
        let mut serials = BTreeSet::new();
        for drive in &it.drives {
            let of = |what: &str| format!("{what} of drive {}", drive.serial);
            let is_word = drive.serial.chars().all(|c| c.is_ascii_alphanumeric());
            if drive.serial.is_empty() || drive.serial.len() > 20 || !is_word {
                let expected = "1 to 20 letters and digits";
                return wrong(
                    "a drive's serial".to_owned(),
                    drive.serial.clone(),
                    expected,
                );
            }
            if !serials.insert(&drive.serial) {
                let expected = "another for each drive";
                return wrong(
                    "a drive's serial".to_owned(),
                    drive.serial.clone(),
                    expected,
                );
            }
            if let Some(node) = drive.node.filter(|n| *n as usize >= it.nodes.len()) {
                let expected = "the number of a [[node]], from 0";
                return wrong(of("node"), node.to_string(), expected);
            }
            if ![512, 4096].contains(&drive.block) {
                return wrong(of("block"), drive.block.to_string(), "512 or 4096");
            }
            if drive.size.0 == 0 || !drive.size.0.is_multiple_of(u64::from(drive.block)) {
                return wrong(of("size"), drive.size.to_string(), "whole blocks");
            }
            let outside = |at: &Bytes| *at >= drive.size || !at.0.is_multiple_of(512);
            if drive.bad.as_ref().is_some_and(outside) || (drive.bad.is_some() && !drive.keeps) {
                let found = drive.bad.unwrap_or_default().to_string();
                let expected = "a multiple of 512 within a drive that keeps what is written";
                return wrong(of("bad"), found, expected);
            }
            if drive.link.as_deref().is_some_and(|l| port(l).is_none()) {
                let found = drive.link.clone().unwrap_or_default();
                let expected =
                    "a speed of 2.5, 5, 8 or 16 GT/s and a width of 1 to 32, such as `8GT/s x4`";
                return wrong(of("link"), found, expected);
            }
            if let Some(first) = &drive.shares {
                let is_first =
                    |d: &&Drive| d.serial == *first && d.shares.is_none() && d.node == drive.node;
                if first == &drive.serial || !it.drives.iter().any(|d| is_first(&d)) {
                    let expected =
                        "the serial of another drive on the same node, with a device of its own";
                    return wrong(of("shares"), first.clone(), expected);
                }
            }
        }
        Ok(it)
    }

    /// All its CPUs.
    pub fn cpus(&self) -> u32 {
        self.nodes.iter().map(|n| u32::from(n.cpus)).sum()
    }
}

/// Speed and width of a port, as QEMU's `x-speed` and `x-width` take them.
pub(crate) fn port(link: &str) -> Option<(&str, &str)> {
    let (speed, width) = link.split_once("GT/s x")?;
    let speed = match speed {
        "2.5" => "2_5",
        "5" | "8" | "16" => speed,
        _ => return None,
    };
    ["1", "2", "4", "8", "12", "16", "32"]
        .contains(&width)
        .then_some((speed, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_that_come_along_are_understood() {
        let all = crate::NODES;
        assert!(!all.is_empty());
        for (name, text) in all {
            let it = Description::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(it.cpus() >= 1, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_name() {
        let node = "[[node]]\ncpus = 1\nmemory = '64MiB'\n";
        for (more, said) in [
            (
                "[[drive]]\nserial = 'A'\nsize = '1MiB'\nnode = 1",
                "node of drive A is 1",
            ),
            (
                "[[drive]]\nserial = 'A,b'\nsize = '1MiB'",
                "letters and digits",
            ),
            ("[[drive]]\nserial = 'A'\nsize = '1000B'", "size of drive A"),
            (
                "[[drive]]\nserial = 'A'\nsize = '1MiB'\nblock = 520",
                "block of drive A is 520",
            ),
            (
                "[[drive]]\nserial = 'A'\nsize = '1MiB'\nlink = '9GT/s x4'",
                "link of drive A",
            ),
            (
                "[[drive]]\nserial = 'A'\nsize = '1MiB'\nshares = 'A'",
                "shares of drive A",
            ),
            (
                "[[drive]]\nserial = 'A'\nsize = '1MiB'\n[[drive]]\nserial = 'A'\nsize = '1MiB'",
                "another for each",
            ),
            ("[[drives]]\nserial = 'A'", "unknown field"),
        ] {
            let found = Description::parse(&format!("{node}{more}"));
            let told = found
                .map(|_| String::new())
                .unwrap_or_else(|e| e.to_string());
            assert!(told.contains(said), "{more}: {told:?}");
        }
        assert!(Description::parse("").is_err());
        assert!(Description::parse("distance = 9\n[[node]]\ncpus = 1\nmemory = '64MiB'").is_err());
        assert!(Description::parse(node).is_ok());
    }
}
