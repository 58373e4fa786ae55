//! The same checks for a device that is not written: one that is to be taken from the kernel.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use crate::content::{content, is_of};
use crate::device::Device;
use crate::refusal::{Refusal, Unasked};
use crate::uses::uses;

/// What forbids that a device is taken from the kernel. As long as it lives, the device is held exclusively where it could be,
/// so that nobody mounts it or makes something of it meanwhile.
#[derive(Debug)]
pub struct Inspection {
    /// What forbids it.
    pub refusals: Vec<Refusal>,
    /// What could not be asked.
    pub unasked: Vec<Unasked>,
    _held: Option<File>,
}

/// All checks of a block device but that of what the user typed; a read-only one is as good as any. In a recorded tree the
/// file of its name in `dev` stands for it.
///
/// ```no_run
/// use strata_guard::{Device, inspect};
/// use strata_topology::Root;
///
/// let drive = Device::named(&Root::live(), "nvme0n1")?;
/// for refusal in inspect(&drive).refusals {
///     println!("{refusal}");
/// }
/// # Ok::<(), strata_guard::DeviceError>(())
/// ```
pub fn inspect(device: &Device) -> Inspection {
    let mut found = uses(device);
    let own = |refusal: &Refusal| matches!(refusal, Refusal::ReadOnly { .. });
    found.refusals.retain(|refusal| !own(refusal));
    let (mut refusals, mut unasked) = (found.refusals, found.unasked);
    let path = device.root().path().join("dev").join(&device.name);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_DIRECT)
        .open(&path);
    let held = match opened.and_then(|file| Ok((is_of(&file, device)?, file))) {
        Ok((true, file)) => Some(file),
        Ok((false, _)) => None,
        Err(why) if why.raw_os_error() == Some(libc::EBUSY) => {
            refusals.push(Refusal::InUse {
                device: device.name.clone(),
            });
            None
        }
        // Told below, when it cannot be read either.
        Err(_) => None,
    };
    let readable = held
        .as_ref()
        .map(File::try_clone)
        .unwrap_or_else(|| File::open(&path));
    content(readable, device, &mut refusals, &mut unasked);
    Inspection {
        refusals,
        unasked,
        _held: held,
    }
}
