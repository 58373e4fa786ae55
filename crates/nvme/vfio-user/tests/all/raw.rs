//! A client that says whatever it is told to, and takes replies as SPDK's does: the header by one `recvmsg`, the rest by one
//! `read`.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::rig::{LONG, Served};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A client without mercy or tact.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
    id: u16,
}

/// What a reply's header says, what stood behind it, and the descriptors.
pub(crate) struct Reply {
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) errno: u32,
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

pub(crate) fn header(id: u16, command: u16, size: u32, flags: u32) -> Vec<u8> {
    let mut bytes = [id.to_le_bytes(), command.to_le_bytes()].concat();
    bytes.extend([size.to_le_bytes(), flags.to_le_bytes(), [0; 4]].concat());
    bytes
}

pub(crate) fn words(of4: &[u32]) -> Vec<u8> {
    of4.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn longs(of8: &[u64]) -> Vec<u8> {
    of8.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Raw {
    pub(crate) fn connect(served: &Served) -> Raw {
        let stream = UnixStream::connect(served.socket()).expect("connected");
        stream
            .set_read_timeout(Some(LONG.as_duration()))
            .expect("set");
        Raw { stream, id: 0 }
    }

    /// Connected, and past the version.
    pub(crate) fn greeted(served: &Served) -> Raw {
        let mut raw = Raw::connect(served);
        let reply = raw.ask(1, &[0, 0, 1, 0]);
        assert_eq!(
            (reply.flags, reply.body[..4].to_vec()),
            (1, vec![0, 0, 1, 0])
        );
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        let io = [std::io::IoSlice::new(bytes)];
        let sent = sendmsg(&self.stream, &io, &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.expect("sent"), bytes.len());
    }

    pub(crate) fn ask(&mut self, command: u16, body: &[u8]) -> Reply {
        self.ask_with(command, body, &[])
    }

    pub(crate) fn ask_with(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> Reply {
        self.id += 1;
        let size = 16 + u32::try_from(body.len()).expect("short");
        let bytes = [&header(self.id, command, size, 0), body].concat();
        self.send(&bytes, fds);
        self.reply()
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let mut head = [0; 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let io = &mut [IoSliceMut::new(&mut head)];
        let got = recvmsg(&self.stream, io, &mut control, RecvFlags::empty());
        assert_eq!(got.expect("a reply").bytes, 16);
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                fds.extend(some);
            }
        }
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
        let mut body = vec![0; word(4) as usize - 16];
        if !body.is_empty() {
            let got = self.stream.read(&mut body).expect("the rest");
            assert_eq!(got, body.len(), "the rest comes by one read");
        }
        Reply {
            command: u16::from_le_bytes([head[2], head[3]]),
            flags: word(8),
            errno: word(12),
            body,
            fds,
        }
    }

    /// Whether the server has closed the connection.
    pub(crate) fn closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(why) => why.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
