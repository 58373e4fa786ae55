//! Amounts: bytes, offsets, times, depths.

use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ParseError;

/// A number of bytes.
///
/// Parsed with binary units only (`512`, `4k`, `4KiB`, `1M`, `1GiB`; `k` is 1024 as in fio); decimal units (`4kB`) are
/// refused rather than guessed. Prints in the largest binary unit that divides it (`4KiB`, `1537B`).
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// 1024 bytes.
    pub const KIB: Bytes = Bytes(1 << 10);
    /// 1024 KiB.
    pub const MIB: Bytes = Bytes(1 << 20);
    /// 1024 MiB.
    pub const GIB: Bytes = Bytes(1 << 30);

    /// The number as a `usize`, for lengths of memory; on 32-bit machines it saturates.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Whether this is a positive multiple of `unit`.
    pub fn is_multiple_of(self, unit: Bytes) -> bool {
        self.0 > 0 && unit.0 > 0 && self.0.is_multiple_of(unit.0)
    }
}

const BINARY: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, shift) = BINARY
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or(&("B", 0));
        f.pad(&format!("{}{name}", self.0 >> shift))
    }
}

/// Splits a text into its leading number (digits and a point) and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

impl FromStr for Bytes {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("size", text, why);
        let (number, unit) = split(text);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            "kb" | "mb" | "gb" | "tb" => {
                return Err(fail(
                    "decimal units are not taken; write KiB, MiB, GiB or a plain number of bytes",
                ));
            }
            _ => {
                return Err(fail(
                    "expected a number with B, KiB, MiB, GiB or TiB (k, m, g, t)",
                ));
            }
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(1 << shift)
                .map(Bytes)
                .ok_or_else(|| fail("too large for 64 bits"));
        }
        let value: f64 = number
            .parse()
            .map_err(|_| fail("expected a number, such as 4KiB"))?;
        let bytes = value * (1u64 << shift) as f64;
        if bytes.fract() != 0.0 {
            return Err(fail("not a whole number of bytes"));
        }
        if bytes >= u64::MAX as f64 {
            return Err(fail("too large for 64 bits"));
        }
        Ok(Bytes(bytes as u64))
    }
}

impl Add for Bytes {
    type Output = Bytes;
    /// Saturates: no machine has so many.
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }
}

impl Mul<u64> for Bytes {
    type Output = Bytes;
    /// Saturates: no machine has so many.
    fn mul(self, times: u64) -> Bytes {
        Bytes(self.0.saturating_mul(times))
    }
}

/// A place on a target, in bytes from its start.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct ByteOffset(pub u64);

/// A span of time in nanoseconds.
///
/// Parsed as `10s`, `1.5ms`, `100us`, `2m`, `1h`, `250ns`; a bare number is seconds, as in fio's `--runtime`.
/// Prints in the largest of h, m, s, ms, µs, ns that divides it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// One second.
    pub const SECOND: Nanos = Nanos(1_000_000_000);

    /// Milliseconds as a span.
    pub const fn from_millis(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// As the standard library's duration.
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl From<Duration> for Nanos {
    /// Saturates at 584 years.
    fn from(span: Duration) -> Nanos {
        Nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add for Nanos {
    type Output = Nanos;
    /// Saturates at 584 years.
    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    /// Saturates at zero: a span is never negative.
    fn sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }
}

impl Mul<u64> for Nanos {
    type Output = Nanos;
    fn mul(self, times: u64) -> Nanos {
        Nanos(self.0.saturating_mul(times))
    }
}

const SPANS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("µs", 1_000),
    ("ns", 1),
];

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let (name, unit) = SPANS
            .iter()
            .find(|(_, unit)| self.0.is_multiple_of(*unit))
            .unwrap_or(&("ns", 1));
        f.pad(&format!("{}{name}", self.0 / unit))
    }
}

impl FromStr for Nanos {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("time", text, why);
        let (number, unit) = split(text);
        let unit = match unit {
            "" => "s",
            "us" | "μs" => "µs",
            "min" => "m",
            other => other,
        };
        let (_, scale) = SPANS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| fail("expected a number with ns, us, ms, s, m or h"))?;
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(*scale)
                .map(Nanos)
                .ok_or_else(|| fail("too long"));
        }
        let value: f64 = number
            .parse()
            .map_err(|_| fail("expected a number, such as 10s"))?;
        let nanos = (value * *scale as f64).round();
        if nanos >= u64::MAX as f64 {
            return Err(fail("too long"));
        }
        Ok(Nanos(nanos as u64))
    }
}

/// Operations kept in flight by one thread: 1 to 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct QueueDepth(#[schemars(range(min = 1, max = 4096))] u16);

impl QueueDepth {
    /// The most that any layer takes.
    pub const MAX: QueueDepth = QueueDepth(4096);
    /// One operation at a time.
    pub const ONE: QueueDepth = QueueDepth(1);

    /// A depth of 1 to 4096; anything else is an error.
    pub fn new(depth: u64) -> Result<Self, ParseError> {
        match u16::try_from(depth) {
            Ok(depth @ 1..=4096) => Ok(Self(depth)),
            _ => Err(ParseError::new(
                "queue depth",
                &depth.to_string(),
                "expected 1 to 4096",
            )),
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for QueueDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for QueueDepth {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let depth = text
            .trim()
            .parse()
            .map_err(|_| ParseError::new("queue depth", text, "expected 1 to 4096"))?;
        Self::new(depth)
    }
}

impl<'de> Deserialize<'de> for QueueDepth {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!("4k".parse(), Ok(Bytes(4096)));
        assert_eq!("4KiB".parse(), Ok(Bytes(4096)));
        assert_eq!("1.5MiB".parse(), Ok(Bytes(1_572_864)));
        assert_eq!("47008".parse(), Ok(Bytes(47008)));
        for bad in [
            "",
            "k",
            "4kB",
            "-1",
            "1.3B",
            "4xyz",
            "99999999999T",
            "1e400",
            "1.2.3k",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        assert_eq!(Bytes(4096).to_string(), "4KiB");
        assert_eq!(Bytes(1537).to_string(), "1537B");
        assert_eq!(Bytes(0).to_string(), "0B");
    }

    #[test]
    fn times_have_units() {
        assert_eq!("2".parse(), Ok(Nanos::SECOND * 2));
        assert_eq!("1.5ms".parse(), Ok(Nanos(1_500_000)));
        assert_eq!("10us".parse(), Ok(Nanos(10_000)));
        for bad in ["", "s", "-1s", "3 weeks", "99999999999h"] {
            assert!(bad.parse::<Nanos>().is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_zero_is_refused() {
        assert!("0".parse::<QueueDepth>().is_err());
        assert!("4097".parse::<QueueDepth>().is_err());
        assert!(serde_json::from_str::<QueueDepth>("0").is_err());
        assert_eq!("32".parse::<QueueDepth>().map(QueueDepth::get), Ok(32));
    }

    proptest! {
        #[test]
        fn printing_then_parsing_gives_it_back(n in any::<u64>()) {
            prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            prop_assert_eq!(Nanos(n).to_string().parse(), Ok(Nanos(n)));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<Nanos>();
            let _ = text.parse::<QueueDepth>();
        }
    }
}
