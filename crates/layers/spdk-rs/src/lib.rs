//! The plugin by which strata drives NVMe through the SPDK of its node: one table of functions in batches, over SPDK's
//! queue-pair calls. Linked against that SPDK and no other, and showing no symbol but its own, so that the command itself
//! knows nothing of SPDK and runs without it.

#![allow(
    unsafe_code,
    reason = "calls of a C library, and functions that are called by pointers"
)]

mod controller;
mod environment;
mod queue;
#[allow(non_camel_case_types, reason = "named as in the headers")]
mod sys;

use std::ffi::{CStr, c_char};

use strata_spdk_abi::{MAGIC, Table, VERSION};

/// Digits of a number below a hundred, as text.
const fn digits(number: usize) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

const fn version() -> [u8; 9] {
    let (a, b, c) = (
        digits(sys::VERSION_MAJOR),
        digits(sys::VERSION_MINOR),
        digits(sys::VERSION_PATCH),
    );
    [a[0], a[1], b'.', b[0], b[1], b'.', c[0], c[1], 0]
}

static SPDK: [u8; 9] = version();

/// [`Table::spdk`].
unsafe extern "C" fn built_with() -> *const c_char {
    SPDK.as_ptr().cast()
}

static TABLE: Table = Table {
    magic: MAGIC,
    version: VERSION,
    bytes: size_of::<Table>() as u32,
    spdk: built_with,
    start: environment::start,
    said: environment::said,
    connect: controller::connect,
    identify: controller::identify,
    namespaces: controller::namespaces,
    identify_namespace: controller::identify_namespace,
    largest: controller::largest,
    failed: controller::failed,
    attend: controller::attend,
    reset: controller::reset,
    detach: controller::detach,
    allocate: environment::allocate,
    release: environment::release,
    open: queue::open,
    post: queue::post,
    poll: queue::poll,
    close: queue::close,
};

/// The table of this plugin.
#[unsafe(no_mangle)]
pub extern "C" fn strata_spdk_plugin() -> *const Table {
    &raw const TABLE
}

/// What tells a caller's string from none.
///
/// # Safety
/// It is null, or ends with a null byte and stays as it is while it is used.
unsafe fn text<'a>(at: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's.
    (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) })
}
