//! What a plan names, and what stands against it.

use std::fs;

use strata_nvme::binding::{BindError, plan};

use crate::kernel::{DRIVE, address};
use crate::rig::{against, bind, nobody, only, place, planned};
use crate::tree::Tree;

#[test]
fn a_plan_names_all_that_the_kernel_loses_and_changes_nothing() {
    let tree = Tree::new();
    let before = tree.now();
    let found = planned(&tree, DRIVE, false);
    assert_eq!(against(&found), [""; 0]);
    assert_eq!((found.group, found.already), (Some(7), None));
    let drives: Vec<_> = found.drives().collect();
    assert_eq!(drives.len(), 1);
    assert_eq!(drives[0].controller, "nvme0");
    assert_eq!(drives[0].disks, ["nvme0n1"]);
    let modules: Vec<&str> = found.modules.iter().map(|of| of.as_str()).collect();
    assert_eq!(
        modules,
        ["vfio", "vfio_iommu_type1", "vfio_pci_core", "vfio_pci"]
    );
    assert_eq!(tree.now(), before);
    assert!(!place(&tree).exists(), "nothing to write down yet");
}

#[test]
fn the_serial_number_of_each_drive_is_to_be_typed() {
    let tree = Tree::new();
    let before = tree.now();
    for (typed, expected) in [
        (&[][..], "would lose nvme0: type the serial number"),
        (&["S1"][..], "\"S1\" is the serial number of none"),
        (&["s0"][..], "\"s0\" is the serial number of none"),
        (&["S0", "S1"][..], "\"S1\" is the serial number of none"),
    ] {
        let why = bind(&tree, planned(&tree, DRIVE, false), typed)
            .err()
            .expect("untyped");
        assert!(why.is_usage(), "{why}");
        let told = why.to_string();
        assert!(told.contains(expected), "{told}");
        // Nothing to paste.
        assert!(typed.contains(&"S0") || !told.contains("S0"), "{told}");
    }
    assert_eq!(tree.now(), before);
    bind(&tree, planned(&tree, DRIVE, false), &[" S0 "]).expect("typed");
    // One that tells none cannot be told apart.
    let serial = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0/serial");
    tree.put(&serial, "");
    assert!(only(&tree).contains("nvme0 at 0000:81:00.0 tells no serial number"));
}

#[test]
fn a_drive_that_is_on_its_way_is_not_taken_unread() {
    let tree = Tree::new();
    let folder = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0");
    let remove = |path: String| fs::remove_dir_all(tree.folder().join(path)).expect("there");
    // Its namespaces are not found yet; then not even its controller.
    remove(format!("{folder}/nvme0n1"));
    assert!(
        only(&tree).contains("nvme0 shows no namespace"),
        "{}",
        only(&tree)
    );
    remove(folder);
    assert!(
        only(&tree).contains("no controller of the kernel's yet"),
        "{}",
        only(&tree)
    );
    // Without a drive that is named there is none whose serial number could be typed.
    let found = bind(&tree, planned(&tree, DRIVE, false), &[]);
    assert!(matches!(found, Err(BindError::Refused(_))));
}

#[test]
fn what_is_no_drive_is_not_bound() {
    let tree = Tree::new();
    let real = "sys/devices/pci0000:80/0000:83:00.0";
    tree.function(real, "0000:83:00.0", "0x020000", "9");
    tree.bind("0000:83:00.0", "ixgbe");
    let found = planned(&tree, "0000:83:00.0", false);
    assert_eq!(against(&found).len(), 1);
    assert!(
        against(&found)[0].contains("(Ethernet controller) is neither an NVMe"),
        "{found:?}"
    );
    assert!(found.moves.is_empty());
    let why = plan(
        &mut tree.kernel(),
        &place(&tree),
        &nobody,
        address("0000:99:00.0"),
        false,
    );
    assert!(matches!(why, Err(BindError::Absent { .. })));
}

#[test]
fn without_an_iommu_nothing_is_bound() {
    let tree = Tree::new();
    tree.put("sys/kernel/iommu_groups/7/name", "vfio-noiommu");
    let why = only(&tree);
    for word in [
        "without an IOMMU",
        "intel_iommu=on",
        "amd_iommu=on",
        "VT-d",
        "AMD-Vi",
    ] {
        assert!(why.contains(word), "{why}");
    }
    tree.put("sys/kernel/iommu_groups/7/name", "DMA-FQ");
    assert!(against(&planned(&tree, DRIVE, false)).is_empty());
    let link = format!("sys/bus/pci/devices/{DRIVE}/iommu_group");
    fs::remove_file(tree.path(&link)).expect("a link");
    let why = only(&tree);
    for word in ["in no IOMMU group", "intel_iommu=on", "VT-d or AMD-Vi"] {
        assert!(why.contains(word), "{why}");
    }
    let found = planned(&tree, DRIVE, false);
    assert!(matches!(
        bind(&tree, found, &["S0"]).err(),
        Some(BindError::Refused(_))
    ));
}

