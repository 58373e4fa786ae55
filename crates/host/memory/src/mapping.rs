//! The pages themselves: all `unsafe` of this crate.
//!
//! Memory that a device or the kernel writes behind the compiler's back is only ever handed out as a raw pointer; no
//! reference into it is formed here or anywhere (the rule of rust-vmm's vfio-ioctls).

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use libc::{c_int, c_ulong, c_void};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{
    MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap,
};
use nix::unistd::ftruncate;
use strata_units::NodeId;

/// `MPOL_MF_STRICT` of linux/mempolicy.h, which the libc crate lacks.
const MPOL_MF_STRICT: u32 = 1;

/// Whether other processes can have the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This process's alone.
    Own,
    /// A file in memory, which another process can map by its descriptor.
    Shared,
}

/// Memory of another allocator's, given back to it when this is dropped.
///
/// # Safety
/// All of it is there, zeroed, and may be read and written, for as long as this lives; nothing holds a reference into it,
/// and nobody else hands it out.
pub unsafe trait Lent: Send + std::fmt::Debug {
    /// Its first byte, at the beginning of a page.
    fn start(&self) -> NonNull<u8>;
    /// How many there are.
    fn bytes(&self) -> NonZeroUsize;
}

/// A mapping of its own pages, unmapped when dropped; or pages that are lent, and given back.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    len: NonZeroUsize,
    /// The file in memory that shared pages are of.
    file: Option<OwnedFd>,
    lent: Option<Box<dyn Lent>>,
}

