//! The names of this layer's engines.

use std::fmt;
use std::str::FromStr;

use crate::verbs::Interface;

/// An engine of the rdma layer: by which interface queue pairs are driven, and how threads wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerbsEngine {
    /// `verbs` is the classic interface, `verbs-ex` the extended one.
    pub interface: Interface,
    /// Threads sleep until a completion is told of (ibv_get_cq_event(3)). Without it they poll.
    pub events: bool,
}

impl VerbsEngine {
    /// All of them.
    pub const ALL: [VerbsEngine; 4] = [
        VerbsEngine::of(Interface::Classic, false),
        VerbsEngine::of(Interface::Extended, false),
        VerbsEngine::of(Interface::Classic, true),
        VerbsEngine::of(Interface::Extended, true),
    ];

    const fn of(interface: Interface, events: bool) -> VerbsEngine {
        VerbsEngine { interface, events }
    }
}

impl fmt::Display for VerbsEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.interface, self.events) {
            (Interface::Classic, false) => "verbs",
            (Interface::Classic, true) => "verbs+events",
            (Interface::Extended, false) => "verbs-ex",
            (Interface::Extended, true) => "verbs-ex+events",
        })
    }
}

/// A name that is no engine of this layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no engine of the rdma layer: expected verbs or verbs-ex, and behind it +events where threads shall sleep"
)]
pub struct UnknownEngine(String);

impl FromStr for VerbsEngine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let found = VerbsEngine::ALL.into_iter().find(|e| e.to_string() == text);
        found.ok_or_else(|| UnknownEngine(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for engine in VerbsEngine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        for wrong in [
            "",
            "verbs+",
            "verbs+spin",
            "write",
            "verbs-ex+events+events",
        ] {
            let why = wrong.parse::<VerbsEngine>().expect_err(wrong).to_string();
            assert!(why.contains("expected verbs"), "{why}");
        }
    }
}
