//! One of the two sides in a process of its own, which is then killed or stopped.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strata_peer::{Event, Key, PeerError, Server, connect};

use crate::rig::{KeyFile, NOTICED, Rig, echo, talks, within};

/// Role, address and key file of the second process.
const SIDE: &str = "STRATA_PEER_SIDE";

fn say(words: &str) {
    // On a line of its own, whatever the test harness has begun to print.
    println!("\n@{words}");
    io::stdout().flush().expect("somebody listens");
}

/// What the second process of the tests below does; without being asked by them it has nothing to do.
#[test]
#[ignore = "the second process of other tests, started by them"]
fn second_process() {
    let Ok(side) = env::var(SIDE) else {
        println!("SKIP second_process: {SIDE} is not set; other tests start this one");
        return;
    };
    // It ends with whoever started it.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let parts: Vec<&str> = side.split_whitespace().collect();
    let [role, address, key] = parts[..] else {
        panic!("{side}");
    };
    let address: SocketAddr = address.parse().expect("an address");
    let key = Key::read(Path::new(key)).expect("a key");
    if role == "client" {
        let mut session = connect(&[address], Some(&key)).expect("a session");
        talks(&mut session, "hello");
        say("talking");
        // As one who measures, and listens to nobody.
        let lost = session.lost();
        while !lost.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        say(&format!("over {:?}", session.why_lost().expect("over")));
    } else {
        let server = Server::bind(&[address], Some(key)).expect("bound");
        say(&format!(
            "listening {}",
            server.addresses().expect("bound")[0]
        ));
        let over = |why: PeerError| say(&format!("over {why:?}"));
        let told = |event: Event| say(&format!("told {event}"));
        let never = AtomicBool::new(false);
        server
            .run(&never, |session| over(echo(session)), told)
            .expect("served");
    }
}

/// The second process, seen from the first.
pub(crate) struct Side {
    process: Child,
    words: Receiver<String>,
}

impl Side {
    /// Starts it, as an argument of `before` (such as `ip netns exec HOST`).
    pub(crate) fn start(before: &[&str], role: &str, address: SocketAddr, key: &KeyFile) -> Side {
        let this = env::current_exe().expect("this test");
        let this = this.to_str().expect("a name in UTF-8");
        let arguments = [
            "--ignored",
            "--exact",
            "processes::second_process",
            "--nocapture",
        ];
        let all: Vec<&str> = before
            .iter()
            .copied()
            .chain([this])
            .chain(arguments)
            .collect();
        let mut process = Command::new(all[0])
            .args(&all[1..])
            .env(SIDE, format!("{role} {address} {}", key.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let from = BufReader::new(process.stdout.take().expect("piped"));
        let (heard, words) = channel();
        thread::spawn(move || {
            for line in from.lines().map_while(Result::ok) {
                if let Some(word) = line.strip_prefix('@')
                    && heard.send(word.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Side { process, words }
    }

    /// The rest of the next line that begins so; what comes before it is passed over.
    pub(crate) fn hear(&self, what: &str, within: Duration) -> String {
        let begun = Instant::now();
        let mut before = Vec::new();
        loop {
            let left = within.saturating_sub(begun.elapsed());
            match self.words.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(what) {
                    Some(rest) => return rest.trim().to_owned(),
                    None => before.push(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no `{what}` within {within:?}: {before:?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without `{what}`: {before:?}")
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Stopped or not. An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starting this program anew on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(30);

#[test]
fn a_client_that_is_killed_is_noticed_and_the_next_one_served() {
    let file = KeyFile::new(7);
    let rig = Rig::start(Some(file.key()));
    let client = Side::start(&[], "client", rig.address, &file);
    client.hear("talking", START);
    client.signal(Signal::SIGKILL);
    let begun = Instant::now();
    let why = rig.end(0);
    assert!(matches!(why, PeerError::Gone), "{why:?}");
    assert!(begun.elapsed() < NOTICED);
    talks(
        &mut connect(&[rig.address], Some(&file.key())).expect("it serves on"),
        "next",
    );
}

#[test]
fn a_client_that_is_stopped_is_noticed_and_the_next_one_served() {
    let file = KeyFile::new(8);
    let rig = Rig::start(Some(file.key()));
    let client = Side::start(&[], "client", rig.address, &file);
    client.hear("talking", START);
    client.signal(Signal::SIGSTOP);
    let why = rig.end(0);
    assert!(matches!(why, PeerError::Stalled(_)), "{why:?}");
    let mut next = connect(&[rig.address], Some(&file.key())).expect("it serves on");
    talks(&mut next, "next");
    // Awake again, it is told rather than heard.
    client.signal(Signal::SIGCONT);
    let over = client.hear("over", NOTICED);
    assert!(over.contains("no sign of life"), "{over}");
    talks(&mut next, "still mine");
}

#[test]
fn a_server_that_is_stopped_is_noticed_and_serves_on_when_it_wakes() {
    let file = KeyFile::new(9);
    let server = Side::start(
        &[],
        "server",
        "127.0.0.1:0".parse().expect("an address"),
        &file,
    );
    let address: SocketAddr = server.hear("listening", START).parse().expect("an address");
    let mut session = connect(&[address], Some(&file.key())).expect("a session");
    talks(&mut session, "hello");
    server.signal(Signal::SIGSTOP);
    let lost = session.lost();
    within(NOTICED, || lost.load(Ordering::Relaxed).then_some(()));
    let why = session.why_lost().expect("over");
    assert!(matches!(why, PeerError::Stalled(_)), "{why:?}");
    drop(session);
    server.signal(Signal::SIGCONT);
    server.hear("over", NOTICED);
    talks(
        &mut connect(&[address], Some(&file.key())).expect("it serves on"),
        "next",
    );
}
