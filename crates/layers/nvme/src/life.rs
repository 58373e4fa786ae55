//! Whether queues are alive.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

const ALIVE: u8 = 0;
const DEAD: u8 = 1;
const QUIET: u8 = 2;

/// The life of all queues between two resets of a controller: alive, dead, and at last quiet.
#[derive(Debug, Default)]
pub(crate) struct Life {
    state: AtomicU8,
    /// Why it ended, as whoever ended it says.
    why: OnceLock<String>,
}

impl Life {
    /// Whether commands may be given.
    #[inline(always)]
    pub(crate) fn is_alive(&self) -> bool {
        // Says nothing of other memory, so that it may be relaxed: a command given too late is not fetched.
        self.state.load(Ordering::Relaxed) == ALIVE
    }

    /// Whether the controller has stopped, so that it touches no memory of these queues any more.
    pub(crate) fn is_quiet(&self) -> bool {
        // What was read of the controller before it was called quiet comes before what the asker does then.
        self.state.load(Ordering::Acquire) == QUIET
    }

    /// It is about to end for this reason, so that each thread that finds it ended can tell; the first one counts.
    pub(crate) fn blame(&self, why: impl ToString) {
        self.why.get_or_init(|| why.to_string());
    }

    /// Why it ended, where that was said.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.get().map(String::as_str)
    }

    /// The controller failed; it may still write.
    pub(crate) fn end(&self) {
        self.state.fetch_max(DEAD, Ordering::Release);
    }

    /// The controller stopped.
    pub(crate) fn quieten(&self) {
        self.state.store(QUIET, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_goes_one_way() {
        let life = Life::default();
        assert!(life.is_alive() && !life.is_quiet());
        life.end();
        assert!(!life.is_alive() && !life.is_quiet());
        life.quieten();
        life.end();
        assert!(!life.is_alive() && life.is_quiet());
    }

    #[test]
    fn the_first_reason_counts() {
        let life = Life::default();
        assert_eq!(life.why(), None);
        life.blame("one");
        life.blame("another");
        assert_eq!(life.why(), Some("one"));
    }
}
