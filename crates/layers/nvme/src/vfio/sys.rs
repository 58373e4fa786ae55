//! The calls of linux/vfio.h: the one place that hands pointers to them.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::ptr;

use strata_memory::Region;
use strata_units::{Bytes, Iova};
use vfio_bindings::bindings::vfio as uapi;

/// One of the calls; none has a direction or a size in its number (`_IO(VFIO_TYPE, VFIO_BASE + n)`).
#[derive(Clone, Copy)]
pub(super) struct Call(libc::Ioctl);

impl Call {
    pub(super) const REGION: Call = Call::of(8);
    pub(super) const DEVICE: Call = Call::of(7);
    pub(super) const IOMMU: Call = Call::of(12);
    const VERSION: Call = Call::of(0);
    const EXTENSION: Call = Call::of(1);
    const SET_IOMMU: Call = Call::of(2);
    const STATUS: Call = Call::of(3);
    const SET_CONTAINER: Call = Call::of(4);
    const DEVICE_FD: Call = Call::of(6);
    const SET_IRQS: Call = Call::of(10);
    const RESET: Call = Call::of(11);
    const MAP: Call = Call::of(13);
    const UNMAP: Call = Call::of(14);

    const fn of(n: u32) -> Call {
        Call(((uapi::VFIO_TYPE as u32) << 8 | (uapi::VFIO_BASE + n)) as libc::Ioctl)
    }
}

/// The most that an answer of variable length may have.
const LONGEST: usize = 64 << 10;

fn size_of_u32<T>() -> u32 {
    size_of::<T>() as u32
}

/// A call with a number for its argument.
fn plain(file: &File, call: Call, value: libc::c_ulong) -> io::Result<c_int> {
    // SAFETY: these calls take a number, or nothing; no pointer is given.
    answer(unsafe { libc::ioctl(file.as_raw_fd(), call.0, value) })
}

/// # Safety
/// `argument` points to what the call takes and the kernel may read and write, of the size that it tells at its beginning.
unsafe fn with<T>(file: &File, call: Call, argument: *mut T) -> io::Result<c_int> {
    // SAFETY: the caller's.
    answer(unsafe { libc::ioctl(file.as_raw_fd(), call.0, argument) })
}

fn answer(found: c_int) -> io::Result<c_int> {
    match found {
        0.. => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

/// VFIO_GET_API_VERSION of a container.
pub(super) fn version(container: &File) -> io::Result<c_int> {
    plain(container, Call::VERSION, 0)
}

/// VFIO_CHECK_EXTENSION: whether a container can be of that model of an IOMMU.
pub(super) fn has(container: &File, model: u32) -> io::Result<bool> {
    plain(container, Call::EXTENSION, model.into()).map(|found| found > 0)
}

/// VFIO_SET_IOMMU
pub(super) fn set_iommu(container: &File, model: u32) -> io::Result<()> {
    plain(container, Call::SET_IOMMU, model.into()).map(drop)
}

/// VFIO_GROUP_GET_STATUS: its flags.
pub(super) fn status(group: &File) -> io::Result<u32> {
    let mut status = uapi::vfio_group_status {
        argsz: size_of_u32::<uapi::vfio_group_status>(),
        ..Default::default()
    };
    // SAFETY: the structure is the call's, and tells its size.
    unsafe { with(group, Call::STATUS, &mut status) }.map(|_| status.flags)
}

/// VFIO_GROUP_SET_CONTAINER
pub(super) fn set_container(group: &File, container: &File) -> io::Result<()> {
    let mut container = container.as_raw_fd();
    // SAFETY: the call reads a descriptor of this size.
    unsafe { with(group, Call::SET_CONTAINER, &mut container) }.map(drop)
}

/// VFIO_GROUP_GET_DEVICE_FD
pub(super) fn device(group: &File, name: &CStr) -> io::Result<File> {
    // SAFETY: the call reads a text that ends with 0.
    let found = unsafe { with(group, Call::DEVICE_FD, name.as_ptr().cast_mut()) }?;
    // SAFETY: the kernel made this descriptor for the caller, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(found) })
}

/// VFIO_DEVICE_RESET
pub(super) fn reset(device: &File) -> io::Result<()> {
    plain(device, Call::RESET, 0).map(drop)
}

/// A call that fills in a structure, which tells first how long it is and how long it would have to be. `index` is what is
/// asked of, at its third word, where there are several.
pub(super) fn info(
    file: &File,
    call: Call,
    index: Option<u32>,
    least: usize,
) -> io::Result<Vec<u8>> {
    let mut len = least.next_multiple_of(8).max(16);
    loop {
        let mut words = vec![0u64; len / 8];
        // The size in bytes comes first; the flags behind it are the answer's.
        let head = [len as u32, 0].map(u32::to_ne_bytes).concat();
        words[0] = u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| head[n]));
        if let Some(index) = index {
            let head = [index, 0].map(u32::to_ne_bytes).concat();
            words[1] = u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| head[n]));
        }
        // SAFETY: the memory is `len` bytes long, which it tells, and aligned for any of these structures.
        unsafe { with(file, call, words.as_mut_ptr()) }?;
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        let told = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if told <= len {
            return Ok(bytes);
        }
        if told > LONGEST {
            return Err(io::Error::other(format!(
                "an answer of {told} bytes is told of, and none has more than {LONGEST}"
            )));
        }
        len = told.next_multiple_of(8);
    }
}

