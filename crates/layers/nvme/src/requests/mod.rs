//! Requests on a namespace through one queue pair: split into commands, pointed to their data, each answered once.
//!
//! A request has a number, as the loop's slots have, and a place in the data memory that goes with it. Its commands'
//! identifiers follow from that number, with a generation on top, so that a controller that completes a command twice, or
//! one that was never given, is found out and not believed.

mod failure;
mod rescue;
mod shape;

use std::sync::Arc;
use strata_nvme_spec::command::nvm::{self, ReadWrite};
use strata_nvme_spec::prp::{self, contiguous};
use strata_nvme_spec::{BlockCount, CommandId, Lba, PageSize, QueueSize, Sqe};
use strata_units::{ByteOffset, Bytes, Iova};

pub(crate) use failure::Failure;
use rescue::Watch;
use shape::Lists;
pub(crate) use shape::{Shape, holds, most_commands};

use crate::split::pieces;
use crate::{Completion, Controller, Layout, Mapped, Memory, Namespace, NvmeError, QueuePair};

/// Commands have numbers of so many bits, below their generation.
const NUMBER: u32 = 12;

/// No command: what a controller must not use either (Base 4.1.1).
const NONE: u16 = u16::MAX;

#[derive(Debug, Clone, Copy)]
struct Command {
    /// Its identifier while it is outstanding, else [`NONE`].
    cid: u16,
    /// When it was posted, in beats of the watch.
    beat: u16,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    /// Commands outstanding.
    left: u16,
    /// Of the next command.
    generation: u16,
    /// What its first failed command failed with; 0 is success.
    failure: i32,
}

