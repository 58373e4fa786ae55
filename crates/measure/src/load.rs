//! The shape of the load on one thread.

use strata_record::{Arrivals, Rate, TimedBy, Workload};
use strata_stats::split_mix;
use strata_units::{Nanos, QueueDepth};

use crate::{Clock, Tick};

/// When the window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// After so much time.
    Time(Nanos),
    /// After so many operations.
    Ops(u64),
}

/// When operations start that do not wait for one another: the schedule of an open loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// Mean distance of a thread's operations in nanoseconds.
    gap: f64,
    /// When the first starts, in nanoseconds since the trial did.
    first: f64,
    arrivals: Arrivals,
}

impl Offer {
    /// The whole of a rate.
    fn of(rate: Rate) -> Offer {
        Offer {
            gap: 1e9 / rate.ops_per_s as f64,
            first: 0.0,
            arrivals: rate.arrivals,
        }
    }

    /// Operations a second of this thread.
    pub(crate) fn ops_per_s(&self) -> f64 {
        1e9 / self.gap
    }
}

/// The schedule as it is kept: when the next operation is to start.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    offer: Offer,
    clock: Clock,
    start: Tick,
    random: u64,
    next: f64,
    due: Tick,
}

impl Schedule {
    pub(crate) fn new(offer: Offer, clock: Clock, start: Tick, seed: u64) -> Schedule {
        let mut schedule = Schedule {
            offer,
            clock,
            start,
            random: seed,
            next: offer.first,
            due: start,
        };
        if offer.arrivals == Arrivals::Poisson {
            schedule.next = 0.0;
            schedule.advance();
        } else {
            schedule.due = clock.after(start, Nanos(schedule.next as u64));
        }
        schedule
    }

    /// When the next operation is to start.
    #[inline(always)]
    pub(crate) fn due(&self) -> Tick {
        self.due
    }

    /// It has started, and the one after it is the next.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.next += match self.offer.arrivals {
            Arrivals::Fixed => self.offer.gap,
            Arrivals::Poisson => {
                // 53 random bits in (0, 1], so that the logarithm is finite.
                let bits = split_mix(&mut self.random) >> 11;
                let uniform = (bits + 1) as f64 / (1u64 << 53) as f64;
                -uniform.ln() * self.offer.gap
            }
        };
        self.due = self.clock.after(self.start, Nanos(self.next as u64));
    }

    /// How many are to start until `end`, from the next one on; counts a hundred million at most.
    pub(crate) fn until(mut self, end: Tick) -> u64 {
        let mut n = 0;
        while self.due <= end && n < 100_000_000 {
            n += 1;
            self.advance();
        }
        n
    }
}

/// A closed loop holds so many operations in flight, each followed by the next when it completes; an open loop starts them
/// by a schedule, with no more than so many in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Operations in flight.
    pub depth: QueueDepth,
    /// The schedule of an open loop; none for a closed one.
    pub offer: Option<Offer>,
    /// Time under load before the window opens.
    pub ramp: Nanos,
    /// When the window closes.
    pub window: Window,
    /// How operations are timed.
    pub timed_by: TimedBy,
    /// How long nothing may complete before the trial is given up, during it and while it drains.
    pub patience: Nanos,
}

/// What no load can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// No window.
    #[error("the window is empty; give a --duration above 0 or --ops of at least 1")]
    NoWindow,
    /// Two.
    #[error("the window has both a duration and a count; give --duration or --ops")]
    TwoWindows,
    /// No rate.
    #[error("a rate of 0 operations a second starts none; give a --rate of at least 1, or none")]
    NoRate,
}

impl Load {
    /// How long nothing may complete before a trial is given up. Longer than a drive's own recovery (NVMe's I/O timeout is
    /// 30 s in Linux) would hang a run; most stalls are far shorter.
    pub const PATIENCE: Nanos = Nanos(10_000_000_000);

    /// The load that a workload asks of its threads.
    ///
    /// # Errors
    /// [`LoadError`] when it has no window, or two, or a rate of nothing.
    pub fn of(workload: &Workload) -> Result<Load, LoadError> {
        let window = match (workload.duration_ns, workload.ops) {
            (Some(span), None) if span.0 > 0 => Window::Time(span),
            (None, Some(ops)) if ops > 0 => Window::Ops(ops),
            (Some(_), Some(_)) => return Err(LoadError::TwoWindows),
            _ => return Err(LoadError::NoWindow),
        };
        if workload.rate.is_some_and(|rate| rate.ops_per_s == 0) {
            return Err(LoadError::NoRate);
        }
        Ok(Load {
            depth: workload.depth,
            offer: workload.rate.map(Offer::of),
            ramp: workload.ramp_ns,
            window,
            timed_by: workload.timed_by,
            patience: Load::PATIENCE,
        })
    }

    /// The part of it that one of `threads` has: an equal one, evenly between those of the others.
    pub(crate) fn of_thread(&self, thread: usize, threads: usize) -> Load {
        let part = |offer: Offer| Offer {
            gap: offer.gap * threads as f64,
            first: offer.gap * thread as f64,
            ..offer
        };
        Load {
            offer: self.offer.map(part),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(rate: Rate, thread: usize, threads: usize, n: usize) -> Vec<u64> {
        let clock = Clock::get();
        let start = clock.now();
        let load = Load {
            offer: Some(Offer::of(rate)),
            ..Load::of(&Workload::plain(
                strata_record::Op::RandRead,
                strata_units::Bytes(512),
            ))
            .expect("a load")
        };
        let offer = load.of_thread(thread, threads).offer.expect("an offer");
        let mut schedule = Schedule::new(offer, clock, start, 7);
        (0..n)
            .map(|_| {
                let due = clock.between(start, schedule.due()).0;
                schedule.advance();
                due
            })
            .collect()
    }

    #[test]
    fn fixed_arrivals_of_threads_interleave() {
        let rate = Rate {
            ops_per_s: 1000,
            arrivals: Arrivals::Fixed,
        };
        let mut all = [dues(rate, 0, 2, 4), dues(rate, 1, 2, 4)].concat();
        all.sort_unstable();
        for (n, due) in (0u64..).zip(all) {
            assert!(due.abs_diff(n * 1_000_000) < 10, "arrival {n} at {due} ns");
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_spread_of_an_exponential() {
        let rate = Rate {
            ops_per_s: 10_000,
            arrivals: Arrivals::Poisson,
        };
        let dues = dues(rate, 1, 2, 20_001);
        let gaps: Vec<f64> = dues.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Two threads: 200 µs each. The mean's error is 1/√20000 of it, the spread's about twice that.
        assert!((mean / 200_000.0 - 1.0).abs() < 0.04, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.06, "{variance}");
    }

    #[test]
    fn what_is_left_of_a_schedule_is_counted() {
        let clock = Clock::get();
        let start = clock.now();
        let rate = Rate {
            ops_per_s: 1_000,
            arrivals: Arrivals::Fixed,
        };
        let schedule = Schedule::new(Offer::of(rate), clock, start, 0);
        let end = clock.after(start, Nanos(99_500_000));
        assert_eq!(schedule.until(end), 100);
    }
}
