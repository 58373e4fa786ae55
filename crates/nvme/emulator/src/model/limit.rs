//! What holds a rate: servers that do one thing after the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use strata_units::Nanos;

use super::error::{ModelError, Place};

/// How long a server that stood still is thought to have been at work already when the next command comes.
///
/// A host that keeps one command in flight needs a moment between a completion and its next command; without the head start
/// the rate would stay below its limit by that moment a command. It is also the largest burst: after a pause, what the limit
/// lets through in 10 µs, and at least no command at once.
pub const HEAD_START: Nanos = Nanos(10_000);

/// Bits behind the point of a time of work: 2⁻³² ns, so that a second at 10⁹ commands is off by less than 1 ns.
const POINT: u32 = 32;

/// Nanoseconds with 32 bits behind the point.
pub(super) type Work = u128;

/// What one of `per_second` takes; 0 where nothing limits.
pub(super) fn work_of(
    per_second: Option<u64>,
    key: &str,
    place: &Place,
) -> Result<u64, ModelError> {
    const MOST: u64 = 1 << 50;
    let Some(rate) = per_second else {
        return Ok(0);
    };
    place.check(
        (1..=MOST).contains(&rate),
        key,
        rate,
        "1 to 2^50 a second",
        "leave the key out if nothing limits",
    )?;
    Ok((1_000_000_000 << POINT) / rate)
}

/// A server that does one piece of work after the other: a virtual clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    /// When it has done all that it was given, in [`Work`].
    free: Work,
}

impl Server {
    /// When work given at `now` is done, not before `now`.
    #[inline]
    pub(super) fn done(&mut self, now: Nanos, work: Work) -> Nanos {
        let start = self.free.max(Work::from((now - HEAD_START).0) << POINT);
        self.free = start.saturating_add(work);
        let whole = self.free.saturating_add((1 << POINT) - 1) >> POINT;
        now.max(Nanos(u64::try_from(whole).unwrap_or(u64::MAX)))
    }
}

/// So many servers behind one queue, such as the dies of a drive: each command takes the one that is free first.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    free: BinaryHeap<Reverse<Nanos>>,
}

impl Servers {
    pub(super) fn new(count: u32) -> Servers {
        Servers {
            free: (0..count).map(|_| Reverse(Nanos(0))).collect(),
        }
    }

    /// When a command that takes `span` and came at `now` is done.
    #[inline]
    pub(super) fn done(&mut self, now: Nanos, span: Nanos) -> Nanos {
        match self.free.peek_mut() {
            Some(mut first) => {
                first.0 = first.0.max(now) + span;
                first.0
            }
            None => now + span,
        }
    }
}
