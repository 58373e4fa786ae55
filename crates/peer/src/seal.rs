//! Frames that only the holder of the session's key can make, each good once, in its place and in its direction.
//!
//! A frame is a length (four bytes, little-endian), as many bytes of content, and a tag of 32 bytes: HMAC-SHA-256 (RFC 2104)
//! under this direction's key over the frame's number, its length and its content. The number is not sent: a frame left out,
//! sent again, moved or taken from the other direction has another tag than is expected. Content is a byte for the kind and
//! what belongs to it. Nothing is hidden: what is said may be read on the wire, but not changed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::LARGEST;

/// Bytes of a tag, of a key of a direction, and of a nonce.
pub(crate) const TAG: usize = 32;

const LENGTH: usize = 4;
const ALIVE: u8 = 0;
const MESSAGE: u8 = 1;
const END: u8 = 2;

/// The most bytes of the reason for an end; longer ones are cut.
const REASON: usize = 1024;

/// What a side says to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Still there.
    Alive,
    /// A message's JSON.
    Message(Vec<u8>),
    /// The session is over, and why.
    End(String),
}

impl Frame {
    fn content(&self) -> Vec<u8> {
        match self {
            Frame::Alive => vec![ALIVE],
            Frame::Message(text) => [&[MESSAGE], text.as_slice()].concat(),
            Frame::End(why) => {
                let cut = (0..=REASON.min(why.len()))
                    .rev()
                    .find(|at| why.is_char_boundary(*at));
                let cut = cut.unwrap_or(0);
                [&[END], &why.as_bytes()[..cut]].concat()
            }
        }
    }

    fn parse(content: &[u8]) -> Result<Frame, String> {
        match content {
            [ALIVE] => Ok(Frame::Alive),
            [MESSAGE, text @ ..] => Ok(Frame::Message(text.to_vec())),
            [END, why @ ..] if why.len() <= REASON => {
                // It is printed here: a terminal shall not be told what to do.
                let why = String::from_utf8_lossy(why);
                Ok(Frame::End(why.replace(char::is_control, " ")))
            }
            [] => Err("an empty frame".to_owned()),
            [kind, ..] => Err(format!(
                "a frame of kind {kind} with {} bytes",
                content.len()
            )),
        }
    }
}

/// HMAC-SHA-256 under `key` over what is then fed to it.
pub(crate) fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104 §2)")
}

/// A tag as bytes.
pub(crate) fn tag(mac: Hmac<Sha256>) -> [u8; TAG] {
    mac.finalize().into_bytes().into()
}

/// Makes one direction's frames.
pub(crate) struct Sealer {
    key: Hmac<Sha256>,
    number: u64,
}

impl Sealer {
    pub(crate) fn new(key: &[u8; TAG]) -> Self {
        Self {
            key: mac(key),
            number: 0,
        }
    }

    /// The bytes of the next frame.
    ///
    /// # Errors
    /// In words, when it is above the largest.
    pub(crate) fn seal(&mut self, frame: &Frame) -> Result<Vec<u8>, String> {
        self.seal_content(&frame.content())
    }

    /// As [`Sealer::seal`] for any content, also such as no honest side sends.
    pub(crate) fn seal_content(&mut self, content: &[u8]) -> Result<Vec<u8>, String> {
        let length = u32::try_from(content.len())
            .ok()
            .filter(|length| *length <= LARGEST)
            .ok_or_else(|| format!("a message of {} bytes", content.len()))?
            .to_le_bytes();
        let tag = tag(numbered(&self.key, self.number, &length, content));
        self.number += 1;
        Ok([&length, content, &tag].concat())
    }
}

/// Takes one direction's frames apart.
pub(crate) struct Opener {
    key: Hmac<Sha256>,
    number: u64,
    largest: u32,
    held: Vec<u8>,
    /// After one wrong frame there is no next.
    spoilt: Option<String>,
}

impl Opener {
    /// For frames of at most so many bytes.
    pub(crate) fn new(key: &[u8; TAG], largest: u32) -> Self {
        Self {
            key: mac(key),
            number: 0,
            largest,
            held: Vec::new(),
            spoilt: None,
        }
    }

    /// From now on frames may have so many bytes.
    pub(crate) fn allow(&mut self, largest: u32) {
        self.largest = largest;
    }

    /// Takes bytes as they come; call [`Opener::next`] until it has none before the next ones.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.spoilt.is_none() {
            self.held.extend_from_slice(bytes);
        }
    }

    /// The next frame, when all of it is there.
    ///
    /// # Errors
    /// In words, what came that the other side cannot have sent; then no frame will ever come.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, String> {
        match &self.spoilt {
            Some(why) => Err(why.clone()),
            None => self.whole().inspect_err(|why| {
                self.spoilt = Some(why.clone());
                self.held = Vec::new();
            }),
        }
    }

    fn whole(&mut self) -> Result<Option<Frame>, String> {
        let Some((length, rest)) = self.held.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let content = u32::from_le_bytes(*length);
        if content > self.largest {
            return Err(format!(
                "a frame of {content} bytes, at most {} are taken",
                self.largest
            ));
        }
        let Some((content, rest)) = rest.split_at_checked(content as usize) else {
            return Ok(None);
        };
        let Some(tag) = rest.first_chunk::<TAG>() else {
            return Ok(None);
        };
        numbered(&self.key, self.number, length, content)
            .verify_slice(tag)
            .map_err(|_| {
                format!(
                    "a frame {} that was not made with the session's key",
                    self.number
                )
            })?;
        let frame = Frame::parse(content)?;
        self.number += 1;
        let taken = LENGTH + content.len() + TAG;
        self.held.drain(..taken);
        Ok(Some(frame))
    }
}

