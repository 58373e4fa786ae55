//! Drives that go to vfio-pci and come back.

use std::error::Error;
use std::sync::Arc;

use strata_nvme::binding::{Already, BindError, Holder, Plan, Unbound, plan, unbind};
use strata_nvme::{Blocking, Controller};
use strata_nvme_spec::NamespaceId;
use strata_settings::{Binding, Kernel, Name, restore};
use strata_units::{ByteOffset, PciAddress};

use crate::emulator::Emulator;
use crate::kernel::{DRIVE, Played, address};
use crate::rig::{against, bind, nobody, place, planned};
use crate::tree::Tree;

type Opened = Result<Arc<Controller>, Box<dyn Error + Send + Sync>>;

/// Two namespaces; the second of which carries a blobstore, or nothing.
fn drive(store: bool) -> Emulator {
    let emulator = Emulator::new("[[namespace]]\nsize = \"4MiB\"\n[[namespace]]\nsize = \"4MiB\"");
    if store {
        let controller = emulator.controller();
        let namespace = controller.namespace(NamespaceId(2)).expect("usable");
        let mut blocking = Blocking::new(&controller, namespace).expect("a queue");
        let mut block = vec![0; 4096];
        block[..8].copy_from_slice(b"SPDKBLOB");
        blocking.write(ByteOffset(0), &block).expect("written");
    }
    emulator
}

/// As somebody else binds it.
fn by_hand(tree: &Tree, driver: &str) {
    let mut kernel = tree.kernel();
    if !tree.path("sys/module/vfio_pci").exists() {
        kernel.load(&Name::vfio_pci()).expect("loaded");
    }
    let folder = format!("sys/bus/pci/devices/{DRIVE}");
    kernel
        .write(&format!("{folder}/driver_override"), driver)
        .expect("written");
    kernel
        .write(&format!("{folder}/driver/unbind"), DRIVE)
        .expect("unbound");
    kernel
        .write("sys/bus/pci/drivers_probe", DRIVE)
        .expect("bound");
    assert_eq!(tree.now().driver.expect("bound").as_str(), driver);
}

fn plan_with(tree: &Tree, open: &dyn Fn(PciAddress) -> Opened) -> Plan {
    plan(
        &mut tree.kernel(),
        &place(tree),
        open,
        address(DRIVE),
        false,
    )
    .expect("a plan")
}

#[test]
fn a_run_gives_a_drive_back_and_forth_in_one_entry() {
    let tree = Tree::new();
    let mut bound = bind(&tree, planned(&tree, DRIVE, false), &["S0"]).expect("bound");
    for holder in [
        Holder::Kernel,
        Holder::Vfio,
        Holder::Kernel,
        Holder::Kernel,
        Holder::Vfio,
    ] {
        bound.give_to(holder).expect("given");
        let driver = match holder {
            Holder::Kernel => Name::nvme(),
            Holder::Vfio => Name::vfio_pci(),
        };
        assert_eq!(tree.now().driver, Some(driver));
        assert_eq!(
            tree.path("sys/class/block/nvme0n1").exists(),
            holder == Holder::Kernel
        );
        assert_eq!(tree.entries(), 1);
    }
    // Used by somebody in between, it is not taken.
    bound.give_to(Holder::Kernel).expect("given");
    tree.link("proc/7/fd/3", "/dev/nvme0n1");
    let why = bound.give_to(Holder::Vfio).expect_err("open").to_string();
    assert!(why.contains("process 7 (daemon) has nvme0n1 open"), "{why}");
    drop(bound);
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
}

#[test]
fn what_strata_bound_is_unbound_whatever_it_carries() {
    let tree = Tree::new();
    bind(&tree, planned(&tree, DRIVE, false), &["S0"])
        .expect("bound")
        .keep();
    // By a later command.
    tree.ends(std::process::id());
    tree.own(9000);
    let again = planned(&tree, DRIVE, false);
    assert_eq!(
        (again.already, against(&again).len()),
        (Some(Already::Ours), 0)
    );
    let why = bind(&tree, again, &["S0"]).err().expect("nothing to do");
    assert!(matches!(why, BindError::Already { .. }), "{why}");
    // It is not even opened.
    let unbound = unbind(tree.kernel(), &place(&tree), &nobody, address(DRIVE)).expect("unbound");
    let Unbound::Undone(told) = unbound else {
        panic!("{unbound:?}");
    };
    assert!(told.iter().all(|told| told.outcome.is_done()), "{told:?}");
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 0)
    );
    let unbound = unbind(tree.kernel(), &place(&tree), &nobody, address(DRIVE)).expect("there");
    assert!(matches!(unbound, Unbound::Already(driver) if driver == Name::nvme()));
}

