//! Queue pairs: requests in, completions out, both in batches.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use strata_spdk_abi::{Completion, Controller, Queue, QueueOptions, Request, kind};

use crate::environment::libc_errno::{EINVAL, ENODEV, ENOMEM};
use crate::sys::*;

/// What a completion is called with: its operation, and whose it is.
struct Context {
    of: *mut Inner,
    slot: u32,
}

struct Inner {
    qpair: *mut spdk_nvme_qpair,
    ns: *mut spdk_nvme_ns,
    contexts: Box<[Context]>,
    /// Where the poll that is under way puts completions; and between polls nowhere.
    out: *mut Completion,
    room: usize,
    count: usize,
    /// Those that came when nobody polled, or more than were asked for.
    late: Vec<Completion>,
}

/// [`strata_spdk_abi::Table::open`].
pub(crate) unsafe extern "C" fn open(
    controller: *mut Controller,
    wanted: *const QueueOptions,
    into: *mut *mut Queue,
) -> c_int {
    let controller: *mut spdk_nvme_ctrlr = controller.cast();
    // SAFETY: the caller's options, alive for the call.
    let wanted = unsafe { *wanted };
    // SAFETY: the controller is attached, by the caller's word; the options are set whole, as large as the headers say.
    let (ns, mut opts) = unsafe {
        let mut opts = MaybeUninit::<spdk_nvme_io_qpair_opts>::zeroed();
        let size = size_of::<spdk_nvme_io_qpair_opts>();
        spdk_nvme_ctrlr_get_default_io_qpair_opts(controller, opts.as_mut_ptr(), size);
        let ns = spdk_nvme_ctrlr_get_ns(controller, wanted.namespace);
        (ns, opts.assume_init())
    };
    if ns.is_null() {
        return -EINVAL;
    }
    // SPDK holds its own choice against the device, and not ours; what finds no entry waits in its own queue.
    // SAFETY: the controller is attached, by the caller's word.
    let most = unsafe { spdk_nvme_ctrlr_get_regs_cap(controller) } & 0xffff;
    opts.io_queue_size = wanted.entries.min(most as u32 + 1);
    opts.io_queue_requests = opts.io_queue_requests.max(wanted.requests);
    opts.delay_cmd_submit = wanted.late_doorbell;
    let size = size_of::<spdk_nvme_io_qpair_opts>();
    // SAFETY: as above.
    let qpair = unsafe { spdk_nvme_ctrlr_alloc_io_qpair(controller, &opts, size) };
    if qpair.is_null() {
        return -ENODEV;
    }
    let inner = Box::into_raw(Box::new(Inner {
        qpair,
        ns,
        contexts: Box::default(),
        out: null_mut(),
        room: 0,
        count: 0,
        late: Vec::with_capacity(wanted.slots as usize),
    }));
    // SAFETY: just made, and nobody else's yet.
    unsafe {
        (*inner).contexts = (0..wanted.slots)
            .map(|slot| Context { of: inner, slot })
            .collect();
        *into = inner.cast();
    }
    0
}

/// A request has completed.
unsafe extern "C" fn completed(with: *mut c_void, how: *const spdk_nvme_cpl) {
    let context = with.cast::<Context>();
    // SAFETY: the context of a request in flight, whose queue pair is alive; only its thread is here, within a call of its own
    // that uses no reference to what is written.
    unsafe {
        let inner = (*context).of;
        let told = Completion {
            slot: (*context).slot,
            status: u32::from((*how).status >> 1),
        };
        if (*inner).count < (*inner).room {
            (*inner).out.add((*inner).count).write(told);
            (*inner).count += 1;
        } else {
            let late = &mut (*inner).late;
            late.push(told);
        }
    }
}

/// [`strata_spdk_abi::Table::post`].
pub(crate) unsafe extern "C" fn post(
    queue: *mut Queue,
    requests: *const Request,
    number: usize,
) -> isize {
    let inner = queue.cast::<Inner>();
    for n in 0..number {
        // SAFETY: so many requests are there, of numbers below the slots, and the buffers are of `allocate` and as long as the
        // requests say, by the caller's word; the queue pair is this thread's.
        let failed = unsafe {
            let request = &*requests.add(n);
            let (ns, qpair) = ((*inner).ns, (*inner).qpair);
            let contexts = &raw mut (*inner).contexts;
            let with = (&raw mut (**contexts)[request.slot as usize]).cast::<c_void>();
            let moves = match request.kind {
                kind::READ => Some(spdk_nvme_ns_cmd_read as Moves),
                kind::WRITE => Some(spdk_nvme_ns_cmd_write as Moves),
                _ => None,
            };
            match (moves, request.kind) {
                (Some(moves), _) => moves(
                    ns,
                    qpair,
                    request.buffer,
                    request.block,
                    request.blocks,
                    completed,
                    with,
                    0,
                ),
                (None, kind::FLUSH) => spdk_nvme_ns_cmd_flush(ns, qpair, completed, with),
                (None, _) => -EINVAL,
            }
        };
        match failed.abs() {
            0 => {}
            // Taken before, they are under way; and a full queue pair is no failure.
            _ if n > 0 => return n as isize,
            ENOMEM => return 0,
            errno => return -(errno as isize),
        }
    }
    number as isize
}

/// [`strata_spdk_abi::Table::poll`].
pub(crate) unsafe extern "C" fn poll(
    queue: *mut Queue,
    into: *mut Completion,
    room: usize,
) -> isize {
    let inner = queue.cast::<Inner>();
    // SAFETY: the queue pair is this thread's, and there is so much room, by the caller's word; completions are written by the
    // call in between, through the same pointers, and by nothing else.
    unsafe {
        let late = &raw mut (*inner).late;
        if !(*late).is_empty() {
            let n = (*late).len().min(room);
            for (place, told) in (*late).drain(..n).enumerate() {
                into.add(place).write(told);
            }
            return n as isize;
        }
        ((*inner).out, (*inner).room, (*inner).count) = (into, room, 0);
        let most = u32::try_from(room).unwrap_or(u32::MAX);
        let found = spdk_nvme_qpair_process_completions((*inner).qpair, most);
        let count = (*inner).count;
        ((*inner).out, (*inner).room, (*inner).count) = (null_mut(), 0, 0);
        // What came before it failed is told first.
        if found < 0 && count == 0 {
            return found as isize;
        }
        count as isize
    }
}

/// [`strata_spdk_abi::Table::close`].
pub(crate) unsafe extern "C" fn close(queue: *mut Queue) -> c_int {
    let inner = queue.cast::<Inner>();
    // SAFETY: the queue pair is this thread's and is not used any more, by the caller's word; SPDK completes what is in flight
    // within the call, so that nothing is called with a context after it.
    unsafe {
        let failed = spdk_nvme_ctrlr_free_io_qpair((*inner).qpair);
        if failed == 0 {
            drop(Box::from_raw(inner));
        }
        -failed.abs()
    }
}
