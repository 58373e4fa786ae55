//! The real thing of each kind, made by its own tool, against our eyes and libblkid's.

use std::fs::File;

use crate::support::{agrees, blkid, has, names, shell};

/// Test, program, names expected, and how it is made of the sparse file `$IMG`.
const MADE: &[(&str, &str, &[&str], &str)] = &[
    ("ext2", "mke2fs", &["ext2"], "mke2fs -q -F -t ext2 $IMG"),
    ("ext3", "mke2fs", &["ext3"], "mke2fs -q -F -t ext3 $IMG"),
    ("ext4", "mke2fs", &["ext4"], "mke2fs -q -F -t ext4 $IMG"),
    (
        "jbd",
        "mke2fs",
        &["jbd"],
        "mke2fs -q -F -O journal_dev $IMG",
    ),
    ("xfs", "mkfs.xfs", &["xfs"], "mkfs.xfs -q -f $IMG"),
    ("btrfs", "mkfs.btrfs", &["btrfs"], "mkfs.btrfs -q -f $IMG"),
    ("f2fs", "mkfs.f2fs", &["f2fs"], "mkfs.f2fs -q -f $IMG"),
    (
        "fat12",
        "mkfs.vfat",
        &["vfat"],
        "truncate -s 4M $IMG && mkfs.vfat -F 12 $IMG",
    ),
    ("fat16", "mkfs.vfat", &["vfat"], "mkfs.vfat -F 16 $IMG"),
    ("fat32", "mkfs.vfat", &["vfat"], "mkfs.vfat -F 32 $IMG"),
    ("exfat", "mkfs.exfat", &["exfat"], "mkfs.exfat $IMG"),
    ("ntfs", "mkntfs", &["ntfs"], "mkntfs -q -F -f $IMG"),
    ("jfs", "mkfs.jfs", &["jfs"], "mkfs.jfs -q $IMG"),
    (
        "reiserfs",
        "mkreiserfs",
        &["reiserfs"],
        "mkreiserfs -q -f -f $IMG",
    ),
    (
        "reiser4",
        "mkfs.reiser4",
        &["reiser4"],
        "mkfs.reiser4 -f -y $IMG",
    ),
    (
        "nilfs2",
        "mkfs.nilfs2",
        &["nilfs2"],
        "mkfs.nilfs2 -q -f $IMG",
    ),
    (
        "ocfs2",
        "mkfs.ocfs2",
        &["ocfs2"],
        "mkfs.ocfs2 -q -x -F -M local -N 1 $IMG",
    ),
    (
        "gfs2",
        "mkfs.gfs2",
        &["gfs2"],
        "mkfs.gfs2 -q -O -p lock_nolock $IMG",
    ),
    ("minix", "mkfs.minix", &["minix"], "mkfs.minix $IMG"),
    ("minix3", "mkfs.minix", &["minix"], "mkfs.minix -3 $IMG"),
    (
        "bfs",
        "mkfs.bfs",
        &["bfs"],
        "truncate -s 1M $IMG && mkfs.bfs $IMG",
    ),
    (
        "cramfs",
        "mkfs.cramfs",
        &["cramfs"],
        "mkdir $IMG.d && echo text >$IMG.d/a && rm $IMG && mkfs.cramfs $IMG.d $IMG",
    ),
    (
        "squashfs",
        "mksquashfs",
        &["squashfs"],
        "mkdir $IMG.d && echo text >$IMG.d/a && rm $IMG && mksquashfs $IMG.d $IMG -quiet -no-progress",
    ),
    (
        "erofs",
        "mkfs.erofs",
        &["erofs"],
        "mkdir $IMG.d && echo text >$IMG.d/a && mkfs.erofs $IMG $IMG.d",
    ),
    (
        "iso9660",
        "genisoimage",
        &["iso9660"],
        "mkdir $IMG.d && echo text >$IMG.d/a && genisoimage -quiet -o $IMG $IMG.d",
    ),
    ("udf", "mkudffs", &["udf"], "mkudffs $IMG"),
    ("swap", "mkswap", &["swap"], "mkswap -q $IMG"),
    ("swap64k", "mkswap", &["swap"], "mkswap -q -p 65536 $IMG"),
    (
        "luks1",
        "cryptsetup",
        &["crypto_LUKS"],
        "cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 --key-file /dev/zero --keyfile-size 32 $IMG",
    ),
    (
        "luks2",
        "cryptsetup",
        &["crypto_LUKS"],
        "cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /dev/zero --keyfile-size 32 $IMG",
    ),
    (
        "verity",
        "veritysetup",
        &["DM_verity_hash"],
        "truncate -s 1M $IMG.data && veritysetup format $IMG.data $IMG",
    ),
    ("bcache", "make-bcache", &["bcache"], "make-bcache -B $IMG"),
    (
        "drbd",
        "drbdmeta",
        &["drbd"],
        "drbdmeta --force 0 v08 $IMG internal create-md",
    ),
    (
        "gpt",
        "sfdisk",
        &["PMBR", "gpt"],
        "printf 'label: gpt\\n,10M\\n' | sfdisk -q $IMG",
    ),
    (
        "gpt-sgdisk",
        "sgdisk",
        &["PMBR", "gpt"],
        "sgdisk -n 1:0:+10M $IMG",
    ),
    (
        "gpt-backup",
        "sfdisk",
        &["gpt"],
        "printf 'label: gpt\\n' | sfdisk -q $IMG && dd if=/dev/zero of=$IMG bs=64k count=1 conv=notrunc",
    ),
    (
        "dos",
        "sfdisk",
        &["dos"],
        "printf 'label: dos\\n,10M\\n' | sfdisk -q $IMG",
    ),
    (
        "dos-empty",
        "sfdisk",
        &["dos"],
        "printf 'label: dos\\n' | sfdisk -q $IMG",
    ),
    (
        "sun",
        "sfdisk",
        &["sun"],
        "printf 'label: sun\\n' | sfdisk -q $IMG",
    ),
    (
        "sgi",
        "sfdisk",
        &["sgi"],
        "printf 'label: sgi\\n' | sfdisk -q $IMG",
    ),
    ("mac", "parted", &["mac"], "parted -s $IMG mklabel mac"),
    (
        "lvm",
        "pvcreate",
        &["LVM2_member"],
        "D=$(losetup -f --show $IMG) && pvcreate -q -y --config 'devices{scan_lvs=0 use_devicesfile=0} activation{udev_sync=0 udev_rules=0}' $D; R=$?; losetup -d $D; exit $R",
    ),
    (
        "zfs",
        "zpool",
        &["zfs_member"],
        "zpool create -m none strata-guard-$$ $IMG && zpool export strata-guard-$$",
    ),
];

#[test]
fn what_tools_make_is_recognised_as_blkid_does() {
    let mut seen = 0;
    for (test, program, expected, line) in MADE {
        if !has(program) {
            println!(
                "SKIP what_tools_make_is_recognised_as_blkid_does {test}: there is no {program}"
            );
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        File::create(&image)
            .and_then(|file| file.set_len(400 << 20))
            .expect("an image");
        if let Err(why) = shell(line, &image) {
            println!(
                "SKIP what_tools_make_is_recognised_as_blkid_does {test}: {program} fails: {why}"
            );
            continue;
        }
        let ours = names(&image);
        assert_eq!(ours, *expected, "{test}");
        for told in blkid(&image).unwrap_or_default() {
            assert!(
                agrees(&ours, &told),
                "{test}: blkid says {told}, we say {ours:?}"
            );
        }
        seen += 1;
    }
    println!("{seen} of {} kinds made by their tools", MADE.len());
}
