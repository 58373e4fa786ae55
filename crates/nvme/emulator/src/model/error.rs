//! Why a model cannot be.

use std::fmt;

/// A value of a model that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, expected {expected}; {next}")]
pub struct ModelError {
    /// The table and key, and for a rule its number from 1.
    pub place: String,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: &'static str,
    /// What to do.
    pub next: &'static str,
}

/// Where a value stands: a table, whose keys are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn new(table: impl Into<String>) -> Place {
        Place(table.into())
    }

    /// A table within.
    pub(super) fn within(&self, key: &str) -> Place {
        Place(format!("{}.{key}", self.0))
    }

    pub(super) fn error(
        &self,
        key: &str,
        found: impl fmt::Display,
        expected: &'static str,
        next: &'static str,
    ) -> ModelError {
        ModelError {
            place: format!("{}, {key}", self.0),
            found: found.to_string(),
            expected,
            next,
        }
    }

    /// Refuses what is not `sound`.
    pub(super) fn check(
        &self,
        sound: bool,
        key: &str,
        found: impl fmt::Display,
        expected: &'static str,
        next: &'static str,
    ) -> Result<(), ModelError> {
        if sound {
            Ok(())
        } else {
            Err(self.error(key, found, expected, next))
        }
    }
}
