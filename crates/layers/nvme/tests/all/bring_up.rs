//! Bringing a controller up, sound and otherwise.

use strata_nvme::NvmeError;
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::registers::Cc;
use strata_nvme_spec::{PageSize, Status};
use strata_units::Bytes;
use zerocopy::IntoBytes;

use crate::answers::{Reply, controller};
use crate::fake::{Fake, PAIRS};
use crate::{open, options, patient, refusal};
use strata_nvme::Controller;

#[test]
fn a_sound_controller_says_what_it_is() {
    let fake = Fake::new();
    let controller = open(&fake);
    let identity = controller.identity();
    assert_eq!(identity.serial, "FAKE1");
    assert_eq!(
        (&*identity.model, &*identity.firmware),
        ("Fake drive", "1.0")
    );
    assert_eq!(identity.subsystem, "nqn.fake");
    assert_eq!(identity.version.to_string(), "1.4");
    assert_eq!(identity.max_transfer, Some(Bytes(128 << 10)));
    assert_eq!(identity.queue_pairs, PAIRS);
    assert_eq!(identity.most_entries.entries(), 1024);
    assert_eq!(identity.page, PageSize::FOUR_KIB);
    assert!(identity.write_cache && identity.writes_zeroes && !identity.deallocates);
    assert!(!identity.was_enabled);
    assert_eq!(
        identity.warning_temperature.map(|at| at.celsius()),
        Some(70)
    );
    {
        let model = fake.lock();
        assert_eq!(model.cc, Cc::enabling(PageSize::FOUR_KIB));
        assert_eq!(model.config[4], 0b110, "memory and bus master");
        // SMART's warnings and, of those that it has, namespaces' changes (Set Features, 0Bh).
        let requests = model
            .seen
            .iter()
            .filter(|(op, _)| *op == opcode::ASYNC_EVENT_REQUEST);
        assert_eq!(requests.count(), 4);
    }
    controller.health().expect("it runs");
    drop(controller);
    fake.is_left_clean();
    assert_eq!(fake.lock().resets, 0, "no harder reset than needed");
}

#[test]
fn a_controller_that_was_left_enabled_is_reset_first() {
    let fake = Fake::new();
    std::mem::forget(open(&fake));
    // Its memory went with the process.
    fake.lock().maps.clear();
    let again = open(&fake);
    assert!(again.identity().was_enabled);
    let model = fake.lock();
    assert_eq!((model.stops, model.violations.len()), (1, 0));
}

#[test]
fn one_that_neither_rises_nor_falls_is_reset_harder() {
    // Enabled and never ready, as one that was left in mid-air.
    let fake = Fake::new().with(|model| {
        model.cc = Cc(1);
        model.looks_to_rise = u32::MAX;
    });
    let why = refusal(&fake);
    assert!(
        matches!(why, NvmeError::NotReady { ready: true, .. }),
        "{why}"
    );
    fake.is_left_clean();
    // Ready for ever, whatever CC.EN says.
    let fake = Fake::new().with(|model| {
        model.cc = Cc(1);
        model.csts = model.csts.with_rdy(true);
        model.looks_to_fall = u32::MAX;
    });
    let controller = Controller::open(fake.carrier(), &options());
    let controller = controller.expect("a reset of the function helps");
    assert!(controller.identity().was_enabled && fake.lock().resets == 1);
    assert_eq!(fake.lock().config[4], 0b110, "which cleared bus master");
}

#[test]
fn one_that_cannot_be_stopped_is_not_driven() {
    let fake = Fake::new().with(|model| {
        model.cc = Cc(1);
        model.csts = model.csts.with_rdy(true);
        model.looks_to_fall = u32::MAX;
        model.resettable = false;
    });
    let why = refusal(&fake);
    assert!(matches!(why, NvmeError::Lost { .. }), "{why}");
    assert!(why.to_string().contains("the test wants it so"), "{why}");
    assert_eq!(fake.lock().asq, 0, "it is given no memory");
}

#[test]
fn ready_comes_fatal_or_not_at_all() {
    let fake = Fake::new().with(|model| model.looks_to_rise = u32::MAX);
    let why = refusal(&fake);
    assert!(
        why.to_string().contains("did not become ready within 40ms"),
        "{why}"
    );
    fake.is_left_clean();
    let fake = Fake::new().with(|model| model.fatal = true);
    let why = refusal(&fake);
    assert!(matches!(why, NvmeError::Fatal { .. }), "{why}");
    fake.is_left_clean();
    let fake = Fake::new().with(|model| model.goes = true);
    let why = refusal(&fake);
    assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
}

#[test]
fn a_timeout_of_nothing_is_not_taken_at_its_word() {
    // CAP.TO is 0, and RDY takes some looks: of 50 µs to 5 ms each, so below half a second.
    let fake = Fake::new().with(|model| {
        model.cap &= !(0xff << 24);
        model.looks_to_rise = 6;
    });
    let controller = Controller::open(fake.carrier(), &patient());
    assert!(controller.is_ok(), "{:?}", controller.err());
}

