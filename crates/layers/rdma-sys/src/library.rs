//! The functions, found when they are first asked for.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::offset_of;
use std::sync::OnceLock;

use libloading::Library;

use crate::cm::{rdma_cm_event, rdma_cm_id, rdma_conn_param, rdma_event_channel};
use crate::extended::{
    CreateCqEx, CreateQpEx, QueryPort, ibv_cq_ex, ibv_cq_init_attr_ex, ibv_qp_ex,
    ibv_qp_init_attr_ex, verbs_context,
};
use crate::verbs::{
    ibv_ah, ibv_ah_attr, ibv_async_event, ibv_comp_channel, ibv_context, ibv_cq, ibv_device,
    ibv_device_attr, ibv_gid, ibv_mr, ibv_pd, ibv_port_attr, ibv_qp, ibv_qp_attr, ibv_qp_init_attr,
};

/// A library of rdma-core cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// It is not installed, or does not load.
    #[error(
        "{library} cannot be loaded ({why}); install rdma-core (Debian: {package}; RHEL: {elsewhere})"
    )]
    Absent {
        library: &'static str,
        package: &'static str,
        elsewhere: &'static str,
        why: String,
    },
    /// It is older than what is used of it.
    #[error("{library} has no {function}; update rdma-core to 22 or later")]
    Old {
        library: &'static str,
        function: &'static str,
    },
}

