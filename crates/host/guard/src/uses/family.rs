//! The devices that a write to the target would change: itself, the block devices that loop devices pass it on to, their
//! partitions, and all that stands on these.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::device::{Device, DeviceNumber};
use crate::refusal::Refusal;
use crate::uses::Uses;

/// How many devices may stand on one before the tree is held to be circular or foreign.
const MOST: usize = 4096;

/// Devices by number, each with its name; and what holds which.
pub(crate) struct Family {
    names: BTreeMap<DeviceNumber, String>,
    partitions: BTreeMap<String, Vec<String>>,
    held: Vec<(String, String)>,
    written: Vec<Device>,
}

impl Family {
    pub(crate) fn of(device: &Device) -> io::Result<Family> {
        let tree = device.tree();
        let mut family = Family {
            names: BTreeMap::new(),
            partitions: BTreeMap::new(),
            held: Vec::new(),
            written: written(device)?,
        };
        let loops = loops(device)?;
        let mut todo = Vec::new();
        // Whoever has the whole disk of a partition has the partition too; its other partitions do not matter.
        let mut disks = BTreeSet::new();
        for device in &family.written {
            if device.part_of.is_some() {
                todo.push(device.disk().to_owned());
                disks.insert(device.disk().to_owned());
            }
            todo.push(device.name.clone());
        }
        // The loop devices that lead from the target to what is below it are the target's own.
        let own: Vec<_> = family
            .written
            .windows(2)
            .map(|pair| (pair[0].disk().to_owned(), pair[1].number))
            .collect();
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
                if disks.contains(&name) {
                    break;
                }
                if part.starts_with(&name) && tree.exists(&format!("{folder}/{part}/partition")) {
                    if family.written.iter().any(|device| device.name == name) {
                        let of = family.partitions.entry(name.clone()).or_default();
                        of.push(part.clone());
                    }
                    todo.push(part);
                }
            }
            let mut above = holders(device, &name)?;
            above.extend(
                loops
                    .iter()
                    .filter(|pair| pair.1 == number && !own.contains(pair))
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

    /// The target, and below it each block device that a loop device passes its writes on to.
    pub(crate) fn written(&self) -> &[Device] {
        &self.written
    }

    pub(crate) fn tell(&self, device: &Device, found: &mut Uses) {
        let device = &device.name;
        found.refusals.extend(
            self.partitions
                .iter()
                .map(|(device, names)| Refusal::Partitions {
                    device: device.clone(),
                    names: names.clone(),
                }),
        );
        found
            .refusals
            .extend(self.held.iter().map(|(on, by)| Refusal::Held {
                device: device.clone(),
                on: on.clone(),
                by: by.clone(),
            }));
    }
}

/// The device, then the block device behind it if it is a loop device (or a partition of one), then what is behind that.
fn written(device: &Device) -> io::Result<Vec<Device>> {
    let tree = device.tree();
    let mut found = vec![device.clone()];
    while let Some(number) = found
        .last()
        .and_then(|last| last.backing_file.as_deref())
        .and_then(|file| tree.device_at(file))
    {
        if found.iter().any(|device| device.number == number) {
            return Err(io::Error::other(format!(
                "loop devices lead from {} back to {number}",
                device.name
            )));
        }
        let name = tree.names("sys/class/block")?;
        let name = name
            .into_iter()
            .find(|name| tree.number_of(name) == Some(number))
            .ok_or_else(|| {
                io::Error::other(format!("no device below sys/class/block is {number}"))
            })?;
        found.push(Device::named(device.root(), &name).map_err(io::Error::other)?);
    }
    Ok(found)
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
