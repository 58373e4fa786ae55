//! The devices that a write to the target would change: itself, its partitions, and all that stands on these.

use std::collections::BTreeMap;
use std::io;

use crate::device::{Device, DeviceNumber};
use crate::refusal::Refusal;
use crate::uses::Uses;

/// How many devices may stand on one before the tree is held to be circular or foreign.
const MOST: usize = 4096;

/// Devices by number, each with its name; and what holds which.
pub(crate) struct Family {
    names: BTreeMap<DeviceNumber, String>,
    partitions: Vec<String>,
    held: Vec<(String, String)>,
}

impl Family {
    pub(crate) fn of(device: &Device) -> io::Result<Family> {
        let tree = device.tree();
        let mut family = Family {
            names: BTreeMap::new(),
            partitions: Vec::new(),
            held: Vec::new(),
        };
        let loops = loops(device)?;
        let mut todo = vec![device.name.clone()];
        // Whoever has the whole disk of a partition has the partition too; its other partitions do not matter.
        let is_part = device.part_of.is_some();
        if is_part {
            todo.push(device.disk().to_owned());
        }
        while let Some(name) = todo.pop() {
            let Some(number) = tree.number_of(&name) else {
                return Err(io::Error::other(format!(
                    "sys/class/block/{name}/dev is missing"
                )));
            };
            if family.names.insert(number, name.clone()).is_some() {
                continue;
            }
            if family.names.len() > MOST {
                return Err(io::Error::other(format!(
                    "more than {MOST} devices stand on it"
                )));
            }
            let folder = format!("sys/class/block/{name}");
            for part in tree.names(&folder)? {
                if is_part && name == device.disk() {
                    break;
                }
                if part.starts_with(&name) && tree.exists(&format!("{folder}/{part}/partition")) {
                    if name == device.name {
                        family.partitions.push(part.clone());
                    }
                    todo.push(part);
                }
            }
            let mut above = holders(device, &name)?;
            above.extend(
                loops
                    .iter()
                    .filter(|(_, on)| *on == number)
                    .map(|(name, _)| name.clone()),
            );
            for holder in above {
                family.held.push((name.clone(), holder.clone()));
                todo.push(holder);
            }
            family.held.extend(
                members(device, &name)?
                    .into_iter()
                    .map(|by| (name.clone(), by)),
            );
        }
        Ok(family)
    }

    /// The name of the device of that number, if it is one of these.
    pub(crate) fn named(&self, number: DeviceNumber) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    pub(crate) fn tell(&self, device: &Device, found: &mut Uses) {
        let device = &device.name;
        if !self.partitions.is_empty() {
            found.refusals.push(Refusal::Partitions {
                device: device.clone(),
                names: self.partitions.clone(),
            });
        }
        found
            .refusals
            .extend(self.held.iter().map(|(on, by)| Refusal::Held {
                device: device.clone(),
                on: on.clone(),
                by: by.clone(),
            }));
    }
}

/// Device-mapper, md and bcache devices made of it (`Documentation/ABI/stable/sysfs-block`, `holders`).
fn holders(device: &Device, name: &str) -> io::Result<Vec<String>> {
    device
        .tree()
        .names(&format!("sys/class/block/{name}/holders"))
}

/// Loop devices whose backing file is a block device, with its number; the kernel lists them as no holders.
fn loops(device: &Device) -> io::Result<Vec<(String, DeviceNumber)>> {
    let tree = device.tree();
    let mut found = Vec::new();
    for name in tree.names("sys/class/block")? {
        if !name.starts_with("loop") {
            continue;
        }
        if let Some(file) = tree.text(&format!("sys/class/block/{name}/loop/backing_file"))?
            && let Some(number) = tree.device_at(&file)
        {
            found.push((name, number));
        }
    }
    Ok(found)
}

/// File systems over several devices, mounted, that have it: their mounts name one device only (fs/btrfs/sysfs.c,
/// fs/bcachefs/sysfs.c).
fn members(device: &Device, name: &str) -> io::Result<Vec<String>> {
    let tree = device.tree();
    let mut found = Vec::new();
    for id in tree.names("sys/fs/btrfs")? {
        if tree.exists(&format!("sys/fs/btrfs/{id}/devices/{name}")) {
            found.push(format!("the btrfs {id}"));
        }
    }
    for id in tree.names("sys/fs/bcachefs")? {
        for part in tree.names(&format!("sys/fs/bcachefs/{id}"))? {
            let block = tree.link(&format!("sys/fs/bcachefs/{id}/{part}/block"));
            if block.is_ok_and(|block| block.file_name().is_some_and(|file| file == name)) {
                found.push(format!("the bcachefs {id}"));
            }
        }
    }
    Ok(found)
}
