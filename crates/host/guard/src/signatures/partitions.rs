//! Partition tables and disk labels.

use super::{Ends, Found, Kind};

pub(super) fn find(ends: &Ends<'_>, found: &mut Found) {
    gpt(ends, found);
    sun(ends, found);
    mac(ends, found);
    boot_record(ends, found);
}

/// A GUID partition table (UEFI 2.10 §5.3.2): the header in block 1, its copy in the last block. The block is the
/// target's now, or what it was when the table was written.
fn gpt(ends: &Ends<'_>, found: &mut Found) {
    let mut blocks = vec![ends.logical_block.0, 512, 4096];
    blocks.sort_unstable();
    blocks.dedup();
    for block in blocks.into_iter().filter(|block| *block >= 512) {
        let backup = (ends.size.0 / block)
            .checked_sub(1)
            .map(|last| last * block);
        for (at, which) in [(Some(block), "header"), (backup, "backup header")] {
            let Some(at) = at.filter(|at| ends.has(*at, b"EFI PART")) else {
                continue;
            };
            if found
                .0
                .iter()
                .any(|one| one.name == "gpt" && one.at.0 == at)
            {
                continue;
            }
            let state = if checksum_holds(ends, at) {
                "intact"
            } else {
                "damaged"
            };
            found.add(
                Kind::PartitionTable,
                "gpt",
                at,
                format!("EFI PART, {which}, {state}"),
            );
        }
    }
}

/// The header's CRC-32 is over itself, with zeros in its own place.
fn checksum_holds(ends: &Ends<'_>, at: u64) -> bool {
    let length = ends
        .le32(at + 12)
        .and_then(|length| usize::try_from(length).ok());
    let header = length
        .filter(|length| (92..=4096).contains(length))
        .and_then(|length| ends.bytes(at, length));
    header.is_some_and(|header| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..16]);
        hasher.update(&[0; 4]);
        hasher.update(&header[20..]);
        Some(hasher.finalize()) == ends.le32(at + 16)
    })
}

/// A Sun label (block/partitions/sun.c): magic dabe at 508 and words that cancel out.
fn sun(ends: &Ends<'_>, found: &mut Found) {
    let Some(sector) = ends.bytes(0, 512) else {
        return;
    };
    let sum = sector
        .chunks_exact(2)
        .fold(0, |sum, word| sum ^ u16::from_be_bytes([word[0], word[1]]));
    if ends.be16(508) == Some(0xdabe) && sum == 0 {
        found.add(
            Kind::PartitionTable,
            "sun",
            0,
            "magic dabe and its checksum",
        );
    }
}

/// Apple's partition map (block/partitions/mac.h): `ER` in block 0 and `PM` in the next.
fn mac(ends: &Ends<'_>, found: &mut Found) {
    if ends.has(0, b"ER") && (ends.has(512, b"PM") || ends.has(2048, b"PM")) {
        found.add(Kind::PartitionTable, "mac", 0, "ER and PM");
    }
}

/// A master boot record: 55 aa at 510 and four entries that could be entries (UEFI 2.10 §5.2.1). What a file system's boot
/// sector has there is that file system's.
fn boot_record(ends: &Ends<'_>, found: &mut Found) {
    const PROTECTIVE: u8 = 0xee;
    if !ends.has(510, &[0x55, 0xaa])
        || ["vfat", "ntfs", "exfat", "BitLocker"]
            .iter()
            .any(|name| found.has(name))
    {
        return;
    }
    let entries = ends.bytes(446, 64).unwrap_or_default();
    let entries: Vec<&[u8]> = entries.chunks_exact(16).collect();
    if entries.iter().any(|entry| !matches!(entry[0], 0 | 0x80)) {
        return;
    }
    let used = entries.iter().filter(|entry| entry[4] != 0).count();
    if entries.iter().any(|entry| entry[4] == PROTECTIVE) {
        found.add(
            Kind::PartitionTable,
            "PMBR",
            510,
            "protective boot record of a GPT",
        );
    } else {
        found.add(
            Kind::PartitionTable,
            "dos",
            510,
            format!("boot record 55aa with {used} partitions"),
        );
    }
}
