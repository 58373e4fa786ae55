//! Who uses a block device: everything but its bytes that forbids a write.

mod exports;
mod family;
mod processes;

use std::io;

use crate::device::Device;
use crate::refusal::{Refusal, Unasked};
use family::Family;

/// What was found of a device's uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// What forbids a write.
    pub refusals: Vec<Refusal>,
    /// What could not be asked.
    pub unasked: Vec<Unasked>,
}

impl Uses {
    /// A question without whose answer nothing is written.
    fn need<T>(
        &mut self,
        device: &Device,
        question: &'static str,
        answer: io::Result<T>,
    ) -> Option<T> {
        answer
            .map_err(|why| {
                self.refusals.push(Refusal::CannotTell {
                    device: device.name.clone(),
                    question,
                    why: why.to_string(),
                });
            })
            .ok()
    }

    fn unasked(&mut self, question: &'static str, why: impl ToString) {
        self.unasked.push(Unasked {
            question,
            why: why.to_string(),
        });
    }
}

/// Looks for all uses of a device, under the root that it was read from: read-only flag, partitions, what is stacked above it
/// (`holders`, loop devices, btrfs, bcachefs), live paths, mounts in every mount namespace that can be seen, swap, exports, and
/// descriptors of other processes. Of a loop device over a block device, all this is asked of that one too: the kernel lets
/// others have it at the same time.
pub fn uses(device: &Device) -> Uses {
    let mut found = Uses::default();
    let Some(family) = found.need(device, "what stands on it", Family::of(device)) else {
        return found;
    };
    for device in family.written().iter().filter(|device| device.read_only) {
        found.refusals.push(Refusal::ReadOnly {
            device: device.name.clone(),
        });
    }
    family.tell(device, &mut found);
    for device in family.written() {
        let paths = live_paths(device);
        if let Some(paths) = found.need(device, "which of its paths are live", paths)
            && paths.len() > 1
        {
            found.refusals.push(Refusal::SeveralPaths {
                device: device.name.clone(),
                paths,
            });
        }
    }
    processes::mounts(device, &family, &mut found);
    swap(device, &family, &mut found);
    exports::find(device, &family, &mut found);
    processes::descriptors(device, &family, &mut found);
    found
}

/// The NVMe controllers that lead to its disk, each with the path's name there: `nvmeXnZ` itself, or `nvmeXcYnZ` of a
/// multipath head (drivers/nvme/host/multipath.c).
fn controllers(device: &Device) -> io::Result<Vec<(String, String)>> {
    let tree = device.tree();
    let disk = device.disk();
    let Some((head, space)) = disk
        .strip_prefix("nvme")
        .and_then(|rest| rest.split_once('n'))
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for controller in tree.names("sys/class/nvme")? {
        let Some(number) = controller.strip_prefix("nvme") else {
            continue;
        };
        let path = [disk.to_owned(), format!("nvme{head}c{number}n{space}")]
            .into_iter()
            .find(|path| tree.exists(&format!("sys/class/nvme/{controller}/{path}")));
        found.extend(path.map(|path| (controller, path)));
    }
    Ok(found)
}

/// Paths of a multipath head whose controller is live.
fn live_paths(device: &Device) -> io::Result<Vec<String>> {
    let mut live = Vec::new();
    for (controller, path) in controllers(device)? {
        let state = format!("sys/class/nvme/{controller}/state");
        if device.tree().text(&state)?.as_deref() == Some("live") {
            live.push(path);
        }
    }
    Ok(live)
}

/// Swap areas, by proc_swaps(5). A swap file is met by the mount of its file system.
fn swap(device: &Device, family: &Family, found: &mut Uses) {
    let tree = device.tree();
    let Some(text) = found.need(device, "what is swapped to", tree.text("proc/swaps")) else {
        return;
    };
    for line in text.unwrap_or_default().lines().skip(1) {
        let path = processes::unescape(line.split_whitespace().next().unwrap_or_default());
        if let Some(on) = tree
            .device_at(&path)
            .and_then(|number| family.named(number))
        {
            found.refusals.push(Refusal::Swap {
                device: device.name.clone(),
                on: on.to_owned(),
            });
        }
    }
}
