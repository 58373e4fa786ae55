//! What a guest has of its own on this machine: a folder with its sockets and drives, and the scripts that it is told by.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{SOFT_ROCE, Seen, libc};
use crate::image::Image;
use crate::qemu::{DISK, tag};

/// A folder for one guest's sockets, drives and scripts. Those of processes that are gone are removed.
pub(super) fn folder() -> Result<TempDir> {
    let all = std::env::temp_dir();
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name
            .strip_prefix(FOLDER)
            .and_then(|rest| rest.split('-').next())
        else {
            continue;
        };
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{FOLDER}{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&all)
        .with_context(|| format!("cannot make a folder for a guest in {}", all.display()))
}

const FOLDER: &str = "strata-node-";

/// Where a guest finds a C library that it is to run by instead of its own.
const LIBRARY: &str = "share/libc";

/// Makes the folder that is the guest's /strata.
pub(super) fn share(image: &Image, folder: &Path, first: &str) -> Result<()> {
    let share = folder.join("share");
    fs::create_dir(&share)?;
    fs::write(share.join("init"), first)?;
    libc::hand_over(&image.root(), &folder.join(LIBRARY))
}

/// A word of the shell's.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The guest's first script: what it is told, and what is the same for all.
pub(super) fn first_script(
    seen: &Seen,
    wire: Option<(&str, u16)>,
    soft_roce: bool,
    mode: &str,
    name: &str,
) -> String {
    let shares = seen.shares();
    let shares = shares.iter().enumerate().map(|(n, share)| {
        let mode = if share.writable {
            "rw,cache=none"
        } else {
            "ro,cache=loose"
        };
        format!("{} {mode} {}\n", tag(n), share.path.display())
    });
    let programs = seen
        .programs
        .iter()
        .map(|path| format!("{}\n", path.display()));
    let (address, mtu) = wire.map_or((String::new(), 0), |(a, mtu)| (format!("{a}/24"), mtu));
    let roce = if soft_roce { SOFT_ROCE } else { "" };
    format!(
        "SHARES={}\nPROGRAMS={}\nWIRE='{address}' MTU={mtu} ROCE={roce} MODE={mode} NAME={name}\n{}",
        quoted(&shares.collect::<String>()),
        quoted(&programs.collect::<String>()),
        include_str!("init.sh")
    )
}

/// Removes what only a guest that comes up needs: QEMU has opened the drives and the guest has taken what it runs by, so that
/// little is left where this process is killed.
pub(super) fn clear(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.path().extension().is_some_and(|e| e == DISK) {
            fs::remove_file(entry.path())?;
        }
    }
    let library = folder.join(LIBRARY);
    if library.exists() {
        fs::remove_dir_all(library)?;
    }
    Ok(())
}
