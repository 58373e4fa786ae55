//! An open loop against engines that stall or are too slow: what waits behind a stall is in the latencies.

use std::time::Duration;

use strata_measure::{
    Buffers, Clock, Engine, FailCode, Fatal, Limits, Load, NullEngine, Op, Outcome, Refused,
    Scratch, Slot, Step, Stream, Stuck, Tally, Tick, Wait, drive,
};
use strata_record::{Arrivals, Completes, Op as Mix, Rate, TimedBy, Workload};
use strata_units::{Bytes, Nanos, QueueDepth};

fn load(depth: u64, ops_per_s: u64, arrivals: Arrivals, timed_by: TimedBy) -> Load {
    let workload = Workload {
        depth: QueueDepth::new(depth).expect("a depth"),
        duration_ns: Some(Nanos::from_millis(300)),
        ramp_ns: Nanos::from_millis(20),
        rate: Some(Rate {
            ops_per_s,
            arrivals,
        }),
        timed_by,
        ..Workload::plain(Mix::RandRead, Bytes(4096))
    };
    Load::of(&workload).expect("a load")
}

fn go<E: Engine>(engine: &mut E, load: &Load) -> Tally {
    let clock = Clock::get();
    let mut stream = Stream::new(Mix::RandRead, Bytes(4096), 1000, 1);
    let scratch = Scratch::new(load, &mut stream);
    drive(
        engine,
        &mut stream,
        load,
        clock,
        scratch,
        clock.now(),
        &mut |_| Step::Go,
    )
}

/// Completes an operation at once, and one of them, once, only after a sleep; or each after one.
struct Sleepy {
    held: Vec<(Slot, Op)>,
    posted: u64,
    stalls_at: Option<u64>,
    sleep: Duration,
}

impl Engine for Sleepy {
    fn limits(&self) -> Limits {
        Limits {
            depth: 64,
            align: Bytes(512),
            completes: Completes::Device,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        self.posted += 1;
        self.held.push((slot, op));
        Ok(())
    }

    fn ring(&mut self) -> Result<(), Fatal> {
        let stalls = match self.stalls_at {
            Some(n) => self.posted >= n,
            None => !self.held.is_empty(),
        };
        if stalls {
            std::thread::sleep(self.sleep);
            self.stalls_at = self.stalls_at.map(|_| u64::MAX);
        }
        Ok(())
    }

    fn reap(&mut self, wait: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        assert_eq!(
            wait,
            Wait::Spin,
            "an open loop never sleeps past an arrival"
        );
        let n = self.held.len();
        for (slot, op) in self.held.drain(..) {
            done(slot, Outcome::Done(op.len));
        }
        Ok(n)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        None
    }

    fn explain(&self, code: FailCode) -> String {
        format!("code {}", code.0)
    }
}

#[test]
fn the_offered_rate_is_kept_by_whoever_can() {
    for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
        for timed_by in [TimedBy::Operation, TimedBy::Batch] {
            let load = load(8, 10_000, arrivals, timed_by);
            let tally = go(&mut NullEngine::new(load.depth), &load);
            assert_eq!(tally.broken(), None);
            let measured = tally.measured(Completes::Device);
            let open = measured.open.expect("an open loop");
            assert!((open.offered_ops_per_s - 10_000.0).abs() < 1e-6);
            // 3000 in 300 ms, if nobody takes the core away at the end of the window; Poisson's deviation is 55.
            let all = measured.ops + open.unstarted;
            assert!((2700..3300).contains(&all), "{all} of {arrivals:?}");
            assert!(open.mean_wait_ns.is_some());
        }
    }
}

#[test]
fn what_waits_behind_a_stall_is_in_the_latencies() {
    let stalled = |load: &Load| {
        let mut engine = Sleepy {
            held: Vec::new(),
            posted: 0,
            stalls_at: Some(200),
            sleep: Duration::from_millis(100),
        };
        go(&mut engine, load).measured(Completes::Device)
    };
    let load = load(4, 2_000, Arrivals::Fixed, TimedBy::Operation);
    let open = stalled(&load);
    let latency = open.latency_ns.expect("timed");
    // 200 of the 600 were to start within the stall, and wait for half of it in the mean: a third of them all.
    let p90 = latency.percentiles.p90.expect("60 above");
    assert!(p90 > 30e6, "p90 is {p90} ns");
    assert!(
        open.open
            .and_then(|o| o.mean_wait_ns)
            .is_some_and(|w| w > 5e6)
    );

    let closed = stalled(&Load {
        offer: None,
        ..load
    });
    let p90 = closed.latency_ns.and_then(|l| l.percentiles.p90);
    assert!(
        p90.is_some_and(|p| p < 30e6),
        "a closed loop hides it: {p90:?}"
    );
}

#[test]
fn what_could_not_be_started_is_told() {
    let load = load(1, 10_000, Arrivals::Fixed, TimedBy::Operation);
    let mut engine = Sleepy {
        held: Vec::new(),
        posted: 0,
        stalls_at: None,
        sleep: Duration::from_millis(1),
    };
    let measured = go(&mut engine, &load).measured(Completes::Device);
    let open = measured.open.expect("an open loop");
    assert!(measured.ops <= 300, "{} of 1 ms each", measured.ops);
    // Some 3200 were to start until the window closed.
    assert!(open.unstarted + measured.ops > 2_800, "{open:?}");
    let latency = measured.latency_ns.expect("timed");
    assert!(
        latency.max > 150e6,
        "the queue grows to the end: {}",
        latency.max
    );
}

#[test]
fn a_slow_offer_is_no_stall() {
    let mut load = load(1, 4, Arrivals::Fixed, TimedBy::Operation);
    load.patience = Nanos::from_millis(50);
    let tally = go(&mut NullEngine::new(load.depth), &load);
    assert_eq!(tally.broken(), None);
}
