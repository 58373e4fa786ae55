//! Creating and deleting I/O queues (Base 5.2).

use strata_nvme_spec::command::{CreateCompletionQueue, CreateSubmissionQueue, queue_id};
use strata_nvme_spec::{QueueId, QueueSize, Sqe, Status};
use strata_units::Iova;

use super::INVALID_FIELD;
use crate::controller::Controller;

const INVALID_ID: Status = Status::INVALID_QUEUE_ID.do_not_retry();
const INVALID_SIZE: Status = Status::INVALID_QUEUE_SIZE.do_not_retry();

impl Controller {
    /// Whether there can be an I/O queue of this number.
    fn can_be(&self, id: QueueId) -> Result<(), Status> {
        let granted = 1..=self.features.granted();
        granted.contains(&id.0).then_some(()).ok_or(INVALID_ID)
    }

    /// Whether a queue of these entries may lie there: as large as CAP.MQES lets it, of entries of the size that CC gives, in
    /// contiguous memory (CAP.CQR) that begins at a page.
    fn fits(
        &self,
        size: QueueSize,
        entry: (u8, u8),
        contiguous: bool,
        at: Iova,
    ) -> Result<(), Status> {
        let largest = self.registers.cap.queue_size().ok_or(INVALID_SIZE)?;
        if size > largest || entry.0 != entry.1 {
            return Err(INVALID_SIZE);
        }
        if !contiguous {
            return Err(INVALID_FIELD);
        }
        if !at.0.is_multiple_of(self.io.page.bytes().0) {
            return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
        }
        Ok(())
    }

    pub(super) fn create_completions(&mut self, sqe: &Sqe) -> Result<(), Status> {
        let id = queue_id(sqe);
        self.can_be(id)?;
        if self.queues.completion(id).is_some() {
            return Err(INVALID_ID);
        }
        let it = CreateCompletionQueue::of(sqe)?;
        let entry = (self.registers.cc.completion_entry(), 4);
        self.fits(it.size, entry, it.contiguous, it.at)?;
        if it
            .vector
            .is_some_and(|vector| usize::from(vector) >= self.vectors.len())
        {
            return Err(Status::INVALID_VECTOR.do_not_retry());
        }
        let queue = self.completions(id, it.size, it.at, it.vector);
        self.queues.add_completions(queue.ok_or(INVALID_FIELD)?);
        let room = self.models.most(it.size.entries());
        self.models.later.promise(room);
        Ok(())
    }

    pub(super) fn create_submissions(&mut self, sqe: &Sqe) -> Result<(), Status> {
        let id = queue_id(sqe);
        self.can_be(id)?;
        if self.queues.submission(id).is_some() {
            return Err(INVALID_ID);
        }
        let it = CreateSubmissionQueue::of(sqe)?;
        let entry = (self.registers.cc.submission_entry(), 6);
        self.fits(it.size, entry, it.contiguous, it.at)?;
        self.can_be(it.completions)?;
        let completions = self.queues.completion(it.completions);
        let completions = completions.ok_or(Status::CQ_INVALID.do_not_retry())?;
        let queue = self.submissions(id, it.size, it.at, completions);
        self.queues.add_submissions(queue.ok_or(INVALID_FIELD)?);
        Ok(())
    }

    pub(super) fn delete_completions(&mut self, sqe: &Sqe) -> Result<(), Status> {
        let id = queue_id(sqe);
        self.can_be(id)?;
        let index = self.queues.completion(id).ok_or(INVALID_ID)?;
        if self.queues.completions[index].users > 0 {
            return Err(Status::INVALID_QUEUE_DELETION.do_not_retry());
        }
        let room = self.models.most(self.queues.completions[index].size());
        self.models.later.release(room);
        self.queues.remove_completions(index);
        Ok(())
    }

    pub(super) fn delete_submissions(&mut self, sqe: &Sqe) -> Result<(), Status> {
        let id = queue_id(sqe);
        self.can_be(id)?;
        let index = self.queues.submission(id).ok_or(INVALID_ID)?;
        self.abandon(index);
        self.queues.remove_submissions(index);
        Ok(())
    }
}
