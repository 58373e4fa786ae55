//! Why a drive stays with the driver that it has.

use strata_guard::Signature;
use strata_nvme_spec::NamespaceId;
use strata_settings::{ChangeError, JournalError, Name, Reason, SettingsError};
use strata_topology::ReadError;
use strata_units::PciAddress;

/// What to do for an IOMMU.
const IOMMU: &str = "switch the IOMMU on: VT-d or AMD-Vi in the firmware, and intel_iommu=on or amd_iommu=on on the kernel's command line";

/// One reason not to give a function another driver.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is something else.
    #[error(
        "{function} ({class}) is neither an NVMe controller nor a Volume Management Device, and nothing else is bound; `strata nvme list` shows the drives"
    )]
    NotNvme {
        /// The function.
        function: PciAddress,
        /// What it is.
        class: String,
    },
    /// A VMD stands before it.
    #[error(
        "{function} is behind the Volume Management Device {vmd}, which has all its drives or none; bind {vmd}"
    )]
    BehindVmd {
        /// The function.
        function: PciAddress,
        /// The VMD.
        vmd: PciAddress,
    },
    /// Nobody can read what it holds.
    #[error(
        "{function} has no driver, so that what it holds cannot be read; give it to the kernel first (`strata unbind {function}`)"
    )]
    NoDriver {
        /// The function.
        function: PciAddress,
    },
    /// Something else drives it.
    #[error("{function} is with the driver {driver}; release it there first")]
    OtherDriver {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: Name,
    },
    /// No IOMMU stands before it.
    #[error(
        "{function} is in no IOMMU group, so that nothing would keep it from any memory; {IOMMU}"
    )]
    NoIommu {
        /// The function.
        function: PciAddress,
    },
    /// Its group is one of VFIO's mode without an IOMMU.
    #[error(
        "{function} is in a group of VFIO's mode without an IOMMU, where it could write to any memory; {IOMMU}"
    )]
    Unprotected {
        /// The function.
        function: PciAddress,
    },
    /// Another function of its group has a driver, and might come along.
    #[error(
        "{function} shares IOMMU group {group} with {other} ({class}), which is with {driver}, and all of a group have to be with vfio-pci; --whole-group takes it along, when nothing uses it"
    )]
    Group {
        /// The function.
        function: PciAddress,
        /// Its group.
        group: u32,
        /// The other one.
        other: PciAddress,
        /// What that is.
        class: String,
        /// Its driver.
        driver: String,
    },
    /// Another function of its group is in use.
    #[error(
        "{function} shares IOMMU group {group} with {other} ({class}), which {driver} uses, and all of a group have to be with vfio-pci; put the drive into another slot"
    )]
    GroupInUse {
        /// The function.
        function: PciAddress,
        /// Its group.
        group: u32,
        /// The other one.
        other: PciAddress,
        /// What that is.
        class: String,
        /// Its driver.
        driver: String,
    },
    /// It is divided.
    #[error(
        "{function} has {enabled} virtual functions, which would go with it; `echo 0 > sriov_numvfs` in its folder takes them away, when nobody uses them"
    )]
    VirtualFunctions {
        /// The function.
        function: PciAddress,
        /// How many there are.
        enabled: u32,
    },
    /// It is in use, or carries something.
    #[error("{function} is not taken from {driver}: {reason}")]
    InUse {
        /// The function.
        function: PciAddress,
        /// Its driver.
        driver: Name,
        /// By whom, or what.
        reason: Reason,
    },
    /// What is on vfio-pci carries somebody's data.
    #[error(
        "{function} is left with vfio-pci: its namespace {namespace} carries {signature}, and strata did not bind it; whoever uses it (DAOS, SPDK) has to release it, and give it back"
    )]
    Carries {
        /// The function.
        function: PciAddress,
        /// The namespace.
        namespace: NamespaceId,
        /// What was recognised.
        signature: Signature,
    },
    /// What is on vfio-pci cannot be read.
    #[error("{function} is left with vfio-pci: what it carries cannot be read: {why}")]
    Unreadable {
        /// The function.
        function: PciAddress,
        /// Why not.
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A drive tells no serial number to type.
    #[error(
        "{controller} at {function} tells no serial number, so that it cannot be told from others; use its firmware's tools"
    )]
    NoSerial {
        /// Its function.
        function: PciAddress,
        /// The kernel's name for it.
        controller: String,
    },
    /// VFIO is not to be had, or the state is not known.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Serial numbers that were not typed, or typed wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", told(missing, foreign))]
pub struct Untyped {
    /// Controllers whose serial number was not typed.
    pub missing: Vec<String>,
    /// What was typed and is none of theirs.
    pub foreign: Vec<String>,
}

fn told(missing: &[String], foreign: &[String]) -> String {
    let foreign: Vec<String> = foreign
        .iter()
        .map(|typed| format!("{typed:?} is the serial number of none of the drives that the kernel would lose"))
        .chain((!missing.is_empty()).then(|| {
            format!(
                "the kernel would lose {}: type the serial number of each with --serial, with commas between (`strata nvme list` shows them)",
                missing.join(", ")
            )
        }))
        .collect();
    foreign.join("; ")
}

/// Why a function did not get another driver.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// This machine's devices cannot be read.
    #[error(transparent)]
    Topology(#[from] ReadError),
    /// It is not there.
    #[error("there is no PCI function {function}; `strata nvme list` shows the NVMe controllers")]
    Absent {
        /// The function.
        function: PciAddress,
    },
    /// It may not be, and all reasons why.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// There is nothing to do.
    #[error("{function} is with vfio-pci already; `strata unbind {function}` gives it back")]
    Already {
        /// The function.
        function: PciAddress,
    },
    /// The serial numbers were not typed.
    #[error(transparent)]
    Untyped(#[from] Untyped),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It could not be done.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl BindError {
    /// Whether it can be mended by typing something else.
    pub fn is_usage(&self) -> bool {
        matches!(self, BindError::Absent { .. } | BindError::Untyped(_))
    }
}

impl From<ChangeError> for BindError {
    fn from(why: ChangeError) -> BindError {
        match why {
            ChangeError::Gone { function } => BindError::Absent { function },
            why => BindError::Settings(why.into()),
        }
    }
}
