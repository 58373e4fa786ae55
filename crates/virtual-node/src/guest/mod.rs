//! A guest that runs, from its first line on the console to its end.

mod console;
mod keeper;
mod outside;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::description::{Description, MemoryNode};
use crate::image::{Image, cache};
use crate::qemu::{Accelerator, Machine, QEMU, Share, WireEnd, tag};
use crate::qmp::Monitor;
use console::Console;

/// How long a guest may take to come up under software emulation on a busy machine, and by the host's processor.
const BOOT: Duration = Duration::from_secs(180);
const BOOT_KVM: Duration = Duration::from_secs(20);

/// The guests' addresses on the wire between them.
pub const WIRE: [&str; 2] = ["192.168.77.1", "192.168.77.2"];

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
        let folder = folder()?;
        let socket = folder.path().join("wire");
        let wire = description
            .wire
            .is_some()
            .then(|| WireEnd::Serves(socket.clone()));
        let alone = Alone::start(image, description, seen, folder, wire, 0)?;
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
                let peer = Alone::start(image, &small, seen, self::folder()?, end, 1)?;
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
        })
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

/// A guest whose console is the terminal; returns when it ends.
///
/// # Errors
/// QEMU cannot be started.
pub fn shell(image: &Image, description: &Description, seen: &Seen) -> Result<ExitStatus> {
    let folder = folder()?;
    fs::create_dir(folder.path().join("share"))?;
    fs::write(
        folder.path().join("share/init"),
        first_script(seen, None, "shell", "node"),
    )?;
    let description = Description {
        wire: None,
        ..description.clone()
    };
    let accelerator = accelerator(image)?;
    let machine = Machine {
        image,
        description: &description,
        folder: folder.path(),
        shares: &seen.shares(),
        accelerator,
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
        wire: Option<WireEnd>,
        number: usize,
    ) -> Result<Alone> {
        let accelerator = accelerator(image)?;
        let address = wire.as_ref().zip(description.wire.as_ref());
        let address = address.map(|(_, wire)| (WIRE[number], wire.mtu));
        let share = folder.path().join("share");
        fs::create_dir(&share)?;
        let name = ["node", "peer"][number];
        fs::write(
            share.join("init"),
            first_script(seen, address, "serve", name),
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
                let how = self
                    .ended()
                    .map_or("does not answer".to_owned(), |s| format!("has ended ({s})"));
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
            bail!("QEMU has ended ({status}):\n{}", console.last());
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            bail!(
                "the guest did not come up within {} s; the last lines of its console:\n{}",
                within.as_secs(),
                console.last()
            );
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
    Ok(Alone {
        child,
        console,
        port,
        scripts: 0,
        folder,
    })
}

/// A folder for one guest's sockets, drives and scripts. Those of processes that are gone are removed.
fn folder() -> Result<TempDir> {
    let all = std::env::temp_dir();
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name
            .strip_prefix(FOLDER)
            .and_then(|rest| rest.split('-').next())
        else {
            continue;
        };
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{FOLDER}{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&all)
        .with_context(|| format!("cannot make a folder for a guest in {}", all.display()))
}

const FOLDER: &str = "strata-node-";

/// The guest's first script: what it is told, and what is the same for all.
fn first_script(seen: &Seen, wire: Option<(&str, u16)>, mode: &str, name: &str) -> String {
    let quoted = |text: String| text.replace('\'', r"'\''");
    let shares = seen.shares();
    let shares = shares.iter().enumerate().map(|(n, share)| {
        let mode = if share.writable {
            "rw,cache=none"
        } else {
            "ro,cache=loose"
        };
        format!("{} {mode} {}\n", tag(n), share.path.display())
    });
    let programs = seen
        .programs
        .iter()
        .map(|path| format!("{}\n", path.display()));
    let (address, mtu) = wire.map_or((String::new(), 0), |(a, mtu)| (format!("{a}/24"), mtu));
    format!(
        "SHARES='{}'\nPROGRAMS='{}'\nWIRE='{address}' MTU={mtu} MODE={mode} NAME={name}\n{}",
        quoted(shares.collect()),
        quoted(programs.collect()),
        include_str!("init.sh")
    )
}

fn no_qemu(e: io::Error) -> anyhow::Error {
    anyhow!("cannot start {QEMU} (by setpriv, of util-linux): {e}")
}

/// The host's processor where it can run a guest, else translation. A /dev/kvm that is there and does not work is found out
/// once a boot of the host.
fn accelerator(image: &Image) -> Result<Accelerator> {
    match std::env::var("STRATA_NODE_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accelerator::Kvm),
        Ok("tcg") => return Ok(Accelerator::Tcg),
        Ok(other) => bail!("STRATA_NODE_ACCEL={other}: expected kvm or tcg"),
        Err(_) => {}
    }
    let device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if device.is_err() {
        return Ok(Accelerator::Tcg);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = cache()?.join("kvm");
    if let Ok(text) = fs::read_to_string(&known)
        && let Some(found) = text.strip_prefix(boot.trim())
    {
        return Ok(if found.trim() == "works" {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        });
    }
    let works = try_kvm(image).is_ok();
    let word = if works { "works" } else { "fails" };
    // Where it cannot be kept it is found out again.
    let _ = fs::write(&known, format!("{} {word}\n", boot.trim()));
    Ok(if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}

/// Boots the smallest guest by the host's processor.
fn try_kvm(image: &Image) -> Result<()> {
    let description = Description::parse("[[node]]\ncpus = 1\nmemory = \"512MiB\"\n")?;
    let folder = folder()?;
    let share = folder.path().join("share");
    fs::create_dir(&share)?;
    fs::write(
        share.join("init"),
        first_script(&Seen::default(), None, "serve", "node"),
    )?;
    let machine = Machine {
        image,
        description: &description,
        folder: folder.path(),
        shares: &[],
        accelerator: Accelerator::Kvm,
        wire: None,
        on_terminal: false,
    };
    let command = machine.command()?;
    come_up(command, folder, BOOT_KVM).map(drop)
}
