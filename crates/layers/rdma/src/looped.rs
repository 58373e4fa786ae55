//! The engine of a thread: its bench under the one loop.

use std::time::{Duration, Instant};

use strata_measure::two_sides::{Begins, Begun};
use strata_measure::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, Outcome, Refused, Slot, Stuck, Tick, Wait,
};
use strata_record::PagesProof;
use strata_units::{Bytes, Nanos};

use crate::account::Accounts;
use crate::bench::Bench;
use crate::meeting::{GONE, Meeting};
use crate::shape::{Counts, Shape, Side};
use crate::sink::{RECEIVED, Sink};
use crate::source::Source;
use crate::verbs::{Completion, CompletionQueue, Status, VerbsError};

/// The longest sleep before a loop looks at its clock.
const SLEEP: Nanos = Nanos::from_millis(50);

/// A loop that finds nothing looks so often whether the other side is there.
const LOOKS: u32 = 1 << 12;

/// How long the other side may take to close, when we have.
const LINGER: Duration = Duration::from_secs(5);

/// How long nothing arrives before what is still missing is taken for lost.
const LAST: Duration = Duration::from_millis(20);

/// How long a look takes a rest that has found nothing, when nothing is timed any more.
const IDLE: Duration = Duration::from_micros(50);

/// How long what was begun may take to come back, when nobody counts it.
const SETTLES: Duration = Duration::from_secs(2);

/// One thread's queue pairs, measured.
pub(crate) struct VerbsLoop<'a> {
    bench: Bench,
    slots: Box<[Option<Slot>]>,
    /// Operations that wait for the next doorbell.
    posted: Vec<u32>,
    /// Those that have completed and are handed out next.
    came: Vec<u32>,
    /// Those that go on beside, and are to begin again.
    again: Vec<u32>,
    counts: Option<Counts>,
    limits: Limits,
    meeting: &'a Meeting<'a>,
    accounts: &'a Accounts,
    begins: &'a Begins,
    ready: Option<Instant>,
    begun: bool,
    broken: Option<String>,
    /// Whether the loop takes what it has posted and posts nothing more.
    draining: bool,
    /// Whether the loop is over.
    finishing: bool,
    /// Whether nothing more is begun.
    stopping: bool,
    /// Completions that the last look found, whether or not they are counted.
    polled: usize,
    /// Looks that found nothing.
    idle: u32,
    /// Receives that the loop was handed since it last posted.
    handed: Vec<u32>,
    bytes: Bytes,
    pages: Vec<PagesProof>,
    notes: Vec<String>,
}

