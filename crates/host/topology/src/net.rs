//! Network interfaces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::Reality;
use strata_units::{Bytes, NodeId, PciAddress};

use crate::block::virtio_of;
use crate::pci::{BitRate, PciFunction, function_of};
use crate::reality::Judgement;
use crate::root::Reader;

const FOLDER: &str = "sys/class/net";

/// A network interface (`Documentation/ABI/testing/sysfs-class-net` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    /// Its name (`eth0`).
    pub name: String,
    /// Its PCI function.
    pub pci: Option<PciAddress>,
    /// The node of that function; `None` when untold.
    pub node: Option<NodeId>,
    /// The virtio device that it is (`virtio2`).
    pub virtio: Option<String>,
    /// The driver of its device.
    pub driver: Option<String>,
    /// Speed of its link; `None` when it is down or tells none.
    #[serde(rename = "speed_bits_per_s")]
    pub speed: Option<BitRate>,
    /// Largest packet.
    #[serde(rename = "mtu_bytes")]
    pub mtu: Option<Bytes>,
    /// RFC 2863 state: `up`, `down`, `unknown` (loopback).
    pub operstate: Option<String>,
    /// Link-layer address.
    pub address: Option<String>,
    /// What `uevent` calls it: `vlan`, `bond`, `bridge`, `vxlan`; physical and veth ones have none.
    pub kind: Option<String>,
    /// Interfaces below it (of a VLAN, bond or bridge).
    pub lower: Vec<String>,
    /// Path of the device below the root.
    pub path: String,
    /// How real it is.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl Interface {
    /// What its wire carries each way: the speed of a port, of a VLAN on one, or of bonded ones together. None where it or
    /// what it stands on is made of software, whose speeds are inventions, and for bridges, whose speed is that of one port.
    pub fn line_rate(&self) -> Option<BitRate> {
        let real = matches!(
            self.judgement.reality,
            Some(Reality::Hardware | Reality::Passthrough)
        );
        let of_ports = matches!(self.kind.as_deref(), None | Some("vlan" | "bond"));
        self.speed.filter(|_| real && of_ports)
    }
}

/// Interfaces in the order of their names. Their judgements are made later, when all of them are known.
pub(crate) fn read(reader: &Reader, functions: &[PciFunction]) -> Vec<Interface> {
    reader
        .names(FOLDER)
        .into_iter()
        .filter_map(|name| {
            let folder = format!("{FOLDER}/{name}");
            let path = reader.real(&folder)?;
            // `bonding_masters` is a plain file in the same folder.
            if !reader.exists(&format!("{folder}/.")) {
                return None;
            }
            let pci = function_of(&path);
            let function = functions.iter().find(|f| Some(f.address) == pci);
            let word = |file: &str| reader.word(&format!("{folder}/{file}"));
            Some(Interface {
                pci,
                node: function.and_then(|f| f.node),
                virtio: virtio_of(&path),
                driver: reader.link(&format!("{folder}/device/driver")),
                speed: speed(reader, &format!("{folder}/speed")),
                mtu: reader
                    .value(&format!("{folder}/mtu"), "a number of bytes")
                    .map(Bytes),
                operstate: word("operstate"),
                address: word("address"),
                kind: word("uevent").and_then(|text| {
                    let kind = text
                        .lines()
                        .find_map(|line| line.strip_prefix("DEVTYPE="))?;
                    Some(kind.to_owned())
                }),
                lower: reader
                    .names(&folder)
                    .iter()
                    .filter_map(|entry| entry.strip_prefix("lower_"))
                    .map(str::to_owned)
                    .collect(),
                path,
                judgement: Judgement::default(),
                name,
            })
        })
        .collect()
}

/// Mb/s; −1 and 4294967295 say that the driver knows none.
fn speed(reader: &Reader, path: &str) -> Option<BitRate> {
    let megabits: i64 = reader.value(path, "a number of Mb/s")?;
    let megabits = u32::try_from(megabits)
        .ok()
        .filter(|n| *n != u32::MAX && *n > 0)?;
    Some(BitRate(u64::from(megabits) * 1_000_000))
}
