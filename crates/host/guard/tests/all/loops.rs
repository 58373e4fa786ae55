//! The guard on real loop devices, one at a time.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use strata_guard::{
    Device, DeviceError, GuardError, Identity, Permit, Refusal, Refused, Tell, guard,
};
use tempfile::TempDir;

use crate::crafted;
use crate::support::{has, shell};

/// A loop device over a file of its own, until the end of the test. One test has them at a time: a device freed by one is
/// the next that another gets.
struct Loop {
    device: PathBuf,
    file: PathBuf,
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Loop {
    /// `None`, said as a SKIP, where no loop devices are to be had.
    fn new(test: &str, size: u64, flags: &[&str], fill: impl FnOnce(&Path)) -> Option<Loop> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder
            .path()
            .canonicalize()
            .expect("its path")
            .join("image");
        File::create(&file)
            .and_then(|file| file.set_len(size))
            .expect("an image");
        fill(&file);
        let device = attach(flags, &file)
            .map_err(|why| println!("SKIP {test}: losetup: {why}"))
            .ok()?;
        Some(Loop {
            device,
            file,
            folder,
            _alone: alone,
        })
    }

    fn blank(test: &str) -> Option<Loop> {
        Loop::new(test, 16 << 20, &[], |_| {})
    }

    fn name(&self) -> &str {
        self.device
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
    }

    fn identity(&self) -> &str {
        self.file.to_str().expect("text")
    }

    fn guard(&self) -> Result<Permit, GuardError> {
        guard(&self.device, self.identity())
    }

    /// All refusals, each as it is and by name.
    fn refused(&self) -> (Vec<Refusal>, Vec<&'static str>) {
        let refused = refused(self.guard());
        let names = refused.refusals.iter().map(Refusal::name).collect();
        (refused.refusals, names)
    }

    /// The same once nobody has it open: a process that a test beside this one starts has our descriptors until it has
    /// become another program.
    fn refused_when_closed(&self) -> (Vec<Refusal>, Vec<&'static str>) {
        for _ in 0..100 {
            let (found, names) = self.refused();
            if !names.contains(&"open") {
                return (found, names);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.refused()
    }

    /// Runs a line of shell on `$IMG`, the device; false, said as a SKIP, where it fails.
    fn run(&self, test: &str, line: &str) -> bool {
        shell(line, &self.device)
            .map_err(|why| println!("SKIP {test}: `{line}`: {why}"))
            .is_ok()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

fn attach(flags: &[&str], file: &Path) -> Result<PathBuf, String> {
    let out = Command::new("losetup")
        .args(["-f", "--show"])
        .args(flags)
        .arg(file)
        .output();
    let out = out.map_err(|error| error.to_string())?;
    match out.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())),
        false => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
    }
}

fn refused(answer: Result<Permit, GuardError>) -> Refused {
    match answer {
        Err(GuardError::Refused(refused)) => refused,
        other => panic!("expected refusals, found {other:?}"),
    }
}

/// Runs a command when it goes out of scope.
struct Undo<'a>(&'a str, &'a Path);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let _ = shell(self.0, self.1);
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_blank_device_is_permitted_and_held() {
    let Some(it) = Loop::blank("a_blank_device_is_permitted_and_held") else {
        return;
    };
    let permit = it.guard().expect("a permit");
    assert!(permit.is_blank());
    assert_eq!(permit.device().name, it.name());
    assert_eq!(permit.device().size.0, 16 << 20);
    // Held: nobody else gets it exclusively, and so cannot mount it.
    let exclusive = || {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(&it.device)
    };
    assert_eq!(
        exclusive().expect_err("held").raw_os_error(),
        Some(libc::EBUSY)
    );
    assert_eq!(it.refused().1, ["in-use"]);
    // What the permit opens is that device, for writing past the cache.
    let mut buffer = vec![0; 8192];
    let from = buffer.as_ptr().align_offset(4096);
    buffer[from..from + 4096].fill(0x5a);
    permit
        .open()
        .expect("open")
        .write_all_at(&buffer[from..from + 4096], 1 << 20)
        .expect("written");
    drop(permit);
    // What another test starts holds all descriptors of ours for the moment between fork and exec.
    let begun = Instant::now();
    while let Err(why) = exclusive() {
        assert!(begun.elapsed() < Duration::from_secs(10), "held: {why}");
        sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::read(&it.file).expect("the file")[1 << 20], 0x5a);
}

#[test]
fn another_identity_is_refused_and_the_right_one_not_told() {
    let Some(it) = Loop::blank("another_identity_is_refused_and_the_right_one_not_told") else {
        return;
    };
    let device = Device::at(&it.device).expect("a device");
    let (identity, _) = Identity::of(&device);
    assert_eq!(
        (identity.tell(), identity.text()),
        (Tell::BackingFile, it.identity())
    );
    for typed in [
        "",
        "yes",
        it.name(),
        &it.identity()[1..],
        &it.identity().to_uppercase(),
    ] {
        let found = refused(guard(&it.device, typed));
        let names: Vec<_> = found.refusals.iter().map(Refusal::name).collect();
        assert_eq!(names, ["identity"], "{typed}");
        let text = found.to_string();
        assert!(
            text.contains("strata topology") && !text.contains(it.identity()),
            "{text}"
        );
    }
    guard(&it.device, &format!(" {}\n", it.identity())).expect("blanks do not count");
}

#[test]
fn what_is_no_block_device_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for path in [file.path(), Path::new("/dev/null"), Path::new("/")] {
        let error = guard(path, "").expect_err("no device");
        assert!(
            matches!(
                error,
                GuardError::Device(DeviceError::NotABlockDevice { .. })
            ),
            "{error}"
        );
    }
    let error = guard(Path::new("/dev/no-such-drive"), "").expect_err("no device");
    assert!(
        matches!(error, GuardError::Device(DeviceError::Unreachable { .. })),
        "{error}"
    );
}

