//! Devices that the kernel gives to other machines. Servers in user space (nbd-server, SPDK's uring bdev) are met by their
//! open descriptors.

use std::io;

use crate::device::Device;
use crate::refusal::{Exporter, Refusal};
use crate::uses::family::Family;
use crate::uses::{Uses, controllers};

/// Who, the folders on the way (`*` for any name), the file that names the device or its file.
const PLACES: [(Exporter, &[&str], &str); 3] = [
    // Documentation/nvme, drivers/nvme/target/configfs.c: nvmet does not open the device exclusively.
    (
        Exporter::Nvmet,
        &["sys/kernel/config/nvmet/subsystems", "*", "namespaces", "*"],
        "device_path",
    ),
    // Documentation/target/tcm_mod_builder.rst: backstores below their host bus adapters.
    (
        Exporter::Lio,
        &["sys/kernel/config/target/core", "*", "*"],
        "udev_path",
    ),
    (
        Exporter::Scst,
        &["sys/kernel/scst_tgt/devices", "*"],
        "filename",
    ),
];

/// nvmet's other way (drivers/nvme/target/passthru.c): a whole controller, with all its namespaces.
const PASSTHROUGH: [&str; 3] = ["sys/kernel/config/nvmet/subsystems", "*", "passthru"];

/// Modules without whose configfs nothing is known of their exports.
const MODULES: [(&str, &str); 2] = [
    ("sys/module/nvmet", "sys/kernel/config/nvmet"),
    ("sys/module/target_core_mod", "sys/kernel/config/target"),
];

pub(super) fn find(device: &Device, family: &Family, found: &mut Uses) {
    let tree = device.tree();
    for (module, configuration) in MODULES {
        if tree.exists(module) && !tree.exists(configuration) {
            let why = format!("{module} is there and {configuration} is not; mount configfs");
            found.unasked("whether it is exported", why);
        }
    }
    for (by, folders, file) in PLACES {
        for entry in entries(device, folders, found) {
            let on = line(device, &format!("{entry}/{file}"), found)
                .and_then(|path| tree.device_at(&path))
                .and_then(|number| family.named(number));
            if let Some(on) = on {
                found.refusals.push(Refusal::Exported {
                    device: device.name.clone(),
                    on: on.to_owned(),
                    by,
                    entry,
                });
            }
        }
    }
    for entry in entries(device, &PASSTHROUGH, found) {
        let controller = line(device, &format!("{entry}/device_path"), found)
            .and_then(|path| tree.controller_at(&path));
        // A path that is set does nothing until it is enabled.
        let Some(controller) = controller
            .filter(|_| line(device, &format!("{entry}/enable"), found).as_deref() != Some("0"))
        else {
            continue;
        };
        let paths: io::Result<Vec<_>> = family.written().iter().map(controllers).collect();
        let leads = match paths {
            Ok(paths) => paths.into_iter().flatten().any(|(by, _)| by == controller),
            Err(why) => {
                found.unasked("whether it is exported", format!("sys/class/nvme: {why}"));
                continue;
            }
        };
        if leads {
            found.refusals.push(Refusal::Exported {
                device: device.name.clone(),
                on: controller,
                by: Exporter::Nvmet,
                entry,
            });
        }
    }
}

/// An attribute's first line: below, SCST writes `[key]` where a user set it (SCST_SYSFS_KEY_MARK).
fn line(device: &Device, at: &str, found: &mut Uses) -> Option<String> {
    let text = match device.tree().text(at) {
        Ok(text) => text?,
        Err(why) => {
            found.unasked("whether it is exported", format!("{at}: {why}"));
            return None;
        }
    };
    text.lines().next().map(|line| line.trim_end().to_owned())
}

/// The folders that a pattern stands for.
fn entries(device: &Device, folders: &[&str], found: &mut Uses) -> Vec<String> {
    let answer = matching(device, folders);
    answer.unwrap_or_else(|why| {
        found.unasked("whether it is exported", format!("{}: {why}", folders[0]));
        Vec::new()
    })
}

fn matching(device: &Device, folders: &[&str]) -> io::Result<Vec<String>> {
    let mut at = vec![String::new()];
    for folder in folders {
        let mut next = Vec::new();
        for base in at {
            match *folder {
                "*" => next.extend(
                    device
                        .tree()
                        .names(&base)?
                        .into_iter()
                        .map(|name| format!("{base}/{name}")),
                ),
                _ if base.is_empty() => next.push((*folder).to_owned()),
                _ => next.push(format!("{base}/{folder}")),
            }
        }
        at = next;
    }
    Ok(at)
}
