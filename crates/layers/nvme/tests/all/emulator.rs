//! The emulated controller, served in a thread.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rustix::thread::gettid;
use strata_nvme::{Controller, NvmeError, Options, VfioUser};
use strata_nvme_emulator::{Config, EmulatorError, serve};
use strata_units::{CpuId, Nanos};
use tempfile::TempDir;

/// Long enough for a busy machine; nobody waits for it where all is well.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Emulator {
    folder: TempDir,
    stop: Arc<AtomicBool>,
    /// The thread's number, once it runs.
    id: Arc<AtomicI32>,
    thread: Option<JoinHandle<Result<(), EmulatorError>>>,
}

impl Emulator {
    pub(crate) fn new(toml: &str) -> Emulator {
        Emulator::on(toml, None)
    }

    /// With its thread on that CPU.
    pub(crate) fn on(toml: &str, cpu: Option<CpuId>) -> Emulator {
        let config: Config = toml::from_str(toml).expect(toml);
        let folder = private_folder();
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (folder.path().to_owned(), Arc::clone(&stop));
        let id = Arc::new(AtomicI32::new(0));
        let told = Arc::clone(&id);
        let thread = spawn(move || {
            told.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
            serve(&config, &path, cpu, &stopped)
        });
        Emulator {
            folder,
            stop,
            id,
            thread: Some(thread),
        }
    }

    pub(crate) fn open(&self, options: &Options) -> Result<Arc<Controller>, NvmeError> {
        connect(self.folder(), options)
    }

    pub(crate) fn controller(&self) -> Arc<Controller> {
        self.open(&long()).expect("a sound controller")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How long its thread has waited for its CPU while others had it, as the scheduler says; none where it does not.
    pub(crate) fn waited(&self) -> Option<Duration> {
        let id = self.id.load(Ordering::Relaxed);
        let told = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
        let waited = told.split_whitespace().nth(1)?.parse().ok()?;
        Some(Duration::from_nanos(waited))
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

/// A folder that a controller can be served in.
pub(crate) fn private_folder() -> TempDir {
    let private = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(private).tempdir();
    folder.expect("a folder")
}

/// The controller of a folder, as soon as somebody serves it and has let go of who came before.
pub(crate) fn connect(folder: &Path, options: &Options) -> Result<Arc<Controller>, NvmeError> {
    let begin = Instant::now();
    let carrier = loop {
        match VfioUser::connect(folder, options.register_patience) {
            Ok(carrier) => break carrier,
            Err(why) => assert!(begin.elapsed() < LONG, "{why}"),
        }
        sleep(Duration::from_millis(2));
    };
    Controller::open(Box::new(carrier), options)
}

/// Deadlines that no test meets.
pub(crate) fn long() -> Options {
    Options {
        register_patience: Nanos::from(LONG),
        admin_deadline: Nanos::from(LONG),
        ready_at_most: Nanos::from(LONG),
        ..Options::default()
    }
}
