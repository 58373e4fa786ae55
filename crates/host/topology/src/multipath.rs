//! NVMe subsystems: namespaces that several controllers lead to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, NodeId, PciAddress};

use crate::nvme::{self, NvmeController};
use crate::pci::function_of;
use crate::root::{Reader, numbered};

const SUBSYSTEMS: &str = "sys/class/nvme-subsystem";
const GENERIC: &str = "sys/class/nvme-generic";

/// An NVMe subsystem (NVMe Base 2.0 §1.5; `Documentation/admin-guide/nvme-multipath.rst` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmeSubsystem {
    /// The kernel's name for it (`nvme-subsys0`).
    pub name: String,
    /// Its qualified name, the same over all its controllers.
    pub nqn: Option<String>,
    /// Which of several live paths a request takes: `numa`, `round-robin`, `queue-depth`.
    pub policy: Option<String>,
    /// Its controllers (`nvme0`).
    pub controllers: Vec<String>,
    /// Disks of its namespaces that stand over paths (`nvme0n1`).
    pub heads: Vec<String>,
}

/// One path to a namespace (`nvme0c1n1`): the kernel hides its block device behind the head `nvme0n1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmePath {
    /// Its name.
    pub name: String,
    /// The controller that it goes through.
    pub controller: String,
    /// That controller's PCI function; `None` over a fabric.
    pub pci: Option<PciAddress>,
    /// The node of that function.
    pub node: Option<NodeId>,
    /// `pcie`, `tcp`, `rdma`, `fc`, `loop`.
    pub transport: Option<String>,
    /// The driver's state of the controller.
    pub controller_state: Option<String>,
    /// Asymmetric namespace access (NVMe Base 2.0 §8.1): `optimized`, `non-optimized`, `inaccessible`, `persistent-loss`,
    /// `change`; `None` where the subsystem has none.
    pub ana_state: Option<String>,
    /// Whether requests may take it.
    pub live: bool,
}

/// What sysfs tells of a namespace (Identify Namespace, NVMe Command Set 1.0 §4.1.5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmeNamespace {
    /// Its number.
    pub nsid: u32,
    /// What of it is allocated (NUSE); on a drive that tells it, less than the size where blocks were never written.
    #[serde(rename = "used_bytes")]
    pub used: Option<Bytes>,
    /// Bytes of metadata with each block.
    #[serde(rename = "metadata_bytes")]
    pub metadata: Option<Bytes>,
    /// IEEE extended unique identifier, as the kernel writes it.
    pub eui: Option<String>,
    /// Globally unique identifier.
    pub nguid: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
}

/// A namespace's character device, which takes commands as they are (`/dev/ng0n1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmeGeneric {
    /// Its name.
    pub name: String,
    /// Device number, `major:minor`.
    pub number: Option<String>,
    /// The block device of the same namespace; the kernel makes none for command sets that it does not know.
    pub disk: String,
    /// The PCI function that it hangs from; `None` over a fabric and for a multipath head.
    pub pci: Option<PciAddress>,
}

impl NvmeNamespace {
    /// Of the disk in `folder`; `None` for other disks.
    pub(crate) fn read(
        reader: &Reader,
        folder: &str,
        block: Option<Bytes>,
    ) -> Option<NvmeNamespace> {
        let word = |file: &str| reader.word(&format!("{folder}/{file}"));
        let number = |file: &str| reader.value::<u64>(&format!("{folder}/{file}"), "a number");
        Some(NvmeNamespace {
            nsid: number("nsid").and_then(|nsid| u32::try_from(nsid).ok())?,
            used: number("nuse")
                .and_then(|blocks| blocks.checked_mul(block?.0))
                .map(Bytes),
            metadata: number("metadata_bytes").map(Bytes),
            eui: word("eui"),
            nguid: word("nguid"),
            uuid: word("uuid"),
        })
    }
}

pub(crate) fn subsystems(reader: &Reader) -> Vec<NvmeSubsystem> {
    let names = reader.names(SUBSYSTEMS).into_iter();
    names
        .map(|name| {
            let folder = format!("{SUBSYSTEMS}/{name}");
            let entries = reader.names(&folder);
            NvmeSubsystem {
                nqn: reader.word(&format!("{folder}/subsysnqn")),
                policy: reader.word(&format!("{folder}/iopolicy")),
                controllers: entries
                    .iter()
                    .filter(|entry| numbered(entry, "nvme").is_some())
                    .cloned()
                    .collect(),
                heads: entries
                    .iter()
                    .filter(|entry| nvme::namespace(entry).as_ref() == Some(*entry))
                    .cloned()
                    .collect(),
                name,
            }
        })
        .collect()
}

/// The paths to the head `disk`, by their names.
pub(crate) fn paths(reader: &Reader, controllers: &[NvmeController], disk: &str) -> Vec<NvmePath> {
    let mut paths: Vec<NvmePath> = controllers
        .iter()
        .filter_map(|owner| Some((owner, owner.name.as_deref()?)))
        .flat_map(|(owner, name)| {
            let folder = format!("{}/{name}", nvme::FOLDER);
            reader
                .names(&folder)
                .into_iter()
                // Another name than the head's, though of the same namespace.
                .filter(|entry| entry != disk && nvme::namespace(entry).as_deref() == Some(disk))
                .map(|entry| path(reader, owner, name, &folder, entry))
                .collect::<Vec<_>>()
        })
        .collect();
    paths.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    paths
}

fn path(
    reader: &Reader,
    owner: &NvmeController,
    controller: &str,
    folder: &str,
    name: String,
) -> NvmePath {
    let ana_state = reader.word(&format!("{folder}/{name}/ana_state"));
    let usable = matches!(
        ana_state.as_deref(),
        None | Some("optimized" | "non-optimized")
    );
    NvmePath {
        controller: controller.to_owned(),
        pci: owner.pci,
        node: owner.node,
        transport: owner.transport.clone(),
        controller_state: owner.state.clone(),
        live: usable && owner.state.as_deref().is_none_or(|state| state == "live"),
        ana_state,
        name,
    }
}

pub(crate) fn generic(reader: &Reader) -> Vec<NvmeGeneric> {
    reader
        .names(GENERIC)
        .into_iter()
        .filter_map(|name| {
            let disk = nvme::namespace(&format!("nvme{}", name.strip_prefix("ng")?))?;
            let folder = format!("{GENERIC}/{name}");
            Some(NvmeGeneric {
                number: reader.word(&format!("{folder}/dev")),
                pci: reader.real(&folder).and_then(|path| function_of(&path)),
                disk,
                name,
            })
        })
        .collect()
}
