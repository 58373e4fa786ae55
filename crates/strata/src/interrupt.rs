//! Ctrl-C: the first ends the run after what it measures now, the second ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// A flag that SIGINT, SIGTERM and SIGHUP set; a second one of them ends the process at once.
pub(crate) fn watch() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag unset here, and sets it next.
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&flag))?;
        flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}
