//! What is mounted where.

use crate::root::Reader;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The mount's own number, where `mountinfo` told it.
    pub(crate) id: Option<u64>,
    /// Device number of its files, `major:minor`.
    pub(crate) number: Option<String>,
    pub(crate) point: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    /// Options of the mount and of the file system, comma separated.
    pub(crate) options: String,
}

/// Mounts in the kernel's order (proc_pid_mountinfo(5)); recorded trees may have only the older `mounts` (fstab(5)).
pub(crate) fn read(reader: &Reader) -> Vec<Mount> {
    if let Some(text) = reader.text("proc/self/mountinfo") {
        return text.lines().filter_map(info_line).collect();
    }
    ["proc/self/mounts", "proc/mounts"]
        .iter()
        .find_map(|path| reader.text(path))
        .unwrap_or_default()
        .lines()
        .filter_map(mounts_line)
        .collect()
}

/// `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard`
fn info_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let mut right = right.split(' ');
    let kind = right.next()?.to_owned();
    let source = unescape(right.next()?);
    Some(Mount {
        id: left.first()?.parse().ok(),
        number: Some((*left.get(2)?).to_owned()),
        point: unescape(left.get(4)?),
        kind,
        source,
        options: format!("{},{}", left.get(5)?, unescape(right.next().unwrap_or(""))),
    })
}

/// `/dev/vda / ext4 rw,discard 0 0`
fn mounts_line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let source = unescape(fields.next()?);
    Some(Mount {
        id: None,
        number: None,
        source,
        point: unescape(fields.next()?),
        kind: fields.next()?.to_owned(),
        options: unescape(fields.next()?),
    })
}

/// Blanks and backslashes are written as three octal digits (`\040`).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Mount {
    /// The value of an option (`upperdir=/a`).
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options
            .split(',')
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether an option without a value is set.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds() {
        let mount = info_line(
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,upperdir=/a\\134b",
        )
        .expect("a mount");
        assert_eq!(
            (mount.id, mount.number.as_deref()),
            (Some(36), Some("98:0"))
        );
        assert_eq!(
            (mount.point.as_str(), mount.kind.as_str()),
            ("/mnt 2", "ext3")
        );
        assert_eq!(mount.option("upperdir"), Some("/a\\b"));
        assert!(mount.has("noatime") && !mount.has("time"));
        let old = mounts_line("none /dev/cpuset cgroup rw,cpuset,noprefix 0 0").expect("a mount");
        assert!(old.has("cpuset") && old.kind == "cgroup" && old.number.is_none());
        for bad in ["", "a", "1 2 3", "1 2 3 - ", "\\ \\1 \\999"] {
            assert_eq!(info_line(bad), None, "{bad}");
        }
    }
}
