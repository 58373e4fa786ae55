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
use strata_nvme_spec::prp::{self, Pointers, contiguous};
use strata_nvme_spec::{BlockCount, CommandId, Lba, PageSize, QueueSize, Sqe, Status};
use strata_units::{ByteOffset, Bytes, Iova};

pub(crate) use failure::Failure;
use rescue::Watch;
use shape::Lists;
pub(crate) use shape::{Shape, fits};

use crate::split::pieces;
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
    /// What its first failed command failed with; 0 is success.
    failure: i32,
}

/// What posting looks at first, reckoned once.
#[derive(Debug, Clone, Copy)]
struct Small {
    /// Bits that no offset and no length has: those within what both are multiples of.
    mask: u64,
    /// The longest request.
    longest: u64,
    /// Where the namespace ends.
    end: u64,
    /// Where the device sees the first request's place.
    places: u64,
    /// The longest request that is one command with one pointer; 0 where there is none such.
    page: u64,
    /// The most commands of a request.
    commands: u32,
}

/// Requests of one thread.
pub(crate) struct Requests<M: Memory> {
    queue: QueuePair,
    memory: Mapped<M>,
    namespace: Namespace,
    page: PageSize,
    small: Small,
    shift: u32,
    stride: u64,
    lists: Lists,
    /// A request's first command is its number shifted so far.
    spread: u32,
    requests: Box<[Request]>,
    commands: Box<[Command]>,
    watch: Watch,
    /// Answers of requests that had to be called back, until they are handed out.
    answers: Vec<(usize, Result<(), Failure>)>,
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
            small: Small {
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
            shift: namespace.block.0.trailing_zeros(),
            namespace,
            page,
            stride: shape.stride.0,
            lists,
            spread: spread.trailing_zeros(),
            requests: vec![
                Request {
                    left: 0,
                    failure: 0,
                };
                usize::from(shape.depth)
            ]
            .into(),
            commands: (0..commands as u16)
                .map(|cid| Command { cid, since: IDLE })
                .collect(),
            watch: Watch::new(shape.deadline),
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

    /// Whether these are whole blocks within the namespace.
    pub(crate) fn is_placed(&self, at: ByteOffset, len: Bytes) -> bool {
        let end = at.0.checked_add(len.0);
        (at.0 | len.0) & (self.namespace.block.0 - 1) == 0
            && len.0 > 0
            && end.is_some_and(|end| end <= self.small.end)
    }

    /// Commands outstanding.
    pub(crate) fn outstanding(&self) -> usize {
        self.commands.iter().filter(|c| c.is_outstanding()).count()
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
        let small = self.small;
        // No length is longer than the namespace, nor than a place.
        if (at.0 | len.0) & small.mask != 0
            || len.0.wrapping_sub(1) >= small.longest
            || at.0 > small.end - len.0
        {
            return Err(Unposted::Misplaced);
        }
        if self.queue.rings().room() < small.commands {
            return Err(Unposted::Full);
        }
        let place = small.places + self.stride * number as u64;
        if len.0 > small.page {
            return self.split(number, write, at, len, place);
        }
        let data = Pointers {
            prp1: Iova(place),
            prp2: Iova(0),
        };
        self.command(number, self.transfer(write, at, len).with_data(data));
        Ok(())
    }

    /// Posts a request that may be of several commands, or of more than a page.
    #[inline(never)]
    fn split(
        &mut self,
        number: usize,
        write: bool,
        at: ByteOffset,
        len: Bytes,
        place: u64,
    ) -> Result<(), Unposted> {
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
            let sqe = self.transfer(write, ByteOffset(at.0 + offset.0), part);
            self.part(number, command, sqe.with_data(data));
        }
        Ok(())
    }

