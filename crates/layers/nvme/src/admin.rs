//! The admin queue pair: one command at a time, and asynchronous event requests that wait behind it.

use std::thread;
use std::time::{Duration, Instant};

use strata_nvme_spec::command::admin::async_event_request;
use strata_nvme_spec::prp::{ENTRY, contiguous};
use strata_nvme_spec::registers::Aqa;
use strata_nvme_spec::{AsyncEvent, CommandId, PageSize, QueueSize, Sqe, Status};
use strata_units::{Bytes, Iova, Nanos};
use zerocopy::FromBytes;

use crate::registers::{Capabilities, Registers};
use crate::{Bell, Completion, Layout, NvmeError, Rings, RingsError, Unbound};

/// One command, a few event requests, and room for what a controller completes that nobody gave.
const SUBMISSIONS: QueueSize = QueueSize::new(32).unwrap();
const COMPLETIONS: QueueSize = QueueSize::new(64).unwrap();
/// Most asynchronous event requests.
const EVENTS: u16 = 4;
/// The longest answer, with a page behind it for its PRP list.
pub(crate) const LONGEST: Bytes = Bytes(16 << 10);
const LIST: Bytes = Bytes(4 << 10);
/// How long a completion is spun for, then slept for, and how often a controller that is silent is looked at.
const SPIN: Duration = Duration::from_micros(50);
const NAP: Duration = Duration::from_micros(20);
const LOOK: Duration = Duration::from_millis(2);

/// Memory for the admin queues.
pub(crate) struct AdminMemory {
    unbound: Unbound,
    page: PageSize,
}

impl AdminMemory {
    pub(crate) fn new(
        registers: &Registers,
        capabilities: &Capabilities,
    ) -> Result<AdminMemory, RingsError> {
        let page = capabilities.page;
        let layout = Layout {
            submission: SUBMISSIONS,
            completion: COMPLETIONS,
            scratch: LONGEST + LIST,
            node: None,
        };
        let unbound = Unbound::new(registers.function(), layout, page)?;
        Ok(AdminMemory { unbound, page })
    }

    /// AQA, ASQ and ACQ.
    pub(crate) fn addresses(&self) -> (Aqa, Iova, Iova) {
        const { assert!(COMPLETIONS.entries() <= Aqa::LARGEST) }
        let attributes = Aqa::new(SUBMISSIONS, COMPLETIONS).unwrap_or_default();
        (
            attributes,
            self.unbound.submissions(),
            self.unbound.completions(),
        )
    }