#[test]
fn ready_timeouts_are_read_where_they_are() {
    // CAP.CRMS is 1, so CRTO is read: 65535 half seconds are nine hours, of which no more is waited than is allowed.
    let fake = Fake::new().with(|model| {
        model.cap |= 1 << 59;
        model.crto = 0xfffe;
        model.looks_to_rise = u32::MAX;
    });
    let why = refusal(&fake);
    assert!(
        matches!(why, NvmeError::NotReady { ready: true, .. }),
        "{why}"
    );
}

#[test]
fn other_functions_are_told() {
    let fake = Fake::new().with(|model| model.config[9] = 1);
    let why = refusal(&fake);
    assert!(
        why.to_string().contains("its PCI class is 010801h"),
        "{why}"
    );
    let fake = Fake::new().with(|model| model.stuck = 0b100);
    let why = refusal(&fake);
    assert!(why.to_string().contains("stays at 0x0002"), "{why}");
    let fake = Fake::new().with(|model| model.gone = true);
    let why = refusal(&fake);
    assert!(matches!(why, NvmeError::Removed { .. }), "{why}");
}

#[test]
fn capabilities_that_make_no_sense_are_refused() {
    for (cap, says) in [
        (1 << 37 | 1 << 24, "queues of 1 entry"),
        (1 << 24 | 1023, "does not take the NVM command set"),
        (
            1 << 44 | 1 << 24 | 1023,
            "does not take the NVM command set",
        ),
        (1 << 48 | 1 << 37 | 1023, "from 8KiB to 4KiB"),
        (0xff << 48 | 1 << 37 | 1023, "from 128MiB to 128MiB"),
    ] {
        let fake = Fake::new().with(|model| model.cap = cap);
        let why = refusal(&fake);
        assert!(matches!(why, NvmeError::Unfit { .. }), "{why}");
        assert!(why.to_string().contains(says), "{why}");
        let model = fake.lock();
        assert!(!model.cc.en() && model.asq == 0);
    }
}

#[test]
fn the_widest_doorbells_and_large_pages_are_driven() {
    // DSTRD 15: 128 KiB from doorbell to doorbell. MPSMIN and MPSMAX 4: 64 KiB.
    let fake = Fake::new().with(|model| model.cap |= 15 << 32 | 0x44 << 48);
    let controller = open(&fake);
    let identity = controller.identity();
    assert_eq!(identity.doorbell_stride, Bytes(128 << 10));
    assert_eq!(identity.page.bytes(), Bytes(64 << 10));
    assert_eq!(identity.max_transfer, Some(Bytes(64 << 15)));
    assert_eq!(controller.errors(256).expect("a long answer").len(), 255);
    drop(
        controller
            .queue_pair(crate::layout(2, 2))
            .expect("small queues"),
    );
    drop(controller);
    fake.is_left_clean();
    // Where the BAR ends before the doorbells do, that is told, and the controller is stopped.
    let fake = Fake::new().with(|model| {
        model.cap |= 15 << 32;
        model.bar = 3 * (128 << 10);
    });
    let why = refusal(&fake);
    assert!(matches!(why, NvmeError::Carrier(_)), "{why}");
    fake.is_left_clean();
}

#[test]
fn each_step_may_be_refused() {
    for wrong in [opcode::IDENTIFY, opcode::SET_FEATURES] {
        let fake = Fake::new();
        let status = Status::INTERNAL_ERROR.do_not_retry();
        fake.answers(move |sqe| (sqe.opcode == wrong).then(|| Reply::bad(status)));
        let why = refusal(&fake);
        assert!(
            matches!(why, NvmeError::Refused { status: found, .. } if found == status),
            "{why}"
        );
        assert!(why.to_string().contains("Internal Error"), "{why}");
        fake.is_left_clean();
    }
    // A controller without event requests is driven without.
    let fake = Fake::new();
    fake.answers(|sqe| {
        let status = Status::EVENT_REQUEST_LIMIT;
        (sqe.opcode == opcode::ASYNC_EVENT_REQUEST).then(|| Reply::bad(status))
    });
    let controller = open(&fake);
    assert!(controller.events().is_empty());
    assert_eq!(
        fake.count(opcode::ASYNC_EVENT_REQUEST),
        4,
        "none is given again"
    );
}

#[test]
fn controllers_of_other_kinds_are_refused() {
    let mut other = controller("X");
    other.sqes = 0x77;
    let mut discovery = controller("X");
    discovery.cntrltype = 2;
    for (identity, says) in [(other, "SQES 0x77"), (discovery, "type 2")] {
        let fake = Fake::new();
        fake.answers(move |sqe| {
            (sqe.opcode == opcode::IDENTIFY).then(|| Reply::data(identity.as_bytes()))
        });
        let why = refusal(&fake);
        assert!(why.to_string().contains(says), "{why}");
        fake.is_left_clean();
    }
}

#[test]
fn wherever_the_carrier_fails_it_is_told() {
    let mut opened = false;
    for accesses in 0..200 {
        let fake = Fake::new().with(|model| model.accesses = Some(accesses));
        match Controller::open(fake.carrier(), &patient()) {
            Err(NvmeError::Carrier(_) | NvmeError::Memory { .. }) => {}
            Err(why) => panic!("after {accesses}: {why}"),
            Ok(controller) => {
                opened = true;
                drop(controller);
                break;
            }
        }
    }
    assert!(opened, "200 accesses are enough");
}