/// A DAOS drive on vfio-pci has no mounts, holders or partitions.
#[test]
fn a_blobstore_that_somebody_else_has_on_vfio_refuses_both_ways() {
    let tree = Tree::new();
    by_hand(&tree, "vfio-pci");
    let stands = tree.now();
    let emulator = drive(true);
    let open = |_| -> Opened { Ok(emulator.controller()) };
    let found = plan_with(&tree, &open);
    assert_eq!(found.already, Some(Already::Theirs));
    let all = against(&found);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].contains("namespace 2 carries spdk_blobstore") && all[0].contains("did not bind it"),
        "{all:?}"
    );
    let why = unbind(tree.kernel(), &place(&tree), &open, address(DRIVE)).expect_err("refused");
    assert_eq!(why.to_string(), all[0]);
    assert_eq!(tree.now(), stands);
    emulator.end();
}

#[test]
fn an_empty_drive_of_somebody_elses_is_given_to_the_kernel_and_back() {
    let tree = Tree::new();
    by_hand(&tree, "vfio-pci");
    let stands = tree.now();
    let emulator = Emulator::new("[[namespace]]\nsize = \"4MiB\"");
    let open = |_| -> Opened { Ok(emulator.controller()) };
    let found = plan_with(&tree, &open);
    assert_eq!(
        (found.already, against(&found).len()),
        (Some(Already::Theirs), 0)
    );
    let unbound = unbind(tree.kernel(), &place(&tree), &open, address(DRIVE)).expect("given");
    assert!(
        matches!(&unbound, Unbound::Given(driver) if *driver == Name::nvme()),
        "{unbound:?}"
    );
    assert_eq!(tree.now(), Binding::plain(Name::nvme()));
    assert!(tree.path("sys/class/block/nvme0n1").exists());
    // The journal has where it was.
    tree.ends(std::process::id());
    tree.own(9000);
    let told = restore(&tree.journal(), &mut tree.kernel(), None, false).expect("restored");
    assert!(told.iter().all(|told| told.outcome.is_done()), "{told:?}");
    assert_eq!((tree.now(), tree.entries()), (stands, 0));
    emulator.end();
}

#[test]
fn a_drive_that_loses_namespaces_on_the_way_is_told() {
    let tree = Tree::new();
    by_hand(&tree, "vfio-pci");
    // Two by our driver, one by the kernel's.
    let emulator = drive(false);
    let open = |_| -> Opened { Ok(emulator.controller()) };
    let why = unbind(tree.kernel(), &place(&tree), &open, address(DRIVE)).expect_err("one");
    assert!(
        why.to_string().contains("1 of the 2 block devices"),
        "{why}"
    );
    assert_eq!(
        (tree.now(), tree.entries()),
        (Binding::plain(Name::nvme()), 1)
    );
    emulator.end();
}

#[test]
fn a_group_that_a_process_has_open_refuses_and_is_not_touched() {
    let tree = Tree::new();
    by_hand(&tree, "vfio-pci");
    let opened = |_| -> Opened { panic!("opened") };
    for node in ["/dev/vfio/7", "/dev/vfio/devices/vfio0"] {
        tree.put(
            &format!("sys/devices/pci0000:80/{DRIVE}/vfio-dev/vfio0/dev"),
            "511:0",
        );
        tree.process(8, "daos_engine", 300);
        tree.link("proc/8/fd/11", node);
        let all = against(&plan_with(&tree, &opened));
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].contains(&format!("process 8 (daos_engine) has {node} open")),
            "{all:?}"
        );
        let why = unbind(tree.kernel(), &place(&tree), &opened, address(DRIVE)).expect_err(node);
        assert!(matches!(why, BindError::Refused(_)), "{why}");
        tree.ends(8);
    }
    assert_eq!(tree.now(), Binding::only(Name::vfio_pci()));
    assert_eq!(tree.entries(), 0);
}

#[test]
fn a_drive_that_cannot_be_read_is_left() {
    let tree = Tree::new();
    by_hand(&tree, "vfio-pci");
    let all = against(&planned(&tree, DRIVE, false));
    assert!(
        all[0].contains("what it carries cannot be read: 0000:81:00.0 was opened"),
        "{all:?}"
    );
    let why = unbind(tree.kernel(), &place(&tree), &nobody, address(DRIVE)).expect_err("unknown");
    assert!(matches!(why, BindError::Refused(_)), "{why}");
}

#[test]
fn a_drive_without_a_driver_is_given_to_the_kernel() {
    let tree = Tree::new();
    let mut kernel: Played = tree.kernel();
    let folder = format!("sys/bus/pci/devices/{DRIVE}");
    kernel
        .write(&format!("{folder}/driver/unbind"), DRIVE)
        .expect("unbound");
    let unbound = unbind(kernel, &place(&tree), &nobody, address(DRIVE)).expect("given");
    assert!(matches!(unbound, Unbound::Given(_)), "{unbound:?}");
    assert_eq!(tree.now(), Binding::plain(Name::nvme()));
}

