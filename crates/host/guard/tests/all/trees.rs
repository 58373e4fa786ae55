//! Uses and identities in made trees: what this machine need not have.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use strata_guard::{Device, DeviceError, Exporter, Identity, Refusal, Tell, Uses, uses};
use strata_topology::Root;
use tempfile::TempDir;

struct Tree(TempDir);

impl Tree {
    /// A machine with one process, nothing mounted, and an NVMe drive of one namespace.
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().expect("a folder"));
        tree.put(
            "proc/self/mountinfo",
            "22 1 0:5 / / rw - overlay overlay rw",
        );
        tree.put("proc/swaps", "Filename Type Size Used Priority");
        tree.put("proc/7/comm", "daemon");
        tree.link("proc/self/ns/mnt", "mnt:[1]");
        tree.link("proc/7/ns/mnt", "mnt:[1]");
        tree.put("proc/7/mountinfo", "");
        tree.disk("nvme0n1", "259:0", "S4EV");
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        path
    }

    fn put(&self, path: &str, text: &str) {
        fs::write(self.path(path), format!("{text}\n")).expect("a file");
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).expect("a link");
    }

    fn disk(&self, name: &str, number: &str, serial: &str) {
        let folder = format!("sys/devices/{name}");
        self.put(&format!("{folder}/dev"), number);
        self.put(&format!("{folder}/size"), "2097152");
        self.put(&format!("{folder}/ro"), "0");
        self.put(&format!("{folder}/queue/logical_block_size"), "4096");
        if !serial.is_empty() {
            self.put(&format!("{folder}/device/serial"), serial);
        }
        self.link(
            &format!("sys/class/block/{name}"),
            &format!("../../devices/{name}"),
        );
    }

    fn part(&self, disk: &str, name: &str, number: &str, part: u32) {
        let folder = format!("sys/devices/{disk}/{name}");
        self.put(&format!("{folder}/dev"), number);
        self.put(&format!("{folder}/size"), "2048");
        self.put(&format!("{folder}/partition"), &part.to_string());
        self.link(
            &format!("sys/class/block/{name}"),
            &format!("../../devices/{disk}/{name}"),
        );
    }

    fn holds(&self, below: &str, above: &str) {
        self.put(&format!("sys/class/block/{below}/holders/{above}/dev"), "");
    }

    fn device(&self, name: &str) -> Device {
        Device::named(&Root::new(self.0.path()), name).expect("a device")
    }

    fn uses(&self, name: &str) -> Uses {
        uses(&self.device(name))
    }
}

/// The refusals by name.
fn names(uses: &Uses) -> Vec<&'static str> {
    uses.refusals.iter().map(Refusal::name).collect()
}

#[test]
fn nothing_forbids_a_free_drive() {
    assert_eq!(Tree::new().uses("nvme0n1"), Uses::default());
}

#[test]
fn a_stack_is_followed_to_its_top() {
    let tree = Tree::new();
    tree.part("nvme0n1", "nvme0n1p1", "259:1", 1);
    tree.part("nvme0n1", "nvme0n1p2", "259:2", 2);
    tree.disk("md0", "9:0", "");
    tree.disk("dm-0", "252:0", "");
    tree.holds("nvme0n1p2", "md0");
    tree.holds("md0", "dm-0");
    tree.put(
        "proc/self/mountinfo",
        "36 22 252:0 / /srv\\040a rw - xfs /dev/mapper/a rw",
    );
    let found = tree.uses("nvme0n1");
    assert_eq!(names(&found), ["partitions", "held", "held", "mounted"]);
    let text = found.refusals[3].to_string();
    assert!(
        text.contains("nvme0n1 is left alone: dm-0 is mounted at /srv a"),
        "{text}"
    );
    // Its neighbour on the drive is another's; what holds the whole drive holds it too.
    assert_eq!(names(&tree.uses("nvme0n1p1")), [""; 0]);
    assert_eq!(names(&tree.uses("nvme0n1p2")), ["held", "held", "mounted"]);
    tree.disk("dm-1", "252:1", "");
    tree.holds("nvme0n1", "dm-1");
    assert_eq!(names(&tree.uses("nvme0n1p1")), ["held"]);
}

#[test]
fn a_circle_of_holders_ends() {
    let tree = Tree::new();
    tree.disk("dm-0", "252:0", "");
    tree.holds("nvme0n1", "dm-0");
    tree.holds("dm-0", "nvme0n1");
    assert_eq!(names(&tree.uses("nvme0n1")), ["held", "held"]);
}

