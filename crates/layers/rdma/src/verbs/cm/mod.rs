//! Connections by the address of an interface (rdma_cm(7)): the kernel's connection manager finds port and path, and tells
//! each side the other one's queue pair. Queue pairs are made and brought to their states here, not by the library, so that
//! what they are is the same however they were connected.
//!
//! Who connects: [`Id::resolve`], [`QueuePair::init_by`], [`Id::connect`], [`QueuePair::connect_by`], [`Id::establish`].
//! Who listens: [`Listener::bind`], [`Listener::request`], [`QueuePair::init_by`], [`QueuePair::connect_by`], [`Id::accept`],
//! [`Listener::established`].

mod channel;
mod explain;
mod listener;
mod pair;

use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::time::Instant;

use strata_rdma_sys::cm::{
    RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_CONNECT_RESPONSE, RDMA_CM_EVENT_ROUTE_RESOLVED,
    RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, RDMA_PS_TCP, rdma_addr_end, rdma_cm_id, rdma_conn_param,
};
use strata_units::Nanos;

use super::device::name_of;
use super::{Init, QueuePair, Ready, Terms, VerbsError};
use channel::{Event, Nothing};
use explain::{NO_ANSWER, cannot_resolve, told};

pub use channel::{EventChannel, Patience};
pub use listener::Listener;

/// It knows its port and the path to the other side.
#[derive(Debug)]
pub struct Resolved(());
/// Somebody asks for it, and said this.
#[derive(Debug)]
pub struct Asked {
    private: Vec<u8>,
}
/// The other side has accepted, and awaits that this one is ready.
#[derive(Debug)]
pub struct Answered(());
/// This side has accepted, and awaits that the other one is ready.
#[derive(Debug)]
pub struct Accepted(());
/// Both sides are ready.
#[derive(Debug)]
pub struct Established(());

/// A state in which the own port is known.
pub trait HasPort {}
impl HasPort for Resolved {}
impl HasPort for Asked {}

/// A state in which the other side's queue pair is known.
pub trait HasPeer {}
impl HasPeer for Asked {}
impl HasPeer for Answered {}

/// A connection's identifier in a state (rdma_create_id(3)). It is of one thread; dropped, it disconnects or rejects, and the
/// kernel tells the other side.
///
/// ```compile_fail,E0277
/// use strata_rdma::verbs::cm::{Id, Resolved};
/// use strata_rdma::verbs::{Init, QueuePair, Terms};
/// fn too_early(pair: QueuePair<Init>, id: &Id<Resolved>, terms: &Terms) {
///     let _ = pair.connect_by(id, None, 0, terms);
/// }
/// ```
pub struct Id<S> {
    raw: Raw,
    /// What errors call it.
    name: String,
    state: S,
}

/// What is destroyed with it.
struct Raw {
    at: NonNull<rdma_cm_id>,
    channel: EventChannel,
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It waits for events that are not acknowledged: there are none, see `EventChannel::next`.
        // SAFETY: it is alive, its channel is open, and nothing of it is used after.
        unsafe { (self.channel.cm().rdma_destroy_id)(self.at.as_ptr()) };
    }
}

impl Raw {
    fn new(channel: &EventChannel, name: &str) -> Result<Raw, VerbsError> {
        let mut at = std::ptr::null_mut();
        let nothing = std::ptr::null_mut();
        // SAFETY: the channel is open, and the pointer is written to where the call succeeds.
        let failed =
            unsafe { (channel.cm().rdma_create_id)(channel.raw(), &mut at, nothing, RDMA_PS_TCP) };
        match NonNull::new(at) {
            Some(at) if failed == 0 => Ok(Raw {
                at,
                channel: channel.clone(),
            }),
            _ => Err(VerbsError::last("rdma_create_id", name, "look at dmesg")),
        }
    }

    /// The device and port that it was bound to.
    fn port(&self) -> Option<(String, u8)> {
        // SAFETY: it is alive, and this thread's.
        let (context, port) = unsafe { ((*self.at.as_ptr()).verbs, (*self.at.as_ptr()).port_num) };
        // SAFETY: where there is a context it is open for as long as the library is loaded, and has a device.
        let device =
            NonNull::new(context).and_then(|c| NonNull::new(unsafe { (*c.as_ptr()).device }));
        Some((name_of(device?), port))
    }

