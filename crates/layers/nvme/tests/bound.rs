//! A real drive between the kernel and user space, on the machine itself: killed at each step, held by others, signed, and driven
//! from both sides in turn.
//!
//! It is that of a virtual node, or one of this machine whose serial number `STRATA_TEST_DRIVE` names: all that it holds is lost,
//! and only root may do that (give it `--test-threads=1`, since the tests share it).

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use strata_nvme::binding::{BindError, Bound, Holder, Unbound, by_vfio, plan, unbind};
use strata_nvme::{Blocking, Controller};
use strata_nvme_spec::NamespaceId;
use strata_settings::{Binding, Journal, Kernel, Live, Name, restore};
use strata_topology::{Root, Topology};
use strata_units::{ByteOffset, PciAddress};
use strata_virtual_node::on;
use tempfile::TempDir;

const DRIVE: &str = "STRATA_TEST_DRIVE";
const STEP: &str = "STRATA_TEST_STEP";
const JOURNAL: &str = "STRATA_TEST_JOURNAL";
const HOLD: &str = "STRATA_TEST_HOLD";

/// What a process says that holds something open.
const OPEN: &str = "open";

/// What is written from one side and read from the other.
const LEN: usize = 64 << 10;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// The drive, and where its journal is.
struct Drive {
    serial: String,
    function: PciAddress,
    folder: TempDir,
}

/// Runs a test on the drive that is named, on this machine; says whether there is one.
fn here(test: fn(&Drive)) -> bool {
    let serial = std::env::var(DRIVE).ok().filter(|of| !of.is_empty());
    if let Some(serial) = &serial {
        on_it(serial, test);
    }
    serial.is_some()
}

/// Runs a test on a drive that begins with zeros and must end as it was.
fn on_it(serial: &str, test: fn(&Drive)) {
    let drive = Drive::find(serial);
    let drive = drive.unwrap_or_else(|| panic!("no controller of the kernel's is {serial}"));
    drive.write(&vec![0; 4 << 20]);
    test(&drive);
    drive.is_as_before();
}

/// The drive of the virtual node.
const THEIRS: &str = "STRATA0";

#[test]
fn killed_at_each_step_it_is_restored() {
    if !here(killed_at_each_step) {
        on("usual", |_| on_it(THEIRS, killed_at_each_step));
    }
}

#[test]
fn what_one_side_writes_the_other_reads() {
    if !here(driven_from_both_sides) {
        on("usual", |_| on_it(THEIRS, driven_from_both_sides));
    }
}

#[test]
fn in_use_it_stays_where_it_is() {
    if !here(in_use_it_stays) {
        on("usual", |_| on_it(THEIRS, in_use_it_stays));
    }
}

#[test]
fn a_group_that_is_open_stays_where_it_is() {
    if !here(a_group_that_is_open_stays) {
        on("usual", |_| on_it(THEIRS, a_group_that_is_open_stays));
    }
}

#[test]
fn a_blobstore_of_anothers_stays_where_it_is() {
    if !here(anothers_blobstore_stays) {
        on("usual", |_| on_it(THEIRS, anothers_blobstore_stays));
    }
}

/// The process that is killed, or that holds something open.
#[test]
#[ignore = "started by the others"]
fn another_process() {
    if let Some(node) = std::env::var_os(HOLD) {
        hold(Path::new(&node));
    } else if let (Ok(step), Some(journal)) = (std::env::var(STEP), std::env::var_os(JOURNAL)) {
        let serial = std::env::var(DRIVE).expect("a drive");
        killed(
            &serial,
            &PathBuf::from(journal),
            step.parse().expect("a number"),
        );
    }
}

/// This program as [`another_process`].
fn another() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "another_process", "--ignored", "--nocapture"]);
    command
}

impl Drive {
    fn find(serial: &str) -> Option<Drive> {
        let topology = Topology::read(&Root::live()).expect("sysfs");
        let is_it = |told: &Option<String>| told.as_deref().map(str::trim) == Some(serial);
        let found = topology
            .nvme
            .iter()
            .find(|of| is_it(&of.serial) && of.pci.is_some())?;
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("ours");
        Some(Drive {
            serial: serial.to_owned(),
            function: found.pci?,
            folder,
        })
    }

    fn journal(&self) -> &Path {
        self.folder.path()
    }

    fn entries(&self) -> usize {
        let journal = Journal::open(self.journal(), &Root::live()).expect("a journal");
        journal.read().expect("readable").len()
    }

    fn now(&self) -> Binding {
        Binding::of(&Root::live(), self.function).expect("there")
    }

    /// The block device of its first namespace, by whatever name it came back.
    fn node(&self) -> PathBuf {
        let topology = Topology::read(&Root::live()).expect("sysfs");
        let found = topology
            .nvme
            .iter()
            .find(|of| of.pci == Some(self.function));
        let found = found.expect("a controller");
        assert_eq!(found.state.as_deref(), Some("live"));
        Path::new("/dev").join(found.namespaces.first().expect("a namespace"))
    }

