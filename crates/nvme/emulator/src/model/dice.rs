//! What becomes of each command.

use serde::{Deserialize, Serialize};
use strata_nvme_spec::Status;
use strata_units::Nanos;

use super::{Access, ModelError};

/// The table `[faults]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// CSTS.RDY stays 0 after the host enables the controller.
    pub never_ready: bool,
}

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Well,
    /// It is not carried out and completes with this status.
    Status(Status),
    /// It is carried out and never completes.
    Lost,
    /// It is carried out and completes so much later than it would have.
    Late(Nanos),
    /// It is carried out and completes twice, the second time so much after the first.
    Twice(Nanos),
    /// Its completion is written with the phase tag of the round before.
    WrongPhase,
    /// It completes with success, and its data are not what they should be.
    Corrupt,
    /// The controller stops with CSTS.CFS set (Base 3.1.4.6).
    Fatal,
    /// The controller is gone: all registers read as ones.
    Removed,
}

/// Decides the fate of commands.
#[derive(Debug, Clone)]
pub struct Dice {
    ready: bool,
}

impl Dice {
    /// Dice that fall as `faults` say, always the same way for a seed and a sequence of commands.
    ///
    /// # Errors
    /// A rule that makes no sense.
    pub fn new(faults: &Faults, _seed: u64) -> Result<Dice, ModelError> {
        Ok(Dice {
            ready: !faults.never_ready,
        })
    }

    /// Whether every command goes well, so that [`fate`](Self::fate) need not be asked.
    pub fn is_fair(&self) -> bool {
        true
    }

    /// What becomes of a command that was fetched at `now`.
    pub fn fate(&mut self, _now: Nanos, _access: &Access) -> Fate {
        Fate::Well
    }

    /// Whether the controller becomes ready after it is enabled.
    pub fn becomes_ready(&self) -> bool {
        self.ready
    }
}
