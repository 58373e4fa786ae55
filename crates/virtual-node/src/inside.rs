//! What a test finds in its guest.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Names the node that a process runs in.
pub(crate) const INSIDE: &str = "STRATA_INSIDE_NODE";

/// Whether this process runs in a virtual node, for a test.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The node, seen by a test that runs in it. Where it lacks what a test takes for granted, the test ends.
pub struct Node {
    outside: RefCell<Option<BufReader<File>>>,
}

impl Node {
    pub(crate) fn new() -> Node {
        Node {
            outside: RefCell::new(None),
        }
    }

    /// The PCI address of the drive of a serial number, whichever driver it is with.
    ///
    /// # Panics
    /// There is none.
    pub fn function(&self, serial: &str) -> String {
        let known = Path::new("/run/drives").join(serial);
        if let Ok(address) = fs::read_to_string(&known) {
            return address.trim().to_owned();
        }
        panic!("the node has no drive {serial}: {:?}", names("/run/drives"));
    }

    /// The namespace's block device of the drive of a serial number, once the kernel has it.
    ///
    /// # Panics
    /// It does not come within ten seconds.
    pub fn disk(&self, serial: &str) -> PathBuf {
        let mut found = None;
        self.within(
            Duration::from_secs(10),
            &format!("a block device of {serial}"),
            || {
                found = self.find_disk(serial);
                found.is_some()
            },
        );
        found.expect("it was found")
    }

    fn find_disk(&self, serial: &str) -> Option<PathBuf> {
        let of = |name: &String| {
            let path = format!("/sys/class/nvme/{name}/serial");
            fs::read_to_string(path).is_ok_and(|found| found.trim() == serial)
        };
        let controller = names("/sys/class/nvme").into_iter().find(of)?;
        let folder = format!("/sys/class/nvme/{controller}");
        let disk = names(&folder).into_iter().find(|name| {
            name.starts_with(&format!("{controller}n"))
                || name.starts_with(&format!("{controller}c"))
        })?;
        // With multipath a path has the controller's number within its name, which the disk has not.
        let disk = match (disk.rfind('c'), disk.rfind('n')) {
            (Some(c), Some(n)) if c > 0 && c < n => format!("{}{}", &disk[..c], &disk[n..]),
            _ => disk,
        };
        let path = Path::new("/dev").join(disk);
        path.exists().then_some(path)
    }

    /// The driver that the drive is with.
    pub fn driver(&self, serial: &str) -> Option<String> {
        let link = format!("/sys/bus/pci/devices/{}/driver", self.function(serial));
        let target = fs::read_link(link).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Waits for something, and ends the test where it does not come.
    ///
    /// # Panics
    /// It has not come in time.
    pub fn within(&self, time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + time;
        while !holds() {
            assert!(
                Instant::now() < until,
                "{what} did not come within {time:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a request to the machine's monitor (QEMU's QMP), and returns what it replies.
    ///
    /// # Panics
    /// It replies with an error.
    pub fn monitor(&self, execute: &str, arguments: Value) -> Value {
        self.ask(&json!({"qmp": {"execute": execute, "arguments": arguments}}))
    }

    /// Pulls a drive out of the machine, as it stands.
    pub fn pull(&self, serial: &str) {
        self.monitor("device_del", json!({ "id": serial }));
    }

    /// Lets a drive do so many operations a second at most; 0 is any number.
    pub fn throttle(&self, serial: &str, iops: u32) {
        self.monitor(
            "block_set_io_throttle",
            json!({"device": format!("disk-{serial}"), "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": iops, "iops_rd": 0, "iops_wr": 0}),
        );
    }

    /// Starts a script in the guest at the other end of the wire; nobody waits for it.
    pub fn on_peer(&self, script: &str) {
        self.ask(&json!({ "peer": script }));
    }

    fn ask(&self, request: &Value) -> Value {
        let mut outside = self.outside.borrow_mut();
        let reader = outside.get_or_insert_with(|| {
            let port = port().expect("the node has a port to the outside");
            let file = File::options().read(true).write(true).open(&port);
            BufReader::new(file.unwrap_or_else(|e| panic!("{}: {e}", port.display())))
        });
        writeln!(reader.get_mut(), "{request}").expect("the outside listens");
        let mut line = String::new();
        reader.read_line(&mut line).expect("the outside answers");
        let reply: Value = serde_json::from_str(&line).expect("the outside answers in JSON");
        assert!(
            reply.get("error").is_none(),
            "{request}: {}",
            reply["error"]
        );
        reply["return"].clone()
    }
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The port by which the outside is asked.
fn port() -> Option<PathBuf> {
    let named = |name: &String| {
        let path = format!("/sys/class/virtio-ports/{name}/name");
        fs::read_to_string(path).is_ok_and(|found| found.trim() == "strata.ask")
    };
    let port = names("/sys/class/virtio-ports").into_iter().find(named)?;
    Some(Path::new("/dev").join(port))
}
