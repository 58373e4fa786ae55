//! A process that is killed with SIGKILL at each single step of what it changes, of its way back, and of a restore: what a later
//! one restores is as it was before the first. Not of libtest, since it runs itself as the process that is killed.

#![forbid(unsafe_code)]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "all/kernel.rs"]
mod kernel;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "all/tree.rs"]
mod tree;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, raise};
use strata_settings::{Binding, Journal, Name, Scope, restore};
use strata_topology::Root;

use kernel::{DRIVE, Played, address};
use tree::{Tree, to_vfio};

const TREE: &str = "STRATA_TEST_TREE";
const STEP: &str = "STRATA_TEST_STEP";
const WHAT: &str = "STRATA_TEST_WHAT";

/// What the process does when it is killed.
const KINDS: [&str; 3] = ["scope", "set", "restore"];

fn main() {
    if let Some(tree) = std::env::var_os(TREE) {
        let step = std::env::var(STEP).expect("a step").parse();
        let what = std::env::var(WHAT).expect("a kind");
        return killed(&PathBuf::from(tree), &what, step.expect("a number"));
    }
    for what in KINDS {
        let mut step = 0;
        while one(what, step) {
            step += 1;
        }
        // driver_override, unbind, drivers_probe at least, each way.
        assert!(step > 3, "{what} was over after {step} steps");
        println!("{what}: killed at each of {step} steps, and restored");
    }
}

/// Whether the process was killed at that step; what it left is restored.
fn one(what: &str, step: usize) -> bool {
    let tree = Tree::new();
    let before = tree.now();
    if what == "restore" {
        tree.own(8999);
        let scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio());
        scope.expect("done").keep();
        tree.ends(8999);
    }
    tree.own(9000);
    let child = Command::new(std::env::current_exe().expect("this test"))
        .env(TREE, tree.folder())
        .env(STEP, step.to_string())
        .env(WHAT, what)
        .status()
        .expect("a child");
    let was_killed = child.signal() == Some(Signal::SIGKILL as i32);
    assert!(was_killed || child.success(), "{what} {step}: {child}");
    if !was_killed {
        assert_eq!(tree.entries(), 0, "{what} {step}");
    }
    tree.ends(9000);
    tree.own(9001);
    let told = restore(&tree.journal(), &mut tree.kernel(), None, false).expect("the journal");
    assert!(
        told.iter().all(|told| told.outcome.is_done()),
        "{what} {step}: {told:?}"
    );
    assert_eq!((tree.now(), tree.entries()), (before, 0), "{what} {step}");
    assert!(
        tree.path("sys/class/block/nvme0n1").exists(),
        "{what} {step}"
    );
    for module in ["vfio", "vfio_pci_core", "vfio_pci"] {
        let folder = tree.path(&format!("sys/module/{module}"));
        assert!(!folder.exists(), "{what} {step}: {module}");
    }
    was_killed
}

/// Does one thing, and ends before that step of it; without that many it comes to its end.
fn killed(tree: &Path, what: &str, step: usize) {
    let journal = Journal::open(&tree.join("journal"), &Root::new(tree)).expect("a journal");
    let armed = |from: usize| {
        let mut at = 0;
        let mut kernel = Played::on(tree);
        kernel.hook = Some(Box::new(move |_| {
            if at == from + step {
                raise(Signal::SIGKILL)?;
            }
            at += 1;
            Ok(())
        }));
        kernel
    };
    match what {
        "restore" => {
            restore(&journal, &mut armed(0), None, false).expect("restored");
        }
        "scope" => {
            let scope = Scope::begin(journal, armed(0), "a test", to_vfio()).expect("begun");
            scope.undo().expect("undone");
        }
        // Begun by six steps.
        _ => {
            let scope = Scope::begin(journal, armed(6), "a test", to_vfio());
            let mut scope = scope.expect("begun");
            let (function, root) = (address(DRIVE), Root::new(tree));
            for after in [false, true] {
                scope.set(function, after).expect("set");
                let now = Binding::of(&root, function).expect("there");
                let driver = if after {
                    Name::vfio_pci()
                } else {
                    Name::nvme()
                };
                assert_eq!(now.driver, Some(driver));
            }
            scope.undo().expect("undone");
        }
    }
}
