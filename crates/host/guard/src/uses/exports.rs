//! Devices that the kernel gives to other machines. Servers in user space (nbd-server, SPDK's uring bdev) are met by their
//! open descriptors.

use std::io;

use crate::device::Device;
use crate::refusal::{Exporter, Refusal};
use crate::uses::Uses;
use crate::uses::family::Family;

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
        match entries(device, folders) {
            Ok(entries) => {
                for entry in entries {
                    let at = format!("{entry}/{file}");
                    match tree.text(&at) {
                        Ok(path) => {
                            let number = path.and_then(|path| tree.device_at(&path));
                            if let Some(on) = number.and_then(|number| family.named(number)) {
                                found.refusals.push(Refusal::Exported {
                                    device: device.name.clone(),
                                    on: on.to_owned(),
                                    by,
                                    entry,
                                });
                            }
                        }
                        Err(why) => found.unasked("whether it is exported", format!("{at}: {why}")),
                    }
                }
            }
            Err(why) => found.unasked("whether it is exported", format!("{}: {why}", folders[0])),
        }
    }
}

fn entries(device: &Device, folders: &[&str]) -> io::Result<Vec<String>> {
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