#[test]
fn every_signature_is_refused_by_name() {
    let test = "every_signature_is_refused_by_name";
    for image in crafted::all() {
        let Some(it) = Loop::new(test, crafted::SIZE, &[], |file| image.write(file)) else {
            return;
        };
        let (found, names) = it.refused_when_closed();
        // Where the kernel reads the partition table that stands there, partitions are told besides.
        let others = names
            .iter()
            .filter(|name| !["signed", "partitions"].contains(name))
            .count();
        assert_eq!(others, 0, "{names:?}");
        let named = found.iter().any(|refusal| matches!(refusal, Refusal::Signed { signature, .. } if signature.name == image.name));
        assert!(named, "{}: {found:?}", image.name);
    }
}

#[test]
fn data_that_nothing_names_is_permitted_and_told() {
    let fill = |file: &Path| fs::write(file, vec![0xa5; 4 << 20]).expect("data");
    let Some(it) = Loop::new(
        "data_that_nothing_names_is_permitted_and_told",
        4 << 20,
        &[],
        fill,
    ) else {
        return;
    };
    assert!(!it.guard().expect("a permit").is_blank());
}

#[test]
fn devices_shorter_than_what_is_read_are_looked_at_whole() {
    for size in [4096, 5 * 512, 1 << 20, (1 << 20) + 512] {
        let Some(it) = Loop::new(
            "devices_shorter_than_what_is_read_are_looked_at_whole",
            size,
            &[],
            |_| {},
        ) else {
            return;
        };
        assert!(it.guard().expect("a permit").is_blank(), "{size}");
    }
}

#[test]
fn a_mounted_device_is_refused() {
    let test = "a_mounted_device_is_refused";
    let Some(it) = Loop::blank(test) else { return };
    let point = it.folder.path().join("a point");
    fs::create_dir(&point).expect("a folder");
    let mount = format!("mke2fs -q -t ext4 $IMG && mount $IMG '{}'", point.display());
    if !it.run(test, &mount) {
        return;
    }
    let undo = format!("umount '{}'", point.display());
    let mounted = Undo(&undo, &it.device);
    let (found, names) = it.refused();
    assert!(
        ["in-use", "mounted", "signed"]
            .iter()
            .all(|name| names.contains(name)),
        "{names:?}"
    );
    let told = found.iter().any(|refusal| {
        matches!(refusal, Refusal::Mounted { on, point: at, namespace: None, .. } if on == it.name() && Path::new(at).ends_with("a point"))
    });
    assert!(told, "{found:?}");
    drop(mounted);
    assert_eq!(it.refused().1, ["signed"]);
}

