//! Signatures whose magic is short, or shared by several formats: the fields round it decide.

use super::{Ends, Found, Kind};

pub(super) fn find(ends: &Ends<'_>, found: &mut Found) {
    ext(ends, found);
    fat(ends, found);
    gfs(ends, found);
    hfs(ends, found);
    minix(ends, found);
    nilfs(ends, found);
    lvm(ends, found);
    bcache(ends, found);
    drbd(ends, found);
    blobstore(ends, found);
}

/// `struct ext4_super_block` at 1 KiB (fs/ext4/ext4.h): magic ef53 and a possible block size.
fn ext(ends: &Ends<'_>, found: &mut Found) {
    const AT: u64 = 0x400;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// What Lustre's ldiskfs has beyond ext4's defaults (EXT4_FEATURE_INCOMPAT_DIRDATA).
    const DIRDATA: u32 = 0x1000;
    /// What ext3 knows: filetype, recover, meta_bg; sparse_super, large_file, btree_dir.
    const EXT3: (u32, u32) = (0x2 | 0x4 | 0x10, 0x1 | 0x2 | 0x4);
    if ends.le16(AT + 0x38) != Some(0xef53) || ends.le32(AT + 0x18).is_none_or(|log| log > 6) {
        return;
    }
    let word = |at| ends.le32(AT + at).unwrap_or(0);
    let (compat, incompat, ro_compat) = (word(0x5c), word(0x60), word(0x64));
    let name = if incompat & JOURNAL_DEVICE != 0 {
        "jbd"
    } else if incompat & !EXT3.0 != 0 || ro_compat & !EXT3.1 != 0 {
        "ext4"
    } else if compat & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    let label = ends.bytes(AT + 0x78, 16).unwrap_or_default();
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    let target = ["-OST", "-MDT", ":OST", ":MDT"];
    let label = String::from_utf8_lossy(label);
    let lustre =
        incompat & DIRDATA != 0 || label == "MGS" || target.iter().any(|part| label.contains(part));
    let why = match (lustre, label.is_empty()) {
        (true, _) => format!("magic ef53, label {label:?}: a Lustre target (ldiskfs)"),
        (false, true) => "magic ef53".to_owned(),
        (false, false) => format!("magic ef53, label {label:?}"),
    };
    found.add(Kind::FileSystem, name, AT, why);
}

/// A FAT boot sector (Microsoft's FAT specification §3): the jump, a sound parameter block and a name or the boot mark.
fn fat(ends: &Ends<'_>, found: &mut Found) {
    let named = [
        (0x52, &b"FAT32   "[..]),
        (0x52, b"MSWIN"),
        (0x36, b"FAT16   "),
        (0x36, b"FAT12   "),
        (0x36, b"FAT     "),
        (0x36, b"MSDOS"),
    ];
    let name = named.iter().find(|(at, text)| ends.has(*at, text));
    let jump = matches!(ends.u8(0), Some(0xeb | 0xe9));
    let sector = ends
        .le16(11)
        .is_some_and(|size| (512..=4096).contains(&size) && size.is_power_of_two());
    let cluster = ends.u8(13).is_some_and(u8::is_power_of_two);
    let tables =
        ends.le16(14).is_some_and(|reserved| reserved > 0) && matches!(ends.u8(16), Some(1 | 2));
    let media = matches!(ends.u8(21), Some(0xf0 | 0xf8..));
    let sound = sector && cluster && tables && media;
    if sound && (name.is_some() || jump && ends.has(510, &[0x55, 0xaa])) {
        let name = name.map_or(&b"boot sector"[..], |(_, text)| text);
        found.add(
            Kind::FileSystem,
            "vfat",
            0,
            format!(
                "a sound parameter block and \"{}\"",
                name.trim_ascii().escape_ascii()
            ),
        );
    }
}

/// GFS2_MAGIC in the superblock at 64 KiB (include/uapi/linux/gfs2_ondisk.h); the first GFS had format 1309.
fn gfs(ends: &Ends<'_>, found: &mut Found) {
    const AT: u64 = 0x1_0000;
    if ends.be32(AT) == Some(0x0116_1970) {
        let name = if ends.be32(AT + 24) == Some(1309) {
            "gfs"
        } else {
            "gfs2"
        };
        found.add(Kind::FileSystem, name, AT, "magic 01161970");
    }
}

/// HFS and HFS+ (Apple's TN1150): two letters at 1 KiB, with a version or a sound allocation block size.
fn hfs(ends: &Ends<'_>, found: &mut Found) {
    const AT: u64 = 0x400;
    let name = match (ends.bytes(AT, 2), ends.be16(AT + 2)) {
        (Some(b"H+"), Some(4)) | (Some(b"HX"), Some(5)) => "hfsplus",
        (Some(b"BD"), _) => {
            let size = ends.be32(AT + 0x14).unwrap_or(0);
            if size == 0 || !size.is_multiple_of(512) {
                return;
            }
            "hfs"
        }
        _ => return,
    };
    found.add(Kind::FileSystem, name, AT, "its two letters and version");
}

