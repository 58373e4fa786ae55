//! What a device tells of its own accord (ibv_get_async_event(3)).

use std::ffi::CStr;
use std::mem::MaybeUninit;

use strata_rdma_sys::verbs::{
    IBV_EVENT_CQ_ERR, IBV_EVENT_DEVICE_FATAL, IBV_EVENT_GID_CHANGE, IBV_EVENT_LID_CHANGE,
    IBV_EVENT_PKEY_CHANGE, IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR, IBV_EVENT_QP_ACCESS_ERR,
    IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_SM_CHANGE,
};

use super::{Context, VerbsError};

/// Something that happened to a device, a port or a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A port lost its link.
    PortDown(u8),
    /// A port has a link again.
    PortUp(u8),
    /// A port's addresses or keys changed.
    PortChanged(u8, String),
    /// A completion queue had no room for a completion: what it held is lost.
    CompletionsOverrun,
    /// A queue pair is of no more use; the words are libibverbs'.
    QueuePair(String),
    /// The device is of no more use.
    Device,
    /// Something else.
    Other(String),
}

impl Event {
    /// Why a trial under way over a port of the device is none any more, with the next step; `None` where it may go on.
    pub fn breaks(&self, device: &str, over: u8) -> Option<String> {
        match self {
            Event::PortDown(port) if *port != over => None,
            Event::PortDown(port) => Some(format!(
                "port {port} of {device} went down in mid-trial; look at cable and switch, at `ip link` and dmesg"
            )),
            Event::CompletionsOverrun => Some(format!(
                "a completion queue of {device} overran: completions are lost; this is a bug of strata or its provider, lower --depth"
            )),
            Event::QueuePair(what) => Some(format!(
                "a queue pair of {device} broke: {what}; look at the other side's error and at dmesg"
            )),
            Event::Device => Some(format!(
                "{device} failed (IBV_EVENT_DEVICE_FATAL); look at dmesg, it may have to be reset"
            )),
            Event::PortUp(_) | Event::PortChanged(..) | Event::Other(_) => None,
        }
    }
}

/// Waits for the next one; the caller has seen that there is one.
pub(super) fn next(context: &Context) -> Result<Option<Event>, VerbsError> {
    let verbs = context.verbs();
    let mut event = MaybeUninit::uninit();
    // SAFETY: the context is open, and the event is written to where the call succeeds.
    let failed = unsafe { (verbs.ibv_get_async_event)(context.raw(), event.as_mut_ptr()) };
    if failed != 0 {
        return Err(VerbsError::last(
            "ibv_get_async_event",
            context.name(),
            "the device is gone; look at dmesg",
        ));
    }
    // SAFETY: the call has succeeded.
    let mut event = unsafe { event.assume_init() };
    let kind = event.event_type;
    let port = || {
        // SAFETY: of events of ports the element is a number, which has any bits.
        let number = unsafe { event.element.port_num };
        u8::try_from(number).unwrap_or(0)
    };
    // SAFETY: the function gives text that is never freed.
    let words = || unsafe { CStr::from_ptr((verbs.ibv_event_type_str)(kind)) };
    let words = || words().to_string_lossy().into_owned();
    let told = match kind {
        IBV_EVENT_PORT_ERR => Event::PortDown(port()),
        IBV_EVENT_PORT_ACTIVE => Event::PortUp(port()),
        IBV_EVENT_LID_CHANGE
        | IBV_EVENT_PKEY_CHANGE
        | IBV_EVENT_SM_CHANGE
        | IBV_EVENT_GID_CHANGE => Event::PortChanged(port(), words()),
        IBV_EVENT_CQ_ERR => Event::CompletionsOverrun,
        IBV_EVENT_QP_FATAL | IBV_EVENT_QP_REQ_ERR | IBV_EVENT_QP_ACCESS_ERR => {
            Event::QueuePair(words())
        }
        IBV_EVENT_DEVICE_FATAL => Event::Device,
        _ => Event::Other(words()),
    };
    // Before it is, the object that it is of cannot be destroyed.
    // SAFETY: the event was given by ibv_get_async_event and is acknowledged once.
    unsafe { (verbs.ibv_ack_async_event)(&mut event) };
    Ok(Some(told))
}
