//! What a sound controller answers to admin commands.

use strata_nvme_spec::command::admin::{Cns, GetLogPage, Identify, LogPage};
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::feature::{FeatureId, QueueCounts};
use strata_nvme_spec::identify::{
    ActiveNamespaces, Descriptor, IdentifyController, IdentifyNamespace, write_descriptors,
};
use strata_nvme_spec::log::{ErrorEntry, FirmwareSlots, SmartLog};
use strata_nvme_spec::{NamespaceId, Sqe, Status, padded};
use zerocopy::{FromZeros, IntoBytes};

use crate::fake::PAIRS;

/// An answer.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    pub(crate) dword: u32,
    pub(crate) data: Vec<u8>,
    /// One completion each: of the command, or of another identifier.
    pub(crate) completions: Vec<Option<u16>>,
    /// Whether the phase tag is right.
    pub(crate) phase: bool,
}

impl Reply {
    pub(crate) fn good(dword: u32) -> Reply {
        Reply {
            status: Status::SUCCESS,
            dword,
            data: Vec::new(),
            completions: vec![None],
            phase: true,
        }
    }

    pub(crate) fn data(bytes: &[u8]) -> Reply {
        Reply {
            data: bytes.to_vec(),
            ..Reply::good(0)
        }
    }

    pub(crate) fn bad(status: Status) -> Reply {
        Reply {
            status,
            ..Reply::good(0)
        }
    }

    pub(crate) fn none() -> Reply {
        Reply {
            completions: Vec::new(),
            ..Reply::good(0)
        }
    }
}

pub(crate) fn right(sqe: &Sqe, serial: &str) -> Reply {
    match sqe.opcode {
        opcode::IDENTIFY => identify(sqe, serial),
        opcode::GET_LOG_PAGE => match GetLogPage::of(sqe) {
            Ok(page) => log_page(&page),
            Err(status) => Reply::bad(status),
        },
        opcode::SET_FEATURES if sqe.cdw10.get() as u8 == FeatureId::NUMBER_OF_QUEUES.0 => {
            Reply::good(QueueCounts::new(PAIRS, PAIRS).expect("a count").dword())
        }
        opcode::GET_FEATURES => Reply::good(0x1234),
        opcode::ASYNC_EVENT_REQUEST => Reply::none(),
        _ => Reply::good(0),
    }
}

pub(crate) fn controller(serial: &str) -> IdentifyController {
    let mut identity = IdentifyController::new_zeroed();
    identity.sn = padded(serial);
    identity.mn = padded("Fake drive");
    identity.fr = padded("1.0");
    identity.subnqn[..8].copy_from_slice(b"nqn.fake");
    identity.mdts = 5;
    identity.aerl = 3;
    identity.elpe = 255;
    identity.oaes = (1 << 8 | 1 << 31).into();
    (identity.sqes, identity.cqes) = (0x66, 0x44);
    identity.nn = 1.into();
    identity.oncs = (1 << 3).into();
    identity.vwc = 1;
    identity.wctemp = 343.into();
    identity
}

pub(crate) fn namespace() -> IdentifyNamespace {
    let mut namespace = IdentifyNamespace::new_zeroed();
    namespace.nsze = 2048.into();
    namespace.ncap = 2048.into();
    namespace.nuse = 8.into();
    namespace.nsfeat = 1;
    namespace.dlfeat = 1;
    namespace.noiob = 256.into();
    namespace.lbaf[0].lbads = 9;
    namespace.eui64 = [1, 2, 3, 4, 5, 6, 7, 8];
    namespace
}

fn identify(sqe: &Sqe, serial: &str) -> Reply {
    match Identify::of(sqe) {
        Ok(Identify { cns, nsid }) => match cns {
            Cns::Controller => Reply::data(controller(serial).as_bytes()),
            Cns::Namespace => Reply::data(namespace().as_bytes()),
            Cns::ActiveNamespaces => {
                let list = ActiveNamespaces::after(nsid, [NamespaceId(1)]);
                Reply::data(list.as_bytes())
            }
            Cns::Descriptors => {
                let uuid = *b"0123456789abcdef";
                let list = write_descriptors(&[Descriptor::Uuid(uuid), Descriptor::CommandSet(0)]);
                Reply::data(&list.expect("it fits"))
            }
        },
        Err(status) => Reply::bad(status),
    }
}

fn log_page(page: &GetLogPage) -> Reply {
    let mut bytes = match page.page {
        LogPage::Errors => (0..256u64)
            .flat_map(|n| {
                let mut entry = ErrorEntry::new_zeroed();
                // 255 errors, the latest first, and one unused.
                entry.error_count = (255 - n).into();
                entry.as_bytes().to_vec()
            })
            .collect(),
        LogPage::Smart => {
            let mut smart = SmartLog::new_zeroed();
            smart.temperature = 310.into();
            smart.as_bytes().to_vec()
        }
        LogPage::Firmware => {
            let mut slots = FirmwareSlots::new_zeroed();
            slots.afi = 1;
            slots.frs[0] = *b"1.0     ";
            slots.as_bytes().to_vec()
        }
    };
    bytes.truncate(page.len.as_usize());
    Reply::data(&bytes)
}
