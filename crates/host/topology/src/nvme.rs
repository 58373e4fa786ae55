//! NVMe controllers, whatever driver holds them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{NodeId, PciAddress};

use crate::pci::{PciFunction, function_of};
use crate::root::{Reader, numbered};

pub(crate) const FOLDER: &str = "sys/class/nvme";

/// An NVMe controller: a PCI function of that class, or one that the kernel's driver reached over a fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmeController {
    /// The kernel's name for it (`nvme0`); `None` when the kernel's NVMe driver does not hold it.
    pub name: Option<String>,
    /// Its PCI function, which has its link, driver and tree; `None` over a fabric.
    pub pci: Option<PciAddress>,
    /// Its node; `None` when untold.
    pub node: Option<NodeId>,
    /// The driver of its PCI function: `nvme`, `vfio-pci`, `uio_pci_generic`.
    pub driver: Option<String>,
    /// `pcie`, `tcp`, `rdma`, `fc`, `loop`.
    pub transport: Option<String>,
    /// The driver's state of it: `live` when sound.
    pub state: Option<String>,
    /// Over a fabric where it is (`traddr=10.0.0.1,trsvcid=4420`), else its PCI address.
    pub address: Option<String>,
    /// Queue pairs in use, the admin queue among them.
    pub queues: Option<u32>,
    /// Model number, as Identify Controller tells it.
    pub model: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Block devices of its namespaces (`nvme0n1`); their sizes and block sizes stand among the disks.
    pub namespaces: Vec<String>,
}

pub(crate) fn read(reader: &Reader, functions: &[PciFunction]) -> Vec<NvmeController> {
    let named = reader.names(FOLDER).into_iter().filter_map(|name| {
        numbered(&name, "nvme")?;
        let folder = format!("{FOLDER}/{name}");
        let pci = reader.real(&folder).and_then(|path| function_of(&path));
        let function = functions.iter().find(|f| Some(f.address) == pci);
        let word = |file: &str| reader.word(&format!("{folder}/{file}"));
        Some(NvmeController {
            pci,
            node: function.and_then(|f| f.node),
            driver: function.and_then(|f| f.driver.clone()),
            transport: word("transport"),
            state: word("state"),
            address: word("address"),
            queues: reader.value(&format!("{folder}/queue_count"), "a number"),
            model: word("model"),
            firmware: word("firmware_rev"),
            serial: word("serial"),
            namespaces: reader
                .names(&folder)
                .iter()
                .filter_map(|entry| namespace(entry))
                .collect(),
            name: Some(name),
        })
    });
    let mut controllers: Vec<NvmeController> = named.collect();
    // What vfio-pci or SPDK holds has no name in the class, and before Linux 4.3 nothing had.
    for function in functions.iter().filter(|function| function.is_nvme()) {
        if controllers.iter().any(|c| c.pci == Some(function.address)) {
            continue;
        }
        controllers.push(NvmeController {
            name: None,
            pci: Some(function.address),
            node: function.node,
            driver: function.driver.clone(),
            transport: Some("pcie".to_owned()),
            state: None,
            address: None,
            queues: None,
            model: None,
            firmware: None,
            serial: None,
            namespaces: Vec::new(),
        });
    }
    controllers.sort_by_key(|c| (c.pci, c.name.clone()));
    controllers
}

/// The block device of a controller's entry: `nvme0n1` itself, or the multipath head of `nvme0c1n1`, `nvme0n1`.
pub(crate) fn namespace(entry: &str) -> Option<String> {
    let (controller, space) = entry.strip_prefix("nvme")?.split_once('n')?;
    numbered(space, "")?;
    let head = match controller.split_once('c') {
        Some((head, path)) => numbered(path, "").and(Some(head))?,
        None => controller,
    };
    numbered(head, "").map(|head| format!("nvme{head}n{space}"))
}

#[cfg(test)]
mod tests {
    use super::namespace;

    #[test]
    fn entries_that_are_namespaces() {
        assert_eq!(namespace("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(namespace("nvme3c7n12").as_deref(), Some("nvme3n12"));
        for other in [
            "nvme0",
            "nvme0n",
            "numa_node",
            "nvme0cn1",
            "nvmen1",
            "ng0n1",
            "nvme0n1p1",
            "hwmon4",
        ] {
            assert_eq!(namespace(other), None, "{other}");
        }
    }
}
