//! Time since the controller began.

use std::time::Instant;

use strata_units::Nanos;

/// The clock of a controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}
