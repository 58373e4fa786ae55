//! SPDK's environment: DPDK with its cores, memory and devices.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_spdk_abi::Environment;

use crate::sys::*;
use crate::text;

static STARTED: AtomicBool = AtomicBool::new(false);

/// [`strata_spdk_abi::Table::start`].
pub(crate) unsafe extern "C" fn start(wanted: *const Environment) -> c_int {
    if STARTED.swap(true, Ordering::AcqRel) {
        return -libc_errno::EALREADY;
    }
    // SAFETY: the caller's table of options, alive for the call.
    let wanted = unsafe { *wanted };
    if wanted.allowed == 0 && !wanted.no_pci {
        return -libc_errno::EINVAL;
    }
    let mut allowed = vec![spdk_pci_addr::default(); wanted.allowed];
    for (n, address) in allowed.iter_mut().enumerate() {
        // SAFETY: so many strings are there, by the caller's word; the address is written to.
        let failed = unsafe { spdk_pci_addr_parse(address, *wanted.pci.add(n)) };
        if failed != 0 {
            return -libc_errno::EINVAL;
        }
    }
    // SAFETY: as SPDK's own programs begin: it is set whole by the call, whose size is told before where it is asked for.
    let mut opts = unsafe {
        let mut opts = MaybeUninit::<spdk_env_opts>::zeroed();
        #[cfg(opts_size)]
        {
            (*opts.as_mut_ptr()).opts_size = size_of::<spdk_env_opts>();
        }
        spdk_env_opts_init(opts.as_mut_ptr());
        opts.assume_init()
    };
    // SAFETY: strings of the caller's, alive for the call; SPDK copies what it keeps.
    let (name, cores) = unsafe { (text(wanted.name), text(wanted.cores)) };
    if let Some(name) = name {
        opts.name = name.as_ptr();
    }
    if let Some(cores) = cores {
        opts.core_mask = cores.as_ptr();
    }
    opts.mem_size = wanted.memory_mib;
    if wanted.no_huge {
        small_pages(&mut opts);
    }
    opts.no_pci = wanted.no_pci;
    if !allowed.is_empty() {
        opts.num_pci_addr = allowed.len();
        // SPDK frees none of it, and reads it only here.
        opts.pci_allowed = allowed.as_mut_ptr();
    }
    // SAFETY: the options are whole, and the logs are opened before anything is said.
    unsafe {
        strata_log_open();
        spdk_env_init(&opts)
    }
}

#[cfg(no_huge)]
fn small_pages(opts: &mut spdk_env_opts) {
    opts.no_huge = true;
}

/// As later releases ask DPDK for it; of what is said twice the last counts.
#[cfg(not(no_huge))]
fn small_pages(opts: &mut spdk_env_opts) {
    let more = c"--no-huge --legacy-mem --iova-mode=va";
    opts.env_context = more.as_ptr().cast_mut().cast();
}

/// [`strata_spdk_abi::Table::said`].
pub(crate) unsafe extern "C" fn said(into: *mut u8, room: usize) -> usize {
    // SAFETY: the caller's room.
    unsafe { strata_log_take(into, room) }
}

/// [`strata_spdk_abi::Table::allocate`].
pub(crate) unsafe extern "C" fn allocate(bytes: usize, align: usize, node: c_int) -> *mut c_void {
    // SAFETY: the environment has been started, by the caller's word.
    unsafe { spdk_zmalloc(bytes, align, null_mut(), node, MALLOC_DMA) }
}

/// [`strata_spdk_abi::Table::release`].
pub(crate) unsafe extern "C" fn release(memory: *mut c_void) {
    // SAFETY: it is of `allocate`, and nothing of it is in use, by the caller's word.
    unsafe { spdk_free(memory) }
}

/// Linux's error numbers that are used here; a crate for these few would be more than they are.
pub(crate) mod libc_errno {
    use std::ffi::c_int;

    pub(crate) const ENOMEM: c_int = 12;
    pub(crate) const ENODEV: c_int = 19;
    pub(crate) const EINVAL: c_int = 22;
    pub(crate) const EALREADY: c_int = 114;
}
