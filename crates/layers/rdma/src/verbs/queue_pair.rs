//! Queue pairs: made, brought to their peer state by state, and destroyed before what they complete to.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;

use strata_rdma_sys::extended::{
    IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD, IBV_QP_EX_WITH_RDMA_READ, IBV_QP_EX_WITH_RDMA_WRITE,
    IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM, IBV_QP_EX_WITH_SEND, IBV_QP_INIT_ATTR_PD,
    IBV_QP_INIT_ATTR_SEND_OPS_FLAGS, ibv_qp_init_attr_ex,
};
use strata_rdma_sys::verbs::{
    IBV_QP_ACCESS_FLAGS, IBV_QP_AV, IBV_QP_DEST_QPN, IBV_QP_MAX_DEST_RD_ATOMIC,
    IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_PATH_MTU, IBV_QP_PKEY_INDEX, IBV_QP_PORT,
    IBV_QP_QKEY, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY, IBV_QP_RQ_PSN, IBV_QP_SQ_PSN, IBV_QP_STATE,
    IBV_QP_TIMEOUT, IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD,
    IBV_WR_RDMA_WRITE, ibv_ah_attr, ibv_gid, ibv_global_route, ibv_qp, ibv_qp_attr, ibv_qp_cap,
    ibv_qp_init_attr,
};
use strata_record::Transport;

use super::error::{VerbsError, cannot_connect};
use super::post::{Calls, Receiver};
use super::{Access, CompletionQueue, Interface, Mtu, ProtectionDomain};

/// It was made and has no port yet.
#[derive(Debug)]
pub enum Reset {}
/// It has a port, and takes receives.
#[derive(Debug)]
pub enum Init {}
/// It has a peer, and takes everything.
#[derive(Debug)]
pub enum Ready {}

/// What a queue pair is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Its service.
    pub transport: Transport,
    /// Sends, writes, reads and atomics outstanding at most.
    pub sends: u32,
    /// Receives outstanding at most.
    pub receives: u32,
    /// Bytes that are copied into a request at most, rather than fetched by the device.
    pub inline: u32,
    /// How it is posted to.
    pub interface: Interface,
}

/// A queue pair in a state: what its state does not allow, does not compile.
///
/// ```compile_fail,E0599
/// use strata_rdma::verbs::{Init, QueuePair, Requests};
/// fn too_early(pair: &mut QueuePair<Init>, requests: &mut Requests) {
///     pair.batch(requests);
/// }
/// ```
///
/// It is of the thread that made it, and its requests are posted by a guard that borrows it:
///
/// ```compile_fail,E0277
/// fn shared<T: Send>() {}
/// shared::<strata_rdma::verbs::QueuePair<strata_rdma::verbs::Ready>>();
/// ```
/// ```compile_fail,E0499
/// use strata_rdma::verbs::{QueuePair, Ready, Requests};
/// fn twice(pair: &mut QueuePair<Ready>, a: &mut Requests, b: &mut Requests) {
///     let first = pair.batch(a);
///     let second = pair.batch(b);
///     drop((first, second));
/// }
/// ```
pub struct QueuePair<S> {
    pub(super) alive: Alive,
    state: PhantomData<S>,
}

/// What is destroyed with it.
pub(super) struct Alive {
    pub(super) raw: NonNull<ibv_qp>,
    pub(super) calls: Calls,
    pub(super) receiver: Receiver,
    pub(super) wanted: Wanted,
    inline: u32,
    pub(super) domain: ProtectionDomain,
    /// Destroyed after it.
    _completions: (
        Rc<std::cell::RefCell<CompletionQueue>>,
        Rc<std::cell::RefCell<CompletionQueue>>,
    ),
}

impl Drop for Alive {
    fn drop(&mut self) {
        // SAFETY: it is alive, and its requests' completions are nobody's any more.
        unsafe { (self.domain.context().verbs().ibv_destroy_qp)(self.raw.as_ptr()) };
    }
}

