//! I/O queue pairs: made, refused, deleted.

use strata_nvme::{Aborted, NvmeError};
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::{CommandId, QueueId, Status};

use crate::answers::Reply;
use crate::fake::{Fake, PAIRS};
use crate::{layout, open};

#[test]
fn pairs_are_made_and_deleted_and_their_numbers_come_again() {
    let fake = Fake::new();
    let controller = open(&fake);
    let first = controller.queue_pair(layout(1024, 1024)).expect("a pair");
    let second = controller.queue_pair(layout(2, 16)).expect("a pair");
    assert_eq!((first.id(), second.id()), (QueueId(1), QueueId(2)));
    assert!(first.is_alive() && !first.is_quiet());
    assert_eq!((first.room(), second.rings().room()), (1023, 1));
    assert_eq!(fake.lock().queues.len(), 4);
    let Err(why) = controller.queue_pair(layout(2, 2)) else {
        panic!("more than {PAIRS} pairs");
    };
    assert!(
        matches!(
            why,
            NvmeError::Limit {
                asked: 3,
                most: 2,
                ..
            }
        ),
        "{why}"
    );
    drop(first);
    assert_eq!(fake.lock().queues.len(), 2);
    let third = controller.queue_pair(layout(8, 8)).expect("a pair");
    assert_eq!(third.id(), QueueId(1));
    // Pairs keep their controller.
    drop(controller);
    assert!(third.is_alive());
    drop((second, third));
    assert!(fake.lock().queues.is_empty());
    fake.is_left_clean();
    assert_eq!(fake.lock().stops, 1, "nothing was reset before the end");
}

#[test]
fn sizes_above_the_controllers_are_refused_in_words() {
    let fake = Fake::new();
    let controller = open(&fake);
    for (wrong, says) in [
        (
            layout(1025, 2048),
            "a submission queue of 1025: 1024 is the most",
        ),
        (
            layout(1024, 1025),
            "a completion queue of 1025: 1024 is the most",
        ),
        (layout(32, 16), "fewer completion entries"),
    ] {
        let Err(why) = controller.queue_pair(wrong) else {
            panic!("{wrong:?} is taken");
        };
        assert!(why.to_string().contains(says), "{why}");
    }
    assert_eq!(fake.count(opcode::CREATE_COMPLETION_QUEUE), 0);
}

#[test]
fn a_refused_queue_leaves_nothing_behind() {
    for wrong in [
        opcode::CREATE_COMPLETION_QUEUE,
        opcode::CREATE_SUBMISSION_QUEUE,
    ] {
        let fake = Fake::new();
        let controller = open(&fake);
        let status = Status::INVALID_QUEUE_SIZE.do_not_retry();
        fake.answers(move |sqe| (sqe.opcode == wrong).then(|| Reply::bad(status)));
        let Err(why) = controller.queue_pair(layout(4, 4)) else {
            panic!("it is made");
        };
        assert!(why.to_string().contains("Invalid Queue Size"), "{why}");
        assert!(fake.lock().queues.is_empty());
        fake.answers(|_| None);
        let pair = controller
            .queue_pair(layout(4, 4))
            .expect("the next is well");
        assert_eq!(pair.id(), QueueId(1));
        drop((pair, controller));
        fake.is_left_clean();
        assert_eq!(fake.lock().stops, 1, "nothing was reset before the end");
    }
}

#[test]
fn a_queue_that_cannot_be_deleted_is_reset_away() {
    for wrong in [
        opcode::DELETE_COMPLETION_QUEUE,
        opcode::DELETE_SUBMISSION_QUEUE,
    ] {
        let fake = Fake::new();
        let controller = open(&fake);
        let (pair, other) = (
            controller.queue_pair(layout(4, 4)).expect("a pair"),
            controller.queue_pair(layout(4, 4)).expect("a pair"),
        );
        fake.answers(move |sqe| {
            (sqe.opcode == wrong).then(|| Reply::bad(Status::INVALID_QUEUE_ID))
        });
        drop(pair);
        assert!(!other.is_alive() && other.is_quiet());
        assert_eq!(fake.lock().stops, 1);
        fake.answers(|_| None);
        drop((other, controller));
        assert_eq!(fake.lock().stops, 2);
        fake.is_left_clean();
    }
}

#[test]
fn aborts_say_what_became_of_them() {
    let fake = Fake::new();
    let controller = open(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    assert_eq!(pair.abort(CommandId(7)).expect("an answer"), Aborted::Yes);
    let asked = fake.lock().seen.last().copied();
    assert_eq!(asked, Some((opcode::ABORT, 7 << 16 | 1)));
    fake.answers(|sqe| (sqe.opcode == opcode::ABORT).then(|| Reply::good(1)));
    let found = controller.abort(QueueId(1), CommandId(7));
    assert_eq!(found.expect("an answer"), Aborted::No);
    fake.answers(|sqe| (sqe.opcode == opcode::ABORT).then(|| Reply::bad(Status::ABORT_LIMIT)));
    let why = pair.abort(CommandId(7)).expect_err("a limit");
    assert!(
        why.to_string().contains("Abort Command Limit Exceeded"),
        "{why}"
    );
    assert!(pair.is_alive(), "a refusal is an answer");
    fake.answers(|_| None);
    controller.reset().expect("a reset");
    let before = fake.count(opcode::ABORT);
    // Its number may be another queue's by now.
    assert_eq!(
        pair.abort(CommandId(7)).expect("nothing to do"),
        Aborted::No
    );
    assert_eq!(fake.count(opcode::ABORT), before);
}
