//! A guest that runs, from its first line on the console to its end.

mod accelerator;
mod console;
mod files;
mod keeper;
mod libc;
mod outside;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::description::{Description, MemoryNode};
use crate::image::Image;
use crate::qemu::{Accelerator, Machine, QEMU, Share, WireEnd};
use crate::qmp::Monitor;
use accelerator::accelerator;
use console::Console;
pub(crate) use files::quoted;
use files::{first_script, folder, share};

/// How long a guest may take to come up under software emulation on a busy machine.
const BOOT: Duration = Duration::from_secs(180);

/// The guests' addresses on the wire between them.
pub const WIRE: [&str; 2] = ["192.168.77.1", "192.168.77.2"];

/// The address of the interface that is Soft-RoCE's own, in a guest that has no wire.
pub const SOFT_ROCE: &str = "192.168.78.1";

/// What a node has of this machine.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Folders, each at its own path.
    pub folders: Vec<Share>,
    /// Programs, which it has in its PATH.
    pub programs: Vec<PathBuf>,
}

impl Seen {
    /// The folders, and those of the programs; none that lies within another.
    fn shares(&self) -> Vec<Share> {
        let mut shares = self.folders.clone();
        for folder in self.programs.iter().filter_map(|path| path.parent()) {
            if !shares.iter().any(|share| folder.starts_with(&share.path)) {
                shares.push(Share::read_only(folder.to_owned()));
            }
        }
        shares
    }
}

/// What came of a script.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// What it and its children wrote, on either stream.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

/// A guest, and the one at the other end of its wire where it has one. Dropped, both end at once.
pub struct Guest {
    alone: Alone,
    peer: Option<Arc<Mutex<Alone>>>,
    changed: Arc<AtomicBool>,
    accelerator: Accelerator,
}

/// One guest.
struct Alone {
    child: Child,
    console: Console,
    port: BufReader<UnixStream>,
    scripts: u32,
    folder: TempDir,
}

impl Guest {
    /// Starts a node, and waits until it takes scripts. `seen` is what it has of this machine.
    ///
    /// # Errors
    /// QEMU cannot be started, or the guest does not come up; then with the last lines of its console.
    pub fn start(image: &Image, description: &Description, seen: &Seen) -> Result<Guest> {
        let accelerator = accelerator(image)?;
        let folder = folder()?;
        let socket = folder.path().join("wire");
        let wire = description
            .wire
            .is_some()
            .then(|| WireEnd::Serves(socket.clone()));
        let start = |description: &Description, folder: TempDir, wire, number| {
            Alone::start(image, description, seen, folder, &accelerator, wire, number)
        };
        let alone = start(description, folder, wire, 0)?;
        let peer = match &description.wire {
            None => None,
            Some(wire) => {
                let small = Description {
                    nodes: vec![MemoryNode {
                        cpus: wire.cpus,
                        memory: wire.memory,
                    }],
                    drives: Vec::new(),
                    iommu: false,
                    ..description.clone()
                };
                let end = Some(WireEnd::Comes(socket));
                let peer = start(&small, self::folder()?, end, 1)?;
                Some(Arc::new(Mutex::new(peer)))
            }
        };
        let monitor = alone.monitor()?;
        let changed = Arc::new(AtomicBool::new(false));
        let ask = alone.connect("ask")?;
        outside::serve(ask, monitor, peer.clone(), Arc::clone(&changed))?;
        alone.port.get_ref().set_read_timeout(None)?;
        Ok(Guest {
            alone,
            peer,
            changed,
            accelerator,
        })
    }

    /// How its instructions are executed: `by KVM`, or `by translation` and why.
    pub fn runs(&self) -> String {
        self.accelerator.to_string()
    }

    /// Runs a script of bash's, and waits for its end.
    ///
    /// # Errors
    /// The guest has crashed, or takes longer than `within`; then it is of no use any more.
    pub fn run(&mut self, script: &str, within: Duration) -> Result<Ran> {
        self.alone.run(script, within)
    }

    /// Starts a script in the guest at the other end of the wire; nobody waits for its end.
    ///
    /// # Errors
    /// There is none, or it has crashed.
    pub fn begin_on_peer(&self, script: &str) -> Result<()> {
        begin(self.peer.as_deref(), script)
    }

    /// Whether its machine still runs, with all that it began with.
    pub fn is_whole(&mut self) -> bool {
        self.alone.ended().is_none() && !self.changed.load(Ordering::Relaxed)
    }
}

fn begin(peer: Option<&Mutex<Alone>>, script: &str) -> Result<()> {
    let peer = peer.context("this node has no [wire], and no second guest")?;
    let mut peer = peer
        .lock()
        .map_err(|_| anyhow!("the second guest is lost"))?;
    peer.begin(script)
}

/// A guest whose console is the terminal; returns when it ends. `say` is told how it runs.
///
/// # Errors
/// QEMU cannot be started.
pub fn shell(
    image: &Image,
    description: &Description,
    seen: &Seen,
    say: &mut dyn FnMut(&str),
) -> Result<ExitStatus> {
    let folder = folder()?;
    share(
        image,
        folder.path(),
        &first_script(seen, None, description.soft_roce, "shell", "node"),
    )?;
    let description = Description {
        wire: None,
        ..description.clone()
    };
    let accelerator = accelerator(image)?;
    say(&format!("the virtual node runs {accelerator}"));
    let machine = Machine {
        image,
        description: &description,
        folder: folder.path(),
        shares: &seen.shares(),
        accelerator: &accelerator,
        wire: None,
        on_terminal: true,
    };
    let mut child = keeper::start(machine.command()?).map_err(no_qemu)?;
    Ok(child.wait()?)
}

