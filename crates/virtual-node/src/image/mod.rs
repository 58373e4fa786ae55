//! What a guest boots: Debian 12's kernel and programs, fetched once with apt and unpacked without being installed.
//!
//! The kernel's first root is small: a shell and what it takes to mount the rest, which is a folder of this machine.

mod apt;
mod cpio;
mod kernel;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};

pub(crate) use apt::NotFetched;
use apt::fetch;
use cpio::Archive;

/// Of their files, what no test needs and takes time to unpack.
const LEFT_OUT: [&str; 9] = [
    "./usr/share/doc",
    "./usr/share/locale",
    "./usr/share/man",
    "./lib/modules/*/kernel/drivers/gpu",
    "./lib/modules/*/kernel/drivers/media",
    "./lib/modules/*/kernel/drivers/net/ethernet",
    "./lib/modules/*/kernel/drivers/net/wireless",
    "./lib/modules/*/kernel/drivers/staging",
    "./lib/modules/*/kernel/sound",
];

/// Modules that are loaded before there is a root to load others from.
const EARLY: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The distribution that the guest is of.
const SUITE: &str = "bookworm";

/// Changed when an image made by an older version is of no use any more.
const FORMAT: &str = "4";

/// A guest's kernel and its files, on this machine.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
    /// While it is held by any process, none removes the image.
    _in_use: Arc<Flock<File>>,
}

/// The last file that is made.
const LAST: &str = "initrd";

/// How folders begin in which an image is being made.
const MAKING: &str = "making-";

impl Image {
    /// The image, made if there is none: some 140 MB are fetched, once. `say` is told what takes time.
    ///
    /// # Errors
    /// There is no apt here, it cannot fetch, or there is no room.
    pub fn ready(say: &mut dyn FnMut(&str)) -> Result<Image> {
        let cache = cache()?;
        let folder = cache.join(format!("{SUITE}-{FORMAT}"));
        if let Some(image) = Image::open(&folder)? {
            return Ok(image);
        }
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        // Of two processes one makes it, and the other waits.
        let lock = File::create(cache.join("lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, e)| e)
            .context("cannot wait for another process that makes the guest's image")?;
        if let Some(image) = Image::open(&folder)? {
            return Ok(image);
        }
        say("fetching a kernel and programs for the virtual node (Debian 12, some 140 MB, once)");
        let _ = fs::remove_dir_all(&folder);
        clear(&cache);
        let making = tempfile::Builder::new()
            .prefix(MAKING)
            .tempdir_in(&cache)
            .context("cannot make the guest's image")?;
        make(making.path()).with_context(|| {
            format!(
                "cannot make the virtual node's image in {}",
                cache.display()
            )
        })?;
        fs::rename(making.keep(), &folder)?;
        Image::open(&folder)?.context("the guest's image was removed as soon as it was made")
    }

    /// The image in a folder, if it is whole.
    fn open(folder: &Path) -> Result<Option<Image>> {
        let Ok(file) = File::open(folder) else {
            return Ok(None);
        };
        let in_use = Flock::lock(file, FlockArg::LockShared)
            .map_err(|(_, e)| e)
            .with_context(|| format!("cannot lock {}", folder.display()))?;
        // By now it may have been removed.
        Ok(folder.join(LAST).exists().then(|| Image {
            folder: folder.to_owned(),
            _in_use: Arc::new(in_use),
        }))
    }

    /// The kernel proper.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Its first root.
    pub fn initrd(&self) -> PathBuf {
        self.folder.join(LAST)
    }

    /// The folder that it mounts as its root.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The kernel's release.
    ///
    /// # Errors
    /// The image is damaged.
    pub fn release(&self) -> Result<String> {
        release(&self.root())
    }
}

/// Where images are kept: STRATA_NODE_CACHE, or a folder of the user's cache.
pub(crate) fn cache() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(folder) = var("STRATA_NODE_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let cache = var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&var("HOME")?).join(".cache")))
        .ok_or_else(|| anyhow!("there is no HOME; say where the virtual node's image is to be kept by STRATA_NODE_CACHE"))?;
    Ok(cache.join("strata").join("virtual-node"))
}

/// Removes images of older versions that nobody uses, and what was left of one that was not finished. Only under the lock:
/// whoever else is making one is gone.
fn clear(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let format = name.strip_prefix(SUITE).and_then(|n| n.strip_prefix('-'));
        let is_image = format.is_some_and(|n| n.parse::<u32>().is_ok());
        if !is_image && !name.starts_with(MAKING) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        if let Ok(_unused) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // What cannot be removed only takes room.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn make(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir(&root)?;
    let packages = folder.join("packages");
    fetch(&packages)?;
    let mut found: Vec<PathBuf> = fs::read_dir(&packages)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    found.sort();
    for package in &found {
        unpack(package, &root)?;
    }
    fs::remove_dir_all(&packages)?;
    let release = release(&root)?;
    if !release.starts_with("6.1.") {
        bail!(
            "apt gave a kernel {release} where Debian 12's 6.1 was expected; look at this machine's apt sources"
        );
    }
    run(own(&root, "depmod", "bin/kmod")
        .arg("-b")
        .arg(&root)
        .arg(&release))?;
    link_programs(&root)?;
    let image = root.join(format!("boot/vmlinuz-{release}"));
    let kernel = kernel::unpack(&image, own(&root, "xz", "usr/bin/xz").arg("-dc"))?;
    fs::write(folder.join("vmlinux"), kernel)?;
    fs::remove_dir_all(root.join("boot"))?;
    let initrd = first_root(&root, &release)?;
    File::create(folder.join(LAST))?.write_all(&initrd)?;
    Ok(())
}

/// Runs a program, and tells what it said where it fails.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow!("there is no {name} here, by which a guest's Debian is fetched and unpacked; use a machine with Debian or Ubuntu")
        }
        _ => anyhow!("cannot start {name}: {e}"),
    })?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    bail!(
        "{name} ended with {}: {}",
        out.status,
        last.into_iter().rev().collect::<Vec<_>>().join("; ")
    );
}

