//! A controller served in a thread.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use strata_nvme_emulator::{Config, EmulatorError, serve};
use strata_units::Nanos;
use strata_vfio_user::{Client, ClientError};
use tempfile::TempDir;

/// Long enough for a busy machine; nobody waits for it where all is well.
pub(crate) const LONG: Nanos = Nanos(20_000_000_000);

/// A folder that nobody else enters.
pub(crate) fn folder() -> TempDir {
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().permissions(private).tempdir();
    made.expect("a folder")
}

/// A controller in a thread.
pub(crate) struct Emulator {
    pub(crate) folder: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), EmulatorError>>>,
}

impl Emulator {
    pub(crate) fn new(toml: &str) -> Emulator {
        let config: Config = toml::from_str(toml).expect(toml);
        let folder = folder();
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (folder.path().to_owned(), Arc::clone(&stop));
        let thread = spawn(move || serve(&config, &path, None, &stopped));
        Emulator {
            folder,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A client, as soon as there is a socket and nobody else is served.
    pub(crate) fn client(&self) -> Client {
        let until = Instant::now() + LONG.as_duration();
        loop {
            match Client::connect(self.path(), LONG) {
                Ok(client) => return client,
                Err(ClientError::Unreachable { .. } | ClientError::Refused { .. })
                    if Instant::now() < until =>
                {
                    sleep(Duration::from_millis(2));
                }
                Err(why) => panic!("{why}"),
            }
        }
    }

    /// It served well to the end.
    pub(crate) fn end(self) {
        self.served().expect("served");
    }

    /// Something went wrong that its user should hear of; what.
    pub(crate) fn ends_badly(self) -> String {
        self.served().expect_err("an error").to_string()
    }

    fn served(mut self) -> Result<(), EmulatorError> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("once");
        thread.join().expect("no panic")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
