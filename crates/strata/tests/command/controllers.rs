//! `strata nvme list`, and controllers that cannot be reached.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{done, fails, not_understood, scratch, strata};

/// A machine with a drive of the kernel's that is mounted, one that is with vfio-pci and held, and one that is with no driver.
fn machine() -> TempDir {
    let tree = scratch();
    let put = |path: &str, text: &str| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::write(path, format!("{text}\n")).expect("a file");
    };
    let link = |path: &str, to: &str| {
        let (path, to) = (tree.path().join(path), tree.path().join(to));
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::create_dir_all(&to).expect("a folder");
        symlink(to, path).expect("a link");
    };
    put("sys/devices/system/cpu/cpu0/online", "1");
    put("proc/cpuinfo", "flags : fpu");
    put("proc/swaps", "Filename Type Size Used Priority");
    put(
        "proc/self/mountinfo",
        "36 35 259:0 / /home rw - ext4 /dev/nvme0n1 rw",
    );
    put("proc/1/comm", "init");
    put("proc/4711/comm", "qemu");
    put("proc/4711/mountinfo", "");
    fs::create_dir_all(tree.path().join("proc/4711/fd")).expect("a folder");
    symlink(
        tree.path().join("dev/vfio/12"),
        tree.path().join("proc/4711/fd/8"),
    )
    .expect("a link");
    for (n, driver) in [Some("nvme"), Some("vfio-pci"), None].iter().enumerate() {
        let address = format!("0000:{}1:00.0", 4 + n);
        let own = format!("sys/devices/pci0000:40/{address}");
        put(&format!("{own}/class"), "0x010802");
        put(&format!("{own}/numa_node"), "1");
        for which in ["current", "max"] {
            put(&format!("{own}/{which}_link_speed"), "16.0 GT/s PCIe");
            put(&format!("{own}/{which}_link_width"), "4");
        }
        link(&format!("sys/bus/pci/devices/{address}"), &own);
        let group = format!("sys/kernel/iommu_groups/1{}", n + 1);
        link(&format!("{own}/iommu_group"), &group);
        if let Some(driver) = driver {
            link(
                &format!("{own}/driver"),
                &format!("sys/bus/pci/drivers/{driver}"),
            );
        }
    }
    let nvme = "sys/devices/pci0000:40/0000:41:00.0/nvme/nvme0";
    for (file, text) in [
        ("model", "ACME 9000"),
        ("serial", "S1"),
        ("firmware_rev", "F7"),
        ("transport", "pcie"),
        ("state", "live"),
        ("nvme0n1/dev", "259:0"),
        ("nvme0n1/size", "2048"),
        ("nvme0n1/nsid", "3"),
        ("nvme0n1/queue/logical_block_size", "4096"),
    ] {
        put(&format!("{nvme}/{file}"), text);
    }
    link("sys/class/nvme/nvme0", nvme);
    for folder in ["sys/class/block", "sys/block"] {
        link(&format!("{folder}/nvme0n1"), &format!("{nvme}/nvme0n1"));
    }
    link(&format!("{nvme}/nvme0n1/device"), nvme);
    tree
}

fn list(root: &Path, more: &[&str]) -> String {
    let mut command = strata(["nvme", "list"]);
    command.args(more);
    if root != Path::new("/") {
        command.arg("--root").arg(root);
    }
    done(command).out
}

#[test]
fn controllers_are_listed_with_who_drives_and_uses_them() {
    let tree = machine();
    let text = list(tree.path(), &[]);
    let line = |address: &str| {
        let mut lines = text.lines();
        let found = lines.find(|l| l.trim_start().starts_with(address));
        let found = found.unwrap_or_else(|| panic!("{address} is not in\n{text}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (address, expected) in [
        (
            "0000:41:00.0",
            "nvme 1 16.0 GT/s ×4 11 ACME 9000 S1 F7 nvme0n1 (3): 1.00 MiB in 4KiB nvme0n1 is mounted at /home",
        ),
        (
            "0000:51:00.0",
            "vfio-pci 1 16.0 GT/s ×4 12 – – – held by process 4711 (qemu)",
        ),
        ("0000:61:00.0", "none 1 16.0 GT/s ×4 13 – – – –"),
    ] {
        assert_eq!(line(address), format!("{address} {expected}"));
    }
    assert!(text.contains("0000:51:00.0: serial number"), "{text}");

    let document: Value = serde_json::from_str(&list(tree.path(), &["--json"])).expect("one");
    let found = document["controllers"].as_array().expect("a list");
    assert_eq!(found.len(), 3);
    let [kernels, ours, nobodys] = [0, 1, 2].map(|n| &found[n]);
    assert_eq!(kernels["namespaces"][0]["size_bytes"], 1 << 20);
    assert_eq!(kernels["namespaces"][0]["block_bytes"], 4096);
    assert_eq!(kernels["link"]["lane_bits_per_s"], 16_000_000_000_u64);
    assert_eq!(
        (&ours["driver"], &ours["iommu_group"]),
        (&"vfio-pci".into(), &12.into())
    );
    assert_eq!(ours["uses"][0], "held by process 4711 (qemu)");
    assert_eq!(
        (&nobodys["driver"], &nobodys["serial"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn this_machines_controllers_are_those_of_its_topology() {
    let listed: Value = serde_json::from_str(&list(Path::new("/"), &["--json"])).expect("one");
    let topology = done(strata(["topology", "--json"])).out;
    let topology: Value = serde_json::from_str(&topology).expect("one document");
    let names = |list: &Value| -> Vec<Value> {
        let all = list.as_array().expect("a list");
        all.iter().map(|c| c["pci"].clone()).collect()
    };
    let expected = names(&topology["topology"]["nvme"]);
    assert_eq!(names(&listed["controllers"]), expected);
    let text = list(Path::new("/"), &[]);
    assert_eq!(
        text.contains("no NVMe controller"),
        expected.is_empty(),
        "{text}"
    );
}

#[test]
fn a_list_takes_no_options_of_a_measurement() {
    not_understood(strata(["nvme", "list", "--depth", "1"]), &["--depth"]);
    not_understood(
        strata(["nvme", "--depth", "1", "list"]),
        &["list", "--depth"],
    );
    not_understood(
        strata(["nvme", "list", "--open", "--root", "/tmp"]),
        &["--open", "--root"],
    );
}

#[test]
fn controllers_that_are_not_there_are_told_before_anything_is_made() {
    let folder = scratch();
    let refused = |target: &str, code: i32, expected: &[&str]| {
        let mut command = strata(["nvme", "--ops", "10", "--repeats", "1", "--target", target]);
        command.current_dir(folder.path());
        fails(command, code, expected);
    };
    refused(
        "ffff:ff:1f.7",
        1,
        &["no PCI function ffff:ff:1f.7", "strata nvme list"],
    );
    refused(
        "no-such-serial",
        2,
        &[
            "serial number no-such-serial",
            "no folder",
            "strata nvme list",
        ],
    );
    refused("./no-such-folder", 1, &["no-such-folder"]);
    not_understood(
        strata(["nvme", "--target", ""]),
        &["--target", "PCI address"],
    );
    let mut command = strata(["verify", "--target", "ffff:ff:1f.7"]);
    command.current_dir(folder.path());
    fails(command, 1, &["no PCI function ffff:ff:1f.7"]);
}
