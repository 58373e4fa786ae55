//! What it means to give a function to vfio-pci, and all that stands against it.

use std::path::Path;

use strata_guard::Unasked;
use strata_settings::{
    Binding, Change, FunctionDriver, Journal, Kernel, Name, forget, in_use, missing_modules,
};
use strata_topology::{NvmeController, PciFunction, Topology};
use strata_units::{Nanos, PciAddress};

use super::carried::carried;
use super::{BindError, Open, Refusal, Untyped};

/// Drivers that hold nothing, so that a group stays whole (`Documentation/driver-api/vfio.rst`).
const HARMLESS: [&str; 2] = ["vfio-pci", "pci-stub"];

/// What giving a function to vfio-pci means.
#[derive(Debug)]
pub struct Plan {
    /// The function.
    pub function: PciAddress,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// Whether it is there already.
    pub already: Option<Already>,
    /// The functions that are given another driver: itself, and those that come along.
    pub moves: Vec<Move>,
    /// The modules that are loaded for it.
    pub modules: Vec<Name>,
    /// All that stands against it.
    pub refusals: Vec<Refusal>,
    /// What could not be asked.
    pub unasked: Vec<Unasked>,
}

/// By whom a function was given to vfio-pci.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Already {
    /// By strata: the journal tells.
    Ours,
    /// By somebody else.
    Theirs,
}

/// A function that is taken from its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The function.
    pub function: PciAddress,
    /// What binds it now.
    pub before: Binding,
    /// The drives that the kernel loses with it.
    pub drives: Vec<Drive>,
}

/// A drive that the kernel loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Its function; behind a VMD not the one that is moved.
    pub function: PciAddress,
    /// The kernel's name for its controller.
    pub controller: String,
    /// Its model.
    pub model: String,
    /// The block devices of its namespaces.
    pub disks: Vec<String>,
    /// What is to be typed.
    serial: String,
}

impl Plan {
    /// The drives that the kernel loses.
    pub fn drives(&self) -> impl Iterator<Item = &Drive> {
        self.moves.iter().flat_map(|of| &of.drives)
    }

    /// Whether the serial number of each drive that the kernel loses was typed, and no other.
    ///
    /// # Errors
    /// It was not; the error names the drives, not their serial numbers.
    pub fn typed_matches(&self, typed: &[String]) -> Result<(), Untyped> {
        let typed: Vec<&str> = typed.iter().map(|typed| typed.trim()).collect();
        let missing = self
            .drives()
            .filter(|of| !typed.contains(&of.serial.as_str()));
        let foreign = typed
            .iter()
            .filter(|typed| self.drives().all(|of| of.serial != **typed));
        let wrong = Untyped {
            missing: missing.map(|of| of.controller.clone()).collect(),
            foreign: foreign.map(|typed| (*typed).to_owned()).collect(),
        };
        match wrong.missing.is_empty() && wrong.foreign.is_empty() {
            true => Ok(()),
            false => Err(wrong),
        }
    }

    /// What is written down and changed, in this order.
    pub(super) fn changes(&self) -> Vec<Change> {
        let modules = self.modules.iter().cloned();
        let modules = modules.map(|module| Change::Module { module });
        let drivers = self.moves.iter().map(|of| {
            Change::Driver(FunctionDriver {
                function: of.function,
                before: of.before.clone(),
                after: Binding::only(Name::vfio_pci()),
                devices: of.drives.iter().flat_map(|of| of.disks.clone()).collect(),
            })
        });
        modules.chain(drivers).collect()
    }
}

