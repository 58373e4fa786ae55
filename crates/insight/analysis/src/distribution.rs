//! The distribution of a trial's latencies, from the histogram in its record.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// A point of a latency distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The part of operations that took at most `nanos`, from 0 to 1.
    pub quantile: f64,
    /// Time in nanoseconds: the upper end of the histogram's bucket.
    pub nanos: f64,
}

/// Why a histogram cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// It is not written as it should be.
    #[error("it is no HdrHistogram V2-deflate in base64: {0}")]
    Format(String),
    /// It holds another number of operations than the record says.
    #[error("it holds {found} operations, the record says {expected}")]
    Count {
        /// Operations in the histogram.
        found: u64,
        /// Operations in the record.
        expected: u64,
    },
}

/// Steps of a curve for each factor of ten in 1 − q: fine enough that a plot shows no corners.
const STEPS: f64 = 16.0;
/// Greatest length of an inflated histogram: 64-bit values at five digits take less.
const LONGEST: u64 = 64 << 20;
/// Fields before the counts in the V2 encoding: cookie, length, offset, digits, low, high, ratio.
const HEADER: usize = 40;

/// The distribution in `text` (HdrHistogram V2-deflate, base64, nanoseconds) from its least value up to the last quantile
/// that METHOD 1 prints, with ten operations above it. Quantiles stand at equal steps of −log₁₀(1 − q).
///
/// # Errors
/// The text is no such histogram, or does not hold `count` operations.
pub(crate) fn distribution(text: &str, count: u64) -> Result<Vec<Point>, HistogramError> {
    let histogram = decode(text)?;
    if histogram.len() != count {
        return Err(HistogramError::Count {
            found: histogram.len(),
            expected: count,
        });
    }
    // Buckets are summed here, as the total of a foreign histogram may have saturated; `len` equals `count` by now, so
    // that no sum below overflows.
    if count == 0 || count == u64::MAX {
        return Ok(Vec::new());
    }
    let total = count as f64;
    let last = ((total / 10.0).log10() * STEPS).floor().max(0.0);
    let mut points = Vec::with_capacity(last as usize + 2);
    let mut below = 0u64;
    let mut step = 0.0;
    for bucket in histogram.iter_recorded() {
        below = below.saturating_add(bucket.count_at_value());
        while step <= last {
            let quantile = 1.0 - 10f64.powf(-step / STEPS);
            if (below as f64) < quantile * total {
                break;
            }
            points.push(Point {
                quantile,
                nanos: bucket.value_iterated_to() as f64,
            });
            step += 1.0;
        }
    }
    Ok(points)
}

fn decode(text: &str) -> Result<Histogram<u64>, HistogramError> {
    let format = |why: &dyn std::fmt::Display| HistogramError::Format(why.to_string());
    let bytes = STANDARD.decode(text).map_err(|e| format(&e))?;
    // The library believes the lengths in the text, and would set aside up to 4 GiB for a foreign one: inflate and check
    // here. The compressed form is its own cookie and length, then the plain form.
    let deflated = bytes.get(8..).ok_or_else(|| format(&"too short"))?;
    let mut plain = Vec::new();
    ZlibDecoder::new(deflated)
        .take(LONGEST)
        .read_to_end(&mut plain)
        .map_err(|e| format(&e))?;
    let said = plain
        .get(4..8)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_be_bytes);
    match said.and_then(|n| usize::try_from(n).ok()) {
        Some(counts) if plain.len() >= HEADER && counts <= plain.len() - HEADER => {
            Deserializer::new()
                .deserialize(&mut plain.as_slice())
                .map_err(|e| format(&e))
        }
        _ => Err(format(&"it says another length than it has")),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: impl Iterator<Item = u64>) -> String {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for value in values {
            histogram.record(value).unwrap();
        }
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&histogram, &mut bytes)
            .unwrap();
        STANDARD.encode(bytes)
    }

    #[test]
    fn points_are_the_quantiles_of_what_was_recorded() {
        let points = distribution(&encoded(1..=100_000), 100_000).unwrap();
        assert_eq!(points.first().map(|p| p.quantile), Some(0.0));
        for point in &points {
            let expected = (point.quantile * 100_000.0).max(1.0);
            assert!(
                (point.nanos / expected - 1.0).abs() < 0.002,
                "{point:?}, expected {expected}"
            );
        }
        // Ten of 100 000 lie above the last one.
        let last = points.last().unwrap();
        assert!((last.quantile - 0.9999).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn few_operations_give_no_tail() {
        let points = distribution(&encoded(1..=20), 20).unwrap();
        assert!(points.iter().all(|p| p.quantile <= 0.5));
        assert_eq!(distribution(&encoded(1..=5), 5).unwrap().len(), 1);
        assert_eq!(distribution(&encoded(0..0), 0).unwrap(), []);
    }

    #[test]
    fn a_wrong_count_is_named() {
        assert_eq!(
            distribution(&encoded(1..=20), 21),
            Err(HistogramError::Count {
                found: 20,
                expected: 21
            })
        );
    }

    #[test]
    fn a_length_that_is_not_there_is_refused() {
        // V2 header that promises 4 GiB of counts and ends.
        let mut plain = Vec::new();
        plain.extend(0x1c84_9303_u32.to_be_bytes());
        plain.extend(u32::MAX.to_be_bytes());
        plain.extend([0; 32]);
        let mut deflated = vec![0x1c, 0x84, 0x93, 0x04, 0, 0, 0, 0];
        flate2::read::ZlibEncoder::new(plain.as_slice(), flate2::Compression::fast())
            .read_to_end(&mut deflated)
            .unwrap();
        assert!(matches!(
            distribution(&STANDARD.encode(deflated), 1),
            Err(HistogramError::Format(_))
        ));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[A-Za-z0-9+/=]{0,80}") {
            prop_assert!(distribution(&text, 1).is_err());
        }

        #[test]
        fn no_changed_histogram_panics(at in 0usize..200, to in any::<u8>()) {
            let mut bytes = STANDARD.decode(encoded((1..500).map(|n| n * 97))).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = distribution(&STANDARD.encode(bytes), 499);
        }
    }
}
