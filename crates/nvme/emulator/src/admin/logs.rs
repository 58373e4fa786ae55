//! Get Log Page (Base 5.1.12).

use strata_nvme_spec::command::admin::{GetLogPage, LogPage};
use strata_nvme_spec::log::{CriticalWarning, FirmwareSlots};
use strata_nvme_spec::{NamespaceId, Sqe, Status};
use zerocopy::{FromZeros, IntoBytes};

use super::INVALID_FIELD;
use crate::controller::Controller;
use crate::health::Now;

impl Controller {
    pub(super) fn get_log_page(&mut self, sqe: &Sqe) -> Result<(), Status> {
        let asked = GetLogPage::of(sqe)?;
        let page = match asked.page {
            LogPage::Errors => self
                .io
                .health
                .errors()
                .flat_map(|entry| entry.as_bytes().to_vec())
                .collect(),
            LogPage::Smart => {
                // Namespaces have none of their own (LPA bit 0).
                if !matches!(asked.nsid, NamespaceId::NONE | NamespaceId::ALL) {
                    return Err(INVALID_FIELD);
                }
                let now = self.now();
                self.io.health.smart(&now).as_bytes().to_vec()
            }
            LogPage::Firmware => {
                let mut slots = FirmwareSlots::new_zeroed();
                slots.afi = 1;
                slots.frs[0] = self.identity.firmware();
                slots.as_bytes().to_vec()
            }
        };
        let from = asked.from.0;
        if !from.is_multiple_of(4) || asked.len.0 > self.io.limit {
            return Err(INVALID_FIELD);
        }
        let from = usize::try_from(from).map_err(|_| INVALID_FIELD)?;
        let rest: &[u8] = page.get(from..).ok_or(INVALID_FIELD)?;
        // What is asked for behind the page's end stays as it was.
        let part = &rest[..rest.len().min(asked.len.as_usize())];
        self.io.store(sqe.data(), part)?;
        if !asked.retain_event {
            self.events.was_read(asked.page);
        }
        Ok(())
    }

    fn now(&mut self) -> Now {
        let time = self.clock.now();
        let temperature = self.models.pace.temperature(time);
        let beyond = self.features.is_beyond(temperature);
        let warning = if beyond {
            CriticalWarning::TEMPERATURE
        } else {
            CriticalWarning(0)
        };
        Now {
            time,
            temperature,
            too_warm: self.models.pace.too_warm(),
            warning: warning.0,
        }
    }
}
