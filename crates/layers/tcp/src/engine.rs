//! The names of this layer's engines.

use std::fmt;
use std::str::FromStr;

/// An engine of the tcp layer: how threads wait, and whether the kernel copies what they send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpEngine {
    /// Threads never sleep: they look at their sockets again and again (recv(2) with MSG_DONTWAIT, epoll_wait(2) with no
    /// time). Without it they sleep in recv(2), or in epoll_wait(2) where they have several connections.
    pub spin: bool,
    /// Sends are handed over by page rather than copied (MSG_ZEROCOPY, Documentation/networking/msg_zerocopy.rst).
    pub zerocopy: bool,
}

impl TcpEngine {
    /// All of them.
    pub const ALL: [TcpEngine; 4] = [
        TcpEngine::of(false, false),
        TcpEngine::of(true, false),
        TcpEngine::of(false, true),
        TcpEngine::of(true, true),
    ];

    const fn of(spin: bool, zerocopy: bool) -> TcpEngine {
        TcpEngine { spin, zerocopy }
    }
}

impl fmt::Display for TcpEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.spin, self.zerocopy) {
            (false, false) => "tcp",
            (true, false) => "tcp+spin",
            (false, true) => "tcp+zerocopy",
            (true, true) => "tcp+spin+zerocopy",
        })
    }
}

/// A name that is no engine of this layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no engine of the tcp layer: expected tcp, and behind it +spin or +zerocopy or both"
)]
pub struct UnknownEngine(String);

impl FromStr for TcpEngine {
    type Err = UnknownEngine;

    /// The name `tcp` and its modifiers in any order, each at most once.
    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let unknown = || UnknownEngine(text.to_owned());
        let mut words = text.split('+');
        if words.next() != Some("tcp") {
            return Err(unknown());
        }
        let mut engine = TcpEngine::default();
        for word in words {
            let flag = match word {
                "spin" => &mut engine.spin,
                "zerocopy" => &mut engine.zerocopy,
                _ => return Err(unknown()),
            };
            if std::mem::replace(flag, true) {
                return Err(unknown());
            }
        }
        Ok(engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for engine in TcpEngine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        let both = TcpEngine::of(true, true);
        assert_eq!("tcp+zerocopy+spin".parse(), Ok(both));
        for wrong in ["", "udp", "tcp+", "tcp+fast", "tcp+spin+spin", "spin"] {
            let why = wrong.parse::<TcpEngine>().expect_err(wrong).to_string();
            assert!(why.contains("expected tcp"), "{why}");
        }
    }
}
