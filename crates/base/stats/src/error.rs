//! What can be wrong with the numbers that a caller hands in.

/// Why no figure was computed: what was looked at, what was found there, what was expected, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// A value is NaN or infinite.
    #[error(
        "{what}: value {index} is {found}, expected a finite number; void the round it comes from and repeat it"
    )]
    NotFinite {
        /// The input, in words.
        what: &'static str,
        /// Position of the value, from 0.
        index: usize,
        /// The value.
        found: f64,
    },
    /// A value whose logarithm is needed is zero or less.
    #[error(
        "{what}: value {index} is {found}, expected more than 0; void the round it comes from and repeat it"
    )]
    NotPositive {
        /// The input, in words.
        what: &'static str,
        /// Position of the value, from 0.
        index: usize,
        /// The value.
        found: f64,
    },
    /// There are fewer values than the computation needs to mean anything.
    #[error("{what}: {found} values, expected at least {needed}; measure more rounds")]
    TooFew {
        /// The input, in words.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Two inputs that belong together round by round differ in length.
    #[error(
        "{what}: {found} values, expected {expected} as in the other; keep only the rounds that hold both"
    )]
    UnequalLengths {
        /// The input, in words.
        what: &'static str,
        /// Length of this one.
        found: usize,
        /// Length of the other.
        expected: usize,
    },
    /// A parameter lies outside of where the computation is defined.
    #[error("{what} is {found}, expected {expected}; correct the parameter")]
    OutOfDomain {
        /// The parameter, in words.
        what: &'static str,
        /// The value.
        found: f64,
        /// The domain, in words.
        expected: &'static str,
    },
    /// Finite inputs led to a result that has no finite value, so it would read as infinite or NaN.
    #[error(
        "{what}: no finite result, expected magnitudes of measured figures; check the inputs' unit and spread"
    )]
    Unbounded {
        /// The result, in words.
        what: &'static str,
    },
}
