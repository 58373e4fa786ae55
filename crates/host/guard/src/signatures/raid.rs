//! Members of arrays.

use super::{Ends, Found, Kind};

const MD_MAGIC: u32 = 0xa92b_4efc;

pub(super) fn find(ends: &Ends<'_>, found: &mut Found) {
    md(ends, found);
    firmware(ends, found);
}

/// md's superblock (include/uapi/linux/raid/md_p.h). 0.90: in the last 64 KiB boundary but one, in the machine's byte
/// order; 1.0: 8 KiB before the end, down to 4 KiB; 1.1: at the start; 1.2: at 4 KiB (super_1_load in drivers/md/md.c).
fn md(ends: &Ends<'_>, found: &mut Found) {
    let sectors = ends.size.0 / 512;
    let old = (ends.size.0 & !0xffff).checked_sub(0x1_0000);
    let at_end = sectors.checked_sub(16).map(|sector| (sector & !7) * 512);
    if let Some(at) = old
        && (ends.le32(at) == Some(MD_MAGIC) || ends.be32(at) == Some(MD_MAGIC))
    {
        found.add(
            Kind::Member,
            "linux_raid_member",
            at,
            "magic a92b4efc, metadata 0.90",
        );
    }
    for (at, version) in [(at_end, "1.0"), (Some(0), "1.1"), (Some(0x1000), "1.2")] {
        if let Some(at) = at
            && ends.le32(at) == Some(MD_MAGIC)
            && ends.le32(at + 4) == Some(1)
        {
            let why = format!("magic a92b4efc, metadata {version}");
            found.add(Kind::Member, "linux_raid_member", at, why);
        }
    }
}

/// Arrays of firmware, whose metadata lie in the last sectors: Intel's (VROC; mdadm, super-intel.c), SNIA DDF 2.0 §4.2 (with
/// its second place, 257 sectors earlier), LSI's and NVIDIA's (by libblkid).
fn firmware(ends: &Ends<'_>, found: &mut Found) {
    let magics: [(&str, u64, &[u8]); 4] = [
        ("ddf_raid_member", 1, b"\xde\x11\xde\x11"),
        ("ddf_raid_member", 257, b"\xde\x11\xde\x11"),
        ("lsi_mega_raid_member", 1, b"$XIDE$"),
        ("nvidia_raid_member", 2, b"NVIDIA  "),
    ];
    let sectors = ends.size.0 / 512;
    for (name, from_end, bytes) in magics {
        if let Some(at) = sectors.checked_sub(from_end).map(|sector| sector * 512)
            && ends.has(at, bytes)
        {
            found.add(
                Kind::Member,
                name,
                at,
                format!("magic \"{}\"", bytes.escape_ascii()),
            );
        }
    }
    for sector in [512, 4096] {
        if let Some(at) = (ends.size.0 / sector).checked_sub(2).map(|at| at * sector)
            && ends.has(at, b"Intel Raid ISM Cfg Sig. ")
        {
            found.add(
                Kind::Member,
                "isw_raid_member",
                at,
                "Intel Raid ISM Cfg Sig.",
            );
        }
    }
}
