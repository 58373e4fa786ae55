//! The one loop.
//!
//! A trial on one thread goes through three phases: the ramp, whose operations are thrown away; the window, whose
//! completions are counted and timed; and the drain, in which nothing new is sent. All that happens rarely (the phases'
//! borders, the interval series, looking for an interruption) hangs on one comparison of the completion's tick with the
//! next *edge*, so that the hot path is: draw an operation, post, ring, reap, read the clock, subtract, record.
//!
//! In a closed loop an operation's time runs from the clock reading that ended the reap before it was posted. It contains the harness's own
//! cost (which is measured and printed), never less than the truth, and needs no second reading. In an open loop it runs
//! from the moment at which the schedule wanted it to start: what waits behind a stall has waited.

use strata_record::TimedBy;
use strata_units::{Bytes, Nanos};

use crate::content::Content;
use crate::load::Schedule;
use crate::payload::Fault;
use crate::tally::{Faults, Intervals, Polls, Schedules};
use crate::times::Times;
use crate::{
    Clock, Engine, FailCode, Load, Op, OpKind, Outcome, Refusal, Slot, Stream, Tally, Tick, Wait,
    Window,
};

/// A moment at which the loop calls its owner back. The calls are outside the hot path, some milliseconds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The window opens.
    Open,
    /// An interval of the series, or of the ramp, is over.
    Interval,
    /// The window has closed.
    Close,
}

/// What the loop is to do after an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Go,
    /// Stop now; the trial counts as interrupted.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ramp,
    Window,
    Drain,
}

/// After so many failed operations a trial is given up.
const MOST_ERRORS: u64 = 1000;

/// A spinning engine that has nothing looks at the clock each so many polls.
const LOOK: u32 = 64;

struct Progress<'a> {
    clock: Clock,
    phase: Phase,
    next_edge: Tick,
    opens: Tick,
    closes: Tick,
    /// Whether there is a ramp.
    ramped: bool,
    interval: Nanos,
    /// Where the current phase's intervals begin, how many edges of it have passed, and the next one.
    phase_began: Tick,
    edges: u64,
    interval_edge: Tick,
    limit: u64,
    ops: u64,
    ops_at_edge: u64,
    bytes: u64,
    sum: u64,
    times: Times,
    fresh: Option<Times>,
    longest_batch: u64,
    faults: Faults,
    intervals: Intervals,
    last: Tick,
    ended: Tick,
    /// Of the current phase, and of the window when it has closed.
    polls: Polls,
    window_polls: Polls,
    interrupted: bool,
    mismatch: Option<Fault>,
    /// Of an open loop's operations of the current phase: how many were posted, and their waits in nanoseconds.
    posted: u64,
    waited: u64,
    on_edge: &'a mut dyn FnMut(Edge) -> Step,
}