/// What was asked for is not taken back by asking again, nor after it was ours for a while.
#[test]
fn a_drive_that_was_given_to_the_kernel_stays_there() {
    for driverless in [false, true] {
        let tree = Tree::new();
        by_hand(&tree, "vfio-pci");
        if driverless {
            let unbind = format!("sys/bus/pci/devices/{DRIVE}/driver/unbind");
            tree.kernel().write(&unbind, DRIVE).expect("unbound");
        }
        let emulator = Emulator::new("[[namespace]]\nsize = \"4MiB\"");
        let open = |_| -> Opened { Ok(emulator.controller()) };
        let mut pid = 9000;
        // Each command is a process of its own.
        let mut next = || {
            tree.ends(if pid == 9000 {
                std::process::id()
            } else {
                pid - 1
            });
            tree.own(pid);
            pid += 1;
        };
        let back = || unbind(tree.kernel(), &place(&tree), &open, address(DRIVE)).expect("done");
        assert!(matches!(back(), Unbound::Given(_)));
        assert_eq!(tree.entries(), 1);
        next();
        assert!(matches!(back(), Unbound::Already(_)));
        assert_eq!(
            (tree.now(), tree.entries()),
            (Binding::plain(Name::nvme()), 0)
        );
        // Once more, and to vfio-pci by strata in between.
        tree.kernel()
            .write(&format!("sys/bus/pci/devices/{DRIVE}/driver/unbind"), DRIVE)
            .expect("unbound");
        next();
        assert!(matches!(back(), Unbound::Given(_)));
        next();
        bind(&tree, planned(&tree, DRIVE, false), &["S0"])
            .expect("bound")
            .keep();
        assert_eq!(tree.entries(), 1, "where it was before is forgotten");
        next();
        assert!(matches!(back(), Unbound::Undone(_)));
        assert_eq!(
            (tree.now(), tree.entries()),
            (Binding::plain(Name::nvme()), 0)
        );
        next();
        assert!(matches!(back(), Unbound::Already(_)));
        assert_eq!(tree.now(), Binding::plain(Name::nvme()));
        emulator.end();
    }
}

/// Bound by strata, put back by hand, and bound by somebody else, who has written to it since.
#[test]
fn what_somebody_else_binds_later_is_not_ours() {
    for plans in [false, true] {
        let tree = Tree::new();
        bind(&tree, planned(&tree, DRIVE, false), &["S0"])
            .expect("bound")
            .keep();
        tree.ends(std::process::id());
        tree.own(9000);
        by_hand(&tree, "nvme");
        let folder = format!("sys/bus/pci/devices/{DRIVE}");
        tree.kernel()
            .write(&format!("{folder}/driver_override"), "")
            .expect("written");
        // Whatever of strata looks at it meanwhile.
        match plans {
            true => assert_eq!(planned(&tree, DRIVE, false).already, None),
            false => {
                let found = unbind(tree.kernel(), &place(&tree), &nobody, address(DRIVE));
                assert!(matches!(found, Ok(Unbound::Already(_))), "{found:?}");
            }
        }
        by_hand(&tree, "vfio-pci");
        let emulator = drive(true);
        let open = |_| -> Opened { Ok(emulator.controller()) };
        let found = plan_with(&tree, &open);
        assert_eq!(found.already, Some(Already::Theirs));
        assert!(against(&found)[0].contains("spdk_blobstore"), "{found:?}");
        let why = unbind(tree.kernel(), &place(&tree), &open, address(DRIVE)).expect_err("theirs");
        assert!(matches!(why, BindError::Refused(_)), "{why}");
        assert_eq!(tree.now(), Binding::only(Name::vfio_pci()));
        emulator.end();
    }
}

/// Given to the kernel by `strata unbind`, and bound again by somebody else.
#[test]
fn what_was_given_to_the_kernel_is_not_ours_when_it_is_with_vfio_again() {
    let tree = Tree::new();
    let unbound = format!("sys/bus/pci/devices/{DRIVE}/driver/unbind");
    tree.kernel().write(&unbound, DRIVE).expect("unbound");
    let given = unbind(tree.kernel(), &place(&tree), &nobody, address(DRIVE));
    assert!(matches!(given, Ok(Unbound::Given(_))), "{given:?}");
    tree.ends(std::process::id());
    tree.own(9000);
    by_hand(&tree, "vfio-pci");
    assert_eq!(tree.entries(), 1);
    let emulator = drive(true);
    let open = |_| -> Opened { Ok(emulator.controller()) };
    assert_eq!(plan_with(&tree, &open).already, Some(Already::Theirs));
    let why = unbind(tree.kernel(), &place(&tree), &open, address(DRIVE)).expect_err("theirs");
    assert!(matches!(why, BindError::Refused(_)), "{why}");
    emulator.end();
}

#[test]
fn a_drive_whose_controller_does_not_come_up_is_told() {
    let tree = Tree::new();
    let unbound = format!("sys/bus/pci/devices/{DRIVE}/driver/unbind");
    tree.kernel().write(&unbound, DRIVE).expect("unbound");
    let state = format!("sys/devices/pci0000:80/{DRIVE}/nvme/nvme0/state");
    tree.put(&state, "connecting");
    let why = unbind(tree.kernel(), &place(&tree), &nobody, address(DRIVE)).expect_err("not live");
    assert!(
        why.to_string().contains("none of its controllers is live"),
        "{why}"
    );
    assert_eq!(tree.now(), Binding::plain(Name::nvme()));
}
