//! The real parsers of what the other side sends, over plain bytes: what fuzzers drive. Not part of what the room offers.

use std::os::fd::OwnedFd;

use crate::device::{Device, Dma, Region};
use crate::frame::{Frame, Inbox, MOST_DATA, MOST_FDS, Message};
use crate::session::Session;
use crate::wire::{ERROR, HEADER, Header, REPLY, split};
use crate::{Refusal, reply, version};
use strata_units::{ByteOffset, Bytes, Iova};

/// A device of two regions that keeps account of what it is given.
struct Memory {
    regions: Vec<Region>,
    bytes: Vec<u8>,
    mapped: Vec<(u64, u64)>,
}

impl Memory {
    fn range(&self, at: ByteOffset, len: usize) -> std::ops::Range<usize> {
        let at = at.0 as usize;
        assert!(len > 0 && at + len <= self.bytes.len(), "outside");
        at..at + len
    }
}

impl Device for Memory {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn vectors(&self) -> u32 {
        4
    }

    fn read(&mut self, region: u32, at: ByteOffset, into: &mut [u8]) -> Result<(), Refusal> {
        assert_eq!(region, 0, "the other may not be read");
        into.copy_from_slice(&self.bytes[self.range(at, into.len())]);
        Ok(())
    }

    fn write(&mut self, region: u32, at: ByteOffset, from: &[u8]) -> Result<(), Refusal> {
        assert!(region < 2, "there are two");
        let range = self.range(at, from.len());
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }

    fn map(&mut self, dma: Dma) -> Result<(), Refusal> {
        let (start, end) = (dma.iova.0, dma.iova.0 + dma.len.0);
        assert!(start < end && (dma.read || dma.write));
        assert!(
            self.mapped.iter().all(|(s, e)| end <= *s || *e <= start),
            "twice"
        );
        self.mapped.push((start, end));
        Ok(())
    }

    fn unmap(&mut self, iova: Iova, len: Bytes) {
        let range = (iova.0, iova.0 + len.0);
        let at = self.mapped.iter().position(|mapped| *mapped == range);
        self.mapped.remove(at.expect("it was mapped so"));
    }

    fn set_vectors(&mut self, first: u32, eventfds: Vec<Option<OwnedFd>>) {
        assert!(first as usize + eventfds.len() <= 4, "there are four");
    }

    fn reset(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn gone(&mut self) {
        assert!(self.mapped.is_empty(), "memory was not taken back");
    }
}

/// All messages that a stream holds until it is out of step.
fn messages(bytes: &[u8], mut each: impl FnMut(Message)) {
    let (mut inbox, mut rest) = (Inbox::new(), bytes);
    while !rest.is_empty() {
        let room = inbox.room();
        assert!(!room.is_empty());
        let now = room.len().min(rest.len());
        room[..now].copy_from_slice(&rest[..now]);
        rest = &rest[now..];
        match inbox.took(now) {
            Ok(message) => message.into_iter().for_each(&mut each),
            Err(size) => {
                assert!((size as usize) < HEADER);
                return;
            }
        }
    }
}

/// Serves a client that sends `bytes`; how many of its requests are granted. Panics when a reply is none, or when the device
/// is asked for what it does not have.
pub fn serve(bytes: &[u8]) -> usize {
    let region = Region::plain(Bytes(4096));
    let closed = Region {
        read: false,
        ..region.clone()
    };
    let mut device = Memory {
        regions: vec![region, closed],
        bytes: vec![0; 4096],
        mapped: Vec::new(),
    };
    let (mut session, mut granted) = (Session::default(), 0);
    messages(bytes, |message| {
        let asked = message.header;
        let Some(Frame { bytes, fds }) = session.answer(&mut device, message) else {
            return;
        };
        let (header, _) = split::<Header>(&bytes).expect("a header");
        assert_eq!(header.size.get() as usize, bytes.len());
        assert_eq!((header.id, header.command), (asked.id, asked.command));
        assert!(header.has(REPLY) && bytes.len() <= HEADER + MOST_DATA as usize + 64);
        assert!(!header.has(ERROR) || bytes.len() == HEADER);
        assert!(fds.len() <= MOST_FDS);
        granted += usize::from(!header.has(ERROR));
    });
    session.end(&mut device);
    granted
}

/// Reads `bytes` as a server's replies to each question that a client may have; how many are taken for an answer.
pub fn answers(bytes: &[u8]) -> usize {
    let mut taken = 0;
    messages(bytes, |message| {
        let file = std::fs::File::open("/dev/null").ok().map(OwnedFd::from);
        let region = reply::region(&message.body, 0, file);
        if let Ok(region) = &region {
            let areas = region.share.iter().flat_map(|share| &share.areas);
            for area in areas {
                assert!(region.holds(area.at, area.len), "outside");
            }
        }
        taken += [
            version::hear(&message.body).is_some(),
            reply::device(&message.body).is_ok(),
            reply::interrupts(&message.body, 2).is_ok(),
            region.is_ok(),
        ]
        .iter()
        .filter(|is| **is)
        .count();
    });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(command: u16, body: &[u8]) -> Vec<u8> {
        Frame::new(Header::request(1, command, body.len()), &[body]).bytes
    }

    /// The version, and a region read: what leads to all the rest.
    #[test]
    fn who_speaks_rightly_is_served() {
        let read = [&16u64.to_le_bytes()[..], &[0; 4], &[4, 0, 0, 0]].concat();
        let unknown = request(99, &[]);
        let bytes = [request(1, &[0, 0, 1, 0]), unknown, request(9, &read)].concat();
        assert_eq!(serve(&bytes), 2);
        assert_eq!(serve(&request(9, &read)), 0, "not greeted");
        assert_eq!(answers(&request(1, &[0, 0, 1, 0])), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            serve(&bytes);
            answers(&bytes);
        }

        #[test]
        fn no_requests_panic(
            requests in proptest::collection::vec((0u16..20, proptest::collection::vec(0u8..9, 0..60)), 0..20),
        ) {
            let mut bytes = request(1, &[0, 0, 1, 0]);
            for (command, body) in requests {
                bytes.extend(request(command, &body));
            }
            serve(&bytes);
        }
    }
}
