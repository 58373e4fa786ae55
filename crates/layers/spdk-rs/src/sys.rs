//! What is used of SPDK, declared by us. Sizes and places of members are compared with the headers when this is compiled;
//! prototypes are compared by `layout.c`. SPDK 22.01 and later: env.h, nvme.h.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

pub(crate) use layout::{VERSION_MAJOR, VERSION_MINOR, VERSION_PATCH};

macro_rules! opaque {
    ($($name:ident),*) => {$(
        #[repr(C)]
        pub(crate) struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

opaque!(spdk_nvme_ctrlr, spdk_nvme_ns, spdk_nvme_qpair);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct spdk_env_opts {
    pub(crate) name: *const c_char,
    pub(crate) core_mask: *const c_char,
    #[cfg(lcore_map)]
    pub(crate) lcore_map: *const c_char,
    pub(crate) shm_id: c_int,
    pub(crate) mem_channel: c_int,
    pub(crate) main_core: c_int,
    pub(crate) mem_size: c_int,
    pub(crate) no_pci: bool,
    pub(crate) hugepage_single_segments: bool,
    pub(crate) unlink_hugepage: bool,
    /// A hole before 24.01.
    pub(crate) no_huge: bool,
    /// A hole before 24.09.
    pub(crate) reserved: u32,
    pub(crate) num_pci_addr: usize,
    pub(crate) hugedir: *const c_char,
    pub(crate) pci_blocked: *mut spdk_pci_addr,
    pub(crate) pci_allowed: *mut spdk_pci_addr,
    pub(crate) iova_mode: *const c_char,
    pub(crate) base_virtaddr: u64,
    pub(crate) env_context: *mut c_void,
    #[cfg(vf_token)]
    pub(crate) vf_token: *const c_char,
    /// Set by the caller before all else, so that members behind it are known to be there or not.
    #[cfg(opts_size)]
    pub(crate) opts_size: usize,
}

const _: () = {
    // Who says how large it is may have less of it than there is now.
    #[cfg(opts_size)]
    assert!(size_of::<spdk_env_opts>() <= layout::ENV_OPTS_SIZE);
    #[cfg(opts_size)]
    assert!(offset_of!(spdk_env_opts, opts_size) == layout::OPTS_SIZE_AT);
    #[cfg(not(opts_size))]
    assert!(size_of::<spdk_env_opts>() == layout::ENV_OPTS_SIZE);
    assert!(offset_of!(spdk_env_opts, name) == layout::ENV_OPTS_NAME);
    assert!(offset_of!(spdk_env_opts, core_mask) == layout::ENV_OPTS_CORE_MASK);
    assert!(offset_of!(spdk_env_opts, shm_id) == layout::ENV_OPTS_SHM_ID);
    assert!(offset_of!(spdk_env_opts, main_core) == layout::ENV_OPTS_MAIN_CORE);
    assert!(offset_of!(spdk_env_opts, mem_size) == layout::ENV_OPTS_MEM_SIZE);
    assert!(offset_of!(spdk_env_opts, no_pci) == layout::ENV_OPTS_NO_PCI);
    #[cfg(no_huge)]
    assert!(offset_of!(spdk_env_opts, no_huge) == layout::ENV_OPTS_NO_HUGE);
    assert!(offset_of!(spdk_env_opts, num_pci_addr) == layout::ENV_OPTS_NUM_PCI_ADDR);
    assert!(offset_of!(spdk_env_opts, pci_allowed) == layout::ENV_OPTS_PCI_ALLOWED);
    assert!(offset_of!(spdk_env_opts, env_context) == layout::ENV_OPTS_ENV_CONTEXT);
    #[cfg(vf_token)]
    assert!(offset_of!(spdk_env_opts, vf_token) == layout::ENV_OPTS_VF_TOKEN);
};

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct spdk_pci_addr {
    pub(crate) domain: u32,
    pub(crate) bus: u8,
    pub(crate) dev: u8,
    pub(crate) func: u8,
}

const _: () = assert!(size_of::<spdk_pci_addr>() == layout::PCI_ADDR_SIZE);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct spdk_nvme_transport_id {
    pub(crate) trstring: [c_char; 33],
    pub(crate) trtype: c_int,
    pub(crate) adrfam: c_int,
    pub(crate) traddr: [c_char; 257],
    pub(crate) trsvcid: [c_char; 33],
    pub(crate) subnqn: [c_char; 224],
    pub(crate) priority: c_int,
}

const _: () = {
    assert!(size_of::<spdk_nvme_transport_id>() == layout::TRANSPORT_ID_SIZE);
    assert!(offset_of!(spdk_nvme_transport_id, trtype) == layout::TRANSPORT_ID_TRTYPE);
    assert!(offset_of!(spdk_nvme_transport_id, traddr) == layout::TRANSPORT_ID_TRADDR);
    assert!(offset_of!(spdk_nvme_transport_id, subnqn) == layout::TRANSPORT_ID_SUBNQN);
};

/// Its beginning, which has not changed; the rest is as the library sets it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct spdk_nvme_io_qpair_opts {
    pub(crate) qprio: c_int,
    pub(crate) io_queue_size: u32,
    pub(crate) io_queue_requests: u32,
    pub(crate) delay_cmd_submit: bool,
    rest: [u8; layout::QPAIR_OPTS_SIZE - 13],
}

const _: () = {
    assert!(offset_of!(spdk_nvme_io_qpair_opts, io_queue_size) == layout::QPAIR_OPTS_IO_QUEUE_SIZE);
    assert!(
        offset_of!(spdk_nvme_io_qpair_opts, io_queue_requests)
            == layout::QPAIR_OPTS_IO_QUEUE_REQUESTS
    );
    assert!(
        offset_of!(spdk_nvme_io_qpair_opts, delay_cmd_submit)
            == layout::QPAIR_OPTS_DELAY_CMD_SUBMIT
    );
    // Its own alignment would make it longer where it ends on an odd place.
    assert!(size_of::<spdk_nvme_io_qpair_opts>() == layout::QPAIR_OPTS_SIZE);
};

/// Completion queue entry (NVM Express Base Specification).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct spdk_nvme_cpl {
    pub(crate) cdw0: u32,
    pub(crate) cdw1: u32,
    pub(crate) sqhd: u16,
    pub(crate) sqid: u16,
    pub(crate) cid: u16,
    /// Phase, status code, its type, and more.
    pub(crate) status: u16,
}

const _: () = {
    assert!(size_of::<spdk_nvme_cpl>() == layout::CPL_SIZE);
    assert!(offset_of!(spdk_nvme_cpl, status) == layout::CPL_STATUS);
    assert!(layout::CTRLR_DATA_SIZE == strata_spdk_abi::IDENTIFY);
    assert!(layout::NS_DATA_SIZE == strata_spdk_abi::IDENTIFY);
    assert!(layout::CAP_SIZE == size_of::<u64>());
    assert!(layout::MALLOC_DMA == MALLOC_DMA as usize);
    assert!(layout::ANY_NODE_IS_MINUS_ONE == 1);
};

/// `SPDK_MALLOC_DMA`.
pub(crate) const MALLOC_DMA: u32 = 1;

pub(crate) type Called = unsafe extern "C" fn(*mut c_void, *const spdk_nvme_cpl);

/// A read, or a write.
pub(crate) type Moves = unsafe extern "C" fn(
    *mut spdk_nvme_ns,
    *mut spdk_nvme_qpair,
    *mut c_void,
    u64,
    u32,
    Called,
    *mut c_void,
    u32,
) -> c_int;

// SAFETY: prototypes are compared with the headers by `layout.c`, which does not compile with others; those of log.c are there.
unsafe extern "C" {
    pub(crate) fn spdk_env_opts_init(opts: *mut spdk_env_opts);
    pub(crate) fn spdk_env_init(opts: *const spdk_env_opts) -> c_int;
    pub(crate) fn spdk_pci_addr_parse(into: *mut spdk_pci_addr, text: *const c_char) -> c_int;
    pub(crate) fn spdk_zmalloc(
        size: usize,
        align: usize,
        unused: *mut u64,
        node: c_int,
        flags: u32,
    ) -> *mut c_void;
    pub(crate) fn spdk_free(memory: *mut c_void);
    pub(crate) fn spdk_nvme_transport_id_parse(
        into: *mut spdk_nvme_transport_id,
        text: *const c_char,
    ) -> c_int;
    pub(crate) fn spdk_nvme_connect(
        to: *const spdk_nvme_transport_id,
        opts: *const c_void,
        size: usize,
    ) -> *mut spdk_nvme_ctrlr;
    pub(crate) fn spdk_nvme_detach(ctrlr: *mut spdk_nvme_ctrlr) -> c_int;
    pub(crate) fn spdk_nvme_ctrlr_reset(ctrlr: *mut spdk_nvme_ctrlr) -> c_int;
    pub(crate) fn spdk_nvme_ctrlr_process_admin_completions(ctrlr: *mut spdk_nvme_ctrlr) -> i32;
    pub(crate) fn spdk_nvme_ctrlr_is_failed(ctrlr: *mut spdk_nvme_ctrlr) -> bool;
    /// A union of 8 bytes, which comes back as a number does.
    pub(crate) fn spdk_nvme_ctrlr_get_regs_cap(ctrlr: *mut spdk_nvme_ctrlr) -> u64;
    pub(crate) fn spdk_nvme_ctrlr_get_data(ctrlr: *mut spdk_nvme_ctrlr) -> *const u8;
    pub(crate) fn spdk_nvme_ctrlr_get_max_xfer_size(ctrlr: *const spdk_nvme_ctrlr) -> u32;
    pub(crate) fn spdk_nvme_ctrlr_get_first_active_ns(ctrlr: *mut spdk_nvme_ctrlr) -> u32;
    pub(crate) fn spdk_nvme_ctrlr_get_next_active_ns(
        ctrlr: *mut spdk_nvme_ctrlr,
        before: u32,
    ) -> u32;
    pub(crate) fn spdk_nvme_ctrlr_get_ns(ctrlr: *mut spdk_nvme_ctrlr, id: u32)
    -> *mut spdk_nvme_ns;
    pub(crate) fn spdk_nvme_ns_get_data(ns: *mut spdk_nvme_ns) -> *const u8;
    pub(crate) fn spdk_nvme_ctrlr_get_default_io_qpair_opts(
        ctrlr: *mut spdk_nvme_ctrlr,
        into: *mut spdk_nvme_io_qpair_opts,
        size: usize,
    );
    pub(crate) fn spdk_nvme_ctrlr_alloc_io_qpair(
        ctrlr: *mut spdk_nvme_ctrlr,
        opts: *const spdk_nvme_io_qpair_opts,
        size: usize,
    ) -> *mut spdk_nvme_qpair;
    pub(crate) fn spdk_nvme_ctrlr_free_io_qpair(qpair: *mut spdk_nvme_qpair) -> c_int;
    pub(crate) fn spdk_nvme_qpair_process_completions(
        qpair: *mut spdk_nvme_qpair,
        most: u32,
    ) -> i32;
    pub(crate) fn spdk_nvme_ns_cmd_read(
        ns: *mut spdk_nvme_ns,
        qpair: *mut spdk_nvme_qpair,
        buffer: *mut c_void,
        lba: u64,
        count: u32,
        called: Called,
        with: *mut c_void,
        flags: u32,
    ) -> c_int;
    pub(crate) fn spdk_nvme_ns_cmd_write(
        ns: *mut spdk_nvme_ns,
        qpair: *mut spdk_nvme_qpair,
        buffer: *mut c_void,
        lba: u64,
        count: u32,
        called: Called,
        with: *mut c_void,
        flags: u32,
    ) -> c_int;
    pub(crate) fn spdk_nvme_ns_cmd_flush(
        ns: *mut spdk_nvme_ns,
        qpair: *mut spdk_nvme_qpair,
        called: Called,
        with: *mut c_void,
    ) -> c_int;

    // Of log.c.
    pub(crate) fn strata_log_open();
    pub(crate) fn strata_log_take(into: *mut u8, room: usize) -> usize;
}
