//! A controller: one admin queue that threads share behind a lock, and queue pairs that each thread has for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_nvme_spec::{AsyncEvent, NamespaceId, Sqe};
use strata_units::{Bytes, Nanos};
use zerocopy::FromBytes;

use crate::admin::AdminQueue;
use crate::bring_up::{Up, bring_up};
use crate::life::Life;
use crate::registers::{Capabilities, Registers};
use crate::{Carrier, Doorbells, Function, Identity, NvmeError, Options};

/// How long a controller that does not say how long has to shut down; Linux gives it as long.
const SHUTDOWN: Nanos = Nanos::from_millis(5000);

/// A controller. Its queue pairs hold it, so that it outlives them; dropped, it is shut down and stopped.
pub struct Controller {
    pub(crate) registers: Registers,
    options: Options,
    identity: Identity,
    state: Mutex<State>,
}

/// All that changes; on no I/O path.
pub(crate) struct State {
    /// None of a controller that is stopped or lost.
    admin: Option<AdminQueue>,
    /// Why the controller cannot be stopped.
    lost: Option<String>,
    pub(crate) life: Arc<Life>,
    pub(crate) capabilities: Capabilities,
    pub(crate) doorbells: Arc<Doorbells>,
    namespaces: Vec<NamespaceId>,
    /// Which I/O queue identifiers are in use; the first is queue 1.
    pub(crate) used: Vec<bool>,
}

impl Controller {
    /// Brings up the controller that a carrier reaches.
    ///
    /// One that was enabled is reset first, and [`Identity::was_enabled`] says so.
    ///
    /// # Errors
    /// [`NvmeError`]; the controller is stopped then, where it lets itself be.
    pub fn open(
        carrier: Box<dyn Carrier>,
        options: &Options,
    ) -> Result<Arc<Controller>, NvmeError> {
        let registers = Registers::new(Function::new(carrier), options);
        let up = bring_up(&registers, options)?;
        let identity = up.identity.clone();
        Ok(Arc::new(Controller {
            registers,
            options: options.clone(),
            identity,
            state: Mutex::new(State::new(up)),
        }))
    }

    /// The controller, for messages.
    pub fn name(&self) -> String {
        self.registers.name()
    }

    /// The PCI function, to map memory for.
    pub fn function(&self) -> &Arc<Function> {
        self.registers.function()
    }

    /// What it said of itself when it was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its active namespaces, as of when it was opened or last reset.
    pub fn namespaces(&self) -> Vec<NamespaceId> {
        self.lock().namespaces.clone()
    }

    /// Resets the controller, and brings it up again. All queue pairs made before are dead, and quiet, from then on.
    ///
    /// # Errors
    /// [`NvmeError::Lost`] or [`NvmeError::Removed`] when it cannot be stopped: queue pairs are dead and not quiet then.
    /// The others when it stopped and did not come back: they are quiet, and a reset may be tried again.
    pub fn reset(&self) -> Result<(), NvmeError> {
        self.restart(&mut self.lock())
    }

    /// The same unless queues of that life are quiet already.
    pub(crate) fn reset_of(&self, life: &Life) -> Result<(), NvmeError> {
        let mut state = self.lock();
        if life.is_quiet() {
            return Ok(());
        }
        self.restart(&mut state)
    }

    /// Whether the controller is there, ready, and without fatal status. Queue pairs are dead when it is not.
    ///
    /// # Errors
    /// [`NvmeError`]; only [`Controller::reset`] helps.
    pub fn health(&self) -> Result<(), NvmeError> {
        let state = self.lock();
        self.up(&state)?;
        let looked = self.registers.check("run").and_then(|csts| {
            if csts.rdy() {
                return Ok(());
            }
            Err(self.registers.unfit(
                format!("it was enabled and is not ready (CSTS is {:#010x})", csts.0),
                "nobody else may drive it; look for who does, and reset it",
            ))
        });
        if let Err(why) = &looked {
            state.life.blame(why);
            state.life.end();
        }
        looked
    }

    /// Gives an admin command without data.
    pub(crate) fn execute(&self, what: &'static str, sqe: Sqe) -> Result<u32, NvmeError> {
        self.give(&mut self.lock(), what, sqe)
    }

    /// Gives an admin command that answers with `len` bytes.
    pub(crate) fn read(
        &self,
        what: &'static str,
        sqe: Sqe,
        len: Bytes,
    ) -> Result<Vec<u8>, NvmeError> {
        self.with_admin(&mut self.lock(), |admin, registers, within| {
            admin.read(registers, what, sqe, len, within)
        })
    }

