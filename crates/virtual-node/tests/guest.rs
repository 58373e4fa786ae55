//! The harness itself: what a test says, how a guest that crashes is told, and that none outlives its command.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use strata_virtual_node::{Guest, Seen, Share, description, image_or_skip, is_inside, on};

/// How many files of that name the guests of this process have open that are in no folder any more.
fn open_and_deleted(name: &str) -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("threads").flatten();
    let children = threads.flat_map(|thread| {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let ids = text.split_whitespace().map(str::to_owned);
        ids.collect::<Vec<String>>()
    });
    let files =
        children.flat_map(|id| fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten());
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter(|to| {
            to.to_string_lossy()
                .ends_with(&format!("/{name} (deleted)"))
        })
        .count()
}

/// A node for this test alone; prints why there is none.
fn guest(test: &str, node: &str, seen: &Seen) -> Option<Guest> {
    let image = image_or_skip(test)?;
    let description = description(node).expect("it comes along");
    Some(Guest::start(&image, &description, seen).expect("it starts"))
}

#[test]
fn a_test_runs_in_the_node_and_not_here() {
    // The folder of this program is seen from there.
    let program = std::env::current_exe().expect("a program");
    let outside = program.with_file_name("boot_id_outside");
    let boot = || fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    if !is_inside() {
        fs::write(&outside, boot()).expect("written");
    }
    let ran = Cell::new(false);
    on("usual", |node| {
        ran.set(true);
        let outside = fs::read_to_string(&outside).expect("the host's");
        assert_eq!(outside.trim().len(), 36, "{outside:?}");
        assert_ne!(boot(), outside);
        assert_eq!(node.driver("STRATA0").as_deref(), Some("nvme"));
        assert!(node.disk("STRATA1").starts_with("/dev"));
        let status = node.monitor("query-status", serde_json::json!({}));
        assert_eq!(status["running"], true);
    });
    assert_eq!(ran.get(), is_inside());
}

/// What fails inside fails outside, by the same name and with what it said.
#[test]
fn a_test_that_fails_there_fails_here() {
    if !is_inside() && image_or_skip("a_test_that_fails_there_fails_here").is_none() {
        return;
    }
    let failed = std::panic::catch_unwind(|| on("usual", |_| panic!("as it is meant to")));
    let Err(told) = failed else {
        panic!("it passed");
    };
    let told = told
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| told.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .expect("a message");
    if is_inside() {
        std::panic::resume_unwind(Box::new(told));
    }
    assert!(
        told.contains("a_test_that_fails_there_fails_here failed"),
        "{told}"
    );
}

#[test]
fn exit_status_and_output_come_back_and_a_crash_or_a_hang_is_told_with_the_console() {
    let test = "exit_status_and_output_come_back_and_a_crash_or_a_hang_is_told_with_the_console";
    // What neither QEMU's options nor a shell's words take as it is.
    let folder = tempfile::Builder::new().prefix("it's a, b ").tempdir();
    let folder = folder.expect("a folder");
    let program = folder.path().join("my, program");
    fs::write(&program, "#!/bin/bash\necho from \"$0\"\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    let seen = Seen {
        folders: vec![Share::read_only(folder.path().to_owned())],
        programs: vec![program],
    };
    let Some(mut node) = guest(test, "usual", &seen) else {
        return;
    };
    assert!(
        ["by KVM", "by translation: "]
            .iter()
            .any(|how| node.runs().starts_with(how)),
        "{}",
        node.runs()
    );
    let minute = Duration::from_secs(60);
    let ran = node
        .run("echo out; echo err >&2; exit 7", minute)
        .expect("it runs");
    assert_eq!((ran.status, ran.output.as_str()), (7, "out\nerr\n"));
    let ran = node
        .run("ls /sys/bus/node/devices | wc -l", minute)
        .expect("it runs");
    assert_eq!(ran.output.trim(), "2");
    let ran = node.run("'my, program'", minute).expect("it runs");
    assert_eq!(ran.output, "from /usr/local/bin/my, program\n");
    // A drive keeps what is written to it, and yet leaves no file when this process is killed.
    let script = "disk=$(grep -l STRATA0 /sys/class/nvme/*/serial) && disk=/dev/$(basename ${disk%/serial})n1 &&
        echo something >/tmp/it && dd if=/tmp/it of=$disk conv=fsync status=none &&
        echo 3 >/proc/sys/vm/drop_caches && head -c 9 $disk";
    let ran = node.run(script, minute).expect("it runs");
    assert_eq!(ran.output, "something");
    let deleted = open_and_deleted("STRATA0.img");
    assert!(deleted > 0, "its file still lies there");
    let crash = "echo before; sync; echo c >/proc/sysrq-trigger; sleep 60";
    let why = format!("{:#}", node.run(crash, minute).expect_err("it crashes"));
    assert!(why.contains("Kernel panic"), "{why}");
    assert!(why.contains("before"), "{why}");
    assert!(!node.is_whole());
}