/// A table of functions, and how it is filled.
macro_rules! library {
    (
        $(#[$about:meta])*
        $table:ident in $file:literal, $package:literal, $elsewhere:literal {
            $(fn $function:ident($($argument:ty),*) $(-> $gives:ty)?;)*
        }
    ) => {
        $(#[$about])*
        pub struct $table {
            $(pub $function: unsafe extern "C" fn($($argument),*) $(-> $gives)?,)*
        }

        impl $table {
            /// The library, loaded once a process and never unloaded: its providers may have threads.
            ///
            /// # Errors
            /// It is not there, or too old.
            pub fn load() -> Result<&'static $table, LoadError> {
                static FOUND: OnceLock<Result<$table, LoadError>> = OnceLock::new();
                FOUND.get_or_init($table::find).as_ref().map_err(Clone::clone)
            }

            fn find() -> Result<$table, LoadError> {
                // SAFETY: what rdma-core runs when it is loaded asks nothing of its caller.
                let opened = unsafe { Library::new($file) };
                let library = opened.map_err(|why| LoadError::Absent {
                    library: $file,
                    package: $package,
                    elsewhere: $elsewhere,
                    why: why.to_string(),
                })?;
                let table = $table {
                    $($function: {
                        // SAFETY: the function of this name has this type (the library's header and man pages).
                        let found = unsafe { library.get(concat!(stringify!($function), "\0")) };
                        *found.map_err(|_| LoadError::Old {
                            library: $file,
                            function: stringify!($function),
                        })?
                    },)*
                };
                // The functions are good for as long as the process.
                std::mem::forget(library);
                Ok(table)
            }
        }
    };
}

library! {
    /// libibverbs.
    Verbs in "libibverbs.so.1", "libibverbs1 ibverbs-providers", "libibverbs" {
        fn ibv_get_device_list(*mut c_int) -> *mut *mut ibv_device;
        fn ibv_free_device_list(*mut *mut ibv_device);
        fn ibv_get_device_guid(*mut ibv_device) -> u64;
        fn ibv_open_device(*mut ibv_device) -> *mut ibv_context;
        fn ibv_close_device(*mut ibv_context) -> c_int;
        fn ibv_query_device(*mut ibv_context, *mut ibv_device_attr) -> c_int;
        fn ibv_query_port(*mut ibv_context, u8, *mut ibv_port_attr) -> c_int;
        fn ibv_query_gid(*mut ibv_context, u8, c_int, *mut ibv_gid) -> c_int;
        fn ibv_query_pkey(*mut ibv_context, u8, c_int, *mut u16) -> c_int;
        fn ibv_get_async_event(*mut ibv_context, *mut ibv_async_event) -> c_int;
        fn ibv_ack_async_event(*mut ibv_async_event);
        fn ibv_alloc_pd(*mut ibv_context) -> *mut ibv_pd;
        fn ibv_dealloc_pd(*mut ibv_pd) -> c_int;
        fn ibv_reg_mr(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
        fn ibv_dereg_mr(*mut ibv_mr) -> c_int;
        fn ibv_create_comp_channel(*mut ibv_context) -> *mut ibv_comp_channel;
        fn ibv_destroy_comp_channel(*mut ibv_comp_channel) -> c_int;
        fn ibv_create_cq(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
        fn ibv_destroy_cq(*mut ibv_cq) -> c_int;
        fn ibv_get_cq_event(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
        fn ibv_ack_cq_events(*mut ibv_cq, c_uint);
        fn ibv_create_qp(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
        fn ibv_modify_qp(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
        fn ibv_query_qp(*mut ibv_qp, *mut ibv_qp_attr, c_int, *mut ibv_qp_init_attr) -> c_int;
        fn ibv_destroy_qp(*mut ibv_qp) -> c_int;
        fn ibv_qp_to_qp_ex(*mut ibv_qp) -> *mut ibv_qp_ex;
        fn ibv_create_ah(*mut ibv_pd, *mut ibv_ah_attr) -> *mut ibv_ah;
        fn ibv_destroy_ah(*mut ibv_ah) -> c_int;
        fn ibv_wc_status_str(c_int) -> *const c_char;
        fn ibv_event_type_str(c_int) -> *const c_char;
    }
}

library! {
    /// librdmacm.
    Cm in "librdmacm.so.1", "librdmacm1", "librdmacm" {
        fn rdma_create_event_channel() -> *mut rdma_event_channel;
        fn rdma_destroy_event_channel(*mut rdma_event_channel);
        fn rdma_create_id(*mut rdma_event_channel, *mut *mut rdma_cm_id, *mut c_void, c_int) -> c_int;
        fn rdma_destroy_id(*mut rdma_cm_id) -> c_int;
        fn rdma_bind_addr(*mut rdma_cm_id, *mut libc::sockaddr) -> c_int;
        fn rdma_resolve_addr(*mut rdma_cm_id, *mut libc::sockaddr, *mut libc::sockaddr, c_int) -> c_int;
        fn rdma_resolve_route(*mut rdma_cm_id, c_int) -> c_int;
        fn rdma_listen(*mut rdma_cm_id, c_int) -> c_int;
        fn rdma_connect(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
        fn rdma_accept(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
        fn rdma_establish(*mut rdma_cm_id) -> c_int;
        fn rdma_reject(*mut rdma_cm_id, *const c_void, u8) -> c_int;
        fn rdma_disconnect(*mut rdma_cm_id) -> c_int;
        fn rdma_init_qp_attr(*mut rdma_cm_id, *mut crate::verbs::ibv_qp_attr, *mut c_int) -> c_int;
        fn rdma_get_cm_event(*mut rdma_event_channel, *mut *mut rdma_cm_event) -> c_int;
        fn rdma_ack_cm_event(*mut rdma_cm_event) -> c_int;
        fn rdma_set_option(*mut rdma_cm_id, c_int, c_int, *mut c_void, usize) -> c_int;
        fn rdma_event_str(c_int) -> *const c_char;
    }
}

/// The provider's entry at an offset of the table that stands before a context: `None` where its table does not reach so far,
/// or has none there.
///
/// # Safety
/// `context` is open, and `F` is the function that [`verbs_context`] has at that offset.
unsafe fn extended<F: Copy>(context: *mut ibv_context, entry: usize) -> Option<F> {
    // SAFETY: the caller's.
    let marked = unsafe { (*context).abi_compat };
    // What the library marks contexts by that have such a table (`__VERBS_ABI_IS_EXTENDED`).
    if marked as usize != usize::MAX {
        return None;
    }
    // A table may be shorter than ours, so that no pointer to the whole of one is made.
    let before = |at: usize| offset_of!(verbs_context, context) - at;
    // SAFETY: so marked, `sz` stands right before the context in every version.
    let has: usize = unsafe {
        context
            .byte_sub(before(offset_of!(verbs_context, sz)))
            .cast::<usize>()
            .read()
    };
    if has < size_of::<verbs_context>() - entry {
        return None;
    }
    // SAFETY: the table reaches there, and the entry is of that type or null (the caller's).
    unsafe { context.byte_sub(before(entry)).cast::<Option<F>>().read() }
}

/// The functions that the header has as inline ones.
impl Verbs {
    /// A port's attributes, all that the provider tells (ibv_query_port(3)); 0, or an errno.
    ///
    /// # Safety
    /// `context` is open.
    pub unsafe fn query_port(
        &self,
        context: *mut ibv_context,
        port: u8,
        attributes: &mut ibv_port_attr,
    ) -> c_int {
        *attributes = ibv_port_attr::default();
        // SAFETY: the caller's, and the type is the entry's.
        let entry: Option<QueryPort> =
            unsafe { extended(context, offset_of!(verbs_context, query_port)) };
        // SAFETY: the context is open, and the attributes are as long as said; the older function writes a part of them.
        unsafe {
            match entry {
                Some(entry) => entry(context, port, attributes, size_of::<ibv_port_attr>()),
                None => (self.ibv_query_port)(context, port, attributes),
            }
        }
    }

    /// A completion queue that is read in place (ibv_create_cq_ex(3)); null, and an errno, where the provider has none.
    ///
    /// # Safety
    /// `context` is open, and what the attributes point to is of it.
    pub unsafe fn create_cq_ex(
        &self,
        context: *mut ibv_context,
        attributes: &mut ibv_cq_init_attr_ex,
    ) -> *mut ibv_cq_ex {
        // SAFETY: the caller's, and the type is the entry's.
        let entry: Option<CreateCqEx> =
            unsafe { extended(context, offset_of!(verbs_context, create_cq_ex)) };
        match entry {
            // SAFETY: the caller's.
            Some(entry) => unsafe { entry(context, attributes) },
            None => not_supported(),
        }
    }

    /// A queue pair that is posted to by calls (ibv_create_qp_ex(3)); null, and an errno, where the provider has none.
    ///
    /// # Safety
    /// `context` is open, and what the attributes point to is of it.
    pub unsafe fn create_qp_ex(
        &self,
        context: *mut ibv_context,
        attributes: &mut ibv_qp_init_attr_ex,
    ) -> *mut ibv_qp {
        // SAFETY: the caller's, and the type is the entry's.
        let entry: Option<CreateQpEx> =
            unsafe { extended(context, offset_of!(verbs_context, create_qp_ex)) };
        match entry {
            // SAFETY: the caller's.
            Some(entry) => unsafe { entry(context, attributes) },
            None => not_supported(),
        }
    }
}

type QueryInOrder = unsafe extern "C" fn(*mut ibv_qp, c_int, u32) -> c_int;

/// A function that libibverbs has since rdma-core 39 only.
fn query_in_order() -> Option<QueryInOrder> {
    static FOUND: OnceLock<Option<QueryInOrder>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: it is loaded already, by `Verbs::load`.
        let library = unsafe { Library::new("libibverbs.so.1") }.ok()?;
        // SAFETY: the function of this name has this type (ibv_query_qp_data_in_order(3)).
        let found = unsafe { library.get::<QueryInOrder>("ibv_query_qp_data_in_order\0") };
        let found = found.ok().map(|function| *function);
        // It is good for as long as the process.
        std::mem::forget(library);
        found
    })
}

impl Verbs {
    /// Whether the provider promises that the bytes of an operation are placed in their order
    /// (ibv_query_qp_data_in_order(3)); false where nobody says.
    ///
    /// # Safety
    /// `qp` is alive.
    pub unsafe fn places_in_order(&self, qp: *mut ibv_qp, operation: c_int) -> bool {
        // SAFETY: the caller's.
        query_in_order().is_some_and(|ask| unsafe { ask(qp, operation, 0) } == 1)
    }
}

fn not_supported<T>() -> *mut T {
    // SAFETY: it is this thread's own errno.
    unsafe { *libc::__errno_location() = libc::EOPNOTSUPP };
    std::ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_whole_or_it_is_told_how_to_get_it() {
        for found in [
            Verbs::load().map(|_| ()).map_err(|why| ("libibverbs", why)),
            Cm::load().map(|_| ()).map_err(|why| ("librdmacm", why)),
        ] {
            let Err((name, why)) = found else { continue };
            assert!(matches!(why, LoadError::Absent { .. }), "{why}");
            let told = why.to_string();
            assert!(
                told.contains(name) && told.contains("install rdma-core"),
                "{told}"
            );
            println!("SKIP a_library_is_whole_or_it_is_told_how_to_get_it: {told}");
        }
    }

    // SAFETY: it looks at nothing that it is given.
    unsafe extern "C" fn port(
        _: *mut ibv_context,
        _: u8,
        _: *mut ibv_port_attr,
        _: usize,
    ) -> c_int {
        7
    }

    #[test]
    fn an_entry_is_taken_from_a_table_that_reaches_so_far_and_from_no_other() {
        // SAFETY: null pointers, absent functions and numbers are all zeros.
        let mut table: Box<verbs_context> = Box::new(unsafe { std::mem::zeroed() });
        let whole = size_of::<verbs_context>();
        table.query_port = Some(port);
        let marked = usize::MAX as *mut c_void;
        for (mark, size, found) in [
            (marked, whole, true),
            (marked, whole + 64, true),
            // Older: the first entry is not there yet.
            (marked, whole - 8, false),
            (std::ptr::null_mut(), whole, false),
        ] {
            (table.context.abi_compat, table.sz) = (mark, size);
            let all = &raw mut *table;
            // SAFETY: it is the context of a table, which lives, and the types are the entries'.
            let (first, later): (Option<QueryPort>, Option<CreateQpEx>) = unsafe {
                let context = &raw mut (*all).context;
                (
                    extended(context, offset_of!(verbs_context, query_port)),
                    extended(context, offset_of!(verbs_context, create_qp_ex)),
                )
            };
            assert_eq!(first.is_some(), found, "{size}");
            assert!(later.is_none(), "the provider has none");
            if let Some(first) = first {
                let nothing = std::ptr::null_mut();
                // SAFETY: the function above looks at nothing.
                assert_eq!(unsafe { first(nothing, 1, std::ptr::null_mut(), 0) }, 7);
            }
        }
    }
}
