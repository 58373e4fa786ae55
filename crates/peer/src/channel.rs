//! Length-framed JSON with a limit on everything.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::poll::PollFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::error::gone;
use crate::wait::ready;
use crate::{LARGEST, PeerError};

/// How much of a frame is taken at a time.
const PIECE: usize = 64 << 10;

/// How long the next bytes of a message that has begun may take.
const WHOLE: Nanos = Nanos(5_000_000_000);

/// Frames to and from the other side.
pub struct Channel<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Channel<R, W> {
    /// A channel that reads `from` and writes `to`.
    pub fn new(from: R, to: W) -> Self {
        Self { from, to }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`PeerError::Gone`] when nobody reads any more; a message above the largest frame is garbled.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), PeerError> {
        let text = serde_json::to_vec(message).map_err(|e| PeerError::Garbled(e.to_string()))?;
        let len = u32::try_from(text.len())
            .ok()
            .filter(|len| *len <= LARGEST)
            .ok_or_else(|| PeerError::Garbled(format!("a message of {} bytes", text.len())))?;
        let mut frame = len.to_le_bytes().to_vec();
        frame.extend(text);
        self.to
            .write_all(&frame)
            .and_then(|()| self.to.flush())
            .map_err(gone)
    }

    /// Waits for one message, however long.
    ///
    /// # Errors
    /// [`PeerError::Gone`] when the other side has closed, [`PeerError::Garbled`] when it sent anything else than a frame
    /// with such a message. After either the channel is of no more use.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, PeerError> {
        frame(|into| self.from.read_exact(into).map_err(gone))
    }
}

impl<R: Read + AsFd, W: Write> Channel<R, W> {
    /// Waits for one message, at most so long for it to begin. One that has begun must arrive within five seconds.
    ///
    /// # Errors
    /// As [`Channel::receive`], and [`PeerError::Silent`] when none begins in time.
    pub fn receive_within<T: DeserializeOwned>(&mut self, span: Nanos) -> Result<T, PeerError> {
        self.readable(span)?;
        frame(|mut into| {
            while !into.is_empty() {
                match self.readable(WHOLE) {
                    Err(PeerError::Silent(_)) => {
                        return Err(PeerError::Garbled("half of a message".to_owned()));
                    }
                    other => other?,
                }
                match self.from.read(into) {
                    Ok(0) => return Err(PeerError::Gone),
                    Ok(n) => into = &mut into[n..],
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(gone(e)),
                }
            }
            Ok(())
        })
    }

    /// Waits until something can be read, an end too.
    fn readable(&self, span: Nanos) -> Result<(), PeerError> {
        match ready(self.from.as_fd(), PollFlags::POLLIN, span.as_duration())? {
            true => Ok(()),
            false => Err(PeerError::Silent(span)),
        }
    }
}

/// One frame by `read`, which fills what it is given.
fn frame<T: DeserializeOwned>(
    mut read: impl FnMut(&mut [u8]) -> Result<(), PeerError>,
) -> Result<T, PeerError> {
    let mut len = [0; 4];
    read(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > LARGEST {
        return Err(PeerError::Garbled(format!("a frame of {len} bytes")));
    }
    // Taken as it comes: a length alone shall not make anybody allocate.
    let mut text = Vec::new();
    while text.len() < len as usize {
        let had = text.len();
        text.resize((len as usize).min(had + PIECE), 0);
        read(&mut text[had..])?;
    }
    serde_json::from_slice(&text).map_err(|e| PeerError::Garbled(format!("something else ({e})")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn frames(messages: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut channel = Channel::new(io::empty(), &mut bytes);
        for message in messages {
            channel.send(message).expect("to memory");
        }
        bytes
    }

    #[test]
    fn messages_arrive_in_order() {
        let bytes = frames(&["one", "", "drei ½"]);
        let mut channel = Channel::new(bytes.as_slice(), io::sink());
        for expected in ["one", "", "drei ½"] {
            assert_eq!(channel.receive::<String>().expect("a message"), expected);
        }
        assert!(matches!(channel.receive::<String>(), Err(PeerError::Gone)));
    }

    #[test]
    fn what_is_no_message_is_named() {
        let mut huge = (LARGEST + 1).to_le_bytes().to_vec();
        huge.extend([0; 100]);
        assert!(matches!(
            Channel::new(huge.as_slice(), io::sink()).receive::<String>(),
            Err(PeerError::Garbled(_))
        ));
        let number = frames(&["seven"]);
        assert!(matches!(
            Channel::new(number.as_slice(), io::sink()).receive::<u64>(),
            Err(PeerError::Garbled(_))
        ));
        let cut = &number[..number.len() - 1];
        assert!(matches!(
            Channel::new(cut, io::sink()).receive::<String>(),
            Err(PeerError::Gone)
        ));
    }

    #[test]
    fn silence_has_an_end() {
        let (quiet, _open) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let silent =
            Channel::new(quiet, io::sink()).receive_within::<String>(Nanos::from_millis(20));
        assert!(matches!(silent, Err(PeerError::Silent(_))));
    }

    #[test]
    fn half_of_a_message_is_not_waited_for_in_pieces() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let bytes = frames(&["a message"]);
        theirs.write_all(&bytes[..7]).expect("half");
        let mut channel = Channel::new(ours, io::sink());
        let rest = bytes[7..].to_vec();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            theirs.write_all(&rest).expect("the rest");
            theirs
        });
        // It has begun, and so it is taken whole though it is not there when the span is over.
        let got: String = channel
            .receive_within(Nanos::from_millis(20))
            .expect("whole");
        assert_eq!(got, "a message");
        drop(late.join().expect("no panic"));
        let gone = channel.receive_within::<String>(Nanos::from_millis(20));
        assert!(matches!(gone, Err(PeerError::Gone)), "{gone:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), len in 0u32..64) {
            let mut framed = len.to_le_bytes().to_vec();
            framed.extend(&bytes);
            for stream in [bytes, framed] {
                let mut channel = Channel::new(stream.as_slice(), io::sink());
                while channel.receive::<serde_json::Value>().is_ok() {}
            }
        }
    }
}
