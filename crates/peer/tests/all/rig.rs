//! A server that says everything back, and keys.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use strata_peer::{Event, Key, PeerError, Server, Session};
use strata_units::Nanos;

/// What is asked is five seconds; a busy machine may add to that.
pub(crate) const NOTICED: Duration = Duration::from_secs(8);

/// For an answer that is on its way.
pub(crate) const SOON: Nanos = Nanos(10_000_000_000);

/// Says everything back until the session is over, and why it is.
pub(crate) fn echo(mut session: Session) -> PeerError {
    loop {
        match session.receive_within::<Value>(Nanos::from_millis(200)) {
            Err(PeerError::Silent(_)) => {}
            Err(why) => return why,
            Ok(Value::String(text)) if text == "panic" => panic!("as it was told"),
            // When it cannot be sent the next round says why.
            Ok(message) => drop(session.send(&message)),
        }
    }
}

/// Asserts that a session carries messages both ways.
pub(crate) fn talks(session: &mut Session, text: &str) {
    session.send(&text).expect("sent");
    let back: String = session.receive_within(SOON).expect("sent back");
    assert_eq!(back, text);
}

/// A server in a thread of this process.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    events: Arc<Mutex<Vec<Event>>>,
    ends: Arc<Mutex<Vec<PeerError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    pub(crate) fn start(key: Option<Key>) -> Rig {
        Rig::at("127.0.0.1:0".parse().expect("an address"), key).expect("bound")
    }

    pub(crate) fn at(address: SocketAddr, key: Option<Key>) -> Result<Rig, PeerError> {
        let server = Server::bind(&[address], key)?;
        let address = server.addresses()?[0];
        let stop = Arc::new(AtomicBool::new(false));
        let events = Arc::new(Mutex::new(Vec::new()));
        let ends: Arc<Mutex<Vec<PeerError>>> = Arc::default();
        let thread = thread::spawn({
            let (stop, events, ends) = (stop.clone(), events.clone(), ends.clone());
            move || {
                let over = |why| {
                    ends.lock().expect("whole").push(why);
                    // As one who has to clear up before the cores are free.
                    thread::sleep(Duration::from_millis(30));
                };
                let told = |event| events.lock().expect("whole").push(event);
                server
                    .run(&stop, |session| over(echo(session)), told)
                    .expect("it serves until it is stopped");
            }
        });
        Ok(Rig {
            address,
            stop,
            events,
            ends,
            thread: Some(thread),
        })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().expect("whole").clone()
    }

    /// How many strangers were told of.
    pub(crate) fn strangers(&self) -> usize {
        let count = |event: &Event| match event {
            Event::Strangers(count, _) => *count,
            _ => 0,
        };
        self.events().iter().map(count).sum()
    }

    /// Why the `n`th session was over on the server's side, once it is.
    pub(crate) fn end(&self, n: usize) -> PeerError {
        within(NOTICED, || self.ends.lock().expect("whole").get(n).cloned())
    }

    /// Stops the server and says how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
        begun.elapsed()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failed test has said enough.
            let _ = thread.join();
        }
    }
}

/// Asks now and then until there is an answer, at most so long.
pub(crate) fn within<T>(span: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < span, "not within {span:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder with a key in it.
pub(crate) struct KeyFile {
    dir: tempfile::TempDir,
}

impl KeyFile {
    /// Keys differ when their seeds do.
    pub(crate) fn new(seed: u8) -> KeyFile {
        let dir = tempfile::tempdir().expect("a folder");
        let text: String = (0..32)
            .map(|n: u8| format!("{:02x}", n.wrapping_mul(37) ^ seed))
            .collect();
        let file = KeyFile { dir };
        fs::write(file.path(), text).expect("written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).expect("set");
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(crate) fn key(&self) -> Key {
        Key::read(&self.path()).expect("a key")
    }
}
