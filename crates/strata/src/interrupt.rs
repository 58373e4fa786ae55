//! Ctrl-C: the first ends the run after what it measures now, the second ends the process, unless a drive has to go back first.

use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use strata_block::TargetError;

use crate::output;

/// Exit code of an interrupted run.
pub(crate) const INTERRUPTED: u8 = 130;

/// How many have something of the host in their hands that has to go back first.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Keeps a second Ctrl-C from ending the process while it lives.
pub(crate) struct Held(());

/// Something of the host was changed, and has to go back before the process ends.
pub(crate) fn hold() -> Held {
    HELD.fetch_add(1, Ordering::SeqCst);
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A flag that SIGINT, SIGTERM and SIGHUP set; a second one of them ends the process at once, unless something of the host
/// has to go back first ([`hold`]).
pub(crate) fn watch() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let armed = Arc::new(AtomicBool::new(false));
    let (told, telling) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds nothing armed.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&armed))?;
        flag::register(signal, Arc::clone(&flag))?;
        pipe::register(signal, telling.try_clone()?)?;
    }
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || arm(told, &armed))?;
    Ok(flag)
}

/// Arms the next signal behind each one, where nothing is held.
fn arm(told: UnixStream, armed: &AtomicBool) {
    for (number, _) in BufReader::new(told)
        .bytes()
        .take_while(Result::is_ok)
        .enumerate()
    {
        let held = HELD.load(Ordering::SeqCst) > 0;
        armed.store(!held, Ordering::SeqCst);
        if held && number > 0 {
            output::tell(
                "a drive goes back to the kernel first; if that hangs, kill this process (SIGKILL) and say `strata restore`",
            );
        }
    }
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
