//! How far two windows lie in one another when the two sides share no clock.
//!
//! A clock is asked over the control channel: what it shows when the answer is read, it showed between the question and the
//! answer. So every moment of the other side's is known to a span of ours, as wide as the quickest of some round trips.

use std::time::{Duration, Instant};

use strata_units::Nanos;

/// How far two clocks may run apart: each may be slewed by 500 ppm (adjtimex(2)).
const DRIFT: f64 = 0.001;

/// The other side's clock as ours sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// What it showed.
    pub theirs: Nanos,
    /// The span of ours in which it did.
    pub ours: (Instant, Instant),
}

impl Seen {
    fn width(&self) -> Duration {
        self.ours.1 - self.ours.0
    }

    /// The closer of two.
    pub fn closer(self, other: Seen) -> Seen {
        if other.width() < self.width() {
            other
        } else {
            self
        }
    }
}

/// The least part of a window of length `window` that lies in another as long: ours began within `ours`, theirs within
/// `theirs` of their clock. A part of 1.
pub fn overlap(seen: Seen, ours: (Instant, Instant), theirs: (Nanos, Nanos), window: Nanos) -> f64 {
    let length = window.as_secs_f64();
    if length <= 0.0 {
        return 0.0;
    }
    // All in seconds after the clock was read, at the two ends of that span.
    let after = |at: Instant, from: Instant| {
        at.saturating_duration_since(from).as_secs_f64()
            - from.saturating_duration_since(at).as_secs_f64()
    };
    let shown = |at: Nanos| (at.0 as f64 - seen.theirs.0 as f64) / 1e9;
    let drift = shown(theirs.1).abs() * DRIFT;
    let width = seen.width().as_secs_f64();
    let (from, to) = (shown(theirs.0) - drift, shown(theirs.1) + width + drift);
    let (begun, latest) = (after(ours.0, seen.ours.0), after(ours.1, seen.ours.0));
    let apart = (latest - from).max(to - begun).max(0.0);
    ((length - apart) / length).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_wide_round_trip_costs_certainty() {
        let zero = Instant::now();
        let seen = |width| Seen {
            theirs: Nanos::from_millis(500),
            ours: (zero, zero + ms(width)),
        };
        let window = Nanos::SECOND;
        let begun = (zero + ms(100), zero + ms(100));
        let theirs = (Nanos::from_millis(600), Nanos::from_millis(600));
        let exact = overlap(seen(0), begun, theirs, window);
        assert!((0.999..=1.0).contains(&exact), "{exact}");
        let wide = overlap(seen(50), begun, theirs, window);
        assert!((0.949..0.951).contains(&wide), "{wide}");
        let never = overlap(
            seen(0),
            begun,
            (Nanos::SECOND * 9, Nanos::SECOND * 9),
            window,
        );
        assert_eq!(never, 0.0);
        assert_eq!(seen(50).closer(seen(3)).width(), ms(3));
    }

    proptest! {
        /// Whatever the offset of the clocks and the way of the messages, never more is told than there is.
        #[test]
        fn it_is_a_lower_bound(
            offset in 0u64..10_000,
            there in 0u64..40,
            back in 0u64..40,
            ours in 100u64..400,
            theirs in 100u64..400,
            window in 200u64..2_000,
        ) {
            let zero = Instant::now();
            // Their clock is ahead of ours by `offset` and is read when the question has come.
            let seen = Seen {
                theirs: Nanos::from_millis(offset + there),
                ours: (zero, zero + ms(there + back)),
            };
            let told = overlap(
                seen,
                (zero + ms(ours), zero + ms(ours)),
                (Nanos::from_millis(offset + theirs), Nanos::from_millis(offset + theirs)),
                Nanos::from_millis(window),
            );
            let truth = (window as f64 - ours.abs_diff(theirs) as f64).max(0.0) / window as f64;
            prop_assert!(told <= truth + 1e-9, "{told} of {truth}");
        }
    }
}
