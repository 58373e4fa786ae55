//! The histogram of the hot path: one increment at an index that takes seven instructions to find.
//!
//! Its buckets are HdrHistogram's at three significant digits (2048 sub-buckets, each further half of them twice as wide),
//! so that it becomes one without loss when the trial is over. `hdrhistogram`'s own `record` would cost some 40
//! instructions more an operation, a third of what the whole loop may take.

use hdrhistogram::Histogram;

/// log₂ of half of the sub-buckets.
const HALF: u32 = 10;

/// Enough for every 64-bit value.
const BUCKETS: usize = (((64 - HALF - 1) as usize) << HALF) + (2 << HALF);

/// The longest time that the finished histogram tells apart, in nanoseconds: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Counts of times in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    counts: Box<[u64]>,
}

impl Times {
    /// Empty; its memory is touched.
    pub(crate) fn new() -> Times {
        let mut counts = vec![0; BUCKETS].into_boxed_slice();
        // Zeroed memory is not there before it is written to, and no page fault shall fall into the window.
        for count in counts.iter_mut().step_by(512) {
            std::hint::black_box(&mut *count);
            *count = 0;
        }
        Times { counts }
    }

    /// Counts one.
    #[inline(always)]
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[index(nanos)] += 1;
    }

    /// Adds all that another has counted.
    pub(crate) fn add(&mut self, other: &Times) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
    }

    /// The same counts as a histogram of nanoseconds with three significant digits; what is longer than an hour is
    /// counted as an hour.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut histogram = match Histogram::new_with_bounds(1, LONGEST_NS, 3) {
            Ok(histogram) => histogram,
            // Only bounds or digits out of range fail, and these are constants within it.
            Err(e) => unreachable!("constant bounds: {e}"),
        };
        for (index, count) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            histogram.saturating_record_n(lowest(index), *count);
        }
        histogram
    }
}

#[inline(always)]
fn index(value: u64) -> usize {
    let bucket = (63 - HALF) - (value | ((2 << HALF) - 1)).leading_zeros();
    ((bucket as usize) << HALF) + (value >> bucket) as usize
}

/// The least value of a bucket.
fn lowest(index: usize) -> u64 {
    let bucket = (index >> HALF).saturating_sub(1);
    ((index - (bucket << HALF)) as u64) << bucket
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_are_those_of_hdrhistogram(values in proptest::collection::vec(0u64..LONGEST_NS, 1..50), shift in 0u32..40) {
            let mut ours = Times::new();
            let mut theirs = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3).expect("bounds");
            for value in values.iter().map(|v| v >> shift) {
                ours.record(value);
                theirs.record(value).expect("in bounds");
            }
            prop_assert_eq!(ours.histogram(), theirs);
        }

        #[test]
        fn every_value_has_a_bucket(value in any::<u64>()) {
            let index = index(value);
            prop_assert!(index < BUCKETS);
            let low = lowest(index);
            prop_assert!(low <= value && (value - low) as f64 <= value as f64 / 1000.0);
        }
    }

    #[test]
    fn longer_than_an_hour_counts_as_an_hour() {
        let mut times = Times::new();
        times.record(u64::MAX);
        times.record(0);
        let histogram = times.histogram();
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= LONGEST_NS);
    }
}
