//! The two halves of a connection: what it still has to send, and what it has received.
//!
//! Both count bytes only. Where a trial is verified, what is sent is one pattern without end a connection and direction,
//! and each received byte is held against it: a byte lost, doubled or moved is found, whatever the sizes.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use strata_measure::{Buffer, Buffers, Fatal, Slot};
use strata_memory::{Huge, Lock, Want};
use strata_record::ZeroCopyProof;
use strata_units::{Bytes, NodeId, QueueDepth};

use crate::sys::{self, Sleep};

/// Memory of small messages, so that one call takes or sends what there is of them.
const BATCH: usize = 64 << 10;

/// Memory that sends without a copy may hold a connection, and how many calls they may be.
const FLYING: usize = 32 << 20;
const MOST_FLYING: usize = 64;

/// How long their notifications are waited for at the end.
const NOTIFIED: Duration = Duration::from_millis(500);

/// One piece of memory of `len` bytes on `node`.
fn memory(len: usize, node: Option<NodeId>) -> Result<Buffers, Fatal> {
    let len = Bytes(len as u64);
    let want = Want {
        bytes: len,
        node,
        huge: Huge::Never,
        lock: Lock::Prefer,
    };
    Buffers::new(QueueDepth::ONE, len, want).map_err(|e| Fatal(e.to_string()))
}

/// As many messages as fit a batch, one at least and `most` at most, in bytes.
fn batch(size: usize, most: usize) -> usize {
    size * (BATCH / size).clamp(1, most.max(1))
}

const PAGE: usize = 4096;

/// Where a message of a page or more begins in its memory: each at another cache line of the first page.
///
/// A copy by the kernel can be many times slower where source and destination lie badly to each other modulo a page (see
/// the greeting of a connection), and where the kernel's side lies changes with what was sent and read before. So no place
/// is kept for longer than a message.
struct Place {
    at: usize,
    step: usize,
}

impl Place {
    /// An odd number of lines, so that all of a page's come.
    const STEP: usize = 17 * 64;

    fn of(size: usize) -> Place {
        let step = if size >= PAGE { Place::STEP } else { 0 };
        Place { at: 0, step }
    }

    /// What the memory holds beside its messages.
    fn room(&self) -> usize {
        if self.step > 0 { PAGE } else { 0 }
    }

    /// A message is over.
    #[inline]
    fn turn(&mut self) {
        self.at = (self.at + self.step) % PAGE;
    }
}

/// A connection that the other side has closed, as sending finds it.
fn closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// What one call moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// All the bytes that it was given, or had room for.
    All,
    /// Fewer: there is no more, or no more room, now.
    Some,
    /// None.
    Nothing,
    /// None, and none will come any more.
    End,
}

impl Moved {
    fn of(n: usize, asked: usize) -> Moved {
        match n {
            0 => Moved::Nothing,
            n if n == asked => Moved::All,
            _ => Moved::Some,
        }
    }

    /// Whether it moved any.
    #[inline]
    pub(crate) fn any(self) -> bool {
        matches!(self, Moved::All | Moved::Some)
    }
}

/// The sending half.
pub(crate) struct Tx {
    memory: Buffers,
    place: Place,
    /// Bytes of one buffer; all messages are sent from its end, so that a rest lies behind what has gone.
    len: usize,
    owed: u64,
    sent: u64,
    verify: bool,
    zero: Option<Zero>,
    /// Whether the other side takes no more.
    pub(crate) closed: bool,
}

impl Tx {
    /// For messages of `size` bytes, up to `most` of which are sent in one call.
    pub(crate) fn new(
        size: usize,
        most: usize,
        zerocopy: bool,
        verify: bool,
        node: Option<NodeId>,
    ) -> Result<Tx, Fatal> {
        let len = batch(size, most);
        // Sends without a copy have none that could be slow.
        let place = Place::of(if zerocopy { 0 } else { size });
        let stride = (len + place.room()).next_multiple_of(PAGE);
        let buffers = if zerocopy {
            (FLYING / stride).clamp(2, MOST_FLYING)
        } else {
            1
        };
        Ok(Tx {
            memory: memory(stride * buffers, node)?,
            place,
            len,
            owed: 0,
            sent: 0,
            verify,
            zero: zerocopy.then(|| Zero::new(buffers, stride)),
            closed: false,
        })
    }

    /// There are so many bytes more to send.
    #[inline]
    pub(crate) fn owe(&mut self, bytes: u64) {
        self.owed += bytes;
    }

    /// Bytes that are still to send.
    #[inline]
    pub(crate) fn owed(&self) -> u64 {
        self.owed
    }

