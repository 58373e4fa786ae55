//! Completion queues, classic and extended, and what their completions say.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use strata_rdma_sys::Verbs;
use strata_rdma_sys::extended::{
    IBV_CQ_INIT_ATTR_MASK_FLAGS, IBV_CREATE_CQ_ATTR_SINGLE_THREADED, IBV_WC_EX_WITH_BYTE_LEN,
    IBV_WC_EX_WITH_QP_NUM, ibv_cq_ex, ibv_cq_init_attr_ex, ibv_poll_cq_attr,
};
use strata_rdma_sys::verbs::{
    IBV_WC_FATAL_ERR, IBV_WC_GENERAL_ERR, IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_PROT_ERR,
    IBV_WC_LOC_QP_OP_ERR, IBV_WC_REM_ACCESS_ERR, IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_OP_ERR,
    IBV_WC_RESP_TIMEOUT_ERR, IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR, IBV_WC_SUCCESS,
    IBV_WC_WR_FLUSH_ERR, ibv_comp_channel, ibv_cq, ibv_wc,
};
use strata_units::Nanos;

use super::Context;
use super::error::VerbsError;

/// Which of the two interfaces a queue is driven by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Lists of work requests (ibv_post_send(3)), completions copied out (ibv_poll_cq(3)).
    Classic,
    /// A call a request (ibv_wr_post(3)), completions read in place (ibv_create_cq_ex(3)).
    Extended,
}

/// How a work request ended: 0 is success (ibv_poll_cq(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub c_int);

impl Status {
    /// Whether it did what it was to do.
    #[inline(always)]
    pub fn is_success(self) -> bool {
        self.0 == IBV_WC_SUCCESS
    }

    /// Whether it failed only because its queue pair had failed before.
    pub fn is_flushed(self) -> bool {
        self.0 == IBV_WC_WR_FLUSH_ERR
    }

    /// In words, with the likely cause and the next step.
    pub fn explain(self) -> String {
        let name = Verbs::load().map_or_else(
            |_| format!("status {}", self.0),
            |verbs| {
                // SAFETY: the function gives text that is never freed, whatever the number.
                let text = unsafe { CStr::from_ptr((verbs.ibv_wc_status_str)(self.0)) };
                text.to_string_lossy().into_owned()
            },
        );
        let cause = match self.0 {
            IBV_WC_RETRY_EXC_ERR => {
                "the other side's port did not answer within --timeout and --retries: it died, its link is down, or packets are lost; look at it, at `strata rdma list`, and at PFC or ECN of the switch"
            }
            IBV_WC_RNR_RETRY_EXC_ERR => {
                "the receiver had no receive posted within --rnr-retries: its CPU is too slow or taken; raise them, or its --peer-cpus"
            }
            IBV_WC_REM_ACCESS_ERR => {
                "the other side's region does not allow it: a wrong key or address, or a right that it was not given"
            }
            IBV_WC_REM_INV_REQ_ERR => {
                "the other side's queue pair does not take it: a message longer than its receive, or an operation that it does not have; both must be one version of strata"
            }
            IBV_WC_REM_OP_ERR => {
                "the other side's queue pair failed in doing it; look at its error"
            }
            IBV_WC_LOC_LEN_ERR => {
                "a message was longer than the receive or the port's largest; lower --bs"
            }
            IBV_WC_LOC_PROT_ERR => {
                "the own memory does not allow it: it is not registered for this; this is a bug of strata"
            }
            IBV_WC_LOC_QP_OP_ERR => {
                "the own queue pair does not have it: more outstanding reads than --reads, or an operation beyond it; look at dmesg"
            }
            IBV_WC_RESP_TIMEOUT_ERR => "the other side did not respond in time",
            IBV_WC_WR_FLUSH_ERR => "its queue pair had failed before; the first error says why",
            IBV_WC_FATAL_ERR | IBV_WC_GENERAL_ERR => {
                "the device or its driver failed; look at dmesg"
            }
            _ => "look at dmesg, and at the provider's documentation",
        };
        format!("{name}: {cause}")
    }
}

/// One completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The number that its work request was given.
    pub id: u64,
    /// How it ended.
    pub status: Status,
    /// Bytes received, of a receive that succeeded.
    pub bytes: u32,
    /// The number of the queue pair that it is of.
    pub queue_pair: u32,
}

