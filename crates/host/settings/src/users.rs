//! Who uses what a driver holds, so that it must not be taken away.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use strata_guard::{Device, DeviceError, Inspection, Refusal, Unasked, inspect};
use strata_topology::{NvmeGeneric, Root, Topology};
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
    /// A controller that is on its way has nothing yet that could be looked at.
    #[error(
        "{function} has no controller of the kernel's yet, so that what it holds cannot be read; wait for it, or see the kernel's log (`dmesg`)"
    )]
    NotUp {
        /// The function.
        function: PciAddress,
    },
    /// Nor has one without a namespace, whether it has none or they were not found yet.
    #[error(
        "controller {controller} shows no namespace, so that what it holds cannot be read; wait for it, or make one (`nvme create-ns`, `nvme attach-ns`)"
    )]
    NoNamespace {
        /// The controller.
        controller: String,
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
            if ![Name::nvme(), Name::vmd()].contains(driver) {
                // Another's driver makes no controller of it.
                continue;
            }
            uses.reasons.push(Reason::NotUp {
                function: controller.pci.unwrap_or(function),
            });
            continue;
        };
        let generic = |of: &&NvmeGeneric| of.pci == controller.pci;
        if controller.namespaces.is_empty() && !topology.nvme_generic.iter().any(|of| generic(&of))
        {
            uses.reasons.push(Reason::NoNamespace {
                controller: name.clone(),
            });
        }
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

/// The same, once nobody looks at it in passing any more: who does so for a moment (udev's blkid, at each drive that comes up)
/// does not count, and who does for longer does.
pub(crate) fn in_use_for_long(root: &Root, function: PciAddress, driver: &Name) -> Uses {
    const LOOK: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    loop {
        let uses = in_use(root, function, driver);
        let passing = |reason: &Reason| {
            matches!(
                reason,
                Reason::Open { .. } | Reason::Drive(Refusal::Open { .. } | Refusal::InUse { .. })
            )
        };
        let settled = uses.reasons.is_empty() || !uses.reasons.iter().all(passing);
        if settled || !root.is_live() || begun.elapsed() > PASSING {
            return uses;
        }
        // What it holds is let go of meanwhile.
        drop(uses);
        thread::sleep(LOOK);
    }
}

/// Longer than anybody looks at a drive in passing.
const PASSING: Duration = Duration::from_secs(5);

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

    fn hidden(&mut self, processes: usize) {
        let unasked = Unasked {
            question: "descriptors of other processes",
            why: format!("those of {processes} processes are hidden from this user"),
        };
        if !self.unasked.contains(&unasked) {
            self.unasked.push(unasked);
        }
    }

    fn unknown(&mut self, why: String) {
        self.reasons.push(Reason::Unknown { why });
    }

    /// Who has a node open; false if nobody is seen to.
    fn open(&mut self, root: &Root, node: &str) -> bool {
        match openers(root, node) {
            Ok((found, hidden)) => {
                if hidden > 0 {
                    self.hidden(hidden);
                }
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
    // Held by a descriptor that was passed on, or in another process namespace. It is not kept open: the kernel would wait for
    // us as for anybody.
    match OpenOptions::new().read(true).write(true).open(&group) {
        Ok(_) => {}
        Err(why) if why.raw_os_error() == Some(EBUSY) => {
            uses.reasons.push(Reason::Held { node: group });
        }
        // Who cannot look must not take it for free: the kernel would wait for its holder without end.
        Err(why) => uses.unknown(format!("{group}: {why}")),
    }
}

/// Processes other than this one that have a node open (proc_pid_fd(5)), and how many could not be looked at.
fn openers(root: &Root, node: &str) -> std::io::Result<(Vec<Reason>, usize)> {
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
    let (mut found, mut hidden) = (Vec::new(), 0);
    for pid in names(root, "proc")? {
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        if root.is_live() && pid == std::process::id() {
            continue;
        }
        let folder = format!("proc/{pid}/fd");
        let descriptors = match names(root, &folder) {
            Ok(descriptors) => descriptors,
            Err(why) => {
                hidden += usize::from(why.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
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
    Ok((found, hidden))
}