    /// Gives an admin command that answers with a `T`.
    pub(crate) fn read_one<T: FromBytes>(
        &self,
        what: &'static str,
        sqe: Sqe,
    ) -> Result<T, NvmeError> {
        self.with_admin(&mut self.lock(), |admin, registers, within| {
            admin.read_one(registers, what, sqe, within)
        })
    }

    pub(crate) fn take_events(&self) -> Vec<AsyncEvent> {
        let mut state = self.lock();
        state.admin.as_mut().map_or(Vec::new(), AdminQueue::events)
    }

    pub(crate) fn give(
        &self,
        state: &mut State,
        what: &'static str,
        sqe: Sqe,
    ) -> Result<u32, NvmeError> {
        self.with_admin(state, |admin, registers, within| {
            admin.execute(registers, what, sqe, within)
        })
    }

    /// Gives an admin command. Unless it has an answer, good or bad, the controller is reset.
    fn with_admin<T>(
        &self,
        state: &mut State,
        give: impl FnOnce(&mut AdminQueue, &Registers, Nanos) -> Result<T, NvmeError>,
    ) -> Result<T, NvmeError> {
        self.up(state)?;
        let Some(admin) = &mut state.admin else {
            return Err(NvmeError::Down { name: self.name() });
        };
        let given = give(admin, &self.registers, self.options.admin_deadline);
        if let Err(why) = &given
            && !matches!(why, NvmeError::Refused { .. })
        {
            // What the command failed of is what is told; what the reset came to is in the state.
            state.life.blame(why);
            let _ = self.restart(state);
        }
        given
    }

    /// Whether there is a controller to be asked.
    fn up(&self, state: &State) -> Result<(), NvmeError> {
        if let Some(why) = &state.lost {
            return Err(NvmeError::Lost {
                name: self.name(),
                why: why.clone(),
            });
        }
        if state.admin.is_none() {
            return Err(NvmeError::Down { name: self.name() });
        }
        Ok(())
    }

    pub(crate) fn restart(&self, state: &mut State) -> Result<(), NvmeError> {
        if let Some(why) = &state.lost {
            return Err(NvmeError::Lost {
                name: self.name(),
                why: why.clone(),
            });
        }
        self.stop(state)?;
        let up = bring_up(&self.registers, &self.options)?;
        // All that queues, commands and lists are made by.
        let same = |a: &Identity, b: &Identity| {
            (&a.serial, &a.model, a.page, a.doorbell_stride)
                == (&b.serial, &b.model, b.page, b.doorbell_stride)
                && (a.most_entries, a.max_transfer) == (b.most_entries, b.max_transfer)
        };
        if !same(&up.identity, &self.identity) {
            let found = format!(
                "it came back from a reset as {} {}, with pages of {}, queues of {} and transfers of {:?}",
                up.identity.model,
                up.identity.serial,
                up.identity.page,
                up.identity.most_entries,
                up.identity.max_transfer
            );
            *state = State::new(up);
            // It is another one, whose namespaces nobody here knows.
            self.stop(state)?;
            return Err(self
                .registers
                .unfit(found, "these have to be the same; open it anew"));
        }
        *state = State::new(up);
        Ok(())
    }

    /// Stops the controller, and gives its admin queue back.
    fn stop(&self, state: &mut State) -> Result<(), NvmeError> {
        if state.admin.is_some()
            && let Err(why) = self.registers.silence(state.capabilities.ready)
        {
            state.life.end();
            // Told again later in the words of the same error.
            state.lost = Some(match &why {
                NvmeError::Lost { why, .. } => why.clone(),
                why => why.to_string(),
            });
            self.function().distrust();
            state.admin = None;
            return Err(why);
        }
        state.life.quieten();
        state.admin = None;
        Ok(())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked within had given its commands or not; a late completion is no other command's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let mut state = self.lock();
        // Its queue pairs are gone before it. Whoever has the function next may take its power away, without a word.
        if state.admin.is_some() {
            let told = self.identity.shutdown_latency;
            let within = told.unwrap_or(SHUTDOWN).max(SHUTDOWN);
            let _ = self
                .registers
                .shut_down(within.min(self.options.ready_at_most));
        }
        let _ = self.stop(&mut state);
    }
}

impl State {
    fn new(up: Up) -> State {
        State {
            admin: Some(up.admin),
            lost: None,
            life: Arc::default(),
            capabilities: up.capabilities,
            doorbells: up.doorbells,
            namespaces: up.namespaces,
            used: vec![false; up.identity.queue_pairs as usize],
        }
    }
}