fn unpack(package: &Path, root: &Path) -> Result<()> {
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| anyhow!("cannot start dpkg-deb: {e}"))?;
    let files = reader.stdout.take().context("no pipe")?;
    let mut tar = Command::new("tar");
    tar.arg("-x").arg("-C").arg(root);
    tar.args(["--no-same-owner", "--wildcards"]);
    tar.args(LEFT_OUT.map(|path| format!("--exclude={path}")));
    let unpacked = tar.stdin(files).output().context("cannot start tar")?;
    let read = reader.wait()?;
    if !read.success() || !unpacked.status.success() {
        bail!(
            "cannot unpack {}: {}",
            package.display(),
            String::from_utf8_lossy(&unpacked.stderr).trim()
        );
    }
    Ok(())
}

/// The release of the one kernel there is.
fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let first = fs::read_dir(&modules)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .ok_or_else(|| anyhow!("there is no kernel in {}", modules.display()))?;
    Ok(first.file_name().to_string_lossy().into_owned())
}

/// A program of the guest's, run here with its own libraries: this machine need not have it.
fn own(root: &Path, name: &str, path: &str) -> Command {
    let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
        .map(|folder| root.join(folder).display().to_string())
        .join(":");
    // Not by its name in lib64, a link that leads to this machine's own.
    let mut program = Command::new(root.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
    program
        .args(["--argv0", name, "--library-path", &libraries])
        .arg(root.join(path));
    program
}

/// Names for what busybox can do, in a folder that comes last in the guest's PATH.
fn link_programs(root: &Path) -> Result<()> {
    let listed = Command::new(root.join("bin/busybox"))
        .arg("--list")
        .output()?;
    let folder = root.join("opt/busybox");
    fs::create_dir_all(&folder)?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        std::os::unix::fs::symlink("/bin/busybox", folder.join(name))?;
    }
    Ok(())
}

/// What the kernel unpacks: a shell, the early modules in the order in which they can be loaded, and what mounts the rest.
fn first_root(root: &Path, release: &str) -> Result<Vec<u8>> {
    let modules = root.join("lib/modules").join(release);
    let index = fs::read_to_string(modules.join("modules.dep"))?;
    let mut archive = Archive::default();
    for folder in [
        "bin", "dev", "lower", "modules", "new", "proc", "sys", "upper",
    ] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", &fs::read(root.join("bin/busybox"))?);
    archive.file("init", include_bytes!("../guest/first.sh"));
    let mut order = String::new();
    for path in load_order(&index, &EARLY)? {
        let name = path.rsplit('/').next().unwrap_or(path);
        archive.file(&format!("modules/{name}"), &fs::read(modules.join(path))?);
        order.push_str(name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}

/// The files of modules and of what they need, each behind what it needs (modules.dep(5): these are listed last first).
fn load_order<'a>(index: &'a str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let mut order: Vec<&str> = Vec::new();
    for module in wanted {
        let (path, needs) = index
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| path.ends_with(&format!("/{module}.ko")))
            .ok_or_else(|| anyhow!("the kernel has no module {module}"))?;
        for file in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&file) {
                order.push(file);
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_behind_what_it_needs() {
        let index = "a/one.ko: b/two.ko b/three.ko\nb/two.ko: b/three.ko\nb/three.ko:\nc/four.ko: b/two.ko b/three.ko\n";
        let order = load_order(index, &["one", "four"]).expect("all there");
        assert_eq!(order, ["b/three.ko", "b/two.ko", "a/one.ko", "c/four.ko"]);
        assert!(load_order(index, &["five"]).is_err());
    }

    #[test]
    fn old_images_and_remains_are_removed_and_what_is_in_use_or_not_ours_is_not() {
        let cache = tempfile::tempdir().expect("a folder");
        let at = |name: &str| cache.path().join(name);
        for name in ["bookworm-1", "bookworm-2", "bookworm-backports", "making-x"] {
            fs::create_dir(at(name)).expect("made");
            fs::write(at(name).join(LAST), "").expect("written");
        }
        fs::write(at("kvm"), "").expect("written");
        let used = Image::open(&at("bookworm-2")).expect("locked");
        assert!(used.is_some());
        clear(cache.path());
        let left = |name: &str| at(name).exists();
        assert!(!left("bookworm-1") && !left("making-x"));
        assert!(left("bookworm-2") && left("bookworm-backports") && left("kvm"));
        drop(used);
        clear(cache.path());
        assert!(!left("bookworm-2"));
        assert!(
            Image::open(&at("bookworm-2"))
                .expect("nothing there")
                .is_none()
        );
    }
}
