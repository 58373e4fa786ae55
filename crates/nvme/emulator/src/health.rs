//! What the controller remembers of its life: the SMART / Health log and the error log (Base 5.1.12.1.2, 5.1.12.1.3).
//!
//! A client that leaves takes the power with it: the next one finds a cycle more, and an unsafe shutdown more where the one
//! before did not ask for a shutdown. The life is that of the process.

use std::collections::VecDeque;

use strata_nvme_spec::command::nvm_opcode;
use strata_nvme_spec::log::{ErrorEntry, SmartLog, data_units};
use strata_nvme_spec::{CommandId, Kelvin, Lba, NamespaceId, QueueId, Sqe, Status};
use strata_units::{Bytes, Nanos};
use zerocopy::FromZeros;

/// Entries of the error log.
pub(crate) const ENTRIES: usize = 64;

const MINUTE: u64 = 60_000_000_000;

/// A controller's memory of itself.
#[derive(Debug, Default)]
pub(crate) struct Health {
    reads: u64,
    writes: u64,
    read_bytes: u64,
    written_bytes: u64,
    media_errors: u64,
    errors: u64,
    log: VecDeque<ErrorEntry>,
    /// Time with commands to do.
    pub(crate) busy: Nanos,
    pub(crate) power_cycles: u64,
    pub(crate) unsafe_shutdowns: u64,
}

/// What is measured now, for the SMART log.
pub(crate) struct Now {
    pub(crate) time: Nanos,
    pub(crate) temperature: Kelvin,
    pub(crate) too_warm: (Nanos, Nanos),
    pub(crate) warning: u8,
}

/// Whether the medium failed, or what it has is not what was written; of type 2 there are refusals too.
fn is_of_media(status: Status) -> bool {
    [
        Status::WRITE_FAULT,
        Status::UNRECOVERED_READ_ERROR,
        Status::GUARD_CHECK,
        Status::APPLICATION_TAG_CHECK,
        Status::REFERENCE_TAG_CHECK,
        Status::STORAGE_TAG_CHECK,
    ]
    .into_iter()
    .any(|failure| status.is(failure))
}

impl Health {
    pub(crate) fn new() -> Health {
        Health {
            log: VecDeque::with_capacity(ENTRIES),
            power_cycles: 1,
            ..Health::default()
        }
    }

    /// A read was done.
    #[inline(always)]
    pub(crate) fn read(&mut self, bytes: u64) {
        self.reads += 1;
        self.read_bytes += bytes;
    }

    /// A write was done.
    #[inline(always)]
    pub(crate) fn written(&mut self, bytes: u64) {
        self.writes += 1;
        self.written_bytes += bytes;
    }

    /// A command failed: what it is answered with, now that the log says more.
    #[cold]
    pub(crate) fn failed(&mut self, queue: QueueId, sqe: Sqe, status: Status) -> Status {
        if is_of_media(status) {
            self.media_errors += 1;
        }
        let names_blocks = matches!(
            sqe.opcode,
            nvm_opcode::READ | nvm_opcode::WRITE | nvm_opcode::WRITE_ZEROES
        );
        let lba = match names_blocks && queue != QueueId::ADMIN {
            true => Lba(u64::from(sqe.cdw11.get()) << 32 | u64::from(sqe.cdw10.get())),
            false => Lba(0),
        };
        let status = status.with_more();
        let mut entry = self.entry(queue, sqe.cid(), status);
        entry.lba = lba.0.into();
        entry.nsid = sqe.nsid().0.into();
        entry.opcode = sqe.opcode;
        self.log(entry);
        status
    }

    /// A doorbell was written that should not have been.
    #[cold]
    pub(crate) fn bad_doorbell(&mut self, queue: QueueId) {
        let entry = self.entry(queue, CommandId(u16::MAX), Status::SUCCESS);
        self.log(entry);
    }