#[test]
fn a_drive_with_no_driver_or_anothers_is_left() {
    let tree = Tree::new();
    let driver = format!("sys/bus/pci/devices/{DRIVE}/driver");
    fs::remove_file(tree.path(&driver)).expect("bound");
    assert!(only(&tree).contains("has no driver, so that what it holds cannot be read"));
    tree.bind(DRIVE, "uio_pci_generic");
    assert!(only(&tree).contains("is with the driver uio_pci_generic; release it there"));
}

#[test]
fn virtual_functions_go_with_their_physical_one_and_so_refuse() {
    let tree = Tree::new();
    let folder = format!("sys/devices/pci0000:80/{DRIVE}");
    tree.put(&format!("{folder}/sriov_totalvfs"), "8");
    tree.put(&format!("{folder}/sriov_numvfs"), "2");
    assert!(only(&tree).contains("has 2 virtual functions"));
    tree.put(&format!("{folder}/sriov_numvfs"), "0");
    assert!(against(&planned(&tree, DRIVE, false)).is_empty());
}

/// Everything that stands against it is told at once, of every namespace.
#[test]
fn all_refusals_are_gathered() {
    let tree = Tree::new();
    let controller = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0");
    let disk = format!("{controller}/nvme0n2");
    tree.put(&format!("{disk}/dev"), "259:9");
    tree.put(&format!("{disk}/size"), "16384");
    tree.put(&format!("{disk}/queue/logical_block_size"), "512");
    let at = tree.path(&disk).display().to_string();
    tree.link("sys/class/block/nvme0n2", &at);
    let mut bytes = vec![0; 16384 * 512];
    bytes[..8].copy_from_slice(b"SPDKBLOB");
    fs::write(tree.path("dev/nvme0n2"), bytes).expect("a file");
    tree.put(
        "proc/self/mountinfo",
        "36 22 259:0 / /srv rw - xfs /dev/nvme0n1 rw",
    );
    tree.put(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme0n2 partition 1024 0 -2",
    );
    tree.link("proc/7/fd/3", "/dev/nvme0");
    let found = planned(&tree, DRIVE, false);
    let all = against(&found).join("\n");
    for word in [
        "nvme0n1 is mounted at /srv",
        "swaps to nvme0n2",
        "spdk_blobstore",
        "process 7 (daemon) has /dev/nvme0 open",
    ] {
        assert!(all.contains(word), "no {word:?} in\n{all}");
    }
    assert_eq!(found.refusals.len(), 4, "{all}");
    assert!(
        all.lines()
            .all(|line| line.starts_with("0000:81:00.0 is not taken from nvme: ")),
        "{all}"
    );
    let why = bind(&tree, found, &["S0"])
        .err()
        .expect("refused")
        .to_string();
    assert_eq!(why, all);
}