/// A completion queue that several queue pairs of a thread complete to.
pub type SharedQueue = Rc<std::cell::RefCell<CompletionQueue>>;

/// How packets find the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The own port.
    pub port: u8,
    /// The own GID's index.
    pub gid_index: u8,
    /// The other side's GID; `None` for packets that stay in an InfiniBand subnet and carry none.
    pub gid: Option<[u8; 16]>,
    /// The other side's LID; 0 on Ethernet.
    pub lid: u16,
    /// Service level.
    pub service_level: u8,
    /// Traffic class, of packets with a GID.
    pub traffic_class: u8,
}

impl Route {
    pub(super) fn attributes(&self) -> ibv_ah_attr {
        let grh = self.gid.map(|raw| ibv_global_route {
            dgid: ibv_gid { raw },
            flow_label: 0,
            sgid_index: self.gid_index,
            hop_limit: 64,
            traffic_class: self.traffic_class,
        });
        ibv_ah_attr {
            is_global: u8::from(grh.is_some()),
            grh: grh.unwrap_or_default(),
            dlid: self.lid,
            sl: self.service_level,
            src_path_bits: 0,
            static_rate: 0,
            port_num: self.port,
        }
    }
}

/// What both ends of a connection agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The way there; of datagrams, that of each message stands in its request.
    pub route: Route,
    /// The other side's queue pair.
    pub queue_pair: u32,
    /// The number of its first packet.
    pub their_psn: u32,
    /// The number of our first packet.
    pub our_psn: u32,
    /// How packets go.
    pub terms: Terms,
}

/// How packets go between two queue pairs, however these found each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Payload of a packet.
    pub mtu: Mtu,
    /// Reads and atomics that we have outstanding at most.
    pub reads: u8,
    /// Reads and atomics of the other side's that we answer at once.
    pub answers: u8,
    /// An acknowledgement is awaited for 4.096 µs × 2^this; 0 is forever.
    pub timeout: u8,
    /// How often a packet is sent again.
    pub retries: u8,
    /// How often a receiver that is not ready is tried again; 7 is forever.
    pub rnr_retries: u8,
    /// How long who has no receive asks the other side to wait (5 bits, ibv_modify_qp(3)); 12 is 0.64 ms.
    pub rnr_timer: u8,
}

/// The key of our datagrams. They are measured between two sides that told each other so; it protects nothing.
pub(crate) const DATAGRAMS: u32 = 0x1111_1111;

