//! What processes tell: mounts in their namespaces, and what they have open.

use std::collections::BTreeSet;

use crate::device::Device;
use crate::refusal::Refusal;
use crate::tree::is_absent;
use crate::uses::Uses;
use crate::uses::family::Family;

/// Processes by number.
fn processes(device: &Device, found: &mut Uses) -> Vec<u32> {
    let names = found.need(
        device,
        "which processes there are",
        device.tree().names("proc"),
    );
    names
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// Mounts of the devices (proc_pid_mountinfo(5)): our own, and those of every other mount namespace, as a container's.
pub(super) fn mounts(device: &Device, family: &Family, found: &mut Uses) {
    let tree = device.tree();
    let own = tree.text("proc/self/mountinfo");
    let own = own.and_then(|text| {
        text.ok_or_else(|| std::io::Error::other("proc/self/mountinfo is absent"))
    });
    if let Some(text) = found.need(device, "what is mounted", own) {
        mounted(device, family, &text, None, found);
    }
    let mut seen: BTreeSet<_> = tree.link("proc/self/ns/mnt").into_iter().collect();
    let mut hidden = 0;
    for pid in processes(device, found) {
        // Some may not be asked for their namespace and yet for its mounts.
        let namespace = tree.link(&format!("proc/{pid}/ns/mnt"));
        if namespace.is_ok_and(|namespace| !seen.insert(namespace)) {
            continue;
        }
        match tree.text(&format!("proc/{pid}/mountinfo")) {
            Ok(text) => mounted(device, family, &text.unwrap_or_default(), Some(pid), found),
            Err(_) => hidden += 1,
        }
    }
    if hidden > 0 {
        found.unasked(
            "mounts in other mount namespaces",
            format!(
                "those of {hidden} processes are hidden from this user; as root there may be fewer"
            ),
        );
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`. The number is the device's, unless the file system has
/// one of its own (btrfs); so the source counts too.
fn mounted(device: &Device, family: &Family, text: &str, namespace: Option<u32>, found: &mut Uses) {
    let tree = device.tree();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let fields: Vec<&str> = left.split(' ').collect();
        let (Some(number), Some(point)) = (fields.get(2), fields.get(4)) else {
            continue;
        };
        let source = unescape(right.split(' ').nth(1).unwrap_or_default());
        // bcachefs joins its devices by colons.
        let sources = source
            .split(':')
            .filter(|part| part.starts_with('/'))
            .filter_map(|part| tree.device_at(part));
        let on = number
            .parse()
            .into_iter()
            .chain(sources)
            .find_map(|number| family.named(number));
        let Some(on) = on else { continue };
        let point = unescape(point);
        let told = found.refusals.iter().any(|refusal| {
            matches!(refusal, Refusal::Mounted { on: other, point: at, .. } if other == on && *at == point)
        });
        if !told {
            found.refusals.push(Refusal::Mounted {
                device: device.name.clone(),
                on: on.to_owned(),
                point,
                namespace,
            });
        }
    }
}

/// Descriptors of other processes on the devices (proc_pid_fd(5)).
pub(super) fn descriptors(device: &Device, family: &Family, found: &mut Uses) {
    let tree = device.tree();
    let mut hidden = 0;
    for pid in processes(device, found) {
        if tree.0.is_live() && pid == std::process::id() {
            continue;
        }
        let folder = format!("proc/{pid}/fd");
        let Ok(descriptors) = tree.names(&folder) else {
            hidden += 1;
            continue;
        };
        let mut open = BTreeSet::new();
        let mut closed = false;
        for descriptor in descriptors {
            match tree.descriptor(&format!("{folder}/{descriptor}")) {
                Ok(number) => open.extend(number.and_then(|number| family.named(number))),
                Err(error) => closed |= !is_absent(&error),
            }
        }
        hidden += u32::from(closed);
        if open.is_empty() {
            continue;
        }
        let command = tree.text(&format!("proc/{pid}/comm")).ok().flatten();
        for on in open {
            found.refusals.push(Refusal::Open {
                device: device.name.clone(),
                on: on.to_owned(),
                pid,
                command: command.clone().unwrap_or_else(|| "ended".to_owned()),
            });
        }
    }
    if hidden > 0 {
        found.unasked(
            "descriptors of other processes",
            format!(
                "those of {hidden} processes are hidden from this user; as root there may be fewer"
            ),
        );
    }
}

/// Blanks and backslashes are written as three octal digits (`\040`).
pub(super) fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let octal = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[3..]);
            }
            None => {
                bytes.push(b'\\');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn octal_digits() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        for plain in ["", "\\", "\\9", "\\é", "a\\08", "\\999"] {
            assert_eq!(unescape(plain), plain);
        }
    }
}
