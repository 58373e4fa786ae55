//! A storage node in a QEMU guest: NVMe drives, an IOMMU, memory nodes and a wire under the real drivers of Linux, on any
//! machine, with or without hardware virtualisation.
//!
//! From below: an [`Image`] is what a guest boots, fetched once; a [`Description`] says what it is made of; a [`Guest`] runs
//! scripts; [`on`] runs an ordinary test within one, and [`Node`] is what that test finds there. Figures of such a guest
//! tell what works, and nothing of speed.

#![forbid(unsafe_code)]

mod description;
mod guest;
mod harness;
mod image;
mod inside;
mod qemu;
mod qmp;

pub use description::{Description, DescriptionError, Drive, MemoryNode, Wire};
pub use guest::{Guest, Ran, SOFT_ROCE, Seen, WIRE, shell};
pub use harness::{image_or_skip, on};
pub use image::Image;
pub use inside::{Node, is_inside};
pub use qemu::Share;

/// The descriptions that come along, by name.
pub const NODES: &[(&str, &str)] = &[
    ("usual", include_str!("../nodes/usual.toml")),
    ("four", include_str!("../nodes/four.toml")),
    ("wire", include_str!("../nodes/wire.toml")),
    ("verbs", include_str!("../nodes/verbs.toml")),
];

/// The description of a name, or of a file that ends in `.toml`.
///
/// # Errors
/// There is none of that name, or the file cannot be read or understood.
pub fn description(name: &str) -> anyhow::Result<Description> {
    use anyhow::Context as _;
    if let Some((_, text)) = NODES.iter().find(|(known, _)| *known == name) {
        return Ok(Description::parse(text)?);
    }
    if !name.ends_with(".toml") {
        let known: Vec<&str> = NODES.iter().map(|(name, _)| *name).collect();
        anyhow::bail!(
            "there is no node {name}; expected {}, or a file that ends in .toml",
            known.join(", ")
        );
    }
    let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
    Description::parse(&text).with_context(|| name.to_owned())
}

/// Why there can be no virtual node here, if so. Within one nothing is lacking.
pub fn lacking() -> Option<String> {
    if is_inside() {
        return None;
    }
    // Its programs are this machine's.
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Some(format!(
            "the virtual node is an x86_64 Linux that runs what was built here, which is for {} and {}",
            std::env::consts::ARCH,
            std::env::consts::OS
        ));
    }
    let lacks = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let missing: Vec<&str> = [qemu::QEMU, "setpriv", "apt-get", "dpkg-deb"]
        .into_iter()
        .filter(|program| lacks(program))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the virtual node needs {}; `make virtual-node` installs it where there is apt",
            missing.join(", ")
        )
    })
}
