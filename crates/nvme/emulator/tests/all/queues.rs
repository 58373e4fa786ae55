//! Queues: made and deleted.

use std::time::Duration;

use strata_nvme_spec::command::admin::LogPage;
use strata_nvme_spec::command::nvm::flush;
use strata_nvme_spec::command::{
    CreateCompletionQueue, CreateSubmissionQueue, Priority, delete_completion_queue,
    delete_submission_queue,
};
use strata_nvme_spec::log::ErrorEntry;
use strata_nvme_spec::{NamespaceId, QueueId, QueueSize, Status};
use strata_units::Iova;
use zerocopy::FromBytes;

use crate::rig::{BASE, Host, MEMORY, RINGS};
use crate::served::Emulator;

#[test]
fn queues_are_made_and_deleted_in_their_order_only() {
    let emulator = Emulator::new("queues = 4\nentries = 64");
    let mut host = Host::new(&emulator);
    let size = |entries| QueueSize::new(entries).expect("a size");
    let cq = CreateCompletionQueue {
        id: QueueId(2),
        size: size(64),
        at: Iova(BASE + RINGS),
        contiguous: true,
        vector: None,
    };
    let mut completion = |change: &dyn Fn(&mut CreateCompletionQueue)| {
        let mut it = cq;
        change(&mut it);
        host.admin_status(it.sqe())
    };
    type Change<'a> = (&'a str, Status, &'a dyn Fn(&mut CreateCompletionQueue));
    let wrong: [Change<'_>; 9] = [
        ("the admin queue", Status::INVALID_QUEUE_ID, &|it| {
            it.id = QueueId(0)
        }),
        ("above the last", Status::INVALID_QUEUE_ID, &|it| {
            it.id = QueueId(5)
        }),
        ("too large", Status::INVALID_QUEUE_SIZE, &|it| {
            it.size = size(65)
        }),
        ("too large", Status::INVALID_QUEUE_SIZE, &|it| {
            it.size = size(65_536)
        }),
        ("in pieces", Status::INVALID_FIELD, &|it| {
            it.contiguous = false
        }),
        ("off a page", Status::PRP_OFFSET_INVALID, &|it| {
            it.at.0 += 64
        }),
        ("not mapped", Status::INVALID_FIELD, &|it| it.at = Iova(0)),
        ("behind the end", Status::INVALID_FIELD, &|it| {
            it.at = Iova(BASE + MEMORY)
        }),
        ("no such vector", Status::INVALID_VECTOR, &|it| {
            it.vector = Some(5)
        }),
    ];
    for (what, expected, change) in wrong {
        let status = completion(change);
        assert!(
            status.is(expected) && !status.is_retryable(),
            "{what}: {status}"
        );
    }
    // QSIZE 0 is a ring of one entry.
    let mut none = cq.sqe();
    none.cdw10 = 2.into();
    assert!(host.admin_status(none).is(Status::INVALID_QUEUE_SIZE));
    assert!(host.admin_status(cq.sqe()).is_success());
    assert!(
        host.admin_status(cq.sqe()).is(Status::INVALID_QUEUE_ID),
        "in use"
    );

    let sq = CreateSubmissionQueue {
        id: QueueId(3),
        size: size(64),
        at: Iova(BASE + RINGS + 0x1000),
        contiguous: true,
        priority: Priority::Low,
        completions: QueueId(2),
    };
    let mut submission = |change: &dyn Fn(&mut CreateSubmissionQueue)| {
        let mut it = sq;
        change(&mut it);
        host.admin_status(it.sqe())
    };
    type Other<'a> = (&'a str, Status, &'a dyn Fn(&mut CreateSubmissionQueue));
    let wrong: [Other<'_>; 8] = [
        ("the admin queue", Status::INVALID_QUEUE_ID, &|it| {
            it.id = QueueId(0)
        }),
        ("too large", Status::INVALID_QUEUE_SIZE, &|it| {
            it.size = size(65)
        }),
        ("in pieces", Status::INVALID_FIELD, &|it| {
            it.contiguous = false
        }),
        ("off a page", Status::PRP_OFFSET_INVALID, &|it| {
            it.at.0 += 64
        }),
        ("not mapped", Status::INVALID_FIELD, &|it| {
            it.at = Iova(BASE + MEMORY)
        }),
        ("no such completions", Status::CQ_INVALID, &|it| {
            it.completions = QueueId(1)
        }),
        ("never such completions", Status::INVALID_QUEUE_ID, &|it| {
            it.completions = QueueId(9)
        }),
        ("the admin's completions", Status::INVALID_QUEUE_ID, &|it| {
            it.completions = QueueId(0)
        }),
    ];
    for (what, expected, change) in wrong {
        let status = submission(change);
        assert!(status.is(expected), "{what}: {status}");
    }
    assert!(host.admin_status(sq.sqe()).is_success());
    assert!(
        host.admin_status(sq.sqe()).is(Status::INVALID_QUEUE_ID),
        "in use"
    );
    let mut delete = |sqe| host.admin_status(sqe);
    assert!(delete(delete_completion_queue(QueueId(2))).is(Status::INVALID_QUEUE_DELETION));
    assert!(delete(delete_completion_queue(QueueId(0))).is(Status::INVALID_QUEUE_ID));
    assert!(delete(delete_submission_queue(QueueId(2))).is(Status::INVALID_QUEUE_ID));
    assert!(delete(delete_submission_queue(QueueId(0))).is(Status::INVALID_QUEUE_ID));
    assert!(delete(delete_submission_queue(QueueId(3))).is_success());
    assert!(delete(delete_completion_queue(QueueId(2))).is_success());
    assert!(delete(delete_completion_queue(QueueId(2))).is(Status::INVALID_QUEUE_ID));
    // Deleting one leaves the others in their places.
    let mut rings = [1, 2, 3].map(|id| host.pair(id, 8, None));
    assert!(
        host.admin_status(delete_submission_queue(QueueId(1)))
            .is_success()
    );
    assert!(
        host.admin_status(delete_completion_queue(QueueId(1)))
            .is_success()
    );
    for ring in &mut rings[1..] {
        for _ in 0..20 {
            assert!(host.run(ring, flush(NamespaceId(1))).status().is_success());
        }
    }
    rings[0] = host.pair(1, 16, None);
    for ring in &mut rings {
        assert!(host.run(ring, flush(NamespaceId(1))).status().is_success());
    }
    emulator.end();
}

#[test]
fn the_doorbells_of_a_queue_go_with_it() {
    let emulator = Emulator::new("queues = 1");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 8, None);
    for _ in 0..3 {
        let status = host.run(&mut ring, flush(NamespaceId(1))).status();
        assert!(status.is_success(), "{status}");
    }
    for delete in [delete_submission_queue, delete_completion_queue] {
        assert!(host.admin_status(delete(QueueId(1))).is_success());
        // All doorbells are looked at meanwhile.
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = host.log(LogPage::Errors, 64, true);
    let latest = ErrorEntry::read_from_bytes(&log).expect("64 bytes");
    assert_eq!(latest.error_count.get(), 0, "{latest:?}");
    emulator.end();
}
