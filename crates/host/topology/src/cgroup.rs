//! Where the process's control groups are (cgroups(7)).

use crate::mounts::Mount;
use crate::root::Reader;

/// The longest path, PATH_MAX of Linux.
const LONGEST: usize = 4096;

/// The path in `/proc/self/cgroup` of the hierarchy whose controllers satisfy `is`.
fn path_of(reader: &Reader, is: impl Fn(&str) -> bool) -> Option<String> {
    let text = reader.text("proc/self/cgroup")?;
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is(controllers).then(|| path.to_owned())
    })
}

/// The process's group of version 1 that has `controller`, and those above it, its own first; empty when there is none.
pub(crate) fn of_version_1(reader: &Reader, mounts: &[Mount], controller: &str) -> Vec<String> {
    let path = path_of(reader, |controllers| {
        controllers.split(',').any(|c| c == controller)
    });
    let mount = mounts.iter().find(|m| {
        let by_itself = m.kind == "cpuset" && controller == "cpuset";
        by_itself || (m.kind == "cgroup" && m.has(controller))
    });
    let path = path.or_else(|| (controller == "cpuset").then(|| cpuset(reader))?);
    found(mount, path)
}

/// The process's group of version 2 and those above it, its own first; empty when there is none.
pub(crate) fn of_version_2(reader: &Reader, mounts: &[Mount]) -> Vec<String> {
    let path = path_of(reader, str::is_empty).or_else(|| cpuset(reader));
    found(mounts.iter().find(|m| m.kind == "cgroup2"), path)
}

/// Where the other file was not recorded.
fn cpuset(reader: &Reader) -> Option<String> {
    reader.word("proc/self/cpuset")
}

fn found(mount: Option<&Mount>, path: Option<String>) -> Vec<String> {
    let found = mount.zip(path);
    found.map_or_else(Vec::new, |(mount, path)| folders(&mount.point, &path))
}

/// A group's folder below the mount of its hierarchy and those above it, its own first.
fn folders(mount: &str, path: &str) -> Vec<String> {
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
