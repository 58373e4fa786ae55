//! What is done about commands that do not come back: they are aborted, and if that does not bring them back the controller
//! is reset. After that each has had exactly one answer, and the controller knows their memory no more.
//!
//! The clock is read once in many polls, so that the hot path has no part in it.

use std::time::{Duration, Instant};

use strata_nvme_spec::CommandId;
use strata_units::Nanos;

use super::{Answered, Command, Failure, IDLE, Requests, Resolved};
use crate::{Completion, Memory, NvmeError};

/// The clock is read each so many polls at most; more often where polls take long.
const POLLS: u32 = 1 << 14;

/// A deadline is so many beats.
const BEATS: u16 = 16;

/// How long an aborted command has for its completion.
const GRACE: Duration = Duration::from_millis(100);

/// When requests were last looked at.
pub(super) struct Watch {
    /// Polls until the clock is read.
    polls: u32,
    /// Polls from one reading to the next.
    every: u32,
    /// When it was read.
    looked: Instant,
    /// Time of a beat.
    beat: Duration,
    /// When the last one was over.
    last: Instant,
    /// In beats.
    now: u16,
    /// Beats without a completion.
    silent: u16,
    /// Whether there was one since the last beat.
    fresh: bool,
}

impl Watch {
    pub(super) fn new(deadline: Nanos) -> Watch {
        let now = Instant::now();
        Watch {
            polls: 1,
            every: 1,
            looked: now,
            beat: deadline.as_duration() / u32::from(BEATS),
            last: now,
            now: IDLE + 1,
            silent: 0,
            fresh: false,
        }
    }

    #[inline(always)]
    pub(super) fn now(&self) -> u16 {
        self.now
    }

    #[inline(always)]
    pub(super) fn fresh(&mut self) {
        self.fresh = true;
    }

    /// The next poll looks at the clock: somebody slept.
    pub(super) fn hurry(&mut self) {
        self.polls = 1;
    }

    /// One poll more; whether it is time to look at the clock.
    #[inline(always)]
    pub(super) fn is_due(&mut self) -> bool {
        self.polls -= 1;
        self.polls == 0
    }

    /// Reads the clock; whether a beat has passed. A thread that was stopped for long, and took no completions meanwhile,
    /// has but one behind it.
    fn beats(&mut self) -> bool {
        let now = Instant::now();
        // A poll takes long where data is checked behind it: then fewer of them fill a beat.
        self.every = if now - self.looked > self.beat / 4 {
            (self.every / 2).max(1)
        } else {
            (self.every * 2).min(POLLS)
        };
        (self.looked, self.polls) = (now, self.every);
        if now - self.last < self.beat {
            return false;
        }
        self.last = now;
        self.now = self.now.checked_add(1).unwrap_or(IDLE + 1);
        self.silent = match std::mem::take(&mut self.fresh) {
            true => 0,
            false => self.silent.saturating_add(1),
        };
        true
    }
}

impl<M: Memory> Requests<M> {
    /// The caller sleeps between polls, so that the next one looks at the clock.
    pub(crate) fn hurry(&mut self) {
        self.watch.hurry();
    }

    /// A request that was called back, or is now.
    #[cold]
    #[inline(never)]
    pub(super) fn called_back(&mut self) -> Option<Answered> {
        if self.answers.is_empty() {
            self.look();
        }
        self.answers.pop()
    }

    /// Looks at the clock, and whether anything is overdue. What has to be called back is answered among the answers.
    fn look(&mut self) {
        if !self.watch.beats() || self.outstanding() == 0 {
            return;
        }
        if !self.queue.is_alive() {
            // Waits for who resets it: until then it may still write to the requests' memory.
            let _ = self.queue.reset();
            self.end();
            self.give_up();
            return;
        }
        if self.watch.silent > 1
            && let Err(why) = self.queue.controller().health()
        {
            let said = why.to_string();
            if !matches!(why, NvmeError::Removed { .. }) {
                return self.reset(&said);
            }
            // What a reset comes to adds nothing to that.
            self.queue.blame(&said);
            let _ = self.queue.reset();
            self.over(said);
            return self.give_up();
        }
        let now = self.watch.now;
        let late = self.outstanding_where(|posted| now.wrapping_sub(posted) > BEATS);
        self.call_back(&late);
    }

    fn outstanding_where(&self, which: impl Fn(u16) -> bool) -> Vec<u16> {
        let commands = self.commands.iter();
        commands
            .filter(|c| c.is_outstanding() && which(c.since))
            .map(|c| c.cid)
            .collect()
    }