/// Looks at all that giving `function` to vfio-pci means; with `whole_group` other drives of its IOMMU group come along. Nothing of
/// the host is changed; the journal forgets what somebody has put back by hand. `journal` is where the journal lies, and `open` reaches a drive that is with vfio-pci already: it is reset by that.
///
/// # Errors
/// There is no such function, or the machine or the journal cannot be read. What stands against the plan is no error, and
/// stands in [`Plan::refusals`].
pub fn plan(
    kernel: &mut dyn Kernel,
    journal: &Path,
    open: Open<'_>,
    function: PciAddress,
    whole_group: bool,
) -> Result<Plan, BindError> {
    let topology = Topology::read(kernel.root())?;
    let Some(found) = topology.function(function) else {
        return Err(BindError::Absent { function });
    };
    let mut plan = Plan {
        function,
        group: found.iommu_group,
        already: None,
        moves: Vec::new(),
        modules: Vec::new(),
        refusals: Vec::new(),
        unasked: Vec::new(),
    };
    if let Some(why) = foreign(&topology, found) {
        plan.refusals.push(why);
        return Ok(plan);
    }
    // Later it might be taken for ours. Whoever may only look, or looks while somebody else changes settings, leaves it.
    if let Ok(Some(journal)) = Journal::existing(journal, kernel.root())
        && let Ok(lock) = journal.lock_within(Nanos(0))
    {
        let _ = forget(&journal, kernel.root(), &lock, function, None);
    }
    let before = Binding::of(kernel.root(), function)?;
    let own = own(found);
    match &before.driver {
        None => plan.refusals.push(Refusal::NoDriver { function }),
        Some(driver) if *driver == Name::vfio_pci() => {
            plan.stands(kernel, journal, open)?;
            return Ok(plan);
        }
        Some(driver) if *driver != own => plan.refusals.push(Refusal::OtherDriver {
            function,
            driver: driver.clone(),
        }),
        Some(_) => plan.take(kernel, &topology, found, before),
    }
    plan.look_at_group(kernel, &topology, found, whole_group)?;
    // Without either no function can be driven over VFIO.
    for module in [Name::vfio_iommu_type1(), Name::vfio_pci()] {
        match missing_modules(kernel, &module) {
            Ok(missing) => {
                for module in missing {
                    if !plan.modules.contains(&module) {
                        plan.modules.push(module);
                    }
                }
            }
            Err(why) => plan.refusals.push(why.into()),
        }
    }
    Ok(plan)
}

/// That it is nothing that we bind.
pub(super) fn foreign(topology: &Topology, found: &PciFunction) -> Option<Refusal> {
    let function = found.address;
    let behind = topology
        .vmd
        .iter()
        .find(|vmd| vmd.functions.contains(&function));
    if let Some(vmd) = behind {
        return Some(Refusal::BehindVmd {
            function,
            vmd: vmd.address,
        });
    }
    (!found.is_nvme() && !found.is_vmd()).then(|| Refusal::NotNvme {
        function,
        class: class(found),
    })
}

/// The kernel's own driver of it.
pub(super) fn own(found: &PciFunction) -> Name {
    match found.is_vmd() {
        true => Name::vmd(),
        false => Name::nvme(),
    }
}

fn class(of: &PciFunction) -> String {
    match (of.class_name(), of.class) {
        (Some(name), _) => name.to_owned(),
        (None, Some(class)) => format!("function of class {class:06x}h"),
        (None, None) => "function that tells no class".to_owned(),
    }
}

impl Plan {
    /// It is with vfio-pci already: ours is left there, and so is somebody else's, unless it carries data.
    fn stands(
        &mut self,
        kernel: &mut dyn Kernel,
        journal: &Path,
        open: Open<'_>,
    ) -> Result<(), BindError> {
        let ours = Journal::existing(journal, kernel.root())?
            .map(|journal| journal.gave(self.function, &Name::vfio_pci()))
            .transpose()?
            .unwrap_or(false);
        if ours {
            self.already = Some(Already::Ours);
            return Ok(());
        }
        self.already = Some(Already::Theirs);
        let uses = in_use(kernel.root(), self.function, &Name::vfio_pci());
        self.unasked.extend(uses.unasked);
        if uses.reasons.is_empty() {
            let found = carried(self.function, open);
            self.refusals.extend(found.refusals);
            self.unasked.extend(found.unasked);
        }
        self.refusals
            .extend(uses.reasons.into_iter().map(|reason| Refusal::InUse {
                function: self.function,
                driver: Name::vfio_pci(),
                reason,
            }));
        Ok(())
    }

