//! Features, logs and events: what the controller keeps and tells of itself.

use std::time::Duration;

use strata_nvme_spec::command::CreateCompletionQueue;
use strata_nvme_spec::command::admin::{
    Abort, GetFeatures, GetLogPage, LogPage, Select, SetFeatures, async_event_request,
};
use strata_nvme_spec::feature::{FeatureId, QueueCounts};
use strata_nvme_spec::log::{ErrorEntry, FirmwareSlots, SmartLog};
use strata_nvme_spec::prp::Pointers;
use strata_nvme_spec::registers::Doorbell;
use strata_nvme_spec::{AsyncEvent, EventConfig, NamespaceId, QueueId, QueueSize, Sqe, Status};
use strata_units::{Bytes, Iova};
use zerocopy::FromBytes;

use crate::rig::{BASE, DATA, Host, RINGS};
use crate::served::Emulator;

fn set(feature: FeatureId, value: u32) -> Sqe {
    SetFeatures {
        feature,
        nsid: NamespaceId::NONE,
        value,
        save: false,
    }
    .sqe()
}

fn get(feature: FeatureId, select: Select, detail: u32) -> Sqe {
    GetFeatures {
        feature,
        nsid: NamespaceId::NONE,
        select,
        detail,
    }
    .sqe()
}

#[test]
fn features_are_kept_until_the_next_reset() {
    let emulator = Emulator::new("queues = 8");
    let mut host = Host::new(&emulator);
    let wanted = QueueCounts::new(3, 2).expect("counts").dword();
    let granted = host
        .admin(set(FeatureId::NUMBER_OF_QUEUES, wanted))
        .dw0
        .get();
    assert_eq!(QueueCounts::from_dword(granted).pairs(), 3);
    let cq = CreateCompletionQueue {
        id: QueueId(4),
        size: QueueSize::new(8).expect("a size"),
        at: Iova(BASE + RINGS),
        contiguous: true,
        vector: None,
    };
    assert!(
        host.admin_status(cq.sqe()).is(Status::INVALID_QUEUE_ID),
        "not granted"
    );
    let most = QueueCounts::new(200, 1).expect("counts").dword();
    let granted = host.admin(set(FeatureId::NUMBER_OF_QUEUES, most)).dw0.get();
    assert_eq!(QueueCounts::from_dword(granted).pairs(), 8);
    let too_many = set(FeatureId::NUMBER_OF_QUEUES, 0xffff);
    assert!(host.admin_status(too_many).is(Status::INVALID_FIELD));
    for (feature, value, detail) in [
        (FeatureId::ARBITRATION, 0x0102_0304, 0),
        (FeatureId::VOLATILE_WRITE_CACHE, 0, 0),
        (FeatureId::INTERRUPT_COALESCING, 0x0505, 0),
        (FeatureId::INTERRUPT_VECTOR, 1 << 16 | 8, 8),
        (FeatureId::WRITE_ATOMICITY, 1, 0),
        (FeatureId::EVENT_CONFIG, 0x1f, 0),
        (FeatureId::ERROR_RECOVERY, 7, 0),
        (FeatureId::TEMPERATURE_THRESHOLD, 300, 0),
        (FeatureId::TEMPERATURE_THRESHOLD, 1 << 20 | 270, 1 << 20),
    ] {
        assert!(
            host.admin_status(set(feature, value)).is_success(),
            "{feature:?}"
        );
        let found = host.admin(get(feature, Select::Current, detail)).dw0.get();
        assert_eq!(found & 0xffff, value & 0xffff, "{feature:?}");
        let first = host.admin(get(feature, Select::Default, detail)).dw0.get();
        assert_ne!(first, found, "{feature:?}");
        let can = host
            .admin(get(feature, Select::Capabilities, detail))
            .dw0
            .get();
        assert_eq!(can, 4);
    }
    for (sqe, expected) in [
        (set(FeatureId(0x0c), 0), Status::INVALID_FIELD),
        (set(FeatureId(0), 0), Status::INVALID_FIELD),
        (set(FeatureId::POWER_MANAGEMENT, 1), Status::INVALID_FIELD),
        (set(FeatureId::INTERRUPT_VECTOR, 9), Status::INVALID_FIELD),
        (
            set(FeatureId::TEMPERATURE_THRESHOLD, 1 << 16),
            Status::INVALID_FIELD,
        ),
        (
            set(FeatureId::ERROR_RECOVERY, 1 << 16),
            Status::INVALID_FIELD,
        ),
        (
            get(FeatureId(0xff), Select::Current, 0),
            Status::INVALID_FIELD,
        ),
        (
            get(FeatureId::INTERRUPT_VECTOR, Select::Current, 9),
            Status::INVALID_FIELD,
        ),
    ] {
        assert!(host.admin_status(sqe).is(expected), "{sqe:?}");
    }
    let mut saved = set(FeatureId::ARBITRATION, 0);
    saved.cdw10 = (1 << 31 | 1).into();
    assert!(host.admin_status(saved).is(Status::FEATURE_NOT_SAVEABLE));
    let mut one = set(FeatureId::ARBITRATION, 0);
    one.nsid = 1.into();
    assert!(host.admin_status(one).is(Status::FEATURE_NOT_PER_NAMESPACE));
    let _ring = host.pair(1, 8, None);
    let late = set(FeatureId::NUMBER_OF_QUEUES, 0);
    assert!(
        host.admin_status(late).is(Status::SEQUENCE_ERROR),
        "queues are there"
    );
    host.write32(0x14, 0);
    host.enable();
    host.wait_csts(|csts| csts.rdy());
    let found = host
        .admin(get(FeatureId::ARBITRATION, Select::Current, 0))
        .dw0
        .get();
    assert_eq!(found, 0);
    emulator.end();
}