    /// Aborts commands, and waits a little for their completions.
    fn call_back(&mut self, late: &[u16]) {
        for cid in late {
            if let Err(why) = self.queue.abort(CommandId(*cid)) {
                return self.reset(&why.to_string());
            }
        }
        let until = Instant::now() + GRACE;
        loop {
            self.collect();
            if self.ended.is_some() {
                return self.forsake();
            }
            let is_left = |cid: &&u16| {
                let of = |c: &Command| c.cid == **cid && c.is_outstanding();
                self.commands.iter().any(of)
            };
            let Some(left) = late.iter().find(is_left) else {
                return;
            };
            if Instant::now() > until {
                let why = format!(
                    "command {left:#x} of queue {} did not complete within its deadline, and to abort it did not bring it back",
                    self.queue.id()
                );
                return self.reset(&why);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Takes the completions that are there, for later.
    fn collect(&mut self) {
        // One that is of nothing ends it: a controller that makes such ones never stops.
        while self.ended.is_none()
            && let Some(completion) = self.queue.rings_mut().take()
        {
            if let Resolved::Last(answered) = self.resolve(completion) {
                self.answers.push(answered);
            }
        }
    }

    /// After a completion of nothing that was given none is believed any more: the controller is reset.
    #[cold]
    pub(super) fn forsake(&mut self) {
        self.reset("it completes what it was not given");
    }

    /// Resets the controller, and answers all requests.
    fn reset(&mut self, why: &str) {
        let name = self.queue.controller().name();
        self.queue.blame(why);
        let said = match self.queue.reset() {
            Ok(()) => format!("{name} was reset: {why}"),
            Err(worse) => format!("{name} is lost: {why}; and then: {worse}"),
        };
        self.over(said);
        self.give_up();
    }

    /// Answers all requests of a queue that is no more. Where the controller has not stopped there is no answer: it may still
    /// write to their memory.
    fn give_up(&mut self) {
        if !self.queue.is_quiet() {
            return;
        }
        for index in 0..self.commands.len() {
            let command = &mut self.commands[index];
            if std::mem::replace(&mut command.since, IDLE) == IDLE {
                continue;
            }
            let number = index >> self.spread;
            let request = &mut self.requests[number];
            // Of a request of one command nothing is left to be counted.
            request.left = request.left.saturating_sub(1);
            if request.left == 0 {
                request.failure = None;
                self.answers.push((number as u16, Err(Failure::RESET)));
            }
        }
    }

    #[cold]
    pub(super) fn end(&mut self) -> String {
        let name = self.queue.controller().name();
        let why = self.queue.why();
        self.batch = 0;
        self.ended
            .get_or_insert_with(|| match why {
                Some(why) => {
                    format!("{name} failed another thread, and the queue is gone with that: {why}")
                }
                None => {
                    format!("{name} was reset by another thread, and the queue is gone with that")
                }
            })
            .clone()
    }

    #[cold]
    pub(super) fn stranger(&mut self, completion: Completion) {
        let why = format!(
            "{} completed command {:#x} of queue {} ({}), which was not outstanding: it completes commands twice, or such as it was never given",
            self.queue.controller().name(),
            completion.cid().0,
            self.queue.id(),
            completion.status(),
        );
        self.over(why);
    }

    /// Nothing more is posted, and no completion believed.
    fn over(&mut self, why: String) {
        self.batch = 0;
        self.ended.get_or_insert(why);
    }

    /// Waits until all that is outstanding has completed, and calls back what has not until `by`. What is still outstanding
    /// then is of a controller that did not stop.
    pub(crate) fn settle(&mut self, by: Instant) {
        // Of what was posted last the controller may not have been told.
        let _ = self.ring();
        while self.outstanding() > 0 {
            self.collect();
            if self.ended.is_some() {
                return self.reset("commands were outstanding");
            }
            if Instant::now() > by {
                let late = self.outstanding_where(|_| true);
                self.call_back(&late);
                if !self.queue.is_quiet() && self.ended.is_some() {
                    return;
                }
            }
        }
        self.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many beats of a poller that takes `poll` each time: how often the clock was read.
    fn beats(watch: &mut Watch, beats: u16, poll: Duration) -> u32 {
        let begin = Instant::now();
        let mut read = 0;
        while watch.now() < beats {
            assert!(begin.elapsed().as_secs() < 20, "{} beats", watch.now());
            std::thread::sleep(poll);
            if watch.is_due() {
                read += 1;
                watch.beats();
            }
        }
        read
    }

    #[test]
    fn a_poller_that_takes_its_time_keeps_deadlines() {
        let mut watch = Watch::new(Nanos::from_millis(160));
        let read = beats(&mut watch, BEATS + 1, Duration::from_millis(1));
        assert!(read > u32::from(BEATS));
    }

    #[test]
    fn one_that_has_slept_looks_at_the_clock_at_once() {
        let mut watch = Watch::new(Nanos::from_millis(160));
        // Fast polls until the clock is read rarely.
        while watch.every < POLLS {
            if watch.is_due() {
                watch.beats();
            }
        }
        assert!(!watch.is_due());
        watch.hurry();
        assert!(watch.is_due());
    }
}
