//! Drives between the kernel and user space, by the commands.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use strata_virtual_node::{Node, on};

use crate::support::{done, run, strata};

/// Whether the drive is with the kernel, its namespace is there, and the journal is empty.
fn is_as_before(node: &Node, serial: &str) {
    let disk = node.disk(serial);
    assert_eq!(node.driver(serial).as_deref(), Some("nvme"));
    assert!(disk.exists());
    let set = format!(
        "/sys/bus/pci/devices/{}/driver_override",
        node.function(serial)
    );
    assert_eq!(fs::read_to_string(set).expect("sysfs").trim(), "(null)");
    let entries = fs::read_dir("/run/strata").into_iter().flatten().flatten();
    let entries: Vec<_> = entries
        .map(|e| e.file_name())
        .filter(|name| name != "lock")
        .collect();
    assert!(entries.is_empty(), "{entries:?}");
}

fn list() -> Value {
    let told = done(strata(["nvme", "list", "--json"])).out;
    serde_json::from_str(&told).expect("one document")
}

#[test]
fn a_drive_goes_to_vfio_and_back() {
    on("usual", |node| {
        let at = node.function("STRATA0");
        let disk = node.disk("STRATA0").display().to_string();
        // What it would mean is told, and nothing is done without the serial number.
        let told = done(strata(["bind", &at, "--dry-run"])).out;
        assert!(
            told.contains("the kernel loses") && told.contains("n1"),
            "{told}"
        );
        let ran = run(strata(["bind", &at]));
        assert_eq!(ran.status.code(), Some(2), "{}", ran.err);
        let ran = run(strata(["bind", &at, "--serial", "STRATA1"]));
        assert_eq!(ran.status.code(), Some(2), "{}", ran.err);
        is_as_before(node, "STRATA0");
        let document: Value = serde_json::from_str(
            &done(strata(["bind", "STRATA0", "--serial", "STRATA0", "--json"])).out,
        )
        .expect("one document");
        assert_eq!(document["bound"], true);
        assert_eq!(node.driver("STRATA0").as_deref(), Some("vfio-pci"));
        let listed = list();
        let of = |address: &str| {
            let all = listed["controllers"].as_array().expect("controllers");
            let found = all.iter().find(|c| {
                c["function"]["address"] == address
                    || c["address"] == address
                    || c["pci"] == address
            });
            found
                .cloned()
                .unwrap_or_else(|| panic!("{address} is not in {listed}"))
        };
        assert_eq!(of(&at)["driver"], "vfio-pci");
        assert_eq!(of(&node.function("STRATA1"))["driver"], "nvme");
        // The kernel's own path to it is gone.
        let ran = run(strata(["block", "--target", &disk]));
        assert_eq!(ran.status.code(), Some(2), "{}", ran.err);
        assert!(ran.err.contains(&disk), "{}", ran.err);
        assert!(!Path::new(&disk).exists(), "nor is anything made there");
        done(strata(["unbind", &at]));
        is_as_before(node, "STRATA0");
        // Once more, by restore.
        done(strata(["bind", &at, "--serial", "STRATA0"]));
        done(strata(["restore"]));
        is_as_before(node, "STRATA0");
    });
}