    /// Waits for the event that a call of it leads to.
    fn wait(
        &self,
        call: &'static str,
        name: &str,
        wanted: c_int,
        patience: &Patience<'_>,
    ) -> Result<(), VerbsError> {
        let begun = Instant::now();
        loop {
            let found = self.channel.next(begun, patience);
            let event = found.map_err(|why| none(why, call, name, patience, NO_ANSWER))?;
            // Of connections of before that end meanwhile.
            if event.id != self.at.as_ptr() {
                continue;
            }
            return self.holds(&event, call, name, wanted);
        }
    }

    /// Whether an event is the awaited one, or else its error.
    fn holds(
        &self,
        event: &Event,
        call: &'static str,
        name: &str,
        wanted: c_int,
    ) -> Result<(), VerbsError> {
        if event.kind == wanted && event.status == 0 {
            return Ok(());
        }
        Err(told(call, name.to_owned(), event.kind, event.status))
    }
}

/// Why nothing came, of a call.
fn none(
    why: Nothing,
    call: &'static str,
    name: &str,
    patience: &Patience<'_>,
    next: &'static str,
) -> VerbsError {
    let object = name.to_owned();
    match why {
        Nothing::TimedOut => VerbsError::TimedOut {
            call,
            object,
            within: patience.within,
            next,
        },
        Nothing::BrokenOff => VerbsError::BrokenOff { call, object },
        Nothing::Failed(why) => why,
    }
}

/// An address as C has it.
fn in_c(address: SocketAddr) -> rdma_addr_end {
    // SAFETY: of numbers and arrays of them zeros are a value.
    let mut all: rdma_addr_end = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            all.sin.sin_family = libc::AF_INET as libc::sa_family_t;
            all.sin.sin_port = v4.port().to_be();
            all.sin.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            all.sin6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            all.sin6.sin6_port = v6.port().to_be();
            all.sin6.sin6_addr.s6_addr = v6.ip().octets();
            all.sin6.sin6_scope_id = v6.scope_id();
        }
    }
    all
}

/// How a call ended that gives 0, or -1 and an errno.
fn done(
    failed: c_int,
    call: &'static str,
    name: &str,
    next: fn(i32) -> &'static str,
) -> Result<(), VerbsError> {
    if failed == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(VerbsError::call(call, name, errno, next(errno)))
}

fn cannot_answer(errno: i32) -> &'static str {
    match errno {
        libc::EINVAL => {
            "more reads at once than the device has, or the other side has gone meanwhile; lower --reads"
        }
        _ => "look at dmesg, and at the other side's own messages",
    }
}

/// The part of a time that the kernel is given, so that it says why before nobody listens any more.
fn milliseconds(within: Nanos) -> c_int {
    c_int::try_from(within.0 / 1_000_000 * 3 / 4).unwrap_or(c_int::MAX)
}

/// What goes along with a request or its acceptance.
fn parameters(queue_pair: u32, terms: &Terms, private: &[u8]) -> rdma_conn_param {
    rdma_conn_param {
        private_data: private.as_ptr().cast(),
        private_data_len: u8::try_from(private.len()).unwrap_or(u8::MAX),
        responder_resources: terms.answers,
        initiator_depth: terms.reads,
        flow_control: 0,
        retry_count: terms.retries,
        rnr_retry_count: terms.rnr_retries,
        srq: 0,
        qp_num: queue_pair,
    }
}

