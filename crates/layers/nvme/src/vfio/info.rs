//! What the kernel tells of IOMMU and regions: structures with a chain of capabilities behind them (linux/vfio.h).
//!
//! They are read from bytes with every length checked: what is odd is an error, never an access out of bounds.

use std::ops::Range;

use strata_units::Iova;
use vfio_bindings::bindings::vfio as uapi;

/// More capabilities than any structure has.
const MOST: usize = 64;

/// Addresses below are given to nothing, so that null pointers are found out.
const FIRST: u64 = 1 << 20;

/// Where the kernel does not tell (before Linux 5.4): what every IOMMU has, without the window of x86's interrupt messages.
const UNTOLD: [Range<u64>; 2] = [FIRST..0xfee0_0000, 0xfef0_0000..1 << 39];

/// An answer of the kernel's that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer makes no sense ({0}); report that with the kernel's version")]
pub(super) struct Odd(String);

fn odd<T>(what: impl Into<String>) -> Result<T, Odd> {
    Err(Odd(what.into()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// The field of a structure that has to have it.
fn field<T>(found: Option<T>) -> Result<T, Odd> {
    found.ok_or_else(|| Odd("it ends within a field".to_owned()))
}

/// The capabilities from `first` on: number, and all bytes behind the header.
fn capabilities(bytes: &[u8], first: u32) -> Result<Vec<(u16, &[u8])>, Odd> {
    let mut found = Vec::new();
    let mut at = first as usize;
    while at != 0 {
        let (Some(head), Some(next)) = (u32_at(bytes, at), u32_at(bytes, at.saturating_add(4)))
        else {
            return odd(format!("a capability at {at} of {} bytes", bytes.len()));
        };
        if found.len() >= MOST {
            return odd(format!("more than {MOST} capabilities"));
        }
        // `id` and `version` share the first word, in the machine's order.
        let [low, high, ..] = head.to_ne_bytes();
        found.push((u16::from_ne_bytes([low, high]), &bytes[at + 8..]));
        at = next as usize;
    }
    Ok(found)
}

/// What there is of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceInfo {
    /// Kinds of interrupts.
    pub(super) interrupts: u32,
    /// Whether the function can be reset.
    pub(super) resets: bool,
}

impl DeviceInfo {
    /// Bytes of `struct vfio_device_info`.
    pub(super) const LEN: usize = size_of::<uapi::vfio_device_info>();

    /// Reads the structure.
    pub(super) fn parse(bytes: &[u8]) -> Result<DeviceInfo, Odd> {
        let flags = field(u32_at(bytes, 4))?;
        Ok(DeviceInfo {
            interrupts: field(u32_at(bytes, 12))?,
            resets: flags & uapi::VFIO_DEVICE_FLAGS_RESET != 0,
        })
    }
}

/// What an IOMMU lets be mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IommuInfo {
    /// Addresses, ascending.
    pub(super) addresses: Vec<Range<Iova>>,
    /// Sizes of pages, a bit each.
    pub(super) pages: u64,
    /// How many mappings more there may be; none where the kernel does not tell (before Linux 5.10).
    pub(super) available: Option<u32>,
}

impl IommuInfo {
    /// Bytes of `struct vfio_iommu_type1_info`.
    pub(super) const LEN: usize = size_of::<uapi::vfio_iommu_type1_info>();

    /// Reads the structure and its capabilities.
    pub(super) fn parse(bytes: &[u8]) -> Result<IommuInfo, Odd> {
        let flags = field(u32_at(bytes, 4))?;
        let mut info = IommuInfo {
            addresses: UNTOLD
                .map(|range| Iova(range.start)..Iova(range.end))
                .to_vec(),
            pages: match flags & uapi::VFIO_IOMMU_INFO_PGSIZES {
                0 => 4096,
                _ => field(u64_at(bytes, 8))?,
            },
            available: None,
        };
        if flags & uapi::VFIO_IOMMU_INFO_CAPS == 0 {
            return Ok(info);
        }
        let first = field(u32_at(bytes, 16))?;
        for (id, body) in capabilities(bytes, first)? {
            match u32::from(id) {
                uapi::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => info.addresses = ranges(body)?,
                uapi::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => {
                    info.available = Some(field(u32_at(body, 0))?);
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

/// A capability's list of pairs of 8 bytes each: their number in 4, 4 that mean nothing, then the pairs.
fn pairs<'a>(body: &'a [u8], what: &str) -> Result<std::slice::ChunksExact<'a, u8>, Odd> {
    let count = field(u32_at(body, 0))? as usize;
    let pairs = count
        .checked_mul(16)
        .and_then(|len| body.get(8..len.checked_add(8)?));
    match pairs {
        Some(pairs) => Ok(pairs.chunks_exact(16)),
        None => odd(format!("{count} {what} in {} bytes", body.len())),
    }
}

/// The ranges of VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: their number, then first and last address of each.
fn ranges(body: &[u8]) -> Result<Vec<Range<Iova>>, Odd> {
    let mut found = Vec::new();
    for pair in pairs(body, "ranges of addresses")? {
        let (start, last) = (field(u64_at(pair, 0))?, field(u64_at(pair, 8))?);
        if start > last {
            return odd(format!("addresses from {start:#x} to {last:#x}"));
        }
        // The very last address is worth no care.
        let range = start.max(FIRST)..last.saturating_add(1);
        if !range.is_empty() {
            found.push(Iova(range.start)..Iova(range.end));
        }
    }
    found.sort_by_key(|range| range.start.0);
    Ok(found)
}

/// A region of a device: a BAR, or its configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegionInfo {
    /// Its length.
    pub(super) size: u64,
    /// Where it lies in the device's file.
    pub(super) offset: u64,
    /// Whether it can be written.
    pub(super) writes: bool,
    /// What of it can be mapped.
    pub(super) areas: Vec<Range<u64>>,
}

impl RegionInfo {
    /// Bytes of `struct vfio_region_info`.
    pub(super) const LEN: usize = size_of::<uapi::vfio_region_info>();

    /// Reads the structure and its capabilities.
    pub(super) fn parse(bytes: &[u8]) -> Result<RegionInfo, Odd> {
        let flags = field(u32_at(bytes, 4))?;
        let size = field(u64_at(bytes, 16))?;
        let maps = flags & uapi::VFIO_REGION_INFO_FLAG_MMAP != 0;
        let mut info = RegionInfo {
            size,
            offset: field(u64_at(bytes, 24))?,
            writes: flags & uapi::VFIO_REGION_INFO_FLAG_WRITE != 0,
            areas: maps.then_some(0..size).into_iter().collect(),
        };
        if info.offset.checked_add(size).is_none() {
            return odd(format!("{size} bytes from {:#x} on", info.offset));
        }
        if maps && flags & uapi::VFIO_REGION_INFO_FLAG_CAPS != 0 {
            let first = field(u32_at(bytes, 12))?;
            for (id, body) in capabilities(bytes, first)? {
                // What it leaves out is the table of MSI-X, before Linux 4.16.
                if u32::from(id) == uapi::VFIO_REGION_INFO_CAP_SPARSE_MMAP {
                    info.areas = areas(body, size)?;
                }
            }
        }
        Ok(info)
    }

    /// Whether so many bytes from `at` on lie within it.
    pub(super) fn holds(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// Whether they can be mapped.
    pub(super) fn maps(&self, at: u64, len: u64) -> bool {
        let end = at.checked_add(len);
        end.is_some_and(|end| {
            let holds = |area: &Range<u64>| area.start <= at && end <= area.end;
            self.areas.iter().any(holds)
        })
    }
}

/// The areas of VFIO_REGION_INFO_CAP_SPARSE_MMAP: their number, then offset and size of each.
fn areas(body: &[u8], size: u64) -> Result<Vec<Range<u64>>, Odd> {
    let mut found = Vec::new();
    for pair in pairs(body, "areas to be mapped")? {
        let (at, len) = (field(u64_at(pair, 0))?, field(u64_at(pair, 8))?);
        match at.checked_add(len) {
            Some(end) if end <= size => found.push(at..end),
            _ => {
                return odd(format!(
                    "{len} bytes to be mapped from {at:#x} on, of {size}"
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn pairs(pairs: &[[u64; 2]]) -> Vec<u8> {
        pairs
            .iter()
            .flatten()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    /// A capability of version 1.
    fn capability(id: u16, next: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = [id.to_ne_bytes(), 1u16.to_ne_bytes()].concat();
        bytes.extend(next.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    /// As an Intel IOMMU of 48 bits tells, with its window for interrupt messages.
    fn intel() -> Vec<u8> {
        let mut bytes = words(&[136, 3, 0x4000_1000, 0, 24, 0]);
        let mut body = words(&[2, 0]);
        body.extend(pairs(&[[0, 0xfedf_ffff], [0xfef0_0000, 0xffff_ffff_ffff]]));
        bytes.extend(capability(1, 72, &body));
        bytes.extend(capability(2, 104, &[0; 24]));
        bytes.extend(capability(3, 0, &words(&[65_535])));
        bytes
    }

    #[test]
    fn an_iommu_tells_its_addresses_pages_and_mappings() {
        let found = IommuInfo::parse(&intel()).expect("sound");
        assert_eq!(
            found,
            IommuInfo {
                addresses: vec![
                    Iova(FIRST)..Iova(0xfee0_0000),
                    Iova(0xfef0_0000)..Iova(1 << 48)
                ],
                pages: 0x4000_1000,
                available: Some(65_535),
            }
        );
    }

    #[test]
    fn an_old_kernel_tells_less() {
        let found = IommuInfo::parse(&words(&[16, 1, 0x1000, 0])).expect("sound");
        assert_eq!((found.pages, found.available), (0x1000, None));
        let window = 0xfee0_0000..0xfef0_0000u64;
        for range in &found.addresses {
            assert!(range.end.0 <= window.start || window.end <= range.start.0);
            assert!(range.start.0 > 0 && range.end.0 <= 1 << 39);
        }
    }

    #[test]
    fn lengths_that_make_no_sense_are_refused() {
        let with = |change: fn(&mut Vec<u8>)| {
            let mut bytes = intel();
            change(&mut bytes);
            IommuInfo::parse(&bytes).expect_err("odd").to_string()
        };
        for (why, expected) in [
            (with(|b| b[16..20].fill(0xff)), "a capability at 4294967295"),
            (with(|b| b[28..32].fill(0xff)), "a capability at 4294967295"),
            // The first one is the next one.
            (with(|b| b[28] = 24), "more than 64 capabilities"),
            (with(|b| b[32..36].fill(0xff)), "4294967295 ranges"),
            (with(|b| b[32] = 9), "9 ranges"),
            (with(|b| b[40..48].fill(0xff)), "addresses from 0xffffffff"),
            (with(|b| b.truncate(10)), "within a field"),
            (with(|b| b.truncate(60)), "a capability at 72 of 60"),
            (with(|b| b.truncate(112)), "within a field"),
        ] {
            assert!(why.contains(expected), "{why}");
        }
    }

    /// A BAR of 16 KiB at 0, whose third page holds the table of MSI-X.
    fn bar() -> Vec<u8> {
        let mut bytes = words(&[80, 0xf, 0, 32]);
        bytes.extend(pairs(&[[0x4000, 1 << 40]]));
        let mut body = words(&[2, 0]);
        body.extend(pairs(&[[0, 0x2000], [0x3000, 0x1000]]));
        bytes.extend(capability(1, 0, &body));
        bytes
    }

    #[test]
    fn a_bar_tells_what_of_it_can_be_mapped() {
        let found = RegionInfo::parse(&bar()).expect("sound");
        assert_eq!((found.size, found.offset), (0x4000, 1 << 40));
        assert!(found.writes && found.holds(0x3ffc, 4) && !found.holds(0x3ffd, 4));
        for (at, len, maps) in [
            (0, 0x2000, true),
            (0x1000, 0x1000, true),
            (0x1000, 0x1001, false),
            (0x2000, 8, false),
            (0x3000, 0x1000, true),
            (u64::MAX, 2, false),
        ] {
            assert_eq!(found.maps(at, len), maps, "{len} from {at:#x}");
        }
        // As since Linux 4.16: all of it, the table too.
        let mut whole = bar();
        whole[32..34].copy_from_slice(&3u16.to_ne_bytes());
        let whole = RegionInfo::parse(&whole).expect("sound");
        assert!(whole.maps(0, 0x4000) && !whole.maps(0, 0x4001));
        // Without the flag nothing.
        let mut none = bar();
        none[4] = 3;
        let none = RegionInfo::parse(&none).expect("sound");
        assert!(!none.maps(0, 8) && none.holds(0, 8));
    }

    #[test]
    fn areas_beyond_a_bar_are_refused() {
        for (at, expected) in [(48, "to be mapped from"), (40, "areas to be mapped")] {
            let mut bytes = bar();
            bytes[at..at + 4].fill(0xff);
            let why = RegionInfo::parse(&bytes).expect_err("odd").to_string();
            assert!(why.contains(expected), "{why}");
        }
        let mut bytes = bar();
        bytes[24..32].fill(0xff);
        RegionInfo::parse(&bytes).expect_err("no file is that long");
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_that_are_not_there(mut bytes in prop::collection::vec(any::<u8>(), 0..200), flags in any::<u8>(), first in any::<u8>()) {
            if bytes.len() > 20 {
                bytes[4] = flags;
                bytes[12..16].copy_from_slice(&u32::from(first).to_ne_bytes());
                bytes[16..20].copy_from_slice(&u32::from(first).to_ne_bytes());
            }
            if let Ok(info) = IommuInfo::parse(&bytes) {
                prop_assert!(info.addresses.iter().all(|r| r.start.0 >= FIRST && r.start.0 < r.end.0));
            }
            if let Ok(info) = RegionInfo::parse(&bytes) {
                prop_assert!(info.areas.iter().all(|a| a.end <= info.size));
            }
        }
    }
}