#[test]
fn each_export_is_named() {
    let tree = Tree::new();
    let nvmet = "sys/kernel/config/nvmet/subsystems/nqn.a/namespaces/1";
    tree.put(&format!("{nvmet}/device_path"), "/dev/nvme0n1");
    tree.put(
        "sys/kernel/config/target/core/iblock_0/disk/udev_path",
        "/dev/nvme0n1",
    );
    tree.put(
        "sys/kernel/config/target/core/iblock_0/other/udev_path",
        "/dev/sdz",
    );
    // SCST marks what its user set by a second line (SCST_SYSFS_KEY_MARK).
    tree.put(
        "sys/kernel/scst_tgt/devices/d/filename",
        "/dev/nvme0n1\n[key]",
    );
    let found = tree.uses("nvme0n1");
    let by: Vec<_> = found
        .refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::Exported { by, entry, .. } => (*by, entry.as_str()),
            other => panic!("{other}"),
        })
        .collect();
    let expected = [
        (Exporter::Nvmet, nvmet),
        (Exporter::Lio, "sys/kernel/config/target/core/iblock_0/disk"),
        (Exporter::Scst, "sys/kernel/scst_tgt/devices/d"),
    ];
    assert_eq!(by, expected);
}

/// nvmet may hand on a whole controller, and all its namespaces with it.
#[test]
fn a_controller_that_is_passed_through_is_refused() {
    let tree = Tree::new();
    tree.part("nvme0n1", "nvme0n1p1", "259:1", 1);
    // The head of a multipath drive: its first path is by nvme3, which the head's name does not tell.
    tree.put("sys/class/nvme/nvme3/nvme0c3n1/ana_state", "optimized");
    tree.put("sys/class/nvme/nvme4/nvme4n1/size", "8");
    let subsystem = "sys/kernel/config/nvmet/subsystems/nqn.a/passthru";
    let cases = [
        ("(null)", None, 0),
        ("/dev/nvme4", Some("1"), 0),
        ("/dev/nvme3", Some("0"), 0),
        ("/dev/nvme3", Some("1"), 1),
        ("/dev/nvme3", None, 1),
    ];
    for (path, enable, expected) in cases {
        tree.put(&format!("{subsystem}/device_path"), path);
        let switch = tree.path(&format!("{subsystem}/enable"));
        let _ = fs::remove_file(switch);
        if let Some(enable) = enable {
            tree.put(&format!("{subsystem}/enable"), enable);
        }
        for target in ["nvme0n1", "nvme0n1p1"] {
            let mut found = tree.uses(target);
            found
                .refusals
                .retain(|refusal| refusal.name() != "partitions");
            assert_eq!(
                found.refusals.len(),
                expected,
                "{path} {enable:?} {found:?}"
            );
            for refusal in found.refusals {
                assert!(
                    matches!(&refusal, Refusal::Exported { on, by: Exporter::Nvmet, entry, .. } if on == "nvme3" && entry == subsystem),
                    "{refusal}"
                );
            }
        }
    }
    // A drive of one path lies below its controller by its own name.
    tree.disk("nvme4n1", "259:9", "");
    tree.put(&format!("{subsystem}/device_path"), "/dev/nvme4");
    assert_eq!(names(&tree.uses("nvme4n1")), ["exported"]);
}

#[test]
fn a_target_whose_configuration_is_out_of_sight_is_told() {
    let tree = Tree::new();
    tree.put("sys/module/nvmet/refcnt", "1");
    let found = tree.uses("nvme0n1");
    assert!(found.refusals.is_empty());
    assert!(
        found.unasked[0]
            .to_string()
            .contains("could not be asked: whether it is exported"),
        "{found:?}"
    );
}

#[test]
fn a_head_with_several_live_paths_is_refused() {
    let tree = Tree::new();
    for (controller, state) in [(0, "live"), (1, "connecting")] {
        tree.put(&format!("sys/class/nvme/nvme{controller}/state"), state);
        tree.put(
            &format!("sys/class/nvme/nvme{controller}/nvme0c{controller}n1/ana_state"),
            "optimized",
        );
    }
    assert_eq!(names(&tree.uses("nvme0n1")), [""; 0]);
    tree.put("sys/class/nvme/nvme1/state", "live");
    let found = tree.uses("nvme0n1");
    assert_eq!(names(&found), ["several-paths"]);
    assert!(
        found.refusals[0]
            .to_string()
            .contains("2 live paths (nvme0c0n1, nvme0c1n1)")
    );
}

#[test]
fn who_has_the_whole_disk_has_its_partition() {
    let tree = Tree::new();
    tree.part("nvme0n1", "nvme0n1p1", "259:1", 1);
    tree.part("nvme0n1", "nvme0n1p2", "259:2", 2);
    tree.link("proc/7/fd/4", "/dev/nvme0n1p2");
    assert_eq!(names(&tree.uses("nvme0n1p1")), [""; 0], "a sibling");
    tree.link("proc/7/fd/3", "/dev/nvme0n1");
    assert_eq!(names(&tree.uses("nvme0n1p1")), ["open"]);
}