    /// Through the kernel, past its cache.
    fn write(&self, bytes: &[u8]) {
        let file = OpenOptions::new()
            .write(true)
            .open(self.node())
            .expect("a device");
        file.write_all_at(bytes, 0).expect("written");
        file.sync_all().expect("on the medium");
    }

    fn read(&self) -> Vec<u8> {
        let file = File::open(self.node()).expect("a device");
        let mut bytes = vec![0; LEN];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }

    fn bind<K: Kernel>(&self, mut kernel: K) -> Result<Bound<K>, BindError> {
        let found = plan(&mut kernel, self.journal(), &by_vfio, self.function, false)?;
        found.bind(
            kernel,
            self.journal(),
            std::slice::from_ref(&self.serial),
            "a test",
        )
    }

    fn is_as_before(&self) {
        assert_eq!(self.now(), Binding::plain(Name::nvme()));
        assert_eq!(self.entries(), 0);
        assert!(self.node().exists());
    }

    /// What a later process does.
    fn restore(&self) {
        let journal = Journal::open(self.journal(), &Root::live()).expect("a journal");
        let told = restore(&journal, &mut Live::default(), None, false).expect("restored");
        assert!(told.iter().all(|told| told.outcome.is_done()), "{told:?}");
    }
}

/// Bytes that no other round has.
fn pattern(seed: u8) -> Vec<u8> {
    (0..LEN).map(|at| (at / 7 % 251) as u8 ^ seed | 1).collect()
}

/// The first namespace by our own driver.
fn polled(drive: &Drive) -> Blocking {
    let controller = by_vfio(drive.function).expect("a controller");
    assert_eq!(controller.identity().serial.trim(), drive.serial);
    blocking(&controller)
}

fn blocking(controller: &std::sync::Arc<Controller>) -> Blocking {
    let namespace = controller.namespace(NamespaceId(1)).expect("usable");
    Blocking::new(controller, namespace).expect("a queue")
}

/// As a run that rebinds once a round: what the one wrote the other reads.
fn driven_from_both_sides(drive: &Drive) {
    let mut bound = drive.bind(Live::default()).expect("bound");
    for round in 0..3_u8 {
        assert_eq!(drive.entries(), 1);
        let ours = pattern(round * 2);
        let mut driver = polled(drive);
        driver.write(ByteOffset(0), &ours).expect("written");
        driver.flush().expect("flushed");
        drop(driver);
        bound.give_to(Holder::Kernel).expect("given");
        assert!(
            drive.read() == ours,
            "round {round}: what was written polled"
        );
        let theirs = pattern(round * 2 + 1);
        drive.write(&theirs);
        bound.give_to(Holder::Vfio).expect("given");
        let mut found = vec![0; LEN];
        polled(drive).read(ByteOffset(0), &mut found).expect("read");
        assert!(found == theirs, "round {round}: what the kernel wrote");
    }
    let undone = bound.undo().expect("undone");
    assert!(
        undone.iter().all(|(_, undone)| undone.is_done()),
        "{undone:?}"
    );
}

