//! What a client reads out of a server's replies, believing nothing.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use strata_units::{ByteOffset, Bytes};

use crate::device::{Area, Region, Share};
use crate::wire;
use crate::wire::{
    CAP_SPARSE_MMAP, Cap, DEVICE_PCI, DEVICE_RESETS, REGION_CAPS, REGION_MAPS, REGION_READS,
    REGION_WRITES, RegionInfo, Span, Sparse, split,
};

/// The most regions and types of interrupt that a server may claim to have.
const MOST_REGIONS: u32 = 64;
const MOST_TYPES: u32 = 32;

/// What was found, and what was expected.
pub(crate) type Wrong = (String, &'static str);

fn short<T: zerocopy::FromBytes>(body: &[u8], expected: &'static str) -> Result<T, Wrong> {
    split(body)
        .map(|(found, _)| found)
        .ok_or_else(|| (format!("{} bytes", body.len()), expected))
}

/// What a server has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Regions, numbered from 0.
    pub regions: u32,
    /// Types of interrupt; of a PCI function INTx, MSI, MSI-X, error and request.
    pub interrupts: u32,
    /// Whether it can be reset by [`Client::reset`](crate::Client::reset).
    pub resets: bool,
}

/// The reply to `DEVICE_GET_INFO`.
pub(crate) fn device(body: &[u8]) -> Result<DeviceInfo, Wrong> {
    let info: wire::DeviceInfo = short(body, "what the device is, in 16 bytes")?;
    let (regions, interrupts, flags) = (info.regions.get(), info.irqs.get(), info.flags.get());
    if flags & DEVICE_PCI == 0 {
        return Err((
            format!("a device with flags {flags:#x}"),
            "a PCI device (0x2)",
        ));
    }
    if regions > MOST_REGIONS || interrupts > MOST_TYPES {
        let found = format!("{regions} regions and {interrupts} types of interrupt");
        return Err((found, "64 and 32 at most"));
    }
    Ok(DeviceInfo {
        regions,
        interrupts,
        resets: flags & DEVICE_RESETS != 0,
    })
}

/// The reply to `DEVICE_GET_IRQ_INFO`: how many there are.
pub(crate) fn interrupts(body: &[u8], index: u32) -> Result<u32, Wrong> {
    let info: wire::IrqInfo = short(body, "how many interrupts there are, in 16 bytes")?;
    let (found, count) = (info.index.get(), info.count.get());
    // A function has at most 2048 (PCI Express Base, MSI-X Capability: Table Size is 11 bits).
    if found != index || count > 2048 {
        let found = format!("{count} interrupts of type {found}");
        return Err((found, "at most 2048 of the type asked for"));
    }
    Ok(count)
}

/// The reply to `DEVICE_GET_REGION_INFO`, with the descriptor that came with it, if any.
pub(crate) fn region(body: &[u8], index: u32, file: Option<OwnedFd>) -> Result<Region, Wrong> {
    let info: RegionInfo = short(body, "what the region is, in 32 bytes or more")?;
    let (size, flags) = (info.size.get(), info.flags.get());
    if info.index.get() != index {
        let found = format!("region {}", info.index.get());
        return Err((found, "the region asked for"));
    }
    let maps = size > 0 && flags & REGION_MAPS != 0;
    let areas = if maps && flags & REGION_CAPS != 0 {
        sparse(body, info.cap_offset.get(), size)?
    } else {
        Vec::new()
    };
    let share = match (maps, file) {
        (false, _) => None,
        (true, Some(file)) => Some(Share {
            file: Arc::new(file),
            offset: ByteOffset(info.offset.get()),
            areas,
        }),
        (true, None) => {
            let found = format!("region {index} to be mapped without a descriptor");
            return Err((found, "a descriptor with it"));
        }
    };
    Ok(Region {
        size: Bytes(size),
        read: flags & REGION_READS != 0,
        write: flags & REGION_WRITES != 0,
        share,
    })
}

/// The areas of a region that may be mapped, by its list of capabilities; none where it has no such capability.
fn sparse(body: &[u8], first: u32, size: u64) -> Result<Vec<Area>, Wrong> {
    let wrong = |found: String| {
        (
            found,
            "capabilities inside of the reply, one behind the other",
        )
    };
    let mut at = first;
    loop {
        let rest = usize::try_from(at).ok().and_then(|at| body.get(at..));
        let inside = rest
            .filter(|_| at as usize >= size_of::<RegionInfo>())
            .and_then(split::<Cap>);
        let Some((cap, rest)) = inside else {
            return Err(wrong(format!(
                "a capability at {at} of {} bytes",
                body.len()
            )));
        };
        if cap.id.get() == CAP_SPARSE_MMAP {
            return areas(rest, size);
        }
        match cap.next.get() {
            0 => return Ok(Vec::new()),
            next if next <= at => {
                return Err(wrong(format!("a capability at {at} that leads to {next}")));
            }
            next => at = next,
        }
    }
}

