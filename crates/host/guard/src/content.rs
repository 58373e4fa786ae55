//! What a device carries, asked of the device itself: its bytes, and who has it reserved.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::device::{Device, DeviceNumber};
use crate::ends::Read;
use crate::ioctl;
use crate::refusal::{Refusal, Unasked};
use crate::reservations;
use crate::signatures::signatures;

/// The number of an open block device; `None` when it is something else.
pub(crate) fn number(file: &File) -> io::Result<Option<DeviceNumber>> {
    let meta = file.metadata()?;
    Ok(meta
        .file_type()
        .is_block_device()
        .then(|| DeviceNumber::of(meta.rdev())))
}

/// Whether an open file is that device; in a recorded tree a file stands for it.
pub(crate) fn is_of(file: &File, device: &Device) -> io::Result<bool> {
    if !device.root().is_live() {
        return Ok(file.metadata()?.is_file());
    }
    Ok(number(file)? == Some(device.number))
}

/// Looks for signatures and reservations by an open file, and whether the device is still what it was; true if both ends of
/// it read as zeros.
pub(crate) fn content(
    file: io::Result<File>,
    device: &Device,
    refusals: &mut Vec<Refusal>,
    unasked: &mut Vec<Unasked>,
) -> bool {
    let name = || device.name.clone();
    let mut blank = false;
    let read = file.and_then(|file| {
        if !is_of(&file, device)? {
            return Err(io::Error::other("another device is there now"));
        }
        Ok((Read::from(&file, device)?, file))
    });
    match read {
        Ok((read, file)) => {
            let ends = read.ends(device.size, device.logical_block);
            blank = ends.are_zero();
            refusals.extend(
                signatures(&ends)
                    .into_iter()
                    .map(|signature| Refusal::Signed {
                        device: name(),
                        signature,
                    }),
            );
            reserved(&file, device, refusals, unasked);
        }
        Err(why) => refusals.push(Refusal::CannotTell {
            device: name(),
            question: "what it carries",
            why: why.to_string(),
        }),
    }
    match device.again() {
        Ok(now) if now == *device => {}
        Ok(_) => refusals.push(Refusal::Changed {
            device: name(),
            found: "its size, identity or state is not what it was a moment ago".to_owned(),
        }),
        Err(why) => refusals.push(Refusal::Changed {
            device: name(),
            found: why.to_string(),
        }),
    }
    blank
}

/// Reservations and registrations: anybody's, since the suite makes none.
fn reserved(file: &File, device: &Device, refusals: &mut Vec<Refusal>, unasked: &mut Vec<Unasked>) {
    let found = if device.disk().starts_with("nvme") {
        reservations::ask(|extended, room| ioctl::nvme_report(file, extended, room))
    } else if device.disk().starts_with("sd") || device.disk().starts_with("dm-") {
        match ioctl::registered_keys(file) {
            Ok(0) => Ok(None),
            Ok(keys) => Ok(Some(format!("{keys} reservation keys are registered with it"))),
            Err(why) if why.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(why) if why.raw_os_error() == Some(libc::ENOTTY) => {
                Err("the kernel has no IOC_PR_READ_KEYS (Linux 6.19); `sg_persist --in -k` asks the drive itself".to_owned())
            }
            Err(why) => Err(why.to_string()),
        }
    } else {
        // No other driver has reservations (`pr_ops` in drivers/): loop, virtio, zram, md.
        Ok(None)
    };
    match found {
        Ok(None) => {}
        Ok(Some(found)) => refusals.push(Refusal::Reserved {
            device: device.name.clone(),
            found,
        }),
        Err(why) => unasked.push(Unasked {
            question: "reservations of other hosts",
            why,
        }),
    }
}
