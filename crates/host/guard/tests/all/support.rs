//! Images, tools and loop devices.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

use strata_guard::{Ends, FIRST, LAST, signatures};
use strata_units::Bytes;

/// The names that we give to an image, sorted, each once.
pub(crate) fn names(image: &Path) -> Vec<&'static str> {
    let mut file = File::open(image).expect("an image");
    let size = file.metadata().expect("its length").len();
    let mut first = Vec::new();
    file.by_ref()
        .take(FIRST.0)
        .read_to_end(&mut first)
        .expect("its start");
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(LAST.0)))
        .expect("its end");
    file.read_to_end(&mut last).expect("its end");
    let found = signatures(&Ends {
        first: &first,
        last: &last,
        size: Bytes(size),
        logical_block: Bytes(512),
    });
    let mut names: Vec<_> = found.iter().map(|signature| signature.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What libblkid recognises: a content and a partition table; `None` where there is no blkid(8).
pub(crate) fn blkid(image: &Path) -> Option<Vec<String>> {
    let out = Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(image)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let value = |line: &str| {
        line.strip_prefix("TYPE=")
            .or_else(|| line.strip_prefix("PTTYPE="))
            .map(str::to_owned)
    };
    Some(text.lines().filter_map(value).collect())
}

/// Whether one of our names is what libblkid tells. It takes a boot sector of a file system for an empty partition table as
/// well, and has more exact names for both parts of scoutfs.
pub(crate) fn agrees(ours: &[&str], told: &str) -> bool {
    let boots = ["vfat", "ntfs", "exfat", "BitLocker"];
    ours.contains(&told)
        || told == "dos" && ours.iter().any(|name| boots.contains(name))
        || told.starts_with("scoutfs_") && ours.contains(&"scoutfs")
}

/// Runs a line of shell with `$IMG` set; its output where it fails.
pub(crate) fn shell(line: &str, image: &Path) -> Result<(), String> {
    let out = Command::new("sh")
        .args(["-c", line])
        .env("IMG", image)
        .env("PATH", path())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    out.status.success().then_some(()).ok_or(text)
}

/// Where tools for file systems lie, which is not on every user's path.
fn path() -> String {
    format!(
        "{}:/usr/local/sbin:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    path()
        .split(':')
        .any(|folder| Path::new(folder).join(program).is_file())
}
