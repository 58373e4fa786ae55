//! The real parsers of what comes over the wire, over plain bytes: what fuzzers drive. Not part of what the room offers.

use crate::PROTOCOL;
use crate::connect::Verdict;
use crate::handshake::{Answerer, Step};
use crate::key::Key;
use crate::seal::{Opener, Sealer, TAG};

/// Says `bytes` to a server without a key, in pieces as long as it wants them; whether they got in, or
/// were told anything.
pub fn strangers(bytes: &[u8]) -> bool {
    let key = Key::known();
    let mut server = Answerer::new(PROTOCOL, [0x5a; TAG]);
    let mut rest = bytes;
    while !rest.is_empty() && server.wanted() > 0 {
        let (now, later) = rest.split_at(server.wanted().min(rest.len()));
        rest = later;
        match server.take(&key, now) {
            Step::Trust(_) | Step::Say(_) | Step::Close(Some(_), _) => return true,
            Step::Close(None, _) => return false,
            Step::Read => {}
        }
    }
    false
}

/// Gives `bytes` to a session as frames; how many it takes for the other side's.
pub fn frames(bytes: &[u8]) -> usize {
    let mut opener = Opener::new(&[0xa5; TAG], crate::LARGEST);
    let mut taken = 0;
    for piece in bytes.chunks(61) {
        opener.push(piece);
        while let Ok(Some(_)) = opener.next() {
            taken += 1;
        }
    }
    taken
}

/// Speaks as one who holds the session's key and lies: each piece of `bytes`, as long as its first byte says, comes as the
/// content of a rightly sealed frame. How many are understood.
pub fn liars(bytes: &[u8]) -> usize {
    let key = [0xa5; TAG];
    let (mut sealer, mut opener) = (Sealer::new(&key), Opener::new(&key, crate::LARGEST));
    let (mut rest, mut taken) = (bytes, 0);
    while let Some((length, more)) = rest.split_first() {
        let (content, later) = more.split_at(more.len().min(usize::from(*length)));
        rest = later;
        let Ok(frame) = sealer.seal_content(content) else {
            break;
        };
        opener.push(&frame);
        match opener.next() {
            Ok(Some(frame)) => {
                taken += 1;
                // A lie about the verdict is told too; that none panics is all that is asked here.
                let _ = Verdict::of(&frame);
            }
            Ok(None) | Err(_) => break,
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_liar_with_the_key_is_understood_where_it_speaks_rightly() {
        // A sign of life, an empty message, a reason; then a kind that is none, and so no more.
        assert_eq!(liars(&[1, 0, 1, 1, 3, 2, b'o', b'k', 1, 9, 1, 0]), 3);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_frame_passes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(!strangers(&bytes));
            prop_assert_eq!(frames(&bytes), 0);
            prop_assert!(liars(&bytes) <= bytes.len());
        }
    }
}
