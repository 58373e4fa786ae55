//! Whatever a controller or a host says, reading it does not panic and stays within what the types promise.

use proptest::prelude::*;
use strata_nvme_spec::PageSize;
use strata_nvme_spec::Sqe;
use strata_nvme_spec::command::admin::{Abort, GetFeatures, GetLogPage, Identify, SetFeatures};
use strata_nvme_spec::command::nvm::{DatasetManagement, ReadWrite, WriteZeroes};
use strata_nvme_spec::command::{CreateCompletionQueue, CreateSubmissionQueue, queue_id};
use strata_nvme_spec::identify::{ActiveNamespaces, IdentifyController, IdentifyNamespace};
use strata_nvme_spec::log::{ErrorEntry, FirmwareSlots, SmartLog};
use strata_nvme_spec::registers::{Aqa, Cap, Crto, ready_timeout};
use strata_units::{Bytes, Nanos};
use zerocopy::{FromBytes, IntoBytes};

/// Noise of `len` bytes: proptest's own vectors of 4096 bytes are slow, so that a word is spread.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

proptest! {
    #[test]
    fn identify_data(seed in any::<u64>(), nlbaf in any::<u8>(), flbas in any::<u8>(), lbads in any::<u8>(), mps in any::<u8>()) {
        let bytes = noise(seed, 4096);
        let controller = IdentifyController::read_from_bytes(&bytes).expect("4096 bytes");
        let shown = format!(
            "{}{}{}{}{}", controller.serial(), controller.model(), controller.firmware(), controller.subsystem(),
            controller.version()
        );
        prop_assert!(shown.chars().all(|char| (' '..='~').contains(&char)));
        if let Some(most) = controller.max_transfer(PageSize::from_field(mps)) {
            prop_assert!(most >= Bytes(8192));
        }
        let _ = (controller.retry_delays(), controller.takes_nvm_entries());
        prop_assert_eq!(controller.as_bytes(), &bytes[..]);

        let mut namespace = IdentifyNamespace::read_from_bytes(&bytes).expect("4096 bytes");
        (namespace.nlbaf, namespace.flbas) = (nlbaf, flbas);
        for format in &mut namespace.lbaf {
            format.lbads = lbads;
        }
        prop_assert!((1..=64).contains(&namespace.formats().len()));
        let (size, used) = (namespace.size(), namespace.used());
        if let Some(block) = namespace.format().and_then(|format| format.block()) {
            prop_assert!(block.0.is_power_of_two() && block >= Bytes(512));
            prop_assert!(size.is_none_or(|size| size.0 % block.0 == 0));
        } else {
            prop_assert_eq!((size, used), (None, None));
        }
        let _ = (namespace.boundary(), namespace.protection(), namespace.deallocated());

        let list = ActiveNamespaces::read_from_bytes(&bytes).expect("4096 bytes");
        prop_assert!(list.iter().count() <= ActiveNamespaces::MOST);
    }

    #[test]
    fn log_pages(seed in any::<u64>()) {
        let bytes = noise(seed, 512);
        let smart = SmartLog::read_from_bytes(&bytes).expect("512 bytes");
        prop_assert!(smart.read().is_some() && smart.written().is_some());
        let (hours, minutes) = (Nanos::SECOND * 3600, Nanos::SECOND * 60);
        prop_assert!(smart.powered_on() == Nanos(u64::MAX) || smart.powered_on().0 % hours.0 == 0);
        prop_assert!(smart.busy() == Nanos(u64::MAX) || smart.busy().0 % minutes.0 == 0);
        prop_assert!(smart.too_warm().max(smart.too_hot()) <= minutes * u64::from(u32::MAX));
        prop_assert_eq!(smart.warning().words().count(), smart.critical_warning.count_ones() as usize);
        let _ = (smart.throttling(), smart.sensors(), smart.temperature().to_string());
        let entry = ErrorEntry::read_from_bytes(&bytes[..64]).expect("64 bytes");
        prop_assert!(!entry.status().to_string().is_empty());
        let _ = (entry.command(), entry.parameter(), entry.block());
        let slots = FirmwareSlots::read_from_bytes(&bytes).expect("512 bytes");
        for slot in 0..=u8::MAX {
            prop_assert!(slots.revision(slot).is_none() || (1..=7).contains(&slot));
        }
        prop_assert!(SmartLog::read_from_bytes(&bytes[1..]).is_err());
    }

    #[test]
    fn entries(words in any::<[u64; 8]>()) {
        let sqe = Sqe::from_words(words);
        let ring = CreateSubmissionQueue::of(&sqe).map(|queue| queue.size.entries());
        prop_assert_eq!(ring.is_ok(), CreateCompletionQueue::of(&sqe).is_ok());
        prop_assert!(ring.is_err() || ring.is_ok_and(|entries| (2..=65_536).contains(&entries)));
        let _ = (queue_id(&sqe), Identify::of(&sqe), GetFeatures::of(&sqe), SetFeatures::of(&sqe), Abort::of(&sqe));
        if let Ok(log) = GetLogPage::of(&sqe) {
            prop_assert!(log.len.is_multiple_of(Bytes(4)));
        }
        prop_assert!((1..=65_536).contains(&ReadWrite::of(&sqe).blocks.get()));
        prop_assert!((1..=65_536).contains(&WriteZeroes::of(&sqe).blocks.get()));
        prop_assert!((1..=256).contains(&DatasetManagement::of(&sqe).ranges));
    }

    #[test]
    fn registers(value in any::<u64>(), crto in any::<u32>(), crime in any::<bool>()) {
        let cap = Cap(value);
        prop_assert!(ready_timeout(cap, Crto(crto), crime) >= cap.timeout());
        let aqa = Aqa(crto);
        for size in [aqa.submission(), aqa.completion()].into_iter().flatten() {
            prop_assert!((2..=Aqa::LARGEST).contains(&size.entries()));
        }
    }
}