#[test]
fn what_takes_too_long_is_ended() {
    let Some(mut node) = guest("what_takes_too_long_is_ended", "usual", &Seen::default()) else {
        return;
    };
    let begun = Instant::now();
    let why = node
        .run("sleep 300", Duration::from_secs(2))
        .expect_err("it hangs");
    assert!(
        format!("{why:#}").contains("took longer than 2 s"),
        "{why:#}"
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn two_guests_are_on_one_wire() {
    let Some(mut node) = guest("two_guests_are_on_one_wire", "wire", &Seen::default()) else {
        return;
    };
    let [_, peer] = strata_virtual_node::WIRE;
    let ran = node.run(&format!("ping -c 1 -W 20 {peer}"), Duration::from_secs(60));
    let ran = ran.expect("it runs");
    assert_eq!(ran.status, 0, "{}", ran.output);
    node.begin_on_peer("nc -l -p 7777 -e hostname")
        .expect("it starts");
    let asked = format!(
        "for _ in 1 2 3 4 5 6 7 8 9 10; do nc {peer} 7777 </dev/null && break; sleep 1; done"
    );
    let ran = node.run(&asked, Duration::from_secs(60)).expect("it runs");
    assert_eq!(ran.output.lines().last(), Some("peer"), "{}", ran.output);
    // And by verbs, on the same wire.
    node.begin_on_peer(&verbs("ib_send_bw", ""))
        .expect("it starts");
    let ran = node.run(&verbs("ib_send_bw", peer), Duration::from_secs(120));
    let ran = ran.expect("it runs");
    assert_eq!(ran.status, 0, "{}", ran.output);
}

/// One end of a test of perftest's; that which names the other end waits until it is there. GID 1 is the interface's IPv4 address.
fn verbs(test: &str, peer: &str) -> String {
    let once = format!("{test} -d rxe0 -x 1 -s 4096 -n 40 -F {peer}");
    match peer {
        "" => once,
        _ => format!("for n in {{1..20}}; do {once} && exit; sleep 1; done; exit 1"),
    }
}

#[test]
fn verbs_work_between_two_processes() {
    let test = "verbs_work_between_two_processes";
    let Some(mut node) = guest(test, "verbs", &Seen::default()) else {
        return;
    };
    let within = Duration::from_secs(120);
    let ran = node.run("ibv_devinfo -d rxe0", within);
    let ran = ran.expect("it runs");
    for said in ["PORT_ACTIVE", "active_mtu:\t\t4096 (5)"] {
        assert!(ran.output.contains(said), "{}", ran.output);
    }
    for way in ["ib_write_bw", "ib_read_bw"] {
        let both = format!(
            "{} >/dev/null & {}",
            verbs(way, ""),
            verbs(way, strata_virtual_node::SOFT_ROCE)
        );
        let ran = node.run(&both, within).expect("it runs");
        assert_eq!(ran.status, 0, "{way}: {}", ran.output);
    }
}

/// Killed in the middle, the command leaves no QEMU behind.
#[test]
fn no_guest_outlives_its_command() {
    if image_or_skip("no_guest_outlives_its_command").is_none() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-node"))
        .args(["run", "--", "sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let children = format!("/proc/{0}/task", command.id());
    let begun = Instant::now();
    let machine = loop {
        let threads = std::fs::read_dir(&children).expect("it lives");
        let found = threads.flatten().find_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("children")).ok()?;
            text.split_whitespace().find_map(|pid| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                name.starts_with("qemu").then(|| pid.to_owned())
            })
        });
        if let Some(pid) = found {
            break pid;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "no machine");
        std::thread::sleep(Duration::from_millis(50));
    };
    command.kill().expect("killed");
    command.wait().expect("ended");
    let begun = Instant::now();
    let path = format!("/proc/{machine}/stat");
    // A zombie waits for whoever takes over its parent's children.
    while Path::new(&path).exists()
        && !std::fs::read_to_string(&path).is_ok_and(|s| s.contains(") Z"))
    {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "QEMU {machine} lives on"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut rest = String::new();
    if let Some(out) = command.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut rest);
    }
    assert_eq!(rest, "");
}
