//! Requests on a namespace through one queue pair: split into commands, pointed to their data, each answered once.
//!
//! A request has a number, as the loop's slots have, and a place in the data memory that goes with it. Its commands'
//! identifiers follow from that number, with a generation on top, so that a controller that completes a command twice, or
//! one that was never given, is found out and not believed.

mod failure;
mod posting;
mod rescue;
mod shape;

use std::sync::Arc;
use strata_nvme_spec::command::nvm::Transfers;
use strata_nvme_spec::{PageSize, QueueSize, Status};
use strata_units::Bytes;

use failure::answer;
pub(crate) use failure::{Failure, explain};
use posting::{Bounds, Usual};
use rescue::Watch;
use shape::Lists;
pub(crate) use shape::{Shape, fits};

use crate::{Completion, Controller, Layout, Mapped, Memory, Namespace, NvmeError, QueuePair};

/// Commands have numbers of so many bits, below their generation.
const NUMBER: u32 = 12;

/// No beat of the watch.
const IDLE: u16 = 0;

#[derive(Debug, Clone, Copy)]
struct Command {
    /// Its identifier, the same again after sixteen uses.
    cid: u16,
    /// When it was posted, in beats of the watch; [`IDLE`] when it is not outstanding.
    since: u16,
}

impl Command {
    fn is_outstanding(&self) -> bool {
        self.since != IDLE
    }
}

/// A request of several commands; one of a single command needs none of this.
#[derive(Debug, Clone, Copy)]
struct Request {
    /// Commands outstanding.
    left: u16,
    /// What its first failed command failed with.
    failure: Option<Failure>,
}

/// Requests of one thread.
pub(crate) struct Requests<M: Memory> {
    queue: QueuePair,
    memory: Mapped<M>,
    namespace: Namespace,
    page: PageSize,
    bounds: Bounds,
    usual: Usual,
    transfers: Transfers,
    shift: u32,
    stride: u64,
    lists: Lists,
    /// A request's first command is its number shifted so far.
    spread: u32,
    requests: Box<[Request]>,
    commands: Box<[Command]>,
    watch: Watch,
    /// The most requests that are answered at a look.
    batch: usize,
    /// Answers of requests that had to be called back, until they are handed out.
    answers: Vec<Answered>,
    /// Why nothing more can be posted.
    ended: Option<String>,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unposted {
    /// The queue has no room now.
    Full,
    /// It lies outside of the namespace or off its blocks, or is larger than requests are.
    Misplaced,
}

impl<M: Memory> Requests<M> {
    /// Requests of `shape` on a namespace, with their data in `memory`.
    ///
    /// # Errors
    /// The controller's queues hold fewer commands than the requests may need at a time, or no queue can be made.
    pub(crate) fn new(
        controller: &Arc<Controller>,
        namespace: Namespace,
        memory: Mapped<M>,
        shape: Shape,
    ) -> Result<Requests<M>, NvmeError> {
        let spread = fits(controller, &namespace, &shape)?;
        let commands = spread * u64::from(shape.depth);
        let identity = controller.identity();
        let page = identity.page;
        let align = shape.multiple(&namespace);
        let entries = |holds: u64| QueueSize::new((holds + 1).next_power_of_two() as u32);
        let largest = identity.most_entries;
        let fits = |size: Option<QueueSize>| size.filter(|s| *s <= largest).unwrap_or(largest);
        let lists = Lists::of(page, namespace.most.min(shape.len));
        // Lists of several pages begin at a page, and the rings need not end at one of the controller's.
        let first = page.bytes().0;
        let scratch = match lists.stride {
            0 => 0,
            stride => first + stride * commands,
        };
        let queue = controller.queue_pair(Layout {
            submission: fits(entries(commands)),
            completion: fits(entries(commands * 2)),
            scratch: Bytes(scratch),
            node: shape.node,
        })?;
        let start = queue.rings().scratch(0).0;
        let lists = Lists {
            first: start.next_multiple_of(first) - start,
            ..lists
        };
        let page_bytes = page.bytes();
        let end = namespace.blocks << namespace.block.0.trailing_zeros();
        // Places begin at pages, so that what is not longer than one has one pointer.
        let is_small = spread == 1 && shape.stride.is_multiple_of(page_bytes);
        Ok(Requests {
            bounds: Bounds {
                mask: align.0 - 1,
                // An engine keeps lengths in 32 bits.
                longest: shape
                    .len
                    .0
                    .min(shape.stride.0)
                    .min(end)
                    .min(u32::MAX.into()),
                end,
                places: memory.iova().0,
                page: if is_small { page_bytes.0 } else { 0 },
                commands: spread as u32,
            },
            usual: Usual::NONE,
            transfers: Transfers::of(namespace.id),
            shift: namespace.block.0.trailing_zeros(),
            namespace,
            page,
            stride: shape.stride.0,
            lists,
            spread: spread.trailing_zeros(),
            requests: vec![
                Request {
                    left: 0,
                    failure: None,
                };
                usize::from(shape.depth)
            ]
            .into(),
            commands: (0..commands as u16)
                .map(|cid| Command { cid, since: IDLE })
                .collect(),
            watch: Watch::new(shape.deadline),
            batch: match shape.whole {
                true => usize::MAX,
                false => usize::from(shape.depth / 2).max(1),
            },
            answers: Vec::new(),
            ended: None,
            queue,
            memory,
        })
    }

