//! Attributes below a root.

use std::fs;
use std::io::{self, ErrorKind};

use strata_topology::Root;

/// A file's text without the blanks round it; `None` where it is absent.
pub(crate) fn text(root: &Root, path: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(root.path().join(path)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(why) if is_absent(&why) => Ok(None),
        Err(why) => Err(why),
    }
}

/// The last name of a link's target; `None` where there is no link.
pub(crate) fn link(root: &Root, path: &str) -> io::Result<Option<String>> {
    match fs::read_link(root.path().join(path)) {
        Ok(target) => Ok(target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
        Err(why) if is_absent(&why) => Ok(None),
        Err(why) => Err(why),
    }
}

/// The names in a folder, sorted; none where it is absent.
pub(crate) fn names(root: &Root, folder: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root.path().join(folder)) {
        Err(why) if is_absent(&why) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether something is there.
pub(crate) fn exists(root: &Root, path: &str) -> bool {
    root.path().join(path).exists()
}

fn is_absent(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
