//! What a block device stands on: partitions, loop devices, device mapper and md followed down to their drives.

use std::collections::BTreeSet;
use std::path::Path;

use strata_units::PciAddress;

use crate::block::Disk;
use crate::file;
use crate::mounts;
use crate::root::Reader;
use crate::topology::Topology;

impl Topology {
    /// The disk of that name, or of the partition of that name, and all that it stands on, floor by floor.
    pub(crate) fn disks_of(&self, name: &str) -> Vec<&Disk> {
        let mut found: Vec<&Disk> = self.disk_holding(name).into_iter().collect();
        let mut seen: BTreeSet<&str> = found.iter().map(|disk| disk.name.as_str()).collect();
        let mut at = 0;
        while let Some(disk) = found.get(at).copied() {
            at += 1;
            // A scrambled tree may be a ring; a sane one has diamonds.
            found.extend(self.parts(disk).filter(|part| seen.insert(&part.name)));
        }
        found
    }

    /// The disks at the bottom of the one, or the disk's partition, of that name; itself when it stands on nothing.
    pub fn disks_below(&self, name: &str) -> Vec<&Disk> {
        let mut bottom = self.disks_of(name);
        bottom.retain(|disk| self.is_bottom(disk));
        bottom.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        bottom
    }

    /// Whether a disk stands on no other.
    pub(crate) fn is_bottom(&self, disk: &Disk) -> bool {
        self.parts(disk).next().is_none()
    }

    /// The disks right below one.
    fn parts<'t>(&'t self, disk: &'t Disk) -> impl Iterator<Item = &'t Disk> {
        let parts = disk.made_of.iter().chain(&disk.backed_by);
        parts.filter_map(|part| self.disk_holding(part))
    }

    /// Every PCI function that the disk or partition of that name stands on, ascending; of a multipath head those of all
    /// live paths.
    pub fn functions_below(&self, name: &str) -> Vec<PciAddress> {
        let functions: BTreeSet<PciAddress> = self
            .disks_below(name)
            .into_iter()
            .flat_map(|disk| {
                let live = disk.paths.iter().filter(|path| path.live);
                live.filter_map(|path| path.pci).chain(disk.pci)
            })
            .collect();
        functions.into_iter().collect()
    }

    /// The device that the file behind a loop device lies on. In a recorded tree the file is absent, and the longest mount
    /// point tells.
    pub(crate) fn backing(&self, reader: &Reader, disk: &Disk) -> Option<String> {
        let file = Path::new(disk.backing_file.as_deref()?);
        if reader.root().is_live() {
            return file::look(self, file, 1).ok()?.device;
        }
        let node = file.strip_prefix("/dev").ok().and_then(Path::to_str);
        if let Some(node) = node.filter(|node| self.disk_holding(node).is_some()) {
            return Some(node.to_owned());
        }
        let mounts = mounts::read(reader);
        let mount = mounts
            .iter()
            .filter(|mount| file.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.len())?;
        let (_, device) = self.device_numbered(mount.number.as_deref()?)?;
        Some(device.to_owned())
    }
}
