//! What a controller says of itself.

use strata_nvme_spec::identify::{IdentifyController, oncs};
use strata_nvme_spec::registers::Version;
use strata_nvme_spec::{Kelvin, PageSize, QueueSize};
use strata_units::{Bytes, Nanos};

use crate::registers::Capabilities;

/// A controller, as it was found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// The subsystem's NVMe qualified name.
    pub subsystem: String,
    /// The version of the specification that it follows.
    pub version: Version,
    /// The most that one command may move (MDTS); none is no limit.
    pub max_transfer: Option<Bytes>,
    /// I/O queue pairs that it granted.
    pub queue_pairs: u32,
    /// Its largest I/O queue.
    pub most_entries: QueueSize,
    /// The memory page, which PRP entries are in.
    pub page: PageSize,
    /// From one doorbell to the next.
    pub doorbell_stride: Bytes,
    /// Whether it has a volatile write cache, which Flush empties.
    pub write_cache: bool,
    /// Whether it takes Dataset Management.
    pub deallocates: bool,
    /// Whether it takes Write Zeroes.
    pub writes_zeroes: bool,
    /// Whether hosts can reserve its namespaces.
    pub reserves: bool,
    /// Entries of its error log.
    pub error_entries: u16,
    /// Composite temperature from which it warns, if it says.
    pub warning_temperature: Option<Kelvin>,
    /// Composite temperature that is critical, if it says.
    pub critical_temperature: Option<Kelvin>,
    /// How long a shutdown takes at most, if it says.
    pub shutdown_latency: Option<Nanos>,
    /// How long to wait before a retry, for [`Status::retry_delay`](strata_nvme_spec::Status::retry_delay).
    pub retry_delays: [Nanos; 3],
    /// Whether it was enabled when it was opened: whoever drove it last did not let go of it.
    pub was_enabled: bool,
}

impl Identity {
    pub(crate) fn of(
        capabilities: &Capabilities,
        controller: &IdentifyController,
        queue_pairs: u32,
        was_enabled: bool,
    ) -> Identity {
        let cap = capabilities.cap;
        Identity {
            serial: controller.serial().to_string(),
            model: controller.model().to_string(),
            firmware: controller.firmware().to_string(),
            subsystem: controller.subsystem().to_string(),
            version: capabilities.version,
            max_transfer: controller.max_transfer(cap.smallest_page()),
            queue_pairs,
            most_entries: capabilities.most_entries,
            page: capabilities.page,
            doorbell_stride: cap.doorbell_stride(),
            write_cache: controller.has_write_cache(),
            deallocates: controller.takes(oncs::DATASET_MANAGEMENT),
            writes_zeroes: controller.takes(oncs::WRITE_ZEROES),
            reserves: controller.takes(oncs::RESERVATIONS),
            error_entries: controller.error_entries(),
            warning_temperature: controller.warning_temperature(),
            critical_temperature: controller.critical_temperature(),
            shutdown_latency: controller.shutdown_latency(),
            retry_delays: controller.retry_delays(),
            was_enabled,
        }
    }
}