#[test]
fn a_mount_in_another_namespace_is_refused() {
    let test = "a_mount_in_another_namespace_is_refused";
    let Some(it) = Loop::blank(test) else { return };
    if !it.run(test, "mke2fs -q -t ext4 $IMG") {
        return;
    }
    let point = it.folder.path().join("point");
    fs::create_dir(&point).expect("a folder");
    // Ends when its standard input does, and says when it has mounted.
    let line = format!(
        "mount {} {} && echo mounted && cat",
        it.device.display(),
        point.display()
    );
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(child) = child else {
        println!("SKIP {test}: there is no unshare");
        return;
    };
    let mut child = Running(child);
    let mut said = String::new();
    let output = child.0.stdout.as_mut().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut said).expect("text");
    if said.trim() != "mounted" {
        println!("SKIP {test}: no mount in a namespace of its own");
        return;
    }
    let (found, _) = it.refused();
    let told = found.iter().any(|refusal| matches!(refusal, Refusal::Mounted { namespace: Some(pid), .. } if *pid == child.0.id()));
    assert!(told, "{found:?}");
    drop(child.0.stdin.take());
    child.0.wait().expect("it ends");
}

#[test]
fn partitions_are_refused_and_what_is_mounted_of_them() {
    let test = "partitions_are_refused_and_what_is_mounted_of_them";
    let Some(it) = Loop::blank(test) else { return };
    if !it.run(test, "addpart $IMG 1 2048 16384") {
        return;
    }
    let _undo = Undo("delpart $IMG 1", &it.device);
    let part = format!("{}p1", it.name());
    let (found, names) = it.refused();
    assert_eq!(names, ["partitions"]);
    assert!(found[0].to_string().contains(&part), "{}", found[0]);
    // The partition itself may be written, by an identity that says which it is.
    let path = Path::new("/dev").join(&part);
    let permit = guard(&path, &format!("{}/p1", it.identity())).expect("a permit");
    assert_eq!(permit.device().part_of, Some((it.name().to_owned(), 1)));
    assert_eq!(it.refused().1, ["in-use", "partitions"]);
    drop(permit);
    let found = refused(guard(&path, it.identity()));
    assert!(found.to_string().contains("/pN after it"), "{found}");
    let point = it.folder.path().join("point");
    fs::create_dir(&point).expect("a folder");
    let point = point.display().to_string();
    if !it.run(
        test,
        &format!("mke2fs -q -t ext4 ${{IMG}}p1 && mount ${{IMG}}p1 {point}"),
    ) {
        return;
    }
    let undo = format!("umount {point}");
    let _mounted = Undo(&undo, &it.device);
    let (found, _) = it.refused();
    assert!(
        found
            .iter()
            .any(|refusal| matches!(refusal, Refusal::Mounted { on, .. } if *on == part)),
        "{found:?}"
    );
}

#[test]
fn swap_is_refused() {
    let test = "swap_is_refused";
    let Some(it) = Loop::blank(test) else { return };
    if !it.run(test, "mkswap -q $IMG && swapon $IMG") {
        return;
    }
    let _undo = Undo("swapoff $IMG", &it.device);
    let (_, names) = it.refused();
    assert!(
        ["in-use", "swap", "signed"]
            .iter()
            .all(|name| names.contains(name)),
        "{names:?}"
    );
}

/// The kernel neither lists a loop device as a holder nor holds what is below it exclusively.
#[test]
fn a_loop_device_over_it_is_refused() {
    let Some(it) = Loop::blank("a_loop_device_over_it_is_refused") else {
        return;
    };
    let above = attach(&[], &it.device).expect("a loop device over a loop device");
    let _undo = Undo("losetup -d $IMG", &above);
    let (found, names) = it.refused();
    assert_eq!(names, ["held"]);
    assert!(
        found[0].to_string().contains(
            above
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name")
        )
    );
}

