//! The SMART / Health Information log page, LID 02h.

use std::mem::offset_of;

use strata_units::{Bytes, Nanos};
use zerocopy::little_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Kelvin;

/// SMART / Health Information (Base 5.1.12.1.3), over the controller's life unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SmartLog {
    /// What is critical now, [`CriticalWarning`].
    pub critical_warning: u8,
    /// Composite temperature now, K.
    pub temperature: U16,
    /// Spare capacity left, percent of its first.
    pub available_spare: u8,
    /// Spare capacity below which it warns, percent.
    pub spare_threshold: u8,
    /// The vendor's estimate of life used, percent; 100 is the life that was estimated, 255 is 255 or more.
    pub percentage_used: u8,
    /// What is critical now of any endurance group.
    pub endurance_warning: u8,
    reserved7: [u8; 25],
    /// Read by the host, thousands of 512 bytes, rounded up; 0 is not reported.
    pub data_units_read: U128,
    /// Written by the host, thousands of 512 bytes, rounded up; 0 is not reported.
    pub data_units_written: U128,
    /// Read commands of the host.
    pub host_reads: U128,
    /// Write commands of the host.
    pub host_writes: U128,
    /// Time with commands outstanding, minutes.
    pub busy_time: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Time powered on, hours; without low power states on some.
    pub power_on_hours: U128,
    /// Losses of power without notice.
    pub unsafe_shutdowns: U128,
    /// Errors of media and data integrity that were not recovered.
    pub media_errors: U128,
    /// Entries of the error log.
    pub error_entries: U128,
    /// Time from the warning temperature up to the critical one, minutes.
    pub warning_time: U32,
    /// Time at or above the critical temperature, minutes.
    pub critical_time: U32,
    /// Sensors 1 to 8 now, K; 0 where there is none.
    pub sensors: [U16; 8],
    /// Times that light and heavy throttling set in for heat.
    pub throttle_count: [U32; 2],
    /// Time lightly and heavily throttled for heat, s.
    pub throttle_time: [U32; 2],
    reserved232: [u8; 280],
}

const _: () = assert!(
    size_of::<SmartLog>() == 512
        && offset_of!(SmartLog, temperature) == 1
        && offset_of!(SmartLog, percentage_used) == 5
        && offset_of!(SmartLog, data_units_read) == 32
        && offset_of!(SmartLog, data_units_written) == 48
        && offset_of!(SmartLog, host_reads) == 64
        && offset_of!(SmartLog, busy_time) == 96
        && offset_of!(SmartLog, power_on_hours) == 128
        && offset_of!(SmartLog, unsafe_shutdowns) == 144
        && offset_of!(SmartLog, media_errors) == 160
        && offset_of!(SmartLog, error_entries) == 176
        && offset_of!(SmartLog, warning_time) == 192
        && offset_of!(SmartLog, critical_time) == 196
        && offset_of!(SmartLog, sensors) == 200
        && offset_of!(SmartLog, throttle_count) == 216
        && offset_of!(SmartLog, throttle_time) == 224
);

/// A controller's own throttling for heat, light (thermal management temperature 1) or heavy (2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttling {
    /// How often it set in.
    pub times: u32,
    /// For how long in all.
    pub lasted: Nanos,
}

/// Bytes as data units: thousands of 512 bytes, rounded up.
pub fn data_units(bytes: Bytes) -> u128 {
    u128::from(bytes.0.div_ceil(DATA_UNIT))
}

const DATA_UNIT: u64 = 512_000;

fn saturated(number: U128) -> u64 {
    u64::try_from(number.get()).unwrap_or(u64::MAX)
}

impl SmartLog {
    /// What is critical now.
    pub fn warning(&self) -> CriticalWarning {
        CriticalWarning(self.critical_warning)
    }

    /// Composite temperature now.
    pub fn temperature(&self) -> Kelvin {
        Kelvin(self.temperature.get())
    }

    /// Sensors' temperatures now, 1 to 8; `None` where there is no such sensor.
    pub fn sensors(&self) -> [Option<Kelvin>; 8] {
        self.sensors
            .map(|sensor| Some(Kelvin(sensor.get())).filter(|at| at.0 > 0))
    }

    /// Read by the host, to the next 512 000 bytes; `None` where it is not reported. Saturates at 16 EiB.
    pub fn read(&self) -> Option<Bytes> {
        units(self.data_units_read)
    }

    /// Written by the host, to the next 512 000 bytes; `None` where it is not reported. Saturates at 16 EiB.
    pub fn written(&self) -> Option<Bytes> {
        units(self.data_units_written)
    }

    /// Time with commands outstanding, in whole minutes. Saturates at 584 years, as do all times here.
    pub fn busy(&self) -> Nanos {
        Nanos::SECOND * 60 * saturated(self.busy_time)
    }

    /// Time powered on, in whole hours.
    pub fn powered_on(&self) -> Nanos {
        Nanos::SECOND * 3600 * saturated(self.power_on_hours)
    }

    /// Time from the warning temperature up to the critical one, in whole minutes.
    pub fn too_warm(&self) -> Nanos {
        Nanos::SECOND * 60 * u64::from(self.warning_time.get())
    }

    /// Time at or above the critical temperature, in whole minutes.
    pub fn too_hot(&self) -> Nanos {
        Nanos::SECOND * 60 * u64::from(self.critical_time.get())
    }

    /// Light and heavy throttling for heat.
    pub fn throttling(&self) -> [Throttling; 2] {
        [0, 1].map(|n: usize| Throttling {
            times: self.throttle_count[n].get(),
            lasted: Nanos::SECOND * u64::from(self.throttle_time[n].get()),
        })
    }
}

fn units(field: U128) -> Option<Bytes> {
    match saturated(field) {
        0 => None,
        units => Some(Bytes(DATA_UNIT) * units),
    }
}

/// What is critical, by bits (Base 5.1.12.1.3, "Critical Warning").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CriticalWarning(pub u8);

impl CriticalWarning {
    /// Spare capacity is below its threshold.
    pub const SPARE: CriticalWarning = CriticalWarning(1 << 0);
    /// A temperature is beyond a threshold.
    pub const TEMPERATURE: CriticalWarning = CriticalWarning(1 << 1);
    /// Reliability is degraded by errors of media or of the controller.
    pub const RELIABILITY: CriticalWarning = CriticalWarning(1 << 2);
    /// All media is read only.
    pub const READ_ONLY: CriticalWarning = CriticalWarning(1 << 3);
    /// The backup of volatile memory has failed.
    pub const MEMORY_BACKUP: CriticalWarning = CriticalWarning(1 << 4);
    /// The persistent memory region is read only or unreliable.
    pub const PERSISTENT_MEMORY: CriticalWarning = CriticalWarning(1 << 5);

    /// Whether all of `other` are there.
    pub fn has(self, other: CriticalWarning) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: CriticalWarning) -> CriticalWarning {
        CriticalWarning(self.0 | other.0)
    }

    /// Each that is there, in words; reserved bits too.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        const WORDS: [&str; 8] = [
            "spare capacity is below its threshold",
            "a temperature is beyond its threshold",
            "reliability is degraded",
            "the media is read only",
            "the backup of volatile memory has failed",
            "the persistent memory region is read only or unreliable",
            "a warning that the specification reserves (bit 6)",
            "a warning that the specification reserves (bit 7)",
        ];
        WORDS
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, words)| words)
    }
}
