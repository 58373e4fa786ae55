//! Data structures put together byte by byte from the specification's tables.

use strata_nvme_spec::identify::{Deallocated, IdentifyController, IdentifyNamespace, oncs};
use strata_nvme_spec::log::{CriticalWarning, ErrorEntry, FirmwareSlots, SmartLog, data_units};
use strata_nvme_spec::registers::Version;
use strata_nvme_spec::{
    CommandId, EventConfig, Kelvin, Lba, NamespaceId, PageSize, QueueId, Status,
};
use strata_units::{Bytes, Nanos};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// `N` bytes, zero but for these at these places.
fn dump<const N: usize>(parts: &[(usize, &[u8])]) -> [u8; N] {
    let mut bytes = [0; N];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

#[test]
fn a_controller_tells_who_it_is_and_what_it_takes() {
    let bytes: [u8; 4096] = dump(&[
        (0, &[0x36, 0x1b]),
        (4, b"S4EVNX0R123456      "),
        (24, b"STRATA EMULATED CONTROLLER              "),
        (64, b"1.0     "),
        (77, &[5]),
        (78, &[0x02, 0x01]),
        (80, &[0, 4, 1, 0]),
        (92, &[0, 3, 0, 0]),
        (111, &[1]),
        (128, &[1, 0, 10, 0, 0, 1]),
        (258, &[3, 7]),
        (262, &[63]),
        (266, &[0x57, 0x01]),
        (280, &[0, 0, 0, 0, 0, 1]),
        (296, &[0xff; 16]),
        (512, &[0x66, 0x44, 0x00, 0x01, 0x20, 0, 0, 0, 0x0c]),
        (525, &[0x07]),
        (768, b"nqn.2026-01.org.strata:emulated"),
    ]);
    let identify = IdentifyController::read_from_bytes(&bytes).expect("4096 bytes");
    assert_eq!(identify.vid.get(), 0x1b36);
    assert_eq!(identify.serial().to_string(), "S4EVNX0R123456");
    assert_eq!(identify.model().to_string(), "STRATA EMULATED CONTROLLER");
    assert_eq!(identify.firmware().to_string(), "1.0");
    assert_eq!(
        identify.subsystem().to_string(),
        "nqn.2026-01.org.strata:emulated"
    );
    assert_eq!(identify.cntlid.get(), 0x0102);
    assert_eq!(identify.version(), Version::new(1, 4, 0));
    assert_eq!(
        identify.max_transfer(PageSize::FOUR_KIB),
        Some(Bytes(128 << 10))
    );
    assert_eq!(
        identify.max_transfer(PageSize::from_field(1)),
        Some(Bytes(256 << 10))
    );
    assert!(identify.events().has(EventConfig::NAMESPACES));
    assert!(identify.events().has(EventConfig::FIRMWARE));
    assert_eq!(
        identify.retry_delays(),
        [100, 1000, 25_600].map(Nanos::from_millis)
    );
    assert_eq!((identify.aborts(), identify.event_requests()), (4, 8));
    assert_eq!(identify.error_entries(), 64);
    assert_eq!(identify.warning_temperature(), Some(Kelvin(343)));
    assert_eq!(identify.critical_temperature(), None);
    assert_eq!(identify.tnvmcap.get(), 1 << 40);
    assert_eq!(identify.unvmcap.get(), u128::MAX);
    assert!(identify.takes_nvm_entries());
    assert_eq!(identify.most_outstanding(), Some(256));
    assert_eq!(identify.nn.get(), 32);
    assert!(identify.takes(oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES));
    assert!(!identify.takes(oncs::COMPARE));
    assert!(identify.has_write_cache());
    assert_eq!(identify.as_bytes(), bytes);
}

#[test]
fn a_controller_without_limits_says_none() {
    let mut identify = IdentifyController::new_zeroed();
    assert_eq!(identify.max_transfer(PageSize::FOUR_KIB), None);
    assert_eq!(identify.most_outstanding(), None);
    assert!(!identify.takes_nvm_entries() && !identify.has_write_cache());
    identify.mdts = 255;
    assert_eq!(
        identify.max_transfer(PageSize::FOUR_KIB),
        Some(Bytes(u64::MAX))
    );
    identify.sqes = 0x77;
    identify.cqes = 0x44;
    assert!(!identify.takes_nvm_entries());
}

#[test]
fn a_namespace_tells_its_size_and_format() {
    let bytes: [u8; 4096] = dump(&[
        (0, &[0, 0, 0, 0x10]),
        (8, &[0, 0, 0, 0x10]),
        (16, &[0x10]),
        (24, &[0x01, 1, 0x01]),
        (29, &[0x0a]),
        (33, &[0x09]),
        (46, &[0x20, 0]),
        (99, &[1]),
        (104, &[0xaa; 16]),
        (120, &[0xbb; 8]),
        (128, &[0, 0, 9, 2, 8, 0, 12, 0]),
        (4095, &[0xcc]),
    ]);
    let identify = IdentifyNamespace::read_from_bytes(&bytes).expect("4096 bytes");
    assert!(identify.is_active() && identify.is_thin() && identify.is_write_protected());
    assert_eq!(identify.formats().len(), 2);
    let format = identify.format().expect("a format");
    assert_eq!(
        (format.block(), format.metadata()),
        (Some(Bytes(4096)), Bytes(8))
    );
    assert_eq!(identify.lbaf[0].rp, 2);
    assert_eq!(identify.size(), Some(Bytes(1 << 40)));
    assert_eq!(identify.used(), Some(Bytes(16 * 4096)));
    assert_eq!(identify.boundary(), Some(Bytes(128 << 10)));
    assert_eq!(identify.protection(), Some(2));
    assert!(!identify.metadata_in_line());
    assert_eq!(identify.deallocated(), Deallocated::Zeroes);
    assert_eq!((identify.nguid, identify.eui64), ([0xaa; 16], [0xbb; 8]));
    assert_eq!(identify.as_bytes(), bytes);
    assert!(!IdentifyNamespace::new_zeroed().is_active());
}

#[test]
fn the_formats_upper_bits_count_only_among_many() {
    let mut identify = IdentifyNamespace::new_zeroed();
    identify.nsze = 1000.into();
    identify.lbaf[1].lbads = 12;
    identify.lbaf[17].lbads = 9;
    // Index 17: bits 6:5 hold its upper bits.
    identify.flbas = 0x21;
    identify.nlbaf = 15;
    let block = |identify: &IdentifyNamespace| identify.format().and_then(|format| format.block());
    assert_eq!(block(&identify), Some(Bytes(4096)));
    identify.nulbaf = 2;
    assert_eq!(block(&identify), Some(Bytes(512)));
    assert_eq!(identify.size(), Some(Bytes(512_000)));
    // Not among the 18 that are listed.
    identify.flbas = 0x22;
    assert_eq!(identify.format(), None);
    assert_eq!(identify.size(), None);
    assert_eq!(identify.boundary(), None);
}

#[test]
fn health_is_in_the_units_of_the_specification() {
    let mut bytes: [u8; 512] = dump(&[
        (0, &[0b0000_0110, 0x36, 0x01, 97, 10, 130]),
        (32, &[2]),
        (48, &[0xe8, 3]),
        (64, &[0xff; 16]),
        (96, &[60]),
        (112, &[9]),
        (128, &[24]),
        (144, &[3]),
        (160, &[1]),
        (176, &[5]),
        (192, &[2, 0, 0, 0, 1]),
        (200, &[0x36, 0x01, 0, 0, 0x40, 0x01]),
        (216, &[7, 0, 0, 0, 1]),
        (224, &[90, 0, 0, 0, 30]),
    ]);
    let smart = SmartLog::read_from_bytes(&bytes).expect("512 bytes");
    let warning = smart.warning();
    assert!(warning.has(CriticalWarning::TEMPERATURE.and(CriticalWarning::RELIABILITY)));
    assert!(!warning.has(CriticalWarning::SPARE));
    assert_eq!(
        warning.words().collect::<Vec<_>>(),
        [
            "a temperature is beyond its threshold",
            "reliability is degraded"
        ]
    );
    assert_eq!(smart.temperature().celsius(), 37);
    assert_eq!((smart.available_spare, smart.spare_threshold), (97, 10));
    assert_eq!(smart.percentage_used, 130);
    assert_eq!(smart.read(), Some(Bytes(1_024_000)));
    assert_eq!(smart.written(), Some(Bytes(512_000_000)));
    assert_eq!(smart.host_reads.get(), u128::MAX);
    assert_eq!(smart.busy(), Nanos::SECOND * 3600);
    assert_eq!(smart.power_cycles.get(), 9);
    assert_eq!(smart.powered_on(), Nanos::SECOND * 86_400);
    assert_eq!(smart.unsafe_shutdowns.get(), 3);
    assert_eq!(
        (smart.media_errors.get(), smart.error_entries.get()),
        (1, 5)
    );
    assert_eq!(
        (smart.too_warm(), smart.too_hot()),
        (Nanos::SECOND * 120, Nanos::SECOND * 60)
    );
    let sensors = smart.sensors();
    assert_eq!(sensors[..3], [Some(Kelvin(310)), None, Some(Kelvin(320))]);
    let [light, heavy] = smart.throttling();
    assert_eq!((light.times, light.lasted), (7, Nanos::SECOND * 90));
    assert_eq!((heavy.times, heavy.lasted), (1, Nanos::SECOND * 30));

    bytes[32..64].copy_from_slice(&[0xff; 32]);
    let smart = SmartLog::read_from_bytes(&bytes).expect("512 bytes");
    assert_eq!(smart.read(), Some(Bytes(u64::MAX)));
    assert_eq!(SmartLog::new_zeroed().written(), None);
    let units = [0, 1, 512_000, 512_001].map(|bytes| data_units(Bytes(bytes)));
    assert_eq!(units, [0, 1, 1, 2]);
}

#[test]
fn an_error_tells_its_command_and_block() {
    let bytes: [u8; 64] = dump(&[
        (0, &[3]),
        (8, &[1, 0, 0x2a, 0]),
        // Unrecovered Read Error, do not retry, phase 1.
        (12, &[0x03, 0x85]),
        (14, &[0xff, 0xff]),
        (16, &[0x00, 0x10]),
        (24, &[1]),
    ]);
    let mut entry = ErrorEntry::read_from_bytes(&bytes).expect("64 bytes");
    assert!(entry.is_used());
    assert_eq!(entry.command(), Some((QueueId(1), CommandId(42))));
    assert_eq!(
        entry.status(),
        Status::UNRECOVERED_READ_ERROR.do_not_retry()
    );
    assert_eq!(entry.parameter(), None);
    assert_eq!(entry.block(), (NamespaceId(1), Lba(0x1000)));
    entry.parameter = 0x0328.into();
    entry.cid = u16::MAX.into();
    assert_eq!(entry.parameter(), Some((40, 3)));
    assert_eq!(entry.command(), None);
    assert!(!ErrorEntry::new_zeroed().is_used());
}

#[test]
fn firmware_tells_what_runs_and_what_comes_next() {
    let bytes: [u8; 512] = dump(&[(0, &[0x21]), (8, b"1.0     1.1     ")]);
    let slots = FirmwareSlots::read_from_bytes(&bytes).expect("512 bytes");
    assert_eq!((slots.active(), slots.next()), (Some(1), Some(2)));
    let revision = |slot| slots.revision(slot).map(|text| text.to_string());
    assert_eq!(revision(1).as_deref(), Some("1.0"));
    assert_eq!(revision(2).as_deref(), Some("1.1"));
    assert_eq!([0, 3, 7, 8, 255].map(revision), [const { None }; 5]);
    assert_eq!(FirmwareSlots::new_zeroed().active(), None);
}
