//! When each command completes.

use serde::{Deserialize, Serialize};
use strata_nvme_spec::Kelvin;
use strata_units::Nanos;

use super::{Access, ModelError};

/// The table `[performance]`; without keys every command completes at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Performance {}

/// Says when commands complete.
#[derive(Debug, Clone)]
pub struct Pace {}

/// The temperature where nothing is said about it: a room's.
const ROOM: Kelvin = Kelvin(298);

impl Pace {
    /// A pace as `performance` says, always the same for a seed and a sequence of commands.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn new(_performance: &Performance, _seed: u64) -> Result<Pace, ModelError> {
        Ok(Pace {})
    }

    /// Whether every command completes at once, so that [`due`](Self::due) need not be asked and no clock be read.
    pub fn is_instant(&self) -> bool {
        true
    }

    /// When a command completes that was fetched at `now`; never before.
    pub fn due(&mut self, now: Nanos, _access: &Access) -> Nanos {
        now
    }

    /// The temperature at `now`, for the SMART log.
    pub fn temperature(&mut self, _now: Nanos) -> Kelvin {
        ROOM
    }

    /// The temperatures from which on the controller is too warm: WCTEMP and CCTEMP of Identify Controller
    /// (Base 5.1.13.2.1). `None` without a thermal model.
    pub fn thresholds(&self) -> Option<(Kelvin, Kelvin)> {
        None
    }

    /// How long it was at or above the warning temperature and below the critical one, and at or above the critical one
    /// (Base 5.1.12.1.3).
    pub fn too_warm(&self) -> (Nanos, Nanos) {
        (Nanos(0), Nanos(0))
    }
}
