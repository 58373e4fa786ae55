//! The way back to the kernel.

use std::path::Path;

use strata_settings::{
    Binding, Change, FunctionDriver, Journal, Kernel, Name, Scope, Told, forget, in_use, take_back,
    wait_for_devices,
};
use strata_topology::Topology;
use strata_units::PciAddress;

use super::carried::carried;
use super::plan::{foreign, own};
use super::{BindError, Open, Refusal};

/// How a function came back.
#[derive(Debug)]
pub enum Unbound {
    /// What the journal says of strata's giving it to vfio-pci was undone, as far as each entry tells.
    Undone(Vec<Told>),
    /// Somebody else had bound it: it was given to the kernel's driver, and the journal has where it was before.
    Given(Name),
    /// It is with the kernel's driver.
    Already(Name),
}

/// Gives a function back to the kernel: what strata bound, by the journal; what somebody else did, when nobody has it open and it
/// carries nothing. `open` reaches a drive that is with vfio-pci: it is reset by that.
///
/// # Errors
/// There is no such function, something stands against it, or it fails.
pub fn unbind<K: Kernel>(
    mut kernel: K,
    journal: &Path,
    open: Open<'_>,
    function: PciAddress,
) -> Result<Unbound, BindError> {
    let topology = Topology::read(kernel.root())?;
    let Some(found) = topology.function(function) else {
        return Err(BindError::Absent { function });
    };
    let (own, foreign) = (own(found), foreign(&topology, found));
    let before = Binding::of(kernel.root(), function)?;
    if let Some(journal) = Journal::existing(journal, kernel.root())? {
        let lock = journal.lock()?;
        forget(&journal, kernel.root(), &lock, function, Some(&own))?;
        drop(lock);
        // Also half way back, where its own driver has it and is still the only one that may.
        let vfio = Name::vfio_pci();
        if before != Binding::plain(own.clone()) && journal.gave(function, &vfio)? {
            let told = take_back(&journal, &mut kernel, function, &vfio, &own)?;
            return Ok(Unbound::Undone(told));
        }
    }
    if let Some(why) = foreign {
        return Err(BindError::Refused(vec![why]));
    }
    let expected = match &before.driver {
        Some(driver) if *driver == own => return Ok(Unbound::Already(own)),
        None => 0,
        Some(driver) if *driver == Name::vfio_pci() => free(&kernel, function, open)?,
        Some(driver) => {
            return Err(BindError::Refused(vec![Refusal::OtherDriver {
                function,
                driver: driver.clone(),
            }]));
        }
    };
    let change = Change::Driver(FunctionDriver {
        function,
        before,
        after: Binding::plain(own.clone()),
        devices: Vec::new(),
    });
    let journal = Journal::open(journal, kernel.root())?;
    let what_for = format!("strata unbind {function}");
    let mut scope = Scope::begin(journal, kernel, &what_for, vec![change])?;
    let back = wait_for_devices(scope.kernel(), function, &own, expected);
    // It was asked for, and is not taken back when the drive does not come up.
    scope.keep();
    back?;
    Ok(Unbound::Given(own))
}

/// How many namespaces a function has that is with vfio-pci, where nothing stands against taking it.
fn free<K: Kernel>(kernel: &K, function: PciAddress, open: Open<'_>) -> Result<usize, BindError> {
    let uses = in_use(kernel.root(), function, &Name::vfio_pci());
    let reasons = uses.reasons.into_iter().map(|reason| Refusal::InUse {
        function,
        driver: Name::vfio_pci(),
        reason,
    });
    let mut refusals: Vec<Refusal> = reasons.collect();
    let mut namespaces = 0;
    if refusals.is_empty() {
        let found = carried(function, open);
        refusals = found.refusals;
        namespaces = found.namespaces;
    }
    match refusals.is_empty() {
        true => Ok(namespaces),
        false => Err(BindError::Refused(refusals)),
    }
}
