//! What the command says of the machine and of itself.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::support::{done, fails, run, scratch, strata};

/// The commands that a help text lists.
fn commands() -> Vec<String> {
    let whole = done(strata(["--help"])).out;
    let (_, list) = whole.split_once("Commands:\n").expect("a list of commands");
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, what) = line.trim().split_once("  ").unwrap_or((line, ""));
            assert!(!what.trim().is_empty(), "{name} says what it does");
            name.to_owned()
        })
        .collect()
}

#[test]
fn help_has_an_example_everywhere() {
    let whole = done(strata(["--help"])).out;
    assert!(whole.contains("Examples:"), "{whole}");
    let commands = commands();
    for command in [
        "run",
        "block",
        "tcp",
        "rdma",
        "serve",
        "bind",
        "unbind",
        "restore",
        "verify",
        "topology",
        "report",
        "completions",
        "man",
    ] {
        assert!(commands.iter().any(|c| c == command), "{command} is listed");
    }
    for command in &commands {
        let help = done(strata([command, "--help"])).out;
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("\n  strata {command}")), "{help}");
    }
}

/// An entry of a help text: an option or argument, and what stands beside or below it.
fn entries(help: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in help.lines().take_while(|l| !l.starts_with("Example")) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let begins = text.starts_with('-') || text.starts_with('<') || text.starts_with('[');
        if begins && (1..=6).contains(&indent) {
            let (name, what) = text.split_once("  ").unwrap_or((text, ""));
            found.push((name.to_owned(), what.trim().to_owned()));
        } else if let Some((_, what)) = found.last_mut()
            && indent > 6
        {
            what.push_str(text);
        }
    }
    found
}

