//! What NVMe names and counts, each as a type of its own.

use std::fmt;

use strata_units::Bytes;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($of:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $of);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A logical block's number in its namespace, from 0 (NVM 3.2.4, SLBA).
    Lba(u64)
);
number!(
    /// A namespace's number, NSID (Base 3.2.1).
    NamespaceId(u32)
);
number!(
    /// A queue's number: 0 is the admin queue's, I/O queues have 1 to 65535 (Base 3.3.3).
    QueueId(u16)
);
number!(
    /// A command's number, unique among those outstanding in one submission queue, CID (Base 4.1.1). FFFFh is the error log's
    /// "no command" and should not be used.
    CommandId(u16)
);

impl NamespaceId {
    /// No namespace: the command concerns the controller.
    pub const NONE: NamespaceId = NamespaceId(0);
    /// The broadcast value: all namespaces.
    pub const ALL: NamespaceId = NamespaceId(u32::MAX);
}

impl QueueId {
    /// The admin queue pair's.
    pub const ADMIN: QueueId = QueueId(0);
}

/// A temperature in kelvins, as controllers report it (Base 5.1.12.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kelvin(pub u16);

impl Kelvin {
    /// In degrees Celsius, by the specification's own rule of 273 kelvins.
    pub fn celsius(self) -> i32 {
        i32::from(self.0) - 273
    }
}

impl fmt::Display for Kelvin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} °C", self.celsius()))
    }
}

/// The entries of a queue: 2 to 65536, of which one stays free so that a full ring differs from an empty one (Base 3.3.1,
/// "Full Queue"). Counted from 0 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueSize(u16);

impl QueueSize {
    /// A queue of so many entries; `None` unless 2 to 65536.
    pub const fn new(entries: u32) -> Option<QueueSize> {
        match entries {
            2..=0x1_0000 => Some(QueueSize((entries - 1) as u16)),
            _ => None,
        }
    }

    /// From a field that counts from 0 (QSIZE, CAP.MQES); `None` for 0, since a ring of one entry holds nothing.
    pub const fn from_field(field: u16) -> Option<QueueSize> {
        match field {
            0 => None,
            _ => Some(QueueSize(field)),
        }
    }

    /// As a field that counts from 0.
    pub const fn field(self) -> u16 {
        self.0
    }

    /// Its entries.
    pub const fn entries(self) -> u32 {
        self.0 as u32 + 1
    }

    /// The most that it holds at a time: one less than its entries.
    pub const fn holds(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for QueueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries().fmt(f)
    }
}

/// The logical blocks of one command: 1 to 65536 (NVM 3.2.4, NLB). Counted from 0 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockCount(u16);

impl BlockCount {
    /// One block.
    pub const ONE: BlockCount = BlockCount(0);

    /// So many blocks; `None` unless 1 to 65536.
    pub const fn new(blocks: u32) -> Option<BlockCount> {
        match blocks {
            1..=0x1_0000 => Some(BlockCount((blocks - 1) as u16)),
            _ => None,
        }
    }

    /// From a field that counts from 0.
    pub const fn from_field(field: u16) -> BlockCount {
        BlockCount(field)
    }

    /// As a field that counts from 0.
    pub const fn field(self) -> u16 {
        self.0
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0 as u32 + 1
    }
}

impl fmt::Display for BlockCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A size of memory pages: a power of two from 4 KiB to 128 MiB, as CC.MPS, CAP.MPSMIN and CAP.MPSMAX give it (Base 3.1.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u8);

impl PageSize {
    /// 4 KiB, the smallest.
    pub const FOUR_KIB: PageSize = PageSize(0);

    /// The page size of so many bytes; `None` when there is none.
    pub const fn new(bytes: Bytes) -> Option<PageSize> {
        match bytes.0.trailing_zeros() {
            shift @ 12..=27 if bytes.0 == 1 << shift => Some(PageSize((shift - 12) as u8)),
            _ => None,
        }
    }

    /// From a field of 4 bits (MPS): 2 to the power of 12 + `field`. Bits above are ignored.
    pub const fn from_field(field: u8) -> PageSize {
        PageSize(field & 0xf)
    }

    /// As a field of 4 bits.
    pub const fn field(self) -> u8 {
        self.0
    }

    /// In bytes.
    pub const fn bytes(self) -> Bytes {
        Bytes(1 << self.shift())
    }

    /// The power of two.
    pub const fn shift(self) -> u32 {
        self.0 as u32 + 12
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_zero_are_counts() {
        assert_eq!(QueueSize::new(0), None);
        assert_eq!(QueueSize::new(1), None);
        assert_eq!(QueueSize::new(65_537), None);
        assert_eq!(QueueSize::from_field(0), None);
        let largest = QueueSize::new(65_536).expect("the largest");
        assert_eq!((largest.field(), largest.holds()), (0xffff, 65_535));
        assert_eq!(QueueSize::from_field(0xffff), Some(largest));
        assert_eq!(QueueSize::new(2).map(QueueSize::field), Some(1));
        assert_eq!((BlockCount::new(0), BlockCount::new(65_537)), (None, None));
        assert_eq!(BlockCount::from_field(0).get(), 1);
        assert_eq!(BlockCount::new(65_536).map(BlockCount::field), Some(0xffff));
    }

    #[test]
    fn page_sizes_are_powers_of_two_from_4_kib() {
        for (bytes, field) in [(4096, 0), (8192, 1), (65_536, 4), (128 << 20, 15)] {
            let page = PageSize::new(Bytes(bytes)).expect("a page size");
            assert_eq!((page.field(), page.bytes()), (field, Bytes(bytes)));
            assert_eq!(PageSize::from_field(field), page);
        }
        for bytes in [0, 1, 512, 2048, 4097, 12_288, 256 << 20, u64::MAX] {
            assert_eq!(PageSize::new(Bytes(bytes)), None, "{bytes}");
        }
    }

    #[test]
    fn kelvins_print_as_celsius() {
        assert_eq!(Kelvin(310).to_string(), "37 °C");
        assert_eq!(Kelvin(0).celsius(), -273);
    }
}