#[test]
fn a_loop_device_over_what_is_used_is_refused() {
    let test = "a_loop_device_over_what_is_used_is_refused";
    let Some(it) = Loop::blank(test) else { return };
    let above = attach(&["-o", "4194304"], &it.device).expect("a loop device over a loop device");
    let _undo = Undo("losetup -d $IMG", &above);
    let identity = it.device.to_str().expect("text");
    drop(guard(&above, identity).expect("a permit"));
    let open = File::open(&it.device).expect("open");
    let child = Running(
        Command::new("sleep")
            .arg("600")
            .stdin(open)
            .spawn()
            .expect("sleep"),
    );
    let found = refused(guard(&above, identity)).refusals;
    assert!(
        matches!(&found[..], [Refusal::Open { on, pid, .. }] if on == it.name() && *pid == child.0.id()),
        "{found:?}"
    );
    drop(child);
    let point = it.folder.path().join("point");
    fs::create_dir(&point).expect("a folder");
    let point = point.display().to_string();
    // The file system ends before the loop device begins.
    if !it.run(
        test,
        &format!("mke2fs -q -t ext4 $IMG 4M && mount $IMG {point}"),
    ) {
        return;
    }
    let undo = format!("umount {point}");
    let _mounted = Undo(&undo, &it.device);
    let found = refused(guard(&above, identity)).refusals;
    assert!(
        matches!(&found[..], [Refusal::Mounted { on, .. }] if on == it.name()),
        "{found:?}"
    );
}

#[test]
fn a_device_mapped_device_over_it_is_refused() {
    let test = "a_device_mapped_device_over_it_is_refused";
    let Some(it) = Loop::blank(test) else { return };
    let line = "dmsetup create strata-guard-test --table \"0 2048 linear $IMG 0\"";
    if !it.run(test, line) {
        return;
    }
    let _undo = Undo("dmsetup remove strata-guard-test", &it.device);
    let (_, names) = it.refused();
    assert!(
        names.contains(&"held") && names.contains(&"in-use"),
        "{names:?}"
    );
}

#[test]
fn each_device_of_a_mounted_btrfs_is_refused() {
    let test = "each_device_of_a_mounted_btrfs_is_refused";
    if !has("mkfs.btrfs") {
        println!("SKIP {test}: there is no mkfs.btrfs");
        return;
    }
    let Some(it) = Loop::new(test, 256 << 20, &[], |_| {}) else {
        return;
    };
    let second = it.folder.path().join("second");
    File::create(&second)
        .and_then(|file| file.set_len(256 << 20))
        .expect("an image");
    let other = attach(&[], &second).expect("a second loop device");
    let _undo = Undo("losetup -d $IMG", &other);
    let point = it.folder.path().join("point");
    fs::create_dir(&point).expect("a folder");
    let (other_path, point) = (other.display(), point.display().to_string());
    if !it.run(
        test,
        &format!("mkfs.btrfs -q -f $IMG {other_path} && mount -o device={other_path} $IMG {point}"),
    ) {
        return;
    }
    let undo = format!("umount {point}");
    let _mounted = Undo(&undo, &it.device);
    for device in [&it.device, &other] {
        let found = refused(guard(device, ""));
        let held = found
            .refusals
            .iter()
            .any(|refusal| matches!(refusal, Refusal::Held { by, .. } if by.contains("btrfs")));
        assert!(held, "{found}");
    }
}

#[test]
fn a_device_that_another_process_has_open_is_refused() {
    let Some(it) = Loop::blank("a_device_that_another_process_has_open_is_refused") else {
        return;
    };
    let open = File::open(&it.device).expect("open");
    let child = Running(
        Command::new("sleep")
            .arg("600")
            .stdin(open)
            .spawn()
            .expect("sleep"),
    );
    let (found, names) = it.refused();
    assert_eq!(names, ["open"]);
    assert!(
        matches!(&found[0], Refusal::Open { pid, .. } if *pid == child.0.id()),
        "{found:?}"
    );
    drop(child);
    it.guard().expect("a permit");
}

#[test]
fn a_read_only_device_is_refused() {
    let Some(it) = Loop::new("a_read_only_device_is_refused", 16 << 20, &["-r"], |_| {}) else {
        return;
    };
    assert_eq!(it.refused().1, ["read-only"]);
}

#[test]
fn all_reasons_are_told_at_once() {
    let test = "all_reasons_are_told_at_once";
    let Some(it) = Loop::blank(test) else { return };
    if !it.run(test, "mke2fs -q -t ext4 $IMG") {
        return;
    }
    let open = File::open(&it.device).expect("open");
    let _child = Running(
        Command::new("sleep")
            .arg("600")
            .stdin(open)
            .spawn()
            .expect("sleep"),
    );
    let found = refused(guard(&it.device, "wrong"));
    let names: Vec<_> = found.refusals.iter().map(Refusal::name).collect();
    assert_eq!(names, ["identity", "open", "signed"]);
    assert_eq!(found.to_string().lines().count(), 3 + found.unasked.len());
}
