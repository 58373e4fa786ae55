//! The key that two hosts share, read from a file that nobody else can read.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::PeerError;

/// The least and the most bytes of a key: 128 bits in hexadecimal, and far more than anybody needs.
const LEAST: usize = 32;
const MOST: usize = 4096;

/// Fewer different bytes than this are a slip, such as a file of zeros: 32 random hexadecimal digits have fewer once in some
/// hundred thousand keys.
const DIFFERENT: usize = 8;

/// Why a file holds no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not to be read.
    #[error("cannot read the key file {}: {why}; make one with: (umask 077; openssl rand -hex 32 > {})", .path.display(), .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// No regular file.
    #[error("the key file {} is no regular file; give one", .0.display())]
    NoFile(PathBuf),
    /// Others can read it.
    #[error("the key file {} has mode {mode:04o}, so that others than its owner can use it; run: chmod 600 {}", .path.display(), .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too short or too long.
    #[error("the key file {} holds {found} bytes, expected {LEAST} to {MOST}; make one with: openssl rand -hex 32", .path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes found; above the most, one more than it.
        found: usize,
    },
    /// Easily guessed.
    #[error("the key file {} is made of {found} different bytes only, expected random ones; make one with: openssl rand -hex 32", .path.display())]
    Weak {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
    },
}

/// A number that nobody else knows, for what is measured of one trial.
///
/// # Errors
/// [`PeerError::System`] when the kernel gives no random bytes, see `getrandom(2)`.
pub fn secret() -> Result<u64, PeerError> {
    Ok(getrandom::u64().map_err(io::Error::from)?)
}

/// What both sides know and no stranger does. Never printed.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// Reads a key: text (its trailing white space left out) or any bytes, 32 to 4096 of them, in a regular file with no
    /// permission for group and others. Both sides need the same content. The limits of what may be read stand in the
    /// errors.
    ///
    /// # Errors
    /// [`KeyError`], with what to do.
    pub fn read(path: &Path) -> Result<Key, KeyError> {
        let unreadable = |why| KeyError::Unreadable {
            path: path.to_owned(),
            why,
        };
        // A pipe without a writer is told by its kind rather than waited for.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(unreadable)?;
        // Of what was opened, so that nothing can be exchanged in between.
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(KeyError::NoFile(path.to_owned()));
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        Key::taken_from(file, path)
    }

    fn taken_from(file: File, path: &Path) -> Result<Key, KeyError> {
        let mut bytes = Vec::new();
        file.take(MOST as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|why| KeyError::Unreadable {
                path: path.to_owned(),
                why,
            })?;
        // A line's end is an editor's, unless the bytes are no text at all.
        if bytes
            .iter()
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
        {
            bytes.truncate(bytes.trim_ascii_end().len());
        }
        if !(LEAST..=MOST).contains(&bytes.len()) {
            return Err(KeyError::Length {
                path: path.to_owned(),
                found: bytes.len(),
            });
        }
        let mut different = bytes.clone();
        different.sort_unstable();
        different.dedup();
        if different.len() < DIFFERENT {
            return Err(KeyError::Weak {
                path: path.to_owned(),
                found: different.len(),
            });
        }
        Ok(Key(bytes))
    }

    /// What two sides on one host use that were given none: everybody knows it, and so the frames are the same with and
    /// without a key.
    pub(crate) fn known() -> Key {
        Key(b"no key: loopback only".to_vec())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff";

    fn file(dir: &Path, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.join("key");
        let _ = fs::remove_file(&path);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        path
    }

    #[test]
    fn text_and_bytes_are_keys() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = |content: &[u8]| {
            Key::read(&file(dir.path(), content, 0o600)).map(|key| key.bytes().to_vec())
        };
        assert_eq!(read(HEX.as_bytes()).expect("a key"), HEX.as_bytes());
        let with_end = read(format!("{HEX}\r\n").as_bytes()).expect("a key");
        assert_eq!(with_end, HEX.as_bytes());
        // Its last byte is a line's end by chance, and counts.
        let raw: Vec<u8> = (0..31).map(|n| 200 + n).chain([b'\n']).collect();
        assert_eq!(read(&raw).expect("a key"), raw);
        let key = Key::read(&file(dir.path(), HEX.as_bytes(), 0o400)).expect("a key");
        assert_eq!(format!("{key:?}"), "Key");
        let link = dir.path().join("link");
        symlink(dir.path().join("key"), &link).expect("a link");
        Key::read(&link).expect("a link to a good file is as good");
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_remedy() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = |content: &[u8], mode| {
            Key::read(&file(dir.path(), content, mode))
                .expect_err("no key")
                .to_string()
        };
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let why = refused(HEX.as_bytes(), mode);
            assert!(
                why.contains("chmod 600") && why.contains(&format!("{mode:04o}")),
                "{why}"
            );
        }
        for (content, found) in [
            (b"".as_slice(), "holds 0 bytes"),
            (&HEX.as_bytes()[1..], "holds 31 bytes"),
            (
                &format!("{}  \n\n", &HEX[2..]).into_bytes(),
                "holds 30 bytes",
            ),
            (&[0; 64], "made of 1 different bytes"),
            (&[7; MOST + 9], "holds 4097 bytes"),
        ] {
            let why = refused(content, 0o600);
            assert!(why.contains(found), "{why}");
        }
        let of = |path: &Path| Key::read(path).expect_err("no key").to_string();
        assert!(of(dir.path()).contains("no regular file"));
        assert!(of(Path::new("/dev/zero")).contains("no regular file"));
        assert!(of(&dir.path().join("none")).contains("cannot read the key file"));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(of(&pipe).contains("no regular file"));
    }
}
