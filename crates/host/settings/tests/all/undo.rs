//! Undoing from every state.

use strata_settings::{
    Binding, Change, FunctionDriver, Left, Name, Outcome, Scope, Told, Undone, forget, restore,
};

use crate::kernel::{DRIVE, Played, address, name};
use crate::tree::{Tree, to_vfio};

/// An entry of a process that has ended since, its changes made.
fn left_behind(tree: &Tree) {
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio());
    scope.expect("done").keep();
    ended(tree);
}

fn ended(tree: &Tree) {
    tree.ends(std::process::id());
    tree.own(9000);
}

fn all(tree: &Tree, force: bool) -> Vec<Told> {
    restore(&tree.journal(), &mut tree.kernel(), None, force).expect("the journal")
}

fn first(told: &[Told]) -> &Undone {
    match told {
        [
            Told {
                outcome: Outcome::Undone(undone),
                ..
            },
        ] => &undone[0].1,
        other => panic!("{other:?}"),
    }
}

/// Any driver that the function may have had at any step, with any driver_override.
#[test]
fn from_every_state_in_between_all_is_as_before() {
    for driver in [None, Some("nvme"), Some("vfio-pci")] {
        for only in ["(null)", "nvme", "vfio-pci"] {
            let tree = Tree::new();
            left_behind(&tree);
            let mut kernel = tree.kernel();
            put(&mut kernel, driver, only);
            let told = all(&tree, false);
            assert!(first(&told).is_done(), "{driver:?} {only}: {told:?}");
            assert_eq!(
                (tree.now(), tree.entries()),
                (Binding::plain(Name::nvme()), 0),
                "{driver:?} {only}"
            );
            assert!(tree.path("sys/class/block/nvme0n1").exists());
            // Once more it is nobody's.
            assert!(all(&tree, false).is_empty());
        }
    }
}

/// Brings the drive into a state.
fn put(kernel: &mut Played, driver: Option<&str>, only: &str) {
    use strata_settings::Kernel;
    let folder = format!("sys/bus/pci/devices/{DRIVE}");
    let unbind = format!("{folder}/driver/unbind");
    if Binding::of(kernel.root(), address(DRIVE)).is_ok_and(|now| now.driver.is_some()) {
        kernel.write(&unbind, DRIVE).expect("it was bound");
    }
    if let Some(driver) = driver {
        let attribute = format!("{folder}/driver_override");
        kernel.write(&attribute, driver).expect("written");
        kernel
            .write("sys/bus/pci/drivers_probe", DRIVE)
            .expect("bound");
    }
    let only = if only == "(null)" { "" } else { only };
    kernel
        .write(&format!("{folder}/driver_override"), only)
        .expect("written");
}

#[test]
fn what_somebody_else_has_changed_is_left_unless_forced() {
    let tree = Tree::new();
    left_behind(&tree);
    let mut kernel = tree.kernel();
    std::fs::create_dir_all(tree.path("sys/bus/pci/drivers/uio_pci_generic")).expect("a driver");
    put(&mut kernel, Some("uio_pci_generic"), "uio_pci_generic");
    let told = all(&tree, false);
    let Undone::Left(left @ Left::Foreign { .. }) = first(&told) else {
        panic!("{told:?}");
    };
    let text = left.to_string();
    assert!(
        text.contains("the driver uio_pci_generic") && text.contains("--force"),
        "{text}"
    );
    assert_eq!(tree.now().driver, Some(name("uio_pci_generic")));
    assert_eq!(tree.entries(), 1, "told again the next time");
    assert!(first(&all(&tree, true)).is_done());
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
}

#[test]
fn a_function_that_was_removed_has_nothing_to_undo() {
    let tree = Tree::new();
    left_behind(&tree);
    std::fs::remove_file(tree.path(&format!("sys/bus/pci/devices/{DRIVE}"))).expect("there");
    std::fs::remove_file(tree.path(&format!("sys/bus/pci/drivers/vfio-pci/{DRIVE}")))
        .expect("there");
    assert!(matches!(first(&all(&tree, false)), Undone::Gone));
    assert_eq!(tree.entries(), 0);
}

#[test]
fn a_process_that_runs_keeps_what_it_changed() {
    let tree = Tree::new();
    let scope = Scope::begin(tree.journal(), tree.kernel(), "its run", to_vfio()).expect("done");
    tree.own(9000);
    let told = all(&tree, false);
    assert!(matches!(told[0].outcome, Outcome::Runs), "{told:?}");
    let entry = told[0].entry.as_ref().expect("an entry");
    assert_eq!(
        (entry.process.pid, entry.what_for.as_str()),
        (std::process::id(), "its run")
    );
    assert_eq!(tree.now(), Binding::only(Name::vfio_pci()));
    // Nor may another change the same meanwhile.
    let taken = Scope::begin(tree.journal(), tree.kernel(), "another", to_vfio());
    let why = taken.err().expect("taken").to_string();
    assert!(why.contains(DRIVE) && why.contains("(its run)"), "{why}");
    // By force it is undone; its process then finds nothing to undo.
    assert!(first(&all(&tree, true)).is_done());
    assert_eq!(tree.now(), Binding::plain(Name::nvme()));
    tree.own(std::process::id());
    let undone = scope.undo().expect("the journal");
    assert!(matches!(&undone[..], [(_, Undone::Before)]), "{undone:?}");
    // A process of the same number that began later is another.
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a run", to_vfio()).expect("done");
    scope.keep();
    tree.process(std::process::id(), "other", 501);
    tree.own(9000);
    assert!(first(&all(&tree, false)).is_done());
}

