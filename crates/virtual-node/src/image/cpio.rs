//! The archive that the kernel unpacks into its first root: cpio's `newc` form, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` tells it.

/// An archive in the making.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

impl Archive {
    /// Adds an empty folder.
    pub(super) fn folder(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    /// Adds a file that may be executed.
    pub(super) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE, content);
    }

    /// The whole, ended.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size =
            u32::try_from(content.len()).expect("a file of the first root has less than 4 GiB");
        let length = u32::try_from(name.len() + 1).expect("names are short");
        // inode, mode, uid, gid, links, mtime, size, device and special device (major, minor each), name's length, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        let whole = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(whole, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_contents_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.file("init", b"#!/bin/sh\n");
        let bytes = archive.finish();
        let heads: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter_map(|(at, w)| (w == b"070701").then_some(at))
            .collect();
        assert_eq!(heads.len(), 3);
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
        let content = bytes
            .windows(10)
            .position(|w| w == b"#!/bin/sh\n")
            .expect("there");
        // A header has 110 bytes, the name 5.
        assert_eq!(content, (heads[1] + 110 + 5).next_multiple_of(4));
        assert_eq!(&bytes[heads[1] + 54..heads[1] + 62], b"0000000a");
    }
}
