//! ZFS' labels.

use super::{Ends, Found, Kind};

/// A label's size (OpenZFS, include/sys/vdev_impl.h, `struct vdev_label`); two lie at the start, two at the end.
const LABEL: u64 = 256 << 10;

/// Where the list of names and values begins in a label, after 8 KiB blank and 8 KiB of boot header.
const LIST: u64 = 16 << 10;

/// Where the ring of uberblocks begins in a label; a block has 1 KiB at least.
const RING: u64 = 128 << 10;

/// UBERBLOCK_MAGIC, include/sys/uberblock_impl.h.
const UBERBLOCK: u64 = 0x00ba_b10c;

/// A label is told by an uberblock in either byte order, or by its list, which a spare or a cache has without any.
pub(super) fn find(ends: &Ends<'_>, found: &mut Found) {
    let whole = ends.size.0 / LABEL * LABEL;
    let places = [
        (Some(0), 0),
        (Some(LABEL), 1),
        (whole.checked_sub(2 * LABEL), 2),
        (whole.checked_sub(LABEL), 3),
    ];
    for (at, number) in places {
        let Some(at) = at else { continue };
        if found
            .0
            .iter()
            .any(|one| one.name == "zfs_member" && one.at.0 == at)
        {
            continue;
        }
        let is_magic = |at| ends.le64(at) == Some(UBERBLOCK) || ends.be64(at) == Some(UBERBLOCK);
        let uberblocks = (at + RING..at + LABEL)
            .step_by(1 << 10)
            .filter(|at| is_magic(*at))
            .count();
        // An XDR list (RFC 4506) opens with its encoding, its version and flags, and the sizes of its first pair, whose name is
        // `version` of seven letters.
        let list = ends.has(at + LIST + 20, b"\0\0\0\x07version");
        if uberblocks > 0 || list {
            found.add(
                Kind::Member,
                "zfs_member",
                at,
                format!("label {number} with {uberblocks} uberblocks"),
            );
        }
    }
}
