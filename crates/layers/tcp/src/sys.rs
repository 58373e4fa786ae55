//! send(2), recv(2), ppoll(2) and socket options on raw memory.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};

use strata_measure::Buffer;
use strata_units::Nanos;

/// Whether a call may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Yes,
    No,
}

fn flags(sleep: Sleep) -> i32 {
    match sleep {
        Sleep::Yes => 0,
        Sleep::No => libc::MSG_DONTWAIT,
    }
}

/// Bytes moved; none when nothing could be moved now (`EAGAIN`, a time-out, a signal).
#[inline]
fn moved(n: libc::ssize_t) -> io::Result<Option<usize>> {
    match usize::try_from(n) {
        Ok(n) => Ok(Some(n)),
        Err(_) => {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            }
        }
    }
}

fn check_range(buffer: &Buffer<'_>, from: usize, to: usize) {
    assert!(
        from <= to && to <= buffer.len(),
        "{from}..{to} of {}",
        buffer.len()
    );
}

/// Sends bytes `from..to` of the buffer; with MSG_ZEROCOPY they must stay as they are until the notification.
#[inline]
pub(crate) fn send(
    socket: &TcpStream,
    buffer: &Buffer<'_>,
    (from, to): (usize, usize),
    sleep: Sleep,
    zerocopy: bool,
) -> io::Result<Option<usize>> {
    check_range(buffer, from, to);
    let how = if zerocopy { libc::MSG_ZEROCOPY } else { 0 };
    // SAFETY: `from..to` lies inside the buffer, which lives for the call; the kernel only reads it. Without a copy it
    // holds the pages themselves until it has sent them, so that unmapping does not free them under it.
    let n = unsafe {
        let start = buffer.as_ptr().add(from).cast();
        libc::send(
            socket.as_raw_fd(),
            start,
            to - from,
            flags(sleep) | libc::MSG_NOSIGNAL | how,
        )
    };
    moved(n)
}

/// Receives into bytes `from..to` of the buffer; 0 when the other side has closed. `whole` waits for all of them.
#[inline]
pub(crate) fn receive(
    socket: &TcpStream,
    buffer: &Buffer<'_>,
    (from, to): (usize, usize),
    sleep: Sleep,
    whole: bool,
) -> io::Result<Option<usize>> {
    check_range(buffer, from, to);
    let whole = if whole { libc::MSG_WAITALL } else { 0 };
    // SAFETY: `from..to` lies inside the buffer, which lives for the call, and no reference into it exists anywhere.
    let n = unsafe {
        let start = buffer.as_ptr().add(from).cast();
        libc::recv(socket.as_raw_fd(), start, to - from, flags(sleep) | whole)
    };
    moved(n)
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Bytes to read, or an end.
    Bytes,
    /// Those, or room to write.
    BytesOrRoom,
    /// Room to write, or a notification on the error queue.
    Room,
    /// An error or a hang-up only.
    Trouble,
}

