//! The emulated controller as a process of its own, started for a run and ended with it.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use strata_nvme::{Controller, Options, VfioUser};
use strata_nvme_emulator::model::{Dice, Pace};
use strata_nvme_emulator::{Config, Memory, serve_then};
use strata_units::{Bytes, CpuId, Nanos};

use crate::cli::EmuArgs;
use crate::{End, Usage, interrupt, output};

/// How long the process may take until its socket is there: its program may come from a cold disk.
const BEGIN: Duration = Duration::from_secs(10);

/// How long it has to end by itself.
const END: Duration = Duration::from_secs(2);

/// What controller is emulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// Its file; the default controller when none.
    pub(crate) path: Option<PathBuf>,
    /// Whether it only answers.
    pub(crate) no_data: bool,
    /// The size of its first namespace; as the file says when none.
    pub(crate) size: Option<Bytes>,
}

impl Model {
    /// The controller's configuration.
    ///
    /// # Errors
    /// The file cannot be read, or makes no sense.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut config = match &self.path {
            None => Config::default(),
            Some(path) => read(path)?,
        };
        let said = |why: &dyn std::fmt::Display| match &self.path {
            Some(path) => Usage::error(format!("{}: {why}", path.display())),
            None => Usage::error(why),
        };
        config.moves_data &= !self.no_data;
        config.check().map_err(|why| said(&why))?;
        if let (Some(size), Some(first)) = (self.size, config.namespace.first_mut()) {
            first.size.0 = size;
            let sized = |why| said(&format_args!("with a first namespace of {size}, {why}"));
            config.check().map_err(sized)?;
        }
        Pace::new(&config.performance, config.seed).map_err(|why| said(&why))?;
        Dice::new(&config.faults, config.seed).map_err(|why| said(&why))?;
        Ok(config)
    }
}

/// How much of a line that makes no sense is shown.
const SHOWN: usize = 60;

/// The longest file of a model.
const LONGEST: u64 = 1 << 20;

fn read(path: &Path) -> Result<Config> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|e| {
            Usage::error(format!(
                "cannot read the model {shown}: {e}; name a TOML file"
            ))
        })?;
    toml::from_str(&text).map_err(|e| {
        let why: Vec<&str> = e.message().lines().collect();
        let before = e.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count());
        // The key stands there; what is wrong with its value does not name it.
        let stands: String = text
            .lines()
            .nth(line)
            .unwrap_or_default()
            .trim()
            .chars()
            .take(SHOWN)
            .collect();
        Usage::error(format!(
            "{shown}, line {}, `{stands}`: {}",
            line + 1,
            why.join(", ")
        ))
    })
}

/// A controller in a process of its own, and the driver's end of it. Dropped, the process ends.
pub(crate) struct Emulated {
    pub(crate) controller: Arc<Controller>,
    /// Its namespaces; none where it only answers.
    held: Vec<Held>,
    process: Process,
}

/// A namespace that keeps what is written.
pub(crate) struct Held {
    pub(crate) size: Bytes,
    /// Whether in ordinary memory, which is taken when it is written.
    pub(crate) in_memory: bool,
}

struct Process {
    child: Child,
    /// Closed, it tells the child that nobody needs it any more.
    alive: Option<ChildStdin>,
    /// Of the socket; nobody else may enter it.
    folder: tempfile::TempDir,
}

impl Emulated {
    /// Starts a controller of `model` that polls on `cpu`, and brings it up.
    ///
    /// # Errors
    /// The process does not start, or its controller does not come up.
    pub(crate) fn start(model: &Model, cpu: CpuId) -> Result<Emulated> {
        // What is wrong with it is told here, not by the process.
        let config = model.config()?;
        let folder = tempfile::Builder::new()
            .prefix("strata-emu-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("cannot make a folder for the emulated controller's socket")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg("emu").arg(folder.path()).arg("--supervised");
        command.arg("--cpu").arg(cpu.to_string());
        if let Some(path) = &model.path {
            command.arg("--model").arg(path);
        }
        if model.no_data {
            command.arg("--no-data");
        }
        if let Some(size) = model.size {
            command.arg("--size").arg(size.to_string());
        }
        let mut child = command
            // A Ctrl-C at the terminal is for whoever started it, who then ends it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the emulated controller's process")?;
        let mut process = Process {
            alive: child.stdin.take(),
            child,
            folder,
        };
        let options = Options {
            queue_pairs: config.queues,
            ..Options::default()
        };
        let carrier = process.connect(options.register_patience)?;
        let controller = Controller::open(Box::new(carrier), &options)?;
        let namespaces = config.namespace.iter().filter(|_| config.moves_data);
        let held = namespaces
            .map(|namespace| Held {
                size: namespace.size.0,
                in_memory: namespace.memory == Memory::Ordinary,
            })
            .collect();
        Ok(Emulated {
            controller,
            held,
            process,
        })
    }

    /// A namespace, if it is there and keeps what is written.
    pub(crate) fn held(&self, namespace: u32) -> Option<&Held> {
        let at = usize::try_from(namespace.checked_sub(1)?).ok()?;
        self.held.get(at)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }
}

impl Process {
    fn connect(&mut self, within: Nanos) -> Result<VfioUser> {
        let begun = Instant::now();
        loop {
            match VfioUser::connect(self.folder.path(), within) {
                Ok(carrier) => return Ok(carrier.called("the emulated controller")),
                Err(why) if begun.elapsed() > BEGIN => {
                    return Err(why).context("the emulated controller did not begin to serve");
                }
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait().context("cannot wait for a child")? {
                bail!(
                    "the emulated controller's process ended with {status}; its reason stands above"
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.alive = None;
        let begun = Instant::now();
        while begun.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // It has nothing to lose: what it holds is the run's own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `strata emu`: serves a controller until it is told to stop.
pub(crate) fn run(args: &EmuArgs) -> Result<End> {
    let model = Model {
        path: args.model.clone(),
        no_data: args.no_data,
        size: args.size,
    };
    let config = model.config()?;
    let stop = interrupt::watch().context("cannot watch for Ctrl-C")?;
    if args.supervised {
        end_with_parent(Arc::clone(&stop))?;
    }
    let told = !args.supervised && !args.quiet;
    let begun = || {
        if told {
            output::tell(&format!(
                "serving {} {} at {}; Ctrl-C ends it",
                config.model,
                config.serial,
                args.folder.display()
            ));
        }
    };
    let served = serve_then(&config, &args.folder, args.cpu, &stop, begun);
    if args.supervised {
        // Whoever made it may have been killed; empty, it is of no use to anybody.
        let _ = std::fs::remove_dir(&args.folder);
    }
    served?;
    Ok(End::Done)
}

/// Stops as soon as whoever started this process has ended or closed our standard input.
fn end_with_parent(stop: Arc<AtomicBool>) -> Result<()> {
    let wait = move || {
        let mut nothing = [0; 16];
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut nothing), Ok(1..)) {}
        stop.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new()
        .name("strata-parent".to_owned())
        .spawn(wait)
        .context("cannot start a thread")?;
    Ok(())
}