    fn entry(&self, queue: QueueId, command: CommandId, status: Status) -> ErrorEntry {
        let mut entry = ErrorEntry::new_zeroed();
        entry.sqid = queue.0.into();
        entry.cid = command.0.into();
        entry.status_phase = (status.field() << 1).into();
        entry.parameter = u16::MAX.into();
        entry.nsid = NamespaceId::ALL.0.into();
        // Version 1 says the opcode too.
        entry.lpver = 1;
        entry
    }

    fn log(&mut self, mut entry: ErrorEntry) {
        self.errors += 1;
        entry.error_count = self.errors.into();
        if self.log.len() == ENTRIES {
            self.log.pop_back();
        }
        self.log.push_front(entry);
    }

    /// The error log, the latest entry first.
    pub(crate) fn errors(&self) -> impl Iterator<Item = ErrorEntry> + '_ {
        let none = std::iter::repeat_with(ErrorEntry::new_zeroed);
        self.log.iter().copied().chain(none).take(ENTRIES)
    }

    /// The SMART / Health log.
    pub(crate) fn smart(&self, now: &Now) -> SmartLog {
        let mut log = SmartLog::new_zeroed();
        log.critical_warning = now.warning;
        log.temperature = now.temperature.0.into();
        log.sensors[0] = now.temperature.0.into();
        log.available_spare = 100;
        log.spare_threshold = 10;
        log.data_units_read = data_units(Bytes(self.read_bytes)).into();
        log.data_units_written = data_units(Bytes(self.written_bytes)).into();
        log.host_reads = u128::from(self.reads).into();
        log.host_writes = u128::from(self.writes).into();
        log.busy_time = u128::from(self.busy.0 / MINUTE).into();
        log.power_cycles = u128::from(self.power_cycles).into();
        log.power_on_hours = u128::from(now.time.0 / (60 * MINUTE)).into();
        log.unsafe_shutdowns = u128::from(self.unsafe_shutdowns).into();
        log.media_errors = u128::from(self.media_errors).into();
        log.error_entries = u128::from(self.errors).into();
        let minutes = |time: Nanos| u32::try_from(time.0 / MINUTE).unwrap_or(u32::MAX);
        log.warning_time = minutes(now.too_warm.0).into();
        log.critical_time = minutes(now.too_warm.1).into();
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_latest_and_the_count_of_all() {
        let mut health = Health::new();
        let sqe = Sqe::default().with_cid(CommandId(7));
        for _ in 0..70 {
            let status = health.failed(QueueId(3), sqe, Status::UNRECOVERED_READ_ERROR);
            assert!(status.has_more());
        }
        let log: Vec<_> = health.errors().collect();
        assert_eq!((log.len(), log[0].error_count.get()), (ENTRIES, 70));
        assert_eq!(log[63].error_count.get(), 7);
        assert_eq!(log[0].command(), Some((QueueId(3), CommandId(7))));
        let at = |opcode| {
            let mut sqe = Sqe {
                opcode,
                ..Sqe::default()
            };
            sqe.cdw10 = 7.into();
            sqe
        };
        for (opcode, lba) in [
            (nvm_opcode::READ, 7),
            (nvm_opcode::DATASET_MANAGEMENT, 0),
            (nvm_opcode::FLUSH, 0),
        ] {
            health.failed(QueueId(3), at(opcode), Status::ACCESS_DENIED);
            let latest = health.errors().next().expect("one");
            assert_eq!(latest.lba.get(), lba, "{opcode}");
        }
        let now = Now {
            time: Nanos::SECOND * 7300,
            temperature: Kelvin(300),
            too_warm: (Nanos::SECOND * 61, Nanos(0)),
            warning: 2,
        };
        let smart = health.smart(&now);
        assert_eq!(
            (smart.media_errors.get(), smart.error_entries.get()),
            (70, 73),
            "a refusal is no failure of the medium"
        );
        assert_eq!(
            (smart.power_on_hours.get(), smart.warning_time.get()),
            (2, 1)
        );
    }
}
