//! A submission queue and its completion queue, created.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use strata_nvme_spec::command::admin::Abort;
use strata_nvme_spec::command::{
    CreateCompletionQueue, CreateSubmissionQueue, Priority, delete_completion_queue,
    delete_submission_queue,
};
use strata_nvme_spec::{CommandId, QueueId, Sqe};

use crate::bring_up::bells;
use crate::controller::State;
use crate::life::Life;
use crate::registers::Capabilities;
use crate::{Controller, Layout, NvmeError, Rings, Unbound};

/// A queue pair of a controller, for one thread. Dropped, it is deleted before its memory goes.
///
/// A reset of the controller ends it: it is dead, and once the controller has stopped, quiet.
///
/// It may go to another thread, and only one has it at a time:
///
/// ```
/// fn moves<T: Send>() {}
/// moves::<strata_nvme::QueuePair>();
/// ```
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<strata_nvme::QueuePair>();
/// ```
/// Nothing is posted through a shared reference:
///
/// ```compile_fail,E0596
/// fn post(pair: &strata_nvme::QueuePair, sqe: strata_nvme_spec::Sqe) {
///     pair.post(sqe);
/// }
/// ```
pub struct QueuePair {
    // Dropped first, after the queues were deleted.
    rings: Rings,
    id: QueueId,
    life: Arc<Life>,
    controller: Arc<Controller>,
}

impl QueuePair {
    pub(crate) fn new(
        rings: Rings,
        id: QueueId,
        life: Arc<Life>,
        controller: Arc<Controller>,
    ) -> QueuePair {
        QueuePair {
            rings,
            id,
            life,
            controller,
        }
    }

    /// Its identifier, which is both queues'.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Its controller.
    pub fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// Its rings.
    #[inline(always)]
    pub fn rings(&self) -> &Rings {
        &self.rings
    }

    /// Its rings.
    #[inline(always)]
    pub fn rings_mut(&mut self) -> &mut Rings {
        &mut self.rings
    }

    /// Whether commands may be given: not after a reset, removal, or fatal status that was found. One relaxed load.
    #[inline(always)]
    pub fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// Whether the controller has stopped since, so that outstanding commands will never complete and their buffers are free.
    /// Of one that is dead and not quiet, buffers may still be written to.
    pub fn is_quiet(&self) -> bool {
        self.life.is_quiet()
    }

    /// Asks for one of its commands to be aborted.
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn abort(&self, cid: CommandId) -> Result<Aborted, NvmeError> {
        self.controller.abort_of(&self.life, self.id, cid)
    }

    /// Says to all threads that have queues of this controller why they are about to end.
    pub(crate) fn blame(&self, why: &str) {
        self.life.blame(why);
    }

    /// Why it is dead, where that was said.
    pub(crate) fn why(&self) -> Option<&str> {
        self.life.why()
    }

    /// Makes it quiet: resets the controller, unless somebody did so since the pair was made. Waits for a reset under way.
    ///
    /// # Errors
    /// Those of [`Controller::reset`]; [`QueuePair::is_quiet`] tells what became of this pair.
    pub fn reset(&self) -> Result<(), NvmeError> {
        self.controller.reset_of(&self.life)
    }
}

impl Deref for QueuePair {
    type Target = Rings;

    #[inline(always)]
    fn deref(&self) -> &Rings {
        &self.rings
    }
}

impl DerefMut for QueuePair {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Rings {
        &mut self.rings
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        self.controller.close(&self.life, self.id);
    }
}

/// What became of an Abort command (Base 5.1.1). Either way the command itself has a completion of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aborted {
    /// The command was aborted.
    Yes,
    /// It was not: it is done, unknown, or too far.
    No,
}

