//! Debian's packages, fetched by this machine's apt.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{SUITE, run};

/// What a guest has beside the kernel; what these need comes along.
const PACKAGES: [&str; 16] = [
    "linux-image-amd64",
    "bash",
    "busybox-static",
    "e2fsprogs",
    "fio",
    "ibverbs-providers",
    "ibverbs-utils",
    "iproute2",
    "kmod",
    "libibverbs1",
    "librdmacm1",
    "numactl",
    "nvme-cli",
    "perftest",
    "rdmacm-utils",
    "xz-utils",
];

/// The packages cannot be had: this machine's network is to blame, and no fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch the guest's packages")]
pub(crate) struct NotFetched;

/// Fetches the packages and all that they need into `packages`, as if nothing were installed, and nothing is.
pub(super) fn fetch(packages: &Path) -> Result<()> {
    let state = packages.join("state");
    fs::create_dir_all(state.join("lists/partial"))?;
    fs::create_dir_all(packages.join("partial"))?;
    fs::write(state.join("status"), "")?;
    let mut options = vec![
        format!("Dir::State={}", state.display()),
        format!("Dir::State::status={}", state.join("status").display()),
        format!("Dir::State::lists={}", state.join("lists").display()),
        format!("Dir::Cache={}", state.display()),
        format!("Dir::Cache::archives={}", packages.display()),
        "APT::Architecture=amd64".to_owned(),
        "APT::Install-Recommends=false".to_owned(),
        // So that it need not be root, nor hand its files to another user.
        "APT::Sandbox::User=".to_owned(),
        "Debug::NoLocking=true".to_owned(),
    ];
    if !is_same_suite() {
        let sources = state.join("sources.list");
        fs::write(&sources, sources_of_our_own())?;
        options.push(format!("Dir::Etc::SourceList={}", sources.display()));
        options.push("Dir::Etc::SourceParts=/dev/null".to_owned());
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.arg("-qq")
            .arg("-y")
            .env("DEBIAN_FRONTEND", "noninteractive");
        for option in &options {
            apt.arg("-o").arg(option);
        }
        apt.args(arguments).stdin(Stdio::null());
        apt
    };
    // A list that cannot be fetched, a third party's say, may not matter; what is lacking then is told.
    let updated = run(apt(&["update"]).args(["-o", "APT::Update::Error-Mode=any"]));
    let mut install = apt(&["install", "--download-only"]);
    let installed = run(install.args(PACKAGES));
    match (installed, updated) {
        (Err(why), Err(before)) => Err(why.context(format!("{before:#}"))),
        (installed, _) => installed,
    }
    .context(NotFetched)
}

/// Whether this machine's own sources are of the guest's distribution.
fn is_same_suite() -> bool {
    if std::env::var_os("STRATA_DEBIAN_MIRROR").is_some() {
        return false;
    }
    fs::read_to_string("/etc/os-release").is_ok_and(|text| {
        text.lines()
            .any(|l| l == format!("VERSION_CODENAME={SUITE}"))
    })
}

/// Debian's public mirror, or that of STRATA_DEBIAN_MIRROR.
fn sources_of_our_own() -> String {
    let mirror = std::env::var("STRATA_DEBIAN_MIRROR")
        .unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned());
    let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    format!("deb {signed} {mirror} {SUITE} main\n")
}