impl<'a> VerbsLoop<'a> {
    pub(crate) fn new(
        bench: Bench,
        shape: &Shape,
        side: Side,
        meeting: &'a Meeting<'a>,
        accounts: &'a Accounts,
        begins: &'a Begins,
    ) -> VerbsLoop<'a> {
        let counts = shape.counts(side);
        let slots = match (counts, &bench.sink, &bench.source, &bench.pingpong) {
            (Some(Counts::Received), Some(sink), ..) => sink.slots(),
            (_, _, _, Some(pingpong)) => pingpong.lanes(),
            (_, _, Some(source), _) => source.slots(),
            _ => 0,
        };
        let limits = Limits {
            depth: u16::try_from(slots).unwrap_or(u16::MAX),
            align: Bytes(1),
            completes: shape.completes(counts),
            // Who is told of some operations alone does not know when the others completed; and who makes and checks what
            // they carry would time that too.
            has_latency: matches!(counts, Some(Counts::Initiated | Counts::Exchanges))
                && shape.verbs.signal_every == 1
                && !shape.workload.verify,
            wait: if shape.engine.events {
                Wait::Block { at_most: SLEEP }
            } else {
                Wait::Spin
            },
        };
        VerbsLoop {
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
            posted: Vec::with_capacity(slots),
            came: Vec::with_capacity(slots),
            again: Vec::with_capacity(bench.source.as_ref().map_or(0, Source::slots)),
            bench,
            counts,
            limits,
            meeting,
            accounts,
            begins,
            ready: None,
            begun: false,
            broken: None,
            draining: false,
            finishing: false,
            stopping: false,
            polled: 0,
            idle: 0,
            handed: Vec::with_capacity(slots),
            bytes: shape.bytes(),
            pages: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// One look; how many operations completed.
    #[inline(always)]
    fn look(&mut self, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        if let Some(why) = &self.broken {
            return Err(Fatal(why.clone()));
        }
        let failed = match &mut self.bench.pingpong {
            Some(pingpong) => {
                self.polled = pingpong.poll(|n| self.came.push(n as u32))?;
                None
            }
            None => self.take()?,
        };
        let mut completed = 0;
        if let Some((n, code)) = failed {
            completed += self.hand_failed(n, code, &mut done);
        }
        if self.draining {
            // Nothing more is counted: whether as much comes as is awaited is of no matter.
            self.came.extend(0..self.slots.len() as u32);
        }
        for n in self.came.drain(..) {
            if let Some(slot) = self.slots.get_mut(n as usize).and_then(Option::take) {
                completed += 1;
                done(slot, Outcome::Done(self.bytes));
            }
        }
        if self.polled == 0 {
            self.nothing()?;
        }
        self.beside()?;
        Ok(completed)
    }

    /// Takes completions; the first operation that failed.
    #[inline(always)]
    fn take(&mut self) -> Result<Option<(u32, FailCode)>, Fatal> {
        let receives = self.counts == Some(Counts::Received);
        let (source, sink) = (&mut self.bench.source, &mut self.bench.sink);
        let mut failed = None;
        let mut queue = self.bench.queue.borrow_mut();
        let polled = queue.poll().map_err(|e| Fatal(e.to_string()))?;
        self.polled = polled.len();
        for c in polled {
            if !c.status.is_success() {
                failed.get_or_insert(c);
            } else if c.id & RECEIVED != 0 {
                let Some(sink) = sink else { continue };
                let n = sink.arrived(c.id, c.bytes);
                if receives && self.slots.get(n as usize).is_some_and(Option::is_some) {
                    self.came.push(n);
                    self.handed.push(n);
                } else {
                    sink.post(n);
                }
            } else if let Some(source) = source {
                let done = if receives {
                    &mut self.again
                } else {
                    &mut self.came
                };
                if let Err(wrong) = source.completed(c.id, done) {
                    self.broken.get_or_insert_with(|| wrong.to_string());
                }
            }
        }
        drop(queue);
        if receives && let Some(source) = source {
            // What goes beside goes on.
            if !self.stopping {
                source.post(&self.again);
            }
            self.again.clear();
        }
        Ok(failed.and_then(|c| self.fail(c)))
    }

    #[cold]
    fn fail(&mut self, c: Completion) -> Option<(u32, FailCode)> {
        let why = || format!("queue pair {} failed: {}", c.queue_pair, c.status.explain());
        let why = self.broken.get_or_insert_with(why);
        // The other threads need not wait for their windows' end.
        self.meeting.end(why);
        if c.status.is_flushed() {
            return None;
        }
        Some((c.id as u32, FailCode(c.status.0)))
    }

    #[cold]
    fn hand_failed(
        &mut self,
        n: u32,
        code: FailCode,
        done: &mut dyn FnMut(Slot, Outcome),
    ) -> usize {
        let slot = self.slots.get_mut(n as usize).and_then(Option::take);
        slot.map_or(0, |slot| {
            done(slot, Outcome::Failed(code));
            1
        })
    }

    /// Now and then, when nothing comes: the loop looks for no interruption while it drains, and who receives would wait for
    /// what nobody sends any more.
    #[inline]
    fn nothing(&mut self) -> Result<(), Fatal> {
        self.idle = self.idle.wrapping_add(1);
        let looks = self.counts == Some(Counts::Received) && self.idle.is_multiple_of(LOOKS);
        if looks && !self.finishing && self.meeting.is_off() {
            let why = self.meeting.ended();
            return Err(Fatal(why.unwrap_or_else(|| GONE.to_owned())));
        }
        Ok(())
    }

    /// Looks, and where nothing has come sleeps and looks again.
    #[inline(never)]
    fn look_or_sleep(
        &mut self,
        at_most: Nanos,
        mut done: impl FnMut(Slot, Outcome),
    ) -> Result<usize, Fatal> {
        type Step = fn(&mut CompletionQueue, Nanos) -> Result<(), VerbsError>;
        // What came before it was armed is told to nobody.
        let steps: [Step; 3] = [
            |_, _| Ok(()),
            |queue, _| queue.arm(),
            |queue, at_most| queue.wait(at_most).map(drop),
        ];
        for step in steps {
            let stepped = step(&mut self.bench.queue.borrow_mut(), at_most);
            stepped.map_err(|e| Fatal(e.to_string()))?;
            let n = self.look(&mut done)?;
            if self.polled > 0 {
                return Ok(n);
            }
        }
        Ok(0)
    }

    #[cold]
    fn begin(&mut self) {
        self.begun = true;
        if let Some(ready) = self.ready {
            let posted = Instant::now();
            self.begins.add(Begun { ready, posted });
        }
    }

    /// Sends off what goes on beside the loop.
    #[inline(always)]
    fn beside(&mut self) -> Result<(), Fatal> {
        match (self.counts, &mut self.bench.source, &mut self.bench.sink) {
            (Some(Counts::Received), Some(source), _) => source.ring(),
            (Some(Counts::Initiated), _, Some(sink)) => sink.ring(),
            (None, Some(source), sink) if self.finishing => {
                source.ring()?;
                sink.as_mut().map_or(Ok(()), Sink::ring)
            }
            (None, _, Some(sink)) => sink.ring(),
            _ => Ok(()),
        }
    }

    /// Goes on as before, and counts nothing, until `enough`, for so long at most.
    fn go_on(&mut self, at_most: Duration, mut enough: impl FnMut(&Self, bool) -> bool) {
        let begun = Instant::now();
        // Who has closed may be gone by now, and what it sent before is still to be taken.
        let thread = self.bench.thread;
        let goes =
            |meeting: &Meeting<'_>| !meeting.is_off() || meeting.their_deeds(thread).is_some();
        while begun.elapsed() < at_most && self.broken.is_none() && goes(self.meeting) {
            let before = self.arrived();
            let polled = self.look(|_, _| {});
            if polled.and_then(|_| self.receive_again()).is_err() {
                return;
            }
            let moved = self.arrived() != before;
            if enough(self, moved) {
                return;
            }
            if !moved {
                std::thread::sleep(IDLE);
            }
        }
    }

    /// Of a loop that counts what comes: the receives that came back are posted again, as the loop does it no more.
    fn receive_again(&mut self) -> Result<(), Fatal> {
        match (self.counts, &mut self.bench.sink) {
            (Some(Counts::Received), Some(sink)) => sink.ring(),
            _ => Ok(()),
        }
    }

    /// Goes on until the other side has closed, and for as long as something still comes.
    fn linger(&mut self) {
        let thread = self.bench.thread;
        let mut last = Instant::now();
        self.go_on(LINGER, |this, moved| {
            if moved || this.meeting.their_deeds(thread).is_none() {
                last = Instant::now();
            }
            // Who takes nothing need not wait for more.
            this.meeting.their_deeds(thread).is_some()
                && (this.bench.sink.is_none() || last.elapsed() > LAST)
        });
    }

    fn arrived(&self) -> u64 {
        let sink = self.bench.sink.as_ref();
        sink.map_or(0, |sink| sink.all_arrived().sum())
    }

    /// Waits until what it began has come back, where it is not the loop that counts it.
    fn settle(&mut self) {
        self.stopping = true;
        self.go_on(SETTLES, |this, _| {
            this.bench.source.as_ref().is_none_or(Source::is_idle)
        });
    }
}

impl Engine for VerbsLoop<'_> {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn ready(&mut self) -> Result<(), Fatal> {
        self.meeting.until_connected()?;
        // What goes beside begins here.
        if self.counts == Some(Counts::Received)
            && let Some(source) = &mut self.bench.source
        {
            let all: Vec<u32> = (0..source.slots() as u32).collect();
            source.post(&all);
        }
        self.ready = Some(Instant::now());
        Ok(())
    }

    #[inline(always)]
    fn post(&mut self, slot: Slot, _: Op) -> Result<(), Refused> {
        let n = slot.index();
        self.posted.push(n as u32);
        if let Some(place) = self.slots.get_mut(n) {
            *place = Some(slot);
        }
        Ok(())
    }

    #[inline(always)]
    fn ring(&mut self) -> Result<(), Fatal> {
        if !self.begun && !self.posted.is_empty() {
            self.begin();
        }
        let bench = &mut self.bench;
        let rung = match (&mut bench.pingpong, &mut bench.source, &mut bench.sink) {
            (Some(pingpong), ..) => self
                .posted
                .iter()
                .try_for_each(|n| pingpong.send(*n as usize)),
            (None, _, Some(sink)) if self.counts == Some(Counts::Received) => {
                self.posted.iter().for_each(|n| sink.post(*n));
                // What the loop has not posted again it does not want any more: it drains, and the sender goes on.
                for n in self.handed.drain(..) {
                    self.draining |= self.slots.get(n as usize).is_some_and(Option::is_none);
                    sink.post(n);
                }
                sink.ring()
            }
            (None, Some(source), _) => {
                source.post(&self.posted);
                source.ring()
            }
            _ => Ok(()),
        };
        self.posted.clear();
        rung
    }

    #[inline(always)]
    fn reap(&mut self, how: Wait, done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        match how {
            Wait::Spin => self.look(done),
            Wait::Block { at_most } => self.look_or_sleep(at_most, done),
        }
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        self.finishing = true;
        self.meeting.finish();
        if self.counts == Some(Counts::Received) && self.bench.source.is_some() {
            // The other side's window may not be over, and needs what is sent beside.
            self.go_on(LINGER, |this, _| this.meeting.they_are_over());
        }
        if self.counts != Some(Counts::Initiated) {
            self.settle();
        }
        self.meeting.close(self.bench.thread, self.bench.deeds());
        self.linger();
        let theirs = self.meeting.their_deeds(self.bench.thread);
        let mut account = self.bench.account(theirs.as_ref());
        if theirs.is_none() && self.broken.is_none() && !self.meeting.is_off() {
            account.wrong.get_or_insert_with(|| format!(
                "the other side did not close within {LINGER:?}, so that what it sent cannot be held against what came"
            ));
        }
        self.pages.clone_from(&account.pages);
        self.notes.clone_from(&account.notes);
        self.accounts.add(account);
        // What is still in flight ends with its queue pair, before the memory that it is of.
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        None
    }

    fn explain(&self, code: FailCode) -> String {
        Status(code.0).explain()
    }

    fn pages(&self) -> Result<Vec<PagesProof>, String> {
        Ok(self.pages.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
