//! Features: what is set and asked by Set Features and Get Features (Base 5.1.25, 5.1.11), and what their values mean.

use crate::Kelvin;
use crate::bits;

/// A feature's number, FID (Base 5.1.25, "Feature Identifiers").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureId(pub u8);

impl FeatureId {
    /// Arbitration (Base 5.1.25.1.1).
    pub const ARBITRATION: FeatureId = FeatureId(0x01);
    /// Power Management (Base 5.1.25.1.2).
    pub const POWER_MANAGEMENT: FeatureId = FeatureId(0x02);
    /// Temperature Threshold (Base 5.1.25.1.3).
    pub const TEMPERATURE_THRESHOLD: FeatureId = FeatureId(0x04);
    /// Error Recovery (NVM, "Error Recovery").
    pub const ERROR_RECOVERY: FeatureId = FeatureId(0x05);
    /// Volatile Write Cache (Base 5.1.25.1.4).
    pub const VOLATILE_WRITE_CACHE: FeatureId = FeatureId(0x06);
    /// Number of Queues (Base 5.1.25.2.1).
    pub const NUMBER_OF_QUEUES: FeatureId = FeatureId(0x07);
    /// Interrupt Coalescing (Base 5.1.25.2.2).
    pub const INTERRUPT_COALESCING: FeatureId = FeatureId(0x08);
    /// Interrupt Vector Configuration (Base 5.1.25.2.3).
    pub const INTERRUPT_VECTOR: FeatureId = FeatureId(0x09);
    /// Write Atomicity Normal (NVM, "Write Atomicity Normal").
    pub const WRITE_ATOMICITY: FeatureId = FeatureId(0x0a);
    /// Asynchronous Event Configuration (Base 5.1.25.1.5).
    pub const EVENT_CONFIG: FeatureId = FeatureId(0x0b);
}

/// I/O queues asked for or granted: command dword 11 of Set Features, dword 0 of its completion. Both count from 0 on the
/// wire (Base 5.1.25.2.1), and the controller may grant fewer or more than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueCounts {
    submission: u16,
    completion: u16,
}

impl QueueCounts {
    /// So many submission and completion queues; `None` unless both are 1 to 65535 (65536 shall not be asked for).
    pub fn new(submission: u32, completion: u32) -> Option<QueueCounts> {
        let field = |count: u32| match count {
            1..=0xffff => u16::try_from(count - 1).ok(),
            _ => None,
        };
        Some(QueueCounts {
            submission: field(submission)?,
            completion: field(completion)?,
        })
    }

    /// From the dword.
    pub fn from_dword(dword: u32) -> QueueCounts {
        QueueCounts {
            submission: dword as u16,
            completion: (dword >> 16) as u16,
        }
    }

    /// As the dword.
    pub fn dword(self) -> u32 {
        u32::from(self.completion) << 16 | u32::from(self.submission)
    }

    /// Submission queues: 1 to 65536.
    pub fn submission(self) -> u32 {
        u32::from(self.submission) + 1
    }

    /// Completion queues: 1 to 65536.
    pub fn completion(self) -> u32 {
        u32::from(self.completion) + 1
    }

    /// Pairs of one submission and one completion queue each.
    pub fn pairs(self) -> u32 {
        self.submission().min(self.completion())
    }
}

/// How commands of several submission queues share the controller: the value of Arbitration (Base 5.1.25.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arbitration {
    /// The most commands that are fetched from one queue at a time, as a power of two; 7 is no limit.
    pub burst: u8,
    /// Weights of the low, medium and high priority classes, each counted from 0.
    pub weights: [u8; 3],
}

impl Arbitration {
    /// From the dword.
    pub fn from_dword(dword: u32) -> Arbitration {
        let [burst, low, medium, high] = dword.to_le_bytes();
        Arbitration {
            burst: burst & 0b111,
            weights: [low, medium, high],
        }
    }

    /// As the dword.
    pub fn dword(self) -> u32 {
        let [low, medium, high] = self.weights;
        u32::from_le_bytes([self.burst & 0b111, low, medium, high])
    }
}

/// A limit whose crossing is a critical warning: the value of Temperature Threshold (Base 5.1.25.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemperatureThreshold {
    /// Where it warns.
    pub at: Kelvin,
    /// Which temperature: 0 the composite one, 1 to 8 a sensor, fh all sensors (Set Features only).
    pub sensor: u8,
    /// Warns below, not above.
    pub under: bool,
}

impl TemperatureThreshold {
    /// From the dword; `None` where its type (THSEL) is reserved.
    pub fn from_dword(dword: u32) -> Option<TemperatureThreshold> {
        let under = match bits::get(dword.into(), 20, 2) {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(TemperatureThreshold {
            at: Kelvin(dword as u16),
            sensor: bits::get(dword.into(), 16, 4) as u8,
            under,
        })
    }

    /// As the dword.
    pub fn dword(self) -> u32 {
        u32::from(self.at.0) | u32::from(self.sensor & 0xf) << 16 | u32::from(self.under) << 20
    }
}

/// Whether the volatile write cache is enabled, WCE: bit 0 of the value of Volatile Write Cache (Base 5.1.25.1.4).
pub fn write_cache_enabled(dword: u32) -> bool {
    dword & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn queues_are_counted_from_zero_both_ways() {
        let asked = QueueCounts::new(8, 4).expect("counts");
        assert_eq!(asked.dword(), 0x0003_0007);
        let granted = QueueCounts::from_dword(0x001f_003f);
        assert_eq!((granted.submission(), granted.completion()), (64, 32));
        assert_eq!(granted.pairs(), 32);
        assert_eq!(QueueCounts::from_dword(u32::MAX).pairs(), 65_536);
        for (submission, completion) in [(0, 1), (1, 0), (65_536, 1), (1, u32::MAX)] {
            assert_eq!(QueueCounts::new(submission, completion), None);
        }
    }

    #[test]
    fn values_mean_what_the_specification_says() {
        let warn = TemperatureThreshold::from_dword(0x0010_0111).expect("a threshold");
        assert_eq!((warn.at.celsius(), warn.sensor, warn.under), (0, 0, true));
        assert_eq!(TemperatureThreshold::from_dword(0x0020_0000), None);
        let shares = Arbitration::from_dword(0x0f07_0306);
        assert_eq!((shares.burst, shares.weights), (6, [3, 7, 15]));
        assert!(write_cache_enabled(1) && !write_cache_enabled(2));
    }

    proptest! {
        #[test]
        fn dwords_go_and_come(dword in any::<u32>()) {
            prop_assert_eq!(QueueCounts::from_dword(dword).dword(), dword);
            prop_assert_eq!(Arbitration::from_dword(dword).dword(), dword & 0xffff_ff07);
            if let Some(threshold) = TemperatureThreshold::from_dword(dword) {
                prop_assert_eq!(threshold.dword(), dword & 0x003f_ffff);
            }
        }
    }
}
