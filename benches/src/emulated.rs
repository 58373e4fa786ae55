//! The emulated controller in a process of its own, for what is measured of the driver.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strata_nvme::{Controller, NvmeTarget, Options, VfioUser, Wanted, Whose};
use strata_nvme_emulator::{Config, serve};
use strata_nvme_spec::NamespaceId;
use strata_units::{ByteOffset, Bytes, CpuId};

/// The block that is read, and the namespace.
pub const BLOCK: Bytes = Bytes(4096);

/// The namespace.
pub const ALL: Bytes = Bytes(256 << 20);

/// What makes a program the controller: `--emulate FOLDER CPU data|none`.
pub const EMULATE: &str = "--emulate";

/// What goes wrong.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The controller's process, for a program that was started by [`Emulated::start`].
///
/// # Errors
/// It cannot serve.
pub fn emulate(folder: &str, cpu: &str, data: &str) -> Outcome<()> {
    let mut config = Config {
        moves_data: data == "data",
        ..Config::default()
    };
    for namespace in &mut config.namespace {
        namespace.size.0 = ALL;
    }
    // It ends with whoever started it, however that ends.
    let stop = Arc::new(AtomicBool::new(false));
    let parent = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        parent.store(true, Ordering::Relaxed);
    });
    Ok(serve(
        &config,
        Path::new(folder),
        Some(cpu.parse()?),
        &stop,
    )?)
}

/// The controller's process, ended when dropped, with what the driver sees of it.
pub struct Emulated {
    /// Its namespace, filled.
    pub target: NvmeTarget,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulated {
    /// Starts this program again as the controller, which polls on `cpu`, and moves data or only answers.
    ///
    /// # Errors
    /// The process does not start, or its controller does not come up.
    pub fn start(cpu: CpuId, data: bool) -> Outcome<Emulated> {
        let outer = tempfile::tempdir()?;
        let folder = outer.path().join("emulated");
        let mut child = Command::new(std::env::current_exe()?)
            .arg(EMULATE)
            .arg(&folder)
            .args([cpu.to_string().as_str(), if data { "data" } else { "none" }])
            .stdin(Stdio::piped())
            .spawn()?;
        let target = reach(&folder).inspect_err(|_| {
            // What it would have been driven for has failed already.
            let _ = child.kill();
        })?;
        Ok(Emulated {
            target,
            child,
            _folder: outer,
        })
    }
}

fn reach(folder: &Path) -> Outcome<NvmeTarget> {
    let options = Options::default();
    let begun = Instant::now();
    let carrier = loop {
        match VfioUser::connect(folder, options.register_patience) {
            Ok(carrier) => break carrier,
            Err(why) if begun.elapsed() > Duration::from_secs(10) => return Err(why.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let controller = Controller::open(Box::new(carrier), &options)?;
    let wanted = Wanted {
        namespace: NamespaceId(1),
        size: None,
        from: ByteOffset(0),
        block: BLOCK,
        smallest: BLOCK,
        writes: false,
        // Filled, since pages that were never written are one page of zeros.
        whose: Whose::Ours,
        seed: 1,
    };
    let go = AtomicBool::new(false);
    Ok(NvmeTarget::prepare(
        &controller,
        "the controller",
        &wanted,
        &go,
    )?)
}