#[test]
fn no_option_is_without_its_words() {
    let (mut options, folder) = (0, scratch());
    let mut man = strata(["man"]);
    done({
        man.arg(folder.path());
        man
    });
    for command in commands() {
        let help = done(strata([&command, "--help"])).out;
        let page = fs::read_to_string(folder.path().join(format!("strata-{command}.1")));
        let page = page.expect("a page of its own").replace('\\', "");
        for (name, what) in entries(&help) {
            let bare = what.split(" [default:").next().unwrap_or_default();
            assert!(
                bare.len() > 4,
                "strata {command}: {name} says nothing: {what:?}"
            );
            let long = name.split([' ', ',']).find(|word| word.starts_with("--"));
            options += usize::from(long.is_some());
            if let Some(long) = long {
                assert!(page.contains(long), "strata-{command}.1: {long}");
            }
        }
    }
    assert!(options > 60, "only {options} were found");
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = done(strata(["--version"])).out;
    assert_eq!(version, format!("strata {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_are_made_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = done(strata(["completions", shell])).out;
        for option in ["strata", "topology", "mem-node"] {
            assert!(script.contains(option), "{shell}: {option}");
        }
    }
}

#[test]
fn manual_pages_are_written() {
    let folder = scratch();
    let pages = folder.path().join("share/man1");
    done({
        let mut command = strata(["man"]);
        command.arg(&pages);
        command
    });
    for name in [
        "strata.1",
        "strata-block.1",
        "strata-tcp.1",
        "strata-rdma.1",
        "strata-run.1",
        "strata-report.1",
        "strata-topology.1",
    ] {
        let page = fs::read_to_string(pages.join(name)).expect(name);
        assert!(page.contains(".TH strata"), "{name}: {page}");
    }
    assert!(
        !pages.join("strata-peer.1").exists(),
        "it is nobody's to start"
    );
    let file = folder.path().join("file");
    fs::write(&file, "mine").expect("written");
    let mut command = strata(["man"]);
    command.arg(&file);
    fails(
        command,
        1,
        &["cannot write to", "name a folder that you may write to"],
    );
}

#[test]
fn topology_is_printed_and_told_as_json() {
    let ran = done(strata(["topology"]));
    assert!(
        ran.out.starts_with("CPUs ") && ran.out.contains("Nodes"),
        "{}",
        ran.out
    );
    let ran = done(strata(["topology", "--json"]));
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(document["schema"], 1);
    let nodes = document["topology"]["nodes"].as_array().expect("nodes");
    assert!(!nodes.is_empty(), "every machine has memory");
    let allowed = document["allowed"]["cpus"].as_array().expect("CPUs");
    assert!(!allowed.is_empty(), "this runs on one");
    let sockets = document["sockets"].as_array().expect("sockets");
    assert!(sockets.iter().all(|socket| socket["divided"].is_boolean()));
    assert!(document["limits"]["notes"].is_array());
    assert!(document["ceilings"].is_array());
    assert_eq!(ran.err, "");
}

/// Two drives behind a switch whose uplink has half of its lanes.
#[test]
fn topology_of_a_recorded_tree_names_the_link_that_binds() {
    let tree = scratch();
    let put = |path: &str, text: &str| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    put("sys/devices/system/cpu/cpu0/online", "1");
    put("proc/cpuinfo", "flags : fpu");
    let folder = tree.path().join("sys/bus/pci/devices");
    fs::create_dir_all(&folder).expect("a folder");
    let root = "sys/devices/pci0000:40/0000:40:01.0";
    let mut functions = vec![root.to_owned(), format!("{root}/0000:41:00.0")];
    for n in 0..2 {
        let port = format!("{root}/0000:41:00.0/0000:42:0{n}.0");
        functions.push(format!("{port}/0000:4{}:00.0", n + 3));
        functions.push(port);
    }
    for path in &functions {
        let (_, address) = path.rsplit_once('/').expect("a path");
        let drive = address.starts_with("0000:43") || address.starts_with("0000:44");
        put(
            &format!("{path}/class"),
            if drive { "0x010802" } else { "0x060400" },
        );
        if drive || address.starts_with("0000:41") {
            put(&format!("{path}/current_link_speed"), "16.0 GT/s PCIe");
            put(&format!("{path}/current_link_width"), "4");
            put(&format!("{path}/max_link_speed"), "16.0 GT/s PCIe");
            put(
                &format!("{path}/max_link_width"),
                if drive { "4" } else { "8" },
            );
        }
        symlink(tree.path().join(path), folder.join(address)).expect("a link");
    }
    let mut command = strata(["topology", "--root"]);
    command.arg(tree.path());
    let text = done(command).out;
    for line in [
        "    0000:41:00.0  PCI bridge, link 16.0 GT/s ×4 DEGRADED, could be 16.0 GT/s ×8",
        "        0000:43:00.0  NVMe controller, link 16.0 GT/s ×4",
        "uplink of switch 0000:41:00.0 (16 GT/s x4, trained below its best 16 GT/s x8)",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    let mut command = strata(["topology", "--json", "--root"]);
    command.arg(tree.path());
    let document: Value = serde_json::from_str(&done(command).out).expect("one document");
    let ceilings = document["ceilings"].as_array().expect("ceilings");
    let last = ceilings.last().expect("both drives");
    assert_eq!(last["what"], "all 2 NVMe drives together");
    let bytes = last["ceiling"]["bytes_per_s"].as_f64().expect("a rate");
    assert_eq!(
        bytes.round(),
        (16e9 * 4.0 * 128.0 / 130.0 / 8.0_f64).round()
    );
    assert_eq!(last["ceiling"]["bound_by"][0]["below"], "0000:41:00.0");
}

#[test]
fn topology_of_no_tree_is_refused() {
    let folder = scratch();
    let nowhere = folder.path().join("nowhere");
    let mut command = strata(["topology", "--root"]);
    command.arg(&nowhere);
    fails(command, 1, &["nowhere", "give `/` or the folder"]);
    // A folder without sys and proc is no machine either.
    let mut command = strata(["topology", "--root"]);
    command.arg(folder.path());
    let ran = run(command);
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{}", ran.err);
}