// SAFETY: a mapping belongs to the process, not to a thread, and `start` has one owner. It is not Sync: whoever shares
// the pages must say why that is sound.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes, a multiple of the page, none of them touched.
    pub(crate) fn new(len: NonZeroUsize, huge: bool, whose: Whose) -> Result<Self, Errno> {
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        if whose == Whose::Shared {
            let file = file_in_memory(len, huge)?;
            // SAFETY: no address is given, so that no mapping of anyone is replaced; the file cannot shrink under it.
            let start = unsafe { mmap(None, len, both, MapFlags::MAP_SHARED, &file, 0) }?;
            let file = Some(file);
            return Ok(Self {
                start,
                len,
                file,
                lent: None,
            });
        }
        let mut flags = MapFlags::MAP_PRIVATE;
        if huge {
            flags |= MapFlags::MAP_HUGETLB | MapFlags::MAP_HUGE_2MB;
        }
        // SAFETY: no address is given, so that no mapping of anyone is replaced.
        let start = unsafe { mmap_anonymous(None, len, both, flags) }?;
        Ok(Self {
            start,
            len,
            file: None,
            lent: None,
        })
    }

    pub(crate) fn lent(memory: Box<dyn Lent>) -> Self {
        Self {
            start: memory.start().cast(),
            len: memory.bytes(),
            file: None,
            lent: Some(memory),
        }
    }

    /// The file that shared pages are of; the first byte is its first.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    fn advise(&self, advice: MmapAdvise) -> Result<(), Errno> {
        // SAFETY: the range is this mapping; none of the advices used here discards or moves its pages.
        unsafe { madvise(self.start, self.len.get(), advice) }
    }

    /// Keeps the kernel from joining small pages (a kernel without transparent huge pages has none to join: EINVAL).
    pub(crate) fn stay_small(&self) -> Result<(), Errno> {
        match self.advise(MmapAdvise::MADV_NOHUGEPAGE) {
            Err(Errno::EINVAL) => Ok(()),
            other => other,
        }
    }

    /// Binds the pages to one node (mbind(2), `MPOL_BIND`); before the first touch, or it fails with EIO where pages
    /// lie elsewhere.
    pub(crate) fn bind(&self, node: NodeId) -> Result<(), Errno> {
        let node = node.0 as usize;
        let bits = c_ulong::BITS as usize;
        let mut mask: Vec<c_ulong> = vec![0; node / bits + 1];
        mask[node / bits] |= 1 << (node % bits);
        // The kernel reads one bit less than it is told (mbind(2), BUGS of get_nodes()).
        let maxnode = mask.len() * bits + 1;
        // SAFETY: the range is this mapping, and `mask` outlives the call and holds `maxnode - 1` bits.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.start.as_ptr(),
                self.len.get(),
                libc::MPOL_BIND,
                mask.as_ptr(),
                maxnode,
                MPOL_MF_STRICT,
            )
        };
        Errno::result(rc).map(drop)
    }

    /// Faults every page in for writing (`MADV_POPULATE_WRITE`, Linux 5.14: EINVAL before). Where a touch would raise
    /// SIGBUS, as with a 2 MiB page that its node does not have, this returns EFAULT.
    pub(crate) fn populate(&self) -> Result<(), Errno> {
        loop {
            match self.advise(MmapAdvise::MADV_POPULATE_WRITE) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// Writes a zero into every page, for kernels that cannot [`populate`](Self::populate); safe for small pages only.
    pub(crate) fn touch(&self, page: usize) {
        for at in (0..self.len.get()).step_by(page) {
            // SAFETY: `at` lies inside the mapping, which is writable and not yet handed out; volatile, because a zero
            // written over a zero may otherwise be left out.
            unsafe { self.start().as_ptr().add(at).write_volatile(0) };
        }
    }

    /// Copies from `at` on; the caller has seen that it lies inside.
    pub(crate) fn copy_out(&self, at: usize, into: &mut [u8]) {
        // SAFETY: the bytes lie inside this mapping (by the caller) and no reference is into it, so that `into` is elsewhere.
        unsafe {
            let from = self.start().as_ptr().add(at);
            from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len());
        }
    }

    /// Copies to `at`; the caller has seen that it lies inside.
    pub(crate) fn copy_in(&self, at: usize, from: &[u8]) {
        // SAFETY: as in `copy_out`; the mapping is writable.
        unsafe {
            let to = self.start().as_ptr().add(at);
            to.copy_from_nonoverlapping(from.as_ptr(), from.len());
        }
    }

    /// Locks the pages into memory (mlock(2)).
    pub(crate) fn lock(&self) -> Result<(), Errno> {
        // SAFETY: the range is this mapping; unmapping unlocks it.
        unsafe { mlock(self.start, self.len.get()) }
    }

    /// For each offset, the node that its page lies on, or minus an errno (move_pages(2) without target nodes).
    pub(crate) fn nodes_at(&self, offsets: &[usize]) -> Result<Vec<c_int>, Errno> {
        let pages: Vec<*const c_void> = offsets
            .iter()
            .map(|at| self.start.as_ptr().wrapping_byte_add(*at).cast_const())
            .collect();
        // An errno that the kernel never writes as a status marks what it left unanswered.
        let mut status: Vec<c_int> = vec![-libc::ENODATA; pages.len()];
        // SAFETY: `pages` and `status` have the length told and outlive the call; the kernel only compares the addresses
        // with its tables and, without target nodes, moves nothing.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                pages.len(),
                pages.as_ptr(),
                ptr::null::<c_int>(),
                status.as_mut_ptr(),
                0,
            )
        };
        Errno::result(rc).map(|_| status)
    }
}

/// A file of `len` bytes in memory, sealed at that size, so that nobody who has it can take pages away under a mapping
/// (memfd_create(2)).
fn file_in_memory(len: NonZeroUsize, huge: bool) -> Result<OwnedFd, Errno> {
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if huge {
        flags |= MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
    }
    let file = memfd_create("strata", flags)?;
    ftruncate(&file, i64::try_from(len.get()).map_err(|_| Errno::EFBIG)?)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.lent.is_some() {
            return;
        }
        // SAFETY: the range is this mapping and its owner is gone. A failure would leak the pages, and there is nobody
        // left to tell.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}
