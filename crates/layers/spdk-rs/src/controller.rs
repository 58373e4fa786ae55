//! Controllers: attached to, asked, reset, given up.

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::null;

use strata_spdk_abi::{Controller, IDENTIFY};

use crate::environment::libc_errno::{EINVAL, ENODEV};
use crate::sys::*;

fn raw(controller: *mut Controller) -> *mut spdk_nvme_ctrlr {
    controller.cast()
}

/// [`strata_spdk_abi::Table::connect`].
pub(crate) unsafe extern "C" fn connect(to: *const c_char, into: *mut *mut Controller) -> c_int {
    let mut id = MaybeUninit::<spdk_nvme_transport_id>::zeroed();
    // SAFETY: zeros are an identifier of nothing; the text ends with a null byte, by the caller's word.
    let failed = unsafe { spdk_nvme_transport_id_parse(id.as_mut_ptr(), to) };
    if failed != 0 {
        return -EINVAL;
    }
    // SAFETY: the identifier is whole; without options SPDK takes its own.
    let found = unsafe { spdk_nvme_connect(id.as_ptr(), null(), 0) };
    if found.is_null() {
        return -ENODEV;
    }
    // SAFETY: the caller's place.
    unsafe { *into = found.cast() };
    0
}

/// Copies a page of Identify.
///
/// # Safety
/// `from` is null or has a page, `into` has room for one.
unsafe fn page(from: *const u8, into: *mut u8) -> c_int {
    if from.is_null() {
        return -ENODEV;
    }
    // SAFETY: the caller's; SPDK's page and the caller's room are different memory.
    unsafe { std::ptr::copy_nonoverlapping(from, into, IDENTIFY) };
    0
}

/// [`strata_spdk_abi::Table::identify`].
pub(crate) unsafe extern "C" fn identify(controller: *mut Controller, into: *mut u8) -> c_int {
    // SAFETY: the controller is attached, and there is room, by the caller's word.
    unsafe { page(spdk_nvme_ctrlr_get_data(raw(controller)), into) }
}

/// [`strata_spdk_abi::Table::namespaces`].
pub(crate) unsafe extern "C" fn namespaces(
    controller: *mut Controller,
    into: *mut u32,
    room: usize,
) -> usize {
    let mut found = 0;
    // SAFETY: the controller is attached, by the caller's word.
    let mut id = unsafe { spdk_nvme_ctrlr_get_first_active_ns(raw(controller)) };
    while id != 0 {
        if found < room {
            // SAFETY: there is room for so many, by the caller's word.
            unsafe { *into.add(found) = id };
        }
        found += 1;
        // SAFETY: as above.
        id = unsafe { spdk_nvme_ctrlr_get_next_active_ns(raw(controller), id) };
    }
    found
}

/// [`strata_spdk_abi::Table::identify_namespace`].
pub(crate) unsafe extern "C" fn identify_namespace(
    controller: *mut Controller,
    id: u32,
    into: *mut u8,
) -> c_int {
    // SAFETY: the controller is attached, and there is room, by the caller's word; what is no namespace is null.
    unsafe {
        let ns = spdk_nvme_ctrlr_get_ns(raw(controller), id);
        if ns.is_null() {
            return -ENODEV;
        }
        page(spdk_nvme_ns_get_data(ns), into)
    }
}

/// [`strata_spdk_abi::Table::largest`].
pub(crate) unsafe extern "C" fn largest(controller: *mut Controller) -> u32 {
    // SAFETY: the controller is attached, by the caller's word.
    unsafe { spdk_nvme_ctrlr_get_max_xfer_size(raw(controller)) }
}

/// [`strata_spdk_abi::Table::failed`].
pub(crate) unsafe extern "C" fn failed(controller: *mut Controller) -> c_int {
    // SAFETY: as above.
    c_int::from(unsafe { spdk_nvme_ctrlr_is_failed(raw(controller)) })
}

/// [`strata_spdk_abi::Table::attend`].
pub(crate) unsafe extern "C" fn attend(controller: *mut Controller) -> c_int {
    // SAFETY: as above.
    unsafe { spdk_nvme_ctrlr_process_admin_completions(raw(controller)) }.min(0)
}

/// [`strata_spdk_abi::Table::reset`].
pub(crate) unsafe extern "C" fn reset(controller: *mut Controller) -> c_int {
    // SAFETY: as above; no queue pair is in use meanwhile.
    -unsafe { spdk_nvme_ctrlr_reset(raw(controller)) }.abs()
}

/// [`strata_spdk_abi::Table::detach`].
pub(crate) unsafe extern "C" fn detach(controller: *mut Controller) -> c_int {
    // SAFETY: as above; its queue pairs are closed.
    -unsafe { spdk_nvme_detach(raw(controller)) }.abs()
}
