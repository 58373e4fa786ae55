//! Memory that its owner takes away. A client of an emulated controller may make the file behind its memory shorter after it
//! was mapped, and whoever touches what is gone gets SIGBUS (mmap(2)); so does whoever writes into a hole of a file on a disk
//! that is full, and whoever touches registers of a device that was pulled. Here a page of zeroes, or of ones for registers
//! (what a bus answers where no device does), takes the place of what is gone, and who watches it is told. Signals that are
//! about other memory go to whoever handled them before.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use libc::{c_int, c_void, sigaction, siginfo_t};
use strata_units::Bytes;

/// Mappings of clients that are watched at a time, by all controllers of the process: each client may have 256.
const CLIENTS: usize = 1024;

/// Mappings of namespaces' files, which take no place of a client's.
const NAMESPACES: usize = 1024;

/// Mappings of devices' registers: a few each.
const REGISTERS: usize = 256;

const MOST: usize = CLIENTS + NAMESPACES + REGISTERS;

/// Whose memory is watched.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// A client's, given to an emulated controller.
    Client,
    /// A file that an emulated controller keeps a namespace in.
    Namespace,
    /// A device's registers.
    Registers,
}

impl Of {
    /// The places for it.
    fn slots(self) -> Range<usize> {
        match self {
            Of::Client => 0..CLIENTS,
            Of::Namespace => CLIENTS..CLIENTS + NAMESPACES,
            Of::Registers => CLIENTS + NAMESPACES..MOST,
        }
    }

    /// What each byte reads as where memory is gone.
    fn instead(slot: usize) -> u8 {
        if Of::Registers.slots().contains(&slot) {
            0xff
        } else {
            0
        }
    }
}

/// Where a watched mapping lies; `start` is 0 where none is.
struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    page: AtomicUsize,
    torn: AtomicBool,
}

static SLOTS: [Slot; MOST] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        torn: AtomicBool::new(false),
    }
}; MOST];

/// The system's page, once the handler is there.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// How often memory was found gone in this process.
static TORN: AtomicU32 = AtomicU32::new(0);

static BEFORE: OnceLock<sigaction> = OnceLock::new();

/// How often memory was found gone in this process: while it does not change, none was.
#[inline(always)]
pub fn torn() -> u32 {
    TORN.load(Ordering::Relaxed)
}

/// Installs the handler, once a process; without it nothing that is watched is saved.
///
/// # Errors
/// sigaction(2) refuses.
pub fn install() -> io::Result<()> {
    static DONE: OnceLock<Result<(), c_int>> = OnceLock::new();
    DONE.get_or_init(|| {
        // SAFETY: it asks for a number only.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        if let Ok(page @ 1..) = usize::try_from(page) {
            PAGE.store(page, Ordering::Relaxed);
        }
        let mut before = MaybeUninit::<sigaction>::uninit();
        // SAFETY: an action of zeroes is a valid one, whose fields are then set; sigaction(2) fills `before` when it
        // succeeds. The handler touches atomics and calls mmap and sigaction only.
        let before = unsafe {
            let mut action: sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            if sigaction_of(&action, before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error().raw_os_error().unwrap_or(0));
            }
            before.assume_init()
        };
        let _ = BEFORE.set(before);
        Ok(())
    })
    .map_err(io::Error::from_raw_os_error)
}

/// # Safety
/// As sigaction(2): valid pointers, a handler that is safe in a signal.
unsafe fn sigaction_of(new: *const sigaction, old: *mut sigaction) -> c_int {
    // SAFETY: the caller's.
    unsafe { libc::sigaction(libc::SIGBUS, new, old) }
}

extern "C" fn on_sigbus(number: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid structure to a handler installed with SA_SIGINFO; SIGBUS of its own has an address in it.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Somebody sent it (kill(2)): it tells of no memory, does not come again, and nothing follows from it.
    if code <= 0 {
        return;
    }
    for (index, slot) in SLOTS.iter().enumerate() {
        if slot.patch(at, Of::instead(index)) {
            return;
        }
    }
    hand_on(number, info, context);
}

/// The signal is about memory that is not watched: whoever handled it before has it.
fn hand_on(number: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let handler = BEFORE.get().map_or(libc::SIG_DFL, |it| it.sa_sigaction);
    let with_info = BEFORE
        .get()
        .is_some_and(|it| it.sa_flags & libc::SA_SIGINFO != 0);
    match handler {
        // The instruction runs again, and the signal comes again and ends the process.
        // SAFETY: an action of zeroes is the default one; sigaction(2) is safe in a signal.
        libc::SIG_DFL | libc::SIG_IGN => unsafe {
            let default: sigaction = std::mem::zeroed();
            sigaction_of(&default, ptr::null_mut());
        },
        // SAFETY: sigaction(2) gave this as a handler of three arguments, which are those of this signal.
        handler if with_info => unsafe {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                std::mem::transmute(handler);
            handler(number, info, context);
        },
        // SAFETY: sigaction(2) gave this as a handler of one argument.
        handler => unsafe {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(number);
        },
    }
}

