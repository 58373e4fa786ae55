//! Why a model cannot be.

/// A value of a model that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, expected {expected}; {next}")]
pub struct ModelError {
    /// The table and key, and for a rule its number from 1.
    pub place: String,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: String,
    /// What to do.
    pub next: &'static str,
}
