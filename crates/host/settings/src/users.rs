//! Who uses what a driver holds, so that it must not be taken away.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata_guard::{Device, DeviceError, Inspection, Refusal, Unasked, inspect};
use strata_topology::{Root, Topology};
use strata_units::PciAddress;

use crate::Name;
use crate::tree::{link, names, text};

/// EBUSY of open(2): VFIO gives a group to one at a time (`Documentation/driver-api/vfio.rst`).
const EBUSY: i32 = 16;

/// One reason not to take a function from its driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Somebody uses, or left data on, a namespace.
    #[error(transparent)]
    Drive(#[from] Refusal),
    /// A process has its controller or its VFIO group open.
    #[error("process {pid} ({command}) has {node} open; end it first")]
    Open {
        /// The process.
        pid: u32,
        /// Its name.
        command: String,
        /// What it has open.
        node: String,
    },
    /// Somebody whom we cannot see has its VFIO group.
    #[error(
        "{node} is held by a process that cannot be seen from here (EBUSY); look for SPDK or a virtual machine, as root and outside of containers"
    )]
    Held {
        /// The group.
        node: String,
    },
    /// A controller that is not sound does not show what it holds.
    #[error(
        "controller {controller} is {state} and not live, so that what it holds cannot be read; see the kernel's log (`dmesg`)"
    )]
    NotLive {
        /// The controller.
        controller: String,
        /// Its state.
        state: String,
    },
    /// A namespace without a block device cannot be read.
    #[error(
        "namespace {generic} has no block device, so that what it holds cannot be read; format it without metadata (`nvme format`), or detach it"
    )]
    NoBlockDevice {
        /// Its character device.
        generic: String,
    },
    /// What stands on it is not known.
    #[error("cannot tell what stands on it: {why}; mount /sys and /proc, and run as root")]
    Unknown {
        /// Why not.
        why: String,
    },
}

/// What was found of a function's uses. As long as it lives, its block devices are held exclusively where they could be.
#[derive(Debug, Default)]
pub struct Uses {
    /// What forbids to take it from its driver.
    pub reasons: Vec<Reason>,
    /// What could not be asked.
    pub unasked: Vec<Unasked>,
    _held: Vec<Inspection>,
}

/// Who uses what `driver` holds of a function: of vfio-pci, who has the group open; of others, whatever uses the namespaces
/// behind the function, which are all checked, and what they carry.
pub fn in_use(root: &Root, function: PciAddress, driver: &Name) -> Uses {
    let mut uses = Uses::default();
    if *driver == Name::vfio_pci() {
        group(root, function, &mut uses);
        return uses;
    }
    let topology = match Topology::read(root) {
        Ok(topology) => topology,
        Err(why) => {
            uses.unknown(why.to_string());
            return uses;
        }
    };
    for controller in topology.nvme_below(function) {
        let Some(name) = &controller.name else {
            continue;
        };
        if let Some(state) = controller.state.as_deref().filter(|state| *state != "live") {
            uses.reasons.push(Reason::NotLive {
                controller: name.clone(),
                state: state.to_owned(),
            });
        }
        uses.open(root, &format!("/dev/{name}"));
        for disk in &controller.namespaces {
            match Device::named(root, disk) {
                Ok(device) => uses.take(inspect(&device)),
                Err(why @ DeviceError::Unknown { .. }) => uses.unknown(why.to_string()),
                Err(why) => uses.unknown(why.to_string()),
            }
        }
        let generics = topology.nvme_generic.iter();
        for generic in generics.filter(|generic| generic.pci == controller.pci) {
            if !controller.namespaces.contains(&generic.disk) {
                uses.reasons.push(Reason::NoBlockDevice {
                    generic: generic.name.clone(),
                });
            }
        }
    }
    uses
}

impl Uses {
    fn take(&mut self, mut found: Inspection) {
        self.reasons
            .extend(found.refusals.drain(..).map(Reason::Drive));
        for unasked in found.unasked.drain(..) {
            // The same processes are hidden from each namespace's check.
            if !self.unasked.contains(&unasked) {
                self.unasked.push(unasked);
            }
        }
        self._held.push(found);
    }

    fn unknown(&mut self, why: String) {
        self.reasons.push(Reason::Unknown { why });
    }

    /// Who has a node open; false if nobody is seen to.
    fn open(&mut self, root: &Root, node: &str) -> bool {
        match openers(root, node) {
            Ok(found) => {
                let any = !found.is_empty();
                self.reasons.extend(found);
                any
            }
            Err(why) => {
                self.unknown(why.to_string());
                false
            }
        }
    }
}

/// Who has the VFIO group of a function, or its own device (Linux 6.6), open.
fn group(root: &Root, function: PciAddress, uses: &mut Uses) {
    let folder = format!("sys/bus/pci/devices/{function}");
    let devices = match names(root, &format!("{folder}/vfio-dev")) {
        Ok(devices) => devices,
        Err(why) => return uses.unknown(why.to_string()),
    };
    for device in devices {
        uses.open(root, &format!("/dev/vfio/devices/{device}"));
    }
    let group = match link(root, &format!("{folder}/iommu_group")) {
        Ok(Some(group)) => format!("/dev/vfio/{group}"),
        Ok(None) => return,
        Err(why) => return uses.unknown(why.to_string()),
    };
    if uses.open(root, &group) || !root.is_live() {
        return;
    }
    // Held by a descriptor that was passed on, or in another process namespace.
    let opened = OpenOptions::new().read(true).write(true).open(&group);
    if opened.is_err_and(|why| why.raw_os_error() == Some(EBUSY)) {
        uses.reasons.push(Reason::Held { node: group });
    }
}

/// Processes other than this one that have a node open (proc_pid_fd(5)).
fn openers(root: &Root, node: &str) -> std::io::Result<Vec<Reason>> {
    let number = fs::metadata(node).ok().map(|meta| meta.rdev());
    let is_it = |path: &str| match root.is_live() {
        // The very device, by whatever path it was opened.
        true => {
            number.is_some()
                && fs::metadata(root.path().join(path))
                    .is_ok_and(|meta| Some(meta.rdev()) == number)
        }
        false => fs::read_link(root.path().join(path)).is_ok_and(|to| to == Path::new(node)),
    };
    let mut found = Vec::new();
    for pid in names(root, "proc")? {
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        if root.is_live() && pid == std::process::id() {
            continue;
        }
        let folder = format!("proc/{pid}/fd");
        // Of a process that ended, or that is hidden from this user.
        let descriptors = names(root, &folder).unwrap_or_default();
        if descriptors
            .iter()
            .any(|fd| is_it(&format!("{folder}/{fd}")))
        {
            let command = text(root, &format!("proc/{pid}/comm")).ok().flatten();
            found.push(Reason::Open {
                pid,
                command: command.unwrap_or_else(|| "ended".to_owned()),
                node: node.to_owned(),
            });
        }
    }
    Ok(found)
}