impl Alone {
    fn start(
        image: &Image,
        description: &Description,
        seen: &Seen,
        folder: TempDir,
        accelerator: &Accelerator,
        wire: Option<WireEnd>,
        number: usize,
    ) -> Result<Alone> {
        let address = wire.as_ref().zip(description.wire.as_ref());
        let address = address.map(|(_, wire)| (WIRE[number], wire.mtu));
        let name = ["node", "peer"][number];
        share(
            image,
            folder.path(),
            &first_script(seen, address, description.soft_roce, "serve", name),
        )?;
        let machine = Machine {
            image,
            description,
            folder: folder.path(),
            shares: &seen.shares(),
            accelerator,
            wire,
            on_terminal: false,
        };
        come_up(machine.command()?, folder, BOOT)
    }

    fn connect(&self, name: &str) -> io::Result<UnixStream> {
        UnixStream::connect(self.folder.path().join(name))
    }

    fn monitor(&self) -> Result<Monitor> {
        Monitor::new(self.connect("qmp")?).context("cannot speak to QEMU")
    }

    fn write(&mut self, script: &str) -> Result<u32> {
        self.scripts += 1;
        let path = self
            .folder
            .path()
            .join(format!("share/{}.sh", self.scripts));
        fs::write(path, script)?;
        Ok(self.scripts)
    }

    /// Starts a script that is not waited for.
    fn begin(&mut self, script: &str) -> Result<()> {
        let number = self.write(script)?;
        self.answer(&format!("&{number}"), Duration::from_secs(60))
            .map(drop)
    }

    fn run(&mut self, script: &str, within: Duration) -> Result<Ran> {
        let begun = Instant::now();
        let number = self.write(script)?;
        let output = self.folder.path().join(format!("share/{number}.out"));
        let written = || {
            let bytes = fs::read(&output).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let status = self
            .answer(&number.to_string(), within)
            .map_err(|why| anyhow!("{why:#}\nits script's output until then:\n{}", written()))?;
        Ok(Ran {
            status,
            output: written(),
            took: begun.elapsed(),
        })
    }

    /// Sends a line, and takes the exit status that is answered.
    fn answer(&mut self, line: &str, within: Duration) -> Result<i32> {
        let number = line.trim_start_matches('&');
        let stream = self.port.get_mut();
        stream.set_read_timeout(Some(within))?;
        let sent = writeln!(stream, "{line}");
        let mut answer = String::new();
        let read = sent.and_then(|()| self.port.read_line(&mut answer));
        match read {
            Ok(n) if n > 0 => {
                let status = answer.trim().strip_prefix(number).map(str::trim);
                status
                    .and_then(|status| status.parse().ok())
                    .ok_or_else(|| anyhow!("the guest answered {answer:?} to {line:?}"))
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                let _ = self.child.kill();
                bail!(
                    "the guest took longer than {} s and was ended; the last lines of its console:\n{}",
                    within.as_secs(),
                    self.console.last()
                )
            }
            _ => {
                // One that ends lets go of its port first.
                let until = Instant::now() + Duration::from_secs(5);
                while self.ended().is_none() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(50));
                }
                let how = match (self.ended(), read) {
                    (Some(status), _) => format!("has ended ({status})"),
                    (None, Ok(_)) => "has closed its port".to_owned(),
                    (None, Err(why)) => format!("does not answer ({why})"),
                };
                bail!(
                    "the guest {how}; the last lines of its console:\n{}",
                    self.console.last()
                )
            }
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A guest that cannot be started this way, now or later: QEMU itself ended, or the guest did not come up.
#[derive(Debug, thiserror::Error)]
#[error("{what}; the last lines of its console:\n{console}")]
struct NotUp {
    what: String,
    console: String,
}

/// Starts a machine and waits until its guest takes scripts.
fn come_up(mut command: std::process::Command, folder: TempDir, within: Duration) -> Result<Alone> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = keeper::start(command).map_err(no_qemu)?;
    let console = Console::of(&mut child);
    let until = Instant::now() + within;
    let mut port = None;
    let mut ready = String::new();
    loop {
        if let Some(status) = child.try_wait()? {
            bail!(NotUp {
                what: format!("QEMU has ended ({status})"),
                console: console.last(),
            });
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            bail!(NotUp {
                what: format!("the guest did not come up within {} s", within.as_secs()),
                console: console.last(),
            });
        }
        match &mut port {
            None => match UnixStream::connect(folder.path().join("run")) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
                    port = Some(BufReader::new(stream));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            },
            // A time-out leaves what was read until then.
            Some(reader) => {
                if reader.read_line(&mut ready).is_ok_and(|n| n > 0) && ready.trim() == "ready" {
                    break;
                }
            }
        }
    }
    let port = port.context("no port")?;
    files::clear(folder.path())?;
    Ok(Alone {
        child,
        console,
        port,
        scripts: 0,
        folder,
    })
}

fn no_qemu(e: io::Error) -> anyhow::Error {
    anyhow!("cannot start {QEMU} (by setpriv, of util-linux): {e}")
}