    /// A command without its data pointer.
    #[inline(always)]
    fn transfer(&self, write: bool, at: ByteOffset, len: Bytes) -> Sqe {
        let read_write = ReadWrite {
            write,
            nsid: self.namespace.id,
            first: Lba(at.0 >> self.shift),
            blocks: BlockCount::from_field(((len.0 >> self.shift) - 1) as u16),
            fua: false,
        };
        read_write.sqe()
    }

    /// Posts a flush as request `number`: what was written before is on the medium when it completes.
    ///
    /// # Errors
    /// [`Unposted::Full`]
    ///
    /// # Panics
    /// As [`Requests::post`].
    pub(crate) fn flush(&mut self, number: usize) -> Result<(), Unposted> {
        if self.queue.rings().room() < self.small.commands {
            return Err(Unposted::Full);
        }
        self.part(number, number << self.spread, nvm::flush(self.namespace.id));
        Ok(())
    }

    /// Posts one of a request's commands.
    fn part(&mut self, number: usize, index: usize, sqe: Sqe) {
        if self.spread > 0 {
            self.requests[number].left += 1;
        }
        self.command(index, sqe);
    }

    #[inline(always)]
    fn command(&mut self, index: usize, sqe: Sqe) {
        let command = &mut self.commands[index];
        debug_assert!(!command.is_outstanding(), "command {index} is outstanding");
        command.cid = command.cid.wrapping_add(1 << NUMBER);
        command.since = self.watch.now();
        let cid = CommandId(command.cid);
        self.queue.rings_mut().post(sqe.with_cid(cid));
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
        let mut looked = false;
        // One loop with one call, which is worth being part of it.
        loop {
            let (number, answer) = if looked {
                match self.answers.pop() {
                    Some(given_up) => given_up,
                    None => break,
                }
            } else if let Some(completion) = self.queue.rings_mut().take() {
                match self.resolve(completion) {
                    Resolved::Last(number, answer) => (number, answer),
                    Resolved::Part => continue,
                    Resolved::Stranger => {
                        looked = true;
                        self.forsake();
                        continue;
                    }
                }
            } else if self.watch.is_due() {
                looked = true;
                self.look();
                continue;
            } else {
                break;
            };
            answered += 1;
            done(number, answer);
        }
        if answered > 0 {
            self.watch.fresh();
        }
        match &self.ended {
            None => Ok(answered),
            Some(why) => Err(why.clone()),
        }
    }

    /// What a completion is of.
    #[inline(always)]
    fn resolve(&mut self, completion: Completion) -> Resolved {
        let cid = completion.cid().0;
        let index = usize::from(cid & ((1 << NUMBER) - 1));
        let found = self.commands.get_mut(index);
        let Some(command) = found.filter(|c| c.cid == cid && c.is_outstanding()) else {
            self.stranger(completion);
            return Resolved::Stranger;
        };
        command.since = IDLE;
        self.queue.rings_mut().answered();
        let status = completion.status();
        if self.spread == 0 {
            return Resolved::Last(index, answer(status));
        }
        let number = index >> self.spread;
        match part(&mut self.requests[number], status) {
            Some(answer) => Resolved::Last(number, answer),
            None => Resolved::Part,
        }
    }
}

/// What a completion was found to be.
enum Resolved {
    /// The last of a request.
    Last(usize, Result<(), Failure>),
    /// One of several of a request.
    Part,
    /// Of nothing that was given; there is no queue any more.
    Stranger,
}

#[inline(always)]
fn answer(status: Status) -> Result<(), Failure> {
    if status.is_success() {
        Ok(())
    } else {
        Err(Failure::of(status))
    }
}

/// One command of a request has completed; the request's answer, if it was the last.
fn part(request: &mut Request, status: Status) -> Option<Result<(), Failure>> {
    if let Err(Failure(code)) = answer(status)
        && request.failure == 0
    {
        request.failure = code;
    }
    request.left -= 1;
    (request.left == 0).then(|| match std::mem::take(&mut request.failure) {
        0 => Ok(()),
        code => Err(Failure(code)),
    })
}
