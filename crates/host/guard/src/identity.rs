//! What the user has to type before a target is written.

use strata_units::Bytes;

use crate::device::Device;
use crate::refusal::Unasked;

/// What sort of text identifies a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// The drive's serial number.
    Serial,
    /// Its world-wide name, where it tells no serial number.
    Wwid,
    /// The path of the file behind a loop device.
    BackingFile,
    /// The device's name and its size in bytes (`zram0/536870912`), where it tells nothing else.
    NameAndSize,
}

/// What identifies a target. Its text is not printed by any message of this room, so that it cannot be pasted from one.
///
/// A drive's text is that of the drive alone where it has one namespace; else `/nN` follows, N the namespace. A
/// partition's text has `/pN` after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    device: String,
    tell: Tell,
    text: String,
    suffix: Option<&'static str>,
}

/// The typed text is not the target's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{typed:?} is not {device}: expected {expected}; {find}")]
pub struct Mismatch {
    /// What was typed.
    pub typed: String,
    /// The target.
    pub device: String,
    /// What sort of text is expected.
    pub expected: String,
    /// Where it is to be found.
    pub find: &'static str,
}

impl Identity {
    /// The identity of a device, and what of it could not be asked.
    pub fn of(device: &Device) -> (Identity, Vec<Unasked>) {
        let (tell, mut text) = if let Some(file) = &device.backing_file {
            (Tell::BackingFile, file.clone())
        } else if let Some(serial) = &device.serial {
            (Tell::Serial, serial.clone())
        } else if let Some(wwid) = &device.wwid {
            (Tell::Wwid, wwid.clone())
        } else {
            let Bytes(size) = device.size;
            (Tell::NameAndSize, format!("{}/{size}", device.disk()))
        };
        let mut unasked = Vec::new();
        let mut suffix = None;
        let space = (tell == Tell::Serial)
            .then(|| namespace(device.disk()))
            .flatten();
        if let Some(space) = space {
            match siblings(device) {
                Ok(false) => {}
                Ok(true) => {
                    text = format!("{text}/n{space}");
                    suffix =
                        Some("with /nN after it, N the namespace, since the drive has several");
                }
                Err(why) => unasked.push(Unasked {
                    question: "whether the drive has several namespaces",
                    why: why.to_string(),
                }),
            }
        }
        if let Some((_, part)) = device.part_of {
            text = format!("{text}/p{part}");
            suffix = Some(match suffix {
                Some(_) => "with /nN/pM after it, N the namespace and M the partition",
                None => "with /pN after it, N the partition",
            });
        }
        let identity = Identity {
            device: device.name.clone(),
            tell,
            text,
            suffix,
        };
        (identity, unasked)
    }

    /// What sort of text it is.
    pub fn tell(&self) -> Tell {
        self.tell
    }

    /// The text, for what lists devices.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the typed text is this target's; blanks round it do not count, its letters' case does.
    ///
    /// # Errors
    /// It is not; the error says what sort of text is expected and where to find it, not the text.
    pub fn typed_matches(&self, typed: &str) -> Result<(), Mismatch> {
        if typed.trim() == self.text.trim() {
            return Ok(());
        }
        let (expected, find) = match self.tell {
            Tell::Serial => ("its serial number", "`strata topology` shows it"),
            Tell::Wwid => (
                "its world-wide name (it tells no serial number)",
                "`strata topology` shows it",
            ),
            Tell::BackingFile => (
                "the path of the file behind it",
                "`strata topology` or `losetup -l` shows it",
            ),
            Tell::NameAndSize => (
                "its name, a slash and its size in bytes (it tells neither serial number nor world-wide name)",
                "`strata topology` or `lsblk -b` shows them",
            ),
        };
        let suffix = self.suffix.map(|suffix| format!(", {suffix}"));
        Err(Mismatch {
            typed: typed.to_owned(),
            device: self.device.clone(),
            expected: format!("{expected}{}", suffix.unwrap_or_default()),
            find,
        })
    }
}

/// The namespace's number in `nvme0n1`.
fn namespace(disk: &str) -> Option<u32> {
    disk.strip_prefix("nvme")?.split_once('n')?.1.parse().ok()
}

/// Whether another NVMe disk tells the same serial number.
fn siblings(device: &Device) -> std::io::Result<bool> {
    let tree = device.tree();
    let mut same = 0;
    for name in tree.names("sys/class/block")? {
        let of_disk = namespace(&name).is_some() && !name.contains('c');
        if of_disk && tree.text(&format!("sys/class/block/{name}/device/serial"))? == device.serial
        {
            same += 1;
        }
    }
    Ok(same > 1)
}
