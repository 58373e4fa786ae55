//! Changes that hold for a scope.

use std::fs;
use std::io;

use strata_settings::{
    Binding, ChangeError, Left, Name, Outcome, Reason, Scope, SettingsError, Undone, restore,
};

use crate::kernel::{DRIVE, address, name};
use crate::tree::{Tree, to_vfio};

#[test]
fn a_scope_makes_changes_and_undoes_them() {
    let tree = Tree::new();
    let before = tree.now();
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio()).expect("done");
    assert_eq!(tree.now(), Binding::only(Name::vfio_pci()));
    assert_eq!(tree.entries(), 1);
    assert!(!tree.path("sys/class/block/nvme0n1").exists());
    let undone = scope.undo().expect("undone");
    assert!(
        undone
            .iter()
            .all(|(_, undone)| matches!(undone, Undone::Restored)),
        "{undone:?}"
    );
    assert_eq!(undone.len(), 4);
    assert_eq!((tree.now(), tree.entries()), (before, 0));
    assert!(tree.path("sys/class/block/nvme0n1").exists());
    assert!(!tree.path("sys/module/vfio").exists());
}

#[test]
fn a_scope_that_is_dropped_is_undone() {
    let tree = Tree::new();
    let before = tree.now();
    drop(Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio()).expect("done"));
    assert_eq!((tree.now(), tree.entries()), (before, 0));
}

#[test]
fn a_scope_that_is_kept_is_left_to_restore() {
    let tree = Tree::new();
    let before = tree.now();
    Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio())
        .expect("done")
        .keep();
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::only(Name::vfio_pci()), 1)
    );
    // By a later process, when the one that made it has ended.
    tree.ends(std::process::id());
    tree.own(9000);
    let told = restore(&tree.journal(), &mut tree.kernel(), None, false).expect("restored");
    assert!(
        matches!(&told[..], [told] if told.outcome.is_done()),
        "{told:?}"
    );
    assert_eq!((tree.now(), tree.entries()), (before, 0));
}

/// As a run does that rebinds once a round.
#[test]
fn a_drive_goes_back_and_forth_in_one_entry() {
    let tree = Tree::new();
    let mut scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio()).expect("done");
    let file = tree.folder().join("journal/1.json");
    let entry = fs::read(&file).expect("the entry");
    for after in [false, false, true, true, false, true] {
        scope.set(address(DRIVE), after).expect("set");
        let driver = if after { "vfio-pci" } else { "nvme" };
        assert_eq!(tree.now().driver, Some(name(driver)));
        assert_eq!(tree.path("sys/class/block/nvme0n1").exists(), !after);
        assert_eq!(
            fs::read(&file).expect("the entry"),
            entry,
            "it stays as it is"
        );
    }
    let other = scope
        .set(address("0000:01:00.0"), true)
        .expect_err("not its own");
    assert!(
        matches!(other, SettingsError::Change(ChangeError::NotCovered { .. })),
        "{other}"
    );
    // Mounted meanwhile, while the kernel has it.
    scope.set(address(DRIVE), false).expect("set");
    tree.put(
        "proc/self/mountinfo",
        "36 22 259:0 / /srv rw - xfs /dev/nvme0n1 rw",
    );
    let why = scope
        .set(address(DRIVE), true)
        .expect_err("mounted")
        .to_string();
    assert!(why.contains("nvme0n1 is mounted at /srv"), "{why}");
    drop(scope);
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
}

#[test]
fn what_failed_is_undone_at_once() {
    let tree = Tree::new();
    let before = tree.now();
    let mut kernel = tree.kernel();
    kernel.refuses = Some(Name::vfio_pci());
    let why = Scope::begin(tree.journal(), kernel, "a test", to_vfio())
        .err()
        .expect("refused");
    assert!(
        matches!(why, SettingsError::Change(ChangeError::NotBound { .. })),
        "{why}"
    );
    let told = why.to_string();
    assert!(
        told.contains("no driver") && told.contains("vfio-pci"),
        "{told}"
    );
    assert_eq!((tree.now(), tree.entries()), (before, 0));
    assert!(!tree.path("sys/module/vfio_pci").exists());
}

/// Each single step refused by the kernel, as by a sysfs that is mounted read-only.
#[test]
fn whichever_step_fails_the_ones_before_are_undone() {
    let mut steps = 0;
    loop {
        let tree = Tree::new();
        let before = tree.now();
        let mut kernel = tree.kernel();
        let mut at = 0;
        kernel.hook = Some(Box::new(move |_| {
            at += 1;
            if at == steps + 1 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Ok(())
        }));
        let scope = Scope::begin(tree.journal(), kernel, "a test", to_vfio());
        match scope {
            Ok(scope) => {
                scope.keep();
                break;
            }
            Err(why) => assert!(why.to_string().contains("permission denied"), "{why}"),
        }
        assert_eq!((tree.now(), tree.entries()), (before, 0), "step {steps}");
        assert!(!tree.path("sys/module/vfio").exists(), "step {steps}");
        steps += 1;
    }
    // Three modules, driver_override, unbind, drivers_probe.
    assert_eq!(steps, 6);
}

