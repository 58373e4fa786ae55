//! Log pages, features, events.

use strata_nvme_spec::command::admin::SetFeatures;
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::feature::FeatureId;
use strata_nvme_spec::{AsyncEvent, Kelvin, NamespaceId, Status};

use crate::answers::Reply;
use crate::fake::Fake;
use crate::open;

#[test]
fn log_pages_are_read_whole_and_in_part() {
    let fake = Fake::new();
    let controller = open(&fake);
    assert_eq!(
        controller.smart().expect("health").temperature(),
        Kelvin(310)
    );
    let slots = controller.firmware_slots().expect("slots");
    assert_eq!(
        slots.revision(1).map(|text| text.to_string()).as_deref(),
        Some("1.0")
    );
    let some = controller.errors(3).expect("errors");
    assert_eq!(
        some.iter().map(|e| e.error_count.get()).collect::<Vec<_>>(),
        [255, 254, 253]
    );
    // 256 entries of 64 bytes need a PRP list; the last is unused.
    let all = controller.errors(u16::MAX).expect("errors");
    assert_eq!((all.len(), all[254].error_count.get()), (255, 1));
    let asked = fake.count(opcode::GET_LOG_PAGE);
    assert!(controller.errors(0).expect("nothing").is_empty());
    assert_eq!(fake.count(opcode::GET_LOG_PAGE), asked);
    // What a controller does not write is not the last one's answer.
    fake.answers(|sqe| (sqe.opcode == opcode::GET_LOG_PAGE).then(|| Reply::good(0)));
    assert!(controller.errors(256).expect("no data").is_empty());
    assert_eq!(
        controller.smart().expect("no data").temperature(),
        Kelvin(0)
    );
    fake.answers(|sqe| {
        (sqe.opcode == opcode::GET_LOG_PAGE).then(|| Reply::bad(Status::INVALID_LOG_PAGE))
    });
    let why = controller.smart().expect_err("refused");
    assert!(
        why.to_string()
            .contains("tell its health (SMART): Invalid Log Page"),
        "{why}"
    );
    drop(controller);
    fake.is_left_clean();
}

#[test]
fn features_are_set() {
    let fake = Fake::new();
    let controller = open(&fake);
    let set = SetFeatures {
        feature: FeatureId::VOLATILE_WRITE_CACHE,
        nsid: NamespaceId::NONE,
        value: 1,
        save: false,
    };
    assert_eq!(controller.set_feature(set).expect("taken"), 0);
    assert_eq!(fake.lock().seen.last(), Some(&(opcode::SET_FEATURES, 6)));
}

#[test]
fn events_come_and_are_asked_for_again() {
    let fake = Fake::new();
    let dword = 0x0002_0101;
    fake.answers(move |sqe| {
        (sqe.opcode == opcode::ASYNC_EVENT_REQUEST).then(|| Reply::good(dword))
    });
    // A flood: each request is an event at once, and none is asked for again before somebody wants events.
    let controller = open(&fake);
    controller.smart().expect("an answer in the flood");
    assert_eq!(fake.count(opcode::ASYNC_EVENT_REQUEST), 4);
    let events = controller.events();
    assert_eq!(events, [AsyncEvent::from_dword(dword); 4]);
    // The fake works at the next look: of which there is none before the next command.
    assert!(controller.events().is_empty());
    controller.health().expect("a look");
    assert_eq!(controller.events().len(), 4);
    assert_eq!(fake.count(opcode::ASYNC_EVENT_REQUEST), 8);
    // Twice completed, an event is one.
    let mut given = 0;
    fake.answers(move |sqe| {
        (sqe.opcode == opcode::ASYNC_EVENT_REQUEST).then(|| Reply {
            completions: {
                given += 1;
                if given == 1 {
                    vec![None, None]
                } else {
                    Vec::new()
                }
            },
            ..Reply::good(dword)
        })
    });
    controller.health().expect("a look");
    assert_eq!(controller.events().len(), 1);
    assert!(fake.lock().violations.is_empty());
}
