//! Identify (Base 5.1.13).

use strata_nvme_spec::command::admin::{Cns, Identify};
use strata_nvme_spec::identify::{ActiveNamespaces, IdentifyController, oncs};
use strata_nvme_spec::{Kelvin, NamespaceId, Sqe, Status, padded};
use zerocopy::{FromZeros, IntoBytes};

use super::ABORTS;
use crate::config::{Config, SMALLEST_PAGE};
use crate::controller::Controller;
use crate::events::REQUESTS;
use crate::health::ENTRIES;
use crate::namespace::{Namespace, transfer_power, uuid};
use crate::registers::VERSION;
use strata_nvme_spec::emulated::VENDOR;

const INVALID_NAMESPACE: Status = Status::INVALID_NAMESPACE.do_not_retry();

/// What the controller says that it is.
pub(crate) struct Identity(Box<IdentifyController>);

impl Identity {
    /// The identity of a configuration; `too_warm` are the warning and critical temperatures, if it has any.
    pub(crate) fn new(config: &Config, too_warm: Option<(Kelvin, Kelvin)>) -> Identity {
        let mut id = Box::new(IdentifyController::new_zeroed());
        id.vid = VENDOR.into();
        id.ssvid = VENDOR.into();
        id.sn = padded(&config.serial);
        id.mn = padded(&config.model);
        id.fr = padded(&config.firmware);
        id.mdts = transfer_power(config.transfer.0, SMALLEST_PAGE);
        id.cntlid = 1.into();
        id.ver = VERSION.0.into();
        // An I/O controller.
        id.cntrltype = 1;
        id.acl = ABORTS - 1;
        id.aerl = (REQUESTS - 1) as u8;
        // One firmware slot, read only.
        id.frmw = 0b11;
        // Log pages from any offset, and longer than 4 KiB × 4.
        id.lpa = 0b100;
        id.elpe = (ENTRIES - 1) as u8;
        if let Some((warning, critical)) = too_warm {
            (id.wctemp, id.cctemp) = (warning.0.into(), critical.0.into());
        }
        (id.sqes, id.cqes) = (0x66, 0x44);
        id.nn = u32::try_from(config.namespace.len())
            .unwrap_or(u32::MAX)
            .into();
        id.oncs = (oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES).into();
        // There is a write cache, and all namespaces can be flushed at once.
        id.vwc = 0b111;
        let name = nqn(&config.serial);
        id.subnqn[..name.len()].copy_from_slice(name.as_bytes());
        // 25 W, in hundredths.
        id.psd[0][..2].copy_from_slice(&2500u16.to_le_bytes());
        Identity(id)
    }

    /// The firmware's revision.
    pub(crate) fn firmware(&self) -> [u8; 8] {
        self.0.fr
    }
}

/// The subsystem's name, by a UUID (Base 4.7).
fn nqn(serial: &str) -> String {
    let hex: String = uuid(serial)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    format!("nqn.2014-08.org.nvmexpress:uuid:{}", parts.join("-"))
}

impl Controller {
    pub(super) fn identify(&self, sqe: &Sqe) -> Result<(), Status> {
        let Identify { cns, nsid } = Identify::of(sqe)?;
        let data = sqe.data();
        match cns {
            Cns::Controller => self.io.store(data, self.identity.0.as_bytes()),
            Cns::Namespace => self
                .io
                .store(data, self.namespace(nsid)?.identify().as_bytes()),
            Cns::ActiveNamespaces => {
                if nsid.0 >= NamespaceId::ALL.0 - 1 {
                    return Err(INVALID_NAMESPACE);
                }
                let all = (1..=self.io.namespaces.len() as u32).map(NamespaceId);
                let list = ActiveNamespaces::after(nsid, all);
                self.io.store(data, list.as_bytes())
            }
            Cns::Descriptors => {
                let descriptors = self.namespace(nsid)?.descriptors();
                self.io
                    .store(data, &descriptors.ok_or(Status::INTERNAL_ERROR)?)
            }
        }
    }

    fn namespace(&self, nsid: NamespaceId) -> Result<&Namespace, Status> {
        let index = (nsid.0 as usize).wrapping_sub(1);
        self.io.namespaces.get(index).ok_or(INVALID_NAMESPACE)
    }
}