    /// One call, and what of it the kernel accepted; the end when the other side has closed.
    #[inline]
    pub(crate) fn push(&mut self, socket: &TcpStream, sleep: Sleep) -> Result<Moved, Fatal> {
        if self.closed {
            return Ok(Moved::End);
        }
        if self.owed == 0 {
            return Ok(Moved::Nothing);
        }
        let at = match &mut self.zero {
            None => self.place.at,
            Some(zero) => match zero.take(socket)? {
                Some(at) => at,
                None => return Ok(Moved::Nothing),
            },
        };
        let n = self.len.min(usize::try_from(self.owed).unwrap_or(self.len));
        let from = at + self.len - n;
        // Made for each call: no more than a call takes.
        let n = if self.verify { n.min(BATCH) } else { n };
        let range = (from, from + n);
        let buffer = self.memory.first();
        if self.verify {
            sys::fill(&buffer, range, self.sent);
        }
        let moved = sys::send(socket, &buffer, range, sleep, self.zero.is_some());
        let n = match &moved {
            Ok(n) => n.unwrap_or(0),
            Err(_) => 0,
        };
        if let Some(zero) = &mut self.zero {
            zero.sent(at, n > 0);
        }
        match moved {
            Ok(_) => {
                self.owed -= n as u64;
                self.sent += n as u64;
                if self.owed == 0 {
                    self.place.turn();
                }
                Ok(Moved::of(n, range.1 - range.0))
            }
            Err(e) if closed(&e) => {
                self.closed = true;
                Ok(Moved::End)
            }
            Err(e) => self.failed(&e).map(|()| Moved::Nothing),
        }
    }

    #[cold]
    fn failed(&mut self, error: &io::Error) -> Result<(), Fatal> {
        match &mut self.zero {
            Some(zero) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                zero.proof.no_room += 1;
                if zero.flying.is_empty() {
                    return Err(Fatal("cannot send without a copy: the kernel has no room for the notification of a single send (ENOBUFS); raise net.core.optmem_max (to 1MiB, say) or the memory that may be locked (ulimit -l), or give --engine tcp".to_owned()));
                }
                Ok(())
            }
            _ => Err(broken("sending", error)),
        }
    }

    /// Takes what notifications there are.
    pub(crate) fn collect(&mut self, socket: &TcpStream) -> Result<(), Fatal> {
        match &mut self.zero {
            Some(zero) => zero.collect(socket),
            None => Ok(()),
        }
    }

    /// Sends whose notification has not come.
    pub(crate) fn flying(&self) -> usize {
        self.zero.as_ref().map_or(0, |zero| zero.flying.len())
    }

    /// What became of sends without a copy.
    pub(crate) fn zerocopy(&self) -> Option<ZeroCopyProof> {
        self.zero.as_ref().map(|zero| zero.proof)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &Buffers {
        &self.memory
    }
}

