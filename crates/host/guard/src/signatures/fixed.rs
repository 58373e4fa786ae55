//! Signatures that a fixed text at a fixed place gives away, long enough not to be met by chance.

use super::{Ends, Found, Kind};
use Kind::{Encryption, FileSystem, Member, PartitionTable, Store, Swap};

/// Sort, name, places from the start, bytes. Where nothing else is named, the source is the kernel's header of that
/// name (`include/uapi/linux/magic.h`, `fs/NAME/`); all but those marked were held against blkid(8).
const MAGICS: &[(Kind, &str, &[u64], &[u8])] = &[
    // XFS_SB_MAGIC, fs/xfs/libxfs/xfs_format.h; XLOG_HEADER_MAGIC_NUM, xfs_log_format.h, at the start of a log device.
    (FileSystem, "xfs", &[0], b"XFSB"),
    (FileSystem, "xfs_external_log", &[0], b"\xfe\xed\xba\xbe"),
    // BTRFS_MAGIC in btrfs_super_block.magic, at 64 KiB (btrfs_tree.h); the first zones of a zoned drive start at 0.
    (FileSystem, "btrfs", &[0x1_0040, 0x40], b"_BHRfS_M"),
    // F2FS_SUPER_MAGIC, f2fs_fs.h: two copies, each 1 KiB into its block.
    (FileSystem, "f2fs", &[0x400, 0x1400], b"\x10\x20\xf5\xf2"),
    // OEM name of the boot sector: fs/ntfs3/ntfs.h, the exFAT specification §3.1.2, and libblkid for ReFS.
    (FileSystem, "ntfs", &[3], b"NTFS    "),
    (FileSystem, "exfat", &[3], b"EXFAT   "),
    (FileSystem, "ReFS", &[0], b"\0\0\0ReFS\0"),
    // ECMA-119 §8.1: standard identifier of the first volume descriptor, sector 16.
    (FileSystem, "iso9660", &[0x8001], b"CD001"),
    // ECMA-167 2/9.1: volume structure descriptors from sector 16 on.
    (
        FileSystem,
        "udf",
        &[0x8001, 0x8801, 0x9001, 0x9801, 0xa001],
        b"NSR02",
    ),
    (
        FileSystem,
        "udf",
        &[0x8001, 0x8801, 0x9001, 0x9801, 0xa001],
        b"NSR03",
    ),
    (FileSystem, "squashfs", &[0], b"hsqs"),
    (FileSystem, "squashfs3", &[0], b"sqsh"),
    (FileSystem, "erofs", &[0x400], b"\xe2\xe1\xf5\xe0"),
    (FileSystem, "cramfs", &[0, 0x200], b"\x45\x3d\xcd\x28"),
    (FileSystem, "cramfs", &[0, 0x200], b"\x28\xcd\x3d\x45"),
    (FileSystem, "romfs", &[0], b"-rom1fs-"),
    // JFS_MAGIC at SUPER1_OFF, fs/jfs/jfs_filsys.h.
    (FileSystem, "jfs", &[0x8000], b"JFS1"),
    // s_magic of reiserfs_super_block at 64 KiB and, of old, 8 KiB; reiser4's format by libblkid.
    (
        FileSystem,
        "reiserfs",
        &[0x1_0034, 0x2034, 0x2014],
        b"ReIsErFs",
    ),
    (FileSystem, "reiserfs", &[0x1_0034], b"ReIsEr2Fs"),
    (FileSystem, "reiserfs", &[0x1_0034], b"ReIsEr3Fs"),
    (FileSystem, "reiser4", &[0x1_0000], b"ReIsEr4"),
    // OCFS2_SUPER_BLOCK_SIGNATURE in block 2, blocks of 512 B to 4 KiB, fs/ocfs2/ocfs2_fs.h; the first OCFS by libblkid.
    (
        FileSystem,
        "ocfs2",
        &[0x400, 0x800, 0x1000, 0x2000],
        b"OCFSV2",
    ),
    (FileSystem, "ocfs", &[0x2000], b"OracleCFS"),
    // VMFS_MAGIC and that of its volumes, by libblkid.
    (FileSystem, "VMFS", &[0x20_0000], b"\x5e\xf1\xab\x2f"),
    (
        Member,
        "VMFS_volume_member",
        &[0x10_0000],
        b"\x0d\xd0\x01\xc0",
    ),
    // NX_MAGIC, Apple File System Reference, "Container superblock".
    (FileSystem, "apfs", &[0x20], b"NXSB"),
    // VXFS_SUPER_MAGIC, fs/freevxfs/vxfs.h: blocks 1 (little-endian) and 8 (big-endian) of 1 KiB.
    (FileSystem, "vxfs", &[0x400], b"\xf5\xfc\x01\xa5"),
    (FileSystem, "vxfs", &[0x2000], b"\xa5\x01\xfc\xf5"),
    // SUPER_BLOCK_MAGIC1 in either byte order, fs/befs/befs_fs_types.h.
    (FileSystem, "befs", &[0x20, 0x220], b"BFS1"),
    (FileSystem, "befs", &[0x20, 0x220], b"1SFB"),
    // BFS_MAGIC, include/uapi/linux/bfs_fs.h.
    (FileSystem, "bfs", &[0], b"\xce\xfa\xad\x1b"),
    // ZONEFS_MAGIC, include/uapi/linux/magic.h.
    (FileSystem, "zonefs", &[0], b"SFOZ"),
    // HPFS_SUPER magic, fs/hpfs/hpfs.h.
    (FileSystem, "hpfs", &[0x2000], b"\x49\xe8\x95\xf9"),
    // SCOUTFS_SUPER_MAGIC, by libblkid.
    (FileSystem, "scoutfs", &[0x1_0000], b"\x8b\x42\x3c\x10"),
    // FS_UFS*_MAGIC, fs/ufs/ufs_fs.h: 1372 bytes into the superblock, which lies at 8 KiB, 64 KiB, 256 KiB or 0.
    (
        FileSystem,
        "ufs",
        &[0x255c, 0x1_055c, 0x4_055c, 0x55c],
        b"\x54\x19\x01\x00",
    ),
    (
        FileSystem,
        "ufs",
        &[0x255c, 0x1_055c, 0x4_055c, 0x55c],
        b"\x00\x01\x19\x54",
    ),
    (
        FileSystem,
        "ufs",
        &[0x255c, 0x1_055c, 0x4_055c, 0x55c],
        b"\x19\x01\x54\x19",
    ),
    (
        FileSystem,
        "ufs",
        &[0x255c, 0x1_055c, 0x4_055c, 0x55c],
        b"\x19\x54\x01\x19",
    ),
    // The last ten bytes of the first page, for pages of 4 to 64 KiB (include/linux/swap.h, union swap_header).
    (
        Swap,
        "swap",
        &[0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6],
        b"SWAPSPACE2",
    ),
    (
        Swap,
        "swap",
        &[0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6],
        b"SWAP-SPACE",
    ),
    // HIBERNATE_SIG and its forerunners (kernel/power/swap.c), in place of the swap signature; TuxOnIce by libblkid.
    (
        Swap,
        "swsuspend",
        &[0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6],
        b"S1SUSPEND",
    ),
    (
        Swap,
        "swsuspend",
        &[0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6],
        b"S2SUSPEND",
    ),
    (
        Swap,
        "swsuspend",
        &[0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6],
        b"ULSUSPEND",
    ),
    (
        Swap,
        "swsuspend",
        &[0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6],
        b"LINHIB0001",
    ),
    (Swap, "swsuspend", &[0], b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"),
    // LUKS1 on-disk format §2.1; LUKS2 on-disk format §2.1, whose second header's place depends on the first's size.
    (Encryption, "crypto_LUKS", &[0], b"LUKS\xba\xbe"),
    (
        Encryption,
        "crypto_LUKS",
        &[
            0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000,
        ],
        b"SKUL\xba\xbe",
    ),
    (Encryption, "BitLocker", &[3], b"-FVE-FS-"),
    // SB_MAGIC, drivers/md/dm-integrity.c; cryptsetup's FORMAT of verity; SNAP_MAGIC, drivers/md/dm-snap-persistent.c.
    (Member, "DM_integrity", &[0], b"integrt\0"),
    (Member, "DM_verity_hash", &[0], b"verity\0\0"),
    (Member, "DM_snapshot_cow", &[0], b"SnAp"),
    // THIN_SUPERBLOCK_MAGIC (dm-thin-metadata.c) and CACHE_SUPERBLOCK_MAGIC (dm-cache-metadata.c) after checksum, flags,
    // block number and UUID; MEMORY_SUPERBLOCK_MAGIC (dm-writecache.c). blkid knows none of the three.
    (
        Member,
        "dm-thin-pool",
        &[0x20],
        &27_022_010_u64.to_le_bytes(),
    ),
    (Member, "dm-cache", &[0x20], &0o6_142_003_u64.to_le_bytes()),
    (Member, "dm-writecache", &[0], b"\x21\x93\x48\x23"),
    // VDO_GEOMETRY_MAGIC_NUMBER, drivers/md/dm-vdo/encodings.c.
    (Member, "vdo", &[0], b"dmvdo001"),
    // Stratis: static header, sectors 1 and 9, after a checksum (stratisd, "Stratis software design" §5.2).
    (
        Member,
        "stratis",
        &[0x204, 0x1204],
        b"!Stra0tis\x86\xff\x02^\x41rh",
    ),
    // Linux's drbdmanage and DRBD proxy, by libblkid.
    (Member, "drbdmanage_control_volume", &[0], b"$DRBDmgr=q"),
    (Member, "drbdproxy_datalog", &[0], b"DRBDdlh*"),
    // ASMLib's disk header, by libblkid.
    (Store, "oracleasm", &[0x20], b"ORCLDISK"),
    // First line of the label of an OSD's device (Ceph, ceph-bluestore-tool(8) "Device labels").
    (Store, "ceph_bluestore", &[0], b"bluestore block device"),
    // RAID_BDEV_SB_SIG, SPDK module/bdev/raid/bdev_raid.h; unknown to blkid.
    (Member, "spdk_raid", &[0], b"SPDKRAID"),
    // MPOOL_SB_MAGIC, by libblkid.
    (Store, "mpool", &[0], b"mpoolDev"),
    // Windows' Logical Disk Manager: TOC of OFF_PRIV1, block/partitions/ldm.h.
    (PartitionTable, "ldm", &[0xc00], b"PRIVHEAD"),
    // SGI_LABEL_MAGIC (block/partitions/sgi.c); DISKLABEL magic of BSD, sector 1 or 0 (msdos.c); Mac's map, sector 1 (mac.h).
    (PartitionTable, "sgi", &[0], b"\x0b\xe5\xa9\x41"),
    (
        PartitionTable,
        "bsd",
        &[0x200, 0, 0x40],
        b"\x57\x45\x56\x82",
    ),
];

pub(super) fn find(ends: &Ends<'_>, found: &mut Found) {
    for (kind, name, places, bytes) in MAGICS {
        for at in *places {
            if ends.has(*at, bytes) {
                found.add(
                    *kind,
                    name,
                    *at,
                    format!("magic \"{}\"", bytes.escape_ascii()),
                );
            }
        }
    }
}