/// Requests of one thread.
pub(crate) struct Requests<M: Memory> {
    queue: QueuePair,
    memory: Mapped<M>,
    namespace: Namespace,
    page: PageSize,
    shift: u32,
    /// The largest request.
    len: Bytes,
    stride: u64,
    lists: Lists,
    /// A request's first command is its number shifted so far.
    spread: u32,
    requests: Box<[Request]>,
    commands: Box<[Command]>,
    watch: Watch,
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
        let identity = controller.identity();
        let page = identity.page;
        let spread = most_commands(&namespace, shape.len);
        let commands = spread.saturating_mul(u64::from(shape.depth));
        let holds = holds(controller);
        if commands > holds {
            return Err(NvmeError::TooDeep {
                name: controller.name(),
                depth: shape.depth,
                len: shape.len,
                commands,
                holds,
            });
        }
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
        Ok(Requests {
            shift: namespace.block.0.trailing_zeros(),
            namespace,
            page,
            len: shape.len,
            stride: shape.stride.0,
            lists,
            spread: spread.trailing_zeros(),
            requests: vec![
                Request {
                    left: 0,
                    generation: 0,
                    failure: 0,
                };
                usize::from(shape.depth)
            ]
            .into(),
            commands: vec![Command { cid: NONE, beat: 0 }; Bytes(commands).as_usize()].into(),
            watch: Watch::new(shape.deadline),
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
        self.commands.iter().filter(|c| c.cid != NONE).count()
    }

    /// Why nothing more can be posted, if so.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Posts request `number`, of which nothing may be outstanding: `len` bytes from `at` of the namespace, to or from its
    /// place in the memory.
    ///
    /// # Errors
    /// [`Unposted`]; nothing was posted then.
    ///
    /// # Panics
    /// When there is no request of that number.
    #[inline(always)]
    pub(crate) fn post(
        &mut self,
        number: usize,
        write: bool,
        at: ByteOffset,
        len: Bytes,
    ) -> Result<(), Unposted> {
        if len > self.len || !self.is_placed(at, len) {
            return Err(Unposted::Misplaced);
        }
        if !self.takes(number) {
            return Err(Unposted::Full);
        }
        let place = self.memory.iova().0 + self.stride * number as u64;
        let (page, lists) = (self.page, self.lists);
        let limits = (Some(self.namespace.most), self.namespace.boundary);
        let commands = number << self.spread..;
        for (command, (offset, part)) in commands.zip(pieces(at, len, limits.0, limits.1)) {
            let rings = self.queue.rings_mut();
            let list = lists.first + lists.stride * command as u64;
            let start = Iova(rings.scratch(0).0 + list);
            let size = page.bytes().0;
            let data = contiguous(
                page,
                Iova(place + offset.0),
                part,
                |n| Iova(start.0 + n * size),
                |n, entry, value| rings.store((list + n * size) / prp::ENTRY + entry, value.0),
            );
            // Places begin at a page, offsets in them at a block, lists as `Lists` says: there is nothing to refuse.
            let Ok(data) = data else {
                return Err(Unposted::Misplaced);
            };
            let sqe = ReadWrite {
                write,
                nsid: self.namespace.id,
                first: Lba((at.0 + offset.0) >> self.shift),
                blocks: BlockCount::from_field(((part.0 >> self.shift) - 1) as u16),
                fua: false,
            };
            self.command(number, command, sqe.sqe().with_data(data));
        }
        Ok(())
    }

    /// Posts a flush as request `number`: what was written before is on the medium when it completes.
    ///
    /// # Errors
    /// [`Unposted::Full`]
    ///
    /// # Panics
    /// As [`Requests::post`].
    pub(crate) fn flush(&mut self, number: usize) -> Result<(), Unposted> {
        if !self.takes(number) {
            return Err(Unposted::Full);
        }
        self.command(number, number << self.spread, nvm::flush(self.namespace.id));
        Ok(())
    }

    /// Whether these are whole blocks within the namespace.
    #[inline(always)]
    pub(crate) fn is_placed(&self, at: ByteOffset, len: Bytes) -> bool {
        let end = at.0.checked_add(len.0);
        (at.0 | len.0) & (self.namespace.block.0 - 1) == 0
            && len.0 > 0
            && end.is_some_and(|end| end <= self.namespace.blocks << self.shift)
    }

    #[inline(always)]
    fn takes(&self, number: usize) -> bool {
        self.requests[number].left == 0 && self.queue.rings().room() >> self.spread != 0
    }

    #[inline(always)]
    fn command(&mut self, number: usize, command: usize, sqe: Sqe) {
        let request = &mut self.requests[number];
        if request.left == 0 {
            request.generation = request.generation.wrapping_add(1 << NUMBER);
        }
        request.left += 1;
        let cid = request.generation | command as u16;
        self.commands[command] = Command {
            cid,
            beat: self.watch.now(),
        };
        self.queue.rings_mut().post(sqe.with_cid(CommandId(cid)));
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

    /// Hands each request that has completed to `done`, and returns how many there were.
    ///
    /// # Errors
    /// In words, why there is no queue any more. All requests have been answered by then.
    #[inline(always)]
    pub(crate) fn reap(
        &mut self,
        mut done: impl FnMut(usize, Result<(), Failure>),
    ) -> Result<usize, String> {
        let mut answered = 0;
        while let Some(completion) = self.queue.rings_mut().take() {
            answered += usize::from(self.completed(completion, &mut done)?);
        }
        if self.watch.is_due() {
            answered += self.look(&mut done)?;
        }
        Ok(answered)
    }

    /// Whether the completion was the last of a request.
    #[inline(always)]
    fn completed(
        &mut self,
        completion: Completion,
        done: &mut impl FnMut(usize, Result<(), Failure>),
    ) -> Result<bool, String> {
        let cid = completion.cid().0;
        let index = usize::from(cid & ((1 << NUMBER) - 1));
        let Some(command) = self.commands.get_mut(index).filter(|c| c.cid == cid) else {
            return Err(self.stranger(completion));
        };
        command.cid = NONE;
        let number = index >> self.spread;
        let request = &mut self.requests[number];
        if !completion.status().is_success() {
            failed(request, Failure::of(completion.status()));
        }
        request.left -= 1;
        if request.left > 0 {
            return Ok(false);
        }
        self.watch.fresh();
        done(number, answer(request));
        Ok(true)
    }
}

/// What a request is answered with; it is free then.
#[inline(always)]
fn answer(request: &mut Request) -> Result<(), Failure> {
    match std::mem::take(&mut request.failure) {
        0 => Ok(()),
        code => Err(Failure(code)),
    }
}

#[cold]
fn failed(request: &mut Request, failure: Failure) {
    if request.failure == 0 {
        request.failure = failure.0;
    }
}
