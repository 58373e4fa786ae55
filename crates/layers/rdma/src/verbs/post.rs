//! Posting: requests that are made ready once, and guards that hand a batch of them to a queue pair behind one doorbell.

use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

use strata_rdma_sys::extended::ibv_qp_ex;
use strata_rdma_sys::verbs::{
    IBV_SEND_INLINE, IBV_SEND_SIGNALED, IBV_SEND_SOLICITED, IBV_WR_ATOMIC_FETCH_AND_ADD,
    IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, ibv_ah, ibv_qp,
    ibv_recv_wr, ibv_send_wr, ibv_send_wr_atomic, ibv_send_wr_rdma, ibv_send_wr_ud, ibv_sge,
};
use strata_record::Transport;
use strata_units::Bytes;

use super::error::VerbsError;
use super::memory::RemoteKey;
use super::queue_pair::{DATAGRAMS, Init, QueuePair, Ready};
use super::{Context, Interface, LocalKey, MemoryRegion, ProtectionDomain, Route};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Writes into the other side's memory.
    Write,
    /// The same, and takes one of its receives, which is told this number.
    WriteImm(u32),
    /// Reads from the other side's memory.
    Read,
    /// Sends into one of its receives.
    Send,
    /// Adds to a word of 8 bytes there, and brings what it was.
    FetchAdd(u64),
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What it does.
    pub verb: Verb,
    /// Where in the own region.
    pub at: Bytes,
    /// How many bytes.
    pub len: Bytes,
    /// Where in the other side's memory; of sends nowhere.
    pub remote: Option<(u64, RemoteKey)>,
    /// Whether its bytes are copied into it when it is posted.
    pub inline: bool,
    /// What its completion is told by.
    pub id: u64,
}

/// Requests of one region, made ready once and posted again and again.
pub struct Requests {
    region: Rc<MemoryRegion>,
    /// Each points to the piece of its number.
    all: Box<[ibv_send_wr]>,
    /// Written through pointers only.
    pieces: Box<[ibv_sge]>,
    to: Option<Rc<AddressHandle>>,
}

impl Requests {
    /// So many, which do nothing yet: each is a write of no bytes.
    pub fn new(region: &Rc<MemoryRegion>, number: usize) -> Requests {
        // SAFETY: null pointers, numbers, and a union of numbers and a null pointer are all zeros.
        let nothing: ibv_send_wr = unsafe { std::mem::zeroed() };
        Requests {
            region: Rc::clone(region),
            all: vec![nothing; number].into_boxed_slice(),
            pieces: vec![ibv_sge::default(); number].into_boxed_slice(),
            to: None,
        }
    }