impl Slot {
    /// Puts bytes of `with` in place of the page around `at`, if it lies here. Called in a signal.
    fn patch(&self, at: usize, with: u8) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire);
        if start == 0 || !(start..end).contains(&at) || self.start.load(Ordering::Acquire) != start
        {
            return false;
        }
        let around = |page: usize| {
            let from = (at & !(page - 1)).max(start);
            replace(from, from.saturating_add(page).min(end), with)
        };
        // No more than must be. A mapping of huge pages can be split between those only, or else not at all.
        let patched = around(PAGE.load(Ordering::Relaxed))
            || around(self.page.load(Ordering::Relaxed))
            || replace(start, end, with);
        if !patched {
            return false;
        }
        self.torn.store(true, Ordering::Release);
        TORN.fetch_add(1, Ordering::Release);
        true
    }
}

/// The same as [`fill`], or at worst with zeroes, which take nothing but what was there: whoever reads registers looks at the flag
/// behind the access. Called in a signal.
fn replace(from: usize, to: usize, with: u8) -> bool {
    fill(from, to, with) || with != 0 && fill(from, to, 0)
}

/// Puts private memory, each byte of it `with`, in place of what is mapped at the addresses, at once. Called in a signal.
fn fill(from: usize, to: usize, with: u8) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let (at, len) = (ptr::without_provenance_mut(from), to - from);
    if with == 0 {
        // SAFETY: the addresses lie in a watched mapping, whose owner reads and writes it by raw accesses and unmaps it as
        // a whole. mmap is a system call without state in the process.
        return unsafe { libc::mmap(at, len, both, flags | libc::MAP_FIXED, -1, 0) }
            != libc::MAP_FAILED;
    }
    // Filled elsewhere first: another thread may read it the moment that it is there.
    // SAFETY: no address is given, so that no mapping of anyone is replaced.
    let filled = unsafe { libc::mmap(ptr::null_mut(), len, both, flags, -1, 0) };
    if filled == libc::MAP_FAILED {
        return false;
    }
    let move_to = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: `filled` is mapped, writable, `len` long and known here alone; it is moved over a part of a watched mapping, as
    // above. mremap is a system call without state in the process.
    unsafe {
        filled.cast::<u8>().write_bytes(with, len);
        if libc::mremap(filled, len, len, move_to, at) != libc::MAP_FAILED {
            return true;
        }
        libc::munmap(filled, len);
    }
    false
}

/// A mapping that is watched until this is dropped, which must be before it is unmapped.
#[derive(Debug)]
pub struct Watched(usize);

impl Watched {
    /// Watches a mapping that can be split between pages of `page` at least; `None` when as many are watched as can be.
    pub fn new(of: Of, start: NonNull<u8>, len: Bytes, page: Bytes) -> Option<Watched> {
        let page = page.as_usize().clamp(4096, 1 << 30).next_power_of_two();
        for index in of.slots() {
            let slot = &SLOTS[index];
            let free =
                slot.taken
                    .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
            if free.is_err() {
                continue;
            }
            let start = start.addr().get();
            slot.torn.store(false, Ordering::Relaxed);
            slot.page.store(page, Ordering::Relaxed);
            slot.end.store(start + len.as_usize(), Ordering::Release);
            slot.start.store(start, Ordering::Release);
            return Some(Watched(index));
        }
        None
    }

    /// Whether a part of it was gone.
    #[inline]
    pub fn is_torn(&self) -> bool {
        SLOTS[self.0].torn.load(Ordering::Acquire)
    }

    /// Takes away all of it: from now on it reads as what is gone does, and the file that it was of is held by it no more.
    /// `false` when the system refuses.
    pub fn tear(&self) -> bool {
        let slot = &SLOTS[self.0];
        let [start, end] = [&slot.start, &slot.end].map(|at| at.load(Ordering::Acquire));
        let torn = replace(start, end, Of::instead(self.0));
        slot.torn.fetch_or(torn, Ordering::AcqRel);
        TORN.fetch_add(u32::from(torn), Ordering::Release);
        torn
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let slot = &SLOTS[self.0];
        slot.start.store(0, Ordering::Release);
        slot.end.store(0, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_was_sent_leaves_the_handler_where_it_is() {
        install().expect("installed");
        // SAFETY: the handler is there; an action of zeroes is one that sigaction(2) can fill.
        let now = unsafe {
            assert_eq!(libc::raise(libc::SIGBUS), 0);
            let mut now: sigaction = std::mem::zeroed();
            assert_eq!(sigaction_of(ptr::null(), &mut now), 0);
            now
        };
        assert_eq!(now.sa_sigaction, on_sigbus as *const () as usize);
    }
}