/// Sleeps until it is there, or for so long; whether anything is.
pub(crate) fn wait(socket: &TcpStream, what: For, at_most: Nanos) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: match what {
            For::Bytes => libc::POLLIN,
            For::BytesOrRoom => libc::POLLIN | libc::POLLOUT,
            For::Room => libc::POLLOUT,
            For::Trouble => 0,
        },
        revents: 0,
    };
    let span = libc::timespec {
        tv_sec: (at_most.0 / 1_000_000_000) as libc::time_t,
        tv_nsec: (at_most.0 % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: one valid pollfd, as the count says, and a valid span; no signal mask.
    unsafe { libc::ppoll(&raw mut poll, 1, &raw const span, std::ptr::null()) > 0 }
}

/// Sets an option that is a number (setsockopt(2)).
pub(crate) fn set_option(fd: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is a valid int, and its size is told.
    let done = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an option into as many bytes as there are; how many the kernel filled (getsockopt(2)).
pub(crate) fn option(fd: &impl AsFd, level: i32, name: i32, into: &mut [u8]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(into.len()).unwrap_or(0);
    // SAFETY: at most `len` bytes are written, and that many are there.
    let done = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            into.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        Ok((len as usize).min(into.len()))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The pattern is made and compared in pieces of this size.
const PIECE: usize = 4096;

/// The bytes of a pattern without end from its byte `at` on: each eight of them are a mix of their number.
fn pattern(at: u64, into: &mut [u8]) {
    let mut made = 0;
    while made < into.len() {
        let at = at + made as u64;
        let mut x = (at >> 3)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^= x >> 29;
        let word = x.to_le_bytes();
        let skip = (at & 7) as usize;
        let n = (8 - skip).min(into.len() - made);
        into[made..made + n].copy_from_slice(&word[skip..skip + n]);
        made += n;
    }
}

/// Writes the pattern from its byte `at` on into bytes `from..to`.
pub(crate) fn fill(buffer: &Buffer<'_>, (from, to): (usize, usize), at: u64) {
    check_range(buffer, from, to);
    let mut piece = [0; PIECE];
    for start in (from..to).step_by(PIECE) {
        let piece = &mut piece[..PIECE.min(to - start)];
        pattern(at + (start - from) as u64, piece);
        // SAFETY: the bytes lie inside the buffer, which is writable and apart from the piece; no call that reads them is
        // under way, and no reference into them exists.
        unsafe {
            buffer
                .as_ptr()
                .add(start)
                .copy_from_nonoverlapping(piece.as_ptr(), piece.len())
        }
    }
}

/// Whether bytes `from..to` are the pattern from its byte `at` on: if not, the first byte of the pattern that is not there.
pub(crate) fn check(buffer: &Buffer<'_>, (from, to): (usize, usize), at: u64) -> Result<(), u64> {
    check_range(buffer, from, to);
    let (mut expected, mut found) = ([0; PIECE], [0; PIECE]);
    for start in (from..to).step_by(PIECE) {
        let len = PIECE.min(to - start);
        let at = at + (start - from) as u64;
        pattern(at, &mut expected[..len]);
        // SAFETY: the bytes lie inside the buffer and apart from the piece; the call that wrote them is over, and none that
        // writes them is under way.
        unsafe {
            found
                .as_mut_ptr()
                .copy_from_nonoverlapping(buffer.as_ptr().add(start), len)
        };
        if expected[..len] != found[..len] {
            let wrong = expected
                .iter()
                .zip(&found)
                .take_while(|(a, b)| a == b)
                .count();
            return Err(at + wrong as u64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_measure::Buffers;
    use strata_memory::{Huge, Lock, Want};
    use strata_units::{Bytes, QueueDepth};

    #[test]
    fn a_pattern_is_one_however_it_is_cut_and_a_wrong_byte_is_found() {
        let want = Want {
            bytes: Bytes(0),
            node: None,
            huge: Huge::Never,
            lock: Lock::Never,
        };
        let memory = Buffers::new(QueueDepth::ONE, Bytes(10_000), want).expect("memory");
        let buffer = memory.first();
        fill(&buffer, (3, 10_000), 1_000_003);
        for (from, to) in [(3, 4), (3, 10_000), (17, 4_113), (9_999, 10_000), (5, 5)] {
            let at = 1_000_003 + (from as u64 - 3);
            assert_eq!(check(&buffer, (from, to), at), Ok(()), "{from}..{to}");
        }
        assert!(
            check(&buffer, (3, 10_000), 1_000_004).is_err(),
            "moved by one"
        );
        let word = buffer.word(8_000).expect("inside");
        buffer.set_word(8_000, word ^ (1 << 40));
        assert_eq!(
            check(&buffer, (3, 10_000), 1_000_003),
            Err(1_000_000 + 8_005)
        );
    }
}
