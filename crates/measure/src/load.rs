//! The shape of the load on one thread.

use strata_record::{TimedBy, Workload};
use strata_units::{Nanos, QueueDepth};

/// When the window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// After so much time.
    Time(Nanos),
    /// After so many operations.
    Ops(u64),
}

/// A closed loop: so many operations in flight, each followed by the next when it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Operations in flight.
    pub depth: QueueDepth,
    /// Time under load before the window opens.
    pub ramp: Nanos,
    /// When the window closes.
    pub window: Window,
    /// How operations are timed.
    pub timed_by: TimedBy,
    /// How long nothing may complete before the trial is given up, during it and while it drains.
    pub patience: Nanos,
}

/// What no load can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// No window.
    #[error("the window is empty; give a --duration above 0 or --ops of at least 1")]
    NoWindow,
    /// Two.
    #[error("the window has both a duration and a count; give --duration or --ops")]
    TwoWindows,
}

impl Load {
    /// How long nothing may complete before a trial is given up. Longer than a drive's own recovery (NVMe's I/O timeout is
    /// 30 s in Linux) would hang a run; most stalls are far shorter.
    pub const PATIENCE: Nanos = Nanos(10_000_000_000);

    /// The load that a workload asks of each thread.
    ///
    /// # Errors
    /// [`LoadError`] when it has no window, or two.
    pub fn of(workload: &Workload) -> Result<Load, LoadError> {
        let window = match (workload.duration_ns, workload.ops) {
            (Some(span), None) if span.0 > 0 => Window::Time(span),
            (None, Some(ops)) if ops > 0 => Window::Ops(ops),
            (Some(_), Some(_)) => return Err(LoadError::TwoWindows),
            _ => return Err(LoadError::NoWindow),
        };
        Ok(Load {
            depth: workload.depth,
            ramp: workload.ramp_ns,
            window,
            timed_by: workload.timed_by,
            patience: Load::PATIENCE,
        })
    }
}