impl QueuePair<Reset> {
    /// A new one, whose sends and receives complete to these.
    ///
    /// # Errors
    /// It is beyond the device, or its provider does not have the interface.
    pub fn new(
        domain: &ProtectionDomain,
        wanted: Wanted,
        sends_to: &SharedQueue,
        receives_to: &SharedQueue,
    ) -> Result<QueuePair<Reset>, VerbsError> {
        let context = domain.context();
        for queue in [sends_to, receives_to] {
            if !queue.borrow().context().is(context) {
                return Err(VerbsError::Port(format!(
                    "a queue pair of {} cannot complete to a queue of another device, or of another opening of it; this is a bug of strata",
                    context.name()
                )));
            }
        }
        let most = context.limits().work_requests;
        for (what, asked) in [
            ("a send queue", wanted.sends),
            ("a receive queue", wanted.receives),
        ] {
            if asked > most {
                return Err(VerbsError::Beyond {
                    what,
                    asked: u64::from(asked),
                    device: context.name().to_owned(),
                    most: u64::from(most),
                    next: "lower --depth".to_owned(),
                });
            }
        }
        let cap = ibv_qp_cap {
            max_send_wr: wanted.sends.max(1),
            max_recv_wr: wanted.receives.max(1),
            max_send_sge: 1,
            max_recv_sge: 1,
            max_inline_data: wanted.inline,
        };
        let (send_cq, recv_cq) = (sends_to.borrow().raw(), receives_to.borrow().raw());
        let qp_type = match wanted.transport {
            Transport::Rc => IBV_QPT_RC,
            Transport::Uc => IBV_QPT_UC,
            Transport::Ud => IBV_QPT_UD,
        };
        let (raw, call, made) = match wanted.interface {
            Interface::Classic => {
                let mut attributes = ibv_qp_init_attr {
                    qp_context: std::ptr::null_mut(),
                    send_cq,
                    recv_cq,
                    srq: std::ptr::null_mut(),
                    cap,
                    qp_type,
                    sq_sig_all: 0,
                };
                // SAFETY: domain and queues are alive.
                let raw = unsafe { (context.verbs().ibv_create_qp)(domain.raw(), &mut attributes) };
                (raw, "ibv_create_qp", attributes.cap)
            }
            Interface::Extended => {
                // SAFETY: null pointers and numbers are all zeros.
                let mut attributes: ibv_qp_init_attr_ex = unsafe { std::mem::zeroed() };
                attributes.send_cq = send_cq;
                attributes.recv_cq = recv_cq;
                attributes.cap = cap;
                attributes.qp_type = qp_type;
                attributes.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
                attributes.pd = domain.raw();
                attributes.send_ops_flags = operations(wanted.transport);
                // SAFETY: context, domain and queues are alive.
                let raw = unsafe { context.verbs().create_qp_ex(context.raw(), &mut attributes) };
                (raw, "ibv_create_qp_ex", attributes.cap)
            }
        };
        let raw = NonNull::new(raw).ok_or_else(|| cannot_make(call, context.name(), &wanted))?;
        let ready = Calls::of(context, raw, wanted.interface)
            .and_then(|calls| Ok((calls, Receiver::of(context, raw)?)));
        let (calls, receiver) = match ready {
            Ok(ready) => ready,
            Err(why) => {
                // SAFETY: it was just made, and nothing uses it.
                unsafe { (context.verbs().ibv_destroy_qp)(raw.as_ptr()) };
                return Err(why);
            }
        };
        Ok(QueuePair {
            alive: Alive {
                raw,
                calls,
                receiver,
                wanted,
                inline: made.max_inline_data,
                domain: domain.clone(),
                _completions: (Rc::clone(sends_to), Rc::clone(receives_to)),
            },
            state: PhantomData,
        })
    }

    /// Gives it a port, an entry of its table of P_Keys, and rights to the other side.
    ///
    /// # Errors
    /// The port has no such entry, or the device none of these rights.
    pub fn init(
        mut self,
        port: u8,
        pkey_index: u16,
        access: Access,
    ) -> Result<QueuePair<Init>, VerbsError> {
        let mut to = ibv_qp_attr {
            qp_state: IBV_QPS_INIT,
            pkey_index,
            port_num: port,
            ..ibv_qp_attr::default()
        };
        let mut mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
        if self.alive.wanted.transport == Transport::Ud {
            to.qkey = DATAGRAMS;
            mask |= IBV_QP_QKEY;
        } else {
            to.qp_access_flags = access.of_queue_pair();
            mask |= IBV_QP_ACCESS_FLAGS;
        }
        self.alive.modify(&mut to, mask, "RESET")?;
        Ok(self.into_state())
    }
}

/// The operations of ours that a service has.
fn operations(transport: Transport) -> u64 {
    let sends = IBV_QP_EX_WITH_SEND;
    let writes = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;
    match transport {
        Transport::Ud => sends,
        Transport::Uc => sends | writes,
        Transport::Rc => {
            sends | writes | IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD
        }
    }
}

fn cannot_make(call: &'static str, device: &str, wanted: &Wanted) -> VerbsError {
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let next = match errno {
        libc::EINVAL if wanted.inline > 0 => format!(
            "{} outstanding, {} B inline: one of the two is beyond the device; lower --depth or --inline",
            wanted.sends, wanted.inline
        ),
        libc::EINVAL => format!("{} outstanding are beyond the device; lower --depth", wanted.sends),
        libc::ENOMEM => "no memory for its queues: raise the limit of locked memory (`ulimit -l`), or lower --depth or --qps".to_owned(),
        libc::EOPNOTSUPP | libc::ENOSYS => format!(
            "its provider does not have {} by this interface; give another --transport, or --engine verbs",
            wanted.transport
        ),
        _ => "look at dmesg".to_owned(),
    };
    VerbsError::call(call, device, errno, next)
}

