//! Plain files below a root. Unlike topology's reader, which keeps a note of what it could not read, this one fails: what
//! cannot be looked at must not be taken for harmless.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use strata_topology::Root;

use crate::device::DeviceNumber;

/// The most that is read of one file: a mount table of a hundred thousand containers.
const MOST: u64 = 64 << 20;

#[derive(Clone, Copy)]
pub(crate) struct Tree<'a>(pub(crate) &'a Root);

impl Tree<'_> {
    fn full(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// A file's text without the blanks round it; `None` where it is absent or empty.
    pub(crate) fn text(&self, path: &str) -> io::Result<Option<String>> {
        match self.read(&self.full(path)) {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, full: &Path) -> io::Result<String> {
        // A FIFO or a device in a foreign tree would block or never end.
        if !fs::metadata(full)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(full)?.take(MOST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(io::Error::other("larger than 64MiB"));
        }
        let blank = |c: char| c.is_whitespace() || c == '\0';
        Ok(String::from_utf8_lossy(&bytes)
            .trim_matches(blank)
            .to_owned())
    }

    /// The names in a folder, sorted; none where it is absent.
    pub(crate) fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.full(folder)) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether something is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.full(path).exists()
    }

    /// The path below the root that a chain of links ends at.
    pub(crate) fn real(&self, path: &str) -> Option<String> {
        let root = fs::canonicalize(self.0.path()).ok()?;
        let real = fs::canonicalize(self.full(path)).ok()?;
        Some(real.strip_prefix(root).ok()?.to_string_lossy().into_owned())
    }

    /// Where a link points.
    pub(crate) fn link(&self, path: &str) -> io::Result<PathBuf> {
        fs::read_link(self.full(path))
    }

    /// The block device that a path as the machine's user would write it (`/dev/sda1`, a link to it) stands for. The live
    /// machine is asked for the node's number; elsewhere, and where the node cannot be seen, its name is taken.
    pub(crate) fn device_at(&self, path: &str) -> Option<DeviceNumber> {
        let node = self.0.is_live().then(|| fs::metadata(path).ok()).flatten();
        if let Some(node) = node {
            return self.device_by(&node);
        }
        let name = Path::new(path.strip_prefix("/dev/")?)
            .file_name()?
            .to_str()?;
        self.number_of(name)
            .or_else(|| self.number_of(&namespace_of(name)?))
            .or_else(|| self.disk_of(&format!("sys/class/scsi_generic/{name}")))
            .or_else(|| self.disk_of(&format!("sys/class/bsg/{name}")))
    }

    /// The name of the NVMe controller that a path (`/dev/nvme0`, a link to it) stands for.
    pub(crate) fn controller_at(&self, path: &str) -> Option<String> {
        let node = self.0.is_live().then(|| fs::metadata(path).ok()).flatten();
        let node = node.filter(|node| node.file_type().is_char_device());
        let real = match node {
            Some(node) => {
                let number = DeviceNumber::of(node.rdev());
                self.real(&format!("sys/dev/char/{number}"))?
            }
            None => path.strip_prefix("/dev/")?.to_owned(),
        };
        real.rsplit('/').next().map(str::to_owned)
    }

    /// The block device that a process has open by a descriptor. The link of a live process leads to the very file, whatever
    /// its path says; a recorded one has its text only.
    pub(crate) fn descriptor(&self, path: &str) -> io::Result<Option<DeviceNumber>> {
        if self.0.is_live() {
            return fs::metadata(self.full(path)).map(|node| self.device_by(&node));
        }
        self.link(path)
            .map(|target| self.device_at(&target.to_string_lossy()))
    }

    /// The block device that a node reaches: besides what [`Tree::device_of`] takes for a target, a SCSI disk's generic nodes
    /// (`/dev/sg0`, `/dev/bsg/0:0:0:0`), which pass any command.
    fn device_by(&self, node: &fs::Metadata) -> Option<DeviceNumber> {
        match node.file_type() {
            kind if kind.is_char_device() => self.behind(DeviceNumber::of(node.rdev())),
            _ => self.device_of(node),
        }
    }

    /// The block device behind a character device.
    fn behind(&self, number: DeviceNumber) -> Option<DeviceNumber> {
        self.generic(number)
            .or_else(|| self.disk_of(&format!("sys/dev/char/{number}")))
    }

    /// The disk of the SCSI device that a generic node's folder belongs to; tapes and enclosures have none.
    fn disk_of(&self, folder: &str) -> Option<DeviceNumber> {
        let names = self.names(&format!("{folder}/device/block")).ok()?;
        names.iter().find_map(|name| self.number_of(name))
    }

    /// The block device that a node stands for; a namespace's character device stands for its block device.
    pub(crate) fn device_of(&self, node: &fs::Metadata) -> Option<DeviceNumber> {
        let number = DeviceNumber::of(node.rdev());
        match node.file_type() {
            kind if kind.is_block_device() => Some(number),
            kind if kind.is_char_device() => self.generic(number),
            _ => None,
        }
    }

    /// The block device of the namespace that a character device `ngXnY` drives.
    fn generic(&self, number: DeviceNumber) -> Option<DeviceNumber> {
        let real = self.real(&format!("sys/dev/char/{number}"))?;
        let name = real.rsplit('/').next()?;
        self.number_of(&namespace_of(name)?)
    }

    /// The number of a block device by its name.
    pub(crate) fn number_of(&self, name: &str) -> Option<DeviceNumber> {
        self.text(&format!("sys/class/block/{name}/dev"))
            .ok()??
            .parse()
            .ok()
    }
}