/// Takes the notifications of sends without a copy that are still to come, and waits a little for them.
pub(crate) fn last_notifications(senders: &mut [(&TcpStream, &mut Tx)]) -> Result<(), Fatal> {
    let begun = Instant::now();
    loop {
        let mut flying = 0;
        for (socket, tx) in senders.iter_mut() {
            tx.collect(socket)?;
            flying += tx.flying();
        }
        if flying == 0 || begun.elapsed() > NOTIFIED {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The buffers of sends without a copy: each belongs to one call until the kernel says that it needs it no more.
struct Zero {
    stride: usize,
    free: Vec<usize>,
    /// The buffers of calls without notification, oldest first, and whether it came out of turn.
    flying: VecDeque<(usize, bool)>,
    /// The number of the oldest of them: the kernel counts a socket's calls from 0.
    oldest: u32,
    control: Vec<u8>,
    proof: ZeroCopyProof,
}

/// linux/errqueue.h.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

impl Zero {
    fn new(buffers: usize, stride: usize) -> Zero {
        Zero {
            stride,
            free: (0..buffers).rev().collect(),
            flying: VecDeque::with_capacity(buffers),
            oldest: 0,
            control: nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6),
            proof: ZeroCopyProof::default(),
        }
    }

    /// Where a free buffer begins; none when the kernel still holds all of them.
    fn take(&mut self, socket: &TcpStream) -> Result<Option<usize>, Fatal> {
        if self.free.is_empty() {
            self.collect(socket)?;
        }
        Ok(self.free.pop().map(|n| n * self.stride))
    }

    /// The buffer that was taken was sent, in part at least, or not.
    fn sent(&mut self, at: usize, sent: bool) {
        let buffer = at / self.stride;
        if sent {
            self.proof.sends += 1;
            self.flying.push_back((buffer, false));
        } else {
            self.free.push(buffer);
        }
    }

    fn collect(&mut self, socket: &TcpStream) -> Result<(), Fatal> {
        loop {
            let mut none: [IoSliceMut<'_>; 0] = [];
            let found = recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut none,
                Some(&mut self.control),
                MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
            );
            let message = match found {
                Ok(message) => message,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(e) => return Err(broken("reading notifications", &e.into())),
            };
            let mut ranges = message
                .cmsgs()
                .into_iter()
                .flatten()
                .filter_map(|m| match m {
                    ControlMessageOwned::Ipv4RecvErr(e, _)
                    | ControlMessageOwned::Ipv6RecvErr(e, _) => (e.ee_errno == 0
                        && e.ee_origin == SO_EE_ORIGIN_ZEROCOPY)
                        .then_some((e.ee_info, e.ee_data, e.ee_code)),
                    _ => None,
                });
            let Some((first, last, code)) = ranges.next() else {
                continue;
            };
            self.done(first, last, code == SO_EE_CODE_ZEROCOPY_COPIED)?;
        }
    }

    /// The calls from `first` to `last` are over.
    fn done(&mut self, first: u32, last: u32, copied: bool) -> Result<(), Fatal> {
        let from = first.wrapping_sub(self.oldest) as usize;
        let to = last.wrapping_sub(self.oldest) as usize;
        if from > to || to >= self.flying.len() {
            return Err(Fatal(format!(
                "the kernel notified of sends {first} to {last}, and {} from {} on are outstanding; give --engine tcp",
                self.flying.len(),
                self.oldest
            )));
        }
        for (_, done) in self.flying.range_mut(from..=to) {
            *done = true;
        }
        let n = (to - from + 1) as u64;
        self.proof.completions += n;
        self.proof.copied += if copied { n } else { 0 };
        while let Some((buffer, true)) = self.flying.front().copied() {
            self.flying.pop_front();
            self.oldest = self.oldest.wrapping_add(1);
            self.free.push(buffer);
        }
        Ok(())
    }
}

/// The receiving half.
pub(crate) struct Rx {
    memory: Buffers,
    place: Place,
    /// Bytes of the buffer, from the place on.
    len: usize,
    size: usize,
    /// Bytes that have come of messages not yet taken.
    got: usize,
    received: u64,
    verify: bool,
    /// Operations that wait for a message, in order.
    pub(crate) awaited: VecDeque<Slot>,
}

impl Rx {
    /// For messages of `size` bytes, up to `most` of which are taken in one call.
    pub(crate) fn new(
        size: usize,
        most: usize,
        verify: bool,
        node: Option<NodeId>,
    ) -> Result<Rx, Fatal> {
        let place = Place::of(size);
        let len = batch(size, most);
        Ok(Rx {
            memory: memory(len + place.room(), node)?,
            place,
            len,
            size,
            got: 0,
            received: 0,
            verify,
            awaited: VecDeque::with_capacity(most),
        })
    }

    /// How many messages of a size are awaited at once by a receiver, so that small ones do not take a call each.
    pub(crate) fn ahead(size: usize, connections: usize) -> usize {
        let most = usize::from(QueueDepth::MAX.get()) / connections.max(1);
        (BATCH / size.max(1)).clamp(1, 256).min(most.max(1))
    }

    /// One call for at most so many messages; `whole` sleeps until all of them are there.
    #[inline]
    pub(crate) fn pull(
        &mut self,
        socket: &TcpStream,
        messages: usize,
        sleep: Sleep,
        whole: bool,
    ) -> Result<Moved, Fatal> {
        let buffer: Buffer<'_> = self.memory.first();
        let all = self.len.min(self.size.saturating_mul(messages));
        let range = (self.place.at + self.got, self.place.at + all);
        match sys::receive(socket, &buffer, range, sleep, whole) {
            Ok(Some(0)) => Ok(Moved::End),
            Ok(Some(n)) => {
                if self.verify {
                    let came = (range.0, range.0 + n);
                    sys::check(&buffer, came, self.received).map_err(|at| {
                        Fatal(format!(
                            "byte {at} of a connection is not the one that was sent: the network gave wrong data, and its checksums did not see it"
                        ))
                    })?;
                }
                self.got += n;
                self.received += n as u64;
                Ok(Moved::of(n, range.1 - range.0))
            }
            Ok(None) => Ok(Moved::Nothing),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Moved::End),
            Err(e) => Err(broken("receiving", &e)),
        }
    }

    /// Whether a whole message has come; it is then taken.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        let whole = self.got >= self.size;
        if whole {
            self.left(self.got - self.size);
        }
        whole
    }

    /// All whole messages that have come; they are then taken.
    #[inline]
    pub(crate) fn take_all(&mut self) -> u64 {
        let whole = self.got / self.size;
        if whole > 0 {
            self.left(self.got - whole * self.size);
        }
        whole as u64
    }

    /// So many bytes have come of what was not taken.
    #[inline]
    fn left(&mut self, got: usize) {
        self.got = got;
        if got == 0 {
            self.place.turn();
        }
    }

    /// Bytes of one message.
    #[inline]
    pub(crate) fn size(&self) -> Bytes {
        Bytes(self.size as u64)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &Buffers {
        &self.memory
    }
}

#[cold]
pub(crate) fn broken(what: &str, error: &io::Error) -> Fatal {
    Fatal(format!(
        "the connection broke while {what}: {error}; look for the other side's last words above"
    ))
}