#[test]
fn what_cannot_be_rolled_back_is_told_and_stays_in_the_journal() {
    let tree = Tree::new();
    let mut kernel = tree.kernel();
    let mut broken = false;
    kernel.hook = Some(Box::new(move |step| {
        broken |= step.ends_with("unbind 0000:81:00.0");
        if broken && !step.ends_with("unbind 0000:81:00.0") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }));
    let why = Scope::begin(tree.journal(), kernel, "a test", to_vfio())
        .err()
        .expect("refused");
    let told = why.to_string();
    assert!(matches!(why, SettingsError::Stuck { .. }), "{told}");
    assert!(told.contains("`strata restore` tries again"), "{told}");
    assert_eq!((tree.now().driver, tree.entries()), (None, 1));
    tree.ends(std::process::id());
    tree.own(9000);
    restore(&tree.journal(), &mut tree.kernel(), None, false).expect("restored");
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
}

#[test]
fn a_drive_in_use_is_not_taken() {
    /// What it is, how it begins, and what is said of it.
    type Use<'a> = (&'a str, &'a dyn Fn(&Tree), &'a str);
    let uses: [Use<'_>; 6] = [
        (
            "mounted",
            &|tree| {
                tree.put(
                    "proc/self/mountinfo",
                    "36 22 259:0 / /srv rw - xfs /dev/nvme0n1 rw",
                );
            },
            "is mounted at /srv",
        ),
        (
            "signed",
            &|tree| {
                let mut bytes = fs::read(tree.path("dev/nvme0n1")).expect("a file");
                bytes[0x438] = 0x53;
                bytes[0x439] = 0xef;
                fs::write(tree.path("dev/nvme0n1"), bytes).expect("a file");
            },
            "it carries ext",
        ),
        (
            "open",
            &|tree| tree.link("proc/7/fd/3", "/dev/nvme0n1"),
            "process 7 (daemon) has nvme0n1 open",
        ),
        (
            "administered",
            &|tree| tree.link("proc/7/fd/3", "/dev/nvme0"),
            "process 7 (daemon) has /dev/nvme0 open",
        ),
        (
            "not live",
            &|tree| {
                tree.put(
                    &format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0/state"),
                    "resetting",
                );
            },
            "nvme0 is resetting and not live",
        ),
        (
            "no block device",
            &|tree| {
                let at = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0/ng0n2");
                tree.put(&format!("{at}/dev"), "240:2");
                let to = tree.path(&at).display().to_string();
                tree.link("sys/class/nvme-generic/ng0n2", &to);
            },
            "ng0n2 has no block device",
        ),
    ];
    for (what, begin, expected) in uses {
        let tree = Tree::new();
        let before = tree.now();
        begin(&tree);
        let why = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio());
        let told = why.err().expect(what).to_string();
        assert!(told.contains(expected), "{what}: {told}");
        assert_eq!((tree.now(), tree.entries()), (before, 0), "{what}");
    }
}

/// A process that drives it, as SPDK does, keeps its group open: to unbind it would wait for that process.
#[test]
fn a_group_that_is_open_is_not_taken_back() {
    let tree = Tree::new();
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio()).expect("done");
    tree.link("proc/7/fd/3", "/dev/vfio/7");
    let undone = scope.undo().expect("the journal");
    let Some((_, Undone::Left(Left::Failed(ChangeError::InUse { reasons, .. })))) = undone.first()
    else {
        panic!("{undone:?}");
    };
    assert!(
        matches!(&reasons[..], [Reason::Open { pid: 7, node, .. }] if node == "/dev/vfio/7"),
        "{reasons:?}"
    );
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::only(Name::vfio_pci()), 1)
    );
    // Not by force either.
    tree.ends(std::process::id());
    tree.own(9000);
    let told = restore(&tree.journal(), &mut tree.kernel(), None, true).expect("the journal");
    assert!(!told[0].outcome.is_done(), "{told:?}");
    fs::remove_file(tree.path("proc/7/fd/3")).expect("closed");
    let told = restore(&tree.journal(), &mut tree.kernel(), None, false).expect("restored");
    assert!(matches!(told[0].outcome, Outcome::Undone(_)) && told[0].outcome.is_done());
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
}

#[test]
fn a_drive_that_does_not_come_back_is_told() {
    let tree = Tree::new();
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio()).expect("done");
    let state = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0/state");
    tree.put(&state, "connecting");
    let undone = scope.undo().expect("the journal");
    let told = match undone.first() {
        Some((_, Undone::Left(left))) => left.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(told.contains("0 of the 1 block devices"), "{told}");
    // Its driver it has.
    assert_eq!(tree.now(), Binding::plain(Name::nvme()));
}
