//! Choice of cores on recorded trees.

use crate::support::{Tree, cpus};
use strata_topology::{Allowed, Choice, ChooseError, Topology, Want, check, choose};
use strata_units::{CpuList, NodeId};

struct Machine {
    topology: Topology,
    allowed: Allowed,
}

impl Machine {
    fn of(name: &str) -> Machine {
        let tree = Tree::unpack(name);
        let topology = tree.topology();
        Machine {
            allowed: Allowed::read(&tree.root(), &topology),
            topology,
        }
    }

    fn choose(&self, want: &Want) -> Result<Choice, ChooseError> {
        choose(&self.topology, &self.allowed, want)
    }

    /// The CPUs chosen, in the order of preference.
    fn order(&self, want: Want) -> Vec<u32> {
        let choice = self.choose(&want).expect("a choice");
        choice.cpus.iter().map(|cpu| cpu.0).collect()
    }
}

fn near(node: u32, count: usize) -> Want {
    Want {
        count,
        near: Some(NodeId(node)),
        ..Want::default()
    }
}

#[test]
fn laptop_takes_whole_cores_and_cpu_0_last() {
    let laptop = Machine::of("laptop");
    assert_eq!(laptop.order(near(0, 3)), [1, 2, 3]);
    assert_eq!(laptop.order(near(0, 5)), [1, 2, 3, 0, 5]);
    assert_eq!(laptop.order(near(0, 8)), [1, 2, 3, 0, 5, 6, 7, 4]);
    let two = laptop.choose(&near(0, 2)).expect("a choice");
    assert_eq!((two.node, two.notes.len()), (Some(NodeId(0)), 0));
    let five = laptop.choose(&near(0, 5)).expect("a choice");
    assert!(
        five.notes[0].contains("CPU 1,5 shares a physical core"),
        "{:?}",
        five.notes
    );
    assert!(five.notes[1].contains("core of CPU 0"), "{:?}", five.notes);
}

