//! Where the threads of a trial meet: all start at one tick, or none does.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use strata_units::Nanos;

use crate::{Clock, Tick};

/// Between the last arrival and the common start: time for every thread to wake.
const LEAD: Nanos = Nanos(300_000);

enum State {
    Waiting { missing: usize },
    Open(Tick),
    Aborted(String),
}

/// A gate for a known number of threads. One whose set-up failed aborts it, and nobody waits for ever.
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    clock: Clock,
}

/// The gate will not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another thread of the trial could not start: {0}")]
pub struct Aborted(pub String);

impl Gate {
    /// A gate that opens when `threads` have arrived.
    pub fn new(threads: usize, clock: Clock) -> Gate {
        Gate {
            state: Mutex::new(State::Waiting { missing: threads }),
            changed: Condvar::new(),
            clock,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked holding the lock has left no half-made state: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all others and for the common start, which it returns.
    ///
    /// # Errors
    /// [`Aborted`] when one of them gave up.
    pub fn arrive(&self) -> Result<Tick, Aborted> {
        let mut state = self.counted();
        loop {
            match &*state {
                State::Open(start) => {
                    let start = *start;
                    drop(state);
                    while self.clock.now() < start {
                        std::hint::spin_loop();
                    }
                    return Ok(start);
                }
                State::Aborted(why) => return Err(Aborted(why.clone())),
                State::Waiting { .. } => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Arrives without waiting for the start, which the caller has no part in. Whether the gate has opened or still may.
    pub fn let_go(&self) -> bool {
        !matches!(*self.counted(), State::Aborted(_))
    }

    /// The state when one more has arrived.
    fn counted(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let State::Waiting { missing } = &mut *state {
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                *state = State::Open(self.clock.after(self.clock.now(), LEAD));
                self.changed.notify_all();
            }
        }
        state
    }

    /// Sends everybody home; the first reason stands. An open gate stays open.
    pub fn abort(&self, why: &str) {
        let mut state = self.state();
        if matches!(*state, State::Waiting { .. }) {
            *state = State::Aborted(why.to_owned());
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn all_start_at_one_tick() {
        let gate = Gate::new(3, Clock::get());
        let starts: Vec<_> = thread::scope(|s| {
            let threads: Vec<_> = (0..3)
                .map(|_| s.spawn(|| (gate.arrive(), gate.clock.now())))
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("no panic"))
                .collect()
        });
        let first = starts[0].0.clone().expect("opened");
        for (start, woke) in starts {
            assert_eq!(start, Ok(first));
            assert!(woke >= first, "nobody starts early");
        }
    }

    #[test]
    fn who_lets_go_is_counted_and_waits_for_nobody() {
        let gate = Gate::new(2, Clock::get());
        assert!(gate.let_go(), "it may still open");
        assert!(gate.arrive().is_ok(), "both have come");
        let gate = Gate::new(2, Clock::get());
        gate.abort("no memory");
        assert!(!gate.let_go());
    }

    #[test]
    fn one_failed_set_up_does_not_hang_the_rest() {
        let gate = Gate::new(3, Clock::get());
        thread::scope(|s| {
            let waiting: Vec<_> = (0..2).map(|_| s.spawn(|| gate.arrive())).collect();
            gate.abort("no memory");
            gate.abort("a later reason");
            for thread in waiting {
                assert_eq!(
                    thread.join().expect("no panic"),
                    Err(Aborted("no memory".to_owned()))
                );
            }
        });
        assert!(gate.arrive().is_err(), "late comers too");
    }
}
