//! The poll loop's body: one look at each queue, all that waits there fetched and answered.
//!
//! Where no model is asked and no data moved a command costs a few loads, two stores and no call: no clock, no allocation, no
//! system call. The four kinds of controller (asked or not, moving or not) have loops of their own, so that none pays for
//! another.

use strata_nvme_spec::{CommandId, QueueId, Sqe, Status};
use strata_units::Nanos;

use crate::controller::{Controller, Models};
use crate::io::{Io, Request};
use crate::later::How;
use crate::model::Fate;
use crate::ring::Completions;

/// The most commands that are fetched from a queue at a time, so that no other one waits for long.
const FETCH: u32 = 256;

/// The bytes after which no other command is fetched from the same queue, where they are moved.
const FETCH_BYTES: u64 = 256 << 10;

/// What a command that the models were asked about does to the controller.
enum Then {
    /// It completes now.
    Completes(Status),
    /// It completes now, looking like one of the round before.
    Stale(Status),
    /// It completes later, or never.
    Waits,
    /// The controller fails.
    Fails,
    /// The controller is pulled out.
    Vanishes,
}

impl Controller {
    /// Looks at every queue once; how many commands were fetched or completed.
    #[inline]
    pub(crate) fn round(&mut self) -> u32 {
        if !self.live {
            return 0;
        }
        let done = match (self.models.asked, self.moves) {
            (false, false) => self.queues_once::<false, false>(),
            (false, true) => self.queues_once::<false, true>(),
            (true, false) => self.queues_once::<true, false>(),
            (true, true) => self.queues_once::<true, true>(),
        };
        done + self.admin_once()
    }

    #[inline(always)]
    fn queues_once<const ASKED: bool, const MOVES: bool>(&mut self) -> u32 {
        let mut done = 0;
        if ASKED {
            done += self.complete_due(self.clock.now());
        }
        // The admin queue is the first.
        for index in 1..self.queues.submissions.len() {
            done += self.fetch::<ASKED, MOVES>(index);
            if !self.live {
                break;
            }
        }
        done
    }

    /// Fetches and answers what waits in a queue, and of much the first part.
    #[inline(always)]
    fn fetch<const ASKED: bool, const MOVES: bool>(&mut self, index: usize) -> u32 {
        let Controller {
            queues,
            io,
            models,
            clock,
            ..
        } = self;
        let Some((queue, completions)) = queues.pair(index) else {
            return 0;
        };
        let waiting = queue.waiting();
        if waiting == 0 {
            return 0;
        }
        // Read when they are there: what came after an earlier reading would be done before its time.
        let now = if ASKED { clock.now() } else { Nanos(0) };
        let count = waiting.min(completions.room(waiting)).min(FETCH);
        let enough = io.worked + FETCH_BYTES;
        let mut done = 0;
        while done < count {
            done += 1;
            // A command's own words, and of the rest what reads, writes and ranges need.
            let own = queue.word(0).to_le();
            let (range, length) = (queue.word(5).to_le(), queue.word(6).to_le());
            let (prp1, prp2) = match MOVES {
                true => (queue.word(3).to_le(), queue.word(4).to_le()),
                false => (0, 0),
            };
            let sqe = Sqe::from_words([own, 0, 0, prp1, prp2, range, length, 0]);
            queue.advance();
            // By value where it is rare, so that the entry stays in registers where it is not.
            let then = match Io::transfers(&sqe) {
                true => match io.transfer(&sqe) {
                    Ok(request) => {
                        let step = (now, queue.id, sqe);
                        carry_out::<ASKED, MOVES>(models, io, completions, step, &request)
                    }
                    Err(status) => Then::Completes(io.health.failed(queue.id, sqe, status)),
                },
                false => {
                    let step = (now, queue.id, sqe);
                    carry_out_other::<ASKED, MOVES>(models, io, completions, step)
                }
            };
            if MOVES && io.torn {
                self.fail();
                return done;
            }
            match then {
                Then::Completes(status) => completions.post(queue, sqe.cid(), 0, status),
                Then::Stale(status) => completions.post_stale(queue, sqe.cid(), status),
                Then::Waits => {}
                Then::Fails => {
                    self.fail();
                    return done;
                }
                Then::Vanishes => {
                    self.remove();
                    return done;
                }
            }
            if MOVES && io.worked >= enough {
                break;
            }
        }
        if let Some(vector) = completions.interrupt() {
            self.signal(vector);
        }
        done
    }