/// What a completion queue is to be.
#[derive(Debug, Clone, Copy)]
pub struct Completions {
    /// For so many completions at least.
    pub room: u32,
    /// How it is driven.
    pub interface: Interface,
    /// Whether it shall be waited for rather than polled.
    pub sleeps: bool,
    /// Whether receives complete here: how long each message was is read for these alone.
    pub receives: bool,
}

/// How many completions are taken at once.
const COPIED: usize = 32;

/// A completion queue, with as much room as was asked for at least. Of one thread.
pub struct CompletionQueue {
    raw: Raw,
    copied: Box<[ibv_wc]>,
    /// How many are read between a start and its end.
    at_once: usize,
    channel: Option<Channel>,
    context: Context,
    /// Completion events that came, to be acknowledged before it is destroyed.
    events: u32,
    /// Whether a word was asked for and has not come: one is enough.
    armed: bool,
}

enum Raw {
    Classic {
        raw: NonNull<ibv_cq>,
        poll: unsafe extern "C" fn(*mut ibv_cq, c_int, *mut ibv_wc) -> c_int,
    },
    Extended(ExtendedCalls),
}

struct ExtendedCalls {
    raw: NonNull<ibv_cq_ex>,
    start: unsafe extern "C" fn(*mut ibv_cq_ex, *mut ibv_poll_cq_attr) -> c_int,
    next: unsafe extern "C" fn(*mut ibv_cq_ex) -> c_int,
    end: unsafe extern "C" fn(*mut ibv_cq_ex),
    bytes: Option<unsafe extern "C" fn(*mut ibv_cq_ex) -> u32>,
    queue_pair: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
}

impl ExtendedCalls {
    /// Reads what has completed, as much as has room in `into`; how many, or a negative error number.
    #[inline(never)]
    fn read(&self, into: &mut [ibv_wc]) -> c_int {
        let (mut how, raw) = (ibv_poll_cq_attr::default(), self.raw.as_ptr());
        // SAFETY: the queue is alive; between a start that succeeded and its end, the current completion may be read, by the
        // readers that were asked for when the queue was made.
        unsafe {
            match (self.start)(raw, &mut how) {
                0 => {}
                libc::ENOENT => return 0,
                failed => return -failed.abs(),
            }
            let (mut n, most) = (0, into.len());
            for wc in into {
                wc.wr_id = (*raw).wr_id;
                wc.status = (*raw).status;
                wc.byte_len = self.bytes.map_or(0, |read| read(raw));
                wc.qp_num = if wc.status == IBV_WC_SUCCESS {
                    0
                } else {
                    (self.queue_pair)(raw)
                };
                n += 1;
                if n == most || (self.next)(raw) != 0 {
                    break;
                }
            }
            (self.end)(raw);
            n as c_int
        }
    }
}

/// What tells that a completion has come (ibv_create_comp_channel(3)).
struct Channel {
    raw: NonNull<ibv_comp_channel>,
}

