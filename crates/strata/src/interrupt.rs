//! Ctrl-C: the first ends the run after what it measures now, the second ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use strata_block::TargetError;

/// Exit code of an interrupted run.
pub(crate) const INTERRUPTED: u8 = 130;

/// A flag that SIGINT, SIGTERM and SIGHUP set; a second one of them ends the process at once.
pub(crate) fn watch() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag unset here, and sets it next.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&flag))?;
        flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// The user stopped what was being prepared.
#[derive(Debug)]
pub(crate) struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Stopped {}

/// Whether an error says that the user stopped what was being prepared.
pub(crate) fn stopped(error: &anyhow::Error) -> bool {
    error.is::<Stopped>()
        || error.chain().any(|cause| {
            matches!(
                cause.downcast_ref::<TargetError>(),
                Some(TargetError::Interrupted { .. })
            ) || matches!(
                cause.downcast_ref::<strata_nvme::TargetError>(),
                Some(strata_nvme::TargetError::Interrupted { .. })
            )
        })
}