    /// The memory of their data.
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Commands outstanding.
    pub(crate) fn outstanding(&self) -> usize {
        self.commands.iter().filter(|c| c.is_outstanding()).count()
    }

    /// Why nothing more can be posted, if so.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Tells the controller of what was posted.
    ///
    /// # Errors
    /// In words, why there is no queue any more.
    #[inline(always)]
    pub(crate) fn ring(&mut self) -> Result<(), String> {
        if !self.queue.is_alive() {
            return Err(self.end());
        }
        self.queue.rings_mut().ring();
        Ok(())
    }

    /// Hands requests that have completed to `done`, and returns how many there were: at most half of all there can be, since
    /// all at once would leave the controller without work until the last of them was posted again (but for
    /// [`Shape::whole`]), and all that were called back.
    ///
    /// # Errors
    /// In words, why there is no queue any more. All requests have been answered by then.
    #[inline(always)]
    pub(crate) fn reap(
        &mut self,
        mut done: impl FnMut(usize, Result<(), Failure>),
    ) -> Result<usize, String> {
        let mut answered = 0;
        // One call, which is worth being part of the loop.
        while let Some((number, answer)) = self.next(answered) {
            answered += 1;
            done(usize::from(number), answer);
        }
        if answered > 0 {
            self.watch.fresh();
        }
        match &self.ended {
            None => Ok(answered),
            Some(why) => Err(why.clone()),
        }
    }

    /// The next request that has completed, after so many at a time.
    #[inline(always)]
    fn next(&mut self, answered: usize) -> Option<Answered> {
        while answered < self.batch
            && let Some(completion) = self.queue.rings_mut().take()
        {
            match self.resolve(completion) {
                Resolved::Last(answered) => return Some(answered),
                Resolved::Part => {}
                Resolved::Stranger => self.forsake(),
            }
        }
        if self.answers.is_empty() && !self.watch.is_due() {
            return None;
        }
        self.called_back()
    }

    /// What a completion is of.
    #[inline(always)]
    fn resolve(&mut self, completion: Completion) -> Resolved {
        let cid = completion.cid().0;
        let index = cid & ((1 << NUMBER) - 1);
        let found = self.commands.get_mut(usize::from(index));
        let Some(command) = found.filter(|c| c.cid == cid && c.is_outstanding()) else {
            self.stranger(completion);
            return Resolved::Stranger;
        };
        command.since = IDLE;
        self.queue.rings_mut().answered();
        let status = completion.status();
        if self.spread == 0 {
            return Resolved::Last((index, answer(status)));
        }
        let number = index >> self.spread;
        match part(&mut self.requests[usize::from(number)], status) {
            Some(answer) => Resolved::Last((number, answer)),
            None => Resolved::Part,
        }
    }
}

/// A request that has its answer.
type Answered = (u16, Result<(), Failure>);

/// What a completion was found to be.
enum Resolved {
    /// The last of a request.
    Last(Answered),
    /// One of several of a request.
    Part,
    /// Of nothing that was given; there is no queue any more.
    Stranger,
}

/// One command of a request has completed; the request's answer, if it was the last.
fn part(request: &mut Request, status: Status) -> Option<Result<(), Failure>> {
    request.failure = request.failure.or(answer(status).err());
    request.left -= 1;
    (request.left == 0).then(|| request.failure.take().map_or(Ok(()), Err))
}
