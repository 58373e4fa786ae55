//! Why a function cannot be reached over VFIO.

use std::io;
use std::path::PathBuf;

use strata_units::{Bytes, Iova, PciAddress};

use super::info::Odd;

/// A function could not be opened over VFIO, or its device not be given memory.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// It is not there.
    #[error(
        "there is no PCI function {function} under {}; `strata nvme list` shows the NVMe controllers", root.display()
    )]
    Absent {
        /// The function.
        function: PciAddress,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// No IOMMU stands before it.
    #[error(
        "{function} is in no IOMMU group, so that nothing would keep it from any memory; switch the IOMMU on: VT-d or AMD-Vi in the firmware, and intel_iommu=on or amd_iommu=on on the kernel's command line"
    )]
    NoIommu {
        /// The function.
        function: PciAddress,
    },
    /// vfio-pci has it in its mode without an IOMMU.
    #[error(
        "{function} is with vfio-pci without an IOMMU ({}), where it could write to any memory, and is not driven so; switch the IOMMU on: VT-d or AMD-Vi in the firmware, and intel_iommu=on or amd_iommu=on on the kernel's command line", node.display()
    )]
    Unprotected {
        /// The function.
        function: PciAddress,
        /// The node that says so.
        node: PathBuf,
    },
    /// Another driver has it, or none.
    #[error(
        "{function} is with {}, and our driver reaches what is with vfio-pci; `strata bind {function}` puts it there",
        driver.as_ref().map_or("no driver".to_owned(), |name| format!("the kernel's driver {name}"))
    )]
    NotBound {
        /// The function.
        function: PciAddress,
        /// Its driver.
        driver: Option<String>,
    },
    /// VFIO's own node is missing.
    #[error("{} is missing; load the driver (modprobe vfio-pci), or, in a container, hand /dev/vfio in", node.display())]
    NoNode {
        /// The node.
        node: PathBuf,
    },
    /// A node may not be opened.
    #[error("cannot open {}: {source}; run as root, or give this user the node (chown) and let it lock memory (ulimit -l)", node.display())]
    Forbidden {
        /// The node.
        node: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The group is somebody's.
    #[error("{function} is in use: {} is held by {}; end that first", node.display(), by.as_deref().unwrap_or("a process that is out of sight (another container, or one of another user)"))]
    Held {
        /// The function.
        function: PciAddress,
        /// The group's node.
        node: PathBuf,
        /// Who holds it, where that can be told.
        by: Option<String>,
    },
    /// Others of the group have drivers of the kernel's.
    #[error(
        "{function} shares its IOMMU group {group} with {others}, and all of a group have to be with vfio-pci; `strata bind {function} --whole-group` takes the others along where nothing uses them"
    )]
    NotViable {
        /// The function.
        function: PciAddress,
        /// Its group.
        group: u32,
        /// The others, each with its driver.
        others: String,
    },
    /// Another VFIO than ours.
    #[error("VFIO {what}: found {found}, expected {expected}; {next}")]
    Unfit {
        /// What of it.
        what: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// A call fails.
    #[error("{call} on {object} says {source}; {next}")]
    System {
        /// The call, as linux/vfio.h names it.
        call: &'static str,
        /// What it was about.
        object: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        next: &'static str,
    },
    /// The kernel's answer makes no sense.
    #[error("{call} on {object}: {source}")]
    Odd {
        /// The call.
        call: &'static str,
        /// What it was about.
        object: String,
        /// What is odd.
        #[source]
        source: OddAnswer,
    },
    /// More memory would be pinned than may be.
    #[error(
        "{len} more of memory cannot be pinned for it: RLIMIT_MEMLOCK is {}; raise it with `ulimit -l unlimited` or LimitMEMLOCK=infinity, or run with CAP_IPC_LOCK",
        limit.map_or("unlimited, so that memory itself is short".to_owned(), |b| b.to_string())
    )]
    Memlock {
        /// What was to be mapped.
        len: Bytes,
        /// The limit.
        limit: Option<Bytes>,
    },
    /// More mappings than VFIO keeps.
    #[error(
        "{len} more of memory cannot be mapped for it: there are as many mappings as VFIO keeps{}; raise dma_entry_limit of the module vfio_iommu_type1, or use pages of 2MiB",
        at_first.map_or(String::new(), |n| format!(" ({n} were free when it was opened)"))
    )]
    Mappings {
        /// What was to be mapped.
        len: Bytes,
        /// How many there might have been.
        at_first: Option<u32>,
    },
    /// The kernel took back less than was given.
    #[error(
        "VFIO_IOMMU_UNMAP_DMA took back {found} of {wanted} at {iova}; this memory is not used any more"
    )]
    Partly {
        /// Where it was mapped.
        iova: Iova,
        /// What was unmapped.
        found: Bytes,
        /// What was to be.
        wanted: Bytes,
    },
    /// Its doorbells cannot be memory.
    #[error(
        "its doorbells, {len} from 1000h of its first BAR on, cannot be mapped into memory: {found}; without that it cannot be driven here, use the kernel's driver"
    )]
    Doorbells {
        /// How much of them is needed.
        len: Bytes,
        /// What the kernel says of the BAR.
        found: String,
    },
    /// It cannot be reset as a function.
    #[error(
        "it knows no reset of the function (no FLR, no power management reset, not alone on its bus); a controller reset (CC.EN) is all that there is: power it off and on where that does not help"
    )]
    NoReset,
    /// It was given back to the kernel.
    #[error("it was given back to the kernel, which asked for it; bind and open it again")]
    GivenBack,
}

/// What of an answer makes no sense, in words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OddAnswer(#[from] Odd);