    /// A function of the kernel's that is to be moved.
    fn take(
        &mut self,
        kernel: &mut dyn Kernel,
        topology: &Topology,
        found: &PciFunction,
        before: Binding,
    ) {
        let function = found.address;
        let enabled = found.virtual_functions.as_ref().and_then(|of| of.enabled);
        if let Some(enabled) = enabled.filter(|enabled| *enabled > 0) {
            self.refusals
                .push(Refusal::VirtualFunctions { function, enabled });
        }
        if let Some(driver) = before.driver.clone() {
            let uses = in_use(kernel.root(), function, &driver);
            self.unasked.extend(uses.unasked);
            self.refusals
                .extend(uses.reasons.into_iter().map(|reason| Refusal::InUse {
                    function,
                    driver: driver.clone(),
                    reason,
                }));
        }
        let drives: Vec<Drive> = topology
            .nvme_below(function)
            .filter_map(|controller| drive(function, controller))
            .collect();
        for drive in drives.iter().filter(|drive| drive.serial.is_empty()) {
            self.refusals.push(Refusal::NoSerial {
                function: drive.function,
                controller: drive.controller.clone(),
            });
        }
        self.moves.push(Move {
            function,
            before,
            drives,
        });
    }

    /// The IOMMU group, and who else is in it. Bridges do not count, nor what is behind the function itself.
    fn look_at_group(
        &mut self,
        kernel: &mut dyn Kernel,
        topology: &Topology,
        found: &PciFunction,
        whole_group: bool,
    ) -> Result<(), BindError> {
        let function = found.address;
        let Some(group) = found.iommu_group else {
            self.refusals.push(Refusal::NoIommu { function });
            return Ok(());
        };
        let name = format!("sys/kernel/iommu_groups/{group}/name");
        let name = std::fs::read_to_string(kernel.root().path().join(name));
        if name.is_ok_and(|name| name.trim() == "vfio-noiommu") {
            self.refusals.push(Refusal::Unprotected { function });
            return Ok(());
        }
        let behind = |of: &PciFunction| {
            let mut path = topology.path_to_root(of.address).into_iter();
            path.any(|above| above.address == function)
        };
        let others = topology.pci.iter().filter(|of| {
            of.iommu_group == Some(group)
                && !behind(of)
                // As VFIO counts them: others with a driver of their own keep the group from being opened.
                && !of.is_bridge()
        });
        for other in others {
            let Some(driver) = other.driver.clone() else {
                continue;
            };
            if HARMLESS.contains(&driver.as_str()) {
                continue;
            }
            let (other_at, class) = (other.address, class(other));
            if foreign(topology, other).is_some() || driver != own(other).as_str() {
                self.refusals.push(Refusal::GroupInUse {
                    function,
                    group,
                    other: other_at,
                    class,
                    driver,
                });
            } else if whole_group {
                let before = Binding::of(kernel.root(), other_at)?;
                self.take(kernel, topology, other, before);
            } else {
                self.refusals.push(Refusal::Group {
                    function,
                    group,
                    other: other_at,
                    class,
                    driver,
                });
            }
        }
        Ok(())
    }
}

/// A controller that the kernel has.
fn drive(below: PciAddress, controller: &NvmeController) -> Option<Drive> {
    let text = |told: &Option<String>| told.as_deref().unwrap_or_default().trim().to_owned();
    Some(Drive {
        function: controller.pci.unwrap_or(below),
        controller: controller.name.clone()?,
        model: text(&controller.model),
        disks: controller.namespaces.clone(),
        serial: text(&controller.serial),
    })
}
