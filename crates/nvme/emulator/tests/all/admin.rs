//! Admin commands and the checks of each.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use strata_nvme_spec::command::admin::{Abort, Cns, Identify, LogPage};
use strata_nvme_spec::command::nvm::flush;
use strata_nvme_spec::command::{
    CreateCompletionQueue, CreateSubmissionQueue, Priority, delete_completion_queue,
    delete_submission_queue,
};
use strata_nvme_spec::identify::{
    ActiveNamespaces, Deallocated, Descriptor, IdentifyController, IdentifyNamespace, descriptors,
};
use strata_nvme_spec::log::ErrorEntry;
use strata_nvme_spec::{NamespaceId, PageSize, QueueId, QueueSize, Sqe, Status};
use strata_units::{Bytes, Iova};
use zerocopy::FromBytes;

use crate::rig::{BASE, DATA, Host, MEMORY, RINGS};
use crate::served::Emulator;

#[test]
fn identify_tells_what_the_file_says() {
    let emulator = Emulator::new(
        r#"
        serial = "NODE7-0"
        model = "Fast and small"
        firmware = "F1"
        transfer = "256KiB"
        boundary = "128KiB"
        [[namespace]]
        size = "64MiB"
        [[namespace]]
        size = "16MiB"
        block = 4096
        write_protected = true
        [[namespace]]
        size = "16MiB"
        metadata = 8
        protection = 2
        "#,
    );
    let mut host = Host::new(&emulator);
    let answer = host.identify(Cns::Controller, 0);
    let id = IdentifyController::read_from_bytes(&answer).expect("4096 bytes");
    assert_eq!(id.serial().to_string(), "NODE7-0");
    assert_eq!(id.model().to_string(), "Fast and small");
    assert_eq!(id.firmware().to_string(), "F1");
    assert_eq!(id.max_transfer(PageSize::FOUR_KIB), Some(Bytes(256 << 10)));
    assert!(
        id.subsystem()
            .to_string()
            .starts_with("nqn.2014-08.org.nvmexpress:uuid:")
    );
    assert!(id.takes_nvm_entries() && id.has_write_cache());
    assert_eq!(
        (id.nn.get(), id.event_requests(), id.error_entries()),
        (3, 4, 64)
    );
    assert_eq!(id.nwpc, 0, "protection cannot be changed (feature 84h)");
    let namespace = |host: &mut Host, nsid| {
        let answer = host.identify(Cns::Namespace, nsid);
        IdentifyNamespace::read_from_bytes(&answer).expect("4096 bytes")
    };
    let first = namespace(&mut host, 1);
    assert_eq!(first.size(), Some(Bytes(64 << 20)));
    assert_eq!(
        (first.boundary(), first.formats().len()),
        (Some(Bytes(128 << 10)), 2)
    );
    assert_eq!(first.deallocated(), Deallocated::Zeroes);
    let second = namespace(&mut host, 2);
    assert_eq!(
        second.format().and_then(|format| format.block()),
        Some(Bytes(4096))
    );
    assert!(second.is_write_protected() && !first.is_write_protected());
    let third = namespace(&mut host, 3);
    assert_eq!(third.protection(), Some(2));
    assert_eq!(
        third.format().map(|format| format.metadata()),
        Some(Bytes(8))
    );
    let list = |host: &mut Host, after| {
        let answer = host.identify(Cns::ActiveNamespaces, after);
        let list = ActiveNamespaces::read_from_bytes(&answer).expect("4096 bytes");
        list.iter().map(|nsid| nsid.0).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut host, 0), [1, 2, 3]);
    assert_eq!(list(&mut host, 2), [3]);
    assert!(list(&mut host, 3).is_empty());
    let uuids = [1, 2].map(|nsid| {
        let answer = host.identify(Cns::Descriptors, nsid);
        let uuid = descriptors(&answer).find_map(|it| match it {
            Descriptor::Uuid(uuid) => Some(uuid),
            _ => None,
        });
        uuid.expect("one")
    });
    assert_ne!(uuids[0], uuids[1]);
    for (cns, nsid) in [
        (Cns::Namespace, 0),
        (Cns::Namespace, 4),
        (Cns::Namespace, u32::MAX),
        (Cns::Descriptors, 4),
        (Cns::ActiveNamespaces, u32::MAX),
        (Cns::ActiveNamespaces, u32::MAX - 1),
    ] {
        let nsid = NamespaceId(nsid);
        let status = host.admin_status(Identify { cns, nsid }.sqe());
        assert!(
            status.is(Status::INVALID_NAMESPACE),
            "{cns:?} {nsid}: {status}"
        );
    }
    let mut unknown = Identify {
        cns: Cns::Controller,
        nsid: NamespaceId(0),
    }
    .sqe();
    for cns in [4, 5, 6, 8, 0x10, 0x1c] {
        unknown.cdw10 = cns.into();
        assert!(host.admin_status(unknown).is(Status::INVALID_FIELD));
    }
    // A namespace whose metadata nobody keeps, and one that may not be written.
    let mut ring = host.pair(1, 8, None);
    let mut status = |write, nsid, block| {
        let sqe = host.transfer(write, nsid, 0, block, DATA, 4096);
        host.run(&mut ring, sqe).status()
    };
    assert!(status(false, 3, 512).is(Status::INVALID_NAMESPACE));
    assert!(status(true, 2, 4096).is(Status::WRITE_PROTECTED));
    assert!(status(false, 2, 4096).is_success());
    emulator.end();
}

