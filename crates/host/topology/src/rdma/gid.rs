//! Addresses of a port: GIDs, and the partitions that it belongs to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::root::Reader;

/// An entry of a port's table of GIDs (InfiniBand Architecture 1.4 vol. 1 §4.1.1; for RoCE annexes A16 and A17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gid {
    /// Its place in the table, which is what queue pairs are given.
    pub index: u32,
    /// The GID itself. Of RoCE it is an address of the interface, IPv4 ones mapped (`::ffff:192.0.2.1`).
    pub gid: Ipv6Addr,
    /// How packets that use it look; `None` on kernels before 4.5, which tell nothing of it.
    pub kind: Option<GidKind>,
    /// The network interface that it belongs to; `None` on InfiniBand.
    pub interface: Option<String>,
}

/// What stands below the InfiniBand transport (`gid_attrs/types` of the kernel's
/// `Documentation/ABI/stable/sysfs-class-infiniband`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GidKind {
    /// A global route header: on InfiniBand, or right in an Ethernet frame, which no router passes on.
    #[serde(rename = "IB/RoCE v1")]
    IbOrRoceV1,
    /// IP and UDP.
    #[serde(rename = "RoCE v2")]
    RoceV2,
}

impl GidKind {
    /// As the kernel writes it.
    fn name(self) -> &'static str {
        match self {
            GidKind::IbOrRoceV1 => "IB/RoCE v1",
            GidKind::RoceV2 => "RoCE v2",
        }
    }
}

impl fmt::Display for GidKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far packets between two addresses of a kind get, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    Ipv4,
    GlobalIpv6,
    LinkLocal,
}

impl Gid {
    /// Whether it is this address, mapped or not.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.gid.to_canonical() == address.to_canonical()
    }

    /// Whether it is no address that was given to the interface, but one that each port has of its own.
    pub fn is_link_local(&self) -> bool {
        self.reach() == Reach::LinkLocal
    }

    pub(super) fn reach(&self) -> Reach {
        match self.gid.to_canonical() {
            IpAddr::V4(v4) if !v4.is_link_local() => Reach::Ipv4,
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => Reach::GlobalIpv6,
            _ => Reach::LinkLocal,
        }
    }
}

/// A port's membership of a partition (InfiniBand Architecture 1.4 vol. 1 §10.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PKey {
    /// Its place in the table, which is what queue pairs are given.
    pub index: u32,
    /// The partition in 15 bits, and above them whether the port is a full member.
    pub key: u16,
}

/// The bit of full members (§10.9.1.1).
const FULL: u16 = 0x8000;

impl PKey {
    /// Whether the port may talk with full members only.
    pub fn is_limited(self) -> bool {
        self.key & FULL == 0
    }

    /// The partition, whatever the membership.
    pub fn partition(self) -> u16 {
        self.key & !FULL
    }
}

/// `0xffff`
impl fmt::Display for PKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.key)
    }
}

/// The GIDs of a port, without empty entries.
pub(super) fn read(reader: &Reader, port: &str) -> Vec<Gid> {
    let numbers = reader.numbered(&format!("{port}/gids"), "").into_iter();
    numbers
        .filter_map(|index| {
            let path = format!("{port}/gids/{index}");
            let gid = reader
                .value::<Ipv6Addr>(&path, "a GID")
                .filter(|gid| !is_empty(*gid))?;
            Some(Gid {
                index,
                gid,
                kind: kind(reader, &format!("{port}/gid_attrs/types/{index}")),
                interface: reader.word(&format!("{port}/gid_attrs/ndevs/{index}")),
            })
        })
        .collect()
}

/// Kernels tell an entry that is not in use as zeros, older ones behind the prefix of the subnet.
fn is_empty(gid: Ipv6Addr) -> bool {
    gid.is_unspecified() || gid == Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)
}

fn kind(reader: &Reader, path: &str) -> Option<GidKind> {
    let text = reader.word(path)?;
    let mut all = [GidKind::IbOrRoceV1, GidKind::RoceV2].into_iter();
    let found = all.find(|kind| kind.name() == text);
    if found.is_none() {
        reader.note(
            path,
            format!("found {text:?}, expected IB/RoCE v1 or RoCE v2"),
        );
    }
    found
}

/// The partitions of a port, without empty entries.
pub(super) fn read_keys(reader: &Reader, port: &str) -> Vec<PKey> {
    let numbers = reader.numbered(&format!("{port}/pkeys"), "").into_iter();
    numbers
        .filter_map(|index| {
            let key: u16 = reader.hex(&format!("{port}/pkeys/{index}"))?;
            (key != 0).then_some(PKey { index, key })
        })
        .collect()
}
