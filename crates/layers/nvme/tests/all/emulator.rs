//! The emulated controller, served in a thread.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use strata_nvme::{Controller, NvmeError, Options, VfioUser};
use strata_nvme_emulator::{Config, EmulatorError, serve};
use strata_units::Nanos;
use tempfile::TempDir;

/// Long enough for a busy machine; nobody waits for it where all is well.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Emulator {
    folder: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), EmulatorError>>>,
}

impl Emulator {
    pub(crate) fn new(toml: &str) -> Emulator {
        let config: Config = toml::from_str(toml).expect(toml);
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir();
        let folder = folder.expect("a folder");
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (folder.path().to_owned(), Arc::clone(&stop));
        let thread = spawn(move || serve(&config, &path, None, &stopped));
        Emulator {
            folder,
            stop,
            thread: Some(thread),
        }
    }

    /// The carrier, as soon as somebody listens and has let go of who came before.
    fn carrier(&self, patience: Nanos) -> Box<VfioUser> {
        let begin = Instant::now();
        loop {
            match VfioUser::connect(self.folder.path(), patience) {
                Ok(carrier) => return Box::new(carrier),
                Err(why) => assert!(begin.elapsed() < LONG, "{why}"),
            }
            sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn open(&self, options: &Options) -> Result<Arc<Controller>, NvmeError> {
        Controller::open(self.carrier(options.register_patience), options)
    }

    pub(crate) fn controller(&self) -> Arc<Controller> {
        self.open(&long()).expect("a sound controller")
    }

    pub(crate) fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("once");
        thread.join().expect("no panic").expect("served");
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn long() -> Options {
    Options {
        register_patience: Nanos::from(LONG),
        admin_deadline: Nanos::from(LONG),
        ready_at_most: Nanos::from(LONG),
        ..Options::default()
    }
}