#[test]
fn a_later_change_is_undone_first_and_one_below_it_is_left() {
    let tree = Tree::new();
    left_behind(&tree);
    // Another process takes it back for its time, and runs.
    let back = Change::Driver(FunctionDriver {
        function: address(DRIVE),
        before: Binding::only(Name::vfio_pci()),
        after: Binding::plain(Name::nvme()),
        devices: Vec::new(),
    });
    let scope = Scope::begin(tree.journal(), tree.kernel(), "back", vec![back]).expect("done");
    scope.keep();
    tree.own(9001);
    let told = all(&tree, false);
    assert!(matches!(told[0].outcome, Outcome::Runs), "{told:?}");
    let Outcome::Undone(undone) = &told[1].outcome else {
        panic!("{told:?}");
    };
    assert!(
        matches!(undone[0].1, Undone::Left(Left::Under { .. })),
        "{told:?}"
    );
    // It alone had to wait; the driver is bound, so its modules are still needed by nobody.
    assert_eq!(tree.now(), Binding::plain(Name::nvme()));
    assert!(tree.entries() == 2);
    tree.ends(9000);
    let told = all(&tree, false);
    assert!(told.iter().all(|told| told.outcome.is_done()), "{told:?}");
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
}

#[test]
fn a_module_that_others_use_stays_until_they_do_not() {
    let tree = Tree::new();
    tree.drive("0000:82:00.0", "8", 1);
    left_behind(&tree);
    let mut other = FunctionDriver {
        function: address("0000:82:00.0"),
        before: Binding::plain(Name::nvme()),
        after: Binding::only(Name::vfio_pci()),
        devices: vec!["nvme1n1".to_owned()],
    };
    let second = vec![Change::Driver(other.clone())];
    Scope::begin(tree.journal(), tree.kernel(), "second", second)
        .expect("done")
        .keep();
    tree.own(9001);
    tree.ends(9000);
    let only = Some(address(DRIVE));
    let told = restore(&tree.journal(), &mut tree.kernel(), only, false).expect("the journal");
    assert!(told.iter().all(|told| told.outcome.is_done()), "{told:?}");
    let Outcome::Undone(undone) = &told[0].outcome else {
        panic!("{told:?}");
    };
    let shared = undone.iter().find_map(|(_, undone)| match undone {
        Undone::Left(left) => Some(left.to_string()),
        _ => None,
    });
    let shared = shared.expect("the module");
    assert!(
        shared.contains("vfio_pci stays, since 0000:82:00.0"),
        "{shared}"
    );
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 2)
    );
    // The second drive's return frees it, and its entry goes though only that drive was asked for.
    let only = Some(other.function);
    restore(&tree.journal(), &mut tree.kernel(), only, false).expect("the journal");
    other.before = Binding::of(&tree.root(), other.function).expect("there");
    assert_eq!(other.before, Binding::plain(Name::nvme()));
    let rest = all(&tree, false);
    assert!(rest.iter().all(|told| told.outcome.is_done()), "{rest:?}");
    assert_eq!(tree.entries(), 0);
    assert!(!tree.path("sys/module/vfio").exists());
}

/// Stopped while its drives came up: the journal has nothing more to undo, and it is told.
#[test]
fn a_drive_that_is_not_back_is_told_and_forgotten() {
    let tree = Tree::new();
    left_behind(&tree);
    put(&mut tree.kernel(), Some("nvme"), "(null)");
    let state = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0/state");
    tree.put(&state, "connecting");
    let told = all(&tree, false);
    let Undone::Left(left @ Left::NotBack(_)) = first(&told) else {
        panic!("{told:?}");
    };
    let text = left.to_string();
    assert!(text.contains("0 of the 1 block devices"), "{text}");
    assert!(!told[0].outcome.is_done());
    assert_eq!(tree.entries(), 0);
}

/// By hand: as before, or to a driver that it was given on request.
#[test]
fn what_is_as_before_again_is_forgotten() {
    let tree = Tree::new();
    left_behind(&tree);
    let journal = tree.journal();
    let (of, nvme, vfio) = (address(DRIVE), Name::nvme(), Name::vfio_pci());
    let forgets = |given: Option<&Name>| {
        let lock = journal.lock().expect("locked");
        forget(&journal, &tree.root(), &lock, of, given).expect("the journal");
        journal.gave(of, &vfio).expect("read")
    };
    assert!(forgets(Some(&nvme)), "it is with vfio-pci");
    put(&mut tree.kernel(), None, "(null)");
    assert!(forgets(Some(&nvme)), "it is half way");
    // A run whose process lives passes by what was before.
    put(&mut tree.kernel(), Some("nvme"), "(null)");
    tree.process(std::process::id(), "strata", 500);
    assert!(forgets(Some(&nvme)), "it runs");
    tree.ends(std::process::id());
    assert!(!forgets(None), "it is as before");
    // Its modules are still to be unloaded.
    assert_eq!(tree.entries(), 1);
    let told = all(&tree, false);
    assert!(told.iter().all(|told| told.outcome.is_done()), "{told:?}");
    assert_eq!(tree.entries(), 0);
    assert!(!tree.path("sys/module/vfio").exists());
}
