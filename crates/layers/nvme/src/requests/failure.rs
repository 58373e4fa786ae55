//! What became of a request that failed, and what to do about it.

use std::num::NonZeroI32;

use strata_nvme_spec::Status;

/// A request that failed: a status of the controller, or what the driver did to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure(NonZeroI32);

impl Failure {
    /// Ended by a reset of the controller, which the trial is told the reason of.
    pub(crate) const RESET: Failure = Failure(NonZeroI32::new(-1).unwrap());

    /// Its code.
    #[inline(always)]
    pub(crate) fn code(self) -> i32 {
        self.0.get()
    }
}

/// A failure's code in words.
pub(crate) fn explain(code: i32) -> String {
    match u16::try_from(code) {
        Ok(field) => {
            let status = Status::from_field(field);
            format!("{status}: {}", next(status))
        }
        Err(_) if code == Failure::RESET.code() => "ended by a reset of the controller".to_owned(),
        Err(_) => format!("code {code}"),
    }
}

/// What a status answers a request with.
#[inline(always)]
pub(super) fn answer(status: Status) -> Result<(), Failure> {
    let code = if status.is_success() {
        0
    } else {
        i32::from(status.field())
    };
    NonZeroI32::new(code).map_or(Ok(()), |code| Err(Failure(code)))
}

/// What it means here, or the next step.
fn next(status: Status) -> &'static str {
    if status.is(Status::ABORT_REQUESTED) {
        "it did not complete within its deadline and was called back; look at the drive's health, or give a longer --timeout"
    } else {
        status.next()
    }
}
