//! A machine with an NVMe drive, in a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use strata_settings::{Binding, Change, FunctionDriver, Journal, Name};
use strata_topology::Root;
use tempfile::TempDir;

use crate::kernel::{DRIVE, Played, address, name};

/// A tree that goes with the test; in memory where there is any.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// One process of its own, number 7, and the drive bound to nvme; no VFIO.
    pub(crate) fn new() -> Tree {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
        let tree = Tree(folder.expect("a folder"));
        tree.put("sys/devices/system/cpu/cpu0/online", "1");
        tree.put("proc/cpuinfo", "flags : fpu");
        tree.put(
            "proc/self/mountinfo",
            "22 1 0:5 / / rw - overlay overlay rw",
        );
        tree.put("proc/swaps", "Filename Type Size Used Priority");
        tree.put(
            "proc/sys/kernel/random/boot_id",
            "11111111-2222-3333-4444-555555555555",
        );
        tree.link("proc/self/ns/mnt", "mnt:[1]");
        tree.process(7, "daemon", 100);
        tree.own(std::process::id());
        for folder in [
            "sys/class/nvme",
            "sys/class/block",
            "sys/bus/pci/devices",
            "sys/module",
        ] {
            fs::create_dir_all(tree.path(folder)).expect("a folder");
        }
        fs::create_dir_all(tree.path("sys/bus/pci/drivers/nvme")).expect("a folder");
        tree.drive(DRIVE, "7", 0);
        tree
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        path
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        fs::write(self.path(path), format!("{text}\n")).expect("a file");
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        symlink(target, path).expect("a link");
    }

    /// A process that runs.
    pub(crate) fn process(&self, pid: u32, command: &str, started: u64) {
        let fields = "1 ".repeat(18);
        self.put(
            &format!("proc/{pid}/stat"),
            &format!("{pid} ({command}) S {fields}{started} 0"),
        );
        self.put(&format!("proc/{pid}/comm"), command);
        self.put(&format!("proc/{pid}/mountinfo"), "");
        self.link(&format!("proc/{pid}/ns/mnt"), "mnt:[1]");
    }

    /// Which process asks.
    pub(crate) fn own(&self, pid: u32) {
        self.process(pid, "strata", 500);
        let stat = fs::read_to_string(self.path(&format!("proc/{pid}/stat"))).expect("there");
        self.put("proc/self/stat", stat.trim());
    }

    /// A process has ended.
    pub(crate) fn ends(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).expect("it ran");
    }

    /// An NVMe drive of one namespace, `nvmeNn1` with serial number SN, in an IOMMU group and bound to nvme.
    pub(crate) fn drive(&self, function: &str, group: &str, n: u32) {
        let real = format!("sys/devices/pci0000:80/{function}");
        self.function(&real, function, "0x010802", group);
        let controller = format!("{real}/nvme/nvme{n}");
        self.put(&format!("{controller}/state"), "live");
        self.put(&format!("{controller}/transport"), "pcie");
        self.put(&format!("{controller}/serial"), &format!("S{n}"));
        let disk = format!("{controller}/nvme{n}n1");
        self.put(&format!("{disk}/dev"), &format!("259:{n}"));
        self.put(&format!("{disk}/size"), "16384");
        self.put(&format!("{disk}/ro"), "0");
        self.put(&format!("{disk}/queue/logical_block_size"), "512");
        self.link(&format!("{disk}/device"), "..");
        let bytes = vec![0; 16384 * 512];
        fs::write(self.path(&format!("dev/nvme{n}n1")), bytes).expect("a file");
        self.bind(function, "nvme");
        let at = |path: &str| self.0.path().join(path).display().to_string();
        self.link(&format!("sys/class/nvme/nvme{n}"), &at(&controller));
        self.link(&format!("sys/class/block/nvme{n}n1"), &at(&disk));
    }

    /// A PCI function without a driver.
    pub(crate) fn function(&self, real: &str, function: &str, class: &str, group: &str) {
        self.put(&format!("{real}/class"), class);
        self.put(&format!("{real}/driver_override"), "(null)");
        let groups = format!("sys/kernel/iommu_groups/{group}");
        let at = |path: &str| self.0.path().join(path).display().to_string();
        self.link(&format!("{groups}/devices/{function}"), &at(real));
        self.link(&format!("{real}/iommu_group"), &at(&groups));
        self.link(&format!("sys/bus/pci/devices/{function}"), &at(real));
    }

    /// Binds a function that has no driver.
    pub(crate) fn bind(&self, function: &str, driver: &str) {
        let at = |path: &str| self.0.path().join(path).display().to_string();
        let folder = format!("sys/bus/pci/drivers/{driver}");
        fs::create_dir_all(self.0.path().join(&folder)).expect("a folder");
        let device = format!("sys/bus/pci/devices/{function}");
        self.link(&format!("{device}/driver"), &at(&folder));
        self.link(&format!("{folder}/{function}"), &at(&device));
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.0.path())
    }

    pub(crate) fn kernel(&self) -> Played {
        Played::on(self.0.path())
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::open(&self.0.path().join("journal"), &self.root()).expect("a journal")
    }

    /// The binding of the drive.
    pub(crate) fn now(&self) -> Binding {
        Binding::of(&self.root(), address(DRIVE)).expect("there")
    }

    /// How many entries the journal has.
    pub(crate) fn entries(&self) -> usize {
        self.journal().read().expect("readable").len()
    }
}

/// The drive to vfio-pci, with the modules for that.
pub(crate) fn to_vfio() -> Vec<Change> {
    let module = |text: &str| Change::Module { module: name(text) };
    let mut changes: Vec<Change> = ["vfio", "vfio_pci_core", "vfio_pci"].map(module).into();
    changes.push(Change::Driver(FunctionDriver {
        function: address(DRIVE),
        before: Binding::plain(Name::nvme()),
        after: Binding::only(Name::vfio_pci()),
        devices: vec!["nvme0n1".to_owned()],
    }));
    changes
}
