//! The least of each kind that we recognise, made by hand.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The length of an image: some kinds lie at its end, and 2 MiB must be within.
pub(crate) const SIZE: u64 = 4 << 20;

/// A name and the bytes at their places; negative places count from the end.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) parts: Vec<(i64, Vec<u8>)>,
}

impl Image {
    pub(crate) fn write(&self, path: &Path) {
        let mut file = fs::File::create(path).expect("an image");
        file.set_len(SIZE).expect("its length");
        for (at, bytes) in &self.parts {
            let at = u64::try_from(*at).unwrap_or_else(|_| SIZE - at.unsigned_abs());
            file.write_all_at(bytes, at).expect("its bytes");
        }
        file.flush().expect("written");
    }
}

fn image(name: &'static str, parts: &[(i64, &[u8])]) -> Image {
    Image {
        name,
        parts: parts
            .iter()
            .map(|(at, bytes)| (*at, bytes.to_vec()))
            .collect(),
    }
}

/// A GPT header with a checksum that holds.
fn gpt_header() -> Vec<u8> {
    let mut header = vec![0; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    let crc = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header
}

/// An ext superblock: feature words, and a label.
fn ext(name: &'static str, features: [u32; 3], label: &[u8]) -> Image {
    let mut block = vec![0; 1024];
    block[0..4].copy_from_slice(&128_u32.to_le_bytes());
    block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    for (at, word) in [0x5c, 0x60, 0x64].into_iter().zip(features) {
        block[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    block[0x78..0x78 + label.len()].copy_from_slice(label);
    image(name, &[(0x400, &block)])
}

pub(crate) fn lustre() -> Image {
    ext("ext4", [4, 0x1002, 0], b"scratch-OST0007")
}

pub(crate) fn all() -> Vec<Image> {
    const MD: [u8; 8] = [0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0];
    const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
    const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
    let fat = |text: &[u8], at: i64| {
        let mut boot = vec![0; 512];
        boot[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        boot[11..25].copy_from_slice(&[0, 2, 4, 1, 0, 2, 0, 2, 0, 0x20, 0xf8, 8, 0, 0]);
        boot[at as usize..at as usize + text.len()].copy_from_slice(text);
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        image("vfat", &[(0, &boot)])
    };
    let mut dos = vec![0; 66];
    dos[..16].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0]);
    dos[64..].copy_from_slice(&[0x55, 0xaa]);
    let mut protective = dos.clone();
    (protective[0], protective[4]) = (0, 0xee);
    let mut nilfs = vec![0; 64];
    nilfs[..10].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0x34, 0x34, 0, 4]);
    let mut minix = vec![0; 32];
    minix[..16].copy_from_slice(&[16, 0, 0, 16, 1, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0x10]);
    minix[16..18].copy_from_slice(&[0x7f, 0x13]);
    let mut minix3 = vec![0; 32];
    (minix3[6], minix3[24], minix3[25], minix3[29]) = (1, 0x5a, 0x4d, 4);
    let mut drbd = vec![0; 4096];
    drbd[60..64].copy_from_slice(&[0x83, 0x74, 0x02, 0x6d]);
    drbd[80..84].copy_from_slice(&4096_u32.to_be_bytes());
    let mut sun = vec![0; 512];
    sun[..2].copy_from_slice(&[0xda, 0xbe]);
    sun[508..510].copy_from_slice(&[0xda, 0xbe]);
    let header = gpt_header();
    let uberblock = 0x00ba_b10c_u64;
    vec![
        image("gpt", &[(512, &header)]),
        image("gpt", &[(4096, &header)]),
        image("gpt", &[(-512, &header)]),
        image("gpt", &[(-4096, &header)]),
        image("dos", &[(446, &dos)]),
        image("PMBR", &[(446, &protective)]),
        image("sun", &[(0, &sun)]),
        image("sgi", &[(0, b"\x0b\xe5\xa9\x41")]),
        image("mac", &[(0, b"ER\x02\x00"), (512, b"PM")]),
        image("bsd", &[(512, b"\x57\x45\x56\x82")]),
        image("ldm", &[(0xc00, b"PRIVHEAD")]),
        ext("ext2", [0, 2, 1], b""),
        ext("ext3", [4, 2, 1], b""),
        ext("ext4", [4, 0x42, 1], b"home"),
        ext("jbd", [0, 8, 0], b""),
        lustre(),
        image("xfs", &[(0, b"XFSB")]),
        image(
            "xfs_external_log",
            &[(0, b"\xfe\xed\xba\xbe\0\0\0\x01\0\0\0\x02")],
        ),
        image("btrfs", &[(0x1_0040, b"_BHRfS_M")]),
        image("f2fs", &[(0x400, b"\x10\x20\xf5\xf2")]),
        image("f2fs", &[(0x1400, b"\x10\x20\xf5\xf2")]),
        image("bcachefs", &[(0x1018, BCACHEFS)]),
        image("bcachefs", &[(0x1018, BCACHE)]),
        image("ntfs", &[(0, b"\xeb\x52\x90NTFS    "), (510, b"\x55\xaa")]),
        image("exfat", &[(0, b"\xeb\x76\x90EXFAT   "), (510, b"\x55\xaa")]),
        image("ReFS", &[(0, b"\0\0\0ReFS\0")]),
        fat(b"FAT32   ", 0x52),
        fat(b"FAT16   ", 0x36),
        fat(b"FAT12   ", 0x36),
        fat(b"", 0x36),
        image("iso9660", &[(0x8000, b"\x01CD001\x01")]),
        image("udf", &[(0x8000, b"\0BEA01\x01"), (0x8800, b"\0NSR03\x01")]),
        image("squashfs", &[(0, b"hsqs"), (28, &[4])]),
        image("squashfs3", &[(0, b"sqsh"), (28, &[0, 3])]),
        image("erofs", &[(0x400, b"\xe2\xe1\xf5\xe0")]),
        image("cramfs", &[(0, b"\x45\x3d\xcd\x28")]),
        image("romfs", &[(0, b"-rom1fs-")]),
        image("jfs", &[(0x8000, b"JFS1")]),
        image("reiserfs", &[(0x1_0034, b"ReIsEr2Fs")]),
        image("reiser4", &[(0x1_0000, b"ReIsEr4")]),
        image("nilfs2", &[(0x400, &nilfs)]),
        image("nilfs2", &[(-4096, &nilfs)]),
        image("ocfs2", &[(0x1000, b"OCFSV2")]),
        image("ocfs", &[(0x2000, b"OracleCFS")]),
        image(
            "gfs2",
            &[(0x1_0000, b"\x01\x16\x19\x70"), (0x1_0018, &[0, 0, 7, 9])],
        ),
        image(
            "gfs",
            &[(0x1_0000, b"\x01\x16\x19\x70"), (0x1_0018, &[0, 0, 5, 29])],
        ),
        image("minix", &[(0x400, &minix)]),
        image("minix", &[(0x400, &minix3)]),
        image("hfsplus", &[(0x400, b"H+\0\x04")]),
        image("hfs", &[(0x400, b"BD"), (0x414, &[0, 0, 2, 0])]),
        image("apfs", &[(0x20, b"NXSB")]),
        image("vxfs", &[(0x400, b"\xf5\xfc\x01\xa5")]),
        image("befs", &[(0x220, b"1SFB")]),
        image("bfs", &[(0, b"\xce\xfa\xad\x1b")]),
        image("zonefs", &[(0, b"SFOZ")]),
        image("hpfs", &[(0x2000, b"\x49\xe8\x95\xf9")]),
        image("scoutfs", &[(0x1_0000, b"\x8b\x42\x3c\x10")]),
        image("ufs", &[(0x1_055c, b"\x19\x01\x54\x19")]),
        image("VMFS", &[(0x20_0000, b"\x5e\xf1\xab\x2f")]),
        image("VMFS_volume_member", &[(0x10_0000, b"\x0d\xd0\x01\xc0")]),
        image(
            "swap",
            &[(0x400, &[1]), (0x404, &[255, 3]), (0xff6, b"SWAPSPACE2")],
        ),
        image("swap", &[(0xfff6, b"SWAPSPACE2")]),
        image("swsuspend", &[(0xff6, b"S1SUSPEND")]),
        image("swsuspend", &[(0, b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c")]),
        image("crypto_LUKS", &[(0, b"LUKS\xba\xbe\0\x01")]),
        image("crypto_LUKS", &[(0, b"LUKS\xba\xbe\0\x02")]),
        image(
            "crypto_LUKS",
            &[
                (0x4000, b"SKUL\xba\xbe\0\x02"),
                (0x4100, &0x4000_u64.to_be_bytes()),
            ],
        ),
        image(
            "BitLocker",
            &[(0, b"\xeb\x58\x90-FVE-FS-"), (510, b"\x55\xaa")],
        ),
        image("DM_integrity", &[(0, b"integrt\0")]),
        image("DM_verity_hash", &[(0, b"verity\0\0\x01")]),
        image("DM_snapshot_cow", &[(0, b"SnAp\x01")]),
        image("dm-thin-pool", &[(0x20, &27_022_010_u64.to_le_bytes())]),
        image("dm-cache", &[(0x20, &0x18_c403_u64.to_le_bytes())]),
        image("dm-writecache", &[(0, &0x2348_9321_u32.to_le_bytes())]),
        image("LVM2_member", &[(512, b"LABELONE"), (536, b"LVM2 001")]),
        image("LVM2_member", &[(1536, b"LABELONE"), (1560, b"LVM2 001")]),
        image("LVM1_member", &[(0, b"HM\x01\0\0\0\0\0")]),
        image("linux_raid_member", &[(-0x1_0000, &MD[..4])]),
        image("linux_raid_member", &[(-0x2000, &MD)]),
        image("linux_raid_member", &[(0, &MD)]),
        image("linux_raid_member", &[(0x1000, &MD)]),
        image("ddf_raid_member", &[(-512, b"\xde\x11\xde\x11")]),
        image(
            "isw_raid_member",
            &[(-1024, b"Intel Raid ISM Cfg Sig. 1.3.00")],
        ),
        image("lsi_mega_raid_member", &[(-512, b"$XIDE$")]),
        image("nvidia_raid_member", &[(-1024, b"NVIDIA  ")]),
        image("bcache", &[(0x1008, &[8]), (0x1018, BCACHE)]),
        image("drbd", &[(-4096, &drbd)]),
        image("drbdmanage_control_volume", &[(0, b"$DRBDmgr=q")]),
        image("drbdproxy_datalog", &[(0, b"DRBDdlh*")]),
        image("vdo", &[(0, b"dmvdo001")]),
        image("stratis", &[(0x204, b"!Stra0tis\x86\xff\x02^\x41rh")]),
        image("oracleasm", &[(0x20, b"ORCLDISK")]),
        image("ceph_bluestore", &[(0, b"bluestore block device\n")]),
        image(
            "spdk_blobstore",
            &[(0, b"SPDKBLOB\x03\0\0\0"), (56, b"LVOLSTORE")],
        ),
        image("spdk_raid", &[(0, b"SPDKRAID")]),
        image("mpool", &[(0, b"mpoolDev")]),
        image("zfs_member", &[(0x2_0000, &uberblock.to_le_bytes())]),
        image("zfs_member", &[(0x6_0400, &uberblock.to_be_bytes())]),
        image(
            "zfs_member",
            &[(-0x4_0000 + 0x2_0000, &uberblock.to_le_bytes())],
        ),
        image("zfs_member", &[(0x4014, b"\0\0\0\x07version")]),
    ]
}
