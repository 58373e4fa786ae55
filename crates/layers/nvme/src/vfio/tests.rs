//! What is told of functions that cannot be opened, on trees that a test makes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use strata_topology::Root;
use strata_units::PciAddress;

use super::{Vfio, VfioError};

const DRIVE: &str = "0000:81:00.0";
const GROUP: &str = "26";

/// A machine with a drive, its driver and its IOMMU group.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(driver: Option<&str>) -> Tree {
        let tree = Tree(tempfile::tempdir().expect("a folder"));
        tree.write("sys/devices/system/cpu/cpu0/topology/core_id", "0");
        tree.write("proc/1/comm", "init");
        tree.function(DRIVE, "0x010802", driver);
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, format!("{text}\n")).expect("written");
    }

    fn link(&self, path: &str, to: &str) {
        let (path, to) = (self.at(path), self.at(to));
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::create_dir_all(&to).expect("made");
        symlink(to, path).expect("linked");
    }

    /// A function of the group.
    fn function(&self, address: &str, class: &str, driver: Option<&str>) {
        let own = format!("sys/devices/pci0000:80/{address}");
        self.write(&format!("{own}/class"), class);
        self.link(&format!("sys/bus/pci/devices/{address}"), &own);
        let group = format!("sys/kernel/iommu_groups/{GROUP}");
        self.link(&format!("{own}/iommu_group"), &group);
        if let Some(driver) = driver {
            let folder = format!("sys/bus/pci/drivers/{driver}");
            self.link(&format!("{own}/driver"), &folder);
        }
    }

    fn refusal(&self, address: &str) -> VfioError {
        let root = Root::new(self.0.path());
        let address: PciAddress = address.parse().expect("an address");
        match Vfio::open_under(&root, address) {
            Ok(_) => panic!("it opens"),
            Err(why) => why,
        }
    }

    /// The refusal in words, which have to hold these.
    fn says(&self, expected: &[&str]) {
        let why = self.refusal(DRIVE).to_string();
        for text in expected {
            assert!(why.contains(text) && !why.contains('\n'), "{why}");
        }
    }
}

#[test]
fn a_function_that_is_not_there_is_told() {
    let why = Tree::new(None).refusal("0000:82:00.0").to_string();
    assert!(why.contains("no PCI function 0000:82:00.0"), "{why}");
    assert!(why.contains("strata nvme list"), "{why}");
}

#[test]
fn one_of_another_driver_is_told_how_to_be_bound() {
    Tree::new(Some("nvme")).says(&["the kernel's driver nvme", "`strata bind 0000:81:00.0`"]);
    Tree::new(None).says(&["no driver", "`strata bind 0000:81:00.0`"]);
}

#[test]
fn without_an_iommu_the_remedy_is_told() {
    let tree = Tree::new(Some("vfio-pci"));
    let group = format!("sys/devices/pci0000:80/{DRIVE}/iommu_group");
    fs::remove_file(tree.at(&group)).expect("ours");
    tree.says(&["no IOMMU group", "intel_iommu=on", "AMD-Vi"]);
    assert!(matches!(tree.refusal(DRIVE), VfioError::NoIommu { .. }));

    let tree = Tree::new(Some("vfio-pci"));
    tree.write("dev/vfio/noiommu-26", "");
    tree.write("dev/vfio/vfio", "");
    tree.says(&["noiommu-26", "any memory", "amd_iommu=on"]);
    let why = tree.refusal(DRIVE);
    assert!(matches!(why, VfioError::Unprotected { .. }), "{why}");
}

#[test]
fn nodes_that_are_missing_or_closed_are_told() {
    let tree = Tree::new(Some("vfio-pci"));
    tree.says(&["dev/vfio/vfio is missing", "modprobe vfio-pci"]);
    tree.write("dev/vfio/vfio", "");
    tree.says(&["dev/vfio/26 is missing"]);
    // What cannot be opened for reading and writing, by whomever.
    fs::create_dir(tree.at("dev/vfio/26")).expect("made");
    tree.says(&["cannot open", "dev/vfio/26", "chown"]);
    assert!(matches!(tree.refusal(DRIVE), VfioError::Forbidden { .. }));
}

#[test]
fn what_is_no_vfio_is_told() {
    let tree = Tree::new(Some("vfio-pci"));
    tree.write("dev/vfio/vfio", "");
    tree.write("dev/vfio/26", "");
    tree.says(&[
        "VFIO_GET_API_VERSION on /dev/vfio/vfio says",
        "whether /dev/vfio is the kernel's",
    ]);
}

#[test]
fn who_holds_a_group_is_found_by_its_open_files() {
    let tree = Tree::new(Some("vfio-pci"));
    let root = Root::new(tree.0.path());
    let node = tree.at("dev/vfio/26");
    tree.write("proc/4711/comm", "qemu");
    fs::create_dir_all(tree.at("proc/4711/fd")).expect("made");
    symlink("/dev/null", tree.at("proc/4711/fd/0")).expect("linked");
    assert_eq!(super::group_holder(&root, 26), None);
    symlink(&node, tree.at("proc/4711/fd/9")).expect("linked");
    let found = super::group_holder(&root, 26);
    assert_eq!(found.as_deref(), Some("process 4711 (qemu)"));
}

#[test]
fn those_that_share_a_group_are_named_and_bridges_are_not() {
    let tree = Tree::new(Some("vfio-pci"));
    tree.function("0000:80:01.0", "0x060400", Some("pcieport"));
    tree.function("0000:81:00.1", "0x020000", Some("mlx5_core"));
    tree.function("0000:81:00.2", "0x010802", Some("vfio-pci"));
    tree.function("0000:81:00.3", "0x010802", None);
    let root = Root::new(tree.0.path());
    let functions = strata_topology::PciFunction::all(&root);
    let drive = DRIVE.parse().expect("an address");
    let named = super::group::others(&functions, drive, 26);
    assert_eq!(named, "0000:81:00.1 (mlx5_core)");
}