impl QueuePair<Init> {
    /// Connects it: from here on it takes receives and sends.
    ///
    /// # Errors
    /// The path does not fit the port, or there is no route.
    pub fn connect(mut self, to: &Connection) -> Result<QueuePair<Ready>, VerbsError> {
        let transport = self.alive.wanted.transport;
        let mut attributes = ibv_qp_attr {
            qp_state: IBV_QPS_RTR,
            ..ibv_qp_attr::default()
        };
        let mut mask = IBV_QP_STATE;
        if transport != Transport::Ud {
            attributes.ah_attr = to.route.attributes();
            attributes.path_mtu = to.terms.mtu.code();
            attributes.dest_qp_num = to.queue_pair;
            attributes.rq_psn = to.their_psn;
            mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
        }
        if transport == Transport::Rc {
            mask |= to.terms.receive(&mut attributes);
        }
        self.alive.modify(&mut attributes, mask, "INIT")?;

        let mut attributes = ibv_qp_attr {
            qp_state: IBV_QPS_RTS,
            sq_psn: to.our_psn,
            ..ibv_qp_attr::default()
        };
        let mut mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
        if transport == Transport::Rc {
            mask |= to.terms.send(&mut attributes);
        }
        self.alive.modify(&mut attributes, mask, "RTR")?;
        Ok(self.into_state())
    }
}

impl Terms {
    /// Of a reliable connection, what is said when it comes to receive; and which attributes those are.
    pub(super) fn receive(&self, attributes: &mut ibv_qp_attr) -> c_int {
        attributes.max_dest_rd_atomic = self.answers;
        attributes.min_rnr_timer = self.rnr_timer;
        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER
    }

    /// The same, when it comes to send.
    pub(super) fn send(&self, attributes: &mut ibv_qp_attr) -> c_int {
        attributes.timeout = self.timeout;
        attributes.retry_cnt = self.retries;
        attributes.rnr_retry = self.rnr_retries;
        attributes.max_rd_atomic = self.reads;
        IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC
    }
}

impl<S> QueuePair<S> {
    /// Its number, by which the other side names it.
    pub fn number(&self) -> u32 {
        // SAFETY: it is alive; the number was written when it was made.
        unsafe { (*self.alive.raw.as_ptr()).qp_num }
    }

    /// Whether the bytes of a write are placed in their order, as far as its provider promises (ibv_query_qp_data_in_order(3)).
    pub fn places_in_order(&self) -> bool {
        let verbs = self.alive.domain.context().verbs();
        // SAFETY: it is alive.
        unsafe { verbs.places_in_order(self.alive.raw.as_ptr(), IBV_WR_RDMA_WRITE) }
    }

    /// Bytes that a request may carry inline.
    pub fn inline(&self) -> u32 {
        self.alive.inline
    }

    pub(super) fn into_state<T>(self) -> QueuePair<T> {
        QueuePair {
            alive: self.alive,
            state: PhantomData,
        }
    }
}

impl Alive {
    pub(super) fn modify(
        &mut self,
        to: &mut ibv_qp_attr,
        mask: c_int,
        now: &'static str,
    ) -> Result<(), VerbsError> {
        let context = self.domain.context();
        // SAFETY: it is alive, and the mask says which attributes count, all of which are numbers.
        let failed = unsafe { (context.verbs().ibv_modify_qp)(self.raw.as_ptr(), to, mask) };
        if failed == 0 {
            return Ok(());
        }
        let object = format!("a queue pair of {}", context.name());
        Err(VerbsError::call(
            "ibv_modify_qp",
            object,
            failed,
            cannot_connect(failed.abs()),
        )
        .in_state(now))
    }
}