impl CompletionQueue {
    /// A new one.
    ///
    /// # Errors
    /// So much room is beyond the device, or its provider does not have the extended interface.
    pub fn new(context: &Context, want: Completions) -> Result<CompletionQueue, VerbsError> {
        let Completions { room, .. } = want;
        let most = context.limits().completions;
        if room > most {
            return Err(VerbsError::Beyond {
                what: "a completion queue",
                asked: u64::from(room),
                device: context.name().to_owned(),
                most: u64::from(most),
                next: "lower --depth or --qps".to_owned(),
            });
        }
        let channel = if want.sleeps {
            Some(Channel::new(context)?)
        } else {
            None
        };
        let notify = channel
            .as_ref()
            .map_or(std::ptr::null_mut(), |c| c.raw.as_ptr());
        let made = match want.interface {
            Interface::Classic => classic(context, room, notify),
            Interface::Extended => extended(context, want, notify),
        };
        let raw = match made {
            Ok(raw) => raw,
            Err(why) => {
                if let Some(channel) = channel {
                    channel.destroy(context);
                }
                return Err(why);
            }
        };
        Ok(CompletionQueue {
            raw,
            copied: vec![ibv_wc::default(); COPIED].into_boxed_slice(),
            // The end of a poll goes past one completion more there where the next one was asked for and there was none
            // (rdma-core 44, providers/rxe), so that it is not asked for.
            at_once: if context.is_rxe() { 1 } else { COPIED },
            channel,
            context: context.clone(),
            events: 0,
            armed: false,
        })
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn raw(&self) -> *mut ibv_cq {
        match &self.raw {
            Raw::Classic { raw, .. } => raw.as_ptr(),
            // ibv_cq_ex_to_cq: the one begins as the other does.
            Raw::Extended(calls) => calls.raw.as_ptr().cast(),
        }
    }

    /// What has completed, up to 32 at once.
    ///
    /// # Errors
    /// The queue is of no more use; the error number of the provider.
    #[inline(always)]
    pub fn poll(&mut self) -> Result<impl ExactSizeIterator<Item = Completion>, VerbsError> {
        let found = match &self.raw {
            // SAFETY: the queue is alive, and so many completions have room.
            Raw::Classic { raw, poll } => unsafe {
                poll(raw.as_ptr(), COPIED as c_int, self.copied.as_mut_ptr())
            },
            Raw::Extended(calls) => calls.read(&mut self.copied[..self.at_once]),
        };
        let Ok(n) = usize::try_from(found) else {
            return Err(self.broken(found));
        };
        Ok(self.copied.iter().take(n).map(|wc| Completion {
            id: wc.wr_id,
            status: Status(wc.status),
            bytes: wc.byte_len,
            queue_pair: wc.qp_num,
        }))
    }

    #[cold]
    fn broken(&self, errno: c_int) -> VerbsError {
        VerbsError::call(
            "ibv_poll_cq",
            self.context.name(),
            errno.abs(),
            "the completion queue is of no more use; look at dmesg",
        )
    }

    /// Asks for a word at the next completion, of a queue that sleeps. What has come before is not told: poll once more
    /// before you wait.
    ///
    /// # Errors
    /// The provider cannot.
    pub fn arm(&mut self) -> Result<(), VerbsError> {
        if self.armed {
            return Ok(());
        }
        let cq = self.raw();
        // SAFETY: the queue is alive, and so is its context, whose table has the entry or none.
        let failed = unsafe {
            (*(*cq).context)
                .ops
                .req_notify_cq
                .map_or(libc::EOPNOTSUPP, |arm| arm(cq, 0))
        };
        if failed != 0 {
            return Err(VerbsError::call(
                "ibv_req_notify_cq",
                self.context.name(),
                failed,
                "the provider tells of no completions; leave +events out of --engine",
            ));
        }
        self.armed = true;
        Ok(())
    }

    /// Waits until a completion is told of, or so long; whether one was.
    ///
    /// # Errors
    /// The queue does not sleep, or the device is gone.
    pub fn wait(&mut self, at_most: Nanos) -> Result<bool, VerbsError> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::BorrowedFd;
        let Some(channel) = &self.channel else {
            return Ok(false);
        };
        // SAFETY: the descriptor is the channel's own, open for as long as it is.
        let fd = unsafe { BorrowedFd::borrow_raw((*channel.raw.as_ptr()).fd) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        // Rounded up: a wait of less than a millisecond is one.
        let millis = at_most.0.div_ceil(1_000_000).min(60_000) as u16;
        let ready = poll(&mut fds, PollTimeout::from(millis));
        if !ready.is_ok_and(|n| n > 0) {
            return Ok(false);
        }
        let (mut cq, mut with) = (std::ptr::null_mut(), std::ptr::null_mut::<c_void>());
        // SAFETY: the channel is alive, and both pointers are written to.
        let failed = unsafe {
            (self.context.verbs().ibv_get_cq_event)(channel.raw.as_ptr(), &mut cq, &mut with)
        };
        if failed != 0 {
            return Err(VerbsError::last(
                "ibv_get_cq_event",
                self.context.name(),
                "the device is gone; look at dmesg",
            ));
        }
        self.armed = false;
        self.events += 1;
        // Acknowledging takes a lock, so that many are acknowledged at once; the count is 32 bits wide.
        if self.events == 1 << 16 {
            self.acknowledge();
        }
        Ok(true)
    }

    fn acknowledge(&mut self) {
        let events = std::mem::take(&mut self.events);
        if events > 0 {
            // SAFETY: the queue is alive, and so many events of it came and were not acknowledged.
            unsafe { (self.context.verbs().ibv_ack_cq_events)(self.raw(), events) };
        }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        self.acknowledge();
        // SAFETY: the queue pairs that complete here hold an `Rc` of this, so that none is left.
        unsafe { (self.context.verbs().ibv_destroy_cq)(self.raw()) };
        if let Some(channel) = self.channel.take() {
            channel.destroy(&self.context);
        }
    }
}

impl Channel {
    fn new(context: &Context) -> Result<Channel, VerbsError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs().ibv_create_comp_channel)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            VerbsError::last(
                "ibv_create_comp_channel",
                context.name(),
                "leave +events out of --engine",
            )
        })?;
        Ok(Channel { raw })
    }

    /// Of a channel whose queue is gone.
    fn destroy(self, context: &Context) {
        // SAFETY: it is alive, and nothing uses it any more.
        unsafe { (context.verbs().ibv_destroy_comp_channel)(self.raw.as_ptr()) };
    }
}

