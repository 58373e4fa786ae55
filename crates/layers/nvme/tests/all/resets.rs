//! Commands without an answer, resets, removal.

use std::thread;

use strata_nvme::NvmeError;
use strata_nvme_spec::NamespaceId;
use strata_nvme_spec::command::admin::GetFeatures;
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::feature::FeatureId;

use crate::answers::Reply;
use crate::fake::Fake;
use crate::{layout, open, options};
use strata_nvme::Controller;

fn quick(fake: &Fake) -> std::sync::Arc<Controller> {
    // What answers at the second look is not late, whatever else the machine does.
    Controller::open(fake.carrier(), &options()).expect("a sound controller")
}

const ASKED: GetFeatures = GetFeatures {
    feature: FeatureId::ARBITRATION,
    nsid: NamespaceId::NONE,
    select: strata_nvme_spec::command::admin::Select::Current,
    detail: 0,
};

#[test]
fn a_reset_ends_all_pairs_and_brings_the_controller_back() {
    let fake = Fake::new();
    let controller = open(&fake);
    let old = controller.queue_pair(layout(4, 4)).expect("a pair");
    controller.reset().expect("a reset");
    assert!(!old.is_alive() && old.is_quiet());
    let new = controller.queue_pair(layout(4, 4)).expect("a pair");
    assert_eq!(new.id(), old.id(), "numbers begin again");
    assert!(new.is_alive());
    // The old pair's end is not the new one's, nor is its reset.
    old.reset().expect("done before");
    drop(old);
    assert!(new.is_alive());
    {
        let model = fake.lock();
        assert_eq!((model.stops, model.queues.len()), (1, 2));
    }
    assert_eq!(controller.feature(ASKED).expect("an answer"), 0x1234);
    drop((new, controller));
    fake.is_left_clean();
}

#[test]
fn threads_that_ask_for_a_reset_at_once_get_one() {
    let fake = Fake::new();
    let controller = open(&fake);
    let pairs = [(); 2].map(|()| controller.queue_pair(layout(4, 4)).expect("a pair"));
    thread::scope(|scope| {
        for pair in pairs {
            scope.spawn(move || {
                pair.reset().expect("one reset");
                assert!(!pair.is_alive() && pair.is_quiet());
            });
        }
    });
    assert_eq!(fake.lock().stops, 1);
}

#[test]
fn a_command_without_completion_meets_its_deadline_and_a_reset() {
    let lost = Reply::none();
    let wrong_phase = Reply {
        phase: false,
        ..Reply::good(0)
    };
    let of_another = Reply {
        completions: vec![Some(0xfffe), Some(0xffff), Some(0)],
        ..Reply::good(0)
    };
    for reply in [lost, wrong_phase, of_another] {
        let fake = Fake::new();
        let controller = quick(&fake);
        let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
        fake.answers(move |sqe| (sqe.opcode == opcode::GET_FEATURES).then(|| reply.clone()));
        let why = controller.feature(ASKED).expect_err("no answer");
        assert!(matches!(why, NvmeError::Deadline { .. }), "{why}");
        assert!(why.to_string().contains("within 40ms"), "{why}");
        assert!(!pair.is_alive() && pair.is_quiet());
        fake.answers(|_| None);
        assert_eq!(controller.feature(ASKED).expect("an answer"), 0x1234);
        assert_eq!(fake.lock().stops, 1);
        drop((pair, controller));
        fake.is_left_clean();
    }
}

#[test]
fn a_second_completion_is_no_other_commands() {
    let fake = Fake::new();
    let controller = open(&fake);
    let mut value = 0;
    // Each command is completed twice, and the first time with its own number.
    fake.answers(move |sqe| {
        (sqe.opcode == opcode::GET_FEATURES).then(|| {
            value += 1;
            Reply {
                completions: vec![None, None, None],
                ..Reply::good(value)
            }
        })
    });
    // Far more than the queue has entries, so that rings go round.
    for wanted in 1..=100 {
        assert_eq!(controller.feature(ASKED).expect("an answer"), wanted);
    }
    assert!(fake.lock().violations.is_empty());
}

