//! What messages hold where a trial is checked: bytes that only one message of one queue pair has.

use strata_memory::Region;
use strata_units::Bytes;

/// What the bytes of a queue pair's messages are made from; both sides know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// That of a queue pair: by the trial's, the thread's, the lane's number, and who begins.
    pub(crate) fn of(trial: u64, thread: usize, lane: usize, by_us: bool) -> Key {
        let mut state =
            trial ^ (thread as u64) << 32 ^ (lane as u64) << 8 ^ if by_us { 1 } else { 2 };
        Key(strata_stats::split_mix(&mut state))
    }

    /// The bytes of a message by its number: the number first, as far as it fits, then what is made of both.
    fn fill(self, number: u64, into: &mut [u8]) {
        let mut state = self.0 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (n, chunk) in into.chunks_mut(8).enumerate() {
            let word = if n == 0 && chunk.len() == 8 {
                number ^ self.0
            } else {
                strata_stats::split_mix(&mut state)
            };
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Makes and checks messages, with room to do it in.
pub(crate) struct Content {
    room: Vec<u8>,
    expected: Vec<u8>,
}

/// What is wrong about a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "message {number} does not hold what was sent: byte {at} of {of} is {found:#04x} rather than {expected:#04x}; the network gave wrong data, or wrote it to a wrong place"
)]
pub(crate) struct Wrong {
    number: u64,
    at: usize,
    of: usize,
    found: u8,
    expected: u8,
}

impl Content {
    pub(crate) fn of(bytes: Bytes) -> Content {
        let room = vec![0; bytes.as_usize()];
        Content {
            expected: room.clone(),
            room,
        }
    }

    /// Bytes of a message.
    pub(crate) fn len(&self) -> Bytes {
        Bytes(self.room.len() as u64)
    }

    /// Puts message `number` there.
    pub(crate) fn put(&mut self, region: &Region, at: Bytes, key: Key, number: u64) {
        key.fill(number, &mut self.room);
        region.copy_in(at, &self.room);
    }

    /// Puts something else there, so that what is read later is seen to have come.
    pub(crate) fn spoil(&mut self, region: &Region, at: Bytes) {
        self.room.fill(0xa5);
        region.copy_in(at, &self.room);
    }

    /// Whether message `number` is there.
    pub(crate) fn check(
        &mut self,
        region: &Region,
        at: Bytes,
        key: Key,
        number: u64,
    ) -> Result<(), Wrong> {
        region.copy_out(at, &mut self.room);
        key.fill(number, &mut self.expected);
        let wrong = self
            .room
            .iter()
            .zip(&self.expected)
            .position(|(found, expected)| found != expected);
        match wrong {
            None => Ok(()),
            Some(at) => Err(Wrong {
                number,
                at,
                of: self.room.len(),
                found: self.room[at],
                expected: self.expected[at],
            }),
        }
    }

    /// The number that a message of 8 bytes or more carries.
    pub(crate) fn number(&mut self, region: &Region, at: Bytes, key: Key) -> u64 {
        let mut word = [0; 8];
        region.copy_out(at, &mut word);
        u64::from_le_bytes(word) ^ key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_memory::{Huge, Lock, Want};

    #[test]
    fn a_byte_that_is_wrong_and_a_message_that_is_another_are_found() {
        let region = Region::new(&Want {
            bytes: Bytes(8192),
            node: None,
            huge: Huge::Never,
            lock: Lock::Never,
        })
        .expect("memory");
        let (key, other) = (Key::of(7, 0, 0, true), Key::of(7, 0, 0, false));
        assert_ne!(key, other);
        for len in [1, 7, 8, 9, 100, 4096] {
            let mut content = Content::of(Bytes(len));
            content.put(&region, Bytes(3), key, 5);
            assert_eq!(content.check(&region, Bytes(3), key, 5), Ok(()));
            if len >= 8 {
                assert_eq!(content.number(&region, Bytes(3), key), 5);
                assert!(content.check(&region, Bytes(3), key, 6).is_err());
                assert!(content.check(&region, Bytes(3), other, 5).is_err());
            }
            let mut last = [0];
            region.copy_out(Bytes(2 + len), &mut last);
            region.copy_in(Bytes(2 + len), &[!last[0]]);
            let wrong = content.check(&region, Bytes(3), key, 5).expect_err("wrong");
            assert_eq!(wrong.at as u64, len - 1);
            content.spoil(&region, Bytes(3));
            assert!(content.check(&region, Bytes(3), key, 5).is_err());
        }
    }
}