fn in_use_it_stays(drive: &Drive) {
    let refused = |expected: &str| {
        let why = drive
            .bind(Live::default())
            .err()
            .expect(expected)
            .to_string();
        assert!(why.contains(expected), "{expected}: {why}");
        assert_eq!(drive.now(), Binding::plain(Name::nvme()));
    };
    let holder = Holding::of(&drive.node());
    refused("open; end it first");
    drop(holder);
    // As a mount or a member holds it.
    let exclusive = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(drive.node());
    refused("EBUSY");
    drop(exclusive.expect("exclusively"));
    let mut head = vec![0; 4096];
    head[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
    drive.write(&head);
    refused("ext");
}

fn a_group_that_is_open_stays(drive: &Drive) {
    let group = fs::read_link(format!(
        "/sys/bus/pci/devices/{}/iommu_group",
        drive.function
    ));
    let group = group.expect("an IOMMU group");
    let node = Path::new("/dev/vfio").join(group.file_name().expect("a number"));
    let bound = drive.bind(Live::default()).expect("bound");
    let holder = Holding::of(&node);
    let begun = Instant::now();
    let undone = bound.undo().expect("the journal");
    assert!(
        undone.iter().any(|(_, undone)| !undone.is_done()),
        "{undone:?}"
    );
    assert!(
        begun.elapsed() < LONG,
        "to unbind would wait for whoever holds it"
    );
    assert_eq!(
        (drive.now().driver, drive.entries()),
        (Some(Name::vfio_pci()), 1)
    );
    drop(holder);
    drive.restore();
}

/// As SPDK's `setup.sh` leaves a drive, and DAOS formats it.
fn anothers_blobstore_stays(drive: &Drive) {
    let mut kernel = Live::default();
    drive.bind(Live::default()).expect("bound").keep();
    // The journal forgets it.
    for file in fs::read_dir(drive.journal()).expect("there").flatten() {
        fs::remove_file(file.path()).expect("ours");
    }
    let mut store = vec![0; 4096];
    store[..8].copy_from_slice(b"SPDKBLOB");
    polled(drive).write(ByteOffset(0), &store).expect("written");
    let found = plan(
        &mut kernel,
        drive.journal(),
        &by_vfio,
        drive.function,
        false,
    )
    .expect("a plan");
    let all: Vec<String> = found.refusals.iter().map(ToString::to_string).collect();
    assert!(
        all.len() == 1 && all[0].contains("carries spdk_blobstore"),
        "{all:?}"
    );
    let refused = unbind(Live::default(), drive.journal(), &by_vfio, drive.function);
    assert!(matches!(refused, Err(BindError::Refused(_))), "{refused:?}");
    assert_eq!(
        (drive.now().driver, drive.entries()),
        (Some(Name::vfio_pci()), 0)
    );
    polled(drive)
        .write(ByteOffset(0), &vec![0; 4096])
        .expect("wiped");
    let given = unbind(Live::default(), drive.journal(), &by_vfio, drive.function);
    assert!(matches!(given, Ok(Unbound::Given(_))), "{given:?}");
    assert_eq!(drive.now(), Binding::plain(Name::nvme()));
    // Where it was before is nothing to go back to.
    for file in fs::read_dir(drive.journal()).expect("there").flatten() {
        fs::remove_file(file.path()).expect("ours");
    }
}

fn killed_at_each_step(drive: &Drive) {
    let (before, content) = (drive.now(), pattern(99));
    drive.write(&content);
    let modules = || {
        let all = fs::read_dir("/sys/module").expect("sysfs").flatten();
        let mut names: Vec<_> = all.map(|of| of.file_name()).collect();
        names.sort();
        names
    };
    let loaded = modules();
    let mut step = 0;
    loop {
        let ended = another()
            .env(DRIVE, &drive.serial)
            .env(STEP, step.to_string())
            .env(JOURNAL, drive.journal())
            .status()
            .expect("a child");
        let was_killed = ended.signal() == Some(Signal::KILL.as_raw());
        assert!(was_killed || ended.success(), "step {step}: {ended}");
        drive.restore();
        assert_eq!(
            (drive.now(), drive.entries()),
            (before.clone(), 0),
            "step {step}"
        );
        assert!(drive.read() == content, "step {step}");
        assert_eq!(modules(), loaded, "step {step}");
        if !was_killed {
            break;
        }
        step += 1;
    }
    // driver_override, unbind, drivers_probe, and the way back.
    assert!(step > 6, "it was over after {step} steps");
    println!("killed at each of {step} steps, and restored");
}

/// Binds and undoes it, and ends before that step; without that many it comes to its end.
fn killed(serial: &str, journal: &Path, step: usize) {
    let mut kernel = Ends {
        live: Live::default(),
        after: usize::MAX,
    };
    let drive = Drive::find(serial).expect("a drive");
    let found = plan(&mut kernel, journal, &by_vfio, drive.function, false).expect("a plan");
    kernel.after = step;
    let bound = found.bind(kernel, journal, &[serial.to_owned()], "a test");
    bound.expect("bound").undo().expect("undone");
}

/// This machine's kernel, until its process is killed.
struct Ends {
    live: Live,
    after: usize,
}

impl Ends {
    fn step(&mut self) -> io::Result<()> {
        if self.after == 0 {
            kill_process(getpid(), Signal::KILL)?;
        }
        self.after -= 1;
        Ok(())
    }
}

impl Kernel for Ends {
    fn root(&self) -> &Root {
        self.live.root()
    }

    fn write(&mut self, attribute: &str, value: &str) -> io::Result<()> {
        self.step()?;
        self.live.write(attribute, value)
    }

    fn needs(&mut self, module: &Name) -> io::Result<Vec<Name>> {
        self.live.needs(module)
    }

    fn load(&mut self, module: &Name) -> io::Result<()> {
        self.step()?;
        self.live.load(module)
    }

    fn unload(&mut self, module: &Name) -> io::Result<()> {
        self.step()?;
        self.live.unload(module)
    }
}

/// A process that has a node open until it is dropped.
struct Holding(Child);

impl Holding {
    fn of(node: &Path) -> Holding {
        let mut child = another()
            .env(HOLD, node)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let out = child.stdout.as_mut().expect("piped");
        let mut lines = io::BufReader::new(out).lines();
        assert!(lines.any(|line| line.is_ok_and(|said| said == OPEN)));
        Holding(child)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a node open until it is killed, or whoever started it is gone.
fn hold(node: &Path) {
    let _open = OpenOptions::new()
        .read(true)
        .write(true)
        .open(node)
        .expect("a node");
    // Behind what libtest says of it.
    println!("\n{OPEN}");
    let _ = io::stdin().read_line(&mut String::new());
}
