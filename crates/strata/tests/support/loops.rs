//! A loop device of its own for a test: a drive that may be lost.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::{root_or_skip, until};

/// A loop device over a file, until the end of the test. One test has one at a time: a device that one frees is the next
/// that another gets.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
    pub(crate) image: PathBuf,
    folder: TempDir,
    mounted: Option<PathBuf>,
    _alone: MutexGuard<'static, ()>,
}

impl Loop {
    /// A device of `size` bytes, nothing of which was written; `None`, said as a SKIP, where there is none to be had.
    pub(crate) fn sparse(test: &str, size: u64, flags: &[&str]) -> Option<Loop> {
        static ALONE: Mutex<()> = Mutex::new(());
        if !root_or_skip(test) {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder
            .path()
            .canonicalize()
            .expect("its path")
            .join("image");
        File::create(&image)
            .and_then(|file| file.set_len(size))
            .expect("an image");
        let mut losetup = Command::new("losetup");
        losetup.args(["-f", "--show"]).args(flags).arg(&image);
        let device = said(losetup)
            .map_err(|why| println!("SKIP {test}: losetup: {why}"))
            .ok()?;
        Some(Loop {
            device: PathBuf::from(device.trim()),
            image,
            folder,
            mounted: None,
            _alone: alone,
        })
    }

    /// One that somebody has written: no zeros, no signature.
    pub(crate) fn written(test: &str, size: u64) -> Option<Loop> {
        let it = Loop::sparse(test, size, &[])?;
        it.fill(size);
        Some(it)
    }

    /// Gives the device `size` bytes of somebody's data.
    pub(crate) fn fill(&self, size: u64) {
        let bytes: Vec<u8> = (1..=size / 8)
            .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        let mut image = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&self.image)
            .expect("ours");
        image.write_all(&bytes).expect("room");
        self.resized();
    }

    /// The path of the device as text.
    pub(crate) fn path(&self) -> &str {
        self.device.to_str().expect("text")
    }

    /// What is typed to lose what it holds.
    pub(crate) fn identity(&self) -> &str {
        self.image.to_str().expect("text")
    }

    /// A path in the folder of the image.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a line of shell on `$IMG`, the device; false, said as a SKIP, where it fails.
    pub(crate) fn shell(&self, test: &str, line: &str) -> bool {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("IMG", &self.device);
        said(shell)
            .map_err(|why| println!("SKIP {test}: `{line}`: {why}"))
            .is_ok()
    }

    /// Mounts it until the end of the test.
    pub(crate) fn mount(&mut self, test: &str) -> bool {
        let point = self.beside("mounted");
        fs::create_dir(&point).expect("a folder");
        let mut mount = Command::new("mount");
        mount.arg(&self.device).arg(&point);
        match said(mount) {
            Ok(_) => self.mounted = Some(point),
            Err(why) => println!("SKIP {test}: mount: {why}"),
        }
        self.mounted.is_some()
    }

    /// Takes away what is behind the device, as when a drive is pulled: not a byte is left of it.
    pub(crate) fn pull(&self) {
        let name = self.device.file_name().expect("a name");
        let size = Path::new("/sys/block").join(name).join("size");
        // A write between the two makes the file longer again.
        until("the drive is gone", || {
            OpenOptions::new()
                .write(true)
                .open(&self.image)
                .and_then(|file| file.set_len(0))
                .expect("ours");
            self.resized();
            let left = fs::read_to_string(&size).expect("a size");
            (left.trim() == "0").then_some(())
        });
    }

    fn resized(&self) {
        let mut losetup = Command::new("losetup");
        losetup.arg("-c").arg(&self.device);
        said(losetup).expect("its size is looked at again");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let run = |name: &str, arguments: &[&Path]| {
            let _ = Command::new(name).args(arguments).status();
        };
        if let Some(point) = &self.mounted {
            run("umount", &[point]);
        }
        run("losetup", &[Path::new("-d"), &self.device]);
    }
}

fn said(mut command: Command) -> Result<String, String> {
    let out = command.output().map_err(|e| e.to_string())?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).trim().to_owned())
    }
}
