//! What the device below a target lets an engine do, by the kernel's word in sysfs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use strata_units::Bytes;

use crate::engine::BlockEngine;

/// Where the kernel tells of its devices.
const SYS: &str = "/sys";

/// Whether the engine can drive `target`; `direct` says whether it is opened past the page cache.
///
/// # Errors
/// In words, why not, with the next step.
pub(crate) fn fits(engine: BlockEngine, target: &Path, direct: bool) -> Result<(), String> {
    // What is not there is told when it is opened.
    let Ok(meta) = fs::metadata(target) else {
        return Ok(());
    };
    let kind = meta.file_type();
    let passthrough = matches!(engine, BlockEngine::IoUringCmd(_));
    let name = target.display();
    if passthrough && !kind.is_char_device() {
        let found = if kind.is_block_device() {
            "a block device"
        } else {
            "a file"
        };
        return Err(format!(
            "{engine} sends NVMe commands to a namespace's character device, and {name} is {found}; give --target /dev/ng0n1 or the like, or --engine io_uring"
        ));
    }
    if !passthrough && kind.is_char_device() {
        return Err(format!(
            "{engine} reads and writes files and block devices, and {name} is a character device; give --engine io_uring_cmd"
        ));
    }
    if !engine.polled() {
        return Ok(());
    }
    if !passthrough && !direct {
        return Err(format!(
            "{engine} needs O_DIRECT, which the file system of {name} has not; name a target on another, or leave out +iopoll"
        ));
    }
    let queue = if kind.is_file() {
        queue(Path::new(SYS), "block", meta.dev())
    } else if passthrough {
        queue(Path::new(SYS), "char", meta.rdev())
    } else {
        queue(Path::new(SYS), "block", meta.rdev())
    };
    polls(queue.as_deref(), &format!("{engine}"), &name.to_string())
}

/// Whether a queue is polled, as far as the kernel says.
fn polls(queue: Option<&Path>, engine: &str, target: &str) -> Result<(), String> {
    let Some(queue) = queue else {
        // Nothing is known; the first completion tells (EOPNOTSUPP), and the device's interrupts.
        return Ok(());
    };
    match fs::read_to_string(queue.join("io_poll")) {
        Ok(text) if text.trim() == "0" => Err(format!(
            "{engine} needs a driver with queues to poll, and {} is 0 for {target}; load nvme with `nvme.poll_queues=4` on the kernel's command line, or leave out +iopoll",
            queue.join("io_poll").display()
        )),
        _ => Ok(()),
    }
}

/// The folder of a device's request queue: of the disk, when it is a partition; of the block device of the same namespace,
/// when it is an `ng` device. None where there is none, as for a file system without a device.
fn queue(sys: &Path, class: &str, device: u64) -> Option<PathBuf> {
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let at = fs::canonicalize(sys.join("dev").join(class).join(number)).ok()?;
    let disk = if class == "char" {
        let name = at.file_name()?.to_str()?.strip_prefix("ng")?;
        // The path `ng0n1` stands either beside the block device of its name, or in a folder of its own kind.
        at.ancestors()
            .skip(1)
            .map(|folder| folder.join(format!("nvme{name}")))
            .find(|disk| disk.join("queue").is_dir())?
    } else if at.join("partition").exists() {
        at.parent()?.to_owned()
    } else {
        at
    };
    let queue = disk.join("queue");
    queue.is_dir().then_some(queue)
}

/// The most that one command of the namespace behind an `ng` device moves: what the driver makes of its controller's MDTS
/// and of what can be mapped at once (`queue/max_hw_sectors_kb`).
pub(crate) fn most_transfer(device: u64) -> Option<Bytes> {
    most_transfer_in(Path::new(SYS), device)
}

fn most_transfer_in(sys: &Path, device: u64) -> Option<Bytes> {
    let text = fs::read_to_string(queue(sys, "char", device)?.join("max_hw_sectors_kb")).ok()?;
    let kib: u64 = text.trim().parse().ok()?;
    Some(Bytes::KIB * kib)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs with a disk nvme0n1 (259:0), its partition (259:1) and its character device ng0n1 (240:0).
    fn tree(io_poll: &str) -> tempfile::TempDir {
        let sys = tempfile::tempdir().expect("a folder");
        let at = |path: &str| sys.path().join(path);
        for folder in [
            "dev/block",
            "dev/char",
            "devices/nvme0/nvme0n1/queue",
            "devices/nvme0/nvme0n1/nvme0n1p1",
            "devices/nvme0/ng0n1",
        ] {
            fs::create_dir_all(at(folder)).expect("made");
        }
        fs::write(at("devices/nvme0/nvme0n1/queue/io_poll"), io_poll).expect("written");
        fs::write(at("devices/nvme0/nvme0n1/queue/max_hw_sectors_kb"), "128\n").expect("written");
        fs::write(at("devices/nvme0/nvme0n1/nvme0n1p1/partition"), "1\n").expect("written");
        for (link, to) in [
            ("dev/block/259:0", "devices/nvme0/nvme0n1"),
            ("dev/block/259:1", "devices/nvme0/nvme0n1/nvme0n1p1"),
            ("dev/char/240:0", "devices/nvme0/ng0n1"),
        ] {
            symlink(at(to), at(link)).expect("linked");
        }
        sys
    }

    #[test]
    fn disk_partition_and_character_device_have_one_queue() {
        let sys = tree("1\n");
        let expected = fs::canonicalize(sys.path().join("devices/nvme0/nvme0n1/queue")).ok();
        assert!(expected.is_some());
        for (class, device) in [
            ("block", libc::makedev(259, 0)),
            ("block", libc::makedev(259, 1)),
            ("char", libc::makedev(240, 0)),
        ] {
            assert_eq!(queue(sys.path(), class, device), expected, "{class}");
        }
        assert_eq!(queue(sys.path(), "block", libc::makedev(0, 42)), None);
        let ng = libc::makedev(240, 0);
        assert_eq!(most_transfer_in(sys.path(), ng), Some(Bytes(128 << 10)));
        assert_eq!(most_transfer_in(sys.path(), ng + 1), None);
    }

    #[test]
    fn a_queue_that_is_not_polled_is_refused_and_an_unknown_one_is_tried() {
        for (io_poll, good) in [("1\n", true), ("0\n", false)] {
            let sys = tree(io_poll);
            let found = queue(sys.path(), "block", libc::makedev(259, 1));
            let told = polls(found.as_deref(), "io_uring+iopoll", "/mnt/t.dat");
            assert_eq!(told.is_ok(), good, "{told:?}");
            if let Err(why) = told {
                assert!(
                    why.contains("nvme.poll_queues=") && why.contains("/mnt/t.dat"),
                    "{why}"
                );
            }
        }
        assert_eq!(polls(None, "io_uring+iopoll", "/mnt/t.dat"), Ok(()));
    }

    #[test]
    fn engine_and_kind_of_target_must_fit() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("t.dat");
        fs::write(&file, [0; 512]).expect("written");
        let told = |engine: &str, target: &Path, direct| {
            fits(engine.parse().expect("an engine"), target, direct)
        };
        assert_eq!(told("io_uring+registered", &file, true), Ok(()));
        for (engine, target, expected) in [
            (
                "io_uring_cmd",
                file.as_path(),
                "is a file; give --target /dev/ng0n1",
            ),
            ("psync", Path::new("/dev/null"), "--engine io_uring_cmd"),
            ("io_uring+iopoll", file.as_path(), "O_DIRECT"),
        ] {
            let why = told(engine, target, false).expect_err(expected);
            assert!(why.contains(expected), "{engine}: {why}");
        }
    }
}
