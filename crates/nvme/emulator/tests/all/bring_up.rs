//! Registers, enabling and resetting.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use strata_nvme_emulator::{Config, serve};
use strata_nvme_spec::command::admin::{Cns, Identify};
use strata_nvme_spec::registers::{
    Aqa, Cc, Crto, Csts, Shutdown, ShutdownStatus, offset, ready_timeout,
};
use strata_nvme_spec::{NamespaceId, PageSize, Status};
use strata_units::{ByteOffset, Bytes, Nanos};
use strata_vfio_user::region;

use crate::rig::{BASE, Host};
use crate::served::{Emulator, folder};

#[test]
fn a_controller_says_what_it_can_and_becomes_ready() {
    let emulator = Emulator::new("ready_after = \"30ms\"\nqueues = 63\nentries = 1024");
    let mut host = Host::cold(&emulator);
    let cap = host.cap;
    assert_eq!(cap.queue_size().map(|size| size.entries()), Some(1024));
    assert_eq!(cap.doorbell_stride(), Bytes(32));
    assert!(cap.contiguous_queues() && cap.command_sets().nvm && cap.ready_with_media());
    assert!(cap.takes_page(PageSize::FOUR_KIB) && !cap.subsystem_reset());
    assert_eq!(host.read32(offset::VS), 0x0001_0400);
    let crto = Crto(host.read32(offset::CRTO));
    assert!(ready_timeout(cap, crto, false) >= Nanos::from_millis(530));
    assert_eq!(host.client.vectors().expect("told"), 64);
    // The two halves of a register of 8 bytes are it.
    let halves = [host.read32(offset::CAP), host.read32(offset::CAP + 4)];
    assert_eq!(u64::from(halves[1]) << 32 | u64::from(halves[0]), cap.0);
    let start = Instant::now();
    host.enable();
    assert_eq!(Csts(host.read32(offset::CSTS)), Csts(0));
    host.wait_csts(Csts::rdy);
    assert!(start.elapsed() >= Duration::from_millis(30));
    host.write32(offset::CC, 0);
    assert_eq!(host.read32(offset::CSTS), 0);
    // AQA, ASQ and ACQ outlast a controller reset, and not one of the function.
    assert_eq!(host.read64(offset::ASQ), BASE);
    host.client.reset().expect("reset");
    assert_eq!((host.read64(offset::ASQ), host.read32(offset::AQA)), (0, 0));
    emulator.end();
}

#[test]
fn registers_are_touched_by_whole_words_only() {
    let emulator = Emulator::new("");
    let mut host = Host::cold(&emulator);
    for (at, len) in [
        (0, 1),
        (0, 2),
        (0x14, 3),
        (0x14, 8),
        (2, 4),
        (0x1000, 16),
        (0, 4096),
    ] {
        let mut bytes = vec![0; len];
        let refused = host.client.read(0, ByteOffset(at), &mut bytes);
        let why = refused.expect_err("no register").to_string();
        assert!(why.contains("Invalid argument"), "{at:#x} {len}: {why}");
        assert!(host.client.write(0, ByteOffset(at), &bytes).is_err());
    }
    // What is reserved reads as zeroes and is not written.
    for at in [0x18, 0x20, 0x40, 0xe00, 0xffc, 0x1004, 0x3ffc] {
        host.write32(at, u32::MAX);
        assert_eq!(host.read32(at), 0, "{at:#x}");
    }
    emulator.end();
}

#[test]
fn what_cannot_be_enabled_is_fatal_and_a_reset_helps() {
    let emulator = Emulator::new("");
    let mut host = Host::cold(&emulator);
    let good = Cc::enabling(PageSize::FOUR_KIB);
    let aqa = Aqa(0x001f_001f).0;
    let reserved = strata_nvme_spec::registers::CommandSet::All;
    for (what, cc, aqa, asq, acq) in [
        (
            "a page too large",
            good.with_page(PageSize::from_field(5)),
            aqa,
            BASE,
            BASE + 4096,
        ),
        (
            "a command set",
            good.with_command_set(reserved),
            aqa,
            BASE,
            BASE + 4096,
        ),
        (
            "arbitration",
            good.with_arbitration(1),
            aqa,
            BASE,
            BASE + 4096,
        ),
        ("no submission queue", good, 0x001f_0000, BASE, BASE + 4096),
        ("no completion queue", good, 0x1f, BASE, BASE + 4096),
        ("nothing mapped", good, aqa, 0x1000, BASE + 4096),
        ("nothing mapped", good, aqa, BASE, BASE - 4096),
        (
            "half of it mapped",
            good,
            0x0fff_0fff,
            BASE + (16 << 20) - 4096,
            BASE,
        ),
    ] {
        host.write32(offset::AQA, aqa);
        host.write64(offset::ASQ, asq);
        host.write64(offset::ACQ, acq);
        host.write32(offset::CC, cc.0);
        let csts = Csts(host.read32(offset::CSTS));
        assert!(csts.cfs() && !csts.rdy(), "{what}: {csts:?}");
        host.write32(offset::CC, cc.with_en(false).0);
        assert_eq!(host.read32(offset::CSTS), 0, "{what}");
    }
    host.enable();
    host.wait_csts(Csts::rdy);
    emulator.end();
}

