//! InfiniBand and other RDMA devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{NodeId, PciAddress};

use crate::pci::{BitRate, PciFunction, function_of};
use crate::reality::Judgement;
use crate::root::Reader;

const FOLDER: &str = "sys/class/infiniband";

/// An RDMA device (`Documentation/ABI/stable/sysfs-class-infiniband` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaDevice {
    /// Its name (`mlx5_0`).
    pub name: String,
    /// Its PCI function.
    pub pci: Option<PciAddress>,
    /// The node of that function; `None` when untold.
    pub node: Option<NodeId>,
    /// The driver of its device.
    pub driver: Option<String>,
    /// Type as the driver names it (`MT4129`).
    pub model: Option<String>,
    /// The board's PSID.
    pub board: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// Node GUID, its lasting identity.
    pub guid: Option<String>,
    /// What the device says it is (`mlx5_0`, a host's name, `Software iWARP stack`).
    pub description: Option<String>,
    /// The interface that Soft-RoCE or soft iWARP runs over.
    pub over: Option<String>,
    /// Interfaces of the same function.
    pub interfaces: Vec<String>,
    /// Ports.
    pub ports: Vec<RdmaPort>,
    /// Path of the device below the root.
    pub path: String,
    /// How real it is.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaPort {
    /// Its number, from 1.
    pub number: u32,
    /// Logical state (`ACTIVE`, `DOWN`, `INIT`, `ARMED`).
    pub state: Option<String>,
    /// Physical state (`LinkUp`, `Polling`, `Disabled`).
    pub physical_state: Option<String>,
    /// Rate of the link.
    #[serde(rename = "rate_bits_per_s")]
    pub rate: Option<BitRate>,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: Option<String>,
}

/// Devices in the order of their names. Their judgements are made later.
pub(crate) fn read(reader: &Reader, functions: &[PciFunction]) -> Vec<RdmaDevice> {
    reader
        .names(FOLDER)
        .into_iter()
        .filter_map(|name| {
            let folder = format!("{FOLDER}/{name}");
            let path = reader.real(&folder)?;
            let pci = function_of(&path);
            let function = functions.iter().find(|f| Some(f.address) == pci);
            let word = |file: &str| reader.word(&format!("{folder}/{file}"));
            Some(RdmaDevice {
                pci,
                node: function.and_then(|f| f.node),
                driver: reader.link(&format!("{folder}/device/driver")),
                model: word("hca_type"),
                board: word("board_id"),
                firmware: word("fw_ver"),
                guid: word("node_guid"),
                description: word("node_desc"),
                over: word("parent"),
                interfaces: reader.names(&format!("{folder}/device/net")),
                ports: reader
                    .numbered(&format!("{folder}/ports"), "")
                    .into_iter()
                    .map(|number| port(reader, &format!("{folder}/ports/{number}"), number))
                    .collect(),
                path,
                judgement: Judgement::default(),
                name,
            })
        })
        .collect()
}

fn port(reader: &Reader, folder: &str, number: u32) -> RdmaPort {
    // `4: ACTIVE`
    let named = |file: &str| {
        let text = reader.word(&format!("{folder}/{file}"))?;
        let name = text.split_once(':').map_or(text.as_str(), |(_, name)| name);
        Some(name.trim().to_owned())
    };
    RdmaPort {
        number,
        state: named("state"),
        physical_state: named("phys_state"),
        rate: rate(reader, &format!("{folder}/rate")),
        link_layer: reader.word(&format!("{folder}/link_layer")),
    }
}

/// `100 Gb/sec (4X EDR)`.
fn rate(reader: &Reader, path: &str) -> Option<BitRate> {
    let text = reader.word(path)?;
    let rate = text
        .split_once(" Gb/sec")
        .and_then(|(number, _)| BitRate::from_gigabits(number));
    if rate.is_none() {
        reader.note(path, format!("found {text:?}, expected a rate in Gb/sec"));
    }
    rate
}
