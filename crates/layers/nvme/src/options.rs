//! How a controller is brought up.

use strata_units::Nanos;

/// Choices of whoever opens a controller; the defaults are those of a drive in good health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long one register access may take of a controller in another process; for [`crate::VfioUser::connect`].
    pub register_patience: Nanos,
    /// How long an admin command may take. After that the controller is reset.
    pub admin_deadline: Nanos,
    /// The most that is waited for CSTS.RDY, whatever the controller asks for: CRTO may ask for nine hours.
    pub ready_at_most: Nanos,
    /// I/O queue pairs that are asked for; the controller may grant fewer.
    pub queue_pairs: u16,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            register_patience: Nanos::SECOND * 2,
            admin_deadline: Nanos::SECOND * 5,
            // A little above the longest that CAP.TO can ask for.
            ready_at_most: Nanos::SECOND * 130,
            queue_pairs: 64,
        }
    }
}
