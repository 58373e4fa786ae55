//! The host's C library, for a guest whose own is older: what was built here may need what only a newer one has, while Debian's
//! programs run by a newer one as well. It is taken whole, since its parts fit only each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where Debian has it.
const DEBIAN: &str = "lib/x86_64-linux-gnu";

/// What belongs together; which of them there are depends on the release.
const PARTS: [&str; 16] = [
    "libBrokenLocale.so.1",
    "libanl.so.1",
    "libc.so.6",
    "libc_malloc_debug.so.0",
    "libdl.so.2",
    "libm.so.6",
    "libmvec.so.1",
    "libnsl.so.1",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libnss_hesiod.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// The loader, at the path that every program names (System V ABI, AMD64 supplement, §5.2.1).
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Puts this process's C library into `folder`, where it is newer than that of the guest's `root`.
///
/// # Errors
/// A file cannot be read or copied.
pub(super) fn hand_over(root: &Path, folder: &Path) -> Result<()> {
    let maps = fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps")?;
    match loaded(&maps) {
        Some(library) => copy(&library, Path::new(LOADER), &root.join(DEBIAN), folder),
        // It has none that is loaded, and neither has what was built with it.
        None => Ok(()),
    }
}

/// The C library among what a process has mapped (proc_pid_maps(5)).
fn loaded(maps: &str) -> Option<PathBuf> {
    let paths = maps
        .lines()
        .filter_map(|line| Some(&line[line.find('/')?..]));
    paths
        .filter(|path| path.ends_with("/libc.so.6"))
        .map(PathBuf::from)
        .next()
}

fn copy(library: &Path, loader: &Path, guests: &Path, folder: &Path) -> Result<()> {
    let version = |path: &Path| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok::<_, anyhow::Error>(newest(&bytes))
    };
    if version(library)? <= version(&guests.join("libc.so.6"))? {
        return Ok(());
    }
    let beside = library.parent().unwrap_or(Path::new("/"));
    let parts = PARTS.iter().map(|name| beside.join(name));
    let parts = parts.filter(|path| path.exists());
    fs::create_dir(folder)?;
    for path in parts.chain([loader.to_owned()]) {
        let name = path.file_name().context("a file has a name")?;
        fs::copy(&path, folder.join(name))
            .with_context(|| format!("cannot copy {} for the guest", path.display()))?;
    }
    Ok(())
}

/// The newest version of the 2nd major one whose symbols a library has, by the names of its string table: 36 is 2.36.
fn newest(library: &[u8]) -> Option<u32> {
    let names = library.split(|byte| *byte == 0);
    names
        .filter_map(|name| {
            let version = std::str::from_utf8(name.strip_prefix(b"GLIBC_2.")?).ok()?;
            version.split('.').next()?.parse().ok()
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_library_is_taken_whole_and_an_older_one_not_at_all() {
        let all = tempfile::tempdir().expect("a folder");
        let at = |name: &str| all.path().join(name);
        let library = |folder: &str, newest: u32| {
            fs::create_dir(at(folder)).expect("made");
            let text = format!("x\0GLIBC_2.2.5\0GLIBC_2.{newest}\0GLIBC_2.9\0GLIBC_PRIVATE\0");
            fs::write(at(folder).join("libc.so.6"), text).expect("written");
        };
        library("ubuntu/", 39);
        library("old/", 31);
        library("debian/", 36);
        for name in ["ubuntu/libm.so.6", "ubuntu/libother.so.1", "loader.so.2"] {
            fs::write(at(name), name).expect("written");
        }
        let given = |from: &str| {
            let folder = at("given");
            let library = at(from).join("libc.so.6");
            copy(&library, &at("loader.so.2"), &at("debian"), &folder).expect("copied");
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert!(given("old").is_empty());
        assert!(given("debian").is_empty());
        assert_eq!(given("ubuntu"), ["libc.so.6", "libm.so.6", "loader.so.2"]);
    }

    #[test]
    fn the_library_is_found_among_what_is_mapped() {
        let maps = "7f00-7f01 r--p 00000000 08:01 12    /usr/lib/x86_64-linux-gnu/libm.so.6\n\
                    7f02-7f03 r-xp 00000000 08:01 13    /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7ffe-7fff rw-p 00000000 00:00 0     [stack]\n";
        let found = loaded(maps).expect("there");
        assert_eq!(found, Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert_eq!(loaded("7ffe-7fff rw-p 00000000 00:00 0 [stack]\n"), None);
    }
}
