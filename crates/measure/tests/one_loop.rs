//! The one loop against engines of every kind that the design knows: one that does nothing, one that answers requests, one
//! that signals only some completions, and ones that refuse, fail, lie and never come back. (`psync` joins in its layer.)

use std::collections::VecDeque;

use strata_measure::{
    Buffers, Clock, Edge, Engine, FailCode, Fatal, Limits, Load, NullEngine, Op, OpKind, Outcome,
    Refusal, Refused, Scratch, Slot, Step, Stream, Stuck, Tally, Tick, Wait, Window, drive,
    payload,
};
use strata_memory::{Huge, Lock, Want};
use strata_record::{Completes, Op as Mix, TimedBy};
use strata_stats::Rng;
use strata_units::{Bytes, Nanos, QueueDepth};

const BLOCK: Bytes = Bytes(4096);

fn load(depth: u64, window: Window, timed_by: TimedBy) -> Load {
    Load {
        depth: QueueDepth::new(depth).expect("a depth"),
        offer: None,
        ramp: Nanos::from_millis(2),
        window,
        timed_by,
        patience: Nanos::from_millis(200),
    }
}

fn reads() -> Stream {
    Stream::new(Mix::RandRead, BLOCK, 1000, 1)
}

fn go<E: Engine>(engine: &mut E, mut stream: Stream, load: &Load) -> Tally {
    let clock = Clock::get();
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

/// What every sound trial shows: as many timed as counted, and the rate that follows from both.
fn sound(tally: Tally, completes: Completes, timed: bool) {
    assert_eq!(tally.broken(), None);
    assert_eq!(tally.errors(), 0);
    let bytes = tally.bytes();
    let measured = tally.measured(completes);
    assert!(measured.ops > 0);
    assert_eq!(bytes, BLOCK * measured.ops);
    assert!((measured.ops as f64 / measured.window_s / measured.ops_per_s - 1.0).abs() < 1e-9);
    assert_eq!(
        measured.latency_ns.as_ref().map(|l| l.count),
        timed.then_some(measured.ops)
    );
    let in_intervals: u64 = measured.series.ops.iter().sum();
    assert!(in_intervals <= measured.ops);
}

/// What the fakes have in common: a queue of accepted operations.
struct Fake {
    limits: Limits,
    room: usize,
    held: VecDeque<(Slot, Op)>,
    most_held: usize,
    posted: u64,
    polled: u64,
    behaviour: Behaviour,
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// Answers one request a poll, oldest first.
    Answers,
    /// A completion each eighth operation stands for the seven before it.
    SignalsEachEighth,
    /// Each tenth operation fails.
    FailsEachTenth,
    /// All fail.
    FailsAll,
    /// Two polls of three find nothing.
    Hesitates,
    /// Nothing ever comes back.
    Silent,
    /// Breaks after so many posts.
    Breaks(u64),
}

impl Fake {
    fn new(behaviour: Behaviour) -> Fake {
        Fake {
            limits: Limits {
                depth: 64,
                align: Bytes(1),
                completes: Completes::RoundTrip,
                has_latency: behaviour != Behaviour::SignalsEachEighth,
                wait: Wait::Spin,
            },
            room: usize::MAX,
            held: VecDeque::new(),
            most_held: 0,
            posted: 0,
            polled: 0,
            behaviour,
        }
    }
}

impl Engine for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        if self.held.len() >= self.room {
            return Err(Refused {
                slot,
                op,
                why: Refusal::Full,
            });
        }
        if self.behaviour == Behaviour::Breaks(self.posted) {
            let why = Refusal::Fatal(Fatal("the cable was pulled".to_owned()));
            return Err(Refused { slot, op, why });
        }
        self.posted += 1;
        self.held.push_back((slot, op));
        self.most_held = self.most_held.max(self.held.len());
        Ok(())
    }

    fn ring(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        self.polled += 1;
        let n = match self.behaviour {
            Behaviour::Hesitates if !self.polled.is_multiple_of(3) => 0,
            Behaviour::Silent => 0,
            Behaviour::SignalsEachEighth if self.held.len() < 8 => 0,
            Behaviour::SignalsEachEighth => 8,
            _ => 1,
        };
        for i in 0..n {
            let Some((slot, op)) = self.held.pop_front() else {
                return Ok(i);
            };
            let outcome = match self.behaviour {
                Behaviour::FailsAll => Outcome::Failed(FailCode(5)),
                Behaviour::FailsEachTenth if self.posted.is_multiple_of(10) => {
                    Outcome::Failed(FailCode(5))
                }
                _ => Outcome::Done(op.len),
            };
            done(slot, outcome);
        }
        Ok(n)
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        if self.behaviour == Behaviour::Silent {
            let why = "it does not listen".to_owned();
            return Err(Stuck {
                operations: self.held.len(),
                why,
            });
        }
        self.held.clear();
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
fn the_null_engine_by_time_and_by_count() {
    for timed_by in [TimedBy::Operation, TimedBy::Batch] {
        for depth in [1, 7, 32, 4096] {
            let by_time = load(depth, Window::Time(Nanos::from_millis(30)), timed_by);
            let tally = go(&mut NullEngine::new(by_time.depth), reads(), &by_time);
            assert!(tally.window().0.abs_diff(30_000_000) <= 1, "to a tick");
            sound(tally, Completes::Device, true);
            let by_count = load(depth, Window::Ops(10_007), timed_by);
            let tally = go(&mut NullEngine::new(by_count.depth), reads(), &by_count);
            let more = tally.ops() - 10_007;
            let most = if timed_by == TimedBy::Batch {
                depth - 1
            } else {
                0
            };
            assert!(more <= most, "{more} too many at depth {depth}");
            sound(tally, Completes::Device, true);
        }
    }
}

#[test]
fn a_whole_window_has_all_its_intervals() {
    let load = load(1, Window::Time(Nanos::from_millis(100)), TimedBy::Operation);
    let measured = go(&mut NullEngine::new(load.depth), reads(), &load).measured(Completes::Device);
    assert_eq!(measured.series.interval_s, 0.01);
    assert_eq!(measured.series.ops.len(), 10);
    assert!(
        measured.mean_depth.is_some_and(|d| d > 0.5 && d <= 1.2),
        "{:?}",
        measured.mean_depth
    );
}

#[test]
fn a_window_by_count_opens_between_operations() {
    for timed_by in [TimedBy::Operation, TimedBy::Batch] {
        let load = load(1, Window::Ops(1), timed_by);
        for _ in 0..20 {
            let measured =
                go(&mut NullEngine::new(load.depth), reads(), &load).measured(Completes::Device);
            let depth = measured.mean_depth.expect("timed");
            assert!(
                measured.ops == 1 && depth < 1.2,
                "{depth} in flight on average, of one"
            );
        }
    }
}

#[test]
fn a_trial_that_breaks_before_its_window_has_no_figure() {
    let load = Load {
        ramp: Nanos::SECOND * 100,
        ..load(1, Window::Ops(10), TimedBy::Operation)
    };
    let tally = go(&mut Fake::new(Behaviour::Breaks(500)), reads(), &load);
    assert_eq!(
        (tally.ops(), tally.bytes(), tally.broken()),
        (0, Bytes(0), Some("the cable was pulled"))
    );
    assert_eq!(tally.measured(Completes::Device).latency_ns, None);
}

#[test]
fn a_request_and_response_engine() {
    let load = load(8, Window::Time(Nanos::from_millis(20)), TimedBy::Operation);
    let mut engine = Fake::new(Behaviour::Answers);
    let tally = go(&mut engine, reads(), &load);
    sound(tally, Completes::RoundTrip, true);
    assert_eq!(engine.most_held, 8, "the depth is kept");
    assert!(engine.held.is_empty(), "and drained at the end");
}

#[test]
fn selective_signalling_has_no_latency() {
    for timed_by in [TimedBy::Operation, TimedBy::Batch] {
        let load = load(32, Window::Ops(8_000), timed_by);
        let tally = go(&mut Fake::new(Behaviour::SignalsEachEighth), reads(), &load);
        assert_eq!(tally.ops(), 8_000);
        sound(tally, Completes::AcceptedLocally, false);
    }
}

#[test]
fn an_engine_with_less_room_than_the_depth_loses_nothing() {
    let load = load(32, Window::Ops(5_000), TimedBy::Operation);
    let mut engine = Fake::new(Behaviour::Answers);
    engine.room = 5;
    let stream = Stream::new(Mix::Read, BLOCK, 1 << 40, 1);
    let tally = go(&mut engine, stream, &load);
    sound(tally, Completes::RoundTrip, true);
    assert_eq!(engine.most_held, 5);
}

#[test]
fn failures_are_counted_by_kind_and_not_as_operations() {
    let load = load(4, Window::Ops(1_000), TimedBy::Operation);
    let tally = go(&mut Fake::new(Behaviour::FailsEachTenth), reads(), &load);
    assert!(tally.errors() > 0);
    assert_eq!(
        tally.failures().collect::<Vec<_>>(),
        [(FailCode(5), tally.errors())]
    );
    let failed = go(&mut Fake::new(Behaviour::FailsAll), reads(), &load);
    assert_eq!((failed.errors(), failed.ops()), (1000, 0));
    assert!(
        failed
            .broken()
            .is_some_and(|why| why.contains("1000 failed"))
    );
}

#[test]
fn polls_are_counted_where_an_engine_is_polled() {
    let load = load(1, Window::Ops(300), TimedBy::Operation);
    let mut engine = Fake::new(Behaviour::Hesitates);
    let polling = go(&mut engine, reads(), &load)
        .measured(Completes::RoundTrip)
        .polling
        .expect("it is polled");
    assert_eq!((polling.polls, polling.empty), (900, 600));
    assert_eq!(polling.completions_per_poll, Some(1.0));
    let mut engine = Fake::new(Behaviour::Answers);
    engine.limits.wait = Wait::Block {
        at_most: Nanos::from_millis(1),
    };
    let measured = go(&mut engine, reads(), &load).measured(Completes::RoundTrip);
    assert_eq!(measured.polling, None, "it sleeps");
}

#[test]
fn silence_ends_and_says_what_is_in_flight() {
    let load = load(4, Window::Time(Nanos::SECOND * 100), TimedBy::Operation);
    let tally = go(&mut Fake::new(Behaviour::Silent), reads(), &load);
    let why = tally.broken().expect("broken");
    assert!(
        why.contains("4 in flight") && why.contains("4 operations never came back"),
        "{why}"
    );
}

#[test]
fn an_engine_that_breaks_keeps_what_was_measured() {
    let load = load(1, Window::Ops(1_000_000), TimedBy::Operation);
    let load = Load {
        ramp: Nanos(0),
        ..load
    };
    let tally = go(&mut Fake::new(Behaviour::Breaks(500)), reads(), &load);
    assert_eq!(
        (tally.ops(), tally.broken()),
        (500, Some("the cable was pulled"))
    );
}

#[test]
fn it_stops_when_told_and_says_so() {
    let load = load(4, Window::Time(Nanos::SECOND * 100), TimedBy::Operation);
    let clock = Clock::get();
    let mut edges = Vec::new();
    let tally = drive(
        &mut NullEngine::new(load.depth),
        &mut reads(),
        &load,
        clock,
        Scratch::new(&load, &mut reads()),
        clock.now(),
        &mut |edge| {
            edges.push(edge);
            if edge == Edge::Interval {
                Step::Stop
            } else {
                Step::Go
            }
        },
    );
    assert!(tally.interrupted());
    assert_eq!(edges, [Edge::Open, Edge::Interval, Edge::Close]);
}

#[test]
fn a_batch_says_how_long_it_took_at_most() {
    let load = load(32, Window::Ops(100_000), TimedBy::Batch);
    let measured = go(&mut NullEngine::new(load.depth), reads(), &load).measured(Completes::Device);
    let latency = measured.latency_ns.expect("timed");
    let bound = latency.batch_error_ns.expect("told");
    assert!(
        bound > 0.0 && bound <= latency.max * 1.01,
        "{bound} of {}",
        latency.max
    );
}

/// A drive in memory whose sectors carry their numbers, except one.
struct Memory {
    buffers: Buffers,
    wrong: Option<u64>,
    held: Vec<(Slot, Op)>,
    wrote: Vec<u64>,
}

impl Engine for Memory {
    fn limits(&self) -> Limits {
        Limits {
            depth: 4,
            align: Bytes(512),
            completes: Completes::Device,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        let buffer = self.buffers.of(&slot);
        if op.kind == OpKind::Write {
            let number = payload::check(&buffer, op.at, op.len, |s| s.map(drop));
            number.expect("stamped before it is posted");
            self.wrote.push(op.at.0 / 512);
        } else {
            let mut block = vec![0; op.len.as_usize()];
            payload::fill(&mut block, op.at, 1, &mut Rng::new(1));
            for (n, word) in block.chunks(8).enumerate() {
                buffer.set_word(n * 8, u64::from_ne_bytes(word.try_into().expect("8")));
            }
            if self.wrong == Some(op.at.0) {
                buffer.set_word(512 * 3 + 8, 7);
            }
        }
        self.held.push((slot, op));
        Ok(())
    }

    fn ring(&mut self) -> Result<(), Fatal> {
        Ok(())
    }

    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
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
        Some(&self.buffers)
    }

    fn explain(&self, code: FailCode) -> String {
        format!("code {}", code.0)
    }
}

#[test]
fn each_read_is_checked_and_each_write_carries_its_number() {
    for timed_by in [TimedBy::Operation, TimedBy::Batch] {
        let load = load(4, Window::Ops(500), timed_by);
        let engine = |wrong| Memory {
            buffers: Buffers::new(
                load.depth,
                BLOCK,
                Want {
                    bytes: Bytes(0),
                    node: None,
                    huge: Huge::Never,
                    lock: Lock::Never,
                },
            )
            .expect("four pages"),
            wrong,
            held: Vec::new(),
            wrote: Vec::new(),
        };
        let mix = Mix::RandRw { read_percent: 50 };
        let mut right = engine(None);
        let tally = go(
            &mut right,
            Stream::new(mix, BLOCK, 16, 1).checked(true),
            &load,
        );
        sound(tally, Completes::Device, true);
        assert!(right.wrote.len() > 100 && right.wrote.iter().all(|n| n % 8 == 0));

        let tally = go(&mut engine(Some(5 * 4096)), reads_of(16), &load);
        assert!(tally.errors() > 0);
        assert_eq!(
            tally.failures().next().map(|f| f.0),
            Some(FailCode::MISMATCH)
        );
        let why = tally.broken().expect("told");
        assert!(why.contains("sector 43"), "{why}");
    }
}

fn reads_of(blocks: u64) -> Stream {
    Stream::new(Mix::RandRead, BLOCK, blocks, 1).checked(true)
}