/// A loop device over a part of a block device holds it in no way that the kernel would enforce.
#[test]
fn below_a_loop_device_the_same_is_asked() {
    let at = "sys/devices/loop0/loop/backing_file";
    let tree = Tree::new();
    tree.disk("sda", "8:0", "S1");
    tree.part("sda", "sda1", "8:1", 1);
    tree.part("sda", "sda2", "8:2", 2);
    tree.disk("loop0", "7:0", "");
    tree.put(at, "/dev/sda1");
    // What is its neighbour's does not matter.
    tree.link("proc/7/fd/3", "/dev/sda2");
    assert_eq!(tree.uses("loop0"), Uses::default());
    tree.part("loop0", "loop0p1", "259:7", 1);
    assert_eq!(tree.uses("loop0p1"), Uses::default());
    fs::remove_dir_all(tree.path("sys/devices/loop0/loop0p1")).expect("removed");
    fs::remove_file(tree.path("sys/class/block/loop0p1")).expect("removed");

    tree.disk("dm-0", "252:0", "");
    tree.disk("loop1", "7:1", "");
    tree.holds("sda1", "dm-0");
    tree.put("sys/devices/loop1/loop/backing_file", "/dev/sda1");
    tree.put(
        "proc/self/mountinfo",
        "36 22 8:1 / /srv rw - xfs /dev/sda1 rw",
    );
    tree.put(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/dm-0 partition 1024 0 -2",
    );
    tree.link("proc/7/fd/4", "/dev/sda");
    tree.put("sys/kernel/scst_tgt/devices/d/filename", "/dev/sda1");
    tree.put("sys/devices/sda/sda1/ro", "1");
    let found = tree.uses("loop0");
    let expected = [
        "read-only",
        "held",
        "held",
        "mounted",
        "swap",
        "exported",
        "open",
    ];
    assert_eq!(names(&found), expected);
    let text: Vec<_> = found.refusals.iter().map(ToString::to_string).collect();
    assert!(
        text[3].contains("loop0 is left alone: sda1 is mounted at /srv"),
        "{text:?}"
    );
    assert!(text[1].contains("sda1 is part of dm-0"), "{text:?}");
    assert!(text[2].contains("sda1 is part of loop1"), "{text:?}");
}

#[test]
fn below_loop_devices_it_goes_on_to_the_disk() {
    let tree = Tree::new();
    for n in 0..2 {
        tree.disk(&format!("loop{n}"), &format!("7:{n}"), "");
    }
    tree.put("sys/devices/loop1/loop/backing_file", "/dev/loop0");
    tree.put("sys/devices/loop0/loop/backing_file", "/dev/nvme0n1");
    assert_eq!(tree.uses("loop1"), Uses::default());
    // A whole disk's partitions may lie under it.
    tree.part("nvme0n1", "nvme0n1p1", "259:1", 1);
    tree.put(
        "proc/self/mountinfo",
        "36 22 259:1 / /srv rw - xfs /dev/nvme0n1p1 rw",
    );
    let nvmet = "sys/kernel/config/nvmet/subsystems/nqn.a/passthru";
    tree.put(&format!("{nvmet}/device_path"), "/dev/nvme0");
    for (controller, path) in [(0, "nvme0c0n1"), (1, "nvme0c1n1")] {
        let folder = format!("sys/class/nvme/nvme{controller}");
        tree.put(&format!("{folder}/state"), "live");
        tree.put(&format!("{folder}/{path}/ana_state"), "optimized");
    }
    let found = tree.uses("loop1");
    assert_eq!(
        names(&found),
        ["partitions", "several-paths", "mounted", "exported"]
    );
    let text = found.refusals[0].to_string();
    assert!(
        text.contains("nvme0n1 is left alone: it has partitions nvme0n1p1"),
        "{text}"
    );
    // A file of any kind may lie below; a circle is the tree's mistake.
    tree.put("sys/devices/loop0/loop/backing_file", "/srv/image");
    assert_eq!(tree.uses("loop1"), Uses::default());
    tree.put("sys/devices/loop0/loop/backing_file", "/dev/loop1");
    assert_eq!(names(&tree.uses("loop1")), ["cannot-tell"]);
}

#[test]
fn swap_open_descriptors_and_members_are_refused() {
    let tree = Tree::new();
    tree.part("nvme0n1", "nvme0n1p1", "259:1", 1);
    tree.put(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1024 0 -2",
    );
    // As a driver in user space has it, by the namespace's character device.
    tree.link("proc/7/fd/3", "/dev/ng0n1");
    tree.link("proc/7/fd/4", "/dev/nvme0n1p1");
    tree.link("proc/7/fd/5", "socket:[9]");
    tree.link(
        "sys/fs/bcachefs/ab-cd/dev-0/block",
        "../../../../devices/nvme0n1",
    );
    let found = tree.uses("nvme0n1");
    assert_eq!(
        names(&found),
        ["partitions", "held", "swap", "open", "open"]
    );
    let text = found.refusals[3].to_string();
    assert!(
        text.contains("process 7 (daemon) has nvme0n1 open"),
        "{text}"
    );
}