impl Progress<'_> {
    /// One operation that took from `start` to `at`.
    #[inline(always)]
    fn complete(&mut self, start: Tick, at: Tick, bytes: Bytes) {
        self.timed(start, at);
        self.counted(at, 1, bytes.0);
    }

    #[inline(always)]
    fn timed(&mut self, start: Tick, at: Tick) {
        let nanos = self.clock.nanos(at.since(start));
        self.times.record(nanos);
        self.sum += nanos;
    }

    #[inline(always)]
    fn counted(&mut self, at: Tick, ops: u64, bytes: u64) {
        self.bytes += bytes;
        self.ops += ops;
        if self.ops >= self.limit {
            self.full(at);
        }
    }

    /// Whether what completes at `at` counts. While draining nothing does, and every tick is at the edge.
    #[inline(always)]
    fn counts(&mut self, at: Tick) -> bool {
        at < self.next_edge || self.counts_at_edge(at)
    }

    #[cold]
    fn counts_at_edge(&mut self, at: Tick) -> bool {
        let by_count = self.limit != u64::MAX;
        if by_count && self.phase == Phase::Ramp && at >= self.opens && self.ramped {
            // A window by count opens with a completion, which is not of it: opened between two, it would count the
            // whole time of an operation that began before.
            self.opens = at;
            self.edge(at);
            return false;
        }
        self.edge(at);
        self.phase != Phase::Drain
    }

    /// The count is reached: the window closes with this operation. In the ramp it says nothing.
    #[cold]
    fn full(&mut self, at: Tick) {
        if self.phase == Phase::Window {
            self.close(at);
        }
    }

    fn close(&mut self, at: Tick) {
        if self.phase == Phase::Ramp {
            // The ramp's operations are no figure, also when there never was a window.
            (self.ops, self.bytes, self.sum) = (0, 0, 0);
            self.polls = Polls::default();
            self.times = Times::new();
            self.opens = at;
        }
        self.phase = Phase::Drain;
        self.window_polls = std::mem::take(&mut self.polls);
        self.ended = at;
        self.next_edge = Tick::FIRST;
        (self.on_edge)(Edge::Close);
    }

    fn open(&mut self) {
        self.phase = Phase::Window;
        if let Some(fresh) = self.fresh.take() {
            self.times = fresh;
        }
        (
            self.ops,
            self.ops_at_edge,
            self.bytes,
            self.sum,
            self.longest_batch,
        ) = (0, 0, 0, 0, 0);
        (self.posted, self.waited) = (0, 0);
        self.polls = Polls::default();
        (self.phase_began, self.edges) = (self.opens, 0);
        self.next_interval();
        (self.on_edge)(Edge::Open);
    }

    /// Reckoned from the phase's beginning, so that rounding does not add up.
    fn next_interval(&mut self) {
        self.edges += 1;
        self.interval_edge = self
            .clock
            .after(self.phase_began, self.interval * self.edges);
    }

    /// A completion, or an idle look at the clock, at or after the next edge.
    fn edge(&mut self, at: Tick) {
        if self.phase == Phase::Drain {
            return;
        }
        if self.phase == Phase::Ramp && at >= self.opens {
            self.open();
        }
        let mut passed = false;
        while self.interval_edge <= at.min(self.closes) {
            if self.phase == Phase::Window {
                self.intervals.push(self.ops - self.ops_at_edge);
                self.ops_at_edge = self.ops;
            }
            self.next_interval();
            passed = true;
        }
        if self.phase == Phase::Window && at >= self.closes {
            return self.close(self.closes);
        }
        if passed && (self.on_edge)(Edge::Interval) == Step::Stop {
            self.interrupted = true;
            return self.close(at);
        }
        let border = if self.phase == Phase::Ramp {
            self.opens
        } else {
            self.closes
        };
        self.next_edge = border.min(self.interval_edge);
    }

    #[cold]
    fn fault(&mut self, code: FailCode) {
        self.faults.add(code, 1);
    }
}

/// The memory that a trial counts in, there and touched before the trial begins, so that its making is in no window.
pub struct Scratch {
    ramp: Times,
    window: Times,
    intervals: Intervals,
    free: Free,
    starts: Box<[Tick]>,
    content: Option<Content>,
}

impl Scratch {
    /// For one trial of `stream` under `load`.
    pub fn new(load: &Load, stream: &mut Stream) -> Scratch {
        let depth = usize::from(load.depth.get());
        let interval = match load.window {
            Window::Time(span) => Nanos((span.0 / 100).clamp(10_000_000, 1_000_000_000)),
            Window::Ops(_) => Nanos::from_millis(10),
        };
        Scratch {
            ramp: Times::new(),
            window: Times::new(),
            intervals: Intervals::new(interval),
            free: Free::all(load.depth.get()),
            starts: vec![Tick::NEVER; depth].into_boxed_slice(),
            content: Content::of(stream, depth),
        }
    }
}

/// The slots that are free, as a stack: the last to come back is on top, its buffer still in the cache.
struct Free {
    indices: Box<[u16]>,
    len: usize,
}