impl Id<Resolved> {
    /// A path from an address of this machine to one where somebody may listen. Packets have that traffic class; with 0 they
    /// have the host's usual one.
    ///
    /// # Errors
    /// No RDMA device has the first, or there is no way from it to the second.
    pub fn resolve(
        channel: &EventChannel,
        from: SocketAddr,
        to: SocketAddr,
        traffic_class: u8,
        patience: &Patience<'_>,
    ) -> Result<Id<Resolved>, VerbsError> {
        let name = format!("{to} from {}", from.ip());
        let raw = Raw::new(channel, &name)?;
        let (cm, id) = (channel.cm(), raw.at.as_ptr());
        if traffic_class != 0 {
            let mut class = traffic_class;
            let at = (&raw mut class).cast::<c_void>();
            // SAFETY: the identifier is alive, and the option one byte.
            let failed =
                unsafe { (cm.rdma_set_option)(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, at, 1) };
            done(
                failed,
                "rdma_set_option",
                &name,
                |_| "the kernel does not set a traffic class here; leave --traffic-class out",
            )?;
        }
        let limit = milliseconds(patience.within);
        let (mut from, mut to) = (in_c(from), in_c(to));
        let (from, to) = ((&raw mut from).cast(), (&raw mut to).cast());
        // SAFETY: the identifier is alive, and the addresses are whole ones of their families.
        let failed = unsafe { (cm.rdma_resolve_addr)(id, from, to, limit) };
        done(failed, "rdma_resolve_addr", &name, cannot_resolve)?;
        raw.wait(
            "rdma_resolve_addr",
            &name,
            RDMA_CM_EVENT_ADDR_RESOLVED,
            patience,
        )?;
        // SAFETY: it is alive.
        let failed = unsafe { (cm.rdma_resolve_route)(id, limit) };
        done(failed, "rdma_resolve_route", &name, cannot_resolve)?;
        raw.wait(
            "rdma_resolve_route",
            &name,
            RDMA_CM_EVENT_ROUTE_RESOLVED,
            patience,
        )?;
        Ok(Id {
            raw,
            name,
            state: Resolved(()),
        })
    }

    /// Asks the other side for a connection of this queue pair, saying `private` (56 bytes at most), and waits for its word.
    ///
    /// # Errors
    /// Nobody listens there, it is rejected, or nothing comes.
    pub fn connect(
        self,
        pair: &QueuePair<Init>,
        terms: &Terms,
        private: &[u8],
        patience: &Patience<'_>,
    ) -> Result<Id<Answered>, VerbsError> {
        let mut all = parameters(pair.number(), terms, private);
        // SAFETY: it is alive; what the parameters point to is read before the call returns.
        let failed =
            unsafe { (self.raw.channel.cm().rdma_connect)(self.raw.at.as_ptr(), &mut all) };
        done(failed, "rdma_connect", &self.name, cannot_answer)?;
        let wanted = RDMA_CM_EVENT_CONNECT_RESPONSE;
        self.raw
            .wait("rdma_connect", &self.name, wanted, patience)?;
        Ok(self.into_state(Answered(())))
    }
}

impl Id<Answered> {
    /// Tells the other side that this one's queue pair is ready.
    ///
    /// # Errors
    /// The other side has gone meanwhile.
    pub fn establish(self, _: &QueuePair<Ready>) -> Result<Id<Established>, VerbsError> {
        // SAFETY: it is alive, and has no queue pair of the library's.
        let failed = unsafe { (self.raw.channel.cm().rdma_establish)(self.raw.at.as_ptr()) };
        done(failed, "rdma_establish", &self.name, cannot_answer)?;
        Ok(self.into_state(Established(())))
    }
}

impl Id<Asked> {
    /// What whoever asks said; as the connection manager pads it with zeros, there may be more of it.
    pub fn private(&self) -> &[u8] {
        &self.state.private
    }

    /// Accepts it for this queue pair.
    ///
    /// # Errors
    /// The other side has gone meanwhile.
    pub fn accept(
        self,
        pair: &QueuePair<Ready>,
        terms: &Terms,
    ) -> Result<Id<Accepted>, VerbsError> {
        let mut all = parameters(pair.number(), terms, &[]);
        // SAFETY: it is alive; what the parameters point to is read before the call returns.
        let failed = unsafe { (self.raw.channel.cm().rdma_accept)(self.raw.at.as_ptr(), &mut all) };
        done(failed, "rdma_accept", &self.name, cannot_answer)?;
        Ok(self.into_state(Accepted(())))
    }

    /// Rejects it.
    ///
    /// # Errors
    /// The other side has gone meanwhile.
    pub fn reject(self) -> Result<(), VerbsError> {
        // SAFETY: it is alive, and nothing is said beside.
        let failed = unsafe {
            (self.raw.channel.cm().rdma_reject)(self.raw.at.as_ptr(), std::ptr::null(), 0)
        };
        done(failed, "rdma_reject", &self.name, cannot_answer)
    }
}

impl<S> Id<S> {
    fn into_state<T>(self, state: T) -> Id<T> {
        Id {
            raw: self.raw,
            name: self.name,
            state,
        }
    }
}