#[test]
fn others_are_avoided_together_with_their_cores() {
    let laptop = Machine::of("laptop");
    let avoiding = |list: &str, count, whole_cores| Want {
        count,
        avoid: cpus(list),
        whole_cores,
        ..Want::default()
    };
    // CPU 5 would share the core of CPU 1.
    assert_eq!(laptop.order(avoiding("1", 4, false)), [2, 3, 0, 5]);
    assert_eq!(laptop.order(avoiding("1", 3, true)), [2, 3, 0]);
    let error = laptop
        .choose(&avoiding("1", 4, true))
        .expect_err("three cores are left");
    assert!(
        matches!(
            error,
            ChooseError::TooFew {
                wanted: 4,
                found: 3,
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("whole physical cores") && text.contains("let threads share"),
        "{text}"
    );
    let error = laptop
        .choose(&avoiding("0-7", 1, false))
        .expect_err("all are taken");
    assert!(
        error.to_string().contains("of which 0-7 are taken"),
        "{error}"
    );
}

#[test]
fn two_sockets_keep_to_the_target_s_node() {
    let node = Machine::of("two-sockets");
    assert_eq!(node.order(near(1, 3)), [8, 9, 10]);
    assert_eq!(node.order(near(0, 8)), [1, 2, 3, 4, 5, 6, 7, 0]);
    // A tenth thread near node 1 shares a core there rather than go to the other node.
    assert_eq!(node.order(near(1, 10))[8..], [24, 25]);
    let spread = Want {
        whole_cores: true,
        ..near(1, 10)
    };
    assert_eq!(node.order(spread.clone())[8..], [1, 2]);
    let choice = node.choose(&spread).expect("a choice");
    assert_eq!(choice.node, None);
    assert!(
        choice.notes[0].contains("CPU 1,2 of node 0"),
        "{:?}",
        choice.notes
    );
    // No node wanted: all on one, and not on that of CPU 0.
    let any = Want {
        count: 8,
        ..Want::default()
    };
    assert_eq!(node.choose(&any).map(|c| c.node), Ok(Some(NodeId(1))));
}

#[test]
fn memory_only_nodes_borrow_from_the_nearest() {
    let machine = Machine::of("memory-only");
    assert_eq!(machine.order(near(2, 4)), [4, 5, 6, 7]);
    assert_eq!(machine.order(near(2, 5))[4], 1);
    let choice = machine.choose(&near(2, 1)).expect("a choice");
    assert_eq!(choice.node, Some(NodeId(1)));
    assert!(
        choice.notes[0].contains("node 2 has too few CPUs"),
        "{:?}",
        choice.notes
    );
}

#[test]
fn isolated_cores_first_and_offline_ones_never() {
    let machine = Machine::of("offline");
    assert_eq!(machine.order(near(0, 6)), [3, 1, 6, 0, 7, 4]);
    let error = machine.choose(&near(0, 7)).expect_err("six are online");
    assert!(
        matches!(error, ChooseError::TooFew { found: 6, .. }),
        "{error:?}"
    );
}

#[test]
fn unknown_nodes_of_devices_leave_the_choice_free() {
    let machine = Machine::of("node-unknown");
    let near = machine.topology.nvme[0].node;
    let want = Want {
        count: 2,
        near,
        ..Want::default()
    };
    assert_eq!(machine.order(want), [1, 2]);
}

#[test]
fn a_cpuset_bounds_the_choice() {
    let machine = Machine::of("cpuset");
    assert_eq!(machine.order(near(0, 1)), [2]);
    assert_eq!(machine.order(near(0, 3)), [2, 5, 6]);
    assert_eq!(machine.order(near(1, 3)), [5, 6, 2]);
    let error = machine.choose(&near(1, 4)).expect_err("three are allowed");
    assert!(error.to_string().contains("may use CPUs 2,5,6"), "{error}");
}

#[test]
fn wrong_wishes_name_what_is_there() {
    let machine = Machine::of("two-sockets");
    assert_eq!(machine.choose(&near(0, 0)), Err(ChooseError::Nothing));
    let error = machine.choose(&near(7, 1)).expect_err("no node 7");
    assert_eq!(
        error.to_string(),
        "node 7 does not exist; this machine has nodes 0,1: choose one of them"
    );
}

#[test]
fn asked_cpus_are_checked() {
    let ask =
        |machine: &Machine, list: &str| check(&machine.topology, &machine.allowed, &cpus(list));
    let offline = Machine::of("offline");
    assert_eq!(ask(&offline, "1,3"), Ok(()));
    let error = ask(&offline, "1,2,9").expect_err("no CPU 9");
    assert!(matches!(&error, ChooseError::AbsentCpu { cpus: absent, .. } if *absent == cpus("9")));
    assert_eq!(
        error.to_string(),
        "CPU 9 does not exist; this process may use CPUs 0,1,3,4,6,7"
    );
    let error = ask(&offline, "1,2").expect_err("offline");
    assert!(matches!(&error, ChooseError::OfflineCpu { cpus: off, .. } if *off == cpus("2")));
    assert_eq!(ask(&offline, ""), Err(ChooseError::Nothing));
    let error = ask(&Machine::of("cpuset"), "2-3").expect_err("not in the cpuset");
    assert!(
        matches!(&error, ChooseError::NotAllowed { cpus: refused, .. } if *refused == cpus("3"))
    );
    let text = error.to_string();
    assert!(
        text.contains("cpuset /sys/fs/cgroup/job.slice/step_0") && text.contains("CPUs 2,5,6"),
        "{text}"
    );
}

#[test]
fn every_choice_is_allowed_and_distinct() {
    for name in [
        "laptop",
        "two-sockets",
        "memory-only",
        "node-unknown",
        "offline",
        "cpuset",
    ] {
        let machine = Machine::of(name);
        for count in 1..=machine.allowed.cpus.len() {
            for node in machine.topology.node_ids().iter() {
                let choice = machine.choose(&near(node.0, count)).expect("a choice");
                let list: CpuList = choice.list();
                assert_eq!(list.len(), count, "{name}");
                assert_eq!(list.without(&machine.allowed.cpus).len(), 0, "{name}");
                assert_eq!(choice.node, machine.topology.common_node(&list), "{name}");
            }
        }
    }
}