    /// Sets one.
    ///
    /// # Panics
    /// When there is no such one, or its piece does not lie inside the region.
    pub fn set(&mut self, n: usize, request: Request) {
        let piece = self.region.piece(request.at, request.len);
        self.pieces[n] = ibv_sge {
            addr: piece.address,
            length: piece.len,
            lkey: piece.key.0,
        };
        let at = &raw mut self.pieces[n];
        let wr = &mut self.all[n];
        wr.wr_id = request.id;
        wr.sg_list = at;
        wr.num_sge = c_int::from(piece.len > 0);
        wr.send_flags = if request.inline { IBV_SEND_INLINE } else { 0 };
        let (remote_addr, rkey) = request.remote.map_or((0, 0), |(at, key)| (at, key.0));
        let write = ibv_send_wr_rdma { remote_addr, rkey };
        match request.verb {
            Verb::Write => {
                wr.opcode = IBV_WR_RDMA_WRITE;
                wr.wr.rdma = write;
            }
            Verb::WriteImm(told) => {
                wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
                wr.imm_data = told.to_be();
                wr.send_flags |= IBV_SEND_SOLICITED;
                wr.wr.rdma = write;
            }
            Verb::Read => {
                wr.opcode = IBV_WR_RDMA_READ;
                wr.wr.rdma = write;
            }
            Verb::FetchAdd(compare_add) => {
                wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
                wr.wr.atomic = ibv_send_wr_atomic {
                    remote_addr,
                    compare_add,
                    swap: 0,
                    rkey,
                };
            }
            Verb::Send => {
                wr.opcode = IBV_WR_SEND;
                wr.wr.ud = ibv_send_wr_ud {
                    ah: null_mut(),
                    remote_qpn: 0,
                    remote_qkey: 0,
                };
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Sends all sends among them, as datagrams, to that queue pair.
    ///
    /// # Panics
    /// When the address is of another device than the region.
    pub fn address(&mut self, to: &Rc<AddressHandle>, queue_pair: u32) {
        assert!(
            to.domain.context().is(self.region.context()),
            "an address of another device"
        );
        for wr in self.all.iter_mut().filter(|wr| wr.opcode == IBV_WR_SEND) {
            wr.wr.ud = ibv_send_wr_ud {
                ah: to.raw.as_ptr(),
                remote_qpn: queue_pair,
                remote_qkey: DATAGRAMS,
            };
        }
        // Held for as long as a request names it.
        self.to = Some(Rc::clone(to));
    }
}

/// The calls by which requests are posted.
#[derive(Clone, Copy)]
pub(super) enum Calls {
    Classic(PostSend),
    Extended(ExtendedCalls),
}

type PostSend = unsafe extern "C" fn(*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int;
type PostReceive =
    unsafe extern "C" fn(*mut ibv_qp, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int;

#[derive(Clone, Copy)]
pub(super) struct ExtendedCalls {
    qp: NonNull<ibv_qp_ex>,
    start: unsafe extern "C" fn(*mut ibv_qp_ex),
    complete: unsafe extern "C" fn(*mut ibv_qp_ex) -> c_int,
    abort: unsafe extern "C" fn(*mut ibv_qp_ex),
    piece: unsafe extern "C" fn(*mut ibv_qp_ex, u32, u64, u32),
    inline: unsafe extern "C" fn(*mut ibv_qp_ex, *mut std::ffi::c_void, usize),
    send: Option<unsafe extern "C" fn(*mut ibv_qp_ex)>,
    write: Option<unsafe extern "C" fn(*mut ibv_qp_ex, u32, u64)>,
    write_imm: Option<unsafe extern "C" fn(*mut ibv_qp_ex, u32, u64, u32)>,
    read: Option<unsafe extern "C" fn(*mut ibv_qp_ex, u32, u64)>,
    fetch_add: Option<unsafe extern "C" fn(*mut ibv_qp_ex, u32, u64, u64)>,
    to: Option<unsafe extern "C" fn(*mut ibv_qp_ex, *mut ibv_ah, u32, u32)>,
}

fn no_call(context: &Context, call: &'static str) -> VerbsError {
    VerbsError::call(
        call,
        context.name(),
        libc::EOPNOTSUPP,
        "its provider does not have it; it is not supported",
    )
}

impl Calls {
    pub(super) fn of(
        context: &Context,
        qp: NonNull<ibv_qp>,
        interface: Interface,
    ) -> Result<Calls, VerbsError> {
        if interface == Interface::Classic {
            // SAFETY: the context is open; its table has the entry or none.
            let call = unsafe { (*context.raw()).ops.post_send };
            return call
                .map(Calls::Classic)
                .ok_or_else(|| no_call(context, "ibv_post_send"));
        }
        // SAFETY: the queue pair is alive, and was made by ibv_create_qp_ex with operations.
        let qp = unsafe { (context.verbs().ibv_qp_to_qp_ex)(qp.as_ptr()) };
        let qp = NonNull::new(qp).ok_or_else(|| no_call(context, "ibv_qp_to_qp_ex"))?;
        // SAFETY: it is alive, and its entries are functions or null.
        let has = unsafe { qp.as_ref() };
        let (Some(start), Some(complete), Some(abort), Some(piece), Some(inline)) = (
            has.wr_start,
            has.wr_complete,
            has.wr_abort,
            has.wr_set_sge,
            has.wr_set_inline_data,
        ) else {
            return Err(no_call(context, "ibv_wr_start"));
        };
        Ok(Calls::Extended(ExtendedCalls {
            qp,
            start,
            complete,
            abort,
            piece,
            inline,
            send: has.wr_send,
            write: has.wr_rdma_write,
            write_imm: has.wr_rdma_write_imm,
            read: has.wr_rdma_read,
            fetch_add: has.wr_atomic_fetch_add,
            to: has.wr_set_ud_addr,
        }))
    }
}

impl QueuePair<Ready> {
    /// Begins a batch of these requests, of which none goes before [`Batch::ring`]; one that is dropped before goes nowhere.
    ///
    /// # Panics
    /// When they are of another device's memory.
    #[inline]
    pub fn batch<'q>(&'q mut self, requests: &'q mut Requests) -> Batch<'q> {
        assert!(
            requests.region.context().is(self.alive.domain.context()),
            "requests of another device"
        );
        if let Calls::Extended(calls) = &self.alive.calls {
            // SAFETY: the queue pair is alive, and no other batch of it is begun: this one borrows it.
            unsafe { (calls.start)(calls.qp.as_ptr()) };
        }
        Batch {
            qp: self.alive.raw,
            calls: &self.alive.calls,
            requests,
            first: null_mut(),
            last: null_mut(),
            datagrams: self.alive.wanted.transport == Transport::Ud,
            wrong: 0,
        }
    }
}

/// Requests on their way to a queue pair.
pub struct Batch<'q> {
    qp: NonNull<ibv_qp>,
    calls: &'q Calls,
    requests: &'q mut Requests,
    first: *mut ibv_send_wr,
    last: *mut ibv_send_wr,
    /// Each must say where it goes, in what is no address of other operations.
    datagrams: bool,
    wrong: c_int,
}

impl Batch<'_> {
    /// Adds one, each number at most once a batch; whether it shall have a completion of its own.
    ///
    /// # Panics
    /// When there is no such one.
    #[inline]
    pub fn push(&mut self, n: usize, signalled: bool) {
        self.extend(std::iter::once((n, signalled)));
    }

    /// Adds several, each as [`Batch::push`] does.
    ///
    /// # Panics
    /// When there is no such one.
    #[inline(always)]
    pub fn extend(&mut self, numbers: impl Iterator<Item = (usize, bool)>) {
        match self.calls {
            Calls::Classic(_) => {
                let all = &mut self.requests.all[..];
                let (mut first, mut last) = (self.first, self.last);
                let mut link = if last.is_null() {
                    &raw mut first
                } else {
                    // SAFETY: it is a request of the batch, which borrows them all.
                    unsafe { &raw mut (*last).next }
                };
                for (n, signalled) in numbers {
                    let wr = &mut all[n];
                    if self.datagrams && goes_nowhere(wr) {
                        self.wrong = libc::EINVAL;
                        continue;
                    }
                    wr.send_flags = flags(wr, signalled);
                    last = wr;
                    // SAFETY: it points to `first`, or into a request of the batch.
                    unsafe {
                        *link = last;
                        link = &raw mut (*last).next;
                    }
                }
                (self.first, self.last) = (first, last);
            }
            Calls::Extended(calls) => numbers.for_each(|(n, signalled)| {
                let (wr, piece) = (&self.requests.all[n], &self.requests.pieces[n]);
                if self.datagrams && goes_nowhere(wr) {
                    self.wrong = libc::EINVAL;
                    return;
                }
                // SAFETY: the batch is begun; the request's memory is of the region that `Requests` holds, so that what is
                // copied from it is mapped; the address handle is held by `Requests` too; an entry that is called is one of
                // those that the queue pair was made with.
                let did = unsafe { extended(calls, wr, piece, flags(wr, signalled)) };
                if !did {
                    self.wrong = libc::EOPNOTSUPP;
                }
            }),
        }
    }

    /// Hands the batch over, behind one doorbell.
    ///
    /// # Errors
    /// The provider takes it not: an error number, and of a list some of its requests may be under way.
    #[inline]
    pub fn ring(mut self) -> Result<(), PostError> {
        let failed = match self.calls {
            Calls::Classic(post) => {
                if self.wrong != 0 {
                    return Err(PostError(self.wrong));
                }
                let mut bad = null_mut();
                let first = std::mem::replace(&mut self.first, null_mut());
                if first.is_null() {
                    return Ok(());
                }
                // SAFETY: the last is a request of the batch, and ends it; the queue pair is alive; each request points to a
                // piece, or to no bytes; what is copied inline is mapped, since `Requests` holds the region.
                unsafe {
                    (*self.last).next = null_mut();
                    post(self.qp.as_ptr(), first, &mut bad)
                }
            }
            Calls::Extended(calls) => {
                if self.wrong != 0 {
                    return Err(PostError(self.wrong));
                }
                self.last = NonNull::dangling().as_ptr();
                // SAFETY: the batch is begun, and is over with this.
                unsafe { (calls.complete)(calls.qp.as_ptr()) }
            }
        };
        if failed == 0 {
            Ok(())
        } else {
            Err(PostError(failed.abs()))
        }
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Calls::Extended(calls) = self.calls
            && self.last.is_null()
        {
            // SAFETY: the batch is begun and was not rung.
            unsafe { (calls.abort)(calls.qp.as_ptr()) };
        }
    }
}

/// A request's flags, where it shall have a completion of its own and where not.
#[inline(always)]
fn flags(wr: &ibv_send_wr, signalled: bool) -> u32 {
    let others = wr.send_flags & !IBV_SEND_SIGNALED;
    others | if signalled { IBV_SEND_SIGNALED } else { 0 }
}

/// Whether a datagram has no address: other operations have something else where it would stand.
fn goes_nowhere(wr: &ibv_send_wr) -> bool {
    // SAFETY: of sends that is the member which was set; other operations are told by their opcode before.
    wr.opcode != IBV_WR_SEND || unsafe { wr.wr.ud.ah.is_null() }
}

/// Posts one request by calls; whether the queue pair has the operation.
///
/// # Safety
/// As in [`Batch::extend`].
#[inline(never)]
unsafe fn extended(calls: &ExtendedCalls, wr: &ibv_send_wr, piece: &ibv_sge, flags: u32) -> bool {
    let qp = calls.qp.as_ptr();
    // SAFETY: the caller's; which member of the union counts is told by the opcode.
    unsafe {
        (*qp).wr_id = wr.wr_id;
        // With the flag for inline data, which Soft-RoCE goes by; to other providers the setter below says it.
        (*qp).wr_flags = flags;
        match (
            wr.opcode,
            calls.write,
            calls.read,
            calls.send,
            calls.write_imm,
            calls.fetch_add,
        ) {
            (IBV_WR_RDMA_WRITE, Some(write), ..) => {
                write(qp, wr.wr.rdma.rkey, wr.wr.rdma.remote_addr);
            }
            (IBV_WR_RDMA_READ, _, Some(read), ..) => {
                read(qp, wr.wr.rdma.rkey, wr.wr.rdma.remote_addr);
            }
            (IBV_WR_SEND, _, _, Some(send), ..) => {
                send(qp);
                let ud = wr.wr.ud;
                if !ud.ah.is_null() {
                    let Some(to) = calls.to else { return false };
                    to(qp, ud.ah, ud.remote_qpn, ud.remote_qkey);
                }
            }
            (IBV_WR_RDMA_WRITE_WITH_IMM, _, _, _, Some(write), _) => {
                write(qp, wr.wr.rdma.rkey, wr.wr.rdma.remote_addr, wr.imm_data);
            }
            (IBV_WR_ATOMIC_FETCH_AND_ADD, _, _, _, _, Some(add)) => {
                let at = wr.wr.atomic;
                add(qp, at.rkey, at.remote_addr, at.compare_add);
            }
            _ => return false,
        }
        if flags & IBV_SEND_INLINE != 0 {
            (calls.inline)(qp, piece.addr as *mut _, piece.length as usize);
        } else {
            (calls.piece)(qp, piece.lkey, piece.addr, piece.length);
        }
    }
    true
}

/// An error number with which a provider refused requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "posting failed: {}; {}",
    std::io::Error::from_raw_os_error(self.0),
    self.next()
)]
pub struct PostError(pub c_int);

impl PostError {
    fn next(self) -> &'static str {
        match self.0 {
            libc::ENOMEM => "the queue is full: lower --depth; this is a bug of strata",
            libc::EINVAL => "the request is beyond the queue pair: lower --bs or --inline",
            libc::EOPNOTSUPP => {
                "its provider does not have the operation; give --engine verbs, or another --op"
            }
            _ => "look at dmesg",
        }
    }
}

