//! Requests on their way to the controller: looked at, split into commands, pointed to their data.

use strata_nvme_spec::command::nvm;
use strata_nvme_spec::prp::{self, Pointers, contiguous};
use strata_nvme_spec::{BlockCount, CommandId, Lba};
use strata_units::{ByteOffset, Bytes, Iova};

use super::{NUMBER, Requests, Unposted};
use crate::Memory;
use crate::split::pieces;

/// Where requests may lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bits that no offset and no length has: those within what both are multiples of.
    pub(super) mask: u64,
    /// The longest request.
    pub(super) longest: u64,
    /// Where the namespace ends.
    pub(super) end: u64,
    /// Where the device sees the first request's place.
    pub(super) places: u64,
    /// The longest request that is one command with one pointer; 0 where there is none such.
    pub(super) page: u64,
    /// The most commands of a request.
    pub(super) commands: u32,
}

/// What is known of the length that was posted last, if a request of it is one command with one pointer: most are as long as
/// the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    len: u64,
    /// The first offset that it does not fit behind.
    ends: u64,
    blocks: BlockCount,
}

impl Usual {
    /// Nothing was posted.
    pub(super) const NONE: Usual = Usual {
        len: 0,
        ends: 0,
        blocks: BlockCount::ONE,
    };
}

impl<M: Memory> Requests<M> {
    /// Whether these are whole blocks within the namespace.
    pub(crate) fn is_placed(&self, at: ByteOffset, len: Bytes) -> bool {
        let end = at.0.checked_add(len.0);
        (at.0 | len.0) & (self.namespace.block.0 - 1) == 0
            && len.0 > 0
            && end.is_some_and(|end| end <= self.bounds.end)
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
        let usual = self.usual;
        if len.0 != usual.len || at.0 & self.bounds.mask != 0 || at.0 >= usual.ends {
            return self.post_unusual(number, write, at, len);
        }
        if self.queue.rings().room() == 0 {
            return Err(Unposted::Full);
        }
        let data = Pointers {
            prp1: self.place(number),
            prp2: Iova(0),
        };
        let cid = self.begin(number);
        let first = Lba(at.0 >> self.shift);
        let sqe = self.transfers.sqe(cid, write, first, usual.blocks);
        self.queue.rings_mut().post(sqe.with_data(data));
        Ok(())
    }

    #[inline(never)]
    fn post_unusual(
        &mut self,
        number: usize,
        write: bool,
        at: ByteOffset,
        len: Bytes,
    ) -> Result<(), Unposted> {
        let bounds = self.bounds;
        // No length is longer than the namespace, nor than a place.
        if (at.0 | len.0) & bounds.mask != 0
            || len.0.wrapping_sub(1) >= bounds.longest
            || at.0 > bounds.end - len.0
        {
            return Err(Unposted::Misplaced);
        }
        if self.queue.rings().room() < bounds.commands {
            return Err(Unposted::Full);
        }
        if len.0 > bounds.page {
            return self.split(number, write, at, len);
        }
        self.usual = Usual {
            len: len.0,
            ends: bounds.end - len.0 + 1,
            blocks: self.blocks(len),
        };
        self.post(number, write, at, len)
    }

    /// Posts a request that may be of several commands, or of more than a page.
    fn split(
        &mut self,
        number: usize,
        write: bool,
        at: ByteOffset,
        len: Bytes,
    ) -> Result<(), Unposted> {
        let (page, lists, place) = (self.page, self.lists, self.place(number));
        let limits = (Some(self.namespace.most), self.namespace.boundary);
        let commands = number << self.spread..;
        for (command, (offset, part)) in commands.zip(pieces(at, len, limits.0, limits.1)) {
            let rings = self.queue.rings_mut();
            let list = lists.first + lists.stride * command as u64;
            let start = Iova(rings.scratch(0).0 + list);
            let size = page.bytes().0;
            let data = contiguous(
                page,
                Iova(place.0 + offset.0),
                part,
                |n| Iova(start.0 + n * size),
                |n, entry, value| rings.store((list + n * size) / prp::ENTRY + entry, value.0),
            );
            // Places begin at a page, offsets in them at a block, lists as `Lists` says: there is nothing to refuse.
            let Ok(data) = data else {
                return Err(Unposted::Misplaced);
            };
            let first = Lba((at.0 + offset.0) >> self.shift);
            let (blocks, cid) = (self.blocks(part), self.begin_part(number, command));
            let sqe = self.transfers.sqe(cid, write, first, blocks);
            self.queue.rings_mut().post(sqe.with_data(data));
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
        if self.queue.rings().room() < self.bounds.commands {
            return Err(Unposted::Full);
        }
        let cid = self.begin_part(number, number << self.spread);
        let sqe = nvm::flush(self.namespace.id).with_cid(cid);
        self.queue.rings_mut().post(sqe);
        Ok(())
    }

    /// Where the device sees a request's place.
    #[inline(always)]
    fn place(&self, number: usize) -> Iova {
        Iova(self.bounds.places + self.stride * number as u64)
    }

    /// Blocks of so many bytes, which are those of one command.
    fn blocks(&self, len: Bytes) -> BlockCount {
        BlockCount::from_field(((len.0 >> self.shift) - 1) as u16)
    }

    /// Begins one of a request's commands, as [`Requests::begin`].
    fn begin_part(&mut self, number: usize, index: usize) -> CommandId {
        if self.spread > 0 {
            self.requests[number].left += 1;
        }
        self.begin(index)
    }

    /// A command is outstanding from now on, under this identifier.
    #[inline(always)]
    fn begin(&mut self, index: usize) -> CommandId {
        let command = &mut self.commands[index];
        debug_assert!(!command.is_outstanding(), "command {index} is outstanding");
        command.cid = command.cid.wrapping_add(1 << NUMBER);
        command.since = self.watch.now();
        CommandId(command.cid)
    }
}
