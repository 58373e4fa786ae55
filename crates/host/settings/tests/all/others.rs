//! A scope where others change the same, or its entry.

use std::fs;

use strata_settings::{
    Binding, ChangeError, JournalError, Kernel, Left, Name, Scope, SettingsError, Undone, restore,
};

use crate::kernel::{DRIVE, address};
use crate::tree::{Tree, to_vfio};

/// Another process was faster between the plan and the change: what it made is not undone by the one that lost.
#[test]
fn who_comes_too_late_undoes_nothing() {
    let tree = Tree::new();
    tree.own(9000);
    Scope::begin(tree.journal(), tree.kernel(), "the first", to_vfio())
        .expect("done")
        .keep();
    tree.ends(9000);
    tree.own(9001);
    let mut kernel = tree.kernel();
    kernel.hook = Some(Box::new(|step| panic!("{step}")));
    let late = Scope::begin(tree.journal(), kernel, "the second", to_vfio());
    let why = late.err().expect("changed");
    assert!(
        matches!(why, SettingsError::Change(ChangeError::Changed { .. })),
        "{why}"
    );
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::only(Name::vfio_pci()), 1)
    );
    assert!(tree.path("sys/module/vfio_pci").exists());
}

/// As somebody does who heeds no journal, between two of its changes.
#[test]
fn what_somebody_changes_in_the_middle_is_theirs() {
    let tree = Tree::new();
    fs::create_dir_all(tree.path("sys/bus/pci/drivers/uio_pci_generic")).expect("a driver");
    let (mut kernel, mut other) = (tree.kernel(), tree.kernel());
    let folder = format!("sys/bus/pci/devices/{DRIVE}");
    kernel.hook = Some(Box::new(move |step| {
        if step == "load vfio_pci" {
            other.write(&format!("{folder}/driver/unbind"), DRIVE)?;
            other.write(&format!("{folder}/driver_override"), "vfio-pci")?;
        }
        Ok(())
    }));
    let why = Scope::begin(tree.journal(), kernel, "a test", to_vfio())
        .err()
        .expect("changed");
    assert!(
        matches!(why, SettingsError::Change(ChangeError::Changed { .. })),
        "{why}"
    );
    // Half way to vfio-pci, as a change of ours would have left it.
    let now = tree.now();
    assert_eq!(
        (now.driver, now.driver_override, tree.entries()),
        (None, Some(Name::vfio_pci()), 0)
    );
    assert!(!tree.path("sys/module/vfio").exists(), "that was ours");
}

#[test]
fn a_scope_whose_entry_is_gone_changes_nothing() {
    let tree = Tree::new();
    let own = std::process::id();
    let mut scope = Scope::begin(tree.journal(), tree.kernel(), "a run", to_vfio()).expect("done");
    // By force, of another process, which then has the number of the entry.
    tree.own(9000);
    restore(&tree.journal(), &mut tree.kernel(), None, true).expect("restored");
    assert_eq!(tree.entries(), 0);
    for begun in [false, true] {
        if begun {
            let changes = to_vfio();
            Scope::begin(tree.journal(), tree.kernel(), "another", changes)
                .expect("done")
                .keep();
        }
        let now = tree.now();
        tree.own(own);
        let why = scope.set(address(DRIVE), !begun).expect_err("forgotten");
        assert!(
            matches!(why, SettingsError::Journal(JournalError::Forgotten { .. })),
            "{why}"
        );
        assert!(
            why.to_string().contains("`strata restore --force`"),
            "{why}"
        );
        assert_eq!(tree.now(), now);
        tree.own(9000);
    }
    // What the other one has it keeps.
    tree.own(own);
    let undone = scope.undo().expect("the journal");
    assert!(matches!(&undone[..], [(_, Undone::Gone)]), "{undone:?}");
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::only(Name::vfio_pci()), 1)
    );
}

#[test]
fn what_the_journal_forgot_is_told_where_it_still_stands() {
    let tree = Tree::new();
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a run", to_vfio()).expect("done");
    fs::remove_file(tree.folder().join("journal/1.json")).expect("there");
    let undone = scope.undo().expect("the journal");
    let [(_, Undone::Left(left @ Left::Forgotten { .. }))] = &undone[..] else {
        panic!("{undone:?}");
    };
    let told = left.to_string();
    assert!(
        told.contains("the driver vfio-pci") && told.contains("`strata unbind 0000:81:00.0`"),
        "{told}"
    );
    assert_eq!(tree.now(), Binding::only(Name::vfio_pci()));
}
