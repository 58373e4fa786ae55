//! Where the kernel tells what has come of connections, and what is waited for there.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use strata_rdma_sys::Cm;
use strata_rdma_sys::cm::{
    RDMA_CM_EVENT_CONNECT_REQUEST, rdma_cm_event, rdma_cm_id, rdma_event_channel,
};
use strata_units::Nanos;

use super::explain::cannot_reach_kernel;
use crate::verbs::VerbsError;

/// Where events of connections come (rdma_create_event_channel(3)). What is of it holds it open.
#[derive(Clone)]
pub struct EventChannel {
    open: Rc<Open>,
}

struct Open {
    cm: &'static Cm,
    raw: NonNull<rdma_event_channel>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: it is open, and nothing is left of it: each identifier holds an `Rc` of this.
        unsafe { (self.cm.rdma_destroy_event_channel)(self.raw.as_ptr()) };
    }
}

/// How long something may take, and what ends the wait for it sooner.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// The longest wait.
    pub within: Nanos,
    /// Whether nobody wants it any more; asked some twenty times a second.
    pub is_off: &'a dyn Fn() -> bool,
}

/// What was told, copied: the library's own is acknowledged by then.
pub(super) struct Event {
    /// Whom it concerns. Of a request it is new, and whoever gets it owns it.
    pub(super) id: *mut rdma_cm_id,
    pub(super) kind: i32,
    pub(super) status: i32,
    /// What came with a request.
    pub(super) private: Vec<u8>,
}

/// Why no event came.
pub(super) enum Nothing {
    TimedOut,
    BrokenOff,
    Failed(VerbsError),
}

impl EventChannel {
    /// A new one.
    ///
    /// # Errors
    /// librdmacm is not there, or the kernel has no connection manager for programs.
    pub fn open() -> Result<EventChannel, VerbsError> {
        let cm = Cm::load()?;
        // SAFETY: it asks for nothing.
        let raw = unsafe { (cm.rdma_create_event_channel)() };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            let next = cannot_reach_kernel(errno);
            VerbsError::call(
                "rdma_create_event_channel",
                "/dev/infiniband/rdma_cm",
                errno,
                next,
            )
        })?;
        let channel = EventChannel {
            open: Rc::new(Open { cm, raw }),
        };
        // The library goes back to reading where it has dealt with an event by itself; it must not stay there.
        fcntl(channel.descriptor(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| {
            VerbsError::call(
                "fcntl",
                "/dev/infiniband/rdma_cm",
                errno as i32,
                "look at dmesg",
            )
        })?;
        Ok(channel)
    }

    pub(super) fn cm(&self) -> &'static Cm {
        self.open.cm
    }

    pub(super) fn raw(&self) -> *mut rdma_event_channel {
        self.open.raw.as_ptr()
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the channel's own, open for as long as it is.
        unsafe { BorrowedFd::borrow_raw((*self.raw()).fd) }
    }

    /// The next event, which is acknowledged at once, so that its identifier may be destroyed at any time.
    pub(super) fn next(&self, begun: Instant, patience: &Patience<'_>) -> Result<Event, Nothing> {
        const LOOK: u16 = 50;
        loop {
            if (patience.is_off)() {
                return Err(Nothing::BrokenOff);
            }
            if let Some(event) = self.take().map_err(Nothing::Failed)? {
                return Ok(event);
            }
            if Nanos::from(begun.elapsed()) > patience.within {
                return Err(Nothing::TimedOut);
            }
            let mut fds = [PollFd::new(self.descriptor(), PollFlags::POLLIN)];
            // A signal only makes the round shorter.
            let _ = poll(&mut fds, PollTimeout::from(LOOK));
        }
    }

    /// An event that is there.
    fn take(&self) -> Result<Option<Event>, VerbsError> {
        let mut found: *mut rdma_cm_event = std::ptr::null_mut();
        // SAFETY: the channel is open, and the pointer is written to where the call succeeds.
        let failed = unsafe { (self.cm().rdma_get_cm_event)(self.raw(), &mut found) };
        if failed != 0 || found.is_null() {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            if matches!(errno, libc::EAGAIN | libc::EINTR) {
                return Ok(None);
            }
            return Err(VerbsError::call(
                "rdma_get_cm_event",
                "/dev/infiniband/rdma_cm",
                errno,
                "look at dmesg",
            ));
        }
        // SAFETY: the library gave it, and it lives until it is acknowledged.
        let (id, kind, status) = unsafe { ((*found).id, (*found).event, (*found).status) };
        let mut private = Vec::new();
        if kind == RDMA_CM_EVENT_CONNECT_REQUEST {
            // SAFETY: of requests that member counts; numbers and pointers have any bits.
            let told = unsafe { (*found).param.conn };
            let len = usize::from(told.private_data_len);
            if !told.private_data.is_null() && len > 0 {
                // SAFETY: so many bytes stand there until the event is acknowledged, and nobody writes them.
                let bytes = unsafe { std::slice::from_raw_parts(told.private_data.cast(), len) };
                private.extend_from_slice(bytes);
            }
        }
        // Before it is, its identifier cannot be destroyed.
        // SAFETY: the event was given by rdma_get_cm_event and is acknowledged once.
        unsafe { (self.cm().rdma_ack_cm_event)(found) };
        Ok(Some(Event {
            id,
            kind,
            status,
            private,
        }))
    }
}
