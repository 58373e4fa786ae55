//! Messages cut out of a stream by their length, and nothing else: no socket, no meaning.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::Refusal;
use crate::wire::{HEADER, Header, split};

/// The most data of one read or write of a region, and so of a message behind its header and 16 bytes of structure; the
/// protocol's default for `max_data_xfer_size`.
pub(crate) const MOST_DATA: u32 = 1 << 20;

/// The most bytes kept of a message behind its header.
const MOST_BODY: u64 = MOST_DATA as u64 + 64;

/// The most descriptors with one message; QEMU takes no server that says more.
pub(crate) const MOST_FDS: usize = 16;

/// How much is taken at a time.
const PIECE: usize = 16 << 10;

/// A whole message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    /// What stood behind the header; nothing of an over-long message.
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// It was longer than is kept, and has been read to its end.
    pub(crate) too_long: bool,
    /// It came with more descriptors than are taken; the others are closed.
    pub(crate) too_many: bool,
}

/// What is being received.
pub(crate) struct Inbox {
    piece: Box<[u8]>,
    head: Vec<u8>,
    /// Of the message whose body is being received.
    header: Option<Header>,
    body: Vec<u8>,
    /// Bytes of the body still to come.
    left: u64,
    fds: Vec<OwnedFd>,
    too_long: bool,
    too_many: bool,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            piece: vec![0; PIECE].into_boxed_slice(),
            head: Vec::with_capacity(HEADER),
            header: None,
            body: Vec::new(),
            left: 0,
            fds: Vec::new(),
            too_long: false,
            too_many: false,
        }
    }

    /// Whether a message has begun and is not whole.
    pub(crate) fn begun(&self) -> bool {
        !self.head.is_empty() || self.header.is_some()
    }

    /// Where the next bytes go: at least one, and none that belongs to the next message. A body is taken as it comes: a
    /// length alone makes nobody allocate.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let want = match self.header {
            None => HEADER - self.head.len(),
            Some(_) => usize::try_from(self.left).unwrap_or(PIECE).min(PIECE),
        };
        &mut self.piece[..want]
    }

    /// A descriptor came with the bytes that [`Inbox::took`] is told next.
    pub(crate) fn descriptor(&mut self, fd: OwnedFd) {
        if self.fds.len() < MOST_FDS {
            self.fds.push(fd);
        } else {
            self.too_many = true;
        }
    }

    /// More descriptors came than the system could hand over.
    pub(crate) fn descriptors_lost(&mut self) {
        self.too_many = true;
    }

    /// So many bytes have been put at the start of [`Inbox::room`]; a message when it is whole now.
    ///
    /// # Errors
    /// The size that a header gave and that is less than the header: where the next message begins is not known any more.
    pub(crate) fn took(&mut self, bytes: usize) -> Result<Option<Message>, u32> {
        let bytes = &self.piece[..bytes.min(PIECE)];
        match self.header {
            None => {
                self.head.extend_from_slice(bytes);
                let Some((header, _)) = split::<Header>(&self.head) else {
                    return Ok(None);
                };
                let size = header.size.get();
                self.left = u64::from(size).checked_sub(HEADER as u64).ok_or(size)?;
                self.too_long = self.left > MOST_BODY;
                self.head.clear();
                self.header = Some(header);
            }
            Some(_) => {
                if !self.too_long {
                    self.body.extend_from_slice(bytes);
                }
                self.left = self.left.saturating_sub(bytes.len() as u64);
            }
        }
        if self.left > 0 {
            return Ok(None);
        }
        Ok(self.header.take().map(|header| Message {
            header,
            body: std::mem::take(&mut self.body),
            fds: std::mem::take(&mut self.fds),
            too_long: std::mem::take(&mut self.too_long),
            too_many: std::mem::take(&mut self.too_many),
        }))
    }
}

/// A message to be sent, in one write.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<Arc<OwnedFd>>,
}

impl Frame {
    /// A header and what stands behind it.
    pub(crate) fn new(header: Header, body: &[&[u8]]) -> Frame {
        let mut bytes = header.as_bytes().to_vec();
        for part in body {
            bytes.extend_from_slice(part);
        }
        Frame {
            bytes,
            fds: Vec::new(),
        }
    }

    /// The reply that refuses a request: a header alone.
    pub(crate) fn refusal(request: &Header, why: Refusal) -> Frame {
        Frame::new(request.refusal(why.errno()), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All messages that `bytes` hold when they come in such pieces, or the size that ended it.
    fn messages(bytes: &[u8], pieces: usize) -> Result<Vec<Message>, u32> {
        let mut inbox = Inbox::new();
        let (mut rest, mut found) = (bytes, Vec::new());
        while !rest.is_empty() {
            let room = inbox.room();
            assert!(!room.is_empty());
            let now = room.len().min(rest.len()).min(pieces);
            room[..now].copy_from_slice(&rest[..now]);
            rest = &rest[now..];
            found.extend(inbox.took(now)?);
        }
        Ok(found)
    }

    fn message(body: &[u8]) -> Vec<u8> {
        Frame::new(Header::request(7, 9, body.len()), &[body]).bytes
    }

    #[test]
    fn messages_are_cut_by_their_length() {
        let bytes = [message(b""), message(b"abc"), message(b"")].concat();
        for pieces in [1, 7, 1000] {
            let found = messages(&bytes, pieces).expect("whole");
            let bodies: Vec<&[u8]> = found.iter().map(|m| &m.body[..]).collect();
            assert_eq!(bodies, [&b""[..], b"abc", b""], "{pieces}");
        }
    }

    #[test]
    fn an_over_long_message_is_read_to_its_end() {
        let long = vec![1; usize::try_from(MOST_BODY).expect("fits") + 1];
        let bytes = [message(&long), message(b"next")].concat();
        let found = messages(&bytes, 100_000).expect("whole");
        assert!(found[0].too_long && found[0].body.is_empty());
        assert!(!found[1].too_long && found[1].body == b"next");
        let kept = messages(&message(&long[1..]), 100_000).expect("whole");
        assert!(!kept[0].too_long && kept[0].body.len() as u64 == MOST_BODY);
    }

    #[test]
    fn a_size_below_the_headers_ends_it() {
        for size in [0u32, 15] {
            let mut bytes = message(b"");
            bytes[4..8].copy_from_slice(&size.to_le_bytes());
            assert_eq!(messages(&bytes, 1000).map(|_| ()), Err(size));
        }
    }

    #[test]
    fn four_gib_are_not_allocated() {
        let mut bytes = message(b"");
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut inbox = Inbox::new();
        inbox.room().copy_from_slice(&bytes);
        assert!(inbox.took(16).expect("a header").is_none());
        for _ in 0..1000 {
            let all = inbox.room().len();
            assert!(inbox.took(all).expect("drained").is_none());
        }
        assert!(inbox.begun() && inbox.body.capacity() == 0);
    }

    proptest! {
        #[test]
        fn cutting_does_not_depend_on_the_pieces(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..5),
            pieces in 1usize..40,
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| message(body)).collect();
            let found = messages(&bytes, pieces).expect("whole");
            let found: Vec<Vec<u8>> = found.into_iter().map(|m| m.body).collect();
            prop_assert_eq!(found, bodies);
        }
    }
}