fn smart(host: &mut Host) -> SmartLog {
    let log = host.log(LogPage::Smart, 512, true);
    SmartLog::read_from_bytes(&log).expect("512 bytes")
}

#[test]
fn logs_count_what_happened() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"4MiB\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 8, None);
    for _ in 0..10 {
        let sqe = host.transfer(true, 1, 0, 512, DATA, 128 << 10);
        assert!(host.run(&mut ring, sqe).status().is_success());
    }
    for n in 0..7 {
        let sqe = host.transfer(false, 1, n, 512, DATA, 512);
        assert!(host.run(&mut ring, sqe).status().is_success());
    }
    // Beyond the end by one block, twice; each stands in the log.
    for n in 0..2 {
        let sqe = host.transfer(false, 1, 8185 + n, 512, DATA, 4096);
        let status = host.run(&mut ring, sqe).status();
        assert!(
            status.is(Status::LBA_OUT_OF_RANGE) && status.has_more(),
            "{status}"
        );
    }
    let log = smart(&mut host);
    assert_eq!((log.host_writes.get(), log.host_reads.get()), (10, 7));
    // 1.25 MiB and 3.5 KiB, in units of 512 000 bytes, rounded up.
    assert_eq!(
        (log.data_units_written.get(), log.data_units_read.get()),
        (3, 1)
    );
    assert_eq!((log.error_entries.get(), log.media_errors.get()), (2, 0));
    assert_eq!((log.power_cycles.get(), log.unsafe_shutdowns.get()), (1, 0));
    assert_eq!((log.critical_warning, log.available_spare), (0, 100));
    let log = host.log(LogPage::Errors, 4096, true);
    let entry = ErrorEntry::read_from_bytes(&log[..64]).expect("64 bytes");
    assert_eq!(
        (entry.error_count.get(), entry.lba.get(), entry.nsid.get()),
        (2, 8186, 1)
    );
    assert!(entry.status().is(Status::LBA_OUT_OF_RANGE) && entry.opcode == 2);
    assert_eq!(entry.command().map(|(queue, _)| queue), Some(QueueId(1)));
    let log = host.log(LogPage::Firmware, 512, true);
    let slots = FirmwareSlots::read_from_bytes(&log).expect("512 bytes");
    assert_eq!(slots.active(), Some(1));
    assert!(slots.revision(1).is_some() && slots.revision(2).is_none());
    // From within, and rules of length and offset.
    let page = |page, nsid, len, from| GetLogPage {
        page,
        nsid: NamespaceId(nsid),
        len: Bytes(len),
        from: Bytes(from),
        retain_event: true,
    };
    let from = host.ask(page(LogPage::Errors, 0, 64, 64).sqe(), 64);
    assert_eq!(
        ErrorEntry::read_from_bytes(&from)
            .expect("64")
            .error_count
            .get(),
        1
    );
    for wrong in [
        page(LogPage::Errors, 0, 64, 2),
        page(LogPage::Errors, 0, 64, 4100),
        page(LogPage::Smart, 0, 64, u64::MAX - 3),
        page(LogPage::Smart, 1, 64, 0),
        page(LogPage::Smart, 0, 256 << 10, 0),
    ] {
        assert!(
            host.admin_status(wrong.sqe()).is(Status::INVALID_FIELD),
            "{wrong:?}"
        );
    }
    let mut unknown = page(LogPage::Smart, 0, 64, 0).sqe();
    unknown.cdw10 = 0x0005.into();
    assert!(host.admin_status(unknown).is(Status::INVALID_LOG_PAGE));
    // Nobody asked for a shutdown.
    drop(host);
    let log = smart(&mut Host::new(&emulator));
    assert_eq!((log.power_cycles.get(), log.unsafe_shutdowns.get()), (2, 1));
    assert_eq!(log.host_writes.get(), 10);
    emulator.end();
}