    pub(crate) fn bind(self, tail: Bell, head: Bell) -> AdminQueue {
        AdminQueue {
            rings: self.unbound.bind(tail, head),
            page: self.page,
            last: CommandId(0),
            requests: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// The admin queue pair of a controller that is enabled.
pub(crate) struct AdminQueue {
    rings: Rings,
    page: PageSize,
    /// The identifier that was given last. They go round, so that a late or second completion belongs to no later command.
    last: CommandId,
    /// Event requests that are outstanding.
    requests: Vec<CommandId>,
    /// Events that came while something else was waited for; never more than requests were outstanding.
    events: Vec<AsyncEvent>,
}

impl AdminQueue {
    /// Gives a command without data, and waits for dword 0 of its completion.
    ///
    /// # Errors
    /// All but [`NvmeError::Refused`] leave the command outstanding: the controller has to be stopped.
    pub(crate) fn execute(
        &mut self,
        registers: &Registers,
        what: &'static str,
        sqe: Sqe,
        within: Nanos,
    ) -> Result<u32, NvmeError> {
        let cid = self.post(sqe);
        self.rings.ring();
        let begin = Instant::now();
        let mut looked = begin;
        // What came while this thread did not run is in time: there is one more look behind the deadline.
        let mut overdue = false;
        loop {
            let now = Instant::now();
            let waited = now - begin;
            let late = waited > within.as_duration();
            // What a controller completes without end is not waited for without end.
            for _ in 0..COMPLETIONS.entries() {
                let Some(completion) = self.rings.take() else {
                    break;
                };
                if completion.cid() != cid {
                    self.other(completion);
                    continue;
                }
                self.rings.answered();
                let status = completion.status();
                if status.is_success() {
                    return Ok(self.rings.dword0());
                }
                return Err(NvmeError::Refused {
                    name: registers.name(),
                    what,
                    status,
                });
            }
            if late || now - looked > LOOK {
                looked = now;
                registers.check(what)?;
            }
            if late && overdue {
                return Err(NvmeError::Deadline {
                    name: registers.name(),
                    what,
                    within,
                });
            }
            overdue = late;
            if waited < SPIN {
                std::hint::spin_loop();
            } else {
                thread::sleep(NAP);
            }
        }
    }

    /// Gives a command that answers with `len` bytes: a multiple of 8, [`LONGEST`] at most.
    pub(crate) fn read(
        &mut self,
        registers: &Registers,
        what: &'static str,
        sqe: Sqe,
        len: Bytes,
        within: Nanos,
    ) -> Result<Vec<u8>, NvmeError> {
        debug_assert!(len <= LONGEST && len.is_multiple_of(Bytes(8)));
        // What a controller does not write is not taken for the last command's answer.
        for word in 0..len.0 / 8 {
            self.rings.store(word, 0);
        }
        let (data, list) = (self.rings.scratch(0), self.rings.scratch(LONGEST.0));
        let put = |_page, entry, value: Iova| self.rings.store(LONGEST.0 / ENTRY + entry, value.0);
        let pointers = contiguous(self.page, data, len, |_page| list, put)
            .map_err(|why| registers.unfit(why.to_string(), "this is a bug of strata"))?;
        self.execute(registers, what, sqe.with_data(pointers), within)?;
        Ok((0..len.0 / 8)
            .flat_map(|word| self.rings.load(word).to_le_bytes())
            .collect())
    }

    /// The same for an answer of one structure.
    pub(crate) fn read_one<T: FromBytes>(
        &mut self,
        registers: &Registers,
        what: &'static str,
        sqe: Sqe,
        within: Nanos,
    ) -> Result<T, NvmeError> {
        let bytes = self.read(registers, what, sqe, Bytes(size_of::<T>() as u64), within)?;
        T::read_from_bytes(&bytes)
            .map_err(|_| registers.unfit("an answer of another size", "this is a bug of strata"))
    }

    /// Gives as many event requests as the controller takes, up to a few.
    pub(crate) fn request_events(&mut self, taken: u16) {
        for _ in 0..taken.min(EVENTS) {
            self.request_event();
        }
        self.rings.ring();
    }

    fn request_event(&mut self) {
        let cid = self.post(async_event_request());
        self.requests.push(cid);
    }

    /// Events that came; each is asked for again.
    pub(crate) fn events(&mut self) -> Vec<AsyncEvent> {
        for _ in 0..COMPLETIONS.entries() {
            match self.rings.take() {
                Some(completion) => self.other(completion),
                None => break,
            }
        }
        let events = std::mem::take(&mut self.events);
        for _ in &events {
            self.request_event();
        }
        self.rings.ring();
        events
    }

    /// Takes the completion of what is not waited for: an event request's; or a command's that was completed before, which
    /// says nothing.
    fn other(&mut self, completion: Completion) {
        let Some(at) = self
            .requests
            .iter()
            .position(|cid| *cid == completion.cid())
        else {
            return;
        };
        self.requests.swap_remove(at);
        self.rings.answered();
        // A request that fails, as one too many does, is not given again.
        if completion.status() == Status::SUCCESS {
            self.events
                .push(AsyncEvent::from_dword(self.rings.dword0()));
        }
    }

    /// Stores a command under an identifier that no outstanding one has.
    fn post(&mut self, sqe: Sqe) -> CommandId {
        // One command and EVENTS requests never fill the queue.
        const { assert!(SUBMISSIONS.holds() > EVENTS as u32 + 1) }
        self.last = identifier_after(self.last, &self.requests);
        self.rings.post(sqe.with_cid(self.last));
        self.last
    }
}

/// The next identifier that none of `taken`, which are few, has.
fn identifier_after(last: CommandId, taken: &[CommandId]) -> CommandId {
    let mut next = last;
    loop {
        // FFFFh is the error log's "no command".
        next = CommandId((next.0 + 1) % u16::MAX);
        if !taken.contains(&next) {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_go_round_without_ffffh_and_those_that_wait() {
        let waiting = [3, 4, 0xfffe].map(CommandId);
        let mut given = vec![CommandId(0)];
        for _ in 0..0x1_0000 {
            let last = given[given.len() - 1];
            given.push(identifier_after(last, &waiting));
        }
        assert!(!given.contains(&CommandId(u16::MAX)));
        assert!(waiting.iter().all(|cid| !given.contains(cid)));
        // All others come before one comes again.
        assert_eq!(given[2..4], [2, 5].map(CommandId));
        let round = 0xffff - waiting.len();
        assert_eq!(
            (given[round], given[round - 1]),
            (CommandId(0), CommandId(0xfffd))
        );
    }
}