impl Free {
    fn all(depth: u16) -> Free {
        Free {
            indices: (0..depth).rev().collect(),
            len: usize::from(depth),
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<Slot> {
        self.len = self.len.checked_sub(1)?;
        Some(Slot::new(self.indices[self.len]))
    }

    #[inline(always)]
    fn push(&mut self, slot: Slot) {
        self.indices[self.len] = slot.index() as u16;
        self.len += 1;
    }

    /// Those that came back since there were `before`.
    #[inline(always)]
    fn since(&self, before: usize) -> &[u16] {
        &self.indices[before..self.len]
    }
}

/// A clock reading once a batch, by a call: unfolded where each completion is taken it would keep that from being inlined.
#[inline(never)]
fn now_once(clock: Clock) -> Tick {
    clock.now()
}

/// Runs one trial of `stream` on `engine` from the tick `start` on, and says what it counted.
///
/// A window by count closes with the operation that reaches it, or, timed by batch, with the batch that does.
///
/// `on_edge` is called when the window opens and closes, and at the end of each interval (a hundredth of a timed window,
/// between 10 ms and 1 s); it may stop the loop. What breaks the trial stands in the tally: a fatal error of the engine,
/// operations that never came back, or a thousand failed ones.
pub fn drive<E: Engine>(
    engine: &mut E,
    stream: &mut Stream,
    load: &Load,
    clock: Clock,
    scratch: Scratch,
    start: Tick,
    on_edge: &mut dyn FnMut(Edge) -> Step,
) -> Tally {
    let run = match (load.timed_by, load.offer.is_some()) {
        (TimedBy::Operation, false) => run::<E, false, false>,
        (TimedBy::Batch, false) => run::<E, true, false>,
        (TimedBy::Operation, true) => run::<E, false, true>,
        (TimedBy::Batch, true) => run::<E, true, true>,
    };
    run(engine, stream, load, clock, scratch, start, on_edge)
}

fn run<E: Engine, const BATCH: bool, const OPEN: bool>(
    engine: &mut E,
    stream: &mut Stream,
    load: &Load,
    clock: Clock,
    scratch: Scratch,
    start: Tick,
    on_edge: &mut dyn FnMut(Edge) -> Step,
) -> Tally {
    let limits = engine.limits();
    let depth = load.depth.get();
    let opens = clock.after(start, load.ramp);
    let (closes, limit) = match load.window {
        Window::Time(span) => (clock.after(opens, span), u64::MAX),
        Window::Ops(ops) => (Tick::NEVER, ops),
    };
    let interval = scratch.intervals.length;
    let interval_edge = clock.after(start, interval);
    let mut at = Progress {
        clock,
        phase: Phase::Ramp,
        next_edge: opens.min(interval_edge),
        opens,
        closes,
        ramped: load.ramp > Nanos(0),
        interval,
        phase_began: start,
        edges: 1,
        interval_edge,
        limit,
        ops: 0,
        ops_at_edge: 0,
        bytes: 0,
        sum: 0,
        times: scratch.ramp,
        fresh: Some(scratch.window),
        longest_batch: 0,
        faults: Faults::default(),
        intervals: scratch.intervals,
        last: start,
        ended: start,
        polls: Polls::default(),
        window_polls: Polls::default(),
        interrupted: false,
        mismatch: None,
        posted: 0,
        waited: 0,
        on_edge,
    };

    let (mut free, mut starts) = (scratch.free, scratch.starts);
    let mut content = scratch.content;
    let mut schedule = load
        .offer
        .map(|offer| Schedule::new(offer, clock, start, stream.seed()));
    // An open loop looks at the clock all the time; a thread that sleeps would start late.
    let wait = if OPEN { Wait::Spin } else { limits.wait };
    let mut refused: Option<Op> = None;
    let mut idle = 0u32;
    let mut broken: Option<String> = None;
    if load.ramp == Nanos(0) {
        at.edge(start);
    }

    // What is in flight when somebody stops the trial is not waited for, but called back.
    'trial: while at.phase != Phase::Drain || (!at.interrupted && free.len() < usize::from(depth)) {
        if at.phase != Phase::Drain {
            while let Some(slot) = free.pop() {
                if OPEN && let Some(schedule) = &schedule {
                    let now = clock.now();
                    if schedule.due() > now || now >= at.closes {
                        free.push(slot);
                        break;
                    }
                    at.last = now;
                }
                let op = if let Some(content) = &mut content {
                    match content.next(refused.take(), stream, engine, &slot) {
                        Ok(Some(op)) => {
                            if !OPEN && op.kind == OpKind::Write {
                                // What stamping takes is not the operation's time.
                                at.last = clock.now();
                            }
                            op
                        }
                        Ok(None) => {
                            free.push(slot);
                            break;
                        }
                        Err(why) => {
                            broken = Some(why.to_owned());
                            break 'trial;
                        }
                    }
                } else if let Some(again) = refused {
                    refused = None;
                    again
                } else {
                    stream.next_op()
                };
                let index = slot.index();
                if let Err(no) = engine.post(slot, op) {
                    refused = Some(no.op);
                    free.push(no.slot);
                    match no.why {
                        Refusal::Full => break,
                        Refusal::Fatal(why) => {
                            broken = Some(why.0);
                            break 'trial;
                        }
                    }
                }
                starts[index] = at.last;
                if OPEN && let Some(schedule) = &mut schedule {
                    starts[index] = schedule.due();
                    at.posted += 1;
                    at.waited += clock.between(schedule.due(), at.last).0;
                    schedule.advance();
                }
            }
        }
        // While draining too: an engine that works here, rather than in a queue, may be half way through an operation.
        if let Err(why) = engine.ring() {
            broken = Some(why.0);
            break;
        }

        let (mut first, mut bytes_done) = (None, 0);
        let (before, faults_before) = (free.len(), at.faults.count);
        at.polls.all += 1;
        let reaped = engine.reap(wait, |slot, outcome| {
            // The first of a batch is timed to know how long the batch takes.
            if BATCH && first.is_none() {
                first = Some(now_once(clock));
            }
            if !BATCH {
                at.last = clock.now();
            }
            match outcome {
                Outcome::Done(bytes) if BATCH => bytes_done += bytes.0,
                Outcome::Done(bytes) => {
                    let now = at.last;
                    if at.counts(now) {
                        at.complete(starts[slot.index()], now, bytes);
                    }
                }
                Outcome::Failed(code) => {
                    at.fault(code);
                    starts[slot.index()] = Tick::NEVER;
                    if let Some(content) = &mut content {
                        content.failed(slot.index());
                    }
                }
            }
            free.push(slot);
        });
        let reaped = match reaped {
            Ok(n) => n,
            Err(why) => {
                broken = Some(why.0);
                break;
            }
        };
        if reaped == 0 {
            at.polls.empty += 1;
            idle += 1;
            if wait == Wait::Spin && idle < LOOK {
                continue;
            }
            idle = 0;
            let now = clock.now();
            // A window by count opens with a completion only.
            let opens_later = at.phase == Phase::Ramp && at.limit != u64::MAX && now >= at.opens;
            if now >= at.next_edge && !opens_later {
                at.edge(now);
            }
            let waits = !OPEN || free.len() < usize::from(depth);
            if waits && clock.between(at.last, now) > load.patience {
                broken = Some(format!(
                    "no operation completed for {} with {} in flight; look for the target in the kernel's log (dmesg)",
                    load.patience,
                    usize::from(depth) - free.len(),
                ));
                break;
            }
            continue;
        }
        if BATCH && let Some(first) = first {
            let now = clock.now();
            at.last = now;
            if at.counts(now) {
                at.longest_batch = at.longest_batch.max(now.since(first));
                let done = free.since(before);
                let failed = at.faults.count - faults_before;
                if !limits.has_latency {
                    // Nobody is told a time that nobody knows.
                } else if failed == 0 {
                    done.iter()
                        .for_each(|index| at.timed(starts[usize::from(*index)], now));
                } else {
                    done.iter()
                        .map(|index| starts[usize::from(*index)])
                        .filter(|start| *start != Tick::NEVER)
                        .for_each(|start| at.timed(start, now));
                }
                at.counted(now, done.len() as u64 - failed, bytes_done);
            }
        }
        if let Some(content) = &mut content
            && content.is_checked()
        {
            content.reaped(engine, free.since(before), |fault| {
                at.fault(FailCode::MISMATCH);
                at.mismatch.get_or_insert(fault);
            });
            // What checking takes is not the next operation's time.
            at.last = clock.now();
        }
        if at.faults.count >= MOST_ERRORS {
            broken = Some(format!("given up after {MOST_ERRORS} failed operations"));
            break;
        }
    }

    if at.phase != Phase::Drain {
        let now = clock.now();
        at.close(now);
    }
    let mut lost = 0;
    if let Err(stuck) = engine.quiesce(clock.after(clock.now(), load.patience)) {
        lost = stuck.operations as u64;
        broken = Some(match broken {
            // Told once.
            Some(why) if why.contains(&stuck.why) => format!(
                "{why}; {} operations never came back, and their memory is kept until the process ends",
                stuck.operations
            ),
            Some(why) => format!("{why}; {stuck}"),
            None => stuck.to_string(),
        });
    }
    if let Some(Fault { sector, wrong }) = at.mismatch {
        broken.get_or_insert(format!(
            "the target returned wrong data: sector {sector} {wrong}"
        ));
    }
    Tally {
        ops: at.ops,
        bytes: at.bytes,
        faults: at.faults,
        window: clock.between(at.opens, at.ended),
        sum_ns: at.sum,
        times: limits.has_latency.then_some(at.times),
        longest_batch: (BATCH && limits.has_latency).then(|| Nanos(clock.nanos(at.longest_batch))),
        intervals: at.intervals,
        lost,
        polls: (wait == Wait::Spin).then_some(at.window_polls),
        broken,
        interrupted: at.interrupted,
        schedules: schedule.map(|schedule| Schedules {
            offered: load.offer.map_or(0.0, |offer| offer.ops_per_s()),
            unstarted: schedule.until(at.ended),
            posted: at.posted,
            waited: at.waited,
        }),
    }
}