impl Controller {
    /// Makes a queue pair, which is polled: no interrupts.
    ///
    /// # Errors
    /// [`NvmeError::Limit`] for sizes above [`most_entries`](crate::Identity::most_entries) or when all identifiers are in use;
    /// [`NvmeError::Refused`], and the others, by the controller.
    pub fn queue_pair(self: &Arc<Self>, layout: Layout) -> Result<QueuePair, NvmeError> {
        self.check_layout(&layout)?;
        let mut state = self.lock();
        let index = state.used.iter().position(|used| !used);
        let id = index.and_then(|index| u16::try_from(index + 1).ok());
        let (Some(index), Some(id)) = (index, id.map(QueueId)) else {
            let most = state.used.len() as u64;
            return Err(NvmeError::Limit {
                name: self.name(),
                what: "a number of queue pairs",
                asked: most + 1,
                most,
            });
        };
        let Capabilities { cap, page, .. } = state.capabilities;
        let (tail, head) = bells(&self.registers, &state.doorbells, id, cap.doorbell_stride())?;
        let memory =
            Unbound::new(self.function(), layout, page).map_err(|why| NvmeError::Memory {
                name: self.name(),
                what: "an I/O queue",
                why: Box::new(why),
            })?;
        let create = CreateCompletionQueue {
            id,
            size: layout.completion,
            at: memory.completions(),
            contiguous: true,
            vector: None,
        };
        self.give(&mut state, "create a completion queue", create.sqe())?;
        let create = CreateSubmissionQueue {
            id,
            size: layout.submission,
            at: memory.submissions(),
            contiguous: true,
            priority: Priority::Urgent,
            completions: id,
        };
        if let Err(why) = self.give(&mut state, "create a submission queue", create.sqe()) {
            if matches!(why, NvmeError::Refused { .. }) {
                self.delete(&mut state, &[DELETE_COMPLETIONS], id);
            }
            return Err(why);
        }
        state.used[index] = true;
        let life = Arc::clone(&state.life);
        drop(state);
        let rings = memory.bind(tail, head);
        Ok(QueuePair::new(rings, id, life, Arc::clone(self)))
    }

    fn check_layout(&self, layout: &Layout) -> Result<(), NvmeError> {
        let most = self.identity().most_entries;
        for (what, size) in [
            ("a submission queue", layout.submission),
            ("a completion queue", layout.completion),
        ] {
            if size > most {
                return Err(NvmeError::Limit {
                    name: self.name(),
                    what,
                    asked: size.entries().into(),
                    most: most.entries().into(),
                });
            }
        }
        if layout.completion < layout.submission {
            return Err(NvmeError::Limit {
                name: self.name(),
                what: "a submission queue with fewer completion entries than its own",
                asked: layout.submission.entries().into(),
                most: layout.completion.entries().into(),
            });
        }
        Ok(())
    }

    /// Asks for a command of an I/O queue to be aborted. Aborts go one at a time, so that no limit of them is met (ACL).
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn abort(&self, queue: QueueId, cid: CommandId) -> Result<Aborted, NvmeError> {
        self.give_abort(&mut self.lock(), queue, cid)
    }

    /// The same for a queue of that life; not aborted when that is over.
    pub(crate) fn abort_of(
        &self,
        life: &Life,
        queue: QueueId,
        cid: CommandId,
    ) -> Result<Aborted, NvmeError> {
        let mut state = self.lock();
        if !life.is_alive() {
            return Ok(Aborted::No);
        }
        self.give_abort(&mut state, queue, cid)
    }

    fn give_abort(
        &self,
        state: &mut State,
        queue: QueueId,
        command: CommandId,
    ) -> Result<Aborted, NvmeError> {
        let abort = Abort { queue, command };
        let dword = self.give(state, "abort a command", abort.sqe())?;
        Ok(if Abort::was_aborted(dword) {
            Aborted::Yes
        } else {
            Aborted::No
        })
    }

    /// Deletes a queue pair of that life; resets the controller where that fails. Then its memory may go.
    pub(crate) fn close(&self, life: &Arc<Life>, id: QueueId) {
        let mut state = self.lock();
        if life.is_quiet() {
            return;
        }
        if life.is_alive() {
            self.delete(&mut state, &[DELETE_SUBMISSIONS, DELETE_COMPLETIONS], id);
        } else {
            // What becomes of it is in the state; the memory goes by the rule of what is mapped.
            let _ = self.restart(&mut state);
        }
        if Arc::ptr_eq(life, &state.life)
            && let Some(used) = state.used.get_mut(usize::from(id.0) - 1)
        {
            *used = false;
        }
    }

    fn delete(&self, state: &mut State, steps: &[Delete], id: QueueId) {
        for (what, sqe) in steps {
            match self.give(state, what, sqe(id)) {
                Ok(_) => {}
                Err(NvmeError::Refused { .. }) => {
                    let _ = self.restart(state);
                    return;
                }
                // The controller was reset, or cannot be.
                Err(_) => return,
            }
        }
    }
}

type Delete = (&'static str, fn(QueueId) -> Sqe);

const DELETE_SUBMISSIONS: Delete = ("delete a submission queue", delete_submission_queue);
const DELETE_COMPLETIONS: Delete = ("delete a completion queue", delete_completion_queue);
