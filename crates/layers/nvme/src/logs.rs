//! What is asked of a controller that runs: log pages, features, events.

use strata_nvme_spec::AsyncEvent;
use strata_nvme_spec::NamespaceId;
use strata_nvme_spec::command::admin::{GetFeatures, GetLogPage, LogPage, SetFeatures};
use strata_nvme_spec::log::{ErrorEntry, FirmwareSlots, SmartLog};
use strata_units::Bytes;
use zerocopy::FromBytes;

use crate::NvmeError;
use crate::admin::LONGEST;
use crate::controller::Controller;

const ERROR: u64 = size_of::<ErrorEntry>() as u64;

impl Controller {
    /// Its SMART / Health log; critical warnings that were reported as events may come again.
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn smart(&self) -> Result<SmartLog, NvmeError> {
        let page = log_page(LogPage::Smart, Bytes(size_of::<SmartLog>() as u64));
        self.read_one("tell its health (SMART)", page.sqe())
    }

    /// The latest entries of its error log, the latest first: `most`, or as many as there are, or as one command moves.
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn errors(&self, most: u16) -> Result<Vec<ErrorEntry>, NvmeError> {
        let limit = self.identity().max_transfer.unwrap_or(LONGEST).min(LONGEST);
        let entries = u64::from(most.min(self.identity().error_entries)).min(limit.0 / ERROR);
        if entries == 0 {
            return Ok(Vec::new());
        }
        let page = log_page(LogPage::Errors, Bytes(entries * ERROR));
        let answer = self.read("tell its errors", page.sqe(), page.len)?;
        Ok(answer
            .chunks_exact(size_of::<ErrorEntry>())
            .filter_map(|bytes| ErrorEntry::read_from_bytes(bytes).ok())
            .filter(ErrorEntry::is_used)
            .collect())
    }

    /// Its firmware slots.
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn firmware_slots(&self) -> Result<FirmwareSlots, NvmeError> {
        let page = log_page(LogPage::Firmware, Bytes(size_of::<FirmwareSlots>() as u64));
        self.read_one("tell its firmware slots", page.sqe())
    }

    /// A feature's value.
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn feature(&self, which: GetFeatures) -> Result<u32, NvmeError> {
        self.execute("tell a feature", which.sqe())
    }

    /// Sets a feature, and gives what its completion says.
    ///
    /// # Errors
    /// [`NvmeError`]
    pub fn set_feature(&self, which: SetFeatures) -> Result<u32, NvmeError> {
        self.execute("set a feature", which.sqe())
    }

    /// Events that came since they were asked for last. One of a kind comes again only when the log page that it names was
    /// read. None come of a controller that is stopped or lost.
    pub fn events(&self) -> Vec<AsyncEvent> {
        self.take_events()
    }
}

fn log_page(page: LogPage, len: Bytes) -> GetLogPage {
    GetLogPage {
        page,
        nsid: NamespaceId::ALL,
        len,
        from: Bytes(0),
        retain_event: false,
    }
}
