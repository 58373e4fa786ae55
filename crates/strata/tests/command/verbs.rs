//! `strata rdma` as it is typed, on a machine that need not have a device.

use std::path::Path;

use crate::support::{done, fails, not_understood, scratch, strata};

fn rdma(words: &str) -> std::process::Command {
    let mut command = strata(["rdma"]);
    command.args(words.split_whitespace());
    command
}

#[test]
fn what_is_typed_wrong_is_told_before_a_device_is_looked_for() {
    for (words, said) in [
        ("--op stream", "none of the rdma layer"),
        ("--op send-pingpong --direction both", "goes both ways"),
    ] {
        fails(rdma(words), 2, &[said]);
    }
    for (words, said) in [
        ("--transport xrc", "not supported"),
        ("--engine verbs+spin", "expected verbs or verbs-ex"),
        ("--bs 64..1", "the smaller size first"),
        ("--device mlx5_0/0", "expected DEVICE or DEVICE/PORT"),
        ("--service-level 16", "0..=15"),
        ("--connect tcp", "expected control or cm"),
        ("--qps 0", "1..=1024"),
        ("list --op write", "unexpected argument"),
    ] {
        not_understood(rdma(words), &[said]);
    }
}

#[test]
fn a_machine_without_a_device_says_so_and_leaves_nothing_behind() {
    if Path::new("/sys/class/infiniband")
        .read_dir()
        .is_ok_and(|mut devices| devices.next().is_some())
    {
        println!("SKIP a_machine_without_a_device_says_so: this one has a device");
        return;
    }
    let folder = scratch();
    let output = folder.path().join("run");
    let mut command = rdma("--op write --repeats 1");
    command.arg("--output").arg(&output);
    let said = ["this machine has no RDMA device", "strata rdma list"];
    fails(command, 1, &said);
    assert!(!output.exists());
}

#[test]
fn the_help_says_what_a_completion_is_and_what_is_not_protected() {
    let help = done(rdma("--help")).out;
    for said in [
        "whole round trips",
        "neither visible to its cpus nor persistent",
        "trust the fabric",
        "over uc and ud the receiver counts",
    ] {
        let text = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.to_lowercase().contains(said), "{said}: {help}");
    }
}
