//! Creating and deleting I/O queues (Base 5.2.1 to 5.2.4).

use super::admin_opcode as opcode;
use crate::bits::get;
use crate::{NamespaceId, QueueId, QueueSize, Sqe, Status};
use strata_units::Iova;

/// Create I/O Completion Queue (Base 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateCompletionQueue {
    /// The new queue's number, QID.
    pub id: QueueId,
    /// Its entries, QSIZE.
    pub size: QueueSize,
    /// Where it lies, PRP 1; a PRP list where it is not contiguous.
    pub at: Iova,
    /// Whether it lies in contiguous memory, PC.
    pub contiguous: bool,
    /// The interrupt that tells of its entries, IEN and IV; none where it is polled.
    pub vector: Option<u16>,
}

impl CreateCompletionQueue {
    /// As an entry.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::CREATE_COMPLETION_QUEUE, NamespaceId::NONE);
        sqe.prp1 = self.at.0.into();
        sqe.cdw10 = id_and_size(self.id, self.size);
        let interrupts = u32::from(self.vector.is_some()) << 1;
        let vector = u32::from(self.vector.unwrap_or(0)) << 16;
        sqe.cdw11 = (u32::from(self.contiguous) | interrupts | vector).into();
        sqe
    }

    /// From an entry.
    ///
    /// # Errors
    /// What a controller answers to a size that is no ring's.
    pub fn of(sqe: &Sqe) -> Result<CreateCompletionQueue, Status> {
        let cdw11 = sqe.cdw11.get();
        Ok(CreateCompletionQueue {
            id: queue_id(sqe),
            size: size(sqe)?,
            at: Iova(sqe.prp1.get()),
            contiguous: cdw11 & 1 == 1,
            vector: (cdw11 & 2 == 2).then_some((cdw11 >> 16) as u16),
        })
    }
}

/// The class of a submission queue under weighted round robin, QPRIO; of no effect under round robin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// 00b.
    #[default]
    Urgent,
    /// 01b.
    High,
    /// 10b.
    Medium,
    /// 11b.
    Low,
}

/// Create I/O Submission Queue (Base 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateSubmissionQueue {
    /// The new queue's number, QID.
    pub id: QueueId,
    /// Its entries, QSIZE.
    pub size: QueueSize,
    /// Where it lies, PRP 1; a PRP list where it is not contiguous.
    pub at: Iova,
    /// Whether it lies in contiguous memory, PC.
    pub contiguous: bool,
    /// Its class, QPRIO.
    pub priority: Priority,
    /// The completion queue that its completions go to, CQID.
    pub completions: QueueId,
}

impl CreateSubmissionQueue {
    /// As an entry.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::CREATE_SUBMISSION_QUEUE, NamespaceId::NONE);
        sqe.prp1 = self.at.0.into();
        sqe.cdw10 = id_and_size(self.id, self.size);
        let completions = u32::from(self.completions.0) << 16;
        sqe.cdw11 = (u32::from(self.contiguous) | (self.priority as u32) << 1 | completions).into();
        sqe
    }

    /// From an entry.
    ///
    /// # Errors
    /// What a controller answers to a size that is no ring's.
    pub fn of(sqe: &Sqe) -> Result<CreateSubmissionQueue, Status> {
        let cdw11 = sqe.cdw11.get();
        Ok(CreateSubmissionQueue {
            id: queue_id(sqe),
            size: size(sqe)?,
            at: Iova(sqe.prp1.get()),
            contiguous: cdw11 & 1 == 1,
            priority: match get(cdw11.into(), 1, 2) {
                0b00 => Priority::Urgent,
                0b01 => Priority::High,
                0b10 => Priority::Medium,
                _ => Priority::Low,
            },
            completions: QueueId((cdw11 >> 16) as u16),
        })
    }
}

/// Delete I/O Submission Queue (Base 5.2.4).
pub fn delete_submission_queue(id: QueueId) -> Sqe {
    let mut sqe = Sqe::of(opcode::DELETE_SUBMISSION_QUEUE, NamespaceId::NONE);
    sqe.cdw10 = u32::from(id.0).into();
    sqe
}

/// Delete I/O Completion Queue (Base 5.2.3).
pub fn delete_completion_queue(id: QueueId) -> Sqe {
    let mut sqe = Sqe::of(opcode::DELETE_COMPLETION_QUEUE, NamespaceId::NONE);
    sqe.cdw10 = u32::from(id.0).into();
    sqe
}

/// The queue that a command creates or deletes, QID.
pub fn queue_id(sqe: &Sqe) -> QueueId {
    QueueId(sqe.cdw10.get() as u16)
}

fn id_and_size(id: QueueId, size: QueueSize) -> zerocopy::little_endian::U32 {
    (u32::from(size.field()) << 16 | u32::from(id.0)).into()
}

fn size(sqe: &Sqe) -> Result<QueueSize, Status> {
    QueueSize::from_field((sqe.cdw10.get() >> 16) as u16)
        .ok_or(Status::INVALID_QUEUE_SIZE.do_not_retry())
}