/// `nvme0n1` of `ng0n1`.
fn namespace_of(generic: &str) -> Option<String> {
    let rest = generic.strip_prefix("ng")?;
    rest.starts_with(|c: char| c.is_ascii_digit())
        .then(|| format!("nvme{rest}"))
}

/// How the kernel says that there is no such thing; `ESRCH` is of a process that ended meanwhile.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::ENODEV | libc::ENXIO | libc::EINVAL
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the number of a node, as of the machine's own processes.
    #[test]
    fn character_devices_lead_to_their_block_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        put("sys/class/block/sda/dev", "8:0\n");
        put("sys/class/block/nvme0n1/dev", "259:0\n");
        put("sys/devices/disk/block/sda/x", "");
        put("sys/devices/enclosure/type", "13\n");
        for (number, name, device) in [
            ("21:0", "sg0", "disk"),
            ("244:1", "1:0:0:0", "disk"),
            ("21:1", "sg1", "enclosure"),
            ("240:0", "ng0n1", "nvme0"),
        ] {
            put(&format!("sys/devices/of/{name}/dev"), number);
            let real = folder.path().join(format!("sys/devices/of/{name}"));
            std::os::unix::fs::symlink(format!("../../{device}"), real.join("device"))
                .expect("a link");
            let link = folder.path().join(format!("sys/dev/char/{number}"));
            fs::create_dir_all(link.parent().expect("a folder above")).expect("a folder");
            std::os::unix::fs::symlink(real, link).expect("a link");
        }
        let root = Root::new(folder.path());
        let tree = Tree(&root);
        let behind = |number: &str| {
            let number = tree.behind(number.parse().expect("a number"));
            number.map(|number| number.to_string())
        };
        assert_eq!(behind("21:0").as_deref(), Some("8:0"));
        assert_eq!(behind("244:1").as_deref(), Some("8:0"));
        assert_eq!(behind("21:1"), None);
        assert_eq!(behind("240:0").as_deref(), Some("259:0"));
        assert_eq!(behind("1:3"), None);
        // A target is named by its own nodes only.
        assert_eq!(tree.generic("21:0".parse().expect("a number")), None);
    }
}