    /// Completes what is due.
    fn complete_due(&mut self, now: Nanos) -> u32 {
        let mut done = 0;
        while let Some(due) = self.models.later.next(now) {
            done += 1;
            let Some(index) = self.queues.submission(due.queue) else {
                continue;
            };
            let Some((queue, completions)) = self.queues.pair(index) else {
                continue;
            };
            match due.how {
                // Nobody kept room for it.
                How::Again => {
                    completions.repeated();
                    if completions.room(1) > 0 {
                        completions.post(queue, due.cid, 0, due.status());
                    }
                }
                How::Once => {
                    completions.forgive();
                    completions.post(queue, due.cid, 0, due.status());
                }
                How::Stale => {
                    completions.forgive();
                    completions.post_stale(queue, due.cid, due.status());
                }
            }
            if let Some(vector) = completions.interrupt() {
                self.signal(vector);
            }
        }
        done
    }

    /// Completes a command that waits, for another reason than that it is due; whether it waited.
    pub(crate) fn bring_back(&mut self, id: QueueId, cid: CommandId, status: Status) -> bool {
        if !self.models.later.take(id, cid) {
            return false;
        }
        let Some(index) = self.queues.submission(id) else {
            return false;
        };
        let Some((queue, completions)) = self.queues.pair(index) else {
            return false;
        };
        completions.forgive();
        completions.post(queue, cid, 0, status);
        if let Some(vector) = completions.interrupt() {
            self.signal(vector);
        }
        true
    }

    /// Completes all commands of a queue that wait, since it is deleted.
    pub(crate) fn abandon(&mut self, index: usize) {
        let Controller { queues, models, .. } = self;
        let Some((queue, completions)) = queues.pair(index) else {
            return;
        };
        models.later.take_all(queue.id, |due| {
            if due.how == How::Again {
                completions.repeated();
                return;
            }
            completions.forgive();
            completions.post(queue, due.cid, 0, Status::SQ_DELETED);
        });
        if let Some(vector) = completions.interrupt() {
            self.signal(vector);
        }
    }
}

/// A command that is fetched: when, from which queue, and its entry.
type Step = (Nanos, QueueId, Sqe);

/// Does what a command asks for.
#[inline(always)]
fn carry_out<const ASKED: bool, const MOVES: bool>(
    models: &mut Models,
    io: &mut Io,
    completions: &mut Completions,
    step: Step,
    request: &Request,
) -> Then {
    if ASKED {
        return ask::<MOVES>(models, io, completions, step, request);
    }
    Then::Completes(act::<MOVES>(io, step.1, step.2, request))
}

/// The same for what is neither read nor write.
#[inline(never)]
fn carry_out_other<const ASKED: bool, const MOVES: bool>(
    models: &mut Models,
    io: &mut Io,
    completions: &mut Completions,
    step: Step,
) -> Then {
    match io.other(&step.2) {
        Ok(request) => carry_out::<ASKED, MOVES>(models, io, completions, step, &request),
        Err(status) => Then::Completes(io.health.failed(step.1, step.2, status)),
    }
}

/// Does it at once; its status.
#[inline(always)]
fn act<const MOVES: bool>(io: &mut Io, id: QueueId, sqe: Sqe, request: &Request) -> Status {
    if !MOVES {
        io.count(request);
        return Status::SUCCESS;
    }
    let status = io.carry_out(request);
    told(io, id, sqe, status)
}

/// What a command that was carried out is answered with: the log knows more where it failed.
#[inline(always)]
fn told(io: &mut Io, id: QueueId, sqe: Sqe, status: Status) -> Status {
    if status.is_success() {
        return status;
    }
    io.health.failed(id, sqe, status)
}

/// Asks the models what becomes of a command, and does it as far as it is done at all.
#[inline(never)]
fn ask<const MOVES: bool>(
    models: &mut Models,
    io: &mut Io,
    completions: &mut Completions,
    (now, id, sqe): Step,
    request: &Request,
) -> Then {
    let of = (id, sqe.cid());
    let fate = models.dice.fate(now, &request.access);
    let status = match fate {
        Fate::Fatal => return Then::Fails,
        Fate::Removed => return Then::Vanishes,
        Fate::Status(status) => io.health.failed(id, sqe, status),
        Fate::Corrupt if MOVES => {
            let status = io.corrupt(request);
            told(io, id, sqe, status)
        }
        _ => act::<MOVES>(io, id, sqe, request),
    };
    let mut at = models.pace.due(now, &request.access);
    let mut how = How::Once;
    match fate {
        Fate::Lost => return Then::Waits,
        Fate::Late(more) => at = at + more,
        // As many as the queue has entries wait for their second time; more are not kept.
        Fate::Twice(more) if completions.repeats() => {
            models.later.add(at + more, of, How::Again, status);
        }
        Fate::WrongPhase => how = How::Stale,
        _ => {}
    }
    if at <= now {
        return match how {
            How::Stale => Then::Stale(status),
            _ => Then::Completes(status),
        };
    }
    completions.owe();
    models.later.add(at, of, how, status);
    Then::Waits
}