/// VFIO_DEVICE_SET_IRQS: the first interrupt of `index` signals an event.
pub(super) fn signals(device: &File, index: u32, event: BorrowedFd<'_>) -> io::Result<()> {
    let words = [
        size_of_u32::<[u32; 6]>(),
        uapi::VFIO_IRQ_SET_DATA_EVENTFD | uapi::VFIO_IRQ_SET_ACTION_TRIGGER,
        index,
        0,
        1,
        event.as_raw_fd() as u32,
    ];
    let mut words = words;
    // SAFETY: it is `struct vfio_irq_set` with one descriptor for its data, and tells its size.
    unsafe { with(device, Call::SET_IRQS, words.as_mut_ptr()) }.map(drop)
}

/// VFIO_IOMMU_MAP_DMA: the device may read and write the region from `iova` on.
pub(super) fn map(container: &File, region: &Region, iova: Iova) -> io::Result<()> {
    let mut map = uapi::vfio_iommu_type1_dma_map {
        argsz: size_of_u32::<uapi::vfio_iommu_type1_dma_map>(),
        flags: uapi::VFIO_DMA_MAP_FLAG_READ | uapi::VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: region.as_ptr().as_ptr().expose_provenance() as u64,
        iova: iova.0,
        size: region.len().0,
    };
    // SAFETY: the structure is the call's, and tells its size. No reference into a region is ever formed, so that a device may
    // write to it.
    unsafe { with(container, Call::MAP, &mut map) }.map(drop)
}

/// VFIO_IOMMU_UNMAP_DMA: how much was unmapped.
pub(super) fn unmap(container: &File, iova: Iova, len: Bytes) -> io::Result<Bytes> {
    let mut unmap = uapi::vfio_iommu_type1_dma_unmap {
        argsz: size_of_u32::<uapi::vfio_iommu_type1_dma_unmap>(),
        iova: iova.0,
        size: len.0,
        ..Default::default()
    };
    // SAFETY: the structure is the call's, and tells its size.
    unsafe { with(container, Call::UNMAP, ptr::from_mut(&mut unmap)) }?;
    Ok(Bytes(unmap.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a C compiler makes of linux/vfio.h.
    #[test]
    fn calls_have_the_kernels_numbers() {
        let numbers = [Call::VERSION, Call::DEVICE, Call::RESET, Call::UNMAP].map(|c| c.0);
        assert_eq!(numbers, [0x3b64, 0x3b6b, 0x3b6f, 0x3b72]);
    }
}