#[test]
fn others_of_the_group_refuse_or_come_along() {
    let tree = Tree::new();
    tree.drive("0000:82:00.0", "7", 1);
    // Bridges do not count, nor what has no driver, nor what is with vfio-pci already.
    let port = "sys/devices/pci0000:80/0000:80:01.0";
    tree.function(port, "0000:80:01.0", "0x060400", "7");
    tree.bind("0000:80:01.0", "pcieport");
    let idle = "sys/devices/pci0000:80/0000:84:00.0";
    tree.function(idle, "0000:84:00.0", "0x040300", "7");
    let why = only(&tree);
    assert!(
        why.contains(
            "shares IOMMU group 7 with 0000:82:00.0 (NVMe controller), which is with nvme"
        ),
        "{why}"
    );
    assert!(why.contains("--whole-group"), "{why}");

    let found = planned(&tree, DRIVE, true);
    assert_eq!(against(&found), [""; 0]);
    let loses: Vec<&str> = found.drives().map(|of| of.controller.as_str()).collect();
    assert_eq!(loses, ["nvme0", "nvme1"]);
    let why = bind(&tree, found, &["S0"])
        .err()
        .expect("one is missing")
        .to_string();
    assert!(why.contains("would lose nvme1:"), "{why}");
    let bound = bind(&tree, planned(&tree, DRIVE, true), &["S1", "S0"]).expect("both");
    for function in [DRIVE, "0000:82:00.0"] {
        let driver = fs::read_link(tree.path(&format!("sys/bus/pci/devices/{function}/driver")));
        assert!(driver.expect("bound").ends_with("vfio-pci"), "{function}");
    }
    drop(bound);

    // In use it does not come along.
    tree.put(
        "proc/self/mountinfo",
        "36 22 259:1 / /srv rw - xfs /dev/nvme1n1 rw",
    );
    let all = against(&planned(&tree, DRIVE, true));
    assert_eq!(all.len(), 1);
    assert!(
        all[0].contains("0000:82:00.0 is not taken from nvme: nvme1n1"),
        "{all:?}"
    );
    tree.put(
        "proc/self/mountinfo",
        "22 1 0:5 / / rw - overlay overlay rw",
    );
    // Nor does what is no drive: whether it is used cannot be told.
    tree.bind("0000:84:00.0", "snd_hda_intel");
    for whole_group in [false, true] {
        let all = against(&planned(&tree, DRIVE, whole_group)).join("\n");
        assert!(
            all.contains("with 0000:84:00.0 (multimedia device), which snd_hda_intel uses"),
            "{all}"
        );
    }
}

/// A Volume Management Device and two drives in its domain.
fn with_vmd(tree: &Tree) {
    let vmd = "sys/devices/pci0000:80/0000:85:00.5";
    tree.function(vmd, "0000:85:00.5", "0x010400", "12");
    tree.put(&format!("{vmd}/vendor"), "0x8086");
    tree.put(&format!("{vmd}/device"), "0x28c0");
    tree.bind("0000:85:00.5", "vmd");
    for (n, function) in [(2, "10000:01:00.0"), (3, "10000:02:00.0")] {
        tree.drive(function, "12", n);
        // Its folder lies below the VMD's.
        let from = tree.path(&format!("sys/devices/pci0000:80/{function}"));
        let to = tree.path(&format!("{vmd}/pci10000:00/{function}"));
        fs::rename(&from, &to).expect("moved");
        let of = |path: &str| to.join(path).display().to_string();
        tree.link(&format!("sys/bus/pci/devices/{function}"), &of(""));
        tree.link(
            &format!("sys/class/nvme/nvme{n}"),
            &of(&format!("nvme/nvme{n}")),
        );
        tree.link(
            &format!("sys/class/block/nvme{n}n1"),
            &of(&format!("nvme/nvme{n}/nvme{n}n1")),
        );
    }
}

#[test]
fn all_drives_behind_a_vmd_are_named_and_checked() {
    let tree = Tree::new();
    with_vmd(&tree);
    let found = planned(&tree, "0000:85:00.5", false);
    assert_eq!(
        against(&found),
        [""; 0],
        "what is behind it is no stranger in its group"
    );
    let loses: Vec<_> = found.drives().map(|of| of.disks.join(",")).collect();
    assert_eq!(loses, ["nvme2n1", "nvme3n1"]);
    assert!(found.typed_matches(&["S2".to_owned()]).is_err());
    found
        .typed_matches(&["S2".to_owned(), "S3".to_owned()])
        .expect("both");
    tree.link("proc/7/fd/3", "/dev/nvme3n1");
    let all = against(&planned(&tree, "0000:85:00.5", false));
    assert_eq!(all.len(), 1);
    assert!(
        all[0].contains("process 7 (daemon) has nvme3n1 open"),
        "{all:?}"
    );
    // A drive behind it cannot go alone.
    let all = against(&planned(&tree, "10000:01:00.0", false));
    assert_eq!(all.len(), 1);
    assert!(
        all[0].contains("is behind the Volume Management Device 0000:85:00.5"),
        "{all:?}"
    );
}

#[test]
fn a_kernel_without_vfio_is_told() {
    let tree = Tree::new();
    let mut kernel = tree.kernel();
    kernel.lacks_modules = true;
    let found = plan(&mut kernel, &place(&tree), &nobody, address(DRIVE), false).expect("a plan");
    let all = against(&found);
    assert_eq!(all.len(), 2, "{all:?}");
    for (why, module) in all.iter().zip(["vfio_iommu_type1", "vfio-pci"]) {
        assert!(
            why.contains(&format!("cannot load the kernel module {module}"))
                && why.contains("install the modules"),
            "{why}"
        );
    }
}
