//! The interval, and how many rounds it takes.

/// Confidence of every single interval, METHOD's 95 %.
pub const CONFIDENCE: f64 = 0.95;

/// Fewer rounds give no interval: below 6 neither the signed-rank nor the order-statistic interval reaches 95 %.
pub const ROUNDS_FOR_INTERVAL: usize = 6;

/// Fewer rounds give no claim.
pub const ROUNDS_FOR_CLAIM: usize = 8;

/// The upper-tail probability up to which a two-sided interval of [`CONFIDENCE`] reaches: 0.975.
pub(crate) const UPPER: f64 = 0.5 + CONFIDENCE / 2.0;

/// A closed interval of finite numbers, `low <= high`, in the unit of what it estimates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower limit.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
}

impl Interval {
    /// Whether the value lies inside, limits included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The interval of the ratio, from that of its natural logarithm.
    #[must_use]
    pub fn exp(&self) -> Self {
        Self {
            low: self.low.exp(),
            high: self.high.exp(),
        }
    }

    /// The greatest distance from 0 that the interval does not rule out.
    #[must_use]
    pub fn reach(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// −1 below 0, +1 above it, 0 where the interval contains it.
    pub(crate) fn side(&self) -> i8 {
        i8::from(self.low > 0.0) - i8::from(self.high < 0.0)
    }
}
