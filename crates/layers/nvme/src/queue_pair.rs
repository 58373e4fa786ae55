//! A submission queue and its completion queue, created.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use strata_nvme_spec::{CommandId, QueueId};

use crate::life::Life;
use crate::{Aborted, Controller, NvmeError, Rings};

/// A queue pair of a controller, for one thread. Dropped, it is deleted before its memory goes.
///
/// A reset of the controller ends it: it is dead, and once the controller has stopped, quiet.
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
