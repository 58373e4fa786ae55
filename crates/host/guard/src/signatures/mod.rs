//! Signatures: what names the bytes on a target as somebody's.
//!
//! A pure function over the target's ends, so that it serves a drive without a block device (vfio-pci) as well. It errs
//! towards finding: a damaged header, or one of two copies, is a signature too.

mod checked;
mod ends;
mod fixed;
mod partitions;
mod raid;
mod zfs;

use std::fmt;

use strata_units::ByteOffset;

pub use ends::{Ends, FIRST, LAST};

/// What sort of thing a signature tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A partition table or disk label.
    PartitionTable,
    /// A file system, or its journal.
    FileSystem,
    /// Swap space, or a suspended system.
    Swap,
    /// An encrypted volume.
    Encryption,
    /// A member of a volume group, an array, a pool or a cache.
    Member,
    /// The store of a storage system: an object store, a blobstore.
    Store,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::PartitionTable => "partition table",
            Kind::FileSystem => "file system",
            Kind::Swap => "swap",
            Kind::Encryption => "encrypted volume",
            Kind::Member => "volume or array member",
            Kind::Store => "store",
        })
    }
}

/// One thing recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its sort.
    pub kind: Kind,
    /// Its name as blkid(8) has it (`ext4`, `LVM2_member`), else the field's.
    pub name: &'static str,
    /// Where what gave it away lies.
    pub at: ByteOffset,
    /// What gave it away.
    pub why: String,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) at byte {}: {}",
            self.name, self.kind, self.at.0, self.why
        )
    }
}

/// What a checker finds goes here.
struct Found(Vec<Signature>);

impl Found {
    fn add(&mut self, kind: Kind, name: &'static str, at: u64, why: impl Into<String>) {
        self.0.push(Signature {
            kind,
            name,
            at: ByteOffset(at),
            why: why.into(),
        });
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|signature| signature.name == name)
    }
}

/// All signatures of a target, in the order of their offsets; empty when nothing known is there, which does not say that
/// it holds no data ([`Ends::are_zero`] does).
pub fn signatures(ends: &Ends<'_>) -> Vec<Signature> {
    let mut found = Found(Vec::new());
    fixed::find(ends, &mut found);
    checked::find(ends, &mut found);
    raid::find(ends, &mut found);
    zfs::find(ends, &mut found);
    // Last, since a boot sector may be a file system's.
    partitions::find(ends, &mut found);
    let Found(mut all) = found;
    all.sort_by_key(|signature| signature.at);
    all
}
