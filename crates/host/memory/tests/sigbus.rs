//! Memory that is taken away while it is mapped, in a process of its own: the handler is one of the process.

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use strata_memory::sigbus::{self, Of, Watched};
use strata_units::Bytes;

const PAGE: usize = 4096;

/// What a handler that was there before ours saw last.
static FOREIGN: AtomicUsize = AtomicUsize::new(0);

/// A file in memory, mapped whole, that can be made shorter.
struct Mapped {
    file: File,
    start: NonNull<u8>,
    len: usize,
}

impl Mapped {
    fn new(pages: usize) -> Mapped {
        let len = pages * PAGE;
        let file = File::from(memfd_create("torn", MFdFlags::MFD_CLOEXEC).expect("a file"));
        file.set_len(len as u64).expect("its length");
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let size = len.try_into().expect("not 0");
        // SAFETY: no address is given, so that no mapping of anyone is replaced.
        let start = unsafe { mmap(None, size, both, MapFlags::MAP_SHARED, file.as_fd(), 0) };
        let start = start.expect("mapped").cast();
        Mapped { file, start, len }
    }

    fn watched(&self, of: Of) -> Watched {
        let len = Bytes(self.len as u64);
        Watched::new(of, self.start, len, Bytes(4096)).expect("a free place")
    }

    fn load(&self, at: usize) -> u32 {
        assert!(at + 4 <= self.len);
        // SAFETY: the four bytes are mapped and aligned; others may change or take them away, so the access is volatile.
        unsafe { self.start.byte_add(at).cast::<u32>().read_volatile() }
    }

    fn store(&self, at: usize, value: u32) {
        assert!(at + 4 <= self.len);
        // SAFETY: as in `load`; the mapping is writable.
        unsafe { self.start.byte_add(at).cast::<u32>().write_volatile(value) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, which nobody uses any more.
        unsafe { munmap(self.start.cast(), self.len) }.expect("unmapped");
    }
}

/// Puts a page of zeroes where the access was, and notes where.
extern "C" fn foreign(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid structure, with the address of the access.
    let at = unsafe { (*info).si_addr() }.addr();
    FOREIGN.store(at, Ordering::Relaxed);
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let page = ptr::without_provenance_mut(at & !(PAGE - 1));
    // SAFETY: the page lies in a mapping of this test's.
    let put = unsafe { libc::mmap(page, PAGE, libc::PROT_READ, flags, -1, 0) };
    assert_ne!(put, libc::MAP_FAILED);
}

/// The handler of this process: a foreign one, and ours after it. One test at a time, since places are counted.
fn install() -> MutexGuard<'static, ()> {
    static ONCE: Once = Once::new();
    static ALONE: Mutex<()> = Mutex::new(());
    ONCE.call_once(|| {
        // SAFETY: an action of zeroes is valid; the handler has the arguments that SA_SIGINFO gives it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = foreign as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()),
                0,
                "installed"
            );
        }
        sigbus::install().expect("installed");
    });
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn registers_that_are_gone_read_as_ones_and_a_clients_memory_as_zeroes() {
    let _alone = install();
    for (of, expected) in [
        (Of::Registers, u32::MAX),
        (Of::Client, 0),
        (Of::Namespace, 0),
    ] {
        let mapped = Mapped::new(3);
        let watched = mapped.watched(of);
        for page in 0..3 {
            mapped.store(page * PAGE, 7);
        }
        let before = sigbus::torn();
        assert!(!watched.is_torn());
        mapped.file.set_len(PAGE as u64).expect("shorter");
        // What is left is as it was; of the rest each page is found gone by itself, by a load as by a store.
        assert_eq!(mapped.load(0), 7, "{of:?}");
        assert!(!watched.is_torn());
        assert_eq!(mapped.load(PAGE + 8), expected, "{of:?}");
        assert!(watched.is_torn() && sigbus::torn() != before);
        mapped.store(2 * PAGE, 9);
        assert_eq!(
            (mapped.load(2 * PAGE), mapped.load(2 * PAGE + 4)),
            (9, expected)
        );
        assert_eq!(mapped.load(0), 7, "{of:?}");
        assert_eq!(mapped.file.metadata().expect("a file").len(), PAGE as u64);
    }
}

#[test]
fn what_is_torn_by_its_owner_is_gone_at_once() {
    let _alone = install();
    let mapped = Mapped::new(2);
    let watched = mapped.watched(Of::Registers);
    mapped.store(0, 7);
    assert!(watched.tear() && watched.is_torn());
    assert_eq!((mapped.load(0), mapped.load(PAGE)), (u32::MAX, u32::MAX));
    // Nothing of it reaches the file.
    mapped.store(0, 9);
    let mut word = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&mapped.file, &mut word, 0).expect("read");
    assert_eq!(word, 7u32.to_ne_bytes());
}

#[test]
fn a_fault_elsewhere_is_its_handlers_and_ours_stays() {
    let _alone = install();
    let (watched_one, other) = (Mapped::new(1), Mapped::new(1));
    let watched = watched_one.watched(Of::Registers);
    other.file.set_len(0).expect("shorter");
    assert_eq!(other.load(16), 0);
    let at = other.start.addr().get() + 16;
    assert_eq!(FOREIGN.load(Ordering::Relaxed), at);
    assert!(!watched.is_torn());
    watched_one.file.set_len(0).expect("shorter");
    assert_eq!(watched_one.load(16), u32::MAX);
    assert!(watched.is_torn());
}

#[test]
fn places_are_given_back_and_each_kind_has_its_own() {
    let _alone = install();
    let mapped = Mapped::new(1);
    let all: Vec<Watched> =
        std::iter::from_fn(|| Watched::new(Of::Namespace, mapped.start, Bytes(4096), Bytes(4096)))
            .take(5000)
            .collect();
    assert!((1000..5000).contains(&all.len()), "{}", all.len());
    assert!(Watched::new(Of::Registers, mapped.start, Bytes(4096), Bytes(4096)).is_some());
    drop(all);
    drop(mapped.watched(Of::Namespace));
}