/// As QEMU's scsi-generic has it: the disk's other nodes, which pass SCSI commands.
#[test]
fn generic_scsi_nodes_stand_for_their_disk() {
    for (class, node, path) in [
        ("scsi_generic", "sg0", "/dev/sg0"),
        ("bsg", "1:0:0:0", "/dev/bsg/1:0:0:0"),
    ] {
        let tree = Tree::new();
        tree.disk("sda", "8:0", "S1");
        tree.part("sda", "sda1", "8:1", 1);
        tree.put(&format!("sys/class/{class}/{node}/device/block/sda/x"), "");
        // An enclosure has such nodes too, and no disk behind them.
        tree.put("sys/class/scsi_generic/sg9/device/type", "13");
        tree.link("proc/7/fd/4", "/dev/sg9");
        assert_eq!(names(&tree.uses("sda1")), [""; 0]);
        tree.link("proc/7/fd/3", path);
        let found = tree.uses("sda1");
        assert_eq!(names(&found), ["open"], "{path}");
        assert!(
            matches!(&found.refusals[0], Refusal::Open { on, .. } if on == "sda"),
            "{found:?}"
        );
    }
}

#[test]
fn what_cannot_be_looked_at_refuses_or_is_told() {
    let tree = Tree::new();
    // Another mount namespace, whose table is out of reach.
    fs::remove_file(tree.path("proc/7/ns/mnt")).expect("removed");
    tree.link("proc/7/ns/mnt", "mnt:[2]");
    fs::remove_file(tree.path("proc/7/mountinfo")).expect("removed");
    fs::create_dir(tree.path("proc/7/mountinfo")).expect("a folder");
    let found = tree.uses("nvme0n1");
    assert!(found.refusals.is_empty());
    assert!(
        found.unasked[0].why.contains("1 processes are hidden"),
        "{found:?}"
    );
    fs::remove_file(tree.path("proc/self/mountinfo")).expect("removed");
    let found = tree.uses("nvme0n1");
    assert_eq!(names(&found), ["cannot-tell"]);
    assert!(
        found.refusals[0]
            .to_string()
            .contains("cannot tell what is mounted"),
        "{found:?}"
    );
}

#[test]
fn a_read_only_drive_is_refused() {
    let tree = Tree::new();
    tree.put("sys/devices/nvme0n1/ro", "1");
    assert_eq!(names(&tree.uses("nvme0n1")), ["read-only"]);
}

#[test]
fn identities_tell_namespaces_and_partitions_apart() {
    let tree = Tree::new();
    let text = |name: &str| {
        let (identity, unasked) = Identity::of(&tree.device(name));
        assert!(unasked.is_empty());
        (identity.tell(), identity.text().to_owned())
    };
    assert_eq!(text("nvme0n1"), (Tell::Serial, "S4EV".to_owned()));
    tree.disk("nvme0n2", "259:5", "S4EV");
    tree.part("nvme0n2", "nvme0n2p3", "259:6", 3);
    assert_eq!(text("nvme0n1").1, "S4EV/n1");
    assert_eq!(text("nvme0n2p3").1, "S4EV/n2/p3");
    tree.disk("sda", "8:0", "");
    assert_eq!(
        text("sda"),
        (Tell::NameAndSize, "sda/1073741824".to_owned())
    );
    tree.put("sys/devices/sda/device/wwid", "naa.5000c500");
    assert_eq!(text("sda"), (Tell::Wwid, "naa.5000c500".to_owned()));
    let (identity, _) = Identity::of(&tree.device("nvme0n2p3"));
    let error = identity
        .typed_matches("S4EV")
        .expect_err("a partition of a namespace");
    let told = error.to_string();
    assert!(
        told.contains("serial number, with /nN/pM after it") && !told.contains("n2/p3"),
        "{told}"
    );
    identity.typed_matches("S4EV/n2/p3").expect("its identity");
}

#[test]
fn devices_that_are_not_there_or_are_garbage_are_errors() {
    let tree = Tree::new();
    let root = Root::new(tree.0.path());
    tree.put("sys/devices/nvme0n1/size", "-1");
    for name in [
        "",
        ".",
        "..",
        "nvme9n1",
        "a/b",
        "../block/nvme0n1",
        "nvme0n1",
    ] {
        let error = Device::named(&root, name).expect_err(name);
        assert!(
            matches!(error, DeviceError::Unknown { .. }),
            "{name}: {error}"
        );
    }
}
