//! Where the process's control groups are (cgroups(7)).

use crate::mounts::Mount;
use crate::root::Reader;

/// The longest path, PATH_MAX of Linux.
const LONGEST: usize = 4096;

/// The path in `/proc/self/cgroup` of the hierarchy whose controllers satisfy `is`.
pub(crate) fn path_of(reader: &Reader, is: impl Fn(&str) -> bool) -> Option<String> {
    let text = reader.text("proc/self/cgroup")?;
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is(controllers).then(|| path.to_owned())
    })
}

pub(crate) fn v1_path(reader: &Reader) -> Option<String> {
    path_of(reader, |controllers| {
        controllers.split(',').any(|c| c == "cpuset")
    })
    .or_else(|| reader.word("proc/self/cpuset"))
}

pub(crate) fn v2_path(reader: &Reader) -> Option<String> {
    path_of(reader, str::is_empty).or_else(|| reader.word("proc/self/cpuset"))
}

pub(crate) fn v1_mount(mounts: &[Mount]) -> Option<&str> {
    let mount = mounts
        .iter()
        .find(|m| m.kind == "cpuset" || (m.kind == "cgroup" && m.has("cpuset")))?;
    Some(&mount.point)
}

pub(crate) fn v2_mount(mounts: &[Mount]) -> Option<&str> {
    let mount = mounts.iter().find(|m| m.kind == "cgroup2")?;
    Some(&mount.point)
}

/// A group's folder below the mount of its hierarchy and those above it, its own first.
pub(crate) fn folders(mount: &str, path: &str) -> Vec<String> {
    let mount = mount.trim_matches('/');
    // Longer ones are no paths, and each level of one is a string.
    let mut group = Some(path.trim_matches('/'))
        .filter(|path| path.len() < LONGEST)
        .unwrap_or_default();
    let mut folders = Vec::new();
    loop {
        folders.push(format!("{mount}/{group}").trim_matches('/').to_owned());
        if group.is_empty() {
            return folders;
        }
        group = group.rsplit_once('/').map_or("", |(above, _)| above);
    }
}