#[test]
fn events_wait_for_requests_and_for_their_log_to_be_read() {
    let emulator = Emulator::new("queues = 2");
    let mut host = Host::new(&emulator);
    let _one = host.pair(1, 8, None);
    let mut ring = host.take_admin();
    let requests: Vec<_> = (0..5)
        .map(|_| host.push(&mut ring, async_event_request()))
        .collect();
    host.ring(&ring);
    let cqe = host.wait(&mut ring);
    assert!(cqe.cid() == requests[4] && cqe.status().is(Status::EVENT_REQUEST_LIMIT));
    // A tail that cannot be, told once.
    host.bell(Doorbell::Tail(QueueId(1)), 8);
    let cqe = host.wait(&mut ring);
    assert_eq!(cqe.cid(), requests[0]);
    let event = AsyncEvent::from_dword(cqe.dw0.get());
    assert_eq!(event.name(), Some("Invalid Doorbell Write Value"));
    // A queue that is not there: masked until the log is read.
    host.bell(Doorbell::Head(QueueId(2)), 1);
    host.silent(&mut ring, Duration::from_millis(20));
    host.admin = ring;
    host.log(LogPage::Errors, 64, true);
    let mut ring = host.take_admin();
    host.silent(&mut ring, Duration::from_millis(5));
    // Events come between the answers.
    let read = host.push(
        &mut ring,
        GetLogPage {
            page: LogPage::Errors,
            nsid: NamespaceId::ALL,
            len: Bytes(64),
            from: Bytes(0),
            retain_event: false,
        }
        .sqe()
        .with_data(Pointers {
            prp1: Iova(BASE + DATA),
            prp2: Iova(0),
        }),
    );
    host.ring(&ring);
    assert_eq!(host.wait(&mut ring).cid(), read);
    let cqe = host.wait(&mut ring);
    assert_eq!(cqe.cid(), requests[1]);
    let event = AsyncEvent::from_dword(cqe.dw0.get());
    assert_eq!(event.name(), Some("Write to Invalid Doorbell Register"));
    // A request that waits is brought back like any command.
    host.push(
        &mut ring,
        Abort {
            queue: QueueId::ADMIN,
            command: requests[2],
        }
        .sqe(),
    );
    host.ring(&ring);
    let cqe = host.wait(&mut ring);
    assert!(cqe.cid() == requests[2] && cqe.status().is(Status::ABORT_REQUESTED));
    let cqe = host.wait(&mut ring);
    assert!(Abort::was_aborted(cqe.dw0.get()));
    // By a message a doorbell is written too.
    let tail = Doorbell::Tail(QueueId(2)).offset(host.cap.doorbell_stride());
    host.admin = ring;
    host.log(LogPage::Errors, 64, false);
    host.write32(tail, 1);
    let mut ring = host.take_admin();
    assert_eq!(host.wait(&mut ring).cid(), requests[3]);
    emulator.end();
}

#[test]
fn a_temperature_beyond_its_threshold_is_told() {
    let emulator = Emulator::new("");
    let mut host = Host::new(&emulator);
    let events = EventConfig::CRITICAL_WARNINGS.0;
    assert!(
        host.admin_status(set(FeatureId::EVENT_CONFIG, events))
            .is_success()
    );
    let mut ring = host.take_admin();
    let request = host.push(&mut ring, async_event_request());
    host.push(&mut ring, set(FeatureId::TEMPERATURE_THRESHOLD, 200));
    host.ring(&ring);
    let first = host.wait(&mut ring);
    assert!(first.cid() != request && first.status().is_success());
    let cqe = host.wait(&mut ring);
    assert_eq!(cqe.cid(), request);
    let event = AsyncEvent::from_dword(cqe.dw0.get());
    assert_eq!(event.name(), Some("Temperature Threshold"));
    host.admin = ring;
    assert_eq!(smart(&mut host).critical_warning, 2);
    emulator.end();
}
