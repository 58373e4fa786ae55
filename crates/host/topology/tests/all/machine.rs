//! The machine that the tests run on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use strata_record::Reality;
use strata_topology::{
    Allowed, InterruptTable, PinError, Root, ThreadWatch, Topology, Want, choose, file_device,
    pin_current_thread, read_environment, read_limits,
};
use strata_units::{CpuId, CpuList};

fn here() -> (Topology, Allowed) {
    let topology = Topology::read(&Root::live()).expect("a topology");
    let allowed = Allowed::read(&Root::live(), &topology);
    (topology, allowed)
}

/// Keeps the CPU busy.
fn spin(span: Duration) -> u64 {
    let start = Instant::now();
    let mut turns = 0u64;
    while start.elapsed() < span {
        turns = std::hint::black_box(turns + 1);
    }
    turns
}

#[test]
fn topology_agrees_with_the_scheduler() {
    let (topology, allowed) = here();
    let status = fs::read_to_string("/proc/thread-self/status").expect("a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let told: CpuList = line.expect("a list").parse().expect("a list");
    let told = told.and(&topology.online());
    assert!(!told.is_empty());
    assert_eq!(
        told.without(&allowed.cpus).len(),
        0,
        "{told} in {}",
        allowed.cpus
    );
    assert_eq!(
        allowed.cpus.without(&told).and(&topology.isolated()),
        allowed.cpus.without(&told)
    );
    let parallel = thread::available_parallelism().expect("a number").get();
    assert!(parallel <= told.len(), "cgroup quotas only lower it");
    if !topology.nodes.is_empty() {
        for cpu in allowed.cpus.iter() {
            let node = topology.node_of(cpu).expect("a CPU online has a node");
            assert!(
                topology
                    .node(node)
                    .is_some_and(|node| node.cpus.contains(cpu))
            );
        }
        assert!(!allowed.nodes.is_empty());
    }
}

#[test]
fn environment_agrees_with_uname() {
    let host = read_environment(&Root::live()).expect("an environment");
    let release = Command::new("uname")
        .arg("-r")
        .output()
        .expect("uname")
        .stdout;
    assert_eq!(
        host.kernel_release.as_deref(),
        Some(String::from_utf8_lossy(&release).trim())
    );
    assert!(host.memory_total_bytes.is_some_and(|memory| memory.0 > 0));
    assert!(host.memlock_bytes.is_some() || host.memlock_unlimited == Some(true));
    assert!(host.clock_source.is_some() && host.boot_id.is_some());
    assert!(
        host.sysctls.contains_key("vm.swappiness"),
        "{:?}",
        host.sysctls
    );
}

#[test]
fn a_pinned_thread_stays_and_the_watch_proves_it() {
    let (topology, allowed) = here();
    let choice = choose(
        &topology,
        &allowed,
        &Want {
            count: 1,
            ..Want::default()
        },
    )
    .expect("a choice");
    let list = choice.list();
    let proof = thread::spawn({
        let list = list.clone();
        move || {
            let pinned = pin_current_thread(&list).expect("pinned");
            assert_eq!(pinned.mask, list);
            let mut watch = ThreadWatch::start();
            for _ in 0..10 {
                spin(Duration::from_millis(3));
                watch.sample();
                thread::sleep(Duration::from_millis(1));
            }
            watch.finish()
        }
    })
    .join()
    .expect("the thread");
    assert_eq!((proof.mask.as_ref(), &proof.seen), (Some(&list), &list));
    assert_eq!(
        (proof.samples, proof.changes),
        (12, 0),
        "start, ten, finish"
    );
    assert_eq!(
        proof.migrations.is_none(),
        proof.migrations_unknown.is_some()
    );
    assert_eq!(proof.migrations.unwrap_or(0), 0);
    assert!(proof.voluntary_switches >= 10, "ten sleeps: {proof:?}");
    assert!(
        proof.cpu_time.0 > 5_000_000,
        "thirty milliseconds of spinning: {proof:?}"
    );
    assert!(proof.cpu_time.0 < 5_000_000_000, "{proof:?}");
}

#[test]
fn a_thread_moved_while_watched_is_found_out() {
    let (_, allowed) = here();
    let [first, second, ..] = allowed.cpus.as_slice() else {
        println!(
            "SKIP a_thread_moved_while_watched_is_found_out: only CPU {} is allowed",
            allowed.cpus
        );
        return;
    };
    let (first, second) = (*first, *second);
    let one = |cpu: CpuId| CpuList::from(vec![cpu]);
    let proof = thread::spawn(move || {
        pin_current_thread(&one(first)).expect("pinned");
        let mut watch = ThreadWatch::start();
        spin(Duration::from_millis(2));
        watch.sample();
        pin_current_thread(&one(second)).expect("moved");
        spin(Duration::from_millis(2));
        watch.sample();
        watch.finish()
    })
    .join()
    .expect("the thread");
    assert_eq!(proof.seen, vec![first, second].into());
    assert_eq!(proof.mask, Some(one(second)));
    assert_eq!(proof.changes, 1);
    assert!(proof.migrations.is_none_or(|count| count >= 1), "{proof:?}");
}

#[test]
fn pinning_to_what_is_not_there_is_refused() {
    let (topology, allowed) = here();
    let absent = CpuId(topology.cpus.last().expect("a CPU").id.0 + 1);
    thread::spawn(move || {
        assert!(matches!(
            pin_current_thread(&CpuList::default()),
            Err(PinError::NoCpus)
        ));
        for absent in [absent, CpuId(1024), CpuId(60_000)] {
            let error = pin_current_thread(&vec![absent].into()).expect_err("no such CPU");
            assert!(matches!(error, PinError::Refused { .. }), "{error:?}");
            assert!(
                error.to_string().contains("choose CPUs that are online"),
                "{error}"
            );
        }
        // The kernel takes a mask of which a part is there; the reading back finds it out.
        let partly: CpuList = allowed.cpus.iter().chain([absent]).collect();
        let error = pin_current_thread(&partly).expect_err("partly absent");
        assert!(matches!(error, PinError::Differs { .. }), "{error:?}");
        assert_eq!(
            pin_current_thread(&allowed.cpus).expect("all allowed").mask,
            allowed.cpus
        );
    })
    .join()
    .expect("the thread");
}

#[test]
fn files_tell_their_devices() {
    let (topology, _) = here();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let found = file_device(&topology, file.path()).expect("a device");
    let told = Command::new("df")
        .arg("--output=fstype,source,target")
        .arg(file.path())
        .output()
        .expect("df");
    let told = String::from_utf8_lossy(&told.stdout);
    let told: Vec<&str> = told
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let words = [&found.filesystem, &found.source, &found.mount_point];
    let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
    assert_eq!(words, told);
    assert!(!found.judgement.reality_why.is_empty());
    if let Some(name) = &found.disk {
        let disk = topology.disk(name).expect("the disk");
        assert_eq!(found.logical_block, disk.logical_block);
        // The node of the block device itself tells the same disk.
        let node = format!("/dev/{}", found.device.as_deref().expect("a device"));
        if Path::new(&node).exists() {
            let bare = file_device(&topology, node.as_ref()).expect("a device");
            assert_eq!(
                (bare.disk, bare.judgement, bare.filesystem),
                (found.disk, found.judgement, None)
            );
        }
    }
    let absent = file_device(&topology, "/nowhere/at/all".as_ref()).expect_err("no file");
    assert!(
        absent
            .to_string()
            .contains("give a file, folder or block device that exists"),
        "{absent}"
    );
}

#[test]
fn memory_is_told_from_storage() {
    let shm = Path::new("/dev/shm");
    let Ok(file) = tempfile::NamedTempFile::new_in(shm) else {
        println!("SKIP memory_is_told_from_storage: cannot write to /dev/shm");
        return;
    };
    let (topology, _) = here();
    let found = file_device(&topology, file.path()).expect("a device");
    assert_eq!(found.filesystem.as_deref(), Some("tmpfs"));
    assert_eq!(found.judgement.reality, Some(Reality::Memory));
    assert_eq!((found.device, found.pci, found.node), (None, None, None));
}

#[test]
fn a_character_device_has_no_reality() {
    let (topology, _) = here();
    let null = file_device(&topology, "/dev/null".as_ref()).expect("a device");
    assert_eq!((null.device, null.judgement.reality), (None, None));
    assert!(null.judgement.reality_why.starts_with("it is neither file"));
}

#[test]
fn loopback_is_software() {
    let (topology, _) = here();
    let Some(lo) = topology.interfaces.iter().find(|i| i.name == "lo") else {
        println!("SKIP loopback_is_software: no interface lo in /sys/class/net");
        return;
    };
    assert_eq!(lo.judgement.reality, Some(Reality::Software));
}

#[test]
fn interrupts_are_counted_on_this_machine() {
    let before = InterruptTable::read(&Root::live()).expect("a table");
    let (topology, _) = here();
    assert_eq!(
        before.cpus.iter().copied().collect::<CpuList>(),
        topology.online()
    );
    // Waking up takes an interrupt of the timer.
    thread::sleep(Duration::from_millis(50));
    let after = InterruptTable::read(&Root::live()).expect("a table");
    let came = after.difference(&before);
    let total: u64 = came.lines.values().map(|line| line.total()).sum();
    assert!(total > 0, "{came:?}");
    for (name, line) in &came.lines {
        let earlier = before.lines.get(name).map_or(0, |line| line.total());
        assert_eq!(line.total() + earlier, after.lines[name].total(), "{name}");
    }
    for vector in topology.pci.iter().flat_map(|function| &function.vectors) {
        if let Some(name) = &vector.name {
            assert_eq!(after.of(vector.irq).map(|line| &line.name), Some(name));
        }
    }
}

#[test]
fn limits_of_this_process_are_read() {
    let limits = read_limits(&Root::live());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let old = own
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .any(|controllers| controllers.split(',').any(|c| c == "memory"));
    assert_eq!(
        limits
            .notes
            .iter()
            .any(|note| note.why.contains("version 1")),
        own.lines()
            .filter_map(|line| line.split(':').nth(1))
            .flat_map(|controllers| controllers.split(','))
            .any(|c| ["cpu", "memory", "hugetlb"].contains(&c)),
        "{limits:?}"
    );
    if old {
        assert_eq!(limits.memory_max, None, "version 1 has it: {limits:?}");
    }
    let job = std::env::var("SLURM_JOB_ID").ok();
    assert_eq!(limits.slurm.map(|slurm| slurm.job), job);
}

#[test]
fn a_loop_device_stands_on_the_disk_of_its_file() {
    const TEST: &str = "a_loop_device_stands_on_the_disk_of_its_file";
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(1 << 20).expect("a size");
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(file.path())
        .output();
    let node = match made {
        Ok(made) if made.status.success() => {
            String::from_utf8_lossy(&made.stdout).trim().to_owned()
        }
        Ok(made) => {
            let why = String::from_utf8_lossy(&made.stderr);
            println!("SKIP {TEST}: losetup: {}", why.trim());
            return;
        }
        Err(error) => {
            println!("SKIP {TEST}: no losetup: {error}");
            return;
        }
    };
    let (topology, _) = here();
    let on = file_device(&topology, node.as_ref());
    let below = file_device(&topology, file.path());
    let done = Command::new("losetup").args(["--detach", &node]).status();
    assert!(done.is_ok_and(|status| status.success()), "{node} is left");
    let (on, below) = (on.expect("a device"), below.expect("a device"));
    let name = node.trim_start_matches("/dev/");
    let disk = topology.disk(name).expect("the loop device");
    assert_eq!(disk.backed_by, below.device);
    assert_eq!(on.disk.as_deref(), Some(name));
    assert_eq!((on.functions, on.pci), (below.functions, below.pci));
    if below.judgement.reality.is_some() {
        assert_eq!(on.judgement.reality, below.judgement.reality);
    }
}