#[test]
fn commands_that_nobody_knows_are_refused() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"\nlocked = true");
    let mut host = Host::new(&emulator);
    for opcode in [0x05u8, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x7f, 0x80, 0xc0] {
        let sqe = Sqe {
            opcode,
            ..Sqe::default()
        };
        let status = host.admin_status(sqe);
        let expected = match opcode {
            5 => Status::INVALID_QUEUE_ID,
            _ => Status::INVALID_OPCODE,
        };
        assert!(
            status.is(expected) && !status.is_retryable(),
            "{opcode:#x}: {status}"
        );
    }
    let mut ring = host.pair(1, 8, None);
    let good = host.transfer(false, 1, 0, 512, DATA, 512);
    let mut status = |change: &dyn Fn(&mut Sqe)| {
        let mut sqe = good;
        change(&mut sqe);
        host.run(&mut ring, sqe).status()
    };
    assert!(status(&|_| ()).is(Status::ACCESS_DENIED), "locked");
    assert!(status(&|sqe| sqe.opcode = 5).is(Status::INVALID_OPCODE));
    assert!(
        status(&|sqe| sqe.flags = 1).is(Status::INVALID_FIELD),
        "fused"
    );
    assert!(
        status(&|sqe| sqe.flags = 0x40).is(Status::INVALID_FIELD),
        "a scatter-gather list"
    );
    for nsid in [0, 2, u32::MAX] {
        let status = status(&|sqe| sqe.nsid = nsid.into());
        assert!(status.is(Status::INVALID_NAMESPACE), "{nsid}: {status}");
    }
    let sqe = host.run(&mut ring, flush(NamespaceId(2)));
    assert!(sqe.status().is(Status::INVALID_NAMESPACE));
    emulator.end();
}

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

#[test]
fn aborts_say_what_they_did() {
    let emulator = Emulator::new("[performance]\nlatency = \"60s\"");
    let mut host = Host::new(&emulator);
    let mut ring = host.pair(1, 8, None);
    let held = host.push(&mut ring, host.transfer(false, 1, 0, 512, DATA, 512));
    let other = host.push(&mut ring, flush(NamespaceId(1)));
    host.ring(&ring);
    host.silent(&mut ring, Duration::from_millis(20));
    let abort = |queue, command| Abort {
        queue: QueueId(queue),
        command,
    };
    for unknown in [
        abort(1, strata_nvme_spec::CommandId(77)),
        abort(2, held),
        abort(9, held),
    ] {
        let cqe = host.admin(unknown.sqe());
        assert!(cqe.status().is_success() && !Abort::was_aborted(cqe.dw0.get()));
    }
    let cqe = host.admin(abort(1, held).sqe());
    assert!(cqe.status().is_success() && Abort::was_aborted(cqe.dw0.get()));
    let cqe = host.wait(&mut ring);
    assert!(cqe.cid() == held && cqe.status().is(Status::ABORT_REQUESTED));
    // What waits when its queue is deleted is told so, before the deletion is.
    assert!(
        host.admin_status(delete_submission_queue(QueueId(1)))
            .is_success()
    );
    let cqe = host.poll(&mut ring).expect("there already");
    assert!(cqe.cid() == other && cqe.status().is(Status::SQ_DELETED));
    emulator.end();
}

#[test]
fn an_interrupt_tells_of_completions_where_one_was_asked_for() {
    let emulator = Emulator::new("queues = 2");
    let mut host = Host::new(&emulator);
    let fds = [0; 3].map(|_| eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    host.client.set_vectors(0, &borrowed).expect("set");
    let mut told = host.pair(1, 8, Some(2));
    let mut polled = host.pair(2, 8, None);
    let rang = |n: usize, wait: i64| {
        let mut fd = [PollFd::new(&fds[n], PollFlags::IN)];
        let wait = Timespec {
            tv_sec: wait,
            tv_nsec: 0,
        };
        let ready = poll(&mut fd, Some(&wait)).expect("polled");
        if ready > 0 {
            let mut count = [0; 8];
            rustix::io::read(&fds[n], &mut count).expect("read");
        }
        ready > 0
    };
    assert!(rang(0, 10), "the admin queue's");
    assert!(
        host.run(&mut polled, flush(NamespaceId(1)))
            .status()
            .is_success()
    );
    assert!(!rang(2, 0) && !rang(1, 0));
    assert!(
        host.run(&mut told, flush(NamespaceId(1)))
            .status()
            .is_success()
    );
    assert!(rang(2, 10) && !rang(1, 0));
    emulator.end();
}