/// `struct minix_super_block` and its third version at 1 KiB (include/uapi/linux/minix_fs.h), in either byte order.
fn minix(ends: &Ends<'_>, found: &mut Found) {
    const AT: u64 = 0x400;
    let orders: [&dyn Fn(u64) -> Option<u16>; 2] =
        [&|at| ends.le16(AT + at), &|at| ends.be16(AT + at)];
    for word in orders {
        let old = matches!(word(0x10), Some(0x137f | 0x138f | 0x2468 | 0x2478));
        // Inodes, blocks of both maps, and zones no larger than the file system's readers take.
        let old_sound = word(0).is_some_and(|n| n > 0)
            && word(4).is_some_and(|n| n > 0)
            && word(6).is_some_and(|n| n > 0)
            && word(10).is_some_and(|log| log <= 10);
        let third = word(0x18) == Some(0x4d5a)
            && word(6).is_some_and(|n| n > 0)
            && word(28).is_some_and(|size| size >= 1024 && size.is_power_of_two());
        if old && old_sound || third {
            found.add(
                Kind::FileSystem,
                "minix",
                AT,
                "its magic and a sound superblock",
            );
            return;
        }
    }
}

/// `struct nilfs_super_block` (include/uapi/linux/nilfs2_ondisk.h), 1 KiB from the start and in the last whole 4 KiB.
fn nilfs(ends: &Ends<'_>, found: &mut Found) {
    let last = (ends.size.0 / 4096).saturating_sub(1) * 4096;
    let last_by_sectors = (ends.size.0 / 512).saturating_sub(8) * 512;
    for at in [0x400, last, last_by_sectors] {
        let sound = ends.le32(at) == Some(2)
            && ends.le16(at + 6) == Some(0x3434)
            && ends
                .le16(at + 8)
                .is_some_and(|bytes| (64..=1024).contains(&bytes))
            && ends.le32(at + 20).is_some_and(|log| log <= 6);
        if sound
            && !found
                .0
                .iter()
                .any(|one| one.name == "nilfs2" && one.at.0 == at)
        {
            found.add(Kind::FileSystem, "nilfs2", at, "magic 3434, revision 2");
        }
    }
}

/// LVM2's label in one of the first four sectors (lvm2, lib/label/label.h); LVM1's header (blkid's `HM` and a version).
fn lvm(ends: &Ends<'_>, found: &mut Found) {
    for at in (0..4).map(|sector| sector * 512) {
        if ends.has(at, b"LABELONE") || ends.has(at + 24, b"LVM2 001") {
            found.add(
                Kind::Member,
                "LVM2_member",
                at,
                "label LABELONE, type LVM2 001",
            );
        }
    }
    if ends.has(0, b"HM") && matches!(ends.le16(2), Some(1 | 2)) && ends.le32(4) == Some(0) {
        found.add(Kind::Member, "LVM1_member", 0, "HM and its version");
    }
}

/// bcache's superblock in sector 8 (drivers/md/bcache, `struct cache_sb_disk`), which says where it was written; bcachefs
/// took over its place and at first its magic (fs/bcachefs/bcachefs_format.h).
fn bcache(ends: &Ends<'_>, found: &mut Found) {
    const AT: u64 = 0x1000;
    const OLD: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
    const NEW: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
    if ends.has(AT + 24, OLD) && ends.le64(AT + 8) == Some(8) {
        found.add(Kind::Member, "bcache", AT, "magic c68573f6-4e1a-45ca");
    } else if ends.has(AT + 24, OLD) || ends.has(AT + 24, NEW) {
        found.add(Kind::FileSystem, "bcachefs", AT, "its magic UUID");
    }
}

/// DRBD's internal metadata: the last whole 4 KiB (drbd, `struct meta_data_on_disk`), magics of versions 8.0 to 9.
fn drbd(ends: &Ends<'_>, found: &mut Found) {
    let Some(at) = (ends.size.0 / 4096)
        .checked_sub(1)
        .map(|block| block * 4096)
    else {
        return;
    };
    if matches!(ends.be32(at + 60), Some(0x8374_026b..=0x8374_026d)) {
        found.add(
            Kind::Member,
            "drbd",
            at,
            "metadata magic 8374026b to 8374026d",
        );
    }
}

/// SPDK's blobstore (lib/blob/blobstore.h, `struct spdk_bs_super_block`): under logical volumes, and under DAOS' pools.
fn blobstore(ends: &Ends<'_>, found: &mut Found) {
    if !ends.has(0, b"SPDKBLOB") {
        return;
    }
    let used_by = ends.bytes(56, 16).unwrap_or_default();
    let used_by = used_by.split(|byte| *byte == 0).next().unwrap_or_default();
    let why = if used_by.is_empty() || !used_by.is_ascii() {
        "magic SPDKBLOB (DAOS' pools and SPDK's logical volumes stand on it)".to_owned()
    } else {
        format!("magic SPDKBLOB, type \"{}\"", used_by.escape_ascii())
    };
    found.add(Kind::Store, "spdk_blobstore", 0, why);
}
