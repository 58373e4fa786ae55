//! pread(2) and pwrite(2) on the raw buffers of slots.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use strata_measure::{Buffer, Op, OpKind};
use strata_units::{Bytes, CpuId};

/// Does the operation with the buffer's first `op.len` bytes; the number of bytes moved.
///
/// # Errors
/// The system's, and `EINVAL` when the buffer is shorter than the operation.
pub(crate) fn transfer(file: BorrowedFd<'_>, buffer: &Buffer<'_>, op: Op) -> io::Result<usize> {
    let len = op.len.as_usize();
    if len > buffer.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let at = libc::off_t::try_from(op.at.0)
        .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    let fd = file.as_raw_fd();
    let pointer = buffer.as_ptr().cast();
    let moved = if op.kind == OpKind::Write {
        // SAFETY: the buffer holds at least `len` bytes for as long as it is borrowed; the kernel only reads them.
        unsafe { libc::pwrite(fd, pointer, len, at) }
    } else {
        // SAFETY: the buffer holds at least `len` writable bytes for as long as it is borrowed, and no reference into it
        // exists anywhere.
        unsafe { libc::pread(fd, pointer, len, at) }
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Offset of the first hole at or after `from`; none when the file system does not say (lseek(2), SEEK_HOLE). The end of
/// a file counts as a hole.
pub(crate) fn first_hole(file: &File, from: u64) -> Option<u64> {
    let from = libc::off_t::try_from(from).ok()?;
    // SAFETY: lseek takes no pointers; the descriptor is open.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_HOLE) };
    u64::try_from(at).ok()
}

/// Bytes that an ordinary user may still write to the file system of `folder` (statvfs(3)); none when it does not say.
///
/// # Errors
/// The system's.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<Option<Bytes>> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in a zero byte, and `found` is valid to write a statvfs to.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a valid statvfs, and then filled by the call.
    let found = unsafe { found.assume_init() };
    // Some file systems (ramfs) count no blocks at all.
    Ok((found.f_blocks > 0).then(|| Bytes(found.f_bavail.saturating_mul(found.f_frsize))))
}

/// Gives a file its name, unless something has that name already (renameat2(2), RENAME_NOREPLACE; where the file system
/// does not know that, after a look).
///
/// # Errors
/// The system's; `EEXIST` when the name is taken.
pub(crate) fn name(from: &Path, to: &Path) -> io::Result<()> {
    let [old, new] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (old, new) = (old?, new?);
    // SAFETY: both paths end in a zero byte and live for the call.
    let renamed = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            old.as_ptr(),
            libc::AT_FDCWD,
            new.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if renamed == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) if !to.exists() => std::fs::rename(from, to),
        _ => Err(error),
    }
}

/// The least that can be addressed of a block device (ioctl BLKSSZGET, linux/fs.h).
///
/// # Errors
/// The system's.
pub(crate) fn logical_block(device: &File) -> io::Result<Bytes> {
    /// `_IO(0x12, 104)`
    const BLKSSZGET: libc::Ioctl = 0x1268;
    let mut size: libc::c_int = 0;
    // SAFETY: the descriptor is open, and `size` is valid to write an int to, which is all that this call does.
    if unsafe { libc::ioctl(device.as_raw_fd(), BLKSSZGET, &raw mut size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(size)
        .ok()
        .filter(|size| *size > 0)
        .map(Bytes)
        .ok_or_else(|| io::Error::other(format!("logical blocks of {size} bytes")))
}

/// Asks the kernel to drop what it has cached of a file (posix_fadvise(2)); a wish, whose refusal changes nothing.
pub(crate) fn drop_cached(file: &File) {
    // SAFETY: takes no pointers; the descriptor is open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// How much memory this process may lock or pin (getrlimit(2), RLIMIT_MEMLOCK), in words.
pub(crate) fn locked_limit() -> String {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid to write an rlimit to.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return "unknown".to_owned();
    }
    match limit.rlim_cur {
        libc::RLIM_INFINITY => "unlimited".to_owned(),
        bytes => Bytes(bytes).to_string(),
    }
}

/// The CPUs that the process as a whole may use: those of its first thread, since measuring threads have one each
/// (sched_getaffinity(2)). Empty when the kernel does not say.
pub(crate) fn process_cpus() -> Vec<CpuId> {
    // The kernel's mask may be longer than glibc's type of 1024 CPUs; 8192 are the most that it is built for.
    let mut mask = [0u64; 128];
    // SAFETY: `mask` is valid to write as many bytes to as are told; the process's number is also its first thread's.
    let filled = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            libc::getpid(),
            size_of_val(&mask),
            mask.as_mut_ptr(),
        )
    };
    let bits = usize::try_from(filled).unwrap_or(0) * 8;
    (0..bits)
        .filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1)
        .filter_map(|cpu| Some(CpuId(cpu.try_into().ok()?)))
        .collect()
}
