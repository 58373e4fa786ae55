//! Kernel modules.

use std::io;

use strata_topology::Root;
use strata_units::PciAddress;

use crate::change::{Left, Undone};
use crate::tree::{exists, link, names, text};
use crate::{ChangeError, Kernel, Name};

/// Whether a PCI driver is there to be bound, built in or loaded.
pub fn is_registered(root: &Root, driver: &Name) -> bool {
    exists(root, &format!("sys/bus/pci/drivers/{driver}"))
}

/// The modules that loading this one would add, itself last; none where it is there.
///
/// # Errors
/// The kernel has no such module.
pub fn missing_modules(kernel: &mut dyn Kernel, module: &Name) -> Result<Vec<Name>, ChangeError> {
    if exists(kernel.root(), &folder(module)) {
        return Ok(Vec::new());
    }
    let needs = kernel.needs(module).map_err(|why| ChangeError::Module {
        module: module.clone(),
        why,
    })?;
    let root = kernel.root();
    Ok(needs
        .into_iter()
        .filter(|needed| !exists(root, &folder(needed)))
        .collect())
}

fn folder(module: &Name) -> String {
    format!("sys/module/{}", module.as_module())
}

/// Whether it was loaded, and so may be unloaded; one that is built in has no state.
fn is_loaded(root: &Root, module: &Name) -> io::Result<bool> {
    Ok(text(root, &format!("{}/initstate", folder(module)))?.is_some())
}

pub(crate) fn load(kernel: &mut dyn Kernel, module: &Name) -> Result<(), ChangeError> {
    if exists(kernel.root(), &folder(module)) {
        return Ok(());
    }
    let loaded = kernel.load(module);
    let there = exists(kernel.root(), &folder(module));
    let absent = || io::Error::other("modprobe says that it is, and sys/module does not have it");
    match loaded {
        Ok(()) if there => Ok(()),
        loaded => Err(ChangeError::Module {
            module: module.clone(),
            why: loaded.err().unwrap_or_else(absent),
        }),
    }
}

/// Unloads it, unless something uses it.
pub(crate) fn unload(kernel: &mut dyn Kernel, module: &Name) -> Undone {
    let users = is_loaded(kernel.root(), module)
        .and_then(|loaded| loaded.then(|| users(kernel.root(), module)).transpose());
    let users = match users {
        Ok(None) => return Undone::Before,
        Ok(Some(users)) => users,
        Err(why) => return failed(module, why),
    };
    if !users.is_empty() {
        return Undone::Left(Left::Shared {
            module: module.clone(),
            by: users.join(", "),
        });
    }
    match kernel.unload(module) {
        Ok(()) => Undone::Restored,
        // EAGAIN and EBUSY of delete_module(2): somebody was faster.
        Err(why) if matches!(why.raw_os_error(), Some(11 | 16)) => Undone::Left(Left::Shared {
            module: module.clone(),
            by: "somebody".to_owned(),
        }),
        Err(why) => failed(module, why),
    }
}

fn failed(module: &Name, why: io::Error) -> Undone {
    Undone::Left(Left::Failed(ChangeError::Unload {
        module: module.clone(),
        why,
    }))
}

/// Other modules, functions that its drivers are bound to, and open descriptors.
fn users(root: &Root, module: &Name) -> io::Result<Vec<String>> {
    let folder = folder(module);
    let mut users = names(root, &format!("{folder}/holders"))?;
    for driver in names(root, &format!("{folder}/drivers"))? {
        // `pci:vfio-pci`, a link to the driver.
        let Some(name) = link(root, &format!("{folder}/drivers/{driver}"))? else {
            continue;
        };
        users.extend(
            names(root, &format!("sys/bus/pci/drivers/{name}"))?
                .into_iter()
                .filter(|entry| entry.parse::<PciAddress>().is_ok()),
        );
    }
    let count = text(root, &format!("{folder}/refcnt"))?.unwrap_or_default();
    if users.is_empty() && count.parse().is_ok_and(|count: i64| count > 0) {
        users.push(format!("{count} open descriptors or devices"));
    }
    Ok(users)
}
