//! Whether queues are alive.

use std::sync::atomic::{AtomicU8, Ordering};

const ALIVE: u8 = 0;
const DEAD: u8 = 1;
const QUIET: u8 = 2;

/// The life of all queues between two resets of a controller: alive, dead, and at last quiet.
#[derive(Debug, Default)]
pub(crate) struct Life(AtomicU8);

impl Life {
    /// Whether commands may be given.
    #[inline(always)]
    pub(crate) fn is_alive(&self) -> bool {
        // Says nothing of other memory, so that it may be relaxed: a command given too late is not fetched.
        self.0.load(Ordering::Relaxed) == ALIVE
    }

    /// Whether the controller has stopped, so that it touches no memory of these queues any more.
    pub(crate) fn is_quiet(&self) -> bool {
        // What was read of the controller before it was called quiet comes before what the asker does then.
        self.0.load(Ordering::Acquire) == QUIET
    }

    /// The controller failed; it may still write.
    pub(crate) fn end(&self) {
        self.0.fetch_max(DEAD, Ordering::Release);
    }

    /// The controller stopped.
    pub(crate) fn quieten(&self) {
        self.0.store(QUIET, Ordering::Release);
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
}
