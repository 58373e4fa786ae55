//! What a connection by rdma_cm says of itself when it asks: somebody else's, or an older trial's, is told by it and
//! rejected. It protects from mistakes; whoever listens on the wire reads it.

/// Whether a queue pair is one over which a side begins, or one over which it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It begins.
    Out,
    /// It takes.
    Into,
}

impl Way {
    /// The same queue pair's, seen from the other side.
    pub(crate) fn facing(self) -> Way {
        match self {
            Way::Out => Way::Into,
            Way::Into => Way::Out,
        }
    }
}

/// Which queue pair of which trial, as the side that comes sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) secret: u64,
    pub(crate) thread: usize,
    pub(crate) lane: usize,
    pub(crate) way: Way,
}

const LEN: usize = 13;

impl Ticket {
    /// The secret, the thread, the lane and the way, in network order.
    pub(crate) fn to_bytes(self) -> [u8; LEN] {
        let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&self.secret.to_be_bytes());
        bytes[8..10].copy_from_slice(&small(self.thread));
        bytes[10..12].copy_from_slice(&small(self.lane));
        bytes[12] = match self.way {
            Way::Out => 1,
            Way::Into => 2,
        };
        bytes
    }

    /// What stands in front of what somebody said; `None` where it is no such thing.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Ticket> {
        let (secret, rest) = bytes.split_first_chunk()?;
        let (thread, rest) = rest.split_first_chunk()?;
        let (lane, rest) = rest.split_first_chunk()?;
        Some(Ticket {
            secret: u64::from_be_bytes(*secret),
            thread: u16::from_be_bytes(*thread).into(),
            lane: u16::from_be_bytes(*lane).into(),
            way: match rest.first()? {
                1 => Way::Out,
                2 => Way::Into,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_anything_else_is_none() {
        let ticket = Ticket {
            secret: 0x0123_4567_89ab_cdef,
            thread: 3,
            lane: 700,
            way: Way::Into,
        };
        let mut bytes = ticket.to_bytes().to_vec();
        assert_eq!(bytes, b"\x01\x23\x45\x67\x89\xab\xcd\xef\0\x03\x02\xbc\x02");
        for len in 0..bytes.len() {
            assert_eq!(Ticket::of_bytes(&bytes[..len]), None, "{len}");
        }
        // The connection manager pads it.
        bytes.resize(56, 0);
        assert_eq!(Ticket::of_bytes(&bytes), Some(ticket));
        assert_eq!(Ticket::of_bytes(&[0; 56]), None, "somebody else's");
        assert_eq!(ticket.way.facing().facing(), ticket.way);
        assert_ne!(ticket.way.facing(), ticket.way);
    }
}