#[test]
fn a_shutdown_is_told_and_a_larger_page_is_taken() {
    let emulator = Emulator::new("");
    let mut host = Host::cold(&emulator);
    host.page = PageSize::from_field(1);
    host.enable();
    host.wait_csts(Csts::rdy);
    let cc = Cc(host.read32(offset::CC));
    host.write32(offset::CC, cc.with_shutdown(Shutdown::Normal).0);
    let csts = Csts(host.read32(offset::CSTS));
    assert_eq!(csts.shutdown(), ShutdownStatus::Complete);
    // No command is answered any more.
    let mut ring = host.take_admin();
    let identify = Identify {
        cns: Cns::Controller,
        nsid: NamespaceId(0),
    };
    host.push(&mut ring, identify.sqe());
    host.ring(&ring);
    host.silent(&mut ring, Duration::from_millis(10));
    host.admin = ring;
    host.write32(offset::CC, 0);
    assert_eq!(host.read32(offset::CSTS), 0);
    // One that is asked for while it is not enabled is over when it is.
    host.write32(offset::CC, Cc(0).with_shutdown(Shutdown::Normal).0);
    let csts = Csts(host.read32(offset::CSTS));
    assert_eq!(csts.shutdown(), ShutdownStatus::Complete);
    host.enable();
    let csts = host.wait_csts(Csts::rdy);
    assert_eq!(csts.shutdown(), ShutdownStatus::None);
    assert!(
        host.admin_status(identify.sqe())
            .is(Status::DATA_TRANSFER_ERROR),
        "it answers"
    );
    emulator.end();
}

#[test]
fn without_memory_or_power_registers_read_as_ones() {
    let emulator = Emulator::new("");
    let mut host = Host::cold(&emulator);
    let mut class = [0; 3];
    host.client
        .read(region::CONFIG, ByteOffset(9), &mut class)
        .expect("read");
    assert_eq!(class, [2, 8, 1]);
    let mut set = |at, value: u8| {
        let written = host.client.write(region::CONFIG, ByteOffset(at), &[value]);
        written.expect("written");
        host.read32(offset::VS)
    };
    assert_eq!(set(4, 4), u32::MAX, "memory is not decoded");
    assert_eq!(set(4, 6), 0x0001_0400);
    assert_eq!(set(0x44, 3), u32::MAX, "D3");
    assert_eq!(set(0x44, 0), 0x0001_0400);
    emulator.end();
}

#[test]
fn what_cannot_be_served_is_said() {
    let stop = AtomicBool::new(true);
    let folder = folder();
    let refused = |toml: &str, folder: &std::path::Path| {
        let config: Config = toml::from_str(toml).expect(toml);
        let served = serve(&config, folder, None, &stop);
        served.expect_err(toml).to_string()
    };
    let why = refused("queues = 65", folder.path());
    assert!(why.contains("queues: found 65, expected 1 to 64"), "{why}");
    let why = refused(
        "[[namespace]]\nmemory = { file = \"/nowhere/at/all\" }",
        folder.path(),
    );
    assert!(
        why.contains("cannot open /nowhere/at/all for namespace 1"),
        "{why}"
    );
    let why = refused(
        "[performance]\nlatency = { uniform = [\"2us\", \"1us\"] }",
        folder.path(),
    );
    assert!(why.contains("latency"), "{why}");
    let open = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(open.path(), Permissions::from_mode(0o755)).expect("set");
    let why = refused("", open.path());
    assert!(why.contains("mode 0700"), "{why}");
    let emulator = Emulator::new("");
    drop(emulator.client());
    let why = refused("", emulator.path());
    assert!(why.contains("cannot serve at"), "{why}");
    emulator.end();
}
