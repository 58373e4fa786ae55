//! What the command says of the machine and of itself.

use std::fs;

use serde_json::Value;

use crate::support::{done, fails, run, scratch, strata};

const COMMANDS: [&str; 7] = [
    "run",
    "block",
    "tcp",
    "topology",
    "report",
    "completions",
    "man",
];

#[test]
fn help_has_an_example_everywhere() {
    let whole = done(strata(["--help"])).out;
    assert!(whole.contains("Examples:"), "{whole}");
    for command in COMMANDS {
        assert!(
            whole.contains(&format!("\n  {command} ")),
            "{command} is listed"
        );
        let help = done(strata([command, "--help"])).out;
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("\n  strata {command}")), "{help}");
    }
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
    assert_eq!(ran.err, "");
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
