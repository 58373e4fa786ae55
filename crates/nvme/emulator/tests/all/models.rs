//! Models that step between a command and its completion.

use std::time::{Duration, Instant};

use strata_nvme_spec::Status;
use strata_nvme_spec::command::admin::LogPage;
use strata_nvme_spec::log::SmartLog;
use strata_nvme_spec::registers::Csts;
use zerocopy::FromBytes;

use crate::rig::{DATA, Host, Ring, pattern};
use crate::served::Emulator;

fn started(toml: &str) -> (Emulator, Host, Ring) {
    let emulator = Emulator::new(&format!("{toml}\n[[namespace]]\nsize = \"1MiB\""));
    let mut host = Host::new(&emulator);
    let ring = host.pair(1, 16, None);
    (emulator, host, ring)
}

#[test]
fn commands_take_the_time_that_they_are_given_and_may_overtake() {
    let (emulator, host, mut ring) =
        started("[performance.write]\nlatency = \"60ms\"\n[performance.read]\nlatency = \"5ms\"");
    let data = pattern(512, 1);
    host.put(DATA, &data);
    let start = Instant::now();
    let write = host.push(&mut ring, host.transfer(true, 1, 0, 512, DATA, 512));
    let read = host.push(&mut ring, host.transfer(false, 1, 0, 512, DATA + 4096, 512));
    host.ring(&ring);
    assert_eq!(host.wait(&mut ring).cid(), read);
    assert!(start.elapsed() >= Duration::from_millis(5));
    assert!(
        host.get(DATA + 4096, 512) == data,
        "data is there before the completion"
    );
    assert_eq!(host.wait(&mut ring).cid(), write);
    assert!(start.elapsed() >= Duration::from_millis(60));
    emulator.end();
}

#[test]
fn a_full_queue_of_waiting_commands_completes_in_time_and_once() {
    let (emulator, host, mut ring) =
        started("[performance]\nlatency = { uniform = [\"1us\", \"900us\"] }");
    for _ in 0..30 {
        let mut given: Vec<_> = (0..15)
            .map(|_| host.push(&mut ring, host.transfer(false, 1, 0, 512, DATA, 512)))
            .collect();
        host.ring(&ring);
        while !given.is_empty() {
            let cid = host.wait(&mut ring).cid();
            let at = given.iter().position(|waiting| *waiting == cid);
            given.remove(at.expect("once each"));
        }
    }
    host.silent(&mut ring, Duration::from_millis(3));
    emulator.end();
}

/// The fault strikes the second read.
fn second_read(fault: &str) -> (Emulator, Host, Ring) {
    let toml = format!("[[faults.rule]]\nkind = \"read\"\nnth = 2\ntimes = 1\n{fault}");
    let (emulator, host, mut ring) = started(&toml);
    let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
    assert!(host.run(&mut ring, sqe).status().is_success());
    host.push(&mut ring, sqe);
    host.ring(&ring);
    (emulator, host, ring)
}

#[test]
fn a_status_is_answered_and_kept_in_the_logs() {
    let (emulator, mut host, mut ring) =
        second_read("fault = \"status\"\nstatus = \"Unrecovered Read Error\"");
    assert!(
        host.wait(&mut ring)
            .status()
            .is(Status::UNRECOVERED_READ_ERROR)
    );
    let log = host.log(LogPage::Smart, 512, true);
    let log = SmartLog::read_from_bytes(&log).expect("512 bytes");
    assert_eq!((log.media_errors.get(), log.error_entries.get()), (1, 1));
    assert_eq!(log.host_reads.get(), 1, "it was not read");
    emulator.end();
}

#[test]
fn completions_are_lost_late_double_or_stale() {
    let (emulator, host, mut ring) = second_read("fault = \"lost\"");
    host.silent(&mut ring, Duration::from_millis(20));
    let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
    assert!(host.run(&mut ring, sqe).status().is_success(), "the third");
    emulator.end();

    let start = Instant::now();
    let (emulator, host, mut ring) = second_read("fault = \"late\"\ndelay = \"40ms\"");
    assert!(host.wait(&mut ring).status().is_success());
    assert!(start.elapsed() >= Duration::from_millis(40));
    emulator.end();

    let (emulator, host, mut ring) = second_read("fault = \"twice\"\ndelay = \"1ms\"");
    let (first, second) = (host.wait(&mut ring), host.wait(&mut ring));
    assert_eq!(first.cid(), second.cid());
    host.silent(&mut ring, Duration::from_millis(3));
    emulator.end();

    let (emulator, host, mut ring) = second_read("fault = \"wrong-phase\"");
    host.silent(&mut ring, Duration::from_millis(20));
    emulator.end();
}

#[test]
fn data_is_corrupt_once() {
    let (emulator, host, mut ring) = second_read("fault = \"corrupt\"");
    assert!(host.wait(&mut ring).status().is_success());
    assert_eq!(host.get(DATA, 8), [0xff, 0, 0, 0, 0, 0, 0, 0]);
    let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
    assert!(host.run(&mut ring, sqe).status().is_success());
    assert_eq!(host.get(DATA, 8), [0; 8], "the medium has what was written");
    emulator.end();

    let (emulator, host, mut ring) =
        started("[[faults.rule]]\nkind = \"write\"\nfault = \"corrupt\"");
    host.put(DATA, &[5; 512]);
    for write in [true, false] {
        let sqe = host.transfer(write, 1, 0, 512, DATA, 512);
        assert!(host.run(&mut ring, sqe).status().is_success());
    }
    assert_eq!(host.get(DATA, 4), [!5, 5, 5, 5]);
    emulator.end();

    // What was not written is not wrong either, and stands in the log.
    let (emulator, mut host, mut ring) =
        started("[[faults.rule]]\nkind = \"write\"\nfault = \"corrupt\"");
    let mut sqe = host.transfer(true, 1, 0, 512, DATA, 512);
    sqe.prp1 = 0.into();
    let status = host.run(&mut ring, sqe).status();
    assert!(
        status.is(Status::DATA_TRANSFER_ERROR) && status.has_more(),
        "{status}"
    );
    host.put(DATA, &[5; 512]);
    let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
    assert!(host.run(&mut ring, sqe).status().is_success());
    assert_eq!(host.get(DATA, 4), [0; 4]);
    let log = host.log(LogPage::Smart, 512, true);
    let log = SmartLog::read_from_bytes(&log).expect("512 bytes");
    assert_eq!(log.error_entries.get(), 1);
    emulator.end();
}

#[test]
fn a_controller_fails_vanishes_or_never_becomes_ready() {
    let (emulator, mut host, mut ring) = second_read("fault = \"fatal\"");
    host.wait_csts(Csts::cfs);
    assert_eq!(host.poll(&mut ring), None);
    host.write32(0x14, 0);
    host.enable();
    host.wait_csts(Csts::rdy);
    emulator.end();

    let (emulator, mut host, mut ring) = second_read("fault = \"removed\"");
    host.wait_csts(Csts::is_gone);
    assert_eq!((host.read64(0), host.poll(&mut ring)), (u64::MAX, None));
    host.write32(0x14, 0);
    host.client.reset().expect("answered");
    assert!(Csts(host.read32(0x1c)).is_gone(), "no reset brings it back");
    drop(host);
    drop(Host::new(&emulator));
    emulator.end();

    let emulator = Emulator::new("[faults]\nnever_ready = true");
    let mut host = Host::cold(&emulator);
    host.enable();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(host.read32(0x1c), 0);
    emulator.end();
}
