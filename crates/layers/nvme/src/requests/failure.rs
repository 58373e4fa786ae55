//! What became of a request that failed, and what to do about it.

use strata_nvme_spec::Status;

/// A request that failed: a status of the controller, or what the driver did to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) i32);

impl Failure {
    /// Ended by a reset of the controller, which the trial is told the reason of.
    pub(crate) const RESET: Failure = Failure(-1);

    pub(super) fn of(status: Status) -> Failure {
        Failure(i32::from(status.field()))
    }

    /// In words.
    pub(crate) fn explain(self) -> String {
        match (self, u16::try_from(self.0)) {
            (_, Ok(field)) => {
                let status = Status::from_field(field);
                format!("{status}: {}", next(status))
            }
            (Failure::RESET, _) => "ended by a reset of the controller".to_owned(),
            _ => format!("code {}", self.0),
        }
    }
}

/// What it means here, or the next step.
fn next(status: Status) -> &'static str {
    /// Of media and data integrity errors (Base 4.2.3.3).
    const MEDIA: u8 = 2;
    if status.is(Status::ABORT_REQUESTED) {
        "it did not complete within its deadline and was called back; look at the drive's health, or give a longer --timeout"
    } else if status.is(Status::ACCESS_DENIED) {
        "the namespace is locked, or closed to this host; unlock it (sedutil-cli, nvme security-send), or measure another"
    } else if status.kind() == MEDIA {
        "look at the drive's health and its error log (nvme smart-log, nvme error-log)"
    } else {
        "look at the drive's error log (nvme error-log)"
    }
}
