//! Admin commands (Base 5).

mod features;
mod identify;
mod logs;
mod queues;

pub(crate) use features::Features;
pub(crate) use identify::Identity;

use strata_nvme_spec::command::admin::Abort;
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::{QueueId, Sqe, Status};

use crate::controller::Controller;

/// Aborts that are taken at a time; each is done at once.
const ABORTS: u8 = 4;

const INVALID_FIELD: Status = Status::INVALID_FIELD.do_not_retry();

/// How a command that is not refused completes.
enum Answer {
    /// Now, with this dword 0.
    Now(u32),
    /// When there is an event.
    WithAnEvent,
}

impl Controller {
    /// Fetches and answers the admin commands that wait, and tells of events; how many there were.
    #[inline]
    pub(crate) fn admin_once(&mut self) -> u32 {
        let mut done = 0;
        // Those that are there now: a host that never stops is not the only thing to look at.
        let waiting = self.queues.pair(0).map_or(0, |(queue, _)| queue.waiting());
        while done < waiting
            && let Some((queue, completions)) = self.queues.pair(0)
        {
            if completions.room(1) == 0 {
                break;
            }
            let sqe = Sqe::from_words(queue.words());
            queue.advance();
            done += 1;
            self.answer(&sqe);
        }
        if self.events.has_next() {
            self.tell();
        }
        if done > 0
            && let Some((_, completions)) = self.queues.pair(0)
            && let Some(vector) = completions.interrupt()
        {
            self.signal(vector);
        }
        done
    }

    #[cold]
    fn answer(&mut self, sqe: &Sqe) {
        let (dword, status) = match self.admin(sqe) {
            Ok(Answer::Now(dword)) => (dword, Status::SUCCESS),
            Ok(Answer::WithAnEvent) => return,
            Err(status) => {
                let status = self.io.health.failed(QueueId::ADMIN, *sqe, status);
                (0, status)
            }
        };
        if let Some((queue, completions)) = self.queues.pair(0) {
            completions.post(queue, sqe.cid(), dword, status);
        }
    }

    /// Completes requests with events.
    #[cold]
    fn tell(&mut self) {
        while let Some((queue, completions)) = self.queues.pair(0) {
            if completions.room(1) == 0 {
                break;
            }
            let Some((request, event)) = self.events.next() else {
                break;
            };
            completions.post(queue, request, event.dword(), Status::SUCCESS);
        }
        if let Some((_, completions)) = self.queues.pair(0)
            && let Some(vector) = completions.interrupt()
        {
            self.signal(vector);
        }
    }

    fn admin(&mut self, sqe: &Sqe) -> Result<Answer, Status> {
        if sqe.is_fused() || !sqe.uses_prp() {
            return Err(INVALID_FIELD);
        }
        let done = |()| Answer::Now(0);
        match sqe.opcode {
            opcode::IDENTIFY => self.identify(sqe).map(done),
            opcode::CREATE_COMPLETION_QUEUE => self.create_completions(sqe).map(done),
            opcode::CREATE_SUBMISSION_QUEUE => self.create_submissions(sqe).map(done),
            opcode::DELETE_COMPLETION_QUEUE => self.delete_completions(sqe).map(done),
            opcode::DELETE_SUBMISSION_QUEUE => self.delete_submissions(sqe).map(done),
            opcode::GET_FEATURES => self.get_features(sqe).map(Answer::Now),
            opcode::SET_FEATURES => self.set_features(sqe).map(Answer::Now),
            opcode::GET_LOG_PAGE => self.get_log_page(sqe).map(done),
            opcode::ABORT => Ok(Answer::Now(self.abort(sqe))),
            opcode::ASYNC_EVENT_REQUEST => match self.events.ask(sqe.cid()) {
                true => Ok(Answer::WithAnEvent),
                false => Err(Status::EVENT_REQUEST_LIMIT.do_not_retry()),
            },
            _ => Err(Status::INVALID_OPCODE.do_not_retry()),
        }
    }

    /// Brings a command back that waits for its time or for an event; dword 0 (Base 5.1.1).
    fn abort(&mut self, sqe: &Sqe) -> u32 {
        let Abort { queue, command } = Abort::of(sqe);
        let status = Status::ABORT_REQUESTED;
        let aborted = match queue {
            // Without room for the completions of both, the request stays where it is.
            QueueId::ADMIN => {
                if let Some((queue, completions)) = self.queues.pair(0)
                    && completions.room(2) > 1
                    && self.events.withdraw(command)
                {
                    completions.post(queue, command, 0, status);
                    true
                } else {
                    false
                }
            }
            queue => self.bring_back(queue, command, status),
        };
        Abort::dword(aborted)
    }
}
