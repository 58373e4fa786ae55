//! The kernel proper out of what a distribution gives: a program that boots faster than the compressed one, which under
//! software emulation would spend half of its boot on unpacking itself.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Offsets in the head of a kernel image (the kernel's `Documentation/arch/x86/boot.rst`).
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: std::ops::Range<usize> = 0x202..0x206;
const PAYLOAD_AT: usize = 0x248;
const PAYLOAD_LEN: usize = 0x24c;

/// The compressed kernel within a `bzImage`, without the length that stands behind it.
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(MAGIC)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let sectors = match *image.get(SETUP_SECTORS)? {
        0 => 4,
        n => usize::from(n),
    };
    let from = (sectors + 1) * 512 + word(PAYLOAD_AT)?;
    image.get(from..from.checked_add(word(PAYLOAD_LEN)?)?.checked_sub(4)?)
}

/// Unpacks the kernel in `image` with `unpack`, a program that reads xz on its standard input.
pub(super) fn unpack(image: &Path, unpack: &mut Command) -> Result<Vec<u8>> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let Some(payload) = payload(&bytes) else {
        bail!("{} is no x86 kernel image", image.display());
    };
    if !payload.starts_with(b"\xfd7zXZ\0") {
        bail!(
            "the kernel in {} is not compressed by xz, as Debian 12's is",
            image.display()
        );
    }
    let mut child = unpack
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start xz to unpack the kernel")?;
    let mut input = child.stdin.take().context("no pipe")?;
    let unpacked = std::thread::scope(|scope| {
        scope.spawn(move || {
            // What goes wrong here is seen in what comes out.
            let _ = input.write_all(payload);
        });
        child.wait_with_output()
    })?;
    if !unpacked.stdout.starts_with(b"\x7fELF") {
        bail!("unpacking {} gave no kernel", image.display());
    }
    Ok(unpacked.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_found_and_a_liar_is_not_followed() {
        let mut image = vec![0; 0x400];
        image[SETUP_SECTORS] = 1;
        image[MAGIC].copy_from_slice(b"HdrS");
        image[PAYLOAD_AT..PAYLOAD_AT + 4].copy_from_slice(&16_u32.to_le_bytes());
        image[PAYLOAD_LEN..PAYLOAD_LEN + 4].copy_from_slice(&9_u32.to_le_bytes());
        image.extend([0; 16]);
        image.extend(b"kernel\0\0\0");
        assert_eq!(payload(&image), Some(&b"kerne"[..]));
        for len in [3_u32, 14, u32::MAX] {
            image[PAYLOAD_LEN..PAYLOAD_LEN + 4].copy_from_slice(&len.to_le_bytes());
            assert_eq!(payload(&image), None, "{len}");
        }
        image[MAGIC].copy_from_slice(b"PNG!");
        assert_eq!(payload(&image), None);
    }
}
