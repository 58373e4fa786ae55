//! A connection: messages in and out of a UNIX stream socket without ever waiting, descriptors with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use strata_units::Nanos;

use crate::Left;
use crate::frame::{Frame, Inbox, MOST_FDS, Message};

/// The most descriptors that the kernel passes in one message (`SCM_MAX_FD`): with room for all, none is ever cut off.
const KERNELS_MOST: usize = 253;

/// How many pieces of a message are taken before others have their turn.
const TURN: usize = 64;

/// One end of a connection.
pub(crate) struct Link {
    stream: UnixStream,
    inbox: Inbox,
    out: Option<Frame>,
    sent: usize,
    /// When it last got on.
    since: Instant,
}

impl Link {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream,
            inbox: Inbox::new(),
            out: None,
            sent: 0,
            since: Instant::now(),
        })
    }

    /// What to wait for, and for what.
    pub(crate) fn waits(&self) -> PollFd<'_> {
        let what = match self.out {
            Some(_) => PollFlags::OUT,
            None => PollFlags::IN,
        };
        PollFd::from_borrowed_fd(self.stream.as_fd(), what)
    }

    /// Whether there is something to send still.
    pub(crate) fn sends(&self) -> bool {
        self.out.is_some()
    }

    /// Whether it has stood in the middle of a message for so long.
    pub(crate) fn stuck(&self, patience: Nanos) -> bool {
        (self.inbox.begun() || self.sends()) && self.since.elapsed() >= patience.as_duration()
    }

    /// The next message, if it is whole.
    ///
    /// # Errors
    /// The connection has ended, or cannot go on.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>, Left> {
        for _ in 0..TURN {
            match self.receive_piece() {
                Ok(0) if self.inbox.begun() => return Err(Left::Cut),
                Ok(0) => return Err(Left::Closed),
                Ok(bytes) => {
                    self.since = Instant::now();
                    let message = self
                        .inbox
                        .took(bytes)
                        .map_err(|size| Left::Garbled { size })?;
                    if message.is_some() {
                        return Ok(message);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(why) => return Err(self.lost(why)),
            }
        }
        Ok(None)
    }

    fn receive_piece(&mut self) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNELS_MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(self.inbox.room())],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fds.for_each(|fd| self.inbox.descriptor(fd));
            }
        }
        // This process may have no room for all of them.
        if got.flags.contains(ReturnFlags::CTRUNC) {
            self.inbox.descriptors_lost();
        }
        Ok(got.bytes)
    }

    /// Sends a message, in one write as far as the socket's buffer takes it; what is left is sent by [`Link::flush`].
    ///
    /// # Errors
    /// As [`Link::receive`].
    pub(crate) fn send(&mut self, frame: Frame) -> Result<(), Left> {
        self.since = Instant::now();
        self.out = Some(frame);
        self.flush()
    }

    /// Sends what is left of a message.
    ///
    /// # Errors
    /// As [`Link::receive`].
    pub(crate) fn flush(&mut self) -> Result<(), Left> {
        while let Some(frame) = &self.out {
            let fds: Vec<BorrowedFd<'_>> = match self.sent {
                0 => frame.fds.iter().map(AsFd::as_fd).collect(),
                _ => Vec::new(),
            };
            match send_piece(&self.stream, &frame.bytes[self.sent..], &fds) {
                Ok(bytes) => {
                    self.since = Instant::now();
                    self.sent += bytes;
                    if self.sent >= frame.bytes.len() {
                        (self.out, self.sent) = (None, 0);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(why) => return Err(self.lost(why)),
            }
        }
        Ok(())
    }

    fn lost(&self, why: Errno) -> Left {
        match why {
            Errno::PIPE | Errno::CONNRESET if self.inbox.begun() || self.sends() => Left::Cut,
            Errno::PIPE | Errno::CONNRESET => Left::Closed,
            why => Left::Broken(why.into()),
        }
    }
}

fn send_piece(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}

/// Waits at most `span` until one of them has what it waits for, has ended or is broken; how many have. `poll(2)`
pub(crate) fn any_ready(fds: &mut [PollFd<'_>], span: Duration) -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        let left = span.saturating_sub(begun.elapsed());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(fds, Some(&wait)) {
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
            Ok(ready) => return Ok(ready),
        }
    }
}
