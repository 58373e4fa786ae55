//! send(2), recv(2) and poll(2) on raw buffers.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use strata_measure::Buffer;
use strata_units::Nanos;

/// Whether a call may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Yes,
    No,
}

fn flags(sleep: Sleep) -> i32 {
    if sleep == Sleep::No {
        libc::MSG_DONTWAIT
    } else {
        0
    }
}

/// Bytes moved; none when nothing could be moved now (`EAGAIN`, a time-out, a signal).
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

/// Sends bytes `from..to` of the buffer.
pub(crate) fn send(
    socket: &TcpStream,
    buffer: &Buffer<'_>,
    from: usize,
    to: usize,
    sleep: Sleep,
) -> io::Result<Option<usize>> {
    assert!(
        from <= to && to <= buffer.len(),
        "{from}..{to} of {}",
        buffer.len()
    );
    // SAFETY: `from..to` lies inside the buffer, which lives for the call; the kernel only reads it.
    let n = unsafe {
        let start = buffer.as_ptr().add(from).cast();
        libc::send(
            socket.as_raw_fd(),
            start,
            to - from,
            flags(sleep) | libc::MSG_NOSIGNAL,
        )
    };
    moved(n)
}

/// Receives into bytes `from..to` of the buffer; 0 when the other side has closed. `whole` waits for all of them.
pub(crate) fn receive(
    socket: &TcpStream,
    buffer: &Buffer<'_>,
    from: usize,
    to: usize,
    sleep: Sleep,
    whole: bool,
) -> io::Result<Option<usize>> {
    assert!(
        from <= to && to <= buffer.len(),
        "{from}..{to} of {}",
        buffer.len()
    );
    let whole = if whole { libc::MSG_WAITALL } else { 0 };
    // SAFETY: `from..to` lies inside the buffer, which lives for the call, and no reference into it exists anywhere.
    let n = unsafe {
        let start = buffer.as_ptr().add(from).cast();
        libc::recv(socket.as_raw_fd(), start, to - from, flags(sleep) | whole)
    };
    moved(n)
}

/// Sleeps until the socket can be read or written, or for so long.
pub(crate) fn wait_either(socket: &TcpStream, at_most: Nanos) {
    wait(socket, libc::POLLIN | libc::POLLOUT, at_most);
}

/// Sleeps until the socket can be read, or for so long; whether it can.
pub(crate) fn wait_readable(socket: &TcpStream, at_most: Nanos) -> bool {
    wait(socket, libc::POLLIN, at_most)
}

fn wait(socket: &TcpStream, events: libc::c_short, at_most: Nanos) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    let ms = i32::try_from(at_most.0 / 1_000_000).unwrap_or(i32::MAX);
    // SAFETY: one valid pollfd, as the count says.
    unsafe { libc::poll(&raw mut poll, 1, ms) > 0 }
}
