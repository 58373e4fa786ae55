//! InfiniBand and other RDMA devices.

mod gid;
mod port;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{NodeId, PciAddress};

pub use gid::{Gid, GidKind, PKey};
pub use port::RdmaPort;

use crate::net::Interface;
use crate::pci::{PciFunction, function_of};
use crate::reality::Judgement;
use crate::root::Reader;

const FOLDER: &str = "sys/class/infiniband";

/// Character devices of verbs, by which programs reach a device.
const VERBS: &str = "sys/class/infiniband_verbs";

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
    /// What it is in a network: `CA` (InfiniBand and RoCE), `RNIC` (iWARP).
    pub kind: Option<String>,
    /// Its character device in `/dev/infiniband` (`uverbs0`); `None` when ib_uverbs is not loaded.
    pub verbs: Option<String>,
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

/// Devices in the order of their names. Their judgements are made later.
pub(crate) fn read(reader: &Reader, functions: &[PciFunction]) -> Vec<RdmaDevice> {
    let verbs: Vec<(String, String)> = reader
        .numbered(VERBS, "uverbs")
        .into_iter()
        .filter_map(|n| {
            let device = reader.word(&format!("{VERBS}/uverbs{n}/ibdev"))?;
            Some((device, format!("uverbs{n}")))
        })
        .collect();
    reader
        .names(FOLDER)
        .into_iter()
        .filter_map(|name| {
            let folder = format!("{FOLDER}/{name}");
            let path = reader.real(&folder)?;
            let pci = function_of(&path);
            let function = functions.iter().find(|f| Some(f.address) == pci);
            let word = |file: &str| reader.word(&format!("{folder}/{file}"));
            let over = word("parent");
            let interfaces = reader.names(&format!("{folder}/device/net"));
            let beside: Vec<(String, Option<u32>)> = interfaces
                .iter()
                .map(|name| {
                    (
                        name.clone(),
                        place(reader, &format!("{folder}/device/net/{name}")),
                    )
                })
                .collect();
            Some(RdmaDevice {
                pci,
                node: function.and_then(|f| f.node),
                driver: reader.link(&format!("{folder}/device/driver")),
                kind: named(reader, &format!("{folder}/node_type")),
                verbs: verbs
                    .iter()
                    .find(|(device, _)| *device == name)
                    .map(|(_, verbs)| verbs.clone()),
                model: word("hca_type"),
                board: word("board_id"),
                firmware: word("fw_ver"),
                guid: word("node_guid"),
                description: word("node_desc"),
                ports: reader
                    .numbered(&format!("{folder}/ports"), "")
                    .into_iter()
                    .map(|number| {
                        let port = format!("{folder}/ports/{number}");
                        port::read(reader, &port, number, over.as_ref(), &beside)
                    })
                    .collect(),
                over,
                interfaces,
                path,
                judgement: Judgement::default(),
                name,
            })
        })
        .collect()
}

/// A number with its name: `4: ACTIVE`.
fn named(reader: &Reader, path: &str) -> Option<String> {
    let text = reader.word(path)?;
    let name = text.split_once(':').map_or(text.as_str(), |(_, name)| name);
    Some(name.trim().to_owned())
}

/// Which port of its function an interface belongs to, from 0. Kernels before 3.15 tell it of IPoIB in `dev_id` alone.
fn place(reader: &Reader, interface: &str) -> Option<u32> {
    let port = reader.value(&format!("{interface}/dev_port"), "a number");
    port.filter(|port| *port > 0)
        .or_else(|| reader.hex(&format!("{interface}/dev_id")))
        .or(port)
}

/// Tells which links a port has when its interface is one of a bond. The driver of a LAG has one device for all of them; a
/// bond below whose members several devices stand is one of interfaces alone.
pub(crate) fn follow_bonds(devices: &mut [RdmaDevice], interfaces: &[Interface]) {
    let functions: Vec<Option<PciAddress>> = devices.iter().map(|device| device.pci).collect();
    for device in devices {
        for port in &mut device.ports {
            let bond = interfaces.iter().find(|bond| {
                let over = |name: &String| *name == bond.name || bond.lower.contains(name);
                bond.kind.as_deref() == Some("bond") && port.interfaces.iter().any(over)
            });
            let Some(bond) = bond else { continue };
            let together = bond.lower.iter().all(|name| {
                let lower = interfaces.iter().find(|one| one.name == *name);
                lower.is_some_and(|lower| {
                    let same = lower.pci.is_some() && lower.pci == device.pci;
                    let bare = lower.pci.is_some() && !functions.contains(&lower.pci);
                    lower.driver == device.driver && (same || bare)
                })
            });
            if together && bond.lower.len() > 1 {
                port.lag.clone_from(&bond.lower);
            }
        }
    }
}