#[test]
fn fatal_status_is_found_and_reset() {
    let fake = Fake::new();
    let controller = open(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    fake.lock().csts = fake_fatal(&fake);
    let why = controller.health().expect_err("fatal");
    assert!(matches!(why, NvmeError::Fatal { .. }), "{why}");
    assert!(!pair.is_alive() && !pair.is_quiet(), "it may still write");
    pair.reset().expect("a reset helps");
    assert!(pair.is_quiet());
    controller.health().expect("well again");
    // In mid-command it is found by the command.
    fake.lock().csts = fake_fatal(&fake);
    let why = controller.feature(ASKED).expect_err("fatal");
    assert!(matches!(why, NvmeError::Fatal { .. }), "{why}");
    controller.health().expect("reset by then");
    drop((pair, controller));
    fake.is_left_clean();
}

fn fake_fatal(fake: &Fake) -> strata_nvme_spec::registers::Csts {
    fake.lock().csts.with_cfs(true)
}

#[test]
fn one_that_stopped_by_itself_is_told() {
    let fake = Fake::new();
    let controller = open(&fake);
    {
        let mut model = fake.lock();
        model.csts = model.csts.with_rdy(false);
        model.looks_to_rise = u32::MAX;
    }
    let why = controller.health().expect_err("not ready");
    assert!(
        why.to_string().contains("enabled and is not ready"),
        "{why}"
    );
}

#[test]
fn removal_is_told_and_final() {
    let fake = Fake::new();
    let controller = open(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    fake.lock().gone = true;
    for _ in 0..2 {
        let why = controller.health().expect_err("gone");
        assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
    }
    assert!(!pair.is_alive() && !pair.is_quiet());
    let why = controller.reset().expect_err("gone");
    assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
    let why = controller.feature(ASKED).expect_err("lost");
    assert!(matches!(why, NvmeError::Lost { .. }), "{why}");
    assert!(why.to_string().contains("is gone"), "{why}");
    assert!(!pair.is_quiet());
    assert!(controller.events().is_empty());
    drop(pair);
    drop(controller);
    assert!(fake.lock().violations.is_empty(), "memory is taken back");
}

#[test]
fn one_that_was_let_go_of_is_quiet_and_says_why() {
    let fake = Fake::new();
    let controller = open(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    {
        let mut model = fake.lock();
        model.gone = true;
        model.let_go = Some("the test took it away");
    }
    let why = controller.health().expect_err("gone");
    assert!(why.to_string().contains("the test took it away"), "{why}");
    let why = controller.reset().expect_err("gone");
    assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
    // It reads and writes nothing any more, so that buffers are free.
    assert!(!pair.is_alive() && pair.is_quiet());
    drop(pair);
    drop(controller);
    let model = fake.lock();
    assert!(model.maps.is_empty() && model.violations.is_empty());
}

#[test]
fn a_controller_is_shut_down_before_it_is_let_go_of() {
    for stays_up in [false, true] {
        let fake = Fake::new().with(|model| model.stays_up = stays_up);
        let controller = quick(&fake);
        controller.reset().expect("a reset");
        assert_eq!(fake.lock().shutdowns, 0, "a reset is none");
        drop(controller);
        // One that does not come to its end is stopped all the same.
        assert_eq!(fake.lock().shutdowns, 1);
        fake.is_left_clean();
    }
    let fake = Fake::new();
    let controller = quick(&fake);
    fake.lock().gone = true;
    drop(controller);
    assert_eq!(fake.lock().shutdowns, 0, "there is nothing to shut down");
}

#[test]
fn one_that_cannot_be_stopped_is_lost() {
    let fake = Fake::new();
    let controller = quick(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    {
        let mut model = fake.lock();
        model.looks_to_fall = u32::MAX;
        model.resettable = false;
    }
    let why = controller.reset().expect_err("it runs on");
    assert!(matches!(why, NvmeError::Lost { .. }), "{why}");
    assert!(!pair.is_alive() && !pair.is_quiet());
    for why in [
        controller.reset().expect_err("lost"),
        controller.health().expect_err("lost"),
        controller.smart().expect_err("lost"),
        pair.reset().expect_err("lost"),
    ] {
        assert!(matches!(why, NvmeError::Lost { .. }), "{why}");
    }
    // No address is given out twice from now on.
    let region = || {
        strata_memory::Region::shared(&strata_memory::Want {
            bytes: strata_units::Bytes(4096),
            node: None,
            huge: strata_memory::Huge::Never,
            lock: strata_memory::Lock::Never,
        })
        .expect("memory")
    };
    let first = controller.function().map(region()).expect("mapped").iova();
    let second = controller.function().map(region()).expect("mapped").iova();
    assert_ne!(first, second);
}

#[test]
fn a_hung_controller_is_reset_by_its_function() {
    let fake = Fake::new();
    let controller = quick(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    fake.lock().looks_to_fall = u32::MAX;
    controller.reset().expect("the function's reset helps");
    assert!(pair.is_quiet() && fake.lock().resets == 1);
    assert_eq!(fake.lock().config[4], 0b110, "which cleared bus master");
}

#[test]
fn one_that_does_not_come_back_is_down_until_it_does() {
    let fake = Fake::new();
    let controller = quick(&fake);
    let pair = controller.queue_pair(layout(4, 4)).expect("a pair");
    fake.lock().looks_to_rise = u32::MAX;
    let why = controller.reset().expect_err("it stays down");
    assert!(matches!(why, NvmeError::NotReady { .. }), "{why}");
    assert!(pair.is_quiet(), "it stopped");
    let why = controller.queue_pair(layout(4, 4)).err().expect("down");
    assert!(matches!(why, NvmeError::Down { .. }), "{why}");
    fake.lock().looks_to_rise = 1;
    controller.reset().expect("it is back");
    drop(controller.queue_pair(layout(4, 4)).expect("a pair"));
    drop((pair, controller));
    fake.is_left_clean();
}

#[test]
fn another_controller_after_a_reset_is_not_driven() {
    let fake = Fake::new();
    let controller = open(&fake);
    fake.lock().serial = "FAKE2".to_owned();
    let why = controller.reset().expect_err("another one");
    assert!(why.to_string().contains("as Fake drive FAKE2"), "{why}");
    let why = controller.smart().expect_err("down");
    assert!(matches!(why, NvmeError::Down { .. }), "{why}");
    drop(controller);
    fake.is_left_clean();
}