fn areas(body: &[u8], size: u64) -> Result<Vec<Area>, Wrong> {
    let (head, mut rest) = split::<Sparse>(body)
        .ok_or_else(|| (format!("{} bytes", body.len()), "the number of areas"))?;
    let count = head.areas.get() as usize;
    if count > rest.len() / size_of::<Span>() {
        let found = format!("{count} areas in {} bytes", rest.len());
        return Err((found, "16 bytes for each"));
    }
    let mut areas = Vec::with_capacity(count);
    while areas.len() < count {
        let Some((span, more)) = split::<Span>(rest) else {
            break;
        };
        rest = more;
        let (at, len) = (span.offset.get(), span.size.get());
        if at.checked_add(len).is_none_or(|end| end > size) {
            let found = format!("an area of {len} bytes at {at} of a region of {size}");
            return Err((found, "areas inside of the region"));
        }
        if len > 0 {
            areas.push(Area {
                at: ByteOffset(at),
                len: Bytes(len),
            });
        }
    }
    Ok(areas)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    /// A region of 8 KiB with such capabilities.
    fn body(cap_offset: u32, caps: &[u8]) -> Vec<u8> {
        let info = RegionInfo {
            argsz: 0.into(),
            flags: (REGION_READS | REGION_MAPS | REGION_CAPS).into(),
            index: 0.into(),
            cap_offset: cap_offset.into(),
            size: 8192.into(),
            offset: 0.into(),
        };
        [info.as_bytes(), caps].concat()
    }

    fn cap(id: u16, next: u32) -> Vec<u8> {
        [&id.to_le_bytes()[..], &[1, 0], &next.to_le_bytes()].concat()
    }

    fn spans(count: u32, spans: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = [count.to_le_bytes(), [0; 4]].concat();
        for (at, len) in spans {
            bytes.extend([at.to_le_bytes(), len.to_le_bytes()].concat());
        }
        bytes
    }

    fn found(body: &[u8]) -> Result<Vec<(u64, u64)>, Wrong> {
        let file = std::fs::File::open("/dev/null").expect("there").into();
        let region = region(body, 0, Some(file))?;
        let areas = region.share.expect("mapped").areas;
        Ok(areas.iter().map(|a| (a.at.0, a.len.0)).collect())
    }

    #[test]
    fn areas_are_found_behind_other_capabilities() {
        let sparse = [cap(1, 0), spans(2, &[(4096, 4096), (0, 0)])].concat();
        assert_eq!(found(&body(32, &sparse)), Ok(vec![(4096, 4096)]));
        let second = [cap(9, 40), sparse].concat();
        assert_eq!(found(&body(32, &second)), Ok(vec![(4096, 4096)]));
        assert_eq!(found(&body(32, &cap(9, 0))), Ok(vec![]));
    }

    #[test]
    fn a_list_that_lies_is_told() {
        for (offset, caps) in [
            (0, cap(1, 0)),
            (31, cap(1, 0)),
            (33, cap(1, 0)),
            (u32::MAX, cap(1, 0)),
            (32, cap(9, 32)),
            (32, cap(9, 39)),
            (32, cap(9, 1 << 30)),
            (32, [cap(1, 0), vec![1, 0, 0]].concat()),
            (32, [cap(1, 0), spans(2, &[(0, 4096)])].concat()),
            (32, [cap(1, 0), spans(u32::MAX, &[(0, 4096)])].concat()),
            (32, [cap(1, 0), spans(1, &[(4096, 8192)])].concat()),
            (32, [cap(1, 0), spans(1, &[(u64::MAX, 2)])].concat()),
        ] {
            let told = found(&body(offset, &caps));
            assert!(told.is_err(), "{offset} {caps:?}: {told:?}");
        }
        let (told, _) = region(&body(32, &cap(9, 0)), 0, None).expect_err("no descriptor");
        assert!(told.contains("without a descriptor"), "{told}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = device(&bytes);
            let _ = interrupts(&bytes, 2);
            let _ = found(&bytes);
        }

        #[test]
        fn no_capabilities_panic(first in 0u32..80, bytes in proptest::collection::vec(0u8..60, 0..120)) {
            if let Ok(areas) = found(&body(first, &bytes)) {
                prop_assert!(areas.iter().all(|(at, len)| at + len <= 8192));
            }
        }
    }
}
