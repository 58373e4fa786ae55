//! Controllers that say anything.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use strata_nvme::{Controller, Options};
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::{NamespaceId, Status};
use strata_units::Nanos;

use crate::answers::Reply;
use crate::fake::Fake;
use crate::layout;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_said_panics_or_hangs(
        cap in prop_oneof![any::<u64>(), any::<u32>().prop_map(|low| 1 << 37 | u64::from(low | 1))],
        version in any::<u32>(),
        crto in any::<u32>(),
        replies in proptest::collection::vec(
            (any::<u32>(), 0u8..20, any::<u16>(), proptest::collection::vec(any::<u8>(), 64), any::<u16>()),
            1..8,
        ),
    ) {
        let fake = Fake::new().with(|model| {
            model.cap = cap;
            model.version = version;
            model.crto = crto;
        });
        let mut next = replies.into_iter().cycle();
        fake.answers(move |sqe| {
            let (dword, kind, status, bytes, cid) = next.next()?;
            if kind < 12 {
                return None;
            }
            let data: Vec<u8> = bytes.iter().copied().cycle().take(4096).collect();
            let well = sqe.opcode == opcode::IDENTIFY || sqe.opcode == opcode::GET_LOG_PAGE;
            let data = if well && kind < 16 { data } else { Vec::new() };
            Some(Reply {
                status: if kind % 2 == 0 { Status::SUCCESS } else { Status::from_field(status) },
                dword,
                data: data[..data.len().min(if sqe.opcode == opcode::IDENTIFY { 4096 } else { 64 })].to_vec(),
                completions: match kind {
                    19 => vec![Some(cid); usize::from(cid % 128)],
                    18 => vec![None, Some(cid)],
                    _ => vec![None],
                },
                phase: kind != 17,
            })
        });
        let options = Options {
            admin_deadline: Nanos::from_millis(10),
            ready_at_most: Nanos::from_millis(10),
            ..Options::default()
        };
        let begin = Instant::now();
        if let Ok(controller) = Controller::open(fake.carrier(), &options) {
            let _ = controller.health();
            let _ = controller.smart();
            let _ = controller.errors(u16::MAX);
            let _ = controller.firmware_slots();
            let _ = controller.events();
            for id in controller.namespaces().into_iter().take(3) {
                let _ = controller.namespace(id);
            }
            let _ = controller.namespace(NamespaceId(1));
            let pairs = [(); 3].map(|()| controller.queue_pair(layout(2, 4)));
            let _ = controller.reset();
            drop(pairs);
        }
        // Some tens of commands, each with a deadline and a reset behind it; far from what a hang takes.
        prop_assert!(begin.elapsed() < Duration::from_secs(60));
        let model = fake.lock();
        prop_assert!(model.violations.is_empty(), "{:#?}", model.violations);
    }
}