fn numbered(
    key: &Hmac<Sha256>,
    number: u64,
    length: &[u8; LENGTH],
    content: &[u8],
) -> Hmac<Sha256> {
    key.clone()
        .chain_update(number.to_le_bytes())
        .chain_update(length)
        .chain_update(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; TAG] = [3; TAG];

    fn said() -> Vec<Frame> {
        vec![
            Frame::Alive,
            Frame::Message(b"{\"ops\":7}".to_vec()),
            Frame::Message(Vec::new()),
            Frame::End("done".to_owned()),
        ]
    }

    fn sealed() -> Vec<Vec<u8>> {
        let mut sealer = Sealer::new(&KEY);
        said()
            .iter()
            .map(|frame| sealer.seal(frame).expect("small"))
            .collect()
    }

    /// All frames that come out of some bytes, and how it ended.
    fn open(key: &[u8; TAG], pieces: &[&[u8]]) -> (Vec<Frame>, Result<(), String>) {
        let mut opener = Opener::new(key, LARGEST);
        let mut frames = Vec::new();
        for piece in pieces {
            opener.push(piece);
            loop {
                match opener.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(why) => return (frames, Err(why)),
                }
            }
        }
        (frames, Ok(()))
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let bytes = sealed().concat();
        assert_eq!(open(&KEY, &[&bytes]), (said(), Ok(())));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(open(&KEY, &single), (said(), Ok(())));
    }

    #[test]
    fn every_single_bit_counts() {
        let frames = sealed();
        let (last, begin) = frames.split_last().expect("some");
        for (n, frame) in frames.iter().enumerate() {
            for bit in 0..frame.len() * 8 {
                let mut wrong = frames.clone();
                wrong[n][bit / 8] ^= 1 << (bit % 8);
                let (opened, _) = open(&KEY, &[&wrong.concat()]);
                assert_eq!(opened, said()[..n], "bit {bit} of frame {n}");
            }
        }
        for cut in 0..last.len() {
            let (opened, end) = open(&KEY, &[&begin.concat(), &last[..cut]]);
            assert_eq!((opened.as_slice(), end), (&said()[..3], Ok(())));
        }
    }

    #[test]
    fn a_frame_is_good_once_and_in_its_place() {
        let f = sealed();
        let another = [4; TAG];
        for (what, key, order, good) in [
            ("sent again", &KEY, vec![0, 1, 1], 2),
            ("swapped", &KEY, vec![0, 2, 1], 1),
            ("left out", &KEY, vec![0, 2], 1),
            ("begun anew", &KEY, vec![0, 1, 0], 2),
            ("sent back", &another, vec![0], 0),
        ] {
            let bytes: Vec<u8> = order.iter().flat_map(|n| f[*n].clone()).collect();
            let (opened, end) = open(key, &[&bytes]);
            assert_eq!(opened, said()[..good], "{what}");
            let why = end.expect_err(what);
            assert!(why.contains("session's key"), "{why}");
        }
    }

    #[test]
    fn nothing_follows_a_wrong_frame() {
        let f = sealed();
        let mut opener = Opener::new(&KEY, LARGEST);
        opener.push(&f[1]);
        let why = opener.next().expect_err("not its turn");
        opener.push(&f[0]);
        assert_eq!(opener.next(), Err(why));
    }

    #[test]
    fn lengths_have_a_limit_before_anything_is_taken() {
        let mut opener = Opener::new(&KEY, 100);
        opener.push(&101u32.to_le_bytes());
        let why = opener.next().expect_err("too long");
        assert!(why.contains("101 bytes, at most 100"), "{why}");
        let largest = vec![0; LARGEST as usize];
        assert!(Sealer::new(&KEY).seal(&Frame::Message(largest)).is_err());
    }

    #[test]
    fn contents_that_no_honest_side_sends_are_told() {
        for content in [&b""[..], &[ALIVE, 1], &[9], &[END; REASON + 2]] {
            let bytes = Sealer::new(&KEY).seal_content(content).expect("small");
            assert!(open(&KEY, &[&bytes]).1.is_err(), "{content:?}");
        }
        let mut sealer = Sealer::new(&KEY);
        let nasty = sealer
            .seal(&Frame::End("\x1b[2Jgone".to_owned()))
            .expect("small");
        let long = sealer.seal(&Frame::End("ß".repeat(REASON))).expect("cut");
        let (frames, end) = open(&KEY, &[&nasty, &long]);
        let expected = [
            Frame::End(" [2Jgone".to_owned()),
            Frame::End("ß".repeat(REASON / 2)),
        ];
        assert_eq!((frames.as_slice(), end), (&expected[..], Ok(())));
    }

    proptest! {
        #[test]
        fn no_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0u32..120) {
            let framed = [&length.to_le_bytes(), bytes.as_slice()].concat();
            prop_assert!(open(&KEY, &[&bytes]).0.is_empty());
            prop_assert!(open(&KEY, &[&framed]).0.is_empty());
        }

        #[test]
        fn no_change_passes(
            at in 0usize..100, change in 1u8..=255, insert in any::<bool>(),
        ) {
            let bytes = sealed().concat();
            let mut wrong = bytes.clone();
            match insert {
                true => wrong.insert(at, change),
                false => wrong[at] ^= change,
            }
            let (opened, _) = open(&KEY, &[&wrong]);
            prop_assert!(opened.len() < said().len() && said().starts_with(&opened));
        }
    }
}
