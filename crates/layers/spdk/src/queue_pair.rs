//! Queue pairs: requests in, completions out.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};

use strata_spdk_abi::{Completion as Told, Queue, QueueOptions, Request, kind};

use strata_nvme_spec::Status;

use crate::{Controller, SpdkError};

/// Completions that are taken at once.
const AT_ONCE: usize = 64;

/// What a queue pair is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// The namespace that it works on.
    pub namespace: u32,
    /// Operations in flight.
    pub slots: u16,
    /// Commands that the largest of them is split into.
    pub commands: u32,
    /// Whether a batch has one doorbell, which rings with the next poll.
    pub late_doorbell: bool,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// From the namespace into the buffer.
    Read,
    /// From the buffer to the namespace.
    Write,
    /// What was written before becomes lasting; of no blocks.
    Flush,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Post {
    /// What it does.
    pub doing: Doing,
    /// The number of its operation.
    pub slot: u16,
    /// The first logical block.
    pub block: u64,
    /// How many.
    pub blocks: u32,
    /// Where its data begins.
    pub buffer: *mut u8,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The number of its operation.
    pub slot: u16,
    /// How it ended.
    pub status: Status,
}

/// A queue pair, of one thread; closed when it is dropped.
pub struct QueuePair {
    controller: Controller,
    raw: NonNull<Queue>,
    slots: u16,
    /// The batch, as far as it has not been taken.
    batch: Vec<Request>,
    came: [Told; AT_ONCE],
    /// SPDK's queue pairs are of no other thread.
    _here: PhantomData<*mut ()>,
}

impl QueuePair {
    pub(crate) fn open(controller: &Controller, queues: &Queues) -> Result<QueuePair, SpdkError> {
        let slots = u32::from(queues.slots);
        let commands = slots.saturating_mul(queues.commands.max(1));
        let options = QueueOptions {
            namespace: queues.namespace,
            // One entry always stays free (NVM Express Base Specification, "Full Queue").
            entries: commands.saturating_add(1).clamp(2, 1 << 16),
            // What is split takes one for itself and one a part.
            requests: commands.saturating_add(slots),
            slots,
            late_doorbell: queues.late_doorbell,
        };
        let mut raw = null_mut();
        // SAFETY: the controller is attached; the queue pair is written where there is room for it.
        let errno =
            unsafe { (controller.spdk().table().open)(controller.raw(), &options, &mut raw) };
        let raw = NonNull::new(raw).filter(|_| errno == 0).ok_or_else(|| {
            controller
                .spdk()
                .failed("a queue pair of", controller.name(), errno)
        })?;
        Ok(QueuePair {
            controller: controller.clone(),
            raw,
            slots: queues.slots,
            batch: Vec::with_capacity(usize::from(queues.slots)),
            came: [Told::default(); AT_ONCE],
            _here: PhantomData,
        })
    }

    /// Takes a request into the batch.
    ///
    /// # Safety
    /// Its buffer is of SPDK's [memory](crate::Memory), as long as its blocks, and stays until its completion has come or the
    /// queue pair is dropped; its slot has nothing in flight.
    ///
    /// # Panics
    /// When there is no such slot.
    #[inline]
    pub unsafe fn post(&mut self, post: Post) {
        assert!(
            post.slot < self.slots,
            "slot {} of {}",
            post.slot,
            self.slots
        );
        self.batch.push(Request {
            buffer: post.buffer.cast::<c_void>(),
            block: post.block,
            blocks: post.blocks,
            slot: post.slot.into(),
            kind: match post.doing {
                Doing::Read => kind::READ,
                Doing::Write => kind::WRITE,
                Doing::Flush => kind::FLUSH,
            },
        });
    }

    /// Hands the batch over; what does not find room stays for the next time.
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: nothing can be handed over any more.
    #[inline]
    pub fn ring(&mut self) -> Result<(), SpdkError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let table = self.controller.spdk().table();
        // SAFETY: so many requests are there, whose slots and buffers `post` was answered for; the queue pair is this thread's.
        let taken =
            unsafe { (table.post)(self.raw.as_ptr(), self.batch.as_ptr(), self.batch.len()) };
        let Ok(n) = usize::try_from(taken) else {
            return Err(self.broken(taken));
        };
        if n >= self.batch.len() {
            self.batch.clear();
        } else {
            self.batch.drain(..n);
        }
        Ok(())
    }

    /// What has completed, up to 64 at once.
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: the queue pair is of no more use.
    #[inline]
    pub fn poll(&mut self) -> Result<impl ExactSizeIterator<Item = Completion>, SpdkError> {
        let table = self.controller.spdk().table();
        // SAFETY: there is room for so many; the queue pair is this thread's.
        let found = unsafe { (table.poll)(self.raw.as_ptr(), self.came.as_mut_ptr(), AT_ONCE) };
        let Ok(n) = usize::try_from(found) else {
            return Err(self.broken(found));
        };
        Ok(self.came.iter().take(n).map(|told| Completion {
            slot: told.slot as u16,
            status: Status::from_field(told.status as u16),
        }))
    }

    #[cold]
    fn broken(&self, failed: isize) -> SpdkError {
        let errno = i32::try_from(failed.abs()).unwrap_or(i32::MAX);
        let controller = &self.controller;
        controller
            .spdk()
            .failed("a queue pair of", controller.name(), errno)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        let spdk = self.controller.spdk();
        // SAFETY: it is this thread's, and not used any more; what is in flight ends within the call.
        if unsafe { (spdk.table().close)(self.raw.as_ptr()) } != 0 {
            spdk.keep_memory();
        }
    }
}