/// Where receives lie: made ready once, and posted again and again.
pub struct Receives {
    /// Holds what they point into.
    _region: Rc<MemoryRegion>,
    all: Box<[ibv_recv_wr]>,
    /// Pointed to by those.
    _pieces: Box<[ibv_sge]>,
}

impl Receives {
    /// One a place; their completions are told by numbers from `first` on.
    ///
    /// # Panics
    /// When a place does not lie inside the region.
    pub fn new(
        region: &Rc<MemoryRegion>,
        first: u64,
        places: impl ExactSizeIterator<Item = (Bytes, Bytes)>,
    ) -> Receives {
        let mut pieces: Box<[ibv_sge]> = places
            .map(|(at, len)| {
                let piece = region.piece(at, len);
                let LocalKey(lkey) = piece.key;
                ibv_sge {
                    addr: piece.address,
                    length: piece.len,
                    lkey,
                }
            })
            .collect();
        let pointer = pieces.as_mut_ptr();
        let all = (0..pieces.len())
            .map(|n| ibv_recv_wr {
                wr_id: first + n as u64,
                next: null_mut(),
                // SAFETY: there are so many pieces, on the heap, where they stay.
                sg_list: unsafe { pointer.add(n) },
                num_sge: 1,
            })
            .collect();
        Receives {
            _region: Rc::clone(region),
            all,
            _pieces: pieces,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// The call by which receives are posted.
#[derive(Clone, Copy)]
pub(super) struct Receiver(PostReceive);

impl Receiver {
    pub(super) fn of(context: &Context, _: NonNull<ibv_qp>) -> Result<Receiver, VerbsError> {
        // SAFETY: the context is open; its table has the entry or none.
        let call = unsafe { (*context.raw()).ops.post_recv };
        call.map(Receiver)
            .ok_or_else(|| no_call(context, "ibv_post_recv"))
    }

    #[inline]
    fn post(
        self,
        qp: NonNull<ibv_qp>,
        receives: &mut Receives,
        numbers: &[u32],
    ) -> Result<(), PostError> {
        let Some((first, rest)) = numbers.split_first() else {
            return Ok(());
        };
        let first = *first as usize;
        let mut last = first;
        for n in rest.iter().map(|n| *n as usize) {
            receives.all[last].next = &raw mut receives.all[n];
            last = n;
        }
        receives.all[last].next = null_mut();
        let mut bad = null_mut();
        // SAFETY: the queue pair is alive; the receives are chained to an end, and each points to a piece of a region that
        // `Receives` holds.
        let failed = unsafe { (self.0)(qp.as_ptr(), &raw mut receives.all[first], &mut bad) };
        if failed == 0 {
            Ok(())
        } else {
            Err(PostError(failed.abs()))
        }
    }
}

impl QueuePair<Init> {
    /// Posts receives, each of these numbers at most once, behind one doorbell.
    ///
    /// # Errors
    /// The provider does not take them.
    ///
    /// # Panics
    /// When there is no such one.
    pub fn receive(&mut self, receives: &mut Receives, numbers: &[u32]) -> Result<(), PostError> {
        self.alive.receiver.post(self.alive.raw, receives, numbers)
    }
}

impl QueuePair<Ready> {
    /// Posts receives, each of these numbers at most once, behind one doorbell.
    ///
    /// # Errors
    /// The provider does not take them.
    ///
    /// # Panics
    /// When there is no such one.
    #[inline]
    pub fn receive(&mut self, receives: &mut Receives, numbers: &[u32]) -> Result<(), PostError> {
        self.alive.receiver.post(self.alive.raw, receives, numbers)
    }
}

/// Where a datagram goes (ibv_create_ah(3)).
pub struct AddressHandle {
    raw: NonNull<ibv_ah>,
    domain: ProtectionDomain,
}

impl AddressHandle {
    /// One for that route.
    ///
    /// # Errors
    /// There is none, or the device has no more.
    pub fn new(domain: &ProtectionDomain, route: &Route) -> Result<AddressHandle, VerbsError> {
        let mut attributes = route.attributes();
        let context = domain.context();
        // SAFETY: the domain is alive.
        let raw = unsafe { (context.verbs().ibv_create_ah)(domain.raw(), &mut attributes) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            VerbsError::call(
                "ibv_create_ah",
                context.name(),
                errno,
                super::error::cannot_connect(errno),
            )
        })?;
        Ok(AddressHandle {
            raw,
            domain: domain.clone(),
        })
    }
}

impl Drop for AddressHandle {
    fn drop(&mut self) {
        // SAFETY: it is alive, and no request that names it is posted any more: those hold an `Rc` of it.
        unsafe { (self.domain.context().verbs().ibv_destroy_ah)(self.raw.as_ptr()) };
    }
}
