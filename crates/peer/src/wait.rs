//! Waiting for a descriptor, with an end.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits at most `span` until `fd` is ready for `what`, has ended or is broken; says whether it is.
pub(crate) fn ready(fd: BorrowedFd<'_>, what: PollFlags, span: Duration) -> io::Result<bool> {
    Ok(any_ready(&mut [PollFd::new(fd, what)], span)? > 0)
}

/// As [`ready`] for several, each with what it waits for; how many are. `poll(2)`
pub(crate) fn any_ready(fds: &mut [PollFd<'_>], span: Duration) -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        let left = span.saturating_sub(begun.elapsed());
        // Rounded up, so that the last round does not spin.
        let wait = match left.is_zero() {
            true => PollTimeout::ZERO,
            false => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(fds, wait) {
            Ok(0) if begun.elapsed() >= span => return Ok(0),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(n) => return Ok(usize::try_from(n).unwrap_or(0)),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits, however long, until nobody holds the other end of a pipe or connection. `poll(2)`: `POLLHUP` needs not be asked for.
pub(crate) fn hung_up(fd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        match poll(
            &mut [PollFd::new(fd, PollFlags::empty())],
            PollTimeout::NONE,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
