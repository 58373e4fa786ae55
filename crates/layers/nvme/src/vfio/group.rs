//! From a function's address to its device: IOMMU group, container, and all that may stand in the way.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use strata_topology::{PciFunction, Root};
use strata_units::PciAddress;
use vfio_bindings::bindings::vfio as uapi;

use super::error::VfioError;
use super::sys;

/// Where VFIO's nodes are, below the root.
const NODES: &str = "dev/vfio";

/// The model of an IOMMU whose mappings are taken back as they were given.
const MODEL: u32 = uapi::VFIO_TYPE1v2_IOMMU;

/// A container with one group in it, and the group's device.
pub(super) struct Opened {
    pub(super) device: File,
    pub(super) group: File,
    pub(super) container: File,
}

/// Opens a function's device.
pub(super) fn open(root: &Root, function: PciAddress) -> Result<Opened, VfioError> {
    let nodes = root.path().join(NODES);
    let number = reachable(root, &nodes, function)?;
    let container = node(&nodes.join("vfio"))?;
    let path = nodes.join(number.to_string());
    let group = node(&path).map_err(|why| match why {
        VfioError::Forbidden { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
            held(root, function, &path)
        }
        other => other,
    })?;
    let device = join(root, function, number, &container, &group)?;
    Ok(Opened {
        device,
        group,
        container,
    })
}

/// The number of its IOMMU group, if it stands ready there.
fn reachable(root: &Root, nodes: &Path, function: PciAddress) -> Result<u32, VfioError> {
    let Some(found) = PciFunction::at(root, function) else {
        let root = root.path().to_owned();
        return Err(VfioError::Absent { function, root });
    };
    let Some(group) = found.iommu_group else {
        return Err(VfioError::NoIommu { function });
    };
    // Other modules hold functions for VFIO too (mlx5_vfio_pci).
    let is_vfio = |name: &str| name.replace('_', "-").ends_with("vfio-pci");
    if !found.driver.as_deref().is_some_and(is_vfio) {
        return Err(VfioError::NotBound {
            function,
            driver: found.driver,
        });
    }
    let node = nodes.join(format!("noiommu-{group}"));
    if node.exists() {
        return Err(VfioError::Unprotected { function, node });
    }
    Ok(group)
}

/// One of VFIO's nodes, open for reading and writing.
fn node(path: &Path) -> Result<File, VfioError> {
    let node = path.to_owned();
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => VfioError::NoNode { node },
        _ => VfioError::Forbidden { node, source },
    })
}

/// Puts the group into the container, and gives the device.
fn join(
    root: &Root,
    function: PciAddress,
    number: u32,
    container: &File,
    group: &File,
) -> Result<File, VfioError> {
    let system = |call, object: String, next| {
        move |source| VfioError::System {
            call,
            object,
            source,
            next,
        }
    };
    let of_group = || format!("IOMMU group {number}");
    const NOT_VFIO: &str = "look whether /dev/vfio is the kernel's";
    let version = sys::version(container);
    let version = version.map_err(system(
        "VFIO_GET_API_VERSION",
        "/dev/vfio/vfio".to_owned(),
        NOT_VFIO,
    ))?;
    if version as u32 != uapi::VFIO_API_VERSION {
        return Err(VfioError::Unfit {
            what: "has an interface of its own",
            found: format!("version {version}"),
            expected: "version 0",
            next: "update strata",
        });
    }
    let has = sys::has(container, MODEL);
    if !has.map_err(system(
        "VFIO_CHECK_EXTENSION",
        "/dev/vfio/vfio".to_owned(),
        NOT_VFIO,
    ))? {
        return Err(VfioError::Unfit {
            what: "has no IOMMU of the right kind",
            found: "none".to_owned(),
            expected: "type 1, version 2",
            next: "modprobe vfio_iommu_type1",
        });
    }
    let status = sys::status(group);
    let status = status.map_err(system("VFIO_GROUP_GET_STATUS", of_group(), NOT_VFIO))?;
    if status & uapi::VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(VfioError::NotViable {
            function,
            group: number,
            others: others(&PciFunction::all(root), function, number),
        });
    }
    let set = sys::set_container(group, container);
    set.map_err(system(
        "VFIO_GROUP_SET_CONTAINER",
        of_group(),
        "look who else uses the group (fuser -v /dev/vfio/*)",
    ))?;
    // The group's first IOMMU is told apart here: without interrupt remapping the kernel refuses with EPERM.
    let set = sys::set_iommu(container, MODEL);
    set.map_err(system(
        "VFIO_SET_IOMMU",
        of_group(),
        "see the kernel's log (dmesg); without interrupt remapping (EPERM) switch that on in the firmware, or set allow_unsafe_interrupts of the module vfio_iommu_type1",
    ))?;
    let name = CString::new(function.to_string()).unwrap_or_default();
    sys::device(group, &name).map_err(system(
        "VFIO_GROUP_GET_DEVICE_FD",
        function.to_string(),
        "see the kernel's log (dmesg); the function may sleep or not answer",
    ))
}

/// The endpoints of a group that are with another driver than vfio-pci; bridges do not count.
pub(super) fn others(functions: &[PciFunction], function: PciAddress, group: u32) -> String {
    let found: Vec<String> = functions
        .iter()
        .filter(|f| f.iommu_group == Some(group) && f.address != function && !f.is_bridge())
        .filter_map(|f| {
            let driver = f.driver.as_deref().filter(|name| *name != "vfio-pci")?;
            Some(format!("{} ({driver})", f.address))
        })
        .collect();
    match &found[..] {
        [] => "functions that sysfs does not show".to_owned(),
        some => some.join(", "),
    }
}

/// Who has a node open, as far as it can be seen.
fn held(root: &Root, function: PciAddress, path: &Path) -> VfioError {
    VfioError::Held {
        function,
        node: path.to_owned(),
        by: holder_of(root, path),
    }
}

/// The process that has a group of `root`'s machine open, as far as it can be seen: `process 4711 (qemu)`. To see those of other
/// users takes root's rights (proc_pid_fd(5)).
pub fn group_holder(root: &Root, group: u32) -> Option<String> {
    holder_of(root, &root.path().join(NODES).join(group.to_string()))
}

/// The first process that has the node open.
fn holder_of(root: &Root, path: &Path) -> Option<String> {
    let proc = root.path().join("proc");
    for entry in fs::read_dir(&proc).ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut links = open
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        if links.any(|link: PathBuf| link == path) {
            if root.is_live() && pid == std::process::id() {
                return Some("this process itself".to_owned());
            }
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}
