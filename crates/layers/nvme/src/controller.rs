//! A controller: one admin queue that threads share behind a lock, and queue pairs that each thread has for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_nvme_spec::command::admin::Abort;
use strata_nvme_spec::command::{
    CreateCompletionQueue, CreateSubmissionQueue, Priority, delete_completion_queue,
    delete_submission_queue,
};
use strata_nvme_spec::{AsyncEvent, CommandId, NamespaceId, QueueId, Sqe};
use strata_units::{Bytes, Nanos};
use zerocopy::FromBytes;

use crate::admin::AdminQueue;
use crate::bring_up::{Up, bells, bring_up};
use crate::life::Life;
use crate::queue_pair::QueuePair;
use crate::registers::{Capabilities, Registers};
use crate::{Carrier, Doorbells, Function, Identity, Layout, NvmeError, Options, Unbound};

/// A controller. Its queue pairs hold it, so that it outlives them; dropped, it is stopped.
pub struct Controller {
    registers: Registers,
    options: Options,
    identity: Identity,
    state: Mutex<State>,
}

/// All that changes; on no I/O path.
struct State {
    /// None of a controller that is stopped or lost.
    admin: Option<AdminQueue>,
    /// Why the controller cannot be stopped.
    lost: Option<String>,
    life: Arc<Life>,
    capabilities: Capabilities,
    doorbells: Arc<Doorbells>,
    namespaces: Vec<NamespaceId>,
    /// Which I/O queue identifiers are in use; the first is queue 1.
    used: Vec<bool>,
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

    /// Makes a queue pair, which is polled: no interrupts.
    ///
    /// # Errors
    /// [`NvmeError::Limit`] for sizes above [`Identity::most_entries`] or when all identifiers are in use;
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
        let most = self.identity.most_entries;
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
        if looked.is_err() {
            state.life.end();
        }
        looked
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

    fn give(&self, state: &mut State, what: &'static str, sqe: Sqe) -> Result<u32, NvmeError> {
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

    fn restart(&self, state: &mut State) -> Result<(), NvmeError> {
        if let Some(why) = &state.lost {
            return Err(NvmeError::Lost {
                name: self.name(),
                why: why.clone(),
            });
        }
        self.stop(state)?;
        let up = bring_up(&self.registers, &self.options)?;
        if (&up.identity.serial, &up.identity.model)
            != (&self.identity.serial, &self.identity.model)
        {
            let found = format!(
                "it came back from a reset as {} {}",
                up.identity.model, up.identity.serial
            );
            *state = State::new(up);
            // It is another one, whose namespaces nobody here knows.
            self.stop(state)?;
            return Err(self.registers.unfit(
                found,
                "model and serial number have to be the same; open it anew",
            ));
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
            state.lost = Some(why.to_string());
            self.function().distrust();
            state.admin = None;
            return Err(why);
        }
        state.life.quieten();
        state.admin = None;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked within had given its commands or not; a late completion is no other command's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let mut state = self.lock();
        // Its queue pairs are gone before it, and its drive keeps its power: stopping is enough, without a shutdown.
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

type Delete = (&'static str, fn(QueueId) -> Sqe);

const DELETE_SUBMISSIONS: Delete = ("delete a submission queue", delete_submission_queue);
const DELETE_COMPLETIONS: Delete = ("delete a completion queue", delete_completion_queue);
