//! How the kernel's block layer is set for a disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::Bytes;

use crate::root::Reader;

/// The request queue of a disk (`Documentation/ABI/stable/sysfs-block` of the kernel, `queue/`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockQueue {
    /// The least that is written without a read before.
    #[serde(rename = "physical_block_bytes")]
    pub physical_block: Option<Bytes>,
    /// The largest request that the block layer makes; larger ones are split.
    #[serde(rename = "max_request_bytes")]
    pub max_request: Option<Bytes>,
    /// The largest that the device takes.
    #[serde(rename = "max_hardware_request_bytes")]
    pub max_hardware_request: Option<Bytes>,
    /// What a discard is rounded to; zero where there is none.
    #[serde(rename = "discard_granularity_bytes")]
    pub discard_granularity: Option<Bytes>,
    /// Whether completions can be polled for; an NVMe drive needs `nvme.poll_queues` for it.
    pub io_poll: Option<bool>,
    /// Requests that can wait, a hardware queue each.
    pub requests: Option<u32>,
    /// Hardware queues.
    pub hardware_queues: Option<u32>,
    /// The I/O scheduler chosen (`none`).
    pub scheduler: Option<String>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// Whether requests are accounted for, which costs time.
    pub iostats: Option<bool>,
    /// 0: requests are merged; 1: only simple cases; 2: never.
    pub nomerges: Option<u8>,
    /// 0: completed where the interrupt came; 1: on the CPUs near the submitter; 2: on the submitter.
    pub rq_affinity: Option<u8>,
}

impl BlockQueue {
    /// Of the disk in `folder`.
    pub(crate) fn read(reader: &Reader, folder: &str) -> BlockQueue {
        let at = |file: &str| format!("{folder}/queue/{file}");
        let kib = |file: &str| {
            let kib: u64 = reader.value(&at(file), "a number of KiB")?;
            kib.checked_mul(1024).map(Bytes)
        };
        let bytes = |file: &str| reader.value(&at(file), "a number of bytes").map(Bytes);
        let queues = reader.numbered(&format!("{folder}/mq"), "").len();
        BlockQueue {
            physical_block: bytes("physical_block_size"),
            max_request: kib("max_sectors_kb"),
            max_hardware_request: kib("max_hw_sectors_kb"),
            discard_granularity: bytes("discard_granularity"),
            io_poll: reader.flag(&at("io_poll")),
            requests: reader.value(&at("nr_requests"), "a number"),
            hardware_queues: u32::try_from(queues).ok().filter(|queues| *queues > 0),
            scheduler: scheduler(reader, &at("scheduler")),
            write_cache: reader.word(&at("write_cache")),
            iostats: reader.flag(&at("iostats")),
            nomerges: reader.value(&at("nomerges"), "0, 1 or 2"),
            rq_affinity: reader.value(&at("rq_affinity"), "0, 1 or 2"),
        }
    }
}

/// `[none] mq-deadline kyber`; `none` alone where there is no choice.
fn scheduler(reader: &Reader, path: &str) -> Option<String> {
    let text = reader.word(path)?;
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(text.as_str(), |(chosen, _)| chosen);
    Some(chosen.to_owned())
}
