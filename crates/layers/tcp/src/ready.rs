//! Which connections of a thread can be read or written now, by edge-triggered epoll(7): each is told of once, when it
//! becomes so, and is taken to be so until a call on it finds the contrary.

use std::net::TcpStream;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use strata_measure::Fatal;
use strata_units::Nanos;

/// What one connection is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    pub(crate) bytes: bool,
    pub(crate) room: bool,
    /// Whether the other side has ended its bytes: that is told once, and may be before the last of them are read.
    pub(crate) ended: bool,
}

/// The connections of one thread.
pub(crate) struct Ready {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    states: Vec<State>,
}

fn fatal(error: Errno) -> Fatal {
    Fatal(format!(
        "cannot watch the connections of a thread (epoll): {error}; look at fs.epoll.max_user_watches"
    ))
}

impl Ready {
    /// Watches these, each for what it is used for: bytes to read, room to write.
    pub(crate) fn of<'a>(
        sockets: impl Iterator<Item = (&'a TcpStream, bool, bool)>,
    ) -> Result<Ready, Fatal> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fatal)?;
        let mut states = Vec::new();
        for (socket, reads, writes) in sockets {
            let mut flags = EpollFlags::EPOLLET | EpollFlags::EPOLLRDHUP;
            flags.set(EpollFlags::EPOLLIN, reads);
            flags.set(EpollFlags::EPOLLOUT, writes);
            epoll
                .add(socket, EpollEvent::new(flags, states.len() as u64))
                .map_err(fatal)?;
            // Whether it is, the first call finds out.
            states.push(State {
                bytes: reads,
                room: writes,
                ended: false,
            });
        }
        Ok(Ready {
            epoll,
            events: vec![EpollEvent::empty(); states.len().clamp(1, 256)],
            states,
        })
    }

    /// What a connection is ready for, to be cleared by whoever finds that it is not.
    #[inline]
    pub(crate) fn state(&mut self, connection: usize) -> &mut State {
        &mut self.states[connection]
    }

    /// Sleeps until one becomes ready, or for so long; 0 only looks.
    pub(crate) fn wait(&mut self, at_most: Nanos) -> Result<(), Fatal> {
        // Down, since epoll_wait(2) takes milliseconds: the loop then looks once more rather than too late.
        let ms = u16::try_from(at_most.0 / 1_000_000).unwrap_or(u16::MAX);
        match self.epoll.wait(&mut self.events, EpollTimeout::from(ms)) {
            Ok(n) => {
                for event in &self.events[..n] {
                    let Some(state) = self.states.get_mut(event.data() as usize) else {
                        continue;
                    };
                    let flags = event.events();
                    // An error or a hang-up is found by the calls themselves.
                    let trouble = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
                    state.ended |= flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP);
                    state.bytes |= trouble || state.ended || flags.contains(EpollFlags::EPOLLIN);
                    state.room |= trouble || flags.contains(EpollFlags::EPOLLOUT);
                }
                Ok(())
            }
            Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(fatal(e)),
        }
    }
}