#[test]
fn what_is_in_use_or_carries_something_is_refused_by_name() {
    on("usual", |node| {
        let disk = node.disk("STRATA0");
        let at = node.function("STRATA0");
        let refused = |word: &str| {
            let ran = run(strata(["bind", &at, "--serial", "STRATA0"]));
            assert_eq!(ran.status.code(), Some(1), "{word}: {}", ran.err);
            assert!(ran.err.contains(word), "{word}: {}", ran.err);
            let ran = run(strata(["bind", &at, "--dry-run"]));
            assert_eq!(ran.status.code(), Some(3), "{word}: {}", ran.err);
            assert_eq!(node.driver("STRATA0").as_deref(), Some("nvme"));
        };
        let name = disk.display().to_string();
        let shell = |script: &str| {
            let ran = Command::new("bash")
                .args(["-c", script])
                .output()
                .expect("bash");
            assert!(
                ran.status.success(),
                "{script}: {}",
                String::from_utf8_lossy(&ran.stderr)
            );
        };
        shell(&format!(
            "modprobe ext4; mkfs.ext4 -q {name}; mkdir -p /tmp/m; mount {name} /tmp/m"
        ));
        refused("mounted");
        shell("umount /tmp/m");
        refused("ext");
        shell(&format!(
            "dd if=/dev/zero of={name} bs=1M count=8 conv=fsync 2>/dev/null; mkswap {name} >/dev/null && swapon {name}"
        ));
        refused("swap");
        shell(&format!(
            "swapoff {name}; dd if=/dev/zero of={name} bs=1M count=1 conv=fsync 2>/dev/null"
        ));
        let mut holder = Command::new("sleep")
            .arg("1000")
            .stdin(fs::File::open(&disk).expect("open"))
            .spawn()
            .expect("sleep");
        refused("sleep");
        holder.kill().expect("killed");
        holder.wait().expect("ended");
        done(strata(["bind", &at, "--serial", "STRATA0"]));
        done(strata(["unbind", &at]));
        is_as_before(node, "STRATA0");
    });
}

#[test]
fn another_endpoint_of_the_group_refuses_unless_it_comes_along() {
    on("four", |node| {
        let first = node.function("FIRST");
        let ran = run(strata(["bind", &first, "--serial", "FIRST"]));
        assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
        assert!(ran.err.contains(&node.function("SECOND")), "{}", ran.err);
        done(strata([
            "bind",
            &first,
            "--whole-group",
            "--serial",
            "FIRST,SECOND",
        ]));
        for serial in ["FIRST", "SECOND"] {
            assert_eq!(node.driver(serial).as_deref(), Some("vfio-pci"), "{serial}");
        }
        done(strata(["restore"]));
        is_as_before(node, "FIRST");
        is_as_before(node, "SECOND");
    });
}

/// What a process has done when it is killed: the test looks, as fast as it can, for the state that it waits for.
fn kill_when(mut child: Child, mut reached: impl FnMut() -> bool) -> bool {
    loop {
        if child.try_wait().expect("waited for").is_some() {
            return false;
        }
        if reached() {
            let pid = Pid::from_raw(child.id().try_into().expect("an id"));
            kill(pid, Signal::SIGKILL).expect("killed");
            child.wait().expect("ended");
            return true;
        }
    }
}

#[test]
fn killed_in_the_middle_it_is_restored() {
    on("usual", |node| {
        let at = node.function("STRATA0");
        let folder = format!("/sys/bus/pci/devices/{at}");
        let driver = || fs::read_link(format!("{folder}/driver")).ok();
        let is = |name: &str| driver().is_some_and(|d| d.ends_with(name));
        let journal = || {
            fs::read_dir("/run/strata")
                .into_iter()
                .flatten()
                .flatten()
                .any(|e| e.file_name() != "lock")
        };
        let set = || {
            fs::read_to_string(format!("{folder}/driver_override"))
                .is_ok_and(|t| t.trim() != "(null)")
        };
        let states: [(&str, &dyn Fn() -> bool); 4] = [
            ("written down", &journal),
            ("the driver named", &set),
            ("taken from the kernel", &|| driver().is_none()),
            ("with vfio-pci", &|| is("vfio-pci")),
        ];
        let mut killed = 0;
        for (what, reached) in states {
            let child = strata(["bind", &at, "--serial", "STRATA0"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            killed += u32::from(kill_when(child, reached));
            done(strata(["restore"]));
            node.within(Duration::from_secs(20), what, || is("nvme"));
            is_as_before(node, "STRATA0");
        }
        // A state that lasts for less than a look may be missed; most cannot.
        assert!(killed >= 2, "killed {killed} times");
    });
}