const NO_QUEUE: &str =
    "the device has no more room; lower --depth, --qps or --threads, or end what else uses it";

fn classic(context: &Context, room: u32, notify: *mut ibv_comp_channel) -> Result<Raw, VerbsError> {
    let room = c_int::try_from(room).unwrap_or(c_int::MAX);
    // SAFETY: the context is open, and the channel is of it or null.
    let raw = unsafe {
        (context.verbs().ibv_create_cq)(context.raw(), room, std::ptr::null_mut(), notify, 0)
    };
    let raw = NonNull::new(raw)
        .ok_or_else(|| VerbsError::last("ibv_create_cq", context.name(), NO_QUEUE))?;
    // SAFETY: the context is open, and its table has the entry or none.
    let poll = unsafe { (*context.raw()).ops.poll_cq };
    match poll {
        Some(poll) => Ok(Raw::Classic { raw, poll }),
        None => {
            // SAFETY: it was just made, and nothing uses it.
            unsafe { (context.verbs().ibv_destroy_cq)(raw.as_ptr()) };
            Err(VerbsError::call(
                "ibv_poll_cq",
                context.name(),
                libc::EOPNOTSUPP,
                "its provider polls no queue; it is not supported",
            ))
        }
    }
}

fn extended(
    context: &Context,
    want: Completions,
    notify: *mut ibv_comp_channel,
) -> Result<Raw, VerbsError> {
    let bytes = if want.receives {
        IBV_WC_EX_WITH_BYTE_LEN
    } else {
        0
    };
    let mut attributes = ibv_cq_init_attr_ex {
        cqe: want.room,
        cq_context: std::ptr::null_mut(),
        channel: notify,
        comp_vector: 0,
        wc_flags: bytes | IBV_WC_EX_WITH_QP_NUM,
        comp_mask: IBV_CQ_INIT_ATTR_MASK_FLAGS,
        flags: IBV_CREATE_CQ_ATTR_SINGLE_THREADED,
        parent_domain: std::ptr::null_mut(),
    };
    // SAFETY: the context is open, and the channel is of it or null.
    let mut raw = unsafe { context.verbs().create_cq_ex(context.raw(), &mut attributes) };
    if raw.is_null() {
        // Not every provider can do without the lock.
        (attributes.comp_mask, attributes.flags) = (0, 0);
        // SAFETY: as above.
        raw = unsafe { context.verbs().create_cq_ex(context.raw(), &mut attributes) };
    }
    let raw = NonNull::new(raw).ok_or_else(|| {
        VerbsError::last(
            "ibv_create_cq_ex",
            context.name(),
            "its provider has no extended interface, or no more room; give --engine verbs, or lower --depth",
        )
    })?;
    // SAFETY: it was just made; its calls are read.
    let calls = unsafe {
        let cq = raw.as_ptr();
        (
            (*cq).start_poll,
            (*cq).next_poll,
            (*cq).end_poll,
            (*cq).read_byte_len,
            (*cq).read_qp_num,
        )
    };
    match calls {
        (Some(start), Some(next), Some(end), bytes, Some(queue_pair))
            if bytes.is_some() || !want.receives =>
        {
            Ok(Raw::Extended(ExtendedCalls {
                raw,
                start,
                next,
                end,
                bytes: bytes.filter(|_| want.receives),
                queue_pair,
            }))
        }
        _ => {
            // SAFETY: it was just made, and nothing uses it.
            unsafe { (context.verbs().ibv_destroy_cq)(raw.as_ptr().cast()) };
            Err(VerbsError::call(
                "ibv_create_cq_ex",
                context.name(),
                libc::EOPNOTSUPP,
                "its provider does not read completions in place; give --engine verbs",
            ))
        }
    }
}
